"""Rows and columns of a skills graph for skills that it does not know."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest

ERROR, IDENTITY, MEAN = 'error', 'identity', 'mean'
NewSkills = str | Mapping[str, Mapping[str, float]]
Named = tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float64]]
"""Rows, columns and weights ``[k, m]``."""


def rows_and_columns(
    graph: Named,
    train_skills: Sequence[str],
    eval_skills: Sequence[str],
    new: NewSkills,
    targets: Sequence[str] | None,
) -> Named:
    """A graph with what it lacks added below and to the right; see `SkillsGraph.with_new_skills`.

    Raises:
        InputError: `new` is no choice, or names rows that are not those that the graph lacks.
    """
    rows, columns, weights = graph
    added = [name for name in train_skills if name not in rows]
    _check(new, added, rows, train_skills)
    if new == ERROR:
        return graph
    more = [name for name in targets or eval_skills if name not in columns]
    if isinstance(new, Mapping):
        more = list(dict.fromkeys(column for row in new.values() for column in row if column not in columns))
    elif targets and new == IDENTITY:
        # A column of a skill that is not trained on would be empty.
        more = [name for name in more if name in train_skills]
    elif not targets:
        more = [name for name in more if name in added and set(rows) <= set(columns)]
    grown = np.zeros((len(rows) + len(added), len(columns) + len(more)))
    grown[: len(rows), : len(columns)] = weights
    all_rows, all_columns = (*rows, *added), (*columns, *more)
    known = (slice(len(rows)), slice(len(columns)))
    same = np.array([[row == column for column in all_columns] for row in all_rows])
    if isinstance(new, Mapping):
        for at, name in enumerate(added, start=len(rows)):
            grown[at] = [new[name].get(column, 0.0) for column in all_columns]
        return all_rows, all_columns, grown
    own, fresh = weights[same[known]], np.ones(grown.shape, dtype=bool)
    fresh[known] = False
    if new == MEAN:
        grown = _filled_by_means(grown, same, known)
    grown[same & fresh] = own.mean() if own.size else 1.0
    return all_rows, all_columns, grown


def _filled_by_means(
    grown: NDArray[np.float64], same: NDArray[np.bool_], known: tuple[slice, slice]
) -> NDArray[np.float64]:
    """New rows the mean of the known ones, new columns likewise, weights of skills on themselves left out."""
    others = np.ma.masked_array(grown[known], mask=same[known])
    k, m = others.shape
    grown[k:, :m] = others.mean(axis=0).filled(0.0)
    grown[:k, m:] = others.mean(axis=1).filled(0.0)[:, None]
    grown[k:, m:] = 0.0 if others.mask.all() else float(others.mean())
    return grown


def _check(new: NewSkills, added: Sequence[str], known: Sequence[str], train_skills: Sequence[str]) -> None:
    if isinstance(new, Mapping):
        for name, row in new.items():
            if name in known:
                raise InputError(
                    f'`new_skills` has a row for {name!r}, but the graph has one: leave out one of them'
                )
            if name not in train_skills:
                raise InputError(
                    f'`new_skills` has a row for {name!r}, which is not trained on; {nearest(name, train_skills)}'
                )
            if not isinstance(row, Mapping):
                raise InputError(
                    f'`new_skills`: row {name!r} must be eval skills with their weights, such as {{{name}: 1}}, but '
                    f'got: {row!r}'
                )
        lacking = [name for name in added if name not in new]
        if lacking:
            raise InputError(
                f'`new_skills` has no row for {", ".join(lacking)}, and neither has the graph: add one'
            )
    elif new not in (ERROR, IDENTITY, MEAN):
        raise InputError(
            f'`new_skills` must be {ERROR}, {IDENTITY}, {MEAN} or rows written out, but got: {new!r}'
        )
