"""What the steps of a round come to: their mean loss, the last learning rate, the tokens."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from skillit_stream.formats.run_log import Trained


@dataclass
class TrainedSteps:
    """Adds up the steps of a round."""

    steps: int = 0
    loss: float = 0.0
    """Their sum, nats per token."""
    learning_rate: float = 0.0
    tokens: int = 0

    def reset(self) -> None:
        """Begin a round."""
        self.load_state_dict(asdict(TrainedSteps()))

    def add(self, loss: float, learning_rate: float, tokens: int) -> None:
        """Add a step: the loss of its batch in nats per token, its learning rate, the tokens of all ranks."""
        self.steps += 1
        self.loss += loss
        self.learning_rate = learning_rate
        self.tokens += tokens

    def trained(self) -> Trained | None:
        """What the steps come to; None without a step."""
        if not self.steps:
            return None
        return Trained(loss=self.loss / self.steps, learning_rate=self.learning_rate, tokens=self.tokens)

    def state_dict(self) -> dict[str, Any]:
        """The sums in plain Python."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        for field in fields(self):
            setattr(self, field.name, state[field.name])
