"""Compares finished streams with the tree that they were made of, document by document and token by token."""

import hashlib
import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

from skillit_stream.formats.manifest import Manifest, SkillInfo
from tests.support.random_trees import Tree

# What conversions count beside bad records.
# No byte of UTF-8.
EOS_BYTE = b'\xff'
OTHER_COUNTS = {'tail_tokens', 'cut_tokens', 'eval_samples_in_train'}


def check_streams(tree: Tree, root: Path) -> None:
    """Every document of the tree is in the streams once, or counted once."""
    manifest = Manifest.load(str(root))
    expected = tree.documents()
    left_out = manifest.corpus.get('left_out', {})
    assert {*manifest.skills, *left_out} == set(expected)
    assert not set(manifest.skills) & set(left_out)
    for skill, amount in left_out.items():
        assert amount['documents'] == expected[skill].total(), skill
        assert may_be_too_small(tree, expected[skill]), skill
    for skill, info in manifest.skills.items():
        texts = Counter({text.encode(): count for text, count in expected[skill].items()})
        _check_skill(root, skill, info, texts)
    counted = Counter(manifest.dropped)
    for info in manifest.skills.values():
        counted.update(info.dropped)
    faults = {reason: count for reason, count in counted.items() if count and reason not in OTHER_COUNTS}
    assert _merged(faults) == _merged(tree.faults), faults


def _merged(faults: dict[str, int]) -> dict[str, int]:
    """Counts in which the rest of a broken line is broken JSON."""
    found = Counter(faults)
    found['broken_json'] += found.pop('broken_rest', 0)
    return {reason: count for reason, count in found.items() if count}


def _check_skill(root: Path, skill: str, info: SkillInfo, expected: Counter[bytes]) -> None:
    assert sum(split.documents for split in info.splits.values()) == expected.total(), skill
    assert not info.dropped['cut_tokens']
    assert not info.dropped['eval_samples_in_train']
    found: Counter[bytes] = Counter()
    beginnings, ends = [], []
    for split, of_split in info.splits.items():
        runs = _runs(root / skill / split)
        assert sum(map(len, runs)) == of_split.tokens
        for run in runs:
            *whole, rest = _text_of(root, run).split(EOS_BYTE)
            found.update(whole)
            beginnings.append(rest)
        ends.append(beginnings.pop())
    missing = expected - found
    tails = _joined(missing, [one for one in beginnings if one], found - expected, ends)
    assert tails == info.dropped['tail_tokens'], (skill, tails)


def _joined(
    missing: Counter[bytes], beginnings: list[bytes], pieces: Counter[bytes], ends: list[bytes]
) -> int:
    """How many tokens of the missing documents are nowhere, after what is left of them is put together.

    A part ends in the middle of a document, whose other tokens are behind those of all parts.

    Args:
        missing: Documents that were not found whole, an EOS behind each.
        beginnings: What the parts end with.
        pieces: What was found and is no document.
        ends: What the splits end with; it may be the middle of a document.
    """
    lost = sum((len(text) + 1) * count for text, count in missing.items())
    left = list(missing.elements())
    for begin in sorted(beginnings, key=len, reverse=True):
        whole = [one for one in left if one.startswith(begin) and pieces[one[len(begin) :]]]
        cut = [one for one in left if any(one.startswith(begin + end) for end in ends)]
        assert whole or cut, begin
        one = (whole or cut)[0]
        left.remove(one)
        lost -= len(begin)
        if whole:
            pieces[one[len(begin) :]] -= 1
            lost -= len(one) + 1 - len(begin)
    assert not +pieces, 'not of the tree, or too often'
    for end in ends:
        assert any(end in one for one in missing) or not end, end
    return lost - sum(map(len, ends))


def _runs(folder: Path) -> list[np.ndarray]:
    """The tokens of a split, shards that continue each other end to end."""
    from streaming.base.format import reader_from_json

    runs: dict[str, list[np.ndarray]] = {}
    for entry in json.loads((folder / 'index.json').read_text())['shards']:
        shard = reader_from_json(str(folder), '', entry)
        label = entry['raw_data']['basename'].rsplit('.', 2)[0]
        runs.setdefault(label, []).extend(shard[number]['tokens'] for number in range(entry['samples']))
    return [np.concatenate(one) for one in runs.values()]


@cache
def _bytes_by_id(tokenizer: str) -> np.ndarray:
    """The byte that each token of the byte tokenizer stands for, EOS for one that no text has; uint8 [257]."""
    vocabulary = json.loads(Path(tokenizer).read_text())['model']['vocab']
    found = np.full(len(vocabulary) + 1, EOS_BYTE[0], np.uint8)
    for byte, sign in _signs_of_bytes().items():
        found[vocabulary[sign]] = byte
    return found


def _text_of(root: Path, tokens: np.ndarray) -> bytes:
    return _bytes_by_id(str(root / 'tokenizer' / 'tokenizer.json'))[tokens].tobytes()


def may_be_too_small(tree: Tree, texts: Counter[str]) -> bool:
    """Whether a skill of these documents can fall short of what its splits need."""
    sizes = {text: (len(text.encode()) + 1) * count for text, count in texts.items()}
    tokens, documents = tree.eval_need
    largest, most = max(sizes.values()), max(texts.values())
    return (
        sum(sizes.values()) < tokens + tree.seq_len + 2 * largest
        or texts.total() < documents + 2 * most
        or len(texts) < 3
    )


def digests(root: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def _signs_of_bytes() -> dict[int, str]:
    """Byte -> the sign that a byte-level vocabulary writes it as: its own, or where it shows none, one from 256 on."""
    shown = {*range(ord('!'), ord('~') + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(0x100) if byte not in shown]
    return {byte: chr(byte if byte in shown else 0x100 + hidden.index(byte)) for byte in range(0x100)}
