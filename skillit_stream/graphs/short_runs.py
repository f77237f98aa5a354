"""Short training runs in one process, all from the same weights, each a Trainer of its own.

Tokenizer, model, streams and evaluator are made once; the starting weights stay in memory and are copied back
before every run. A run is a function of configuration, steps and skills alone, whatever ran before it: the
dataset goes back to its first sample, optimizer and schedule are new, the seed is set again.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from time import monotonic
from typing import Any, cast

import torch
from composer import Callback, Trainer
from composer.core import State
from composer.loggers import Logger

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.mixture.graph_formulas import Mix
from skillit_stream.training.builders import build_material, device_parts
from skillit_stream.training.closing import close
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.evaluation import ALL_SKILLS
from skillit_stream.training.models import weights_hash
from skillit_stream.training.run_policy import chosen_skills, stream_groups
from skillit_stream.training.skill_metrics import LOSSES, MeanSkillLoss
from skillit_stream.training.streams_folder import load_manifest

TIMED_STEPS = 6


class ShortRuns:
    """Trains and evaluates from the same weights again and again.

    Args:
        config: Of a training run. Its `load_path`, if any, gives the weights; what it says of duration,
            mixture, checkpoints, callbacks and loggers plays no part. The schedule spans the steps of a run.

    Raises:
        InputError: Something in the configuration or the streams does not fit.
    """

    def __init__(self, config: TrainConfig) -> None:
        manifest = load_manifest(config)
        self._config = config
        skills, eval_skills = chosen_skills(config, manifest)
        self._streams = stream_groups(config, skills)
        self._material = build_material(config, manifest, skills, eval_skills)
        self._first_sample = self._material.dataset.state_dict(0, True)
        if config.load_path:
            with self._trainer(1, load_path=config.load_path, load_weights_only=True):
                pass
        state = self._material.model.state_dict()
        self._weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def weights_hash(self) -> str:
        """Of the starting weights."""
        return weights_hash(self._weights)

    def losses_before(self) -> dict[str, float]:
        """Losses of the starting weights, nats per token by eval skill."""
        self._restore(None)
        with self._trainer(1) as trainer:
            return self._evaluate(trainer)

    def losses_after(
        self,
        mix: Mix,
        steps: int,
        *,
        shuffle_seed: int | None = None,
        after_step: Callable[[], None] = lambda: None,
        trained: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Losses after so many steps on equal proportions of the skills, nats per token by eval skill.

        The streams of a skill that is a group have equal proportions of its own.

        Args:
            mix: The skills.
            steps: Of the optimizer.
            shuffle_seed: Of the order of the samples; None: the configuration's.
            after_step: Called after each of them.
            trained: Called between training and evaluation.
        """
        self._restore(mix, shuffle_seed)
        with self._trainer(steps, callbacks=[_AfterStep(after_step)]) as trainer:
            trainer.fit()
            trained()
            return self._evaluate(trainer)

    def seconds_per_step(self, mix: Mix, steps: int) -> float:
        """Measured over a few steps, the first one, which also warms up, left out where there are more."""
        times = [monotonic()]

        def note() -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(monotonic())

        self._restore(mix)
        with self._trainer(min(steps, TIMED_STEPS), callbacks=[_AfterStep(note)]) as trainer:
            times[0] = monotonic()
            trainer.fit()
        lengths = [end - begin for begin, end in pairwise(times)]
        return median(lengths[1:] or lengths)

    def _restore(self, mix: Mix | None, shuffle_seed: int | None = None) -> None:
        """Back to the starting weights and the first sample, with the mixture and the order of the run to come."""
        self._material.model.load_state_dict(self._weights)
        if mix is not None:
            even = dict.fromkeys(self._material.dataset.skills, 0.0)
            for skill in mix:
                streams = self._streams[skill]
                even |= dict.fromkeys(streams, 1.0 / (len(mix) * len(streams)))
            state = {**self._first_sample, 'proportions': even, 'next_proportions': even}
            if shuffle_seed is not None:
                state['shuffle_seed'] = shuffle_seed
            self._material.dataset.load_state_dict(state)

    @contextmanager
    def _trainer(self, steps: int, **options: Any) -> Iterator[Trainer]:
        parts = device_parts(self._config, self._material)
        with as_input_error('Composer refused the run', OSError, ImportError, RuntimeError, AssertionError):
            trainer = Trainer(
                **parts,
                max_duration=f'{steps}ba',
                run_name=self._config.run_name,
                progress_bar=False,
                log_to_console=False,
                **options,
            )
        try:
            yield trainer
        finally:
            # Also ends the loader's workers, which may be ahead in the round that is about to start over.
            close(trainer)
            del trainer, parts
            gc.collect()

    def _evaluate(self, trainer: Trainer) -> dict[str, float]:
        trainer.eval(self._material.evaluator)
        metric = trainer.state.eval_metrics[ALL_SKILLS][MeanSkillLoss.__name__]
        losses = cast(MeanSkillLoss, metric).by_skill()[LOSSES]
        for skill, loss in losses.items():
            if not torch.isfinite(torch.tensor(loss)):
                raise InputError(f'The loss of {skill!r} has become {loss}: lower `optimizer.lr`.')
        return losses


class _AfterStep(Callback):
    """Calls a function after every step."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def batch_end(self, state: State, logger: Logger) -> None:
        """One step is done."""
        del state, logger
        self._call()
