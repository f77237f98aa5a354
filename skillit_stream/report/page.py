"""report.html: one page that stands alone."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from skillit_stream.report import figures, markup
from skillit_stream.report.final_losses import MAX_ROWS, final_losses
from skillit_stream.report.hover import HoverData
from skillit_stream.report.methods import AVERAGE, Method, notes
from skillit_stream.report.panels import area_paint, line_look
from skillit_stream.report.reach import reach_view
from skillit_stream.report.run_folder import Graph, RecordedRun
from skillit_stream.report.tables import number
from skillit_stream.report.views import MAX_PANELS, MAX_POINTS, LossPanel, MixtureView, measured_skills


def build_page(
    methods: Sequence[Method],
    *,
    mixture: MixtureView,
    losses: Sequence[LossPanel],
    accuracies: Sequence[LossPanel] = (),
    graphs: Sequence[tuple[str, Graph]],
    baseline: str | None = None,
) -> str:
    """The whole page as HTML that needs no network and no other file.

    Args:
        methods: The runs, grouped.
        mixture: Mixture panels to draw.
        losses: Loss panels to draw.
        accuracies: Accuracy panels to draw.
        graphs: Graphs to draw, with titles.
        baseline: The method to compare the others with; None: every two.
    """
    names = [method.name for method in methods]
    title = 'Skill-It report: ' + (', '.join(names) if len(names) <= 6 else f'{len(names)} methods')
    hover = HoverData(methods)
    return markup.page(
        title,
        [
            f'<h1>{escape(title)}</h1>',
            markup.bullets([_what_ran(method) for method in methods[:MAX_PANELS]]),
            markup.bullets(notes(methods), 'notes'),
            markup.section('Final losses', *final_losses(methods, baseline)),
            markup.section('Steps to the baseline', *_reaches(methods, baseline)),
            markup.section('Mixture over rounds', *_mixture(methods, mixture, hover)),
            markup.section('Loss over training', *_losses(methods, losses, hover)),
            markup.section('Accuracy over training', *_accuracies(methods, accuracies, hover)),
            markup.section('Skills graph', *_graphs(graphs)),
            markup.section('Asked and drawn', *_asked_and_drawn(methods)),
            markup.section('Runs', _runs(methods)),
            markup.paragraph('All numbers, uncut: summary.json beside this page.', 'soft'),
        ],
        figure_data=hover.to_json(),
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


def _reaches(methods: Sequence[Method], baseline: str | None) -> list[str]:
    view = reach_view(methods, baseline)
    if view is None:
        return []
    text = (
        f'The first evaluation at or below the final mean loss of {view.baseline} on the same seed. A dot is a seed, '
        'the bar is the mean over the seeds that reach it; open dots at the right are seeds that never do.'
    )
    return [markup.paragraph(text, 'soft'), _side_by_side([figures.reach_picture(view)])]


def _mixture(methods: Sequence[Method], view: MixtureView, hover: HoverData) -> list[str]:
    paints = [area_paint(index, view) for index in range(len(view.areas))]
    items = [
        (markup.area_swatch(paint.colour, hatched=paint.hatched), name)
        for paint, name in zip(paints, view.areas, strict=True)
    ]
    text = 'Proportions asked for; constant within a round.'
    if len(methods) > MAX_PANELS:
        text += f' The first {MAX_PANELS} of {len(methods)} methods.'
    if max(len(run.rounds) for method in methods for run in method.runs) > MAX_POINTS:
        text += f' Of more than {MAX_POINTS} rounds, neighbouring ones are averaged.'
    pictures = figures.mixture_pictures(view)
    numbers = [
        hover.add_mixture(picture, panel, index)
        for index, (picture, panel) in enumerate(zip(pictures, view.panels, strict=True))
    ]
    return [markup.paragraph(text, 'soft'), markup.legend(items), _side_by_side(pictures, numbers)]


def _losses(methods: Sequence[Method], panels: Sequence[LossPanel], hover: HoverData) -> list[str]:
    return _curves('Nats per token at each evaluation.', methods, panels, hover)


def _accuracies(methods: Sequence[Method], panels: Sequence[LossPanel], hover: HoverData) -> list[str]:
    exact = any(panel.figure == 'exact_match' for panel in panels)
    text = 'Share of the answers that are right as a whole' if exact else 'Share of the tokens that are right'
    return _curves(f'{text}, at each evaluation.', methods, panels, hover)


def _curves(text: str, methods: Sequence[Method], panels: Sequence[LossPanel], hover: HoverData) -> list[str]:
    """A row of panels over training, a line a method."""
    if not panels:
        return []
    items = [(markup.line_swatch(*line_look(index)), method.name) for index, method in enumerate(methods)]
    if any(len(method.runs) > 1 for method in methods):
        text += ' Lines: mean over seeds; bands: lowest to highest.'
    shown, n_skills = (
        sum(panel.title != AVERAGE for panel in panels),
        len(measured_skills(panels[0].figure, methods)),
    )
    if shown < n_skills:
        text += f' The {shown} of {n_skills} eval skills on which the runs differ most.'
    if max(len(run.evaluations) for method in methods for run in method.runs) > MAX_POINTS:
        text += f' Of the evaluations {MAX_POINTS} are shown, evenly spaced.'
    pictures = figures.losses_pictures(panels)
    numbers = [hover.add_curves(picture, panel) for picture, panel in zip(pictures, panels, strict=True)]
    return [markup.paragraph(text, 'soft'), markup.legend(items), _side_by_side(pictures, numbers)]


def _graphs(graphs: Sequence[tuple[str, Graph]]) -> list[str]:
    if not graphs:
        return []
    text = 'How much training on a row lowers the loss on a column.'
    return [markup.paragraph(text, 'soft'), _side_by_side(figures.graph_pictures(graphs))]


def _side_by_side(pictures: Sequence[figures.Picture], numbers: Sequence[int] = ()) -> str:
    return markup.panels([(picture.svg, picture.width) for picture in pictures], numbers)


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
    head = ['run', 'method', 'seed', 'rounds', 'steps', 'samples', 'accuracy']
    head += ['seconds', 'of these stalled', 'evaluating']
    rows = [_run_row(run) for method in methods for run in method.runs]
    return markup.table(head, rows, texts=('method',))


def _run_row(run: RecordedRun) -> str:
    seconds = sum(record.seconds for record in run.rounds)
    accuracy = run.final_accuracy
    return markup.row(
        str(run.folder),
        [
            markup.cell(run.method, kind='text'),
            markup.cell(str(run.seed)),
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
    """A policy and its parameters as ``name(eta=0.2, ...)``, without those that are off, cut where it is too long."""
    parameters = ', '.join(
        f'{key}={_setting_text(value)}'
        for key, value in policy.items()
        if key != 'name' and value is not None and value is not False
    )
    text = f'{policy.get("name", "unnamed")}({parameters})'
    return text if len(text) <= length else text[: length - 2] + '…)'


def _setting_text(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, dict):
        texts = {key: _setting_text(one) for key, one in value.items()}
        if len(texts) > 1 and len(set(texts.values())) == 1:
            return f'{next(iter(texts.values()))} each'
        return ', '.join(f'{key}: {text}' for key, text in texts.items()).join('{}')
    return str(value)
