"""One Evaluator per eval skill, all over one StreamingDataset of the eval splits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from composer.core import DataSpec, Evaluator
from composer.utils import dist
from streaming import Stream, StreamingDataset
from torch.utils.data import DataLoader, Dataset

from skillit_stream.streams.batches import IGNORE_INDEX, Sample, causal_lm_inputs, collate, samples_of
from skillit_stream.streams.cache import separate_connections
from skillit_stream.streams.checks import naming_bad_index
from skillit_stream.streams.hygiene import own_prefix
from skillit_stream.streams.index import ShardIndex, quick_construction
from skillit_stream.streams.shards import BatchReader, common_dtype


class EvalStreams:
    """The eval streams of all skills: shards, cache and shared memory of one StreamingDataset.

    Args:
        streams: Skill -> Stream of its eval split.
        **kwargs: For the StreamingDataset, e.g. ``cache_limit``.
    """

    def __init__(self, streams: Mapping[str, Stream], **kwargs: Any) -> None:
        with quick_construction(), own_prefix(), naming_bad_index(streams):
            self.dataset = StreamingDataset(
                streams=list(streams.values()), batch_size=1, shuffle=False, **kwargs
            )
        separate_connections(self.dataset.streams)
        self.skills = tuple(streams)
        offsets = self.dataset.shard_offset_per_stream
        shards = {skill: self.dataset.shards[at] for skill, at in zip(self.skills, offsets, strict=True)}
        dtype = common_dtype(shards)
        self._reader = dtype and BatchReader(
            self.dataset.shards, dtype=dtype, prepare=self.dataset.prepare_shard
        )

    def skill(self, name: str) -> 'SkillSamples':
        """The eval samples of one skill."""
        number = self.skills.index(name)
        first = int(self.dataset.sample_offset_per_stream[number])
        return SkillSamples(self, first, int(self.dataset.samples_per_stream[number]))

    def samples(self, ids: Sequence[int]) -> list[Sample] | list[dict[str, Any]]:
        """Samples by id, gathered as one batch where their columns allow it."""
        if self._reader is None:
            return [self.dataset.get_item(sample_id) for sample_id in ids]
        index = self.dataset.spanner
        if not isinstance(index, ShardIndex):
            raise RuntimeError('Internal error: StreamingDataset was built without the binary search index.')
        return list(samples_of(self._reader.read(*index.locate(np.asarray(ids, np.int64)))))


class SkillSamples(Dataset):
    """A map-style view of one skill's eval samples, so that each is seen exactly once over all ranks."""

    def __init__(self, streams: EvalStreams, first: int, length: int) -> None:
        self._streams = streams
        self._first = first
        self._length = length

    def __len__(self) -> int:
        """Samples of the skill."""
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A batch of samples."""
        return list(self._streams.samples([self._first + index for index in indices]))


def build_evaluators(
    streams: EvalStreams,
    *,
    batch_size: int,
    metric_names: Sequence[str],
    eval_interval: str = '1ep',
    subset_num_batches: int = -1,
) -> list[Evaluator]:
    """An Evaluator per skill, labelled with its name.

    Args:
        streams: Their samples.
        batch_size: Samples a rank and batch.
        metric_names: Metrics of the model to compute.
        eval_interval: When they run, a time string.
        subset_num_batches: Batches to evaluate on; -1: all.
    """
    evaluators = []
    for skill in streams.skills:
        samples = streams.skill(skill)
        loader = DataLoader(
            samples,
            batch_size=batch_size,
            sampler=dist.get_sampler(samples, shuffle=False, drop_last=False),
            collate_fn=collate,
        )
        evaluators.append(
            Evaluator(
                label=skill,
                dataloader=token_data_spec(loader),
                metric_names=list(metric_names),
                eval_interval=eval_interval,
                subset_num_batches=min(subset_num_batches, len(loader)),
                device_eval_microbatch_size=batch_size,
            )
        )
    return evaluators


def token_data_spec(loader: DataLoader) -> DataSpec:
    """A loader of token streams as Composer takes it: widened on the device, tokens counted."""
    return DataSpec(
        loader,
        microbatch_transforms=causal_lm_inputs,
        split_batch=_split_rows,
        get_num_tokens_in_batch=_tokens_in,
    )


def _tokens_in(batch: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Tokens of a batch, and how many of them are targets (a sample's first never is), widened or not."""
    if 'labels' in batch:
        total, targets = batch['labels'].numel(), int((batch['labels'][:, 1:] != IGNORE_INDEX).sum())
    else:
        total = batch['tokens'].numel()
        without_first = total - len(batch['tokens'])
        targets = int(batch['loss_mask'][:, 1:].sum()) if 'loss_mask' in batch else without_first
    return {'total': total, 'loss_generating': targets}


def _split_rows(batch: Mapping[str, torch.Tensor], size: int | float) -> list[dict[str, torch.Tensor]]:
    """Microbatches of `size` samples, the last one of what is left."""
    columns = {name: column.split(int(size)) for name, column in batch.items()}
    return [dict(zip(columns, parts, strict=True)) for parts in zip(*columns.values(), strict=True)]
