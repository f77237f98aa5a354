"""Branches in one process, one after the other, on the same streams and model.

A branch is a function of checkpoint, configuration, mixture, order and steps alone, whatever was trained before it: a
Trainer of its own loads the checkpoint, as one does that goes on with the run.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import monotonic
from typing import NamedTuple, cast

import torch
from composer import Callback, Trainer
from composer.core import State
from composer.loggers import Logger

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.mixture.trials import Branch
from skillit_stream.training.builders import build_material, device_parts
from skillit_stream.training.checked_run import check_run
from skillit_stream.training.closing import close
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.evaluation import ALL_SKILLS, half_evaluators
from skillit_stream.training.parts import build_algorithms
from skillit_stream.training.randomness import restore_randomness
from skillit_stream.training.resuming import take_optimizer_options
from skillit_stream.training.skill_metrics import LOSSES, MeanSkillLoss

TIMED_STEPS = 4


class Seconds(NamedTuple):
    """What a branch takes."""

    step: float
    rest: float
    """Loading and evaluating."""


class Branches:
    """Trains from one place of a run, again and again.

    Args:
        config: Of the run.
        checkpoint: Of the run.

    Raises:
        InputError: The streams do not fit, or the checkpoint cannot be loaded.
    """

    def __init__(self, config: TrainConfig, checkpoint: Path) -> None:
        run = check_run(config)
        self._config, self._checkpoint = config, checkpoint
        self._material = build_material(
            config, run.manifest, run.skills, run.eval_skills, orders=run.policy.sample_orders()
        )
        self._evaluators = half_evaluators(
            self._material.evaluator,
            samples_per_skill=config.eval_loader.samples_per_skill,
            document_end=self._material.document_end,
        )
        dataset = self._material.dataset
        with self._trainer() as trainer:
            time = trainer.state.timestamp
            self.step = int(time.batch)
            # A checkpoint inside a round: what is left of the round keeps its mixture, so branches begin after it.
            within = int(time.sample_in_epoch)
            self._place = dataset.state_dict(dataset.round_size if within else 0, True)
        streams = self._place['streams']
        self.drawn: dict[str, int] = {skill: streams[skill]['drawn'] for skill in dataset.skills}
        """Samples of each skill that the run has drawn by there."""
        self.sizes: dict[str, int] = dataset.pass_sizes
        self.present: dict[str, float] = dict(self._place['proportions'])
        """The mixture that the run would go on with."""
        self.shuffle_seed = int(self._place['shuffle_seed'])

    def losses(
        self,
        branch: Branch,
        *,
        after_step: Callable[[], None] = lambda: None,
        trained: Callable[[torch.nn.Module], None] = lambda _: None,
    ) -> dict[str, float]:
        """Losses after a branch, nats per token by eval skill.

        Args:
            branch: What to train, and what to evaluate.
            after_step: Called after each step.
            trained: Gets the model between training and evaluation.
        """
        with self._trainer() as trainer:
            # Only now: nothing of it is in the checkpoint.
            trainer.state.callbacks.append(_Steps(branch.steps, after_step))
            self._go_to(branch)
            trainer.state.dataset_resumption['train'] = True
            trainer.fit()
            trained(trainer.state.model)
            return self._evaluate(trainer, branch.half)

    def seconds(self, branch: Branch) -> Seconds:
        """Measured over a few steps, the first of which, as it also warms up, is left out."""
        times = [monotonic()]

        def note() -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(monotonic())

        few = Branch(**{**vars(branch), 'steps': min(branch.steps, TIMED_STEPS)})
        self.losses(few, after_step=note)
        lengths = [end - begin for begin, end in pairwise(times)]
        step = median(lengths[1:] or lengths)
        return Seconds(step, max(monotonic() - times[0] - few.steps * step, 0.0))

    def _go_to(self, branch: Branch) -> None:
        """The place of the run in its data, with the branch's mixture and order."""
        mixtures = {'proportions': branch.mixture, 'next_proportions': branch.mixture}
        self._material.dataset.load_state_dict(
            {**self._place, **mixtures, 'shuffle_seed': branch.shuffle_seed}
        )

    @contextmanager
    def _trainer(self) -> Iterator[Trainer]:
        parts = device_parts(self._config, self._material)
        options = dict(parts['optimizers'].param_groups[0])
        with as_input_error(
            'Composer refused the checkpoint', OSError, ImportError, RuntimeError, AssertionError
        ):
            trainer = Trainer(
                **parts,
                # The schedule is that of the run: a branch is stopped before its end.
                max_duration=self._config.max_duration,
                algorithms=build_algorithms(self._config.algorithms, sharded=False),
                load_path=str(self._checkpoint),
                run_name=self._config.run_name,
                progress_bar=False,
                log_to_console=False,
            )
        try:
            # As a run that goes on does.
            take_optimizer_options(trainer, options, batch_size=self._material.dataset.global_batch_size)
            restore_randomness(trainer)
            yield trainer
        finally:
            close(trainer)
            del trainer, parts
            gc.collect()

    def _evaluate(self, trainer: Trainer, half: int) -> dict[str, float]:
        trainer.eval(self._evaluators[half])
        metric = trainer.state.eval_metrics[ALL_SKILLS][MeanSkillLoss.__name__]
        losses = cast(MeanSkillLoss, metric).by_skill()[LOSSES]
        for skill, loss in losses.items():
            if not torch.isfinite(torch.tensor(loss)):
                raise InputError(
                    f'The loss of {skill!r} is {loss} after a branch: the run diverges there, or its eval samples have '
                    f'no target token; fork an earlier checkpoint, or leave it out of eval_loader.skills.'
                )
        return losses


class _Steps(Callback):
    """Ends a branch after so many steps."""

    def __init__(self, steps: int, after_step: Callable[[], None]) -> None:
        self._left, self._after_step = steps, after_step

    def batch_end(self, state: State, logger: Logger) -> None:
        """One step is done."""
        del logger
        self._left -= 1
        self._after_step()
        if not self._left:
            state.stop_training()
