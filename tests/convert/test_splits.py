"""A document's split follows from its text; both splits of a small skill get a sample."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.packing import Packer, Padder
from skillit_stream.convert.splits import (
    Amount,
    EncodedDocument,
    Reserve,
    SkillSplitter,
    SplitRule,
    document_hash,
    split_rule,
)

SEQ_LEN = 16


def encoded(text: str) -> EncodedDocument:
    data = text.encode()
    return EncodedDocument(
        document_hash(data), np.frombuffer(data + b'\n', np.uint8).astype(np.uint16), len(data)
    )


def split(texts: list[str], eval_fraction: float = 0.05) -> dict[str, list[int]]:
    return split_in_parts([texts], SplitRule(eval_fraction, Amount(SEQ_LEN), Amount(SEQ_LEN)))


def split_in_parts(parts: list[list[str]], rule: SplitRule) -> dict[str, list[int]]:
    """Keys of the documents in each split, each part of the documents first split by itself."""
    got: dict[str, list[int]] = {'train': [], 'eval': []}

    def emit(name: str, document: EncodedDocument) -> None:
        got[name].append(document.key)

    settled = {'train': Amount(), 'eval': Amount()}
    held = []
    for texts in parts:
        part = SkillSplitter('prose', rule, emit)
        for text in texts:
            part.add(encoded(text))
        held += part.hold()
        settled = {name: settled[name] + part.settled[name] for name in settled}
    whole = SkillSplitter('prose', rule, emit, settled)
    for document in held:
        whole.add(document)
    whole.finish()
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
        with pytest.raises(
            InputError, match=r"skill 'prose': (its \d+ tokens? in|all its \d+ documents are alike)"
        ):
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


DEFAULT = split_rule(ConvertOptions(seq_len=SEQ_LEN))


@pytest.mark.parametrize(
    ('documents', 'expected'),
    [(2, 1), (5, 1), (10, 2), (20, 4), (60, 12), (85, 16), (150, 16), (320, (16, 40)), (4000, (140, 260))],
)
def test_eval_of_a_small_skill_is_more_than_a_twentieth_where_nothing_is_asked_for(documents: int, expected):
    found = split_in_parts([[f'document {i:04} of a skill' for i in range(documents)]], DEFAULT)
    least, most = expected if isinstance(expected, tuple) else (expected, expected)
    assert least <= len(found['eval']) <= most
    assert len(found['eval']) + len(found['train']) == documents


def test_documents_of_few_tokens_bring_eval_to_so_many_samples():
    found = split_in_parts(
        [[f'{i:03}' for i in range(900)]], SplitRule(0.001, Amount(16), Amount(16), Amount(64, 16))
    )
    assert len(found['eval']) == 16
    rule = SplitRule(0.001, Amount(16), Amount(16), Amount(100, 16))
    found = split_in_parts([[f'{i:03}' for i in range(900)]], rule)
    assert len(found['eval']) == 25  # of four tokens


def test_eval_does_not_grow_beyond_a_fifth_of_the_tokens_or_for_a_document_and_its_copies():
    long = ['long' * 500 + str(i) for i in range(3)]
    texts = [f'document {i}' for i in range(100)]
    for texts_and_long in ([*texts, *long], [*texts, *['alike'] * 60]):
        found = split_in_parts([texts_and_long], DEFAULT)
        sizes = {document_hash(text.encode()): len(text) + 1 for text in texts_and_long}
        total = sum(sizes[key] for key in found['eval'] + found['train'])
        moved = [key for key in found['eval'] if key >= DEFAULT.threshold]
        if moved:
            assert sum(sizes[key] for key in found['eval']) <= total / 5
            assert len(found['eval']) <= len(texts_and_long) / 5


def test_a_skill_too_small_for_both_is_refused():
    with pytest.raises(
        InputError,
        match=r"skill 'prose': its 51 tokens in 1 document give 51 tokens in 1 to train and 0 tokens in 0 to eval, "
        'but they need 16 tokens in 0 and 16 tokens in 0; lower --seq-len, change the size of eval, or add documents',
    ):
        split(['a' * 50])


@settings(max_examples=100, deadline=None)
@given(texts=texts, need=st.integers(1, 100))
def test_a_reserve_holds_no_more_than_it_needs(texts: list[str], need: int):
    reserve = Reserve(0, Amount(need))
    released = 0
    for text in texts:
        released += sum(len(d.tokens) * d.copies for d in reserve.add(encoded(text)))
        largest = max(len(d.tokens) * d.copies for d in reserve._documents.values())
        assert reserve.held.tokens < need + largest
    left = sum(len(d.tokens) * d.copies for d in reserve.drain())
    assert released + left == sum(len(text) + 1 for text in texts)


rules = st.builds(
    SplitRule,
    st.sampled_from([0.0, 0.001, 0.05, 0.5, 0.95]),
    st.just(Amount(SEQ_LEN)),
    st.builds(Amount, st.integers(SEQ_LEN, 100), st.integers(0, 8)),
    st.builds(Amount, st.sampled_from([0, 64, 400]), st.sampled_from([0, 4, 16])),
)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(texts, min_size=1, max_size=5), rule=rules)
def test_the_split_does_not_depend_on_the_parts(parts: list[list[str]], rule: SplitRule):
    whole = [[text for part in parts for text in part]]
    try:
        expected = split_in_parts(whole, rule)
    except InputError:
        with pytest.raises(InputError):
            split_in_parts(parts, rule)
        return
    got = split_in_parts(parts, rule)
    assert {name: sorted(keys) for name, keys in got.items()} == {
        name: sorted(keys) for name, keys in expected.items()
    }


@settings(max_examples=100, deadline=None)
@given(texts=texts, documents=st.integers(1, 8))
def test_eval_has_no_more_documents_than_asked_for_and_copies(texts: list[str], documents: int):
    rule = SplitRule(0.0, Amount(SEQ_LEN), Amount(0, documents))
    try:
        got = split_in_parts([texts], rule)
    except InputError:
        return
    copies = max(texts.count(text) for text in texts)
    assert documents <= len(got['eval']) < documents + copies


def document(length: int, prompt: int = 0) -> EncodedDocument:
    return EncodedDocument(0, np.arange(1, length + 1, dtype=np.uint16), length, prompt=prompt)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=30), seq_len=st.integers(2, 12))
def test_packing_keeps_every_token_in_order(lengths: list[int], seq_len: int):
    packer = Packer(seq_len, np.uint16)
    samples = [
        packer.add([document(length) for length in lengths[i : i + 3]]) for i in range(0, len(lengths), 3)
    ]
    stream = [token for length in lengths for token in range(1, length + 1)]
    whole = np.concatenate([one.tokens for one in samples]).ravel().tolist()
    tail, mask = packer.tail
    assert mask is None
    assert whole + tail.tolist() == stream
    assert len(tail) < seq_len


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=1, max_size=20),
    seq_len=st.integers(2, 12),
)
def test_packed_answers_alone_are_in_the_mask(lengths: list[tuple[int, int]], seq_len: int):
    packer = Packer(seq_len, np.uint16, answers_only=True)
    samples = packer.add([document(prompt + answer, prompt) for prompt, answer in lengths])
    tail, tail_mask = packer.tail
    assert samples.mask is not None
    assert tail_mask is not None
    mask = [*samples.mask.ravel().tolist(), *tail_mask.tolist()]
    assert mask == [kind for prompt, answer in lengths for kind in [0] * prompt + [1] * answer]
    assert len(tail) == len(tail_mask)


@settings(max_examples=200, deadline=None)
@given(
    prompt=st.integers(0, 30),
    answer=st.integers(1, 30),
    seq_len=st.integers(2, 20),
    answers_only=st.booleans(),
)
def test_one_example_a_sample_keeps_its_answer(prompt: int, answer: int, seq_len: int, answers_only: bool):
    padder = Padder(seq_len, np.uint16, pad_id=0, answers_only=answers_only)
    samples = padder.add([document(prompt + answer, prompt)])
    assert samples.mask is not None
    kept = samples.tokens[0][samples.tokens[0] > 0].tolist()
    # Cut from the prompt's start as far as needed, then from the answer's end.
    begin = min(prompt, max(0, prompt + answer - seq_len))
    assert kept == list(range(begin + 1, prompt + answer + 1))[:seq_len]
    assert padder.cut_tokens == prompt + answer - len(kept)
    counted = samples.tokens[0][samples.mask[0] == 1].tolist()
    assert counted == [one for one in kept if one > prompt or not answers_only]
