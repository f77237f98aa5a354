"""The training that `train.py` measures: streams, a model, Composer's Trainer with DataMixing, a clock.

Nothing but what a :class:`TrainingJob` names differs between two jobs: weights, samples and mixtures are the same.
"""

import gc
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import step_profile

SKILLS = ('prose', 'code', 'web', 'books', 'papers', 'questions', 'encyclopedia')
PER_SHARD = 1_024
DOCUMENT = 512  # mean number of tokens of a document; the last of the vocabulary ends it


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
        eval_samples: Of each skill in the evaluation.
    """

    model: dict[str, Any]
    seq_len: int
    batch: int
    rounds: int
    steps: int
    workers: int
    precision: str
    device: str
    eval_samples: int

    def describe(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingJob:
    """One way to train it.

    Attributes:
        name: In the table.
        kernels: A YAML's `kernels`; ``transformers``: the modules of transformers with PyTorch's SDPA, no more.
        attention: transformers' name of the attention; None: that of `kernels`.
        microbatch: Samples a forward pass, or ``auto``.
        backend: The one that SDPA takes, e.g. ``CUDNN_ATTENTION``; ``fastest``: the one measured to be; None: its own
            choice.
        mask_documents: Whether documents of a sample do not see each other.
        compile_config: Composer's, which compiles the model as a whole.
        profile: Whether one more step says where the time goes.
    """

    name: str
    kernels: str
    microbatch: int | str
    attention: str | None = None
    backend: str | None = None
    mask_documents: bool = False
    compile_config: dict[str, Any] | None = None
    profile: bool = False


def write_streams(folder: Path, setting: Setting) -> None:
    """A stream of made-up tokens for each skill, each from a tenth of the vocabulary of its own, in documents."""
    from streaming import MDSWriter

    vocabulary = setting.model['vocab_size']
    dtype = np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)
    # As many as are drawn if one skill took all: no sample is drawn twice.
    samples = (setting.rounds + 1) * setting.steps * setting.batch
    limit = PER_SHARD * (dtype.itemsize * setting.seq_len + 4)
    for number, skill in enumerate(SKILLS):
        rng = np.random.default_rng(number)
        low = number * vocabulary // 10
        columns = {'tokens': f'ndarray:{dtype.name}:{setting.seq_len}'}
        with MDSWriter(out=str(folder / skill), columns=columns, size_limit=limit) as writer:
            for _ in range(samples):
                row = rng.integers(low, low + vocabulary // 10, setting.seq_len).astype(dtype)
                row[rng.random(setting.seq_len) < 1 / DOCUMENT] = vocabulary - 1
                writer.write({'tokens': row})


def measure_job(folder: Path, setting: Setting, job: TrainingJob) -> dict[str, Any]:
    """Train, evaluate, and return figures, those of a step as lists over the steps after the first round.

    Returns:
        ``kernels``, what was taken, and ``microbatch``; ``seconds`` of each step, ``waiting`` seconds of it for data,
        ``first``, whether the mixture changed before it; ``losses`` of all steps, the first round's too; ``flops`` of a
        step; ``peak_flops`` of the device and ``peak_bytes`` allocated (None on a CPU); ``start``, seconds of the first
        step, compiling included; ``evaluation``, seconds of one of all skills, and ``evaluated``, its tokens;
        ``profile``, milliseconds of a step by what they went to, or None.
    """
    import torch
    from composer.callbacks.speed_monitor import get_gpu_flops_available

    from skillit_stream.training.closing import close

    gpu = setting.device == 'gpu'
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer, clock = _trainer(folder, setting, job)
    try:
        with _backend(job):
            trainer.fit()
            shape = torch.empty(setting.batch, setting.seq_len, device='meta')
            found = {
                'kernels': trainer.state.model.kernels.line(),
                'microbatch': trainer.state.device_train_microbatch_size,
                'flops': trainer.state.model.flops_per_batch({'tokens': shape}),
                'peak_flops': (get_gpu_flops_available(trainer.state) or None) if gpu else None,
                'peak_bytes': torch.cuda.max_memory_allocated() if gpu else None,
                'losses': [line['loss'] for line in clock.lines],
                'start': clock.lines[0]['seconds'],
                **clock.after_first_round(),
                **_evaluation(folder, setting, trainer),
            }
            # Last: what a profiler leaves behind slows down what comes after it.
            return found | {'profile': step_profile.of(trainer, setting.device) if job.profile else None}
    finally:
        close(trainer)
        # A package that is looked for in vain while it trains may keep the exception, and with it these frames.
        del trainer, clock


def release() -> None:
    """Forget what a job left on the GPU and in torch.compile, so that the next one starts as the first did."""
    import torch

    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _backend(job: TrainingJob) -> Any:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(getattr(SDPBackend, job.backend)) if job.backend else nullcontext()


def _trainer(folder: Path, setting: Setting, job: TrainingJob) -> tuple[Any, Any]:
    from composer import Trainer
    from torch.utils.data import DataLoader

    from skillit_stream import DataMixing, collate
    from skillit_stream.mixture import Schedule
    from skillit_stream.training.evaluation import token_data_spec

    model = _model(setting, job)
    loader = DataLoader(
        _dataset(folder, setting),
        batch_size=setting.batch,
        collate_fn=collate,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
        pin_memory=setting.device == 'gpu',
    )
    shares = [2.0**n for n in range(len(SKILLS))]
    # One round more than is timed.
    mixtures: list[dict[str, float]] = [
        dict(zip(SKILLS, np.roll(shares, n), strict=True)) for n in range(setting.rounds + 1)
    ]
    clock = clock_of(setting)
    end = setting.model['vocab_size'] - 1 if job.mask_documents else None
    trainer = Trainer(
        model=model,
        train_dataloader=token_data_spec(loader, end),
        optimizers=_optimizer(model, setting),
        algorithms=[DataMixing(Schedule(SKILLS, setting.rounds + 1, mixtures=mixtures))],
        callbacks=[clock],
        max_duration=f'{setting.rounds}ep',
        device=setting.device,
        precision=setting.precision,
        device_train_microbatch_size=job.microbatch,
        compile_config=job.compile_config,
        progress_bar=False,
        seed=17,
    )
    return trainer, clock


def _optimizer(model: Any, setting: Setting) -> Any:
    import torch

    return torch.optim.AdamW(model.parameters(), lr=3e-4, fused=setting.device == 'gpu')


def _model(setting: Setting, job: TrainingJob) -> Any:
    import torch
    from composer.utils import reproducibility

    from skillit_stream.training.config import ModelConfig
    from skillit_stream.training.kernels import Kernels, Machine, choose
    from skillit_stream.training.models import build_model
    from skillit_stream.training.skill_metrics import MeanSkillLoss

    reproducibility.seed_all(17)
    machine = Machine.here(setting.device, setting.precision)
    if job.kernels == 'transformers':
        kernels = Kernels('transformers', attention='sdpa')
    else:
        kernels = choose(job.kernels, setting.model['model_type'], machine)
    if job.attention:
        kernels = replace(kernels, attention=job.attention)
    tokenizer: Any = None
    # Made where it trains: a billion parameters take a minute to draw on a CPU.
    with torch.device('cuda' if setting.device == 'gpu' else 'cpu'):
        model = build_model(
            ModelConfig(config=dict(setting.model)),
            tokenizer,
            setting.model['vocab_size'],
            kernels=kernels,
        )
    metric = MeanSkillLoss(SKILLS)
    model.val_metrics = {type(metric).__name__: metric}
    return model


def _dataset(folder: Path, setting: Setting) -> Any:
    from streaming import Stream

    from skillit_stream import SkillStreamingDataset

    return SkillStreamingDataset(
        streams={skill: Stream(local=str(folder / skill)) for skill in SKILLS},
        round_size=setting.steps * setting.batch,
        batch_size=setting.batch,
    )


def _evaluation(folder: Path, setting: Setting, trainer: Any) -> dict[str, Any]:
    """Seconds of an evaluation of all skills in one pass, the second one, and its tokens."""
    from streaming import Stream

    from skillit_stream.loader.eval_streams import EvalStreams
    from skillit_stream.training.evaluation import skill_evaluator

    size = trainer.state.device_train_microbatch_size
    streams = EvalStreams({skill: Stream(local=str(folder / skill)) for skill in SKILLS})
    evaluator = skill_evaluator(streams, batch_size=size, samples_per_skill=setting.eval_samples)
    trainer.eval(evaluator)
    began = time.perf_counter()
    # Its metrics are read off the device at its end.
    trainer.eval(evaluator)
    seconds = time.perf_counter() - began
    return {'evaluation': seconds, 'evaluated': len(SKILLS) * setting.eval_samples * setting.seq_len}


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
                    'loss': float(state.total_loss_dict['loss/train/total']),
                }
            )
            self._ended = now

        def after_first_round(self) -> dict[str, list[Any]]:
            """Figures of the steps of later rounds, by name."""
            kept = self.lines[setting.steps :]
            return {name: [line[name] for line in kept] for name in self.lines[0]}

    return Clock()
