"""evaluate_skills: what any PyTorch model makes of the eval streams, and what it leaves as it was."""

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from streaming import MDSWriter, Stream
from torch.nn.functional import cross_entropy

from skillit_stream import EvalStreams, InputError, evaluate_skills
from tests.support.mds import SEQ_LEN, SIZES, open_streams, tokens_of
from tests.support.streams_reading import samples_in

VOCABULARY = 40


class Network(torch.nn.Module):
    """An embedding and a head, with dropout: the next token is told by the last one."""

    def __init__(self, returns: str = 'tensor') -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.table = torch.nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=draw))
        self.dropout, self.frozen = torch.nn.Dropout(0.5), torch.nn.Dropout(0.5)
        self.frozen.eval()
        self.returns = returns
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, tokens: torch.Tensor) -> Any:
        assert not torch.is_grad_enabled()
        self.shapes.append(tuple(tokens.shape))
        logits = self.frozen(self.dropout(self.table[tokens]))
        named = {'logits': logits}
        return {'tensor': logits, 'mapping': named, 'tuple': (logits, None)}.get(
            self.returns, SimpleNamespace(**named)
        )


class Takes(Network):
    """One that takes its tokens by name, as transformers does, and may be told to keep no cache."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (the point of it)
        self, *, input_ids: torch.Tensor, use_cache: bool = True
    ) -> Any:
        assert not use_cache
        return super().forward(input_ids)


class Wrapper(torch.nn.Module):
    """What DDP and FSDP are: they pass on whatever they get."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


@pytest.fixture
def evals(streams_root: Path) -> EvalStreams:
    return EvalStreams(open_streams(streams_root, SIZES))


def losses_by_hand(root: Path, limit: int | None = None, end: int | None = None) -> dict[str, float]:
    """Each skill's nats per token, by a plain loop over its samples; none of what comes after `end`."""
    table = Network().table.detach()
    losses = {}
    for skill in SIZES:
        tokens = [torch.from_numpy(one['tokens'].astype('int64')) for one in samples_in(root / skill)[:limit]]
        pairs = [(int(a), int(b)) for one in tokens for a, b in pairwise(one) if int(a) != end]
        nats = [float(cross_entropy(table[a], torch.tensor(b))) for a, b in pairs]
        losses[skill] = math.fsum(nats) / len(nats)
    return losses


@pytest.mark.parametrize('batch_size', [1, 4, 64])
@pytest.mark.parametrize('limit', [None, 5])
def test_every_skill_is_what_a_plain_loop_finds(
    streams_root: Path, evals: EvalStreams, batch_size: int, limit: int | None
):
    found = evaluate_skills(Network(), evals, batch_size=batch_size, samples_per_skill=limit)
    assert found == pytest.approx(losses_by_hand(streams_root, limit), rel=1e-6)
    assert list(found) == list(SIZES)


@pytest.mark.parametrize('model', [Network(one) for one in ('mapping', 'tuple', 'object')] + [Takes()])
@pytest.mark.parametrize('wrapped', [False, True])
def test_a_model_may_take_tokens_and_return_logits_in_any_of_the_usual_ways(
    streams_root: Path, evals: EvalStreams, model: Network, wrapped: bool
):
    found = evaluate_skills(Wrapper(model) if wrapped else model, evals, batch_size=8)
    assert found == pytest.approx(losses_by_hand(streams_root), rel=1e-6)


def test_what_training_goes_on_with_is_as_it_was(evals: EvalStreams):
    model = Network()
    random = torch.get_rng_state()
    evaluate_skills(model, evals, batch_size=8)
    assert [model.training, model.dropout.training, model.frozen.training] == [True, True, False]
    assert model.table.grad is None
    assert torch.equal(torch.get_rng_state(), random)
    with pytest.raises(InputError):
        evaluate_skills(model, evals, batch_size=0)
    assert model.training


def test_a_skill_without_a_target_has_no_loss(tmp_path: Path):
    columns = {'tokens': f'ndarray:uint16:{SEQ_LEN}', 'loss_mask': f'ndarray:uint8:{SEQ_LEN}'}
    for skill, mask in (('some', [0] * 6 + [1, 1]), ('none', [1] + [0] * 7)):
        with MDSWriter(out=str(tmp_path / skill), columns=columns) as writer:
            tokens = tokens_of(0, 1)
            writer.write({'tokens': tokens, 'loss_mask': torch.tensor(mask, dtype=torch.uint8).numpy()})
    evals = EvalStreams({skill: Stream(local=str(tmp_path / skill)) for skill in ('some', 'none')})
    found = evaluate_skills(Network(), evals, batch_size=8)
    tokens = torch.from_numpy(tokens_of(0, 1).astype('int64'))
    expected = float(cross_entropy(Network().table.detach()[tokens[5:7]], tokens[6:8]))
    assert found['some'] == pytest.approx(expected, rel=1e-6)
    assert math.isnan(found['none'])


def test_documents_of_a_sample_may_be_kept_apart(streams_root: Path, evals: EvalStreams):
    found = evaluate_skills(Network(), evals, batch_size=8, document_end=2)
    assert found == pytest.approx(losses_by_hand(streams_root, end=2), rel=1e-6)
    assert found != pytest.approx(losses_by_hand(streams_root), rel=1e-3)


class LastTokenAlone(Network):
    """As nanoGPT without targets."""

    def forward(self, tokens: torch.Tensor) -> Any:
        return super().forward(tokens)[:, -1:]


def test_a_model_that_keeps_only_the_last_logits_is_refused(evals: EvalStreams):
    with pytest.raises(
        InputError,
        match=r'^The model must return logits of every token, \[8, 8, vocabulary\], but got: \[8, 1, 40\]',
    ):
        evaluate_skills(LastTokenAlone(), evals, batch_size=8)


@pytest.mark.parametrize('name', ['batch_size', 'samples_per_skill'])
def test_numbers_that_are_not_positive_are_refused(evals: EvalStreams, name: str):
    options: dict[str, Any] = {'batch_size': 8, name: 0}
    with pytest.raises(InputError, match=rf'^`{name}` must be a positive whole number, but got: 0'):
        evaluate_skills(Network(), evals, **options)
