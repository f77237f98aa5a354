"""Draw the steps to a baseline's loss: a row a method, narrow enough for a phone."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from skillit_stream.report.comparison import Reach
from skillit_stream.report.drawing import STEP_TICKS, line_look, shorten
from skillit_stream.report.methods import plural
from skillit_stream.report.views import ReachView

WIDTH = 4.0  # inches, as wide as a curve
GUTTER = 0.16  # of the steps: the room at the right for seeds that do not reach it
ROW_HEIGHT = (0.5, 0.8)  # inches: of few seeds, of many
NAME = -0.28  # rows from the middle of its row to the line of a method's name
SPREAD = (-0.02, 0.4)  # rows from the middle of its row that the dots of a method take
FEW_SEEDS = 5


def reach_size(view: ReachView) -> tuple[float, float]:
    """Inches that give every method a line for its name, and its seeds room below it."""
    least, most = ROW_HEIGHT
    return WIDTH, 0.9 + len(view.reaches) * min(most, max(least, 0.3 + 0.04 * _most_seeds(view)))


def _most_seeds(view: ReachView) -> int:
    return max(len(reach.steps) for reach in view.reaches)


def draw_reaches(axes: Axes, view: ReachView) -> None:
    """Draw a row a method, the first at the top; seeds that never reach the loss are open dots in the gutter."""
    end = max(view.last_step, 1)
    left, right = -0.03 * end, (1.02 + GUTTER) * end
    ink = axes.xaxis.label.get_color()
    axes.axvspan(1.03 * end, right, color=ink, alpha=0.07, linewidth=0)
    dot = 5.0 if _most_seeds(view) <= FEW_SEEDS else 3.6
    for row, reach in enumerate(view.reaches):
        _draw_row(axes, row, reach, end=end, dot=dot)
        named = shorten(reach.method, 30) + (' (baseline)' if reach.method == view.baseline else '')
        axes.text(left, row + NAME, f'{named}: {_row_label(reach)}', va='center', fontsize=8.5)
        if row:
            axes.axhline(row - 0.5, color=ink, alpha=0.15, linewidth=0.8)
    axes.text(
        (1.03 * end + right) / 2,
        1.0,
        'never',
        transform=axes.get_xaxis_transform(),
        ha='center',
        va='bottom',
        fontsize=8,
    )
    axes.set_yticks([])
    axes.spines['left'].set_visible(False)
    axes.set_ylim(len(view.reaches) - 0.5, -0.5)
    axes.set_xlim(left, right)
    ticks = MaxNLocator(4, integer=True, steps=STEP_TICKS).tick_values(0, end)
    axes.set_xticks([tick for tick in ticks if 0 <= tick <= end])
    axes.xaxis.set_major_formatter('{x:,.0f}')
    axes.set_xlabel('step')
    axes.grid(visible=True, axis='x', alpha=0.25)


def _draw_row(axes: Axes, row: int, reach: Reach, *, end: int, dot: float) -> None:
    colour, _ = line_look(row)
    seeds = len(reach.steps)
    heights = _spaced(row + SPREAD[0], row + SPREAD[1], seeds)
    if reach.reached:
        mean = float(np.mean(reach.reached))
        axes.plot([mean, mean], [row - 0.1, row + 0.48], color=colour, linewidth=2.2, alpha=0.55)
    # In the gutter too each seed has a place of its own.
    places = _spaced(1.06, 0.99 + GUTTER, seeds)
    for step, height, place in zip(reach.steps, heights, places, strict=True):
        axes.plot(
            [place * end if step is None else step],
            [height],
            marker='o',
            markersize=dot,
            markerfacecolor='none' if step is None else colour,
            markeredgecolor=colour,
            markeredgewidth=1.1,
            clip_on=False,
            gid='seed',
        )


def _spaced(low: float, high: float, count: int) -> np.ndarray:
    """So many places at equal distances: float64 of length count; one stands in the middle."""
    return np.linspace(low, high, count) if count > 1 else np.full(count, (low + high) / 2)


def _row_label(reach: Reach) -> str:
    """The mean step, and of how many seeds where it is not of all."""
    if not reach.steps:
        return 'no seed in common'
    if not reach.reached:
        return f'never, on {plural(len(reach.steps), "seed")}'
    every = len(reach.reached) == len(reach.steps)
    where = '' if every else f' ({len(reach.reached)} of {plural(len(reach.steps), "seed")})'
    return f'step {np.mean(reach.reached):,.0f}{where}'


def reach_handles(ink: str) -> list[Line2D]:
    """A legend of the marks, in no method's colour."""
    dot = {'color': ink, 'marker': 'o', 'linestyle': 'none', 'markersize': 5}
    return [
        Line2D([], [], label='a seed', **dot),
        Line2D(
            [],
            [],
            label='mean of those that reach it',
            color=ink,
            marker='|',
            linestyle='none',
            markersize=11,
        ),
        Line2D([], [], label='never', **{**dot, 'markerfacecolor': 'none'}),
    ]
