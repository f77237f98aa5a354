"""Draw the steps at which methods reach the final loss of a baseline: a row a method, a dot a seed."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from skillit_stream.report.panels import line_look, shorten
from skillit_stream.report.reach import Reach, ReachView

GUTTER = 0.16  # of the steps: the room at the right for seeds that do not reach it
ROW_HEIGHT = (0.34, 0.6)  # inches: of few seeds, of many
SPREAD = 0.3  # rows above and below its middle that the dots of a method take
FEW_SEEDS = 5


def reach_size(view: ReachView) -> tuple[float, float]:
    """Inches that give every method a row, and its seeds room beside each other."""
    least, most = ROW_HEIGHT
    return 6.0, 1.2 + len(view.reaches) * min(most, max(least, 0.2 + 0.04 * _most_seeds(view)))


def _most_seeds(view: ReachView) -> int:
    return max(len(reach.steps) for reach in view.reaches)


def draw_reaches(axes: Axes, view: ReachView) -> None:
    """Draw a row a method, the first at the top; seeds that never reach the loss are open dots in the gutter."""
    end = max(view.last_step, 1)
    left, right = -0.03 * end, (1.02 + GUTTER) * end
    axes.axvspan(1.03 * end, right, color=axes.xaxis.label.get_color(), alpha=0.07, linewidth=0)
    dot = 5.0 if _most_seeds(view) <= FEW_SEEDS else 3.6
    for row, reach in enumerate(view.reaches):
        _draw_row(axes, row, reach, end=end, dot=dot)
    axes.text(
        (1.03 * end + right) / 2,
        1.0,
        'never',
        transform=axes.get_xaxis_transform(),
        ha='center',
        va='bottom',
        fontsize=8,
    )
    names = [
        shorten(reach.method) + (' (baseline)' if reach.method == view.baseline else '')
        for reach in view.reaches
    ]
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis='y', length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left, right)
    ticks = MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(0, end)
    axes.set_xticks([tick for tick in ticks if 0 <= tick <= end])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f'{step:,.0f}'))
    axes.set_xlabel(f'step at which the final mean loss of {shorten(view.baseline, 30)} is reached')
    axes.grid(visible=True, axis='x', alpha=0.25)


def _draw_row(axes: Axes, row: int, reach: Reach, *, end: int, dot: float) -> None:
    colour, _ = line_look(row)
    seeds = len(reach.steps)
    heights = _spaced(row - SPREAD, row + SPREAD, seeds)
    if reach.reached:
        mean = float(np.mean(reach.reached))
        axes.plot([mean, mean], [row - 0.42, row + 0.42], color=colour, linewidth=2.2, alpha=0.55)
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
        )
    axes.annotate(
        _said(reach),
        (1.0, row),
        xycoords=('axes fraction', 'data'),
        xytext=(5, 0),
        textcoords='offset points',
        va='center',
        fontsize=8,
    )


def _spaced(low: float, high: float, count: int) -> np.ndarray:
    """So many places at equal distances: float64 of length count; one stands in the middle."""
    return np.linspace(low, high, count) if count > 1 else np.full(count, (low + high) / 2)


def _said(reach: Reach) -> str:
    """The mean, and of how many seeds where it is not of all."""
    if not reach.steps:
        return 'no seed in common'
    if not reach.reached:
        return f'0 of {len(reach.steps)}'
    every = len(reach.reached) == len(reach.steps)
    return f'{np.mean(reach.reached):,.0f}' + (
        '' if every else f' ({len(reach.reached)} of {len(reach.steps)})'
    )


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
