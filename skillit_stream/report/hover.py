"""The numbers behind the figures, for the page's script: hovering shows them, and one step in all panels."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from skillit_stream.report.figures import Picture
from skillit_stream.report.methods import Method
from skillit_stream.report.views import LossPanel, MixturePanel

# Digits beyond what the page shows would only make it larger.
SHARE_DECIMALS, LOSS_DIGITS = 4, 5


class HoverData:
    """Collects panels, in the order in which they stand in the page.

    A panel is ``{kind, area, steps, lines}``; a line is ``[place in the legend above, grid, values]``; a grid says
    at which steps the values are and in which round each lies. Lines mostly share their grids.
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
        lines = [
            [area, grid, [_finite(round(float(share), SHARE_DECIMALS)) for share in shares]]
            for area, shares in enumerate(panel.shares.T)
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
