"""What the last evaluations have measured, and after which batch."""

from collections.abc import Mapping
from typing import Any

Figures = dict[str, dict[str, float]]
"""What else an evaluation measured: figure, of ``run_log.FIGURES``, -> eval skill -> value."""


def plain_figures(figures: Figures | None) -> dict[str, Any]:
    """Figures as a line of the log takes them."""
    return {name: dict(values) for name, values in (figures or {}).items()}


class SeenLosses:
    """Losses by eval skill with the batch that they are of, and the other figures of the newest evaluation."""

    def __init__(self) -> None:
        # Eval skill -> (batch of its evaluation, loss): an older evaluation is not this round's.
        self._seen: dict[str, tuple[int, float]] = {}
        self._figures: Figures = {}

    def note(self, batch: int, losses: Mapping[str, float], figures: Figures | None = None) -> None:
        """Note what an evaluation after `batch` measured; without `figures` those known before stay."""
        self._seen |= {skill: (batch, loss) for skill, loss in losses.items()}
        if figures is not None:
            self._figures = figures

    def at(self, batch: int) -> dict[str, float]:
        """Losses measured at a batch, by eval skill."""
        return {skill: loss for skill, (seen, loss) in self._seen.items() if seen == batch}

    def figures_of(self, losses: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """What was measured along with these losses."""
        figures = {
            name: {skill: value for skill, value in values.items() if skill in losses}
            for name, values in self._figures.items()
        }
        return {name: values for name, values in figures.items() if values}

    def state_dict(self) -> dict[str, Any]:
        """The state in plain Python."""
        return {
            'losses': {skill: list(entry) for skill, entry in self._seen.items()},
            'figures': self._figures,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; one without figures is of before there were any."""
        self._seen = {skill: (int(batch), float(loss)) for skill, (batch, loss) in state['losses'].items()}
        self._figures = dict(state.get('figures', {}))
