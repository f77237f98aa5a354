"""A training session from start to end."""

import sys
import warnings

from composer.utils import dist

from skillit_stream.base.errors import InputError
from skillit_stream.training.builders import build_run
from skillit_stream.training.config import TrainConfig


def fit(config: TrainConfig) -> None:
    """Build the run, evaluate once if its policy has no memory of these skills, train to `max_duration`."""
    run = build_run(config)
    if run.finished:
        if dist.get_global_rank() == 0:
            steps = int(run.trainer.state.timestamp.batch)
            print(
                f'{config.save_folder} is finished: {steps:,} steps, max_duration={config.max_duration}; a longer one '
                'goes on with it.',
                file=sys.stderr,
            )
        run.trainer.close()
        return
    if config.eval_loader.before_training and not run.evaluated:
        run.trainer.eval()
        end, now = run.trainer.state.max_duration, run.trainer.state.timestamp.batch
        # Composer's way to stop.
        if end is not None and end.unit == now.unit and end <= now:
            raise InputError(
                'A stopper of `callbacks` ended the run in the evaluation before its first step: what it watches for '
                'is there already; correct it, or pass eval_loader.before_training=false.'
            )
    with warnings.catch_warnings():
        # A checkpoint at the very end of a round, from a run whose length is in steps: the round has no batch left.
        warnings.filterwarnings('ignore', message='No batches were trained')
        run.trainer.fit()
    # Not after an error: closing waits for all ranks, and a rank that failed must end, so that the
    # launcher ends the others.
    run.trainer.close()
