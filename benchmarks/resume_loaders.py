"""The loaders whose resumption is compared, each as its documentation recommends, over streams of numbered samples.

A loader is a class that is made of a :class:`Stage` and a rank. It plays one epoch at a time, gives its state, takes
one, and changes its mixture. Packages are imported inside, so that one that is not installed is missed by nobody else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Proportions = tuple[float, ...]

SEED = 17


@dataclass(frozen=True)
class Stage:
    """One start of a run: from its beginning or from a checkpoint, to its end or to its death.

    Attributes:
        loader: A key of `LOADERS`.
        folder: Holds ``mds``, ``litdata`` and ``parquet``, a folder a stream in each.
        streams: Samples of each stream, by name.
        ranks: Processes that draw.
        workers: DataLoader workers of each.
        global_batch: Samples a step, all ranks together.
        mixtures: Step -> proportions from that step on; the first is of step 0. Always the same: one entry.
        begin: Steps trained before this start.
        end: Steps at which the run is over.
        save_at: Step after which a checkpoint is written.
        kill_at: Step after which every process is killed.
        steps_in_round: Steps in a round, or in an epoch of what has epochs of a chosen size; None: ours four in a
            pass over the streams, and one epoch a pass.
        states: The checkpoint to resume from: a file a rank of the start before; none at the beginning.
        walks_all: Whether an epoch of litdata walks all streams to their end, mixed by their sizes.
    """

    loader: str
    folder: Path
    streams: Mapping[str, int]
    ranks: int = 2
    workers: int = 2
    global_batch: int = 16
    mixtures: Mapping[int, Proportions] = field(default_factory=dict)
    begin: int = 0
    end: int = 0
    save_at: int | None = None
    kill_at: int | None = None
    steps_in_round: int | None = None
    states: Sequence[Path] = ()
    walks_all: bool = False

    @property
    def batch(self) -> int:
        """Samples a step and rank."""
        return self.global_batch // self.ranks

    @property
    def of_workers(self) -> dict[str, Any]:
        """The workers of a rank, as arguments of a DataLoader; they live on from epoch to epoch."""
        return {'num_workers': self.workers, 'persistent_workers': self.workers > 0}

    @property
    def mixture_changes(self) -> bool:
        """Whether this start begins with another mixture than its checkpoint."""
        return bool(self.states) and self.begin in self.mixtures

    @property
    def proportions(self) -> Proportions:
        """What holds at the beginning of this start."""
        if not self.mixtures:
            total = sum(self.streams.values())
            return tuple(samples / total for samples in self.streams.values())
        return self.mixtures[max(step for step in self.mixtures if step <= self.begin)]

    @property
    def steps_in_pass(self) -> int:
        """Steps in which every sample can be drawn once."""
        return sum(self.streams.values()) // self.global_batch


class LoaderRun:
    """One rank's dataset and loader, made anew from its own state where the mixture changes.

    Attributes:
        how_mixed: How the mixture is changed, in words.
        ends_with_epoch: Whether the pass over the streams is an epoch, however long it becomes.
        ends_with_a_stream: Whether an epoch with weights ends with the first stream that is empty.
        one_state_a_rank: Whether every rank saves a state of its own.
        state_has_mixture: Whether a state brings its mixture along.
    """

    how_mixed = 'new datasets and loader, given the state'
    ends_with_epoch = one_state_a_rank = True
    ends_with_a_stream = state_has_mixture = False

    def __init__(self, stage: Stage, rank: int) -> None:
        self.stage, self.rank = stage, rank
        self.loader = self.build(stage.proportions)

    def build(self, proportions: Proportions) -> Any:
        """A loader of this mixture."""
        raise NotImplementedError

    def epoch(self) -> Iterator[list[int]]:
        """The batches of an epoch, or of a round."""
        for batch in self.loader:
            yield batch['id'].tolist()

    def state(self) -> Any:
        """What goes into a checkpoint."""
        return self.loader.state_dict()

    def load(self, state: Any) -> None:
        """Go on from a checkpoint."""
        self.loader.load_state_dict(state)

    def mix(self, proportions: Proportions) -> bool:
        """Change the mixture; whether the epoch must be begun again."""
        state = self.state()
        self.loader = self.build(proportions)
        self.load(state)
        return True


class Ours(LoaderRun):
    """skillit_stream: rounds, and a mixture that is set between two of them."""

    how_mixed = 'set_proportions, workers live on'
    ends_with_epoch = one_state_a_rank = False
    state_has_mixture = True

    def build(self, proportions: Proportions) -> Any:
        """A loader of this mixture."""
        from streaming import Stream, StreamingDataLoader

        from skillit_stream import SkillStreamingDataset

        stage = self.stage
        self.step = stage.begin
        self.steps_in_round = stage.steps_in_round or max(1, stage.steps_in_pass // 4)
        self.dataset = SkillStreamingDataset(
            streams={name: Stream(local=str(stage.folder / 'mds' / name)) for name in stage.streams},
            round_size=self.steps_in_round * stage.global_batch,
            batch_size=stage.batch,
            proportions=dict(zip(stage.streams, proportions, strict=True)),
            shuffle_seed=SEED,
            on_changed='allow',
        )
        return StreamingDataLoader(self.dataset, batch_size=stage.batch, **stage.of_workers)

    def epoch(self) -> Iterator[list[int]]:
        """The batches of a round."""
        for numbers in super().epoch():
            self.step += 1
            yield numbers

    def state(self) -> Any:
        """What goes into a checkpoint."""
        if self.step % self.steps_in_round == 0:
            # As Composer asks for it when a round is over.
            return self.dataset.state_dict(0, from_beginning=True)
        return super().state()

    def mix(self, proportions: Proportions) -> bool:
        """Change the mixture; whether the epoch must be begun again."""
        self.dataset.set_proportions(dict(zip(self.stage.streams, proportions, strict=True)))
        return False


class Streaming(LoaderRun):
    """StreamingDataset: a mixture is the `proportion` of its streams, fixed when it is made."""

    how_mixed = 'a new dataset at the end of an epoch, given the number of the next'
    ends_with_epoch = one_state_a_rank = False

    def build(self, proportions: Proportions) -> Any:
        """A loader of this mixture."""
        from streaming import Stream, StreamingDataLoader, StreamingDataset

        stage = self.stage
        steps = stage.steps_in_round or stage.steps_in_pass
        dataset = StreamingDataset(
            streams=[
                Stream(local=str(stage.folder / 'mds' / name), proportion=proportion)
                for name, proportion in zip(stage.streams, proportions, strict=True)
            ],
            epoch_size=steps * stage.global_batch,
            batch_size=stage.batch,
            shuffle=True,
            shuffle_seed=SEED,
        )
        return StreamingDataLoader(dataset, batch_size=stage.batch, **stage.of_workers)

    def mix(self, proportions: Proportions) -> bool:
        """Change the mixture; whether the epoch must be begun again."""
        state = self.state()
        # Its state after the last batch is of the epoch that is over.
        state = {**state, 'epoch': state['epoch'] + 1, 'sample_in_epoch': 0}
        self.loader = None
        self.loader = self.build(proportions)
        self.load(state)
        return True


class Litdata(LoaderRun):
    """litdata: a CombinedStreamingDataset through its StreamingDataLoader."""

    ends_with_a_stream = True

    def build(self, proportions: Proportions) -> Any:
        """A loader of this mixture."""
        from litdata import (  # pyright: ignore[reportMissingImports]
            CombinedStreamingDataset,
            StreamingDataLoader,
            StreamingDataset,
        )

        stage = self.stage
        parts = [
            StreamingDataset(str(stage.folder / 'litdata' / name), shuffle=True, seed=SEED, drop_last=False)
            for name in stage.streams
        ]
        combined = CombinedStreamingDataset(
            parts,
            seed=SEED,
            weights=None if stage.walks_all else proportions,
            iterate_over_all=stage.walks_all,
        )
        return StreamingDataLoader(combined, batch_size=stage.batch, num_workers=stage.workers)


class Interleaved(LoaderRun):
    """torchdata's StatefulDataLoader over `datasets.interleave_datasets`, in the order of the files."""

    # Samples that each stream shuffles in memory; 0: nothing is shuffled.
    buffer = 0

    def build(self, proportions: Proportions) -> Any:
        """A loader of this mixture."""
        from datasets import interleave_datasets, load_dataset  # pyright: ignore[reportMissingImports]
        from datasets.distributed import split_dataset_by_node  # pyright: ignore[reportMissingImports]
        from torchdata.stateful_dataloader import (  # pyright: ignore[reportMissingImports]
            StatefulDataLoader,
        )

        stage, parts = self.stage, []
        for name in stage.streams:
            files = sorted(str(path) for path in (stage.folder / 'parquet' / name).glob('*.parquet'))
            part = load_dataset('parquet', data_files=files, split='train', streaming=True)
            parts.append(part.shuffle(seed=SEED, buffer_size=self.buffer) if self.buffer else part)
        mixed = interleave_datasets(
            parts,
            probabilities=list(proportions),
            seed=SEED,
            stopping_strategy='all_exhausted_without_replacement',
        )
        mixed = split_dataset_by_node(mixed, rank=self.rank, world_size=stage.ranks)
        return StatefulDataLoader(mixed, batch_size=stage.batch, num_workers=stage.workers)


class InterleavedShuffled(Interleaved):
    """The same with a shuffle buffer in every stream."""

    buffer = 8


LOADERS: dict[str, type[LoaderRun]] = {
    'skillit_stream': Ours,
    'StreamingDataset': Streaming,
    'litdata': Litdata,
    'torchdata + datasets': Interleaved,
    'torchdata + datasets, shuffle buffer': InterleavedShuffled,
}
# What each reads, and what the process imports from which its ranks are forked.
FORMATS = {
    'skillit_stream': 'mds',
    'StreamingDataset': 'mds',
    'litdata': 'litdata',
    'torchdata + datasets': 'parquet',
    'torchdata + datasets, shuffle buffer': 'parquet',
}
_INTERLEAVED = ('torchdata.stateful_dataloader', 'datasets', 'datasets.distributed')
IMPORTED = {
    'skillit_stream': ('streaming', 'skillit_stream.loader.dataset'),
    'StreamingDataset': ('streaming',),
    'litdata': ('litdata', 'litdata.streaming.writer'),
    'torchdata + datasets': _INTERLEAVED,
    'torchdata + datasets, shuffle buffer': _INTERLEAVED,
}


def missing_packages(name: str) -> list[str]:
    """The packages of a loader that are not installed."""
    packages = dict.fromkeys(module.split('.')[0] for module in IMPORTED[name])
    return [package for package in packages if not find_spec(package)]
