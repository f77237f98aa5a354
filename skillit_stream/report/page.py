"""report.html: what `page.html` (a jinja2 template) shows, computed and put into words."""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from skillit_stream.report import figures
from skillit_stream.report.comparison import (
    LOWEST,
    LossRow,
    deviation,
    loss_rows,
    number,
    pairs,
    reach_sentences,
    spread,
    verdicts,
)
from skillit_stream.report.drawing import LABELS, area_paint, line_look
from skillit_stream.report.methods import AVERAGE, Method, common_eval_skills, notes
from skillit_stream.report.views import (
    MAX_PANELS,
    MAX_POINTS,
    LossPanel,
    MixtureView,
    Views,
    accuracy_figure,
    measured_skills,
)

MAX_ROWS = 40  # skills in a table; summary.json has them all
MAX_PAIRS = 20
BITS = 'bits_per_byte'


def build_page(methods: Sequence[Method], views: Views, baseline: str | None = None) -> str:
    """The whole page as HTML that needs no network and no other file, and whose browser refuses to load any.

    Args:
        methods: The runs, grouped.
        views: What its figures show.
        baseline: The method to compare the others with; None: every two.
    """
    names = [method.name for method in methods]
    hover = figures.HoverData(methods)
    script = _text('page.js')
    # The figures in the order in which they stand in the page: so `hover` numbers them.
    shown = {
        'reach': views.reach and [(one, None) for one in figures.pictures(figures.reach_sheet(views.reach))],
        'mixture': _mixture(methods, views.mixture, hover),
        'loss_curves': _curves('Nats per token at each evaluation.', methods, views.losses, hover),
        'accuracy_curves': _curves(_accuracy_text(views.accuracies), methods, views.accuracies, hover),
        'graphs': [(figures.pictures(figures.graph_sheet([graph]))[0], None) for graph in views.graphs],
    }
    return _template().render(
        title='Skill-It report: ' + (', '.join(names) if len(names) <= 6 else f'{len(names)} methods'),
        style=_text('page.css'),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        methods=[_summary(method) for method in methods[:MAX_PANELS]],
        notes=notes(methods),
        losses=_final_losses(methods, baseline),
        baseline=baseline,
        misses=_misses(methods),
        passes=_passes(methods),
        runs=[run for method in methods for run in method.runs],
        figure_data=hover.to_json(),
        **shown,
    )


def _template() -> Any:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        'breakable': _breakable,
        'deviation': deviation,
        'number': number,
        'with': format,
    }
    return environment.from_string(_text('page.html'))


def _text(name: str) -> str:
    return files('skillit_stream.report').joinpath(name).read_text(encoding='utf-8')


def _breakable(text: object) -> Markup:
    """Escaped text that may break within a path or a name of several words."""
    return Markup(re.sub('([_/])', r'\1<wbr>', str(escape(str(text)))))


def _summary(method: Method) -> str:
    """One line a method: its policy, seeds and size."""
    sizes = {
        f'{len(run.rounds):,} rounds, {run.rounds[-1].step:,} steps, {run.samples:,} samples'
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
    if any(cell is not None and cell.sd is not None for row in rows for cell in row.cells):
        text += ' Mean ± sample standard deviation over seeds.'
    if measured_skills(BITS, methods):
        text += ' Under it bits per byte, which can be compared across tokenizers.'
    if accuracy:
        text += f' In percent: the {LABELS[accuracy]}.'
    found = pairs(methods, baseline)
    return {
        'explanation': text,
        'columns': [f'{method.name} ({_seeds(len(method.runs))})' for method in methods],
        'rows': [
            (row.skill, 'mean' if row.skill == AVERAGE else '', _loss_cells(row, methods, accuracy))
            for row in shown
        ],
        'left_out': len(rows) - len(shown),
        'verdicts': verdicts(methods),
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
        fewer = '' if cell.n == len(method.runs) else f'of {_seeds(cell.n)}'
        bits = spread(method.finals(skills, BITS))
        right = spread(method.finals(skills, accuracy)) if accuracy else None
        remarks = [
            '; '.join(part for part in (mark, fewer) if part),
            f'{number(bits.mean)} bits per byte' if bits else '',
            f'{right.mean:.1%} right' if right else '',
        ]
        cells.append({'loss': str(cell), 'lowest': mark == LOWEST, 'remarks': remarks})
    return cells


def _seeds(n: int) -> str:
    return '1 seed' if n == 1 else f'{n} seeds'


def _mixture(methods: Sequence[Method], view: MixtureView, hover: figures.HoverData) -> dict[str, Any]:
    text = 'Proportions asked for; constant within a round.'
    if len(methods) > MAX_PANELS:
        text += f' The first {MAX_PANELS} of {len(methods)} methods.'
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


def _accuracy_text(panels: Sequence[LossPanel]) -> str:
    exact = any(panel.figure == 'exact_match' for panel in panels)
    text = 'Share of the answers that are right as a whole' if exact else 'Share of the tokens that are right'
    return f'{text}, at each evaluation.'


def _curves(
    text: str, methods: Sequence[Method], panels: Sequence[LossPanel], hover: figures.HoverData
) -> dict[str, Any] | None:
    """A row of panels over training, a line a method; None without panels."""
    if not panels:
        return None
    if any(len(method.runs) > 1 for method in methods):
        text += ' Lines: mean over seeds; bands: lowest to highest.'
    n_shown = sum(panel.title != AVERAGE for panel in panels)
    n_skills = len(measured_skills(panels[0].figure, methods))
    if n_shown < n_skills:
        text += f' The {n_shown} of {n_skills} eval skills on which the runs differ most.'
    if max(len(run.evaluations) for method in methods for run in method.runs) > MAX_POINTS:
        text += f' Of the evaluations {MAX_POINTS} are shown, evenly spaced.'
    drawn = zip(figures.pictures(figures.losses_sheet(panels, methods)), panels, strict=True)
    return {
        'explanation': text,
        'lines': [(method.name, line_look(index)) for index, method in enumerate(methods)],
        'pictures': [(picture, hover.add_curves(picture, panel)) for picture, panel in drawn],
    }


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
