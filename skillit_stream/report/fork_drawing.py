"""Draw what a fork has found: how the mixture moves, and the gain beside its noise; narrow enough for a phone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from skillit_stream.report.drawing import LINE_COLOURS, shorten
from skillit_stream.report.figures import Sheet

WIDTH = 4.0  # inches, as wide as a curve
NAME = -0.28  # rows from the middle of its row to the line of its name
MARK = 0.12  # rows from the middle of its row to its marks
HEIGHT = (0.8, 0.5)  # inches: of axis and title, of a row


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A row of the figure of gains, nats per token."""

    name: str
    low: float
    mean: float
    high: float
    parts: Sequence[float] = ()
    """What the mean is of."""


def moves_sheet(skills: Sequence[str], present: np.ndarray, chosen: np.ndarray) -> Sheet:
    """Proportions float64 ``[k]`` before and after, a row a skill; the description holds them all."""
    told = '; '.join(
        f'{skill}: from {one:.4f} to {other:.4f}'
        for skill, one, other in zip(skills, present, chosen, strict=True)
    )
    draw = partial(_draw_moves, skills=skills, present=present, chosen=chosen)
    return Sheet([(f'proportion, present and chosen: {told}', draw)], size=_size(len(skills)))


def gains_sheet(gains: Sequence[Gain]) -> Sheet:
    """Gains with their intervals, a row each; the description holds them all."""
    told = '; '.join(f'{one.name}: {one.mean:.4f}, from {one.low:.4f} to {one.high:.4f}' for one in gains)
    draw = partial(_draw_gains, gains=gains)
    return Sheet([(f'gain with its 95 % interval: {told}', draw)], size=_size(len(gains)))


def _size(rows: int) -> tuple[float, float]:
    axis, each = HEIGHT
    return WIDTH, axis + each * rows


def _draw_moves(axes: Axes, skills: Sequence[str], present: np.ndarray, chosen: np.ndarray) -> None:
    for row, (skill, before, after) in enumerate(zip(skills, present, chosen, strict=True)):
        _name_row(axes, row, f'{shorten(skill, 28)}: {before:.3f} → {after:.3f}')
        colour = LINE_COLOURS[0] if after >= before else LINE_COLOURS[1]
        axes.plot([before, after], [row + MARK] * 2, color=colour)
        axes.plot([before], [row + MARK], 'o', markerfacecolor='none', color=colour, markersize=6)
        axes.plot([after], [row + MARK], 'o', color=colour, markersize=6)
    axes.set_xlim(-0.02, max(float(present.max()), float(chosen.max())) * 1.05 + 0.02)
    axes.set_xlabel('proportion (open: present, filled: chosen)')
    _finish(axes, len(skills))


def _draw_gains(axes: Axes, gains: Sequence[Gain]) -> None:
    for row, (gain, colour) in enumerate(zip(gains, LINE_COLOURS, strict=False)):
        _name_row(axes, row, gain.name)
        axes.plot([0, 0], [row - 0.1, row + 0.45], color=axes.xaxis.label.get_color(), linewidth=1)
        axes.plot([gain.low, gain.high], [row + MARK] * 2, color=colour, linewidth=2.4)
        axes.plot([gain.mean], [row + MARK], 'o', color=colour, markersize=6)
        axes.plot(gain.parts, [row + MARK + 0.22] * len(gain.parts), '|', color=colour, markersize=7)
    axes.set_xlabel('nats per token lower')
    _finish(axes, len(gains))


def _name_row(axes: Axes, row: int, name: str) -> None:
    axes.text(0.0, row + NAME, name, transform=axes.get_yaxis_transform(), va='center', fontsize=8.5)
    if row:
        axes.axhline(row - 0.5, color=axes.xaxis.label.get_color(), alpha=0.15, linewidth=0.8)


def _finish(axes: Axes, rows: int) -> None:
    axes.set_yticks([])
    axes.spines['left'].set_visible(False)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.grid(visible=True, axis='x', alpha=0.25)
