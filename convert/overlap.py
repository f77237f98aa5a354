"""Samples that came out alike in train and eval: left out of eval, and counted.

Documents never are in both splits, but different documents can hold the same long run of blanks or boilerplate, and
packed samples then the same tokens. To find them the shards are read once more, which costs little beside encoding;
in memory there are 8 bytes for each eval sample of one skill.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from skillit_stream.convert.writer import StreamsWriter
from skillit_stream.errors import InputError
from skillit_stream.streams.manifest import SplitInfo


def drop_shared_samples(
    writer: StreamsWriter, skill: str, splits: dict[str, SplitInfo]
) -> tuple[dict[str, SplitInfo], int]:
    """Write the eval split anew without the samples that are in train too.

    Args:
        writer: The finished writer of the folder; without a mask, so that a sample's bytes are its tokens.
        skill: The skill.
        splits: What was written: split -> contents.

    Returns:
        What is in the folder now, and how many samples were left out.

    Raises:
        InputError: Nothing is left of eval.
    """
    shared = _shared_keys(os.path.join(writer.root, skill))
    if not len(shared):
        return splits, 0
    folder = os.path.join(writer.root, skill, 'eval')
    previous = f'{folder}.previous'
    os.rename(folder, previous)
    rewriter = writer.sibling()
    for samples in _shards(previous):
        for sample, is_shared in zip(samples, np.isin(_keys(samples), shared), strict=True):
            if not is_shared:
                rewriter.write(skill, 'eval', np.frombuffer(sample, writer.dtype))
    shutil.rmtree(previous)
    written = rewriter.finish()
    if not written:
        raise InputError(
            f'skill {skill!r}: each of its {splits["eval"].samples} eval samples is in train too; '
            'raise --seq-len, or add other documents'
        )
    left = written[skill]['eval']
    kept = replace(left, documents=splits['eval'].documents, bytes=splits['eval'].bytes)
    return {**splits, 'eval': kept}, splits['eval'].samples - kept.samples


def _shared_keys(skill_folder: str) -> np.ndarray:
    """Keys of the samples that are in both splits; shape (n,), uint64."""
    in_eval = np.concatenate([_keys(samples) for samples in _shards(os.path.join(skill_folder, 'eval'))])
    found = [
        np.intersect1d(_keys(samples), in_eval) for samples in _shards(os.path.join(skill_folder, 'train'))
    ]
    return np.unique(np.concatenate(found))


def _shards(folder: str) -> Iterator[list[bytes]]:
    """The samples of each MDS shard: a count, count + 1 offsets from the start of the file, then the samples."""
    with open(os.path.join(folder, 'index.json'), encoding='utf-8') as file:
        shards = json.load(file)['shards']
    for shard in shards:
        with open(os.path.join(folder, shard['raw_data']['basename']), 'rb') as file:
            data = file.read()
        offsets = np.frombuffer(data, '<u4', shard['samples'] + 1, offset=4).tolist()
        yield [data[start:end] for start, end in pairwise(offsets)]


def _keys(samples: list[bytes]) -> np.ndarray:
    digests = b''.join(hashlib.blake2b(sample, digest_size=8).digest() for sample in samples)
    return np.frombuffer(digests, '<u8')
