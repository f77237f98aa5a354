"""The end of a Trainer in a process that goes on: nothing of it may stay on the GPU."""

import atexit

from composer import Trainer


def close(trainer: Trainer) -> None:
    """Close it, and have Composer forget it.

    Composer closes every Trainer once more when the process ends, and holds it until then: with its model, and an
    optimizer's moments of twice the model's size. Of many Trainers one after the other each would leave as much.
    """
    trainer.close()
    atexit.unregister(trainer.engine._close)
