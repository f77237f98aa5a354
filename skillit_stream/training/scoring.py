"""The loss of one model on every sample of the train streams, saved beside them for curricula over samples.

A stream is scored in parts of a few shards. Finished parts are kept, so a pass that was stopped goes on where
it was, and several processes or machines share one.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composer import Trainer
from composer.core import get_precision_context
from composer.utils import get_device, reproducibility
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.files import write_array, write_json
from skillit_stream.base.tasks import Task
from skillit_stream.formats.sample_losses import (
    ABOUT,
    losses_folder,
    save_losses,
)
from skillit_stream.loader.batches import IGNORE_INDEX, causal_lm_inputs, collate
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.order.index import ShardList
from skillit_stream.training.checkpoints import checkpoint_at
from skillit_stream.training.closing import close
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.kernels import Machine
from skillit_stream.training.models import build_model, weights_hash
from skillit_stream.training.run_policy import chosen_skills
from skillit_stream.training.streams_folder import (
    document_end_of,
    load_manifest,
    load_tokenizer,
    open_streams,
    stream_folders,
)

PART = 1 << 16
PARTS = 'parts'
MODEL_INPUTS = ('input_ids', 'attention_mask', 'position_ids')


@dataclass(frozen=True, eq=False)
class ScoredPart:
    """Some shards of a stream in a row."""

    skill: str
    number: int
    first: int
    """Sample id of its first sample, among those of all streams."""
    samples: int


@dataclass(frozen=True, eq=False)
class _Scored:
    """A stream and where its losses go."""

    folder: Path
    shards: ShardList
    parts: list[ScoredPart]

    def part_file(self, part: ScoredPart) -> Path:
        return self.folder / PARTS / f'{part.number:06d}.npy'


class ScoringPass:
    """The losses of one model on the samples of all train streams.

    Args:
        config: Of a training run; its model, weights (`load_path`), precision and batch sizes count: passes are of
            `eval_loader.batch_size` samples, of a training microbatch, or of a step, and of half as many where a GPU's
            memory does not hold them.
        name: Of the losses.
        overwrite: Whether losses of that name are thrown away first.

    Raises:
        InputError: Something in the configuration or the streams does not fit, or there are losses of that
            name of another model or of other shards.
    """

    def __init__(self, config: TrainConfig, name: str, *, overwrite: bool = False) -> None:
        manifest = load_manifest(config)
        skills, _ = chosen_skills(config, manifest)
        self._config = config
        self._device = get_device(config.device)
        # As when a run is built: the same seed gives the same weights.
        reproducibility.seed_all(config.seed)
        tokenizer = load_tokenizer(config)
        self._document_end = document_end_of(config, tokenizer)
        self._model = build_model(
            config.model,
            tokenizer,
            manifest.vocab_size,
            kernels=config.kernels,
            machine=Machine.here(config.device, config.precision, sharded=config.fsdp_config is not None),
        )
        if config.load_path:
            config.load_path = checkpoint_at(config.load_path)
            with as_input_error('Composer refused the checkpoint', OSError, RuntimeError):
                close(Trainer(model=self._model, load_path=config.load_path, load_weights_only=True))
        self._weights = weights_hash(self._model.state_dict())
        self._model = self._device.module_to_device(self._model).eval()
        self._streams = EvalStreams(open_streams(config, manifest, skills, 'train'))
        self._folder = stream_folders(config)
        step, fits = config.global_train_batch_size, config.device_train_microbatch_size
        self._batch = config.eval_loader.batch_size or (min(fits, step) if isinstance(fits, int) else step)
        self.streams = {skill: self._stream(skill, name) for skill in skills}
        for skill, stream in self.streams.items():
            if overwrite and stream.folder.exists():
                shutil.rmtree(stream.folder)
            self._check(skill, stream)

    def _stream(self, skill: str, name: str) -> _Scored:
        streams, number = self._streams, self._streams.skills.index(skill)
        shards, first = streams.shard_lists[skill], int(streams.sample_offset_per_stream[number])
        folder = losses_folder(self._folder(skill) / 'train', name)
        return _Scored(folder, shards, list(cut_into_parts(skill, shards.sizes, first)))

    def _check(self, skill: str, stream: _Scored) -> None:
        """Refuse losses of something else; what is there of these is kept."""
        signature = {'weights': self._weights, 'stream': stream.shards.digest()}
        for file in (stream.folder / ABOUT, stream.folder / PARTS / ABOUT):
            if not file.exists():
                continue
            there = json.loads(file.read_bytes())
            for key, what in (('weights', 'another model'), ('stream', 'other shards')):
                if there.get(key) != signature[key]:
                    raise InputError(
                        f'The losses of skill {skill} at {stream.folder} are of {what}: pass another --name, or '
                        f'--overwrite to take them anew.'
                    )
        if not self.is_done(skill):
            (stream.folder / PARTS).mkdir(parents=True, exist_ok=True)
            write_json(stream.folder / PARTS / ABOUT, signature)

    def is_done(self, skill: str) -> bool:
        """Whether the losses of a skill are whole."""
        return (self.streams[skill].folder / ABOUT).exists()

    def parts(self) -> list[ScoredPart]:
        """All of the work: the same list for every task, whatever is done already."""
        return [part for stream in self.streams.values() for part in stream.parts]

    def is_missing(self, part: ScoredPart) -> bool:
        """Whether nobody has done a part yet."""
        return not self.is_done(part.skill) and not self.streams[part.skill].part_file(part).exists()

    def do_share(self, task: Task) -> None:
        """Score what is missing of a task's parts."""
        self.do([part for part in task.share(self.parts()) if self.is_missing(part)])

    def do(self, parts: list[ScoredPart]) -> None:
        """Score parts, each saved when it is done, with a bar of samples on a terminal."""
        with tqdm(total=sum(part.samples for part in parts), unit=' samples', disable=None) as bar:
            for part in parts:
                batches = []
                for found in self._passes(range(part.first, part.first + part.samples)):
                    batches.append(found)
                    bar.update(len(found))
                # Fetched once a part: a GPU does not wait for the host after each batch.
                losses = torch.cat(batches).cpu().numpy()
                if not np.isfinite(losses).all():
                    worst = int(np.flatnonzero(~np.isfinite(losses))[0])
                    raise InputError(
                        f'The loss on sample {part.first + worst} ({part.skill}) is {losses[worst]}: the model or '
                        f'`precision` is not fit for it.'
                    )
                write_array(self.streams[part.skill].part_file(part), losses)

    def finish(self) -> list[str]:
        """Put together the losses of the skills whose parts are all there; returns those that lack some."""
        lacking = {part.skill for part in self.parts() if self.is_missing(part)}
        for skill, stream in self.streams.items():
            if skill in lacking or self.is_done(skill):
                continue
            losses = np.concatenate([np.load(stream.part_file(part)) for part in stream.parts])
            about = {'skill': skill, 'weights': self._weights, 'load_path': self._config.load_path}
            save_losses(
                stream.folder, losses, stream.shards.sizes, stream=stream.shards.digest(), about=about
            )
            shutil.rmtree(stream.folder / PARTS, ignore_errors=True)
        return sorted(lacking)

    def _passes(self, ids: range) -> Iterator[torch.Tensor]:
        """Their losses, batch by batch, of half the size from where a GPU's memory does not hold one."""
        while ids:
            now, losses = ids[: self._batch], None
            with suppress(torch.OutOfMemoryError):
                losses = self._losses(now)
            if losses is not None:
                yield losses
                ids = ids[len(now) :]
            elif len(now) == 1:
                raise InputError(
                    f'The memory of the {self._device.name} does not hold a pass over one sample.'
                )
            else:
                self._batch = len(now) // 2

    def _losses(self, ids: range) -> torch.Tensor:
        """Mean loss over each sample's target tokens, in nats; float32 [samples], on the model's device."""
        samples: list[Any] = list(self._streams.samples_by_id(np.array(ids, np.int64)))
        batch = self._device.batch_to_device(
            causal_lm_inputs(collate(samples), document_end=self._document_end)
        )
        inputs = {name: value for name, value in batch.items() if name in MODEL_INPUTS}
        with torch.no_grad(), get_precision_context(self._config.precision):
            logits = self._model.model(**inputs).logits[:, :-1].float()
        targets = batch['labels'][:, 1:]
        losses = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction='none'
        ).view_as(targets)
        # A sample without a target teaches nothing: it counts as the easiest.
        targets_of = (targets != IGNORE_INDEX).sum(dim=1).clamp(min=1)
        return (losses.double().sum(dim=1) / targets_of).float()


def cut_into_parts(skill: str, sizes: NDArray[np.int64], first: int) -> Iterator[ScoredPart]:
    """Parts of whole shards, each of at least `PART` samples but the last."""
    number = samples = 0
    for size in sizes.tolist():
        samples += size
        if samples >= PART:
            yield ScoredPart(skill, number, first, samples)
            number, first, samples = number + 1, first + samples, 0
    if samples:
        yield ScoredPart(skill, number, first, samples)
