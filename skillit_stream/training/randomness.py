"""The random numbers of dropout after a resume inside a round, which Composer leaves as they come."""

from composer import Trainer
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import reproducibility


def restore_randomness(trainer: Trainer) -> None:
    """Go on with the checkpoint's random numbers, also inside a round; call it before `fit`.

    Composer restores them where a round begins. Inside one it does so while it spins the loader forward, which a
    dataset that finds its place by itself spares it. They are restored when the loader has begun to iterate, which
    draws a number itself. Without a checkpoint nothing happens. Ranks that the checkpoint does not know keep theirs,
    and Composer warns of it.
    """
    if int(trainer.state.timestamp.batch_in_epoch):
        trainer.state.callbacks.append(_Restore(trainer))


class _Restore(Callback):
    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def before_dataloader(self, state: State, logger: Logger) -> None:
        """The loader iterates; nothing of the first batch is there."""
        del state, logger
        # Composer's own name: None from then on.
        random_numbers, self._trainer._rng_state = self._trainer._rng_state, None
        if random_numbers is not None:
            reproducibility.load_rng_state(random_numbers)
