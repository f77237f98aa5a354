"""Why each round moved, as tables for the page: a row a skill, a column an eval skill whose losses moved it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skillit_stream.mixture.explain import Move, explain_rounds, largest_parts
from skillit_stream.report.comparison import number
from skillit_stream.report.methods import Method
from skillit_stream.report.run_folder import RecordedRun
from skillit_stream.report.views import rounded_together

MAX_MOVES = 30  # rounds of a method with a table
MAX_ROWS = 12  # skills in it
MAX_COLUMNS = 6  # eval skills in it; the others are summed
NAMED = 3  # skills in the line of a round
SMALL = 0.0005  # a change of a proportion that is not named


@dataclass(frozen=True, slots=True)
class MoveTable:
    """One round."""

    round: int
    line: str
    """What moved, and most by what."""
    columns: tuple[str, ...]
    losses: tuple[str, ...]
    """The newest loss of each eval skill in `columns`, nats per token; empty where losses are summed."""
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Skill -> proportion before, proportion, change of its log, and what adds up to that, column by column."""
    left_out: int
    """Skills without a row: those whose proportions moved least."""
    notes: tuple[str, ...]
    """What the policy said of the mixture."""


@dataclass(frozen=True, slots=True)
class MovesView:
    """The moves of one method."""

    title: str
    remarks: tuple[str, ...]
    tables: tuple[MoveTable, ...]


def moves_views(methods: Sequence[Method]) -> list[MovesView]:
    """The moves of each method's first run, and why there are none where there are none."""
    return [_moves_view(method) for method in methods]


def _moves_view(method: Method) -> MovesView:
    run = method.runs[0]
    found = explain_rounds(run.policy, run.graph, run.log.records)
    shown = list(found.moves)
    remarks = list(found.missing)
    if len(shown) > MAX_MOVES:
        shown = sorted(sorted(shown, key=_size, reverse=True)[:MAX_MOVES], key=lambda move: move.round)
        remarks.append(f'The {MAX_MOVES} of {len(found.moves):,} moves that changed a proportion most.')
    title = f'{method.name}, seed {run.seed}' if shown and len(method.runs) > 1 else method.name
    return MovesView(title, tuple(remarks), tuple(_table(run, move) for move in shown))


def _size(move: Move) -> float:
    return float(np.abs(move.after - move.before).max())


def _table(run: RecordedRun, move: Move) -> MoveTable:
    order = np.argsort(-np.abs(move.after - move.before), kind='stable')[:MAX_ROWS]
    rows = sorted(int(row) for row in order)
    columns, other = _columns(move)
    source = next(record for record in reversed(run.rounds) if record.round < move.round)
    limited = bool(np.any(np.nan_to_num(move.rest)))
    before, after = (rounded_together(mixture, 3) for mixture in (move.before, move.after))
    titles = [move.eval_skills[column] for column in columns] + (['other eval skills'] if other else [])
    return MoveTable(
        move.round,
        _line(move, source.step),
        (*titles, 'sum to 1', *(['limits'] if limited else [])),
        tuple(number(source.losses[move.eval_skills[column]]) for column in columns),
        tuple(
            (
                move.skills[row],
                (
                    f'{before[row]:.3f}',
                    f'{after[row]:.3f}',
                    _signed(move.change[row]),
                    *(_signed(move.edges[row, column]) for column in columns),
                    *([_signed(move.edges[row, other].sum())] if other else []),
                    _signed(move.normaliser[row]),
                    *([_signed(move.rest[row])] if limited else []),
                ),
            )
            for row in rows
        ),
        len(move.skills) - len(rows),
        source.notes,
    )


def _columns(move: Move) -> tuple[list[int], list[int]]:
    """The eval skills that moved the mixture most, in their order, and the others."""
    most = np.argsort(-np.abs(move.edges).max(axis=0), kind='stable')
    # One more than fits may be shown itself: "other" would say less in the same room.
    n = len(most) if len(most) <= MAX_COLUMNS + 1 else MAX_COLUMNS
    return sorted(int(one) for one in most[:n]), sorted(int(one) for one in most[n:])


def _line(move: Move, step: int) -> str:
    """The round, the proportions that moved most, and the edge that moved one of them most."""
    moved = move.after - move.before
    order = [
        int(one) for one in np.argsort(-np.abs(moved), kind='stable')[:NAMED] if abs(moved[one]) >= SMALL
    ]
    where = f'Round {move.round}, from step {step:,}'
    if not order:
        return f'{where}: no proportion moved by {SMALL} or more.'
    before, after = (rounded_together(mixture, 3) for mixture in (move.before, move.after))
    changes = ', '.join(f'{move.skills[one]} {before[one]:.3f} → {after[one]:.3f}' for one in order)
    [part] = largest_parts(move, 1)
    return (
        f'{where}: {changes}. Most by the loss on {part.eval_skill}, through {part.skill}: '
        f'{_signed(part.to_log)} to its log proportion, against the mean over the mixture.'
    )


def _signed(value: float) -> str:
    if not np.isfinite(value):
        return '-'
    return f'{value:+.3f}' if abs(value) >= SMALL else '0'
