"""Draw one panel onto given axes: a mixture, a loss, or a graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_warnings import edges_within_noise
from skillit_stream.report.methods import DIFFERENCE, LOSS, PASSES, ROUND_FIGURES, TRAIN_LOSS
from skillit_stream.report.views import LossPanel, MixturePanel, MixtureView, rounded_together

# Okabe and Ito's palette, told apart with every common colour vision; beyond its length patterns join in.
# In this order neighbours stay furthest apart for those who do not see red or green (a test computes how far).
AREA_COLOURS = ('#0072B2', '#009E73', '#E69F00', '#56B4E9', '#D55E00', '#CC79A7', '#F0E442')
LINE_COLOURS = ('#0072B2', '#D55E00', '#CC79A7', '#E69F00', '#009E73', '#56B4E9', '#7F7F7F')
LineStyle = Literal['-', '--', '-.', ':']
LINE_STYLES: tuple[LineStyle, ...] = ('-', '--', '-.', ':')
OTHER_COLOUR = '#9A9A9A'
LABEL_LENGTH = 22
MAX_OUTLINED = 40  # rounds up to which wide lines part the areas; of more, lines would cover them
MAX_NUMBERED = 12  # rows or columns up to which each weight is written into its cell
MAX_CELLS = 200  # weights along a side of the graph; a screen shows no more
MAX_TICKS = 40  # names along a side of the graph
# Cells of edges within their noise: hollow, so that their colour carries no weight.
HOLLOW: dict[str, Any] = {'facecolor': 'white', 'edgecolor': '0.35', 'linestyle': (0, (3, 2)), 'linewidth': 1}
STEP_TICKS = (1, 2, 2.5, 5, 10)
LABELS = {
    LOSS: 'nats per token',
    DIFFERENCE: 'nats per token',
    **{figure: figure for figure in (*ROUND_FIGURES, PASSES)},
    TRAIN_LOSS: 'nats per token',
    'exact_match': 'part of answers right',
    'accuracy': 'part of tokens right',
}
FROM_ZERO = (*(figure for figure in ROUND_FIGURES if figure != TRAIN_LOSS), PASSES)


@dataclass(frozen=True, slots=True)
class Paint:
    """How an area is filled."""

    colour: str
    hatched: bool


def is_other(index: int, view: MixtureView) -> bool:
    """Whether area `index` sums the smaller skills."""
    return view.other and index == len(view.areas) - 1


def area_paint(index: int, view: MixtureView) -> Paint:
    """The fill of area `index`: the same in every panel and in the legend."""
    if is_other(index, view):
        return Paint(OTHER_COLOUR, hatched=False)
    return Paint(AREA_COLOURS[index % len(AREA_COLOURS)], hatched=index >= len(AREA_COLOURS))


def line_look(index: int) -> tuple[str, LineStyle]:
    """Colour and line style of method `index`."""
    return LINE_COLOURS[index % len(LINE_COLOURS)], LINE_STYLES[index % len(LINE_STYLES)]


def shorten(name: str, length: int = LABEL_LENGTH) -> str:
    """A name cut in its middle, where long skill names differ least."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f'{name[:head]}…{name[head + 1 - length :]}'


def draw_mixture(axes: Axes, panel: MixturePanel, view: MixtureView) -> None:
    """Draw proportions over training as stacked areas that are flat within a round.

    Args:
        axes: Where to draw; the lines between areas have the colour of the figure behind them.
        panel: Proportions of one method.
        view: The view the panel belongs to, for colours and names.
    """
    tops = np.vstack(
        [np.zeros(len(panel.proportions)), np.cumsum(panel.proportions.T, axis=0)]
    )  # areas + 1, spans
    tops = np.hstack([tops, tops[:, -1:]])
    names = _short_names(view)
    ends = rounded_together(panel.proportions[-1], decimals=2)
    for index, name in enumerate(names):
        paint = area_paint(index, view)
        axes.fill_between(
            panel.edges,
            tops[index],
            tops[index + 1],
            step='post',
            facecolor=paint.colour,
            edgecolor=axes.figure.get_facecolor(),
            linewidth=0.6 if len(panel.proportions) <= MAX_OUTLINED else 0.2,
            hatch='///' if paint.hatched else None,
        )
        middle = (tops[index, -1] + tops[index + 1, -1]) / 2
        if panel.proportions[-1, index] >= 0.06:  # less would put one label over the next
            label = f'{name} {ends[index]:.2f}'.lstrip()
            _write_at_the_right(axes, label, float(middle))
    axes.set_title(shorten(panel.title, 48))
    axes.set_xlim(panel.edges[0], panel.edges[-1] if panel.edges[-1] > panel.edges[0] else panel.edges[0] + 1)
    axes.set_ylim(0, 1)
    _step_axis(axes)
    axes.set_ylabel('proportion')


def _write_at_the_right(axes: Axes, text: str, y: float) -> None:
    """Small text beside the axes."""
    axes.annotate(
        text,
        (1.0, y),
        xycoords=('axes fraction', 'data'),
        xytext=(4, 0),
        textcoords='offset points',
        va='center',
        fontsize=8,
    )


def _short_names(view: MixtureView) -> list[str]:
    """A name for the end of each area; none where names cut to fit would read alike (the legend has them)."""
    names = ['other' if is_other(index, view) else shorten(name, 16) for index, name in enumerate(view.areas)]
    return names if len(set(names)) == len(names) else [''] * len(names)


def draw_losses(axes: Axes, panel: LossPanel, *, marker: str | None = None) -> None:
    """Draw one eval skill: a line per method, and the range over its seeds as a band; accuracies from 0 to 1.

    Losses above the panel's top are cut off: the axes fit what comes after the first steep fall.
    """
    values = np.concatenate([np.concatenate([curve.low, curve.high]) for _, curve in panel.curves])
    positive = values[np.isfinite(values) & (values > 0)]
    floor = positive.min() if panel.log else -np.inf  # a loss of exactly 0 sits on the bottom line
    for index, curve in panel.curves:
        colour, style = line_look(index)
        dots = marker or ('o' if len(curve.steps) <= 25 else None)
        axes.plot(
            curve.steps,
            np.maximum(curve.mean, floor),
            color=colour,
            linestyle=style,
            marker=dots,
            markersize=2.5,
        )
        if np.any(curve.high > curve.low):
            low, high = np.maximum(curve.low, floor), np.maximum(curve.high, floor)
            axes.fill_between(curve.steps, low, high, color=colour, alpha=0.18, linewidth=0)
    if panel.log:
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f'{loss:g}'))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(shorten(panel.title, 40))
    if panel.top is not None:
        low = float(positive.min() if panel.log else values[np.isfinite(values)].min())
        margin = (panel.top / low) ** 0.05 if panel.log else 0.05 * (panel.top - low)
        axes.set_ylim(
            *((low / margin, panel.top * margin) if panel.log else (low - margin, panel.top + margin))
        )
    _step_axis(axes)
    axes.set_ylabel(LABELS[panel.figure] + (' (log)' if panel.log else ''))
    if panel.figure in (TRAIN_LOSS, *FROM_ZERO):
        # Of rounds, whose first value is where the first of them ends.
        axes.set_xlim(left=0)
    if panel.figure in FROM_ZERO:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain_number(value)))
    elif panel.figure not in (LOSS, DIFFERENCE, TRAIN_LOSS):
        axes.set_ylim(-0.02, 1.02)
    axes.grid(visible=True, alpha=0.25)


def _plain_number(value: float) -> str:
    return f'{value:,.0f}' if value >= 1000 else f'{value:g}'


def _step_axis(axes: Axes) -> None:
    axes.set_xlabel('step')
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=STEP_TICKS))
    axes.xaxis.set_major_formatter('{x:,.0f}')


def draw_graph(axes: Axes, title: str, graph: SkillsGraph) -> None:
    """Draw a skills graph as a heat map, with numbers where they can be read.

    A graph with negative weights gets a scale that is symmetric around 0. Edges within their noise are hollow; what
    the short runs started from stands below the title.
    """
    weights = coarsened(graph.weights)
    finite = weights[np.isfinite(weights)]
    top = float(np.abs(finite).max()) if finite.size and np.abs(finite).max() > 0 else 1.0
    signed = bool((finite < 0).any())
    norm = Normalize(-top if signed else 0.0, top)
    cmap = colormaps['PuOr' if signed else 'Blues']
    rows, columns = graph.weights.shape
    image = axes.imshow(
        weights, norm=norm, cmap=cmap, aspect='auto', extent=(-0.5, columns - 0.5, rows - 0.5, -0.5)
    )
    _name_ticks(axes, graph.train_skills, graph.eval_skills)
    # Weights of both signs are effects, of which none is left out.
    noise = graph.measured.within_noise if signed and graph.measured else edges_within_noise(graph)
    uncertain = noise & (weights is graph.weights)
    for row, column in np.argwhere(uncertain):
        axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, **HOLLOW))
    if max(rows, columns) <= MAX_NUMBERED:
        for (row, column), weight in np.ndenumerate(weights):
            red, green, blue, _ = cmap(norm(weight))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 and not uncertain[row, column]
            axes.text(
                column,
                row,
                f'{weight:.3g}',
                ha='center',
                va='center',
                color='white' if dark else 'black',
                fontsize=8,
            )
    heading = shorten(title, 48) + ('' if weights is graph.weights else ' (averages of neighbours)')
    axes.set_title('\n'.join([heading, *_learned_from(graph, hollow=bool(uncertain.any()))]))
    axes.set_ylabel('trained on')
    axes.set_xlabel('helps the loss on')
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046)
    bar.ax.tick_params(labelsize='small')
    bar.outline.set_visible(False)  # type: ignore[operator]


def _learned_from(graph: SkillsGraph, *, hollow: bool) -> list[str]:
    """Lines below the title: what the short runs started from, and what hollow cells are."""
    start = graph.measured.start if graph.measured else None
    lines = [f'start: {shorten(start.words, 48)}'] if start else []
    return [*lines, 'hollow: within its noise'] if hollow else lines


def coarsened(weights: np.ndarray) -> np.ndarray:
    """Weights averaged over blocks where there are more than `MAX_CELLS` along a side, else as they are."""
    for axis in (0, 1):
        length = weights.shape[axis]
        if length > MAX_CELLS:
            starts = np.linspace(0, length, MAX_CELLS, endpoint=False).astype(np.int64)
            shape = (-1, 1) if axis == 0 else (1, -1)
            counts = np.diff(np.append(starts, length)).reshape(shape)
            weights = np.add.reduceat(weights, starts, axis=axis) / counts
    return weights


def _name_ticks(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    for axis, names in ((axes.yaxis, rows), (axes.xaxis, columns)):
        places = range(0, len(names), max(1, -(-len(names) // MAX_TICKS)))
        axis.set_ticks(list(places), [shorten(names[place]) for place in places])
    crowded = len(columns) > 6 or any(len(name) > 8 for name in columns)
    small = 7 if max(len(rows), len(columns)) > MAX_NUMBERED else 8
    axes.tick_params(axis='x', rotation=90 if crowded else 0, labelsize=small)
    axes.tick_params(axis='y', labelsize=small)
