"""The training that `train.py` measures: streams, a model, Composer's Trainer with DataMixing, a clock.

Nothing but the kernels differs between two jobs: weights, samples and mixtures are the same.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SKILLS = ('prose', 'code', 'web')
PER_SHARD = 1_024


@dataclass(frozen=True)
class Setting:
    """What is trained, and for how long.

    Attributes:
        model: transformers' configuration of a Llama.
        seq_len: Tokens in a sample.
        batch: Samples in a step.
        rounds: Rounds; the first one warms up and is not measured.
        steps: Steps in a round.
        workers: DataLoader workers.
        precision: Composer's.
        device: ``gpu`` or ``cpu``.
    """

    model: dict[str, Any]
    seq_len: int
    batch: int
    rounds: int
    steps: int
    workers: int
    precision: str
    device: str

    def describe(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def write_streams(folder: Path, setting: Setting) -> None:
    """A stream of made-up tokens for each skill, each from a tenth of the vocabulary of its own."""
    from streaming import MDSWriter

    vocabulary = setting.model['vocab_size']
    dtype = np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)
    # As many as are drawn if one skill took all: no sample is drawn twice.
    samples = setting.rounds * setting.steps * setting.batch
    limit = PER_SHARD * (dtype.itemsize * setting.seq_len + 4)
    for number, skill in enumerate(SKILLS):
        rng = np.random.default_rng(number)
        low = number * vocabulary // 10
        columns = {'tokens': f'ndarray:{dtype.name}:{setting.seq_len}'}
        with MDSWriter(out=str(folder / skill), columns=columns, size_limit=limit) as writer:
            for _ in range(samples):
                row = rng.integers(low, low + vocabulary // 10, setting.seq_len).astype(dtype)
                writer.write({'tokens': row})


def measure_job(folder: Path, setting: Setting, job: tuple[str, int]) -> dict[str, Any]:
    """Train and return figures, those of a step as lists over the steps after the first round.

    Returns:
        ``kernels``, what was taken; ``seconds`` of each step, ``waiting`` seconds of it for data, ``first``, whether
        the mixture changed before it; ``flops`` of a step; ``peak_flops`` of the device and ``peak_bytes`` allocated
        (None on a CPU); ``losses`` of the steps.
    """
    import torch
    from composer.callbacks.speed_monitor import get_gpu_flops_available

    trainer, clock = _trainer(folder, setting, *job)
    gpu = setting.device == 'gpu'
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer.fit()
        model: Any = trainer.state.model
        shape = torch.empty(setting.batch, setting.seq_len, device='meta')
        return {
            'kernels': model.kernels.line(),
            'flops': model.flops_per_batch({'tokens': shape}),
            'peak_flops': (get_gpu_flops_available(trainer.state) or None) if gpu else None,
            'peak_bytes': torch.cuda.max_memory_allocated() if gpu else None,
            **clock.after_first_round(),
        }
    finally:
        trainer.close()


def _trainer(folder: Path, setting: Setting, kernels: str, microbatch: int) -> tuple[Any, Any]:
    import torch
    from composer import Trainer
    from composer.utils import reproducibility
    from torch.utils.data import DataLoader

    from skillit_stream import DataMixing, collate
    from skillit_stream.mixture import Schedule
    from skillit_stream.training.config import ModelConfig
    from skillit_stream.training.evaluation import token_data_spec
    from skillit_stream.training.kernels import Machine
    from skillit_stream.training.models import build_model

    reproducibility.seed_all(17)
    tokenizer: Any = None
    model = build_model(
        ModelConfig(config=dict(setting.model)),
        tokenizer,
        setting.model['vocab_size'],
        kernels=kernels,
        machine=Machine.here(setting.device, setting.precision),
    )
    loader = DataLoader(
        _dataset(folder, setting),
        batch_size=setting.batch,
        collate_fn=collate,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
        pin_memory=setting.device == 'gpu',
    )
    mixtures: list[dict[str, float]] = [
        dict(zip(SKILLS, np.roll([1.0, 2.0, 5.0], n), strict=True)) for n in range(setting.rounds)
    ]
    clock = clock_of(setting)
    trainer = Trainer(
        model=model,
        train_dataloader=token_data_spec(loader),
        optimizers=torch.optim.AdamW(model.parameters(), lr=3e-4, fused=setting.device == 'gpu'),
        algorithms=[DataMixing(Schedule(SKILLS, setting.rounds, mixtures=mixtures))],
        callbacks=[clock],
        max_duration=f'{setting.rounds}ep',
        device=setting.device,
        precision=setting.precision,
        device_train_microbatch_size=microbatch,
        progress_bar=False,
        seed=17,
    )
    return trainer, clock


def _dataset(folder: Path, setting: Setting) -> Any:
    from streaming import Stream

    from skillit_stream import SkillStreamingDataset

    return SkillStreamingDataset(
        streams={skill: Stream(local=str(folder / skill)) for skill in SKILLS},
        round_size=setting.steps * setting.batch,
        batch_size=setting.batch,
    )


def clock_of(setting: Setting) -> Any:
    """A Composer callback that times steps, from the end of one to the end of the next.

    What lies between two rounds, the change of the mixture, so counts in the first step of a round. Composer reads
    the loss off the device at the end of every step: while a step waits for data, the device does nothing else.
    """
    from composer.core import Callback, State
    from composer.loggers import Logger

    class Clock(Callback):
        def __init__(self) -> None:
            self.lines: list[dict[str, Any]] = []
            self._ended = self._asked = time.perf_counter()
            self._waited = 0.0

        def before_dataloader(self, state: State, logger: Logger) -> None:
            del state, logger
            self._asked = time.perf_counter()

        def after_dataloader(self, state: State, logger: Logger) -> None:
            del state, logger
            self._waited = time.perf_counter() - self._asked

        def batch_end(self, state: State, logger: Logger) -> None:
            del logger
            now = time.perf_counter()
            # Composer has counted this step already.
            number = int(state.timestamp.batch) - 1
            self.lines.append(
                {
                    'seconds': now - self._ended,
                    'waiting': self._waited,
                    'first': number % setting.steps == 0,
                    'losses': float(state.total_loss_dict['loss/train/total']),
                }
            )
            self._ended = now

        def after_first_round(self) -> dict[str, list[Any]]:
            """Figures of the steps of later rounds, by name."""
            kept = self.lines[setting.steps :]
            return {name: [line[name] for line in kept] for name in self.lines[0]}

    return Clock()
