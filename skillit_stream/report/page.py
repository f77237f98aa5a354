"""report.html: one page that stands alone."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from skillit_stream.report import figures, markup
from skillit_stream.report.methods import AVERAGE, Method, eval_skills, notes
from skillit_stream.report.panels import area_paint, line_look
from skillit_stream.report.reach import reach_sentences
from skillit_stream.report.run_folder import Graph, Run
from skillit_stream.report.tables import LOWEST, LossRow, loss_rows, number, pairs, verdicts
from skillit_stream.report.views import MAX_PANELS, LossPanel, MixtureView

MAX_ROWS = 40  # skills in a table; summary.json has them all
MAX_PAIRS = 20


def build_page(
    methods: Sequence[Method],
    *,
    mixture: MixtureView,
    losses: Sequence[LossPanel],
    graphs: Sequence[tuple[str, Graph]],
    baseline: str | None = None,
) -> str:
    """The whole page as HTML that needs no network and no other file.

    Args:
        methods: The runs, grouped.
        mixture: Mixture panels to draw.
        losses: Loss panels to draw.
        graphs: Graphs to draw, with titles.
        baseline: The method to compare the others with; None: every two.
    """
    names = [method.name for method in methods]
    title = 'Skill-It report: ' + (', '.join(names) if len(names) <= 6 else f'{len(names)} methods')
    return markup.page(
        title,
        [
            f'<h1>{escape(title)}</h1>',
            markup.bullets([_what_ran(method) for method in methods[:MAX_PANELS]]),
            markup.bullets(notes(methods), 'notes'),
            markup.section('Final losses', *_final_losses(methods, baseline)),
            markup.section('Mixture over rounds', *_mixture(methods, mixture)),
            markup.section('Loss over training', *_losses(methods, losses)),
            markup.section('Skills graph', *_graphs(graphs)),
            markup.section('Asked and drawn', *_asked_and_drawn(methods)),
            markup.section('Runs', _runs(methods)),
            markup.paragraph('All numbers, uncut: summary.json beside this page.', 'soft'),
        ],
    )


def _what_ran(method: Method) -> str:
    """One line a method: its policy, seeds and size."""
    sizes = [
        (f'{len(run.rounds):,} rounds', f'{run.rounds[-1].step:,} steps', f'{run.samples:,} samples')
        for run in method.runs
    ]
    size = (
        ', '.join(sizes[0]) + (' each' if len(sizes) > 1 else '')
        if len(set(sizes)) == 1
        else 'runs of different length'
    )
    seeds = ', '.join(str(seed) for seed in method.seeds)
    label = 'seed' if len(method.seeds) == 1 else 'seeds'
    return f'{method.name}: {policy_text(method.runs[0].policy)}; {label} {seeds}; {size}'


def _final_losses(methods: Sequence[Method], baseline: str | None) -> list[str]:
    rows = loss_rows(methods)
    if not rows:
        return [markup.paragraph('No evaluation ran, so there are no losses to compare.')]
    shown, left_out = _cut(rows)
    head = ['eval skill', *(f'{m.name} ({_seeds(len(m.runs))})' for m in methods)]
    found = pairs(methods, baseline)
    with_spread = any(cell is not None and cell.sd is not None for row in rows for cell in row.cells)
    what = 'Nats per token at the last evaluation; lower is better.'
    if with_spread:
        what += ' Mean ± sample standard deviation over seeds.'
    return [
        markup.paragraph(what, 'soft'),
        markup.table(head, [_loss_row(row, methods) for row in shown]),
        markup.paragraph(
            f'The skills on which the methods differ most; {left_out} more in summary.json.'
            if left_out
            else '',
            'soft',
        ),
        markup.bullets(verdicts(methods)),
        markup.paragraph(
            'Paired by seed (mean of the skills, seeds that both methods have):' if found else '', 'soft'
        ),
        markup.bullets([f'{pair}.' for pair in found[:MAX_PAIRS]]),
        markup.paragraph(
            f'{len(found) - MAX_PAIRS} more pairs are in summary.json.' if found[MAX_PAIRS:] else ''
        ),
        markup.bullets(reach_sentences(methods, baseline) if baseline else []),
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


def _loss_row(row: LossRow, methods: Sequence[Method]) -> str:
    cells = []
    for method, cell, mark in zip(methods, row.cells, row.marks, strict=True):
        if cell is None:
            cells.append(markup.cell('not measured'))
            continue
        fewer = '' if cell.n == len(method.runs) else f'of {_seeds(cell.n)}'
        remark = '; '.join(part for part in (mark, fewer) if part)
        cells.append(markup.cell(str(cell), remark=remark, kind='lowest' if mark == LOWEST else ''))
    return markup.row(row.skill, cells, 'mean' if row.skill == AVERAGE else '')


def _mixture(methods: Sequence[Method], view: MixtureView) -> list[str]:
    paints = [area_paint(index, view) for index in range(len(view.areas))]
    items = [
        (markup.area_swatch(paint.colour, hatched=paint.hatched), name)
        for paint, name in zip(paints, view.areas, strict=True)
    ]
    text = 'Proportions asked for; constant within a round.'
    if len(methods) > MAX_PANELS:
        text += f' The first {MAX_PANELS} of {len(methods)} methods.'
    return [markup.paragraph(text, 'soft'), markup.legend(items), markup.panels(figures.mixture_svgs(view))]


def _losses(methods: Sequence[Method], panels: Sequence[LossPanel]) -> list[str]:
    if not panels:
        return []
    items = [(markup.line_swatch(*line_look(index)), method.title) for index, method in enumerate(methods)]
    bands = any(len(method.runs) > 1 for method in methods)
    text = 'Nats per token at each evaluation.' + (
        ' Lines: mean over seeds; bands: lowest to highest.' if bands else ''
    )
    shown, n_skills = sum(panel.title != AVERAGE for panel in panels), len(eval_skills(methods))
    if shown < n_skills:
        text += f' The {shown} of {n_skills} eval skills on which the runs differ most.'
    return [markup.paragraph(text, 'soft'), markup.legend(items), markup.panels(figures.losses_svgs(panels))]


def _graphs(graphs: Sequence[tuple[str, Graph]]) -> list[str]:
    if not graphs:
        return []
    text = 'How much training on a row lowers the loss on a column.'
    return [markup.paragraph(text, 'soft'), markup.panels(figures.graph_svgs(graphs))]


def _asked_and_drawn(methods: Sequence[Method]) -> list[str]:
    """Largest misses, and passes per skill at the end of training."""
    misses = []
    for method in methods:
        found = [miss for run in method.runs if (miss := run.largest_miss()) is not None]
        if found:
            difference, skill, round_ = max(found, key=lambda miss: miss[0])
            where = f' ({skill}, round {round_})' if difference > 0 else ''
            misses.append(
                f'{method.name}: proportions asked and drawn differ by at most {difference:.2g}{where}.'
            )
    passes = [method.passes() for method in methods]
    mean = {skill: float(np.mean([p[skill] for p in passes if skill in p])) for p in passes for skill in p}
    skills = sorted(mean, key=lambda skill: -mean[skill]) if len(mean) > MAX_ROWS else list(mean)
    head = ['skill', 'samples in the stream', *(f'{method.name}: passes' for method in methods)]
    rows = [
        markup.row(
            skill,
            [markup.cell(_stream_size(methods, skill))]
            + [markup.cell(f'{found[skill]:.3g}' if skill in found else '-') for found in passes],
        )
        for skill in skills[:MAX_ROWS]
    ]
    rest = (
        f'The {MAX_ROWS} skills with the most passes; the others are in summary.json.'
        if skills[MAX_ROWS:]
        else ''
    )
    explain = 'Passes at the end of training: above 1, samples of the skill were seen again.'
    shown = (
        [markup.paragraph(explain, 'soft'), markup.table(head, rows), markup.paragraph(rest, 'soft')]
        if rows
        else []
    )
    return [markup.bullets(misses), *shown]


def _stream_size(methods: Sequence[Method], skill: str) -> str:
    sizes = set()
    for method in methods:
        for run in method.runs:
            streams = run.dataset.get('streams')
            stream = streams.get(skill) if isinstance(streams, dict) else None
            if isinstance(stream, dict) and isinstance(stream.get('samples'), int):
                sizes.add(stream['samples'])
    return ' or '.join(f'{size:,}' for size in sorted(sizes)) or '-'


def _runs(methods: Sequence[Method]) -> str:
    head = ['run', 'method', 'seed', 'policy', 'rounds', 'steps', 'samples', 'accuracy']
    head += ['seconds', 'of these stalled', 'evaluating']
    rows = [_run_row(run) for method in methods for run in method.runs]
    return markup.table(head, rows, texts=('method', 'policy'))


def _run_row(run: Run) -> str:
    seconds = sum(record.seconds for record in run.rounds)
    accuracy = run.final_accuracy
    return markup.row(
        str(run.folder),
        [
            markup.cell(run.method, kind='text'),
            markup.cell(str(run.seed)),
            markup.cell(policy_text(run.policy), kind='text'),
            markup.cell(f'{len(run.rounds):,}'),
            markup.cell(f'{run.rounds[-1].step:,}'),
            markup.cell(f'{run.samples:,}'),
            markup.cell('-' if accuracy is None else f'{accuracy:.1%}'),
            markup.cell(number(seconds) if seconds < 1 else f'{seconds:,.1f}'),
            markup.cell(_part(sum(record.stalled_seconds for record in run.rounds), seconds)),
            markup.cell(_part(sum(record.eval_seconds for record in run.rounds), seconds)),
        ],
    )


def _part(part: float, seconds: float) -> str:
    return f'{part:,.1f} ({part / seconds:.1%})' if seconds > 0 else f'{part:,.1f}'


def policy_text(policy: dict[str, Any], length: int = 120) -> str:
    """A policy and its parameters as ``name(eta=0.2, ...)``, cut where it is too long to read."""
    parameters = ', '.join(f'{key}={value}' for key, value in policy.items() if key != 'name')
    text = f'{policy.get("name", "unnamed")}({parameters})'
    return text if len(text) <= length else text[: length - 2] + '…)'


def _seeds(n: int) -> str:
    return '1 seed' if n == 1 else f'{n} seeds'
