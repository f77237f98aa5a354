"""Panels put together: PNG files, and single panels as SVG that takes the page's colours, with their numbers."""

import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import count
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from skillit_stream.mixture import SkillsGraph
from skillit_stream.report.drawing import (
    area_paint,
    draw_graph,
    draw_losses,
    draw_mixture,
    line_look,
    shorten,
)
from skillit_stream.report.methods import DIFFERENCE, Method
from skillit_stream.report.reach_drawing import draw_reaches, reach_handles, reach_size
from skillit_stream.report.views import (
    LossPanel,
    MixturePanel,
    MixtureView,
    ReachView,
    Views,
    rounded_together,
)

Draw = Callable[[Axes], None]

DPI = 144
REM_AN_INCH = 7.4
PNG_INK, PNG_PAPER = '#222222', '#FFFFFF'
# In SVG these two stand for the page's own colours, which are known only to the reader's browser.
SVG_INK, SVG_PAPER = '#0a0b0c', '#f0f1f2'
PANEL_SIZE = (4.6, 3.1)  # inches
LEGEND_WIDTH = 2.3  # inches for one of its names
# Smaller, so that its letters are larger where a page has room for three beside each other.
SVG_SIZE = (4.0, 2.9)
# Digits beyond what the page shows would only make it larger.
PROPORTION_DECIMALS, LOSS_DIGITS = 3, 5


@dataclass(frozen=True, slots=True)
class Picture:
    """An <svg> element, and where steps lie in it."""

    svg: str
    area: tuple[float, float, float, float]
    """Left, top, right and bottom of the axes, as fractions of width and height from the top left."""
    steps: tuple[float, float]
    """What stands at the left and right of the axes."""
    width: float
    """The most that it should take in a page, in rem: letters larger than the page's look odd."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Panels that belong together: a PNG file of them all, or a picture of each."""

    panels: Sequence[tuple[str, Draw]]
    """Each with a description for those who cannot see it."""
    handles: Sequence[Patch | Line2D] = ()
    """The legend of the PNG."""
    size: tuple[float, float] | None = None
    """Inches of a panel; None: what suits a curve."""


def png_files(views: Views, methods: Sequence[Method]) -> dict[str, bytes | None]:
    """The PNG files of a report by name; None for those of which there is nothing to draw."""
    sheets = {
        'mixture.png': mixture_sheet(views.mixture),
        'losses.png': losses_sheet(views.losses, methods) if views.losses else None,
        'difference.png': losses_sheet(views.differences, methods) if views.differences else None,
        'accuracy.png': losses_sheet(views.accuracies, methods) if views.accuracies else None,
        'reach.png': reach_sheet(views.reach) if views.reach else None,
        'graph.png': graph_sheet(views.graphs) if views.graphs else None,
    }
    return {name: sheet and png(sheet) for name, sheet in sheets.items()}


def mixture_sheet(view: MixtureView) -> Sheet:
    """All mixture panels, with one legend of areas."""
    handles = []
    for index, name in enumerate(view.areas):
        paint = area_paint(index, view)
        look = {'facecolor': paint.colour, 'edgecolor': PNG_PAPER, 'hatch': '///' if paint.hatched else None}
        handles.append(Patch(label=shorten(name, 30), **look))
    panels = [
        (f'mixture over training: {panel.title}', partial(draw_mixture, panel=panel, view=view))
        for panel in view.panels
    ]
    return Sheet(panels, handles)


def losses_sheet(panels: Sequence[LossPanel], methods: Sequence[Method]) -> Sheet:
    """All loss (or accuracy) panels, with one legend of methods."""
    handles = []
    for index, method in enumerate(methods):
        colour, style = line_look(index)
        handles.append(Line2D([], [], color=colour, linestyle=style, label=shorten(method.title, 44)))
    described = [
        (f'{_figure_name(panel.figure)} over training: {panel.title}', partial(draw_losses, panel=panel))
        for panel in panels
    ]
    return Sheet(described, handles)


def _figure_name(figure: str) -> str:
    return 'difference from the baseline' if figure == DIFFERENCE else figure.replace('_', ' ')


def reach_sheet(view: ReachView) -> Sheet:
    """The steps to the baseline's final loss, with a legend of the marks; the description holds all of them."""
    steps = '; '.join(f'{reach.method}: {reach}' for reach in view.reaches if reach.steps)
    title = f'step at which each method reaches the final loss of {view.baseline}: {steps}'
    return Sheet([(title, partial(draw_reaches, view=view))], reach_handles(PNG_INK), reach_size(view))


def graph_sheet(graphs: Sequence[tuple[str, SkillsGraph]]) -> Sheet:
    """All graphs as heat maps, each with room for its named rows and columns within what a page can show."""
    rows = max(len(graph.train_skills) for _, graph in graphs)
    columns = max(len(graph.eval_skills) for _, graph in graphs)
    # Numbers with a sign are wider.
    cell = 0.55 if any((graph.weights < 0).any() for _, graph in graphs) else 0.42
    size = min(10.0, max(4.0, 2.4 + cell * columns)), min(9.0, max(3.1, 1.9 + 0.3 * rows))
    panels = [
        (f'skills graph: {title}', partial(draw_graph, title=title, graph=graph)) for title, graph in graphs
    ]
    return Sheet(panels, size=size)


def png(sheet: Sheet) -> bytes:
    """Panels in a grid, the legend above them."""
    width, height = sheet.size or PANEL_SIZE
    most = 1 if width > 6 else 2 if len(sheet.panels) == 4 else 3
    columns = min(most, len(sheet.panels)) or 1
    rows = -(-len(sheet.panels) // columns) or 1
    legend_columns = min(len(sheet.handles), round(columns * width / LEGEND_WIDTH)) or 1
    legend_height = 0.3 * -(-len(sheet.handles) // legend_columns)
    with _figure((width * columns, height * rows + legend_height), ink=PNG_INK, paper=PNG_PAPER) as figure:
        for index, (_, draw) in enumerate(sheet.panels):
            draw(figure.add_subplot(rows, columns, index + 1))
        if sheet.handles:
            figure.legend(
                handles=list(sheet.handles), loc='outside upper center', ncols=legend_columns, frameon=False
            )
        return _saved(figure, 'png', facecolor=PNG_PAPER)


def pictures(sheet: Sheet) -> list[Picture]:
    """Each panel as an <svg> element without outside references, transparent, in the page's colours."""
    return [_picture(draw, description, sheet.size or SVG_SIZE) for description, draw in sheet.panels]


def _picture(draw: Draw, description: str, size: tuple[float, float]) -> Picture:
    with _figure(size, ink=SVG_INK, paper=SVG_PAPER) as figure:
        axes = figure.add_subplot()
        draw(axes)
        text = _saved(figure, 'svg', facecolor='none').decode()
    place, (first, last) = axes.get_position(), axes.get_xlim()  # the layout is settled by saving
    area = (place.x0, 1 - place.y1, place.x1, 1 - place.y0)
    return Picture(_inline(text, description), area, (first, last), REM_AN_INCH * size[0])


_serial = count(1)


def _inline(svg: str, description: str) -> str:
    """Make a whole SVG file fit for the inside of a page that holds several."""
    body = svg[svg.index('<svg') :]
    body = re.sub(r'<metadata>.*?</metadata>', '', body, flags=re.DOTALL)
    # A hundredth of a point cannot be seen, and takes half as many digits.
    body = re.sub(r'\bd="[^"]*"', lambda path: re.sub(r'(\.\d\d)\d+', r'\1', path[0]), body)
    # Every file numbers its elements alike; in one page the names must differ.
    prefix = f'f{next(_serial)}-'
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'url\(#', f'url(#{prefix}', body)
    body = re.sub(r'xlink:href="#', f'xlink:href="#{prefix}', body)
    body = body.replace(SVG_INK, 'currentColor').replace(SVG_PAPER, 'var(--paper)')
    return body.replace('<svg ', f'<svg role="img" aria-label="{escape(description)}" ', 1)


@contextmanager
def _figure(size: tuple[float, float], *, ink: str, paper: str) -> Iterator[Figure]:
    """A figure of so many inches; text, axes and ticks in `ink`; names are never read as formulas."""
    look: dict[Any, Any] = {
        'text.color': ink,
        'axes.labelcolor': ink,
        'axes.edgecolor': ink,
        'xtick.color': ink,
        'ytick.color': ink,
        'hatch.color': '#FFFFFF',
        'axes.facecolor': 'none',
        'axes.spines.top': False,
        'axes.spines.right': False,
        'axes.titlesize': 10,
        'font.family': 'sans-serif',
        'font.size': 9,
        'hatch.linewidth': 0.8,
        'image.interpolation': 'nearest',
        'lines.linewidth': 1.6,
        'svg.fonttype': 'none',
        'svg.hashsalt': 'skillit',
        'text.parse_math': False,
    }
    with mpl.rc_context(look):
        figure = Figure(figsize=size, layout='constrained', facecolor=paper)
        FigureCanvasAgg(figure)
        yield figure


def _saved(figure: Figure, kind: str, *, facecolor: str) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks still reads right in the page.
        warnings.filterwarnings('ignore', message='Glyph')
        metadata = {'Date': None} if kind == 'svg' else None
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor=facecolor, metadata=metadata)
    return buffer.getvalue()


class HoverData:
    """The numbers behind the pictures, for the page's script: hovering shows them, and one step in all panels.

    Panels are added in the order in which they stand in the page.

    A panel is ``{kind, area, steps, lines}``; a line is ``[place in the legend above, grid, values]``; a grid says
    at which steps the values are and in which round each lies. Most lines have their grid in common.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        self.methods = methods
        self.panels: list[dict[str, Any]] = []
        self._grids: dict[str, int] = {}

    def add_mixture(self, picture: Picture, panel: MixturePanel, method: int) -> int:
        """Add the mixture of a method; returns the panel's number.

        The values of a step are those of the round that ends there, or the mean over several where the view
        has put rounds together.
        """
        grid = self._grid(panel.edges[1:], method)
        shown = [rounded_together(row, PROPORTION_DECIMALS) for row in panel.proportions]
        lines = [
            [area, grid, [_finite(float(value)) for value in values]]
            for area, values in enumerate(np.transpose(shown))
        ]
        return self._add('mixture', picture, lines)

    def add_curves(self, picture: Picture, panel: LossPanel) -> int:
        """Add the losses (or accuracies) of all methods on a skill; returns the panel's number."""
        lines = [
            [
                method,
                self._grid(curve.steps, method),
                [_finite(float(f'{value:.{LOSS_DIGITS}g}')) for value in curve.mean],
            ]
            for method, curve in panel.curves
        ]
        return self._add(panel.figure, picture, lines)

    def to_json(self) -> str:
        """All panels as JSON that may stand in a page: no ``<`` can end the element early."""
        data = {'grids': [json.loads(grid) for grid in self._grids], 'panels': self.panels}
        return json.dumps(data, separators=(',', ':'), allow_nan=False).replace('<', '\\u003c')

    def _add(self, kind: str, picture: Picture, lines: list[list[Any]]) -> int:
        area = [round(edge, 4) for edge in picture.area]
        self.panels.append({'kind': kind, 'area': area, 'steps': picture.steps, 'lines': lines})
        return len(self.panels) - 1

    def _grid(self, steps: np.ndarray, method: int) -> int:
        """The number of a grid: steps, the round of each, and the first round there is."""
        runs = self.methods[method].runs
        # The first run that knows a step says which round it is, as it does for the mixture.
        rounds = {
            step: record.round
            for run in reversed(runs)
            for record in run.log.records
            for step in (*(one.step for one in record.within), record.step)
        }
        grid = {
            'first': runs[0].rounds[0].round,
            'steps': [int(step) for step in steps],
            'rounds': [rounds[int(step)] for step in steps],
        }
        return self._grids.setdefault(json.dumps(grid), len(self._grids))


def _finite(value: float) -> float | None:
    """JSON has no number for one that is not finite."""
    return value if np.isfinite(value) else None
