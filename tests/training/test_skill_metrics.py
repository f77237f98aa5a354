"""The sums behind a skill's loss, bits per byte and accuracy, against values worked by hand."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from skillit_stream.formats.manifest import SplitInfo
from skillit_stream.mixing.sample_sums import sums_by_sample
from skillit_stream.training.skill_metrics import MeanSkillLoss, as_logged, tokens_per_byte

IGNORED = -100


def scores(*chances: list[float]) -> torch.Tensor:
    """Logits of places with these probabilities, [places, vocabulary]."""
    return torch.tensor(chances).log()


def split_info(**counts: int | None) -> SplitInfo:
    """A split of 10 samples of 8 tokens."""
    known = {'samples': 10, 'tokens': 80, 'target_tokens': 80, 'bytes': 300, 'documents': 4}
    return SplitInfo(index_hash='sha256:0', **{**known, **counts})  # pyright: ignore[reportArgumentType]


def test_the_sums_of_a_sample_are_those_worked_by_hand():
    logits = torch.stack(
        [
            scores([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6]),
            scores([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6]),
            scores([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6]),
        ]
    )
    labels = torch.tensor([[0, 1, IGNORED], [1, 1, IGNORED], [IGNORED] * 3])
    sums = sums_by_sample(logits, labels, accuracy=True)
    assert sums.dtype == torch.float64
    nats, tokens, right, samples, whole = sums.tolist()
    assert nats == pytest.approx([2 * math.log(2), 3 * math.log(2), 0], rel=1e-6)
    assert tokens == [2, 2, 0]
    assert right == [2, 1, 0]
    # A sample without targets is neither right nor wrong.
    assert samples == [1, 1, 0]
    assert whole == [1, 0, 0]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 9)),
    widened=st.integers(1, 400),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_sums_do_not_depend_on_how_many_logits_are_widened_at_a_time(
    shape: tuple[int, int, int], widened: int, seed: int, dtype: torch.dtype
):
    draw = torch.Generator().manual_seed(seed)
    batch, sequence, vocabulary = shape
    logits = torch.randn(shape, generator=draw).to(dtype)
    labels = torch.randint(0, vocabulary, (batch, sequence), generator=draw)
    labels[torch.rand((batch, sequence), generator=draw) < 0.3] = IGNORED
    found = sums_by_sample(logits, labels, accuracy=True, widened=widened)
    for row in range(batch):
        kept = labels[row] != IGNORED
        wanted, exact = labels[row][kept], logits[row][kept].double()
        right = (logits[row][kept].argmax(dim=-1) == wanted).tolist()
        nats = float(cross_entropy(exact, wanted, reduction='sum')) if right else 0.0
        assert float(found[0, row]) == pytest.approx(nats, rel=1e-6, abs=1e-6)
        assert found[1:, row].tolist() == [len(right), sum(right), bool(right), bool(right) and all(right)]


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 12), max_size=4), seed=st.integers(0, 2**31))
def test_how_samples_fall_into_microbatches_does_not_matter(cuts: list[int], seed: int):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn((12, 3, 5), generator=draw)
    labels = torch.randint(0, 5, (12, 3), generator=draw)
    skill = torch.randint(0, 2, (12,), generator=draw, dtype=torch.int32)
    skill[:2] = torch.tensor([0, 1])
    whole, parts = MeanSkillLoss(['a', 'b'], accuracy=True), MeanSkillLoss(['a', 'b'], accuracy=True)
    whole.update({'skill': skill}, logits, labels)
    ends = sorted({0, 12, *cuts})
    for begin, end in pairwise(ends):
        parts.update({'skill': skill[begin:end]}, {'logits': logits[begin:end]}, labels[begin:end])
    assert float(parts.compute()) == pytest.approx(float(whole.compute()), rel=1e-14)
    for name, values in whole.by_skill().items():
        assert parts.by_skill()[name] == pytest.approx(values, rel=1e-14)


def test_the_figures_of_a_skill_are_those_worked_by_hand():
    metric = MeanSkillLoss(['a', 'b', 'none'], tokens_per_byte={'a': 0.25}, accuracy=True)
    logits = torch.stack([scores([0.5, 0.5 - 2**-10, 2**-10])] * 3)
    labels = torch.tensor([[0], [0], [2]])
    metric.update({'skill': torch.tensor([0, 1, 1])}, logits, labels)
    assert math.isnan(float(metric.compute()))
    figures = metric.by_skill()
    assert math.isnan(figures['losses'].pop('none'))
    ten = 10 * math.log(2)
    assert figures['losses'] == pytest.approx({'a': math.log(2), 'b': (math.log(2) + ten) / 2}, rel=1e-6)
    # One bit a token, four bytes a token.
    assert figures['bits_per_byte'] == pytest.approx({'a': 0.25}, rel=1e-6)
    assert {skill: figures['accuracy'][skill] for skill in 'ab'} == {'a': 1.0, 'b': 0.5}
    assert {skill: figures['exact_match'][skill] for skill in 'ab'} == {'a': 1.0, 'b': 0.5}


def test_the_mean_weighs_skills_alike_and_starts_anew():
    metric = MeanSkillLoss(['a', 'b'])
    for _ in range(2):
        logits = torch.stack([scores([0.5, 0.5])] * 3 + [scores([0.125, 0.875])])
        metric.update({'skill': torch.tensor([0, 0, 0, 1])}, logits, torch.zeros(4, 1, dtype=torch.int64))
        assert float(metric.compute()) == pytest.approx(2 * math.log(2), rel=1e-6)
        assert list(metric.by_skill()) == ['losses']
        metric.reset()


def test_tokens_per_byte_are_those_of_the_whole_text():
    splits = {
        # 80 tokens in samples and 10 that filled none, of 300 bytes.
        'text': split_info(text_tokens=90),
        'answers': split_info(text_tokens=None),
        'empty': split_info(text_tokens=4, bytes=0),
    }
    assert tokens_per_byte(splits) == {'text': 0.3}


def test_figures_are_logged_by_skill_and_the_loss_under_its_name_in_composer():
    figures = {'losses': {'a': 1.0, 'b': 2.0}, 'bits_per_byte': {'a': 0.5}, 'accuracy': {'b': 0.1}}
    assert as_logged({**figures, 'exact_match': {'b': 0.0}}) == {
        'metrics/a/LanguageCrossEntropy': 1.0,
        'metrics/b/LanguageCrossEntropy': 2.0,
        'metrics/a/BitsPerByte': 0.5,
        'metrics/b/AnswerAccuracy': 0.1,
        'metrics/b/AnswerExactMatch': 0.0,
    }
