"""The table of runs from their logs: what each was trained on over some rounds, and the losses at their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import RecordedRounds, RoundRecord, read_rounds
from skillit_stream.mixture_fit.tables import RunTable, check_enough

MOVED = 0.02
"""A mixture that is this far from its run's mean in some round (total variation) is warned of."""
APART = 1e-6
"""Relative difference of losses below which runs begin with the same model."""


@dataclass(frozen=True)
class _Span:
    """Some rounds of a run, all of which have ended, and the losses before them where they are known."""

    run: str
    rounds: tuple[RoundRecord, ...]
    before: RoundRecord | None

    @property
    def mixtures(self) -> list[dict[str, float]]:
        """What each round was trained on: what was drawn or, where tokens were weighed, the objective."""
        return [one.objective or _divided(one.samples) for one in self.rounds]

    @property
    def sizes(self) -> list[float]:
        """Samples of each round."""
        return [sum(one.samples.values()) for one in self.rounds]


@dataclass(frozen=True)
class Stages:
    """Runs round by round: what each was trained on, and the losses between."""

    tables: tuple[RunTable, ...]
    """One a round, of the same runs and metrics; S of them."""
    before: NDArray[np.float64]
    """The metrics before the first round, float64 ``[n, m]``."""


def read_run_logs(
    folders: Sequence[str], *, from_round: int | None = None, to_round: int | None = None
) -> RunTable:
    """Make a table of run folders, a row a run: the mean mixture of the rounds, and each loss at the end of the last.

    Args:
        folders: Run folders with their ``mixture.jsonl``.
        from_round: The first round that counts; None: the first of every log.
        to_round: The last round that counts; None: the last that all runs have ended.

    Raises:
        InputError: A log is missing or broken, lacks a round or its losses, or the runs are not of one kind: other
            rounds, other numbers of samples, other eval skills.
    """
    logs = _read(folders)
    first, last = _bounds(_ended(logs), from_round, to_round)
    table = _table(logs, first, last)
    return replace(table, warnings=(*_about_later_rounds(_ended(logs), last, to_round), *table.warnings))


def read_stages(folders: Sequence[str]) -> Stages:
    """Make a table of every round of run folders, from the first of every log to the last that all have ended.

    Args:
        folders: Run folders with their ``mixture.jsonl``, evaluated before their first round and after each.

    Raises:
        InputError: As of `read_run_logs`, or the losses before the first round are not known.
    """
    logs = _read(folders)
    first, last = _bounds(_ended(logs), None, None)
    tables = tuple(_table(logs, number, number) for number in range(first, last + 1))
    tables = tuple(_in_order(table, tables[0].metrics) for table in tables)
    metrics = tables[0].metrics
    before = []
    for run, log in logs.items():
        losses = next((one.losses for one in log.records if one.round == first - 1), {})
        if not all(np.isfinite(losses.get(name, np.nan)) for name in metrics):
            raise InputError(
                f'--runs {run} has no losses of before round {first}: train it with an evaluation before training '
                f'(`eval_loader.before_training: true`), or leave it out'
            )
        before.append([losses[name] for name in metrics])
    return Stages(tables, np.array(before, dtype=np.float64))


def _in_order(table: RunTable, metrics: tuple[str, ...]) -> RunTable:
    """The metrics of one round in the order of another's; raises InputError if they are others."""
    if set(table.metrics) != set(metrics):
        odd = sorted(set(table.metrics) ^ set(metrics))[0]
        raise InputError(f'the runs evaluate {odd!r} after some rounds alone: take runs that do so after all')
    columns = [table.metrics.index(name) for name in metrics]
    return replace(table, metrics=metrics, values=table.values[:, columns])


def _read(folders: Sequence[str]) -> dict[str, RecordedRounds]:
    _refuse_twice(folders)
    check_enough('--runs', len(folders))
    return {folder: read_rounds(Path(folder) / 'mixture.jsonl') for folder in folders}


def _ended(logs: Mapping[str, RecordedRounds]) -> dict[str, list[RoundRecord]]:
    return {run: [one for one in log.rounds if one.ended_after is None] for run, log in logs.items()}


def _table(logs: Mapping[str, RecordedRounds], first: int, last: int) -> RunTable:
    """The table of some rounds."""
    spans = []
    ended = _ended(logs)
    for run, rounds in ended.items():
        kept = tuple(one for one in rounds if first <= one.round <= last)
        if [one.round for one in kept] != list(range(first, last + 1)):
            raise InputError(
                f'--runs {run} has ended rounds {rounds[0].round} to {rounds[-1].round}, but the table is of {first} '
                f'to {last}: take others (--from-round, --to-round), or leave the run out'
            )
        before = next((one for one in logs[run].records if one.round == first - 1), None)
        spans.append(_Span(run, kept, before))
    _refuse_other_lengths(spans)
    metrics, values = _losses(spans, last)
    skills = tuple(dict.fromkeys(skill for span in spans for mixture in span.mixtures for skill in mixture))
    by_round = [np.array([[m.get(skill, 0.0) for skill in skills] for m in span.mixtures]) for span in spans]
    means = [np.average(rows, axis=0, weights=span.sizes) for rows, span in zip(by_round, spans, strict=True)]
    return RunTable(
        runs=tuple(span.run for span in spans),
        skills=skills,
        metrics=metrics,
        proportions=np.array(means),
        values=values,
        warnings=(
            *_about_moves(spans, by_round, means),
            *_about_beginnings(spans, metrics, first),
        ),
    )


def _divided(samples: dict[str, float]) -> dict[str, float]:
    total = sum(samples.values())
    return {skill: count / total for skill, count in samples.items()}


def _refuse_twice(folders: Sequence[str]) -> None:
    places = [Path(folder).resolve() for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f'--runs names {folders[number]} twice; name each run once')


def _bounds(
    ended: dict[str, list[RoundRecord]], from_round: int | None, to_round: int | None
) -> tuple[int, int]:
    """The first and the last round that count."""
    for run, rounds in ended.items():
        if not rounds:
            raise InputError(f'--runs {run} has no round that has ended: leave it out')
    first = _first_round(ended) if from_round is None else from_round
    last = min(rounds[-1].round for rounds in ended.values()) if to_round is None else to_round
    if first < 0:
        raise InputError(f'--from-round must be a round, 0 or later, but got: {first}')
    if last < first:
        raise InputError(f'--to-round must be {first} or later, where the table begins, but is: {last}')
    return first, last


def _first_round(ended: dict[str, list[RoundRecord]]) -> int:
    firsts = {run: rounds[0].round for run, rounds in ended.items()}
    (one, first), *others = firsts.items()
    for run, number in others:
        if number != first:
            raise InputError(
                f'--runs {one} begins with round {first}, {run} with round {number}: say from where, --from-round '
                f'{max(firsts.values())}'
            )
    return first


def _refuse_other_lengths(spans: Sequence[_Span]) -> None:
    one, *others = spans
    for other in others:
        if sum(one.sizes) != sum(other.sizes):
            raise InputError(
                f'runs must be of one length, but in these rounds {one.run} has drawn {sum(one.sizes):.0f} samples and '
                f'{other.run} {sum(other.sizes):.0f}: leave out those of another round size'
            )


def _losses(spans: Sequence[_Span], last: int) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names of the eval skills, m of them, and their losses at the end of the round, float64 ``[n, m]``."""
    metrics = tuple(spans[0].rounds[-1].losses)
    rows = []
    for span in spans:
        losses = span.rounds[-1].losses
        if not losses:
            raise InputError(
                f'--runs {span.run} was not evaluated at the end of round {last}: take another --to-round, or leave '
                f'the run out'
            )
        if set(losses) != set(metrics):
            odd = sorted(set(losses) ^ set(metrics))[0]
            raise InputError(
                f'runs must evaluate the same skills, but {odd!r} is evaluated in one of {spans[0].run} and {span.run} '
                f'alone: leave such runs out'
            )
        bad = next((name for name in metrics if not np.isfinite(losses[name])), None)
        if bad is not None:
            raise InputError(
                f'--runs {span.run}: the loss of {bad!r} at the end of round {last} is no finite number: leave it out'
            )
        rows.append([losses[name] for name in metrics])
    return metrics, np.array(rows, dtype=np.float64)


def _about_later_rounds(ended: dict[str, list[RoundRecord]], last: int, to_round: int | None) -> list[str]:
    longer = [run for run, rounds in ended.items() if rounds[-1].round > last]
    if to_round is not None or not longer:
        return []
    return [
        f'the table ends with round {last}, the last that all runs have ended, but {len(longer)} of them have ended '
        f'more ({longer[0]})'
    ]


def _about_moves(
    spans: Sequence[_Span], by_round: Sequence[NDArray[np.float64]], means: Sequence[NDArray[np.float64]]
) -> list[str]:
    moved = [
        span.run
        for span, rows, mean in zip(spans, by_round, means, strict=True)
        if np.abs(rows - mean).sum(axis=1).max() / 2 > MOVED
    ]
    if not moved:
        return []
    return [
        f'{len(moved)} of {len(spans)} runs moved their mixture in these rounds ({moved[0]}): the law is of mixtures '
        f'that stay, and takes the mean of theirs'
    ]


def _about_beginnings(spans: Sequence[_Span], metrics: Sequence[str], first: int) -> list[str]:
    """Where the losses before the rounds differ, what was trained before them counts as theirs."""
    before = [span.before.losses for span in spans if span.before]
    known = [[losses[name] for name in metrics] for losses in before if set(metrics) <= set(losses)]
    if first == 0 or not known:
        return []
    losses = np.array(known, dtype=np.float64)
    widest = float((np.ptp(losses, axis=0) / losses.min(axis=0)).max())
    if not widest > APART:
        return []
    return [
        f'the runs do not begin round {first} with one model: their losses there differ by up to {widest:.2%}, and '
        f'what they were trained on before counts as if it were of these rounds; runs that go on from one '
        f'checkpoint do not have this'
    ]
