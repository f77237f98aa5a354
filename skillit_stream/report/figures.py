"""Panels put together: PNG files, and single panels as SVG that takes the page's colours."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from skillit_stream.report.methods import Method
from skillit_stream.report.panels import area_paint, draw_graph, draw_losses, draw_mixture, line_look, shorten
from skillit_stream.report.reach import ReachView
from skillit_stream.report.reach_panel import draw_reaches, reach_handles, reach_size
from skillit_stream.report.run_folder import Graph
from skillit_stream.report.views import LossPanel, MixtureView

Draw = Callable[[Axes], None]

DPI = 144
REM_AN_INCH = 7.4
PNG_INK, PNG_PAPER = '#222222', '#FFFFFF'
# In SVG these two stand for the page's own colours, which are known only to the reader's browser.
SVG_INK, SVG_PAPER = '#0a0b0c', '#f0f1f2'
PANEL_SIZE = (4.6, 3.1)  # inches
LEGEND_WIDTH = 2.3  # inches for one of its names
SVG_SIZE = (
    4.0,
    2.9,
)  # smaller, so that its letters are larger where a page has room for three beside each other


@dataclass(frozen=True, slots=True)
class Picture:
    """An <svg> element, and where steps lie in it."""

    svg: str
    area: tuple[float, float, float, float]
    """Left, top, right and bottom of the axes, as shares of width and height from the top left."""
    steps: tuple[float, float]
    """What stands at the left and right of the axes."""
    width: float
    """The most that it should take in a page, in rem: letters larger than the page's look odd."""


def mixture_png(view: MixtureView) -> bytes:
    """All mixture panels with one legend."""
    handles = []
    for index, name in enumerate(view.areas):
        paint = area_paint(index, view)
        look = {'facecolor': paint.colour, 'edgecolor': PNG_PAPER, 'hatch': '///' if paint.hatched else None}
        handles.append(Patch(label=shorten(name, 30), **look))
    draws = [
        lambda axes, panel=panel: draw_mixture(axes, panel, view, paper=PNG_PAPER) for panel in view.panels
    ]
    return _png(draws, handles)


def mixture_pictures(view: MixtureView) -> list[Picture]:
    """One picture a mixture panel."""
    draws = [
        lambda axes, panel=panel: draw_mixture(axes, panel, view, paper=SVG_PAPER) for panel in view.panels
    ]
    titles = [f'mixture over training: {panel.title}' for panel in view.panels]
    return [_picture(draw, title) for draw, title in zip(draws, titles, strict=True)]


def losses_png(panels: Sequence[LossPanel], methods: Sequence[Method]) -> bytes:
    """All loss panels with one legend of methods."""
    handles = []
    for index, method in enumerate(methods):
        colour, style = line_look(index)
        handles.append(Line2D([], [], color=colour, linestyle=style, label=shorten(method.title, 44)))
    return _png([lambda axes, panel=panel: draw_losses(axes, panel) for panel in panels], handles)


def losses_pictures(panels: Sequence[LossPanel]) -> list[Picture]:
    """One picture a loss (or accuracy) panel."""
    return [
        _picture(
            lambda axes, panel=panel: draw_losses(axes, panel),
            f'{panel.figure.replace("_", " ")} over training: {panel.title}',
        )
        for panel in panels
    ]


def reach_png(view: ReachView) -> bytes:
    """The steps to the baseline's final loss, with a legend of the marks."""
    return _png([lambda axes: draw_reaches(axes, view)], reach_handles(PNG_INK), size=reach_size(view))


def reach_picture(view: ReachView) -> Picture:
    """The steps to the baseline's final loss; who cannot see it is told all of it."""
    told = '; '.join(f'{reach.method}: {reach}' for reach in view.reaches if reach.steps)
    title = f'step at which each method reaches the final loss of {view.baseline}: {told}'
    return _picture(lambda axes: draw_reaches(axes, view), title, size=reach_size(view))


def graph_png(graphs: Sequence[tuple[str, Graph]]) -> bytes:
    """All graphs as heat maps."""
    draws = [lambda axes, title=title, graph=graph: draw_graph(axes, title, graph) for title, graph in graphs]
    return _png(draws, [], size=graph_size(graphs))


def graph_pictures(graphs: Sequence[tuple[str, Graph]]) -> list[Picture]:
    """One picture a graph."""
    return [
        _picture(
            lambda axes, title=title, graph=graph: draw_graph(axes, title, graph),
            f'skills graph: {title}',
            size=size,
        )
        for title, graph in graphs
        for size in [graph_size([(title, graph)])]
    ]


def graph_size(graphs: Sequence[tuple[str, Graph]]) -> tuple[float, float]:
    """Inches that give each named row and column room, within what a page can show."""
    rows = max(len(graph.train_skills) for _, graph in graphs)
    columns = max(len(graph.eval_skills) for _, graph in graphs)
    return min(10.0, max(4.0, 2.4 + 0.42 * columns)), min(9.0, max(3.1, 1.9 + 0.3 * rows))


def _png(draws: Sequence[Draw], handles: Sequence, *, size: tuple[float, float] = PANEL_SIZE) -> bytes:
    """Panels in a grid, the legend above them."""
    most = 1 if size[0] > 6 else 2 if len(draws) == 4 else 3
    columns = min(most, len(draws)) or 1
    rows = -(-len(draws) // columns) or 1
    legend_columns = min(len(handles), round(columns * size[0] / LEGEND_WIDTH)) or 1
    legend_height = 0.3 * -(-len(handles) // legend_columns)
    with _look(PNG_INK):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows + legend_height), layout='constrained')
        FigureCanvasAgg(figure)
        for index, draw in enumerate(draws):
            draw(figure.add_subplot(rows, columns, index + 1))
        if handles:
            figure.legend(
                handles=list(handles), loc='outside upper center', ncols=legend_columns, frameon=False
            )
        return _saved(figure, 'png', facecolor=PNG_PAPER)


def _picture(draw: Draw, title: str, *, size: tuple[float, float] = SVG_SIZE) -> Picture:
    """One panel as an <svg> element without outside references, transparent, in the page's colours."""
    with _look(SVG_INK):
        figure = Figure(figsize=size, layout='constrained')
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw(axes)
        text = _saved(figure, 'svg', facecolor='none').decode()
    place, (first, last) = axes.get_position(), axes.get_xlim()  # the layout is settled by saving
    area = (place.x0, 1 - place.y1, place.x1, 1 - place.y0)
    return Picture(_inline(text, title), area, (first, last), REM_AN_INCH * size[0])


_serial = count(1)


def _inline(svg: str, title: str) -> str:
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
    label = title.replace('&', '&amp;').replace('<', '&lt;').replace('"', '&quot;')
    return body.replace('<svg ', f'<svg role="img" aria-label="{label}" ', 1)


@contextmanager
def _look(ink: str) -> Iterator[None]:
    """Text, axes and ticks in `ink`; names are never read as formulas."""
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
        yield


def _saved(figure: Figure, kind: str, *, facecolor: str) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks still reads right in the page.
        warnings.filterwarnings('ignore', message='Glyph')
        metadata = {'Date': None} if kind == 'svg' else None
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor=facecolor, metadata=metadata)
    return buffer.getvalue()
