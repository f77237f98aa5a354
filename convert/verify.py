"""`skillit verify STREAMS ...`: re-read streams folders and compare each with its manifest.

Checked: that all streams and shards in the folder are listed, the tokenizer's hash, every index's hash, every shard's
size and hash, the columns, the counts of samples, tokens and target tokens, every token id, that no sample is in both
splits of a skill, and that the counts of the history of conversions add up. Not checked: documents and bytes of text,
which the shards no longer show, and files that are nobody's streams.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.contents import SPLIT_FILE, is_leftover, unlisted_skill
from skillit_stream.convert.grown_folder import check_not_growing
from skillit_stream.convert.history import COUNTS
from skillit_stream.convert.progress import bytes_bar
from skillit_stream.convert.shards import index_hash
from skillit_stream.convert.summary import print_next, print_summary
from skillit_stream.convert.tokens import TOKENIZER_FOLDER, tokenizer_hash
from skillit_stream.formats.manifest import MANIFEST_NAME, SPLITS, Manifest, SplitInfo
from skillit_stream.formats.streams_folders import joined_manifest, source_folders

REMEDY = 'convert the corpus again with --overwrite'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit verify`."""
    parser.add_argument(
        'streams',
        metavar='STREAMS',
        nargs='+',
        help='streams folder; of several also that one run can train on all of them',
    )


def run(args: argparse.Namespace) -> int:
    """Verify the folders, print a table of each, and see whether they go together."""
    for root in args.streams:
        print_summary(verify(root), root, title='Verified')
    joined_manifest(source_folders(args.streams, None))
    print_next(args.streams[0] if len(args.streams) == 1 else f'[{",".join(args.streams)}]', verified=True)
    return 0


def verify(root: str) -> Manifest:
    """Re-read the streams folder `root`.

    Returns:
        Its manifest.

    Raises:
        InputError: The first mismatch.
    """
    manifest = Manifest.load(root)
    check_not_growing(root)
    _check_history(root, manifest)
    _check_tokenizer(root, manifest)
    other = unlisted_skill(root, manifest.skills)
    if other is not None:
        raise InputError(
            f'{os.path.join(root, other)}: streams of a skill that {MANIFEST_NAME} does not list; move the folder away'
        )
    total = sum(info.tokens for skill in manifest.skills.values() for info in skill.splits.values())
    with bytes_bar('verifying', total * np.dtype(manifest.dtype).itemsize) as advance:
        for name, skill in manifest.skills.items():
            _check_splits(root, name, skill.splits)
            seen: set[bytes] = set()
            # Eval first: it is the small one, and its hashes are what is kept.
            for split in (split for split in ('eval', 'train') if split in skill.splits):
                folder = os.path.join(root, name, split)
                info = skill.splits[split]
                for digest in _check_split(folder, manifest, info):
                    advance(manifest.seq_len * np.dtype(manifest.dtype).itemsize)
                    if split == 'eval':
                        seen.add(digest)
                    elif digest in seen:
                        raise _mismatch(folder, f'a sample of skill {name!r} is in train and in eval')
    return manifest


def _check_history(root: str, manifest: Manifest) -> None:
    """What the conversions brought comes to what there is."""
    for skill, info in manifest.skills.items() if manifest.history else ():
        for split, there in info.splits.items():
            brought = [one.counts.get(skill, {}).get(split, {}) for one in manifest.history]
            for name in COUNTS:
                total = sum(one.get(name, 0) for one in brought)
                if total != getattr(there, name):
                    what = (
                        f'skill {skill!r} has {getattr(there, name)} {name} in {split}, its history {total}'
                    )
                    raise _mismatch(os.path.join(root, MANIFEST_NAME), what)


def _check_splits(root: str, name: str, splits: Mapping[str, SplitInfo]) -> None:
    """A skill has one split or both, as the manifest says and as the folders are."""
    there = [split for split in SPLITS if os.path.isdir(os.path.join(root, name, split))]
    if not splits or set(splits) != set(there):
        raise _mismatch(root, f'skill {name!r} has splits {there}, the manifest says {sorted(splits)}')


def _check_tokenizer(root: str, manifest: Manifest) -> None:
    folder = os.path.join(root, TOKENIZER_FOLDER)
    try:
        found = tokenizer_hash(folder)
    except OSError as error:
        raise _mismatch(folder, f'tokenizer.json cannot be read ({error.strerror})') from error
    if found != manifest.tokenizer_hash:
        raise _mismatch(folder, f'tokenizer.json has {found}, the manifest {manifest.tokenizer_hash}')


def _check_split(folder: str, manifest: Manifest, info: SplitInfo) -> Iterator[bytes]:
    """Check one split and yield a hash of each sample's tokens."""
    samples = targets = empty = 0
    for shard in _checked_shards(folder, manifest, info):
        for tokens, mask in _decoded(folder, shard, manifest):
            if int(tokens.max()) >= manifest.vocab_size:
                what = (
                    f'sample {samples} holds token {int(tokens.max())}, the vocabulary {manifest.vocab_size}'
                )
                raise _mismatch(folder, what)
            samples += 1
            targets += len(tokens) if mask is None else int(mask.sum())
            empty += mask is not None and not mask[1:].any()
            yield hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
    counts = [
        ('samples', samples),
        ('tokens', samples * manifest.seq_len),
        ('target_tokens', targets),
    ]
    if info.without_target is not None:
        counts.append(('without_target', empty))
    for name, found in counts:
        if found != getattr(info, name):
            raise _mismatch(folder, f'holds {found} {name}, the manifest says {getattr(info, name)}')


def _checked_shards(folder: str, manifest: Manifest, info: SplitInfo) -> Iterator[dict[str, Any]]:
    """Yield the index' entry of each shard after comparing index and shard with their hashes."""
    path = os.path.join(folder, 'index.json')
    try:
        found = index_hash(folder)
        with open(path, encoding='utf-8') as file:
            shards = json.load(file)['shards']
    except OSError as error:
        raise _mismatch(path, f'cannot be read ({error.strerror})') from error
    except (ValueError, KeyError, TypeError) as error:
        raise _mismatch(path, f'broken index ({error})') from error
    if found != info.index_hash:
        raise _mismatch(path, f'has {found}, the manifest says {info.index_hash}')
    listed = {'index.json', *(shard['raw_data']['basename'] for shard in shards)}
    for name in sorted(set(os.listdir(folder)) - listed):
        if SPLIT_FILE.fullmatch(name) and not is_leftover(name):
            raise InputError(f'{os.path.join(folder, name)}: a shard that no index lists; move it away')
    for shard in shards:
        columns = dict(zip(shard['column_names'], shard['column_encodings'], strict=True))
        if columns != dict(manifest.columns):
            raise _mismatch(path, f'columns {columns}, the manifest says {dict(manifest.columns)}')
        _check_shard_file(folder, shard)
        yield shard


def _check_shard_file(folder: str, shard: dict[str, Any]) -> None:
    from streaming.base.hashing import get_hash

    expected = shard['raw_data']
    path = os.path.join(folder, expected['basename'])
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError as error:
        raise _mismatch(path, f'cannot be read ({error.strerror})') from error
    if len(data) != expected['bytes']:
        raise _mismatch(path, f'{len(data)} bytes, the index says {expected["bytes"]}')
    for algorithm, digest in expected['hashes'].items():
        if get_hash(algorithm, data) != digest:
            raise _mismatch(path, f'its {algorithm} differs from the index')


def _decoded(
    folder: str, shard: dict[str, Any], manifest: Manifest
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    from streaming.base.format import reader_from_json

    where = os.path.join(folder, shard['raw_data']['basename'])
    reader = reader_from_json(folder, '', shard)
    for index in range(shard['samples']):
        try:
            sample = reader[index]
        except Exception as error:  # whatever the decoder trips over
            raise _mismatch(where, f'sample {index} cannot be decoded ({error})') from error
        tokens = sample['tokens']
        if tokens.shape != (manifest.seq_len,):
            raise _mismatch(where, f'sample {index} has shape {tokens.shape}, not ({manifest.seq_len},)')
        yield tokens, sample.get('loss_mask')


def _mismatch(where: str, what: str) -> InputError:
    return InputError(f'{where}: {what}; {REMEDY}')
