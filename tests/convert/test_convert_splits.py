"""A document's split follows from its text; both splits of a small skill get a sample."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.convert.packing import Packer
from skillit_stream.convert.splits import EncodedDocument, Reserve, SkillSplitter, document_hash
from skillit_stream.errors import InputError

SEQ_LEN = 16


def encoded(text: str) -> EncodedDocument:
    data = text.encode()
    return EncodedDocument(
        document_hash(data), np.frombuffer(data + b'\n', np.uint8).astype(np.uint16), len(data)
    )


def split(texts: list[str], eval_fraction: float = 0.05) -> dict[str, list[int]]:
    got: dict[str, list[int]] = {'train': [], 'eval': []}
    splitter = SkillSplitter(
        'prose',
        eval_fraction=eval_fraction,
        seq_len=SEQ_LEN,
        emit=lambda name, document: got[name].append(document.key),
    )
    for text in texts:
        splitter.add(encoded(text))
    splitter.finish()
    return got


texts = st.lists(st.text('ab ', max_size=40), min_size=4, max_size=60)


@settings(max_examples=200, deadline=None)
@given(texts=texts, fraction=st.sampled_from([0.001, 0.05, 0.5, 0.95]), data=st.data())
def test_every_document_is_in_one_split_whatever_the_order(
    texts: list[str], fraction: float, data: st.DataObject
):
    try:
        first = split(texts, fraction)
    except InputError:
        first = None
    shuffled = data.draw(st.permutations(texts))
    if first is None:
        with pytest.raises(InputError, match=r"skill 'prose': its \d+ tokens give"):
            split(shuffled, fraction)
        return
    again = split(shuffled, fraction)
    for name in first:
        assert sorted(first[name]) == sorted(again[name])
    assert not set(first['train']) & set(first['eval'])
    keys = sorted(document_hash(text.encode()) for text in texts)
    assert sorted(first['train'] + first['eval']) == keys
    # A threshold parts the two: every eval hash lies below every train hash.
    assert max(first['eval']) < min(first['train'])


@settings(max_examples=100, deadline=None)
@given(texts=texts)
def test_the_threshold_moves_only_as_far_as_it_must(texts: list[str]):
    lengths = {document_hash(text.encode()): len(text) + 1 for text in texts}
    try:
        got = split(texts, 0.05)
    except InputError:
        return
    threshold = int(0.05 * 2**128)
    moved = [key for key in got['eval'] if key >= threshold]
    if moved:
        last = max(moved)
        assert sum(lengths[key] for key in got['eval'] if key != last) < SEQ_LEN


def test_two_documents_make_one_of_each():
    for fraction in (0.001, 0.5, 0.999):
        got = split(['a' * 50, 'b' * 50], fraction)
        assert [len(keys) for keys in got.values()] == [1, 1]


def test_large_skills_follow_the_fraction():
    got = split([f'document {i} of a large skill' for i in range(4000)], 0.05)
    assert 140 < len(got['eval']) < 260
    assert max(got['eval']) < 0.05 * 2**128


def test_a_skill_too_small_for_both_is_refused():
    with pytest.raises(
        InputError,
        match=r"skill 'prose': its 51 tokens give 51 to train and 0 to eval, but each needs at least --seq-len 16; "
        'lower --seq-len, change --eval-fraction, or add documents',
    ):
        split(['a' * 50])


@settings(max_examples=100, deadline=None)
@given(texts=texts, need=st.integers(1, 100))
def test_a_reserve_holds_no_more_than_it_needs(texts: list[str], need: int):
    reserve = Reserve(0, need)
    released = 0
    for text in texts:
        released += sum(len(d.tokens) * d.copies for d in reserve.add(encoded(text)))
        largest = max(len(d.tokens) * d.copies for d in reserve._documents.values())
        assert reserve.tokens < need + largest
    left = sum(len(d.tokens) * d.copies for d in reserve.drain())
    assert released + left == sum(len(text) + 1 for text in texts)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), max_size=30), seq_len=st.integers(2, 12))
def test_packing_keeps_every_token_in_order(lengths: list[int], seq_len: int):
    packer = Packer(seq_len, np.uint16)
    stream = np.arange(sum(lengths), dtype=np.uint16)
    samples = [packer.add(part) for part in np.split(stream, np.cumsum(lengths))]
    whole = np.concatenate(samples).ravel()
    assert whole.tolist() == stream[: len(stream) // seq_len * seq_len].tolist()
    assert len(whole) + packer.tail_tokens == len(stream)
    assert packer.tail_tokens < seq_len
