"""The skills graph: which training skill lowers the loss on which eval skill, and by how much."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import read_array, read_json, write_atomically, write_text
from skillit_stream.base.names import nearest, unique_names
from skillit_stream.mixture.graph_measurement import Measurement
from skillit_stream.mixture.new_skills import NewSkills, rows_and_columns

# 2: with what was measured where a graph was learned; one without stays as it was.
VERSION, VERSION_MEASURED = 1, 2


@dataclass(frozen=True, init=False, eq=False)
class SkillsGraph:
    """Matrix A with named rows and columns: ``weights[i, j]`` is how much training on i helps j.

    Weights may be negative (training on i hurts j) and the two sides may differ: targets alone for
    fine-tuning, other skills altogether for out-of-domain evaluation. A skill's own weight counts
    only if the graph says so: `identity` is the graph of skills that help nothing but themselves.
    """

    train_skills: tuple[str, ...]
    """Rows: the skills that can be trained on, in the order of the proportions."""

    eval_skills: tuple[str, ...]
    """Columns: the skills whose losses are observed."""

    weights: NDArray[np.float64]
    """Edges, float64 ``[k, m]``, read-only."""

    measured: Measurement | None
    """What a graph was learned from; None: written by hand, published, or learned before this was kept."""

    def __init__(
        self,
        train_skills: Iterable[str],
        eval_skills: Iterable[str],
        weights: ArrayLike,
        *,
        measured: Measurement | None = None,
    ) -> None:
        """Check names, shape and weights.

        Args:
            train_skills: Names of the k rows, unique.
            eval_skills: Names of the m columns, unique; may be the same names.
            weights: Numbers ``[k, m]``, finite.
            measured: What they were learned from.

        Raises:
            InputError: If names repeat, the shape does not fit them, or a weight is not finite.
        """
        rows = unique_names('train_skills of the skills graph', train_skills)
        columns = unique_names('eval_skills of the skills graph', eval_skills)
        object.__setattr__(self, 'train_skills', rows)
        object.__setattr__(self, 'eval_skills', columns)
        object.__setattr__(self, 'weights', _checked_weights(rows, columns, weights))
        object.__setattr__(self, 'measured', measured)

    def __eq__(self, other: object) -> bool:
        """Equal names in equal order, equal weights, learned from the same."""
        if not isinstance(other, SkillsGraph):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    @property
    def same_skill(self) -> NDArray[np.bool_]:
        """Where row and column are the same skill by name, bool ``[k, m]``."""
        return np.array([[row == column for column in self.eval_skills] for row in self.train_skills])

    @property
    def is_square(self) -> bool:
        """Whether both sides hold the same skills, in whatever order."""
        return set(self.train_skills) == set(self.eval_skills)

    @property
    def lone_skills(self) -> tuple[str, ...]:
        """Train skills without an edge to or from a skill of another name."""
        edges = (self.weights != 0) & ~self.same_skill
        linked = {name for name, row in zip(self.train_skills, edges, strict=True) if row.any()}
        linked |= {name for name, column in zip(self.eval_skills, edges.T, strict=True) if column.any()}
        return tuple(name for name in self.train_skills if name not in linked)

    @classmethod
    def identity(cls, skills: Iterable[str]) -> 'SkillsGraph':
        """Skills that help only themselves: weight 1 on the diagonal."""
        names = unique_names('skills', skills)
        return cls(names, names, np.eye(len(names)))

    @classmethod
    def complete(cls, skills: Iterable[str], weight: float = 1.0) -> 'SkillsGraph':
        """Every skill helps every other by `weight` and itself by 1."""
        names = unique_names('skills', skills)
        weights = np.full((len(names), len(names)), float(weight))
        np.fill_diagonal(weights, 1.0)
        return cls(names, names, weights)

    @classmethod
    def from_edges(
        cls, skills: Iterable[str], edges: Iterable[Sequence[str]], *, weight: float = 0.5
    ) -> 'SkillsGraph':
        """Build a graph from (prerequisite, skill) pairs: their weight is `weight`, each skill's own 1.

        Raises:
            InputError: If an edge is no pair or names an unknown skill.
        """
        names = unique_names('skills', skills)
        weights = np.eye(len(names))
        for edge in edges:
            if isinstance(edge, str) or len(edge) != 2:
                raise InputError(f'an edge must be a pair (prerequisite, skill), but got: {edge!r}')
            row, column = (_position('edges', name, names) for name in edge)
            if row != column:
                weights[row, column] = weight
        return cls(names, names, weights)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = 'skills graph') -> 'SkillsGraph':
        """Inverse of `to_dict`; `where` names the source in errors.

        Raises:
            InputError: If a key is missing, the version is not known, or the contents do not fit.
        """
        keys = ('version', 'train_skills', 'eval_skills', 'weights')
        missing = [key for key in keys if not isinstance(data, Mapping) or key not in data]
        if missing:
            raise InputError(f'{where} must hold {", ".join(keys)}, but lacks: {", ".join(missing)}')
        versions = (VERSION, VERSION_MEASURED)
        if data['version'] not in versions:
            raise InputError(
                f'{where} must have version {" or ".join(map(str, versions))}, but got: {data["version"]!r}'
            )
        try:
            graph = cls(data['train_skills'], data['eval_skills'], data['weights'])
            if data['version'] == VERSION:
                return graph
            if 'measured' not in data:
                raise InputError(f'version {VERSION_MEASURED} must hold measured, but lacks it')
            measured = Measurement.from_dict(
                data['measured'], (len(graph.train_skills), len(graph.eval_skills))
            )
            return cls(graph.train_skills, graph.eval_skills, graph.weights, measured=measured)
        except InputError as error:
            raise InputError(f'{where}: {error}') from None

    def to_dict(self) -> dict[str, Any]:
        """Plain Python: version, names, weights as nested lists, and what was measured, if something was."""
        plain = {
            'version': VERSION,
            'train_skills': list(self.train_skills),
            'eval_skills': list(self.eval_skills),
            'weights': self.weights.tolist(),
        }
        if self.measured is None:
            return plain
        return {**plain, 'version': VERSION_MEASURED, 'measured': self.measured.to_dict()}

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        train_skills: Sequence[str] | None = None,
        eval_skills: Sequence[str] | None = None,
    ) -> 'SkillsGraph':
        """Read a graph from ``.json`` or ``.npy``.

        A ``.npy`` holds weights alone: its names come from ``NAME.names.json`` beside it, which `save`
        writes, or, where there is none, from the arguments (`eval_skills` defaults to
        `train_skills`). A graph that has names is reduced to the ones given, in their order.

        Raises:
            InputError: If the file is missing, unreadable or does not fit its names.
        """
        path = Path(path)
        if path.suffix == '.npy':
            return _load_npy(path, train_skills, eval_skills)
        _require_suffix(path)
        return cls.from_dict(read_json(path), where=str(path)).select(train_skills, eval_skills)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the graph as ``.json``, or as ``.npy`` with the names in ``NAME.names.json`` beside it.

        Raises:
            InputError: If the path ends in neither.
        """
        path = Path(path)
        _require_suffix(path)
        data = self.to_dict()
        if path.suffix == '.npy':
            del data['weights']
            write_atomically(path, lambda file: np.save(file, self.weights, allow_pickle=False))
            path = _names_file(path)
        write_text(path, json.dumps(data, indent=1) + '\n')

    def select(
        self, train_skills: Sequence[str] | None = None, eval_skills: Sequence[str] | None = None
    ) -> 'SkillsGraph':
        """Pick and reorder rows and columns by name; None keeps a side as it is.

        Raises:
            InputError: If the graph has no such skill.
        """
        rows = self.train_skills if train_skills is None else unique_names('train_skills', train_skills)
        columns = self.eval_skills if eval_skills is None else unique_names('eval_skills', eval_skills)
        row_ids = [_position('the skills graph (train)', name, self.train_skills) for name in rows]
        column_ids = [_position('the skills graph (eval)', name, self.eval_skills) for name in columns]
        measured = self.measured and self.measured.taken(row_ids, column_ids)
        return SkillsGraph(rows, columns, self.weights[np.ix_(row_ids, column_ids)], measured=measured)

    def with_new_skills(
        self,
        train_skills: Sequence[str],
        eval_skills: Sequence[str],
        new: NewSkills,
        *,
        targets: Sequence[str] | None = None,
    ) -> 'SkillsGraph':
        """Add the rows and columns that streams have and the graph lacks; without any it stays as it is.

        A skill gets a row if it is trained on; a column if it is one of the `targets`, or, without targets, if it
        is new, evaluated, and the graph has a column for each of its rows.

        Args:
            train_skills: That are trained on.
            eval_skills: That are evaluated.
            new: ``'identity'``: a new skill helps itself alone, by the mean of the others' weights on themselves
                (1 where there is none). ``'mean'``: its row is the mean of the rows that are there, its column the
                mean of the columns, its weight on itself as for identity. Rows written out,
                ``{new skill: {eval skill: weight}}``: what is not named has no edge. ``'error'``: nothing is added.
            targets: Eval skills that the mixture is for.

        Raises:
            InputError: `new` is none of these, or its rows are not those that the graph lacks.
        """
        rows, columns, weights = rows_and_columns(
            (self.train_skills, self.eval_skills, self.weights), train_skills, eval_skills, new, targets
        )
        if (rows, columns) == (self.train_skills, self.eval_skills):
            return self
        places = [
            [names.index(name) if name in names else None for name in wanted]
            for names, wanted in ((self.train_skills, rows), (self.eval_skills, columns))
        ]
        return SkillsGraph(rows, columns, weights, measured=self.measured and self.measured.taken(*places))

    def check_streams(self, train: Iterable[str], evals: Iterable[str]) -> None:
        """Refuse streams that do not fit: each train stream is a row and each row a train stream.

        Every column needs an eval stream; eval streams that are no column are only evaluated.

        Raises:
            InputError: Naming all skills missing on either side, and what may have been meant.
        """
        streams, evaluated = list(train), list(evals)
        faults = [
            *_lacking('rows of the graph that are not trained on:', self.train_skills, streams),
            *_lacking('the graph has no row for', streams, self.train_skills),
            *_lacking('columns of the graph that are not evaluated:', self.eval_skills, evaluated),
        ]
        if faults:
            raise InputError(f'skills graph and streams do not fit: {"; ".join(faults)}')


def _checked_weights(
    rows: tuple[str, ...], columns: tuple[str, ...], weights: ArrayLike
) -> NDArray[np.float64]:
    try:
        array = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError('weights of the skills graph must be a rectangular matrix of numbers') from None
    if array.shape != (len(rows), len(columns)):
        raise InputError(
            f'weights of the skills graph must have shape {(len(rows), len(columns))} '
            f'(train skills x eval skills), but got: {array.shape}'
        )
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f'weights of the skills graph must be finite, but got: {array[row, column]} '
            f'for {rows[row]!r} -> {columns[column]!r}'
        )
    array.setflags(write=False)
    return array


def _position(where: str, name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise InputError(f'{where}: unknown skill {name!r}; {nearest(name, names)}')
    return names.index(name)


def _lacking(what: str, wanted: Sequence[str], present: Sequence[str]) -> list[str]:
    missing = [name for name in wanted if name not in present]
    if not missing:
        return []
    # The nearest name is looked for among those that nothing else claims.
    free = [name for name in present if name not in wanted]
    named = [f'{name!r} ({nearest(name, free)})' if free else repr(name) for name in missing]
    return [f'{what} {", ".join(named)}']


def _names_file(path: Path) -> Path:
    return path.with_suffix('.names.json')


def _require_suffix(path: Path) -> None:
    if path.suffix not in ('.json', '.npy'):
        raise InputError(f'a skills graph must be a .json or .npy file, but got: {path}')


def _load_npy(
    path: Path, train_skills: Sequence[str] | None, eval_skills: Sequence[str] | None
) -> SkillsGraph:
    weights = read_array(path)
    names_file = _names_file(path)
    if names_file.is_file():
        data = {**read_json(names_file), 'weights': weights}
        return SkillsGraph.from_dict(data, where=str(names_file)).select(train_skills, eval_skills)
    if train_skills is None:
        raise InputError(
            f'{path} holds weights without names: give train_skills (and eval_skills where they differ), '
            f'or put them into {names_file.name} beside it'
        )
    try:
        return SkillsGraph(train_skills, train_skills if eval_skills is None else eval_skills, weights)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
