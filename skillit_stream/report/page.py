"""report.html: what `page.html` shows, computed and put into words."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_warnings import learned_line, warnings_of
from skillit_stream.report import figures
from skillit_stream.report.comparison import (
    LOWEST,
    LossRow,
    has_spread,
    loss_rows,
    number,
    pairs,
    reach_sentences,
    spread,
    verdicts,
)
from skillit_stream.report.drawing import LABELS, area_paint, line_look
from skillit_stream.report.methods import (
    AVERAGE,
    DIFFERENCE,
    LOSS,
    PASSES,
    ROUND_FIGURES,
    Method,
    common_eval_skills,
    notes,
    plural,
)
from skillit_stream.report.moves import moves_views
from skillit_stream.report.templates import rendered, text_of
from skillit_stream.report.training_views import passes_panels, training_panels
from skillit_stream.report.verdict import verdict
from skillit_stream.report.views import (
    MAX_PANELS,
    MAX_POINTS,
    STEEP,
    LossPanel,
    MixtureView,
    Views,
    accuracy_figure,
    measured_skills,
)

RELOAD = 5  # seconds after which a page of runs that go on reads itself again
MAX_ROWS = 40  # skills in a table; summary.json has them all
MAX_PAIRS = 20
BITS = 'bits_per_byte'


def build_page(
    methods: Sequence[Method], views: Views, baseline: str | None = None, *, reloads: bool = False
) -> str:
    """The whole page as HTML that needs no network and no other file, and whose browser refuses to load any.

    Args:
        methods: The runs, grouped.
        views: What its figures show.
        baseline: The method to compare the others with; None: every two.
        reloads: Whether it reloads itself, because the runs go on.
    """
    names = [method.name for method in methods]
    hover = figures.HoverData(methods)
    script = text_of('page.js')
    training, passes = training_panels(methods), passes_panels(methods)
    # The figures in the order in which they stand in the page: so `hover` numbers them.
    shown = {
        'differences': _curves(_difference_text(baseline), methods, views.differences, hover),
        'reach': views.reach and [(one, None) for one in figures.pictures(figures.reach_sheet(views.reach))],
        'mixture': _mixture(methods, views.mixture, hover),
        'loss_curves': _curves(_loss_text(views.losses), methods, views.losses, hover),
        'accuracy_curves': _curves(_accuracy_text(views.accuracies), methods, views.accuracies, hover),
        'training': _curves(_training_text(training), methods, training, hover),
        'passes_curves': _curves(
            'Walks over each stream since the start of training.', methods, passes, hover
        ),
        'graphs': [(figures.pictures(figures.graph_sheet([graph]))[0], None) for graph in views.graphs],
    }
    return rendered(
        'page.html',
        title='Skill-It report: ' + (', '.join(names) if len(names) <= 6 else f'{len(names)} methods'),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        methods=[_summary(method) for method in methods[:MAX_PANELS]],
        verdict=verdict(methods, baseline),
        notes=notes(methods),
        losses=_final_losses(methods, baseline),
        baseline=baseline,
        graph_texts=[(title, _graph_text(graph)) for title, graph in views.graphs],
        reload_seconds=RELOAD if reloads else None,
        written=datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M:%S UTC'),
        moves=moves_views(methods[:MAX_PANELS]),
        misses=_misses(methods),
        passes=_passes(methods),
        runs=[run for method in methods for run in method.runs],
        figure_data=hover.to_json(),
        **shown,
    )


def _summary(method: Method) -> str:
    """One line a method: its policy, seeds and size."""
    sizes = {
        ', '.join(
            plural(n, noun)
            for n, noun in (
                (len(run.rounds), 'round'),
                (run.rounds[-1].step, 'step'),
                (run.samples, 'sample'),
            )
        )
        for run in method.runs
    }
    label, each = ('seed', '') if len(method.seeds) == 1 else ('seeds', ' each')
    size = f'{sizes.pop()}{each}' if len(sizes) == 1 else 'runs of different length'
    seeds = ', '.join(str(seed) for seed in method.seeds)
    return f'{method.name}: {policy_text(method.runs[0].policy)}; {label} {seeds}; {size}'


def _final_losses(methods: Sequence[Method], baseline: str | None) -> dict[str, Any] | None:
    """The table of final losses, what it says in words, and methods compared by seed; None without a loss."""
    rows = loss_rows(methods)
    if not rows:
        return None
    shown = _most_different(rows)
    accuracy = accuracy_figure(methods)
    text = 'Nats per token at the last evaluation; lower is better.'
    if any(map(has_spread, rows)):
        text += ' Mean ± sample standard deviation over seeds.'
    if measured_skills(BITS, methods):
        text += ' Under it bits per byte, which can be compared across tokenizers.'
    if accuracy:
        text += f' In percent: the {LABELS[accuracy]}.'
    found = pairs(methods, baseline)
    return {
        'explanation': text,
        'columns': [f'{method.name} ({plural(len(method.runs), "seed")})' for method in methods],
        'rows': [
            (row.skill, 'mean' if row.skill == AVERAGE else '', _loss_cells(row, methods, accuracy))
            for row in shown
        ],
        'left_out': len(rows) - len(shown),
        'verdicts': verdicts(methods, baseline),
        'pairs': found[:MAX_PAIRS],
        'more_pairs': max(0, len(found) - MAX_PAIRS),
        'reaches': reach_sentences(methods, baseline) if baseline else [],
    }


def _most_different(rows: Sequence[LossRow]) -> list[LossRow]:
    """The rows to show: of too many, those on which methods end furthest apart."""
    most = MAX_ROWS + 1  # the row of means is no skill
    if len(rows) <= most:
        return list(rows)

    def apart(row: LossRow) -> float:
        means = [cell.mean for cell in row.cells if cell is not None]
        return np.inf if row.skill == AVERAGE else float(np.nan_to_num(np.ptp(means), nan=1e9))

    kept = sorted(rows, key=apart, reverse=True)[:most]
    return [row for row in rows if row in kept]


def _loss_cells(row: LossRow, methods: Sequence[Method], accuracy: str | None) -> list[dict[str, Any] | None]:
    """Per method the loss, whether it is the lowest, and remarks to stand under it; None where not measured."""
    skills = common_eval_skills(methods) if row.skill == AVERAGE else [row.skill]
    cells: list[dict[str, Any] | None] = []
    for method, cell, mark in zip(methods, row.cells, row.marks, strict=True):
        if cell is None:
            cells.append(None)
            continue
        fewer = '' if cell.n == len(method.runs) else f'of {plural(cell.n, "seed")}'
        bits = spread(method.finals(skills, BITS))
        right = spread(method.finals(skills, accuracy)) if accuracy else None
        remarks = [
            '; '.join(part for part in (mark, fewer) if part),
            f'{number(bits.mean)} bits per byte' if bits else '',
            f'{right.mean:.1%} right' if right else '',
        ]
        cells.append({'loss': str(cell), 'lowest': mark == LOWEST, 'remarks': remarks})
    return cells


def _mixture(methods: Sequence[Method], view: MixtureView, hover: figures.HoverData) -> dict[str, Any]:
    text = 'Proportions asked for; constant within a round.'
    if len(methods) > MAX_PANELS:
        text += f' The first {MAX_PANELS} of {plural(len(methods), "method")}.'
    if max(len(run.rounds) for method in methods for run in method.runs) > MAX_POINTS:
        text += f' Of more than {MAX_POINTS} rounds, neighbouring ones are averaged.'
    drawn = zip(figures.pictures(figures.mixture_sheet(view)), view.panels, strict=True)
    return {
        'explanation': text,
        'areas': [(name, area_paint(index, view)) for index, name in enumerate(view.areas)],
        'pictures': [
            (picture, hover.add_mixture(picture, panel, index))
            for index, (picture, panel) in enumerate(drawn)
        ],
    }


def _loss_text(panels: Sequence[LossPanel]) -> str:
    text = 'Nats per token at each evaluation.'
    if any(panel.top is not None for panel in panels):
        text += (
            f' The axes fit what comes after the first {STEEP:.0%} of the steps; losses above are cut off.'
        )
    return text


def _training_text(panels: Sequence[LossPanel]) -> str:
    figures_shown = ', '.join(panel.figure for panel in panels)
    return f'Round by round: {figures_shown}; without the seconds of evaluating.'


def _difference_text(baseline: str | None) -> str:
    return (
        f'Loss minus that of {baseline} on the same seed, nats per token, at each evaluation: below 0 is better than '
        f'{baseline}.'
    )


def _accuracy_text(panels: Sequence[LossPanel]) -> str:
    exact = any(panel.figure == 'exact_match' for panel in panels)
    text = 'Part of the answers that are right as a whole' if exact else 'Part of the tokens that are right'
    return f'{text}, at each evaluation.'


def _curves(
    text: str, methods: Sequence[Method], panels: Sequence[LossPanel], hover: figures.HoverData
) -> dict[str, Any] | None:
    """A row of panels over training, a line a method; None without panels."""
    if not panels:
        return None
    if any(len(method.runs) > 1 for method in methods):
        text += ' Lines: mean over seeds; bands: lowest to highest.'
    n_shown, n_skills = sum(panel.title != AVERAGE for panel in panels), _n_skills(methods, panels[0].figure)
    if n_shown < n_skills:
        text += f' The {n_shown} of {n_skills} skills on which the runs differ most.'
    if max(len(run.evaluations) for method in methods for run in method.runs) > MAX_POINTS:
        text += f' Of more than {MAX_POINTS} steps, {MAX_POINTS} are shown, evenly spaced.'
    drawn = zip(figures.pictures(figures.losses_sheet(panels, methods)), panels, strict=True)
    return {
        'explanation': text,
        'lines': [(method.name, line_look(index)) for index, method in enumerate(methods)],
        'pictures': [(picture, hover.add_curves(picture, panel)) for picture, panel in drawn],
    }


def _n_skills(methods: Sequence[Method], figure: str) -> int:
    """How many skills there could be a panel of."""
    if figure == PASSES:
        return len({skill for method in methods for skill in method.train_skills})
    if figure in ROUND_FIGURES:
        return 0
    return len(measured_skills(LOSS if figure == DIFFERENCE else figure, methods))


def _graph_text(graph: SkillsGraph) -> list[str]:
    """How a graph was learned, and what speaks against it."""
    learned = learned_line(graph)
    return [*([f'Learned: {learned}.'] if learned else []), *warnings_of(graph)]


def _misses(methods: Sequence[Method]) -> list[str]:
    """How far the proportions drawn were from those asked for, a sentence each method that logged them."""
    sentences = []
    for method in methods:
        found = [miss for run in method.runs if (miss := run.largest_miss()) is not None]
        if found:
            difference, skill, round_ = max(found, key=lambda miss: miss[0])
            where = f' ({skill}, round {round_})' if difference > 0 else ''
            sentences.append(
                f'{method.name}: proportions asked and drawn differ by at most {difference:.2g}{where}.'
            )
    return sentences


def _passes(methods: Sequence[Method]) -> dict[str, Any]:
    """Passes per skill at the end of training, beside the size of its stream."""
    passes = [method.passes() for method in methods]
    mean = {skill: float(np.mean([p[skill] for p in passes if skill in p])) for p in passes for skill in p}
    skills = sorted(mean, key=lambda skill: -mean[skill]) if len(mean) > MAX_ROWS else list(mean)
    return {
        'columns': [f'{method.name}: passes' for method in methods],
        'rows': [
            (skill, _stream_size(methods, skill), [found.get(skill) for found in passes])
            for skill in skills[:MAX_ROWS]
        ],
        'left_out': max(0, len(skills) - MAX_ROWS),
    }


def _stream_size(methods: Sequence[Method], skill: str) -> str:
    sizes = set()
    for method in methods:
        for run in method.runs:
            streams = run.dataset.get('streams')
            stream = streams.get(skill) if isinstance(streams, dict) else None
            if isinstance(stream, dict) and isinstance(stream.get('samples'), int):
                sizes.add(stream['samples'])
    return ' or '.join(f'{size:,}' for size in sorted(sizes)) or '-'


def policy_text(policy: dict[str, Any]) -> str:
    """A policy and its parameters as ``name(eta=0.2, ...)``, without those that are off."""
    parameters = ', '.join(
        f'{key}={_setting_text(value)}'
        for key, value in policy.items()
        if key != 'name' and value is not None and value is not False
    )
    return f'{policy.get("name", "unnamed")}({parameters})'


def _setting_text(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, dict):
        texts = {key: _setting_text(one) for key, one in value.items()}
        if len(texts) > 1 and len(set(texts.values())) == 1:
            return f'{next(iter(texts.values()))} each'
        return ', '.join(f'{key}: {text}' for key, text in texts.items()).join('{}')
    return str(value)
