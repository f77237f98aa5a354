"""The part of the page on final losses: table, verdicts, pairs."""

from collections.abc import Sequence

import numpy as np

from skillit_stream.report import markup
from skillit_stream.report.methods import AVERAGE, Method, common_eval_skills
from skillit_stream.report.panels import LABELS
from skillit_stream.report.reach import reach_sentences
from skillit_stream.report.tables import (
    LOWEST,
    LossRow,
    deviation,
    loss_rows,
    number,
    pairs,
    spread,
    verdicts,
)
from skillit_stream.report.views import accuracy_figure, measured_skills

MAX_ROWS = 40  # skills in a table; summary.json has them all
MAX_PAIRS = 20
BITS = 'bits_per_byte'


def final_losses(methods: Sequence[Method], baseline: str | None) -> list[str]:
    """HTML: the table of final losses, what it says in words, and methods compared by seed.

    Args:
        methods: The runs, grouped.
        baseline: The method to compare the others with; None: every two.
    """
    rows = loss_rows(methods)
    if not rows:
        return [markup.paragraph('No evaluation ran, so there are no losses to compare.')]
    shown, left_out = _cut(rows)
    head = ['eval skill', *(f'{m.name} ({_seeds(len(m.runs))})' for m in methods)]
    accuracy = accuracy_figure(methods)
    what = 'Nats per token at the last evaluation; lower is better.'
    if any(cell is not None and cell.sd is not None for row in rows for cell in row.cells):
        what += ' Mean ± sample standard deviation over seeds.'
    if measured_skills(BITS, methods):
        what += ' Under it bits per byte, which can be compared across tokenizers.'
    if accuracy:
        what += f' In percent: the {LABELS[accuracy]}.'
    return [
        markup.paragraph(what, 'soft'),
        markup.table(head, [_loss_row(row, methods, accuracy) for row in shown]),
        markup.paragraph(
            f'The skills on which the methods differ most; {left_out} more in summary.json.'
            if left_out
            else '',
            'soft',
        ),
        markup.bullets(verdicts(methods)),
        *_paired(methods, baseline),
        markup.bullets(reach_sentences(methods, baseline) if baseline else []),
    ]


def _paired(methods: Sequence[Method], baseline: str | None) -> list[str]:
    """Every two methods (or all with the baseline) compared on the seeds both have."""
    found = pairs(methods, baseline)
    head = ['ends lower', 'than', 'on seeds', 'by (nats per token)', 'sign test: p', 'permutation test: p']
    rows = [
        markup.row(
            pair.first,
            [
                markup.cell(pair.second, kind='text'),
                markup.cell(
                    f'{pair.wins} of {len(pair.seeds)}', remarks=[f'{pair.ties} equal' if pair.ties else '']
                ),
                markup.cell(f'{number(pair.mean_difference)} ± {deviation(pair.sd)}'),
                markup.cell(f'{pair.sign_test_p:.2g}'),
                markup.cell(f'{pair.permutation_p:.2g}'),
            ],
        )
        for pair in found[:MAX_PAIRS]
    ]
    more = len(found) - MAX_PAIRS
    return [
        markup.paragraph(
            'Paired by seed (mean of the skills, seeds that both methods have):' if found else '', 'soft'
        ),
        markup.table(head, rows, texts=('than',)) if rows else '',
        markup.paragraph(f'{more} more pairs are in summary.json.' if more > 0 else '', 'soft'),
    ]


def _cut(rows: Sequence[LossRow]) -> tuple[list[LossRow], int]:
    """The rows to show: of too many, those on which methods end furthest apart."""
    most = MAX_ROWS + 1  # the row of means is no skill
    if len(rows) <= most:
        return list(rows), 0

    def apart(row: LossRow) -> float:
        means = [cell.mean for cell in row.cells if cell is not None]
        return np.inf if row.skill == AVERAGE else float(np.nan_to_num(np.ptp(means), nan=1e9))

    kept = sorted(rows, key=apart, reverse=True)[:most]
    return [row for row in rows if row in kept], len(rows) - len(kept)


def _loss_row(row: LossRow, methods: Sequence[Method], accuracy: str | None) -> str:
    skills = common_eval_skills(methods) if row.skill == AVERAGE else [row.skill]
    cells = []
    for method, cell, mark in zip(methods, row.cells, row.marks, strict=True):
        if cell is None:
            cells.append(markup.cell('not measured'))
            continue
        fewer = '' if cell.n == len(method.runs) else f'of {_seeds(cell.n)}'
        bits = spread(method.finals(skills, BITS))
        right = spread(method.finals(skills, accuracy)) if accuracy else None
        remarks = [
            '; '.join(part for part in (mark, fewer) if part),
            f'{number(bits.mean)} bits per byte' if bits else '',
            f'{right.mean:.1%} right' if right else '',
        ]
        cells.append(markup.cell(str(cell), remarks=remarks, kind='lowest' if mark == LOWEST else ''))
    return markup.row(row.skill, cells, 'mean' if row.skill == AVERAGE else '')


def _seeds(n: int) -> str:
    return '1 seed' if n == 1 else f'{n} seeds'
