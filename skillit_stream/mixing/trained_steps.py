"""What the steps of a round come to: their mean loss, the last learning rate, the tokens."""

from collections.abc import Mapping
from typing import Any

from skillit_stream.formats.run_log import Trained


class TrainedSteps:
    """Adds up the steps of a round."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a round."""
        self._steps, self._loss, self._learning_rate, self._tokens = 0, 0.0, 0.0, 0

    def add(self, loss: float, learning_rate: float, tokens: int) -> None:
        """Add a step: the loss of its batch in nats per token, its learning rate, the tokens of all ranks."""
        self._steps += 1
        self._loss += loss
        self._learning_rate = learning_rate
        self._tokens += tokens

    def trained(self) -> Trained | None:
        """What the steps come to; None without a step."""
        if not self._steps:
            return None
        return Trained(loss=self._loss / self._steps, learning_rate=self._learning_rate, tokens=self._tokens)

    def state_dict(self) -> dict[str, Any]:
        """The sums in plain Python."""
        return {
            'steps': self._steps,
            'loss': self._loss,
            'learning_rate': self._learning_rate,
            'tokens': self._tokens,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self._steps, self._tokens = int(state['steps']), int(state['tokens'])
        self._loss, self._learning_rate = float(state['loss']), float(state['learning_rate'])
