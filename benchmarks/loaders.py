"""The loaders under test and the streams they read: seven skills, the same tokens for all.

Each loader is a function of a :class:`BenchmarkStreams`, the number of workers and the samples in a round. It returns a
DataLoader and a function that sets the next round's shares (float64 [skills]); a peer, whose mixture is fixed,
ignores them. Packages are imported inside, so that a process holds only those of the loader it measures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SKILLS = ('arxiv', 'book', 'c4', 'common_crawl', 'github', 'stackexchange', 'wikipedia')
BATCH = 32
EQUAL = np.full(len(SKILLS), 1 / len(SKILLS))
# How samples become a batch: each loader's own way, torch's, or transformers' for causal language models.
OWN, DEFAULT, TRANSFORMERS = 'own', 'default', 'transformers'
# What transformers calls a sample's tokens.
COLUMN = 'input_ids'

Loader = tuple[Any, Callable[[NDArray[np.float64]], None]]


@dataclass(frozen=True)
class BenchmarkStreams:
    """Streams on this machine or behind a remote.

    Attributes:
        folder: Holds ``mds/SKILL`` and, where litdata is measured, ``litdata/SKILL``.
        cache: Where shards are fetched to, from the S3 endpoint of the environment; None: `folder` is local.
        block: Samples in a shuffle block; None: each loader's default.
        seq_len: Tokens in a sample.
        collation: OWN, DEFAULT or TRANSFORMERS.
    """

    folder: Path
    cache: Path | None = None
    block: int | None = None
    seq_len: int = 2048
    collation: str = OWN

    def stream(self, skill: str) -> dict[str, Any]:
        """Where the stream of a skill is, as arguments of `streaming.Stream`."""
        if self.cache is None:
            return {'local': str(self.folder / 'mds' / skill)}
        return {'local': str(self.cache / skill), 'remote': f's3://benchmark/mds/{skill}'}


def tokens_of(number: int, samples: int, seq_len: int) -> NDArray[np.uint16]:
    """Tokens of a skill, uint16 [samples, seq_len]."""
    return np.random.default_rng(number).integers(0, 50_000, (samples, seq_len), np.uint16)


def language_model_collator() -> Callable[[Any], Any]:
    """transformers' DataCollatorForLanguageModeling(mlm=False), with a tokenizer that can pad and no more."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({'<pad>': 0}, unk_token='<pad>'))
    return DataCollatorForLanguageModeling(
        PreTrainedTokenizerFast(tokenizer_object=words, pad_token='<pad>'), mlm=False
    )


def write_mds(corpus: BenchmarkStreams, samples: int, per_shard: int) -> None:
    """One MDS stream a skill of `samples` samples, `per_shard` of them in each shard."""
    from streaming import MDSWriter

    seq_len = corpus.seq_len
    # A sample takes its tokens and a 4-byte offset; the half sample is room for the shard's header.
    limit = per_shard * (2 * seq_len + 4) + seq_len
    for number, skill in enumerate(SKILLS):
        columns = {COLUMN: f'ndarray:uint16:{seq_len}'}
        with MDSWriter(out=str(corpus.folder / 'mds' / skill), columns=columns, size_limit=limit) as writer:
            for row in tokens_of(number, samples, seq_len):
                writer.write({COLUMN: row})


def write_litdata(corpus: BenchmarkStreams, samples: int, per_shard: int) -> None:
    """The same tokens in litdata's format."""
    import torch
    from litdata.streaming.item_loader import TokensLoader  # pyright: ignore[reportMissingImports]
    from litdata.streaming.writer import BinaryWriter  # pyright: ignore[reportMissingImports]

    for number, skill in enumerate(SKILLS):
        chunks = corpus.folder / 'litdata' / skill
        chunks.mkdir(parents=True)
        size = per_shard * 2 * corpus.seq_len
        writer = BinaryWriter(str(chunks), chunk_bytes=size, item_loader=TokensLoader(corpus.seq_len))
        for index, row in enumerate(tokens_of(number, samples, corpus.seq_len)):
            writer[index] = torch.from_numpy(row)
        writer.done()
        writer.merge(1)


def ours(corpus: BenchmarkStreams, workers: int, round_size: int) -> Loader:
    """The mixed loader."""
    from streaming import Stream
    from torch.utils.data import DataLoader

    from skillit_stream.loader.batches import collate
    from skillit_stream.loader.dataset import SkillStreamingDataset

    def named(shares: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(SKILLS, shares.tolist(), strict=True))

    dataset = SkillStreamingDataset(
        streams={skill: Stream(**corpus.stream(skill)) for skill in SKILLS},
        round_size=round_size,
        batch_size=BATCH,
        proportions=named(EQUAL),
        shuffle_block_size=corpus.block,
    )
    collators = {OWN: lambda: collate, DEFAULT: lambda: None, TRANSFORMERS: language_model_collator}
    collate_fn = collators[corpus.collation]()
    loader = DataLoader(
        dataset, batch_size=BATCH, collate_fn=collate_fn, num_workers=workers, persistent_workers=workers > 0
    )
    return loader, lambda shares: dataset.set_proportions(named(shares))


def keep(shares: NDArray[np.float64]) -> None:
    """The mixture of a peer is fixed."""
    del shares


def streaming(corpus: BenchmarkStreams, workers: int, round_size: int) -> Loader:
    """StreamingDataset with equal proportions."""
    from streaming import Stream, StreamingDataset
    from torch.utils.data import DataLoader

    dataset = StreamingDataset(
        streams=[Stream(**corpus.stream(skill), proportion=float(EQUAL[0])) for skill in SKILLS],
        epoch_size=round_size,
        batch_size=BATCH,
        shuffle=True,
        shuffle_block_size=corpus.block,
    )
    for stream in dataset.streams:
        # It has fetched the index. Forked workers would share its connection, and mix the answers they get.
        stream._downloader.clean_up()
    collate_fn = language_model_collator() if corpus.collation == TRANSFORMERS else None
    loader = DataLoader(
        dataset, batch_size=BATCH, collate_fn=collate_fn, num_workers=workers, persistent_workers=workers > 0
    )
    return loader, keep


def litdata(corpus: BenchmarkStreams, workers: int, round_size: int) -> Loader:
    """litdata's CombinedStreamingDataset with equal weights."""
    del round_size
    from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset  # pyright: ignore[reportMissingImports]
    from litdata.streaming.item_loader import TokensLoader  # pyright: ignore[reportMissingImports]

    parts = [
        StreamingDataset(
            str(corpus.folder / 'litdata' / skill),
            item_loader=TokensLoader(corpus.seq_len),
            shuffle=True,
            drop_last=True,
        )
        for skill in SKILLS
    ]
    combined = CombinedStreamingDataset(parts, seed=1, weights=EQUAL.tolist(), iterate_over_all=False)
    loader = StreamingDataLoader(
        combined, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
    )
    return loader, keep


LOADERS = {'skillit_stream': ours, 'StreamingDataset': streaming, 'litdata': litdata}
_MODULES = {
    'skillit_stream': ('streaming', 'torch.utils.data', 'skillit_stream.loader.dataset'),
    'StreamingDataset': ('streaming', 'torch.utils.data'),
    'litdata': ('litdata', 'litdata.streaming.item_loader', 'torch.utils.data'),
}


def import_for(name: str) -> None:
    """Import what a loader needs, so that neither its time nor its memory is the loader's."""
    for module in _MODULES[name]:
        import_module(module)


def installed() -> list[str]:
    """The loaders that can be measured here."""
    return [name for name in LOADERS if name != 'litdata' or find_spec('litdata')]
