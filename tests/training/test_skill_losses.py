"""Training losses by skill are those that a plain loop finds, and cost no second forward pass."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composer.models import HuggingFaceModel
from composer.utils import reproducibility
from numpy.typing import NDArray
from transformers import AutoTokenizer

from skillit_stream import (
    MixturePolicy,
    RoundObservation,
    SkillLossModel,
    StaticMixture,
    causal_lm_inputs,
    collate,
)
from skillit_stream.base.errors import InputError
from skillit_stream.training.config import ModelConfig
from skillit_stream.training.models import build_model
from skillit_stream.training.token_losses import chunked_linear_cross_entropy, take_loss_by_token
from tests.support.run_folders import drawn_samples, rounds_of
from tests.support.training_runs import (
    BATCH,
    LLAMA,
    SKILLS,
    STEPS,
    VOCABULARY,
    fit,
    tiny_dataset,
    tiny_model,
    tiny_trainer,
)


class Watching(MixturePolicy):
    """A fixed mixture that remembers the training losses it is shown."""

    needs_train_losses = True

    def __init__(self) -> None:
        super().__init__(SKILLS)
        self.seen: list[Mapping[str, float] | None] = []

    def initial(self) -> NDArray[np.float64]:
        return np.array([0.75, 0.25, 0.0])

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        self.seen.append(observation.train_losses)
        return np.array([0.5, 0.25, 0.25])


def train(streams: Path, run: Path, policy: Watching, **options: Any) -> None:
    """Three rounds in which the weights stay as they are."""
    trainer = tiny_trainer(streams, policy, run, **options)
    for optimizer in trainer.state.optimizers:
        for group in optimizer.param_groups:
            group['lr'] = 0.0
    fit(trainer)


def by_hand(streams: Path, samples: Mapping[int, list[int]], rounds: int) -> list[dict[str, float]]:
    """Mean loss of each skill in each round, sample by sample."""
    model = tiny_model(streams).model
    model.eval()
    dataset = tiny_dataset(streams)
    means = []
    for number in range(rounds):
        nats, tokens = defaultdict(float), defaultdict(int)
        for step in range(number * STEPS, (number + 1) * STEPS):
            for sample_id in samples[step]:
                sample = dataset.get_item(sample_id)
                skill = SKILLS[sample_id // 300]
                ids = torch.from_numpy(np.array(sample['tokens'], np.int64))[None]
                mask = torch.from_numpy(np.array(sample['loss_mask']))[None] == 1
                with torch.no_grad():
                    logits = model(input_ids=ids).logits[0, :-1].double()
                losses = -torch.log_softmax(logits, -1)[torch.arange(len(logits)), ids[0, 1:]]
                nats[skill] += float(losses[mask[0, 1:]].sum())
                tokens[skill] += int(mask[0, 1:].sum())
        means.append({skill: nats[skill] / tokens[skill] for skill in nats})
    return means


def test_they_are_those_of_a_plain_loop(streams: Path, run_folder: Path):
    policy = Watching()
    train(streams, run_folder, policy)
    expected = by_hand(streams, drawn_samples(run_folder), 3)
    assert len(policy.seen) == 3
    for seen, hand in zip(policy.seen, expected, strict=True):
        assert seen is not None
        # A skill that was not drawn has none.
        assert seen.keys() == hand.keys()
        assert dict(seen) == pytest.approx(hand, abs=1e-6)
    assert set(expected[0]) == set(SKILLS[:2])
    assert set(expected[1]) == set(SKILLS)
    assert [line['train_losses'] for line in rounds_of(run_folder)] == [
        dict(one or {}) for one in policy.seen
    ]


@pytest.mark.parametrize('size', [1, 3])
def test_microbatches_make_no_difference(streams: Path, run_folder: Path, tmp_path: Path, size: int):
    whole, parts = Watching(), Watching()
    train(streams, run_folder, whole)
    train(streams, tmp_path / 'parts', parts, device_train_microbatch_size=size)
    for one, other in zip(whole.seen, parts.seen, strict=True):
        assert dict(one or {}) == pytest.approx(dict(other or {}), abs=1e-6)


@pytest.mark.parametrize('stop', ['8ba', '11ba', '1ep'])
def test_a_run_that_stopped_goes_on_counting(streams: Path, run_folder: Path, tmp_path: Path, stop: str):
    straight = Watching()
    train(streams, tmp_path / 'straight', straight)
    saving = {'save_folder': str(run_folder / 'checkpoints'), 'save_interval': '1ep'}
    train(streams, run_folder, Watching(), max_duration=stop, **saving)
    resumed = Watching()
    latest = str(run_folder / 'checkpoints' / 'latest-rank0.pt')
    train(streams, run_folder, resumed, load_path=latest)
    for one, other in zip(reversed(straight.seen), reversed(resumed.seen), strict=False):
        assert dict(one or {}) == pytest.approx(dict(other or {}), abs=1e-9)
    # From the end of a round the policy is shown that round again: its options may be others.
    assert len(resumed.seen) == {'8ba': 2, '11ba': 2, '1ep': 3}[stop]


def test_the_loss_of_a_step_is_the_models_own(streams: Path):
    model, plain = tiny_model(streams), tiny_model(streams)
    model.count_skills(3)
    dataset = tiny_dataset(streams)
    samples = [sample for sample, _ in zip(dataset, range(BATCH), strict=False)]
    batch = causal_lm_inputs(collate(samples))
    ours, theirs = (one.loss(one(dict(batch)), dict(batch)) for one in (model, plain))
    ours.backward()
    theirs.backward()
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def small(streams: Path, **config: Any) -> Any:
    """A model of one layer on CPU, with `config` beside the usual."""
    reproducibility.seed_all(1)
    tokenizer = AutoTokenizer.from_pretrained(str(streams / 'tokenizer'))
    return build_model(ModelConfig(config={**LLAMA, **config}), tokenizer, VOCABULARY)


MIXTRAL = {
    'model_type': 'mixtral',
    'num_local_experts': 4,
    'output_router_logits': True,
    'router_aux_loss_coef': 5.0,
}


@pytest.mark.parametrize('config', [MIXTRAL, {}], ids=['router loss', 'none'])
def test_a_loss_of_further_terms_is_trained_whether_skills_are_counted_or_not(streams: Path, config: dict):
    counting, plain = small(streams, **config), small(streams, **config)
    counting.count_skills(3)
    dataset = tiny_dataset(streams)
    samples = [sample for sample, _ in zip(dataset, range(2 * BATCH), strict=False)]
    for part in (samples[:BATCH], samples[BATCH:]):
        batch = causal_lm_inputs(collate(part))
        ours, theirs = (one.loss(one(dict(batch)), dict(batch)) for one in (counting, plain))
        assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
        ours.backward()
        theirs.backward()
    for one, other in zip(counting.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    nats, tokens = counting.take_skill_losses()
    # What is counted by skill is the cross-entropy alone.
    assert float(nats.sum() / tokens.sum()) < 4


@pytest.mark.parametrize('counts', [False, True])
@pytest.mark.parametrize('config', [{}, MIXTRAL], ids=['llama', 'mixtral'])
@pytest.mark.parametrize('by_token', [False, True])
def test_a_batch_without_targets_contributes_nothing(
    streams: Path, counts: bool, config: dict, by_token: bool
):
    model = small(streams, **config)
    if by_token:
        take_loss_by_token(model.model, chunked_linear_cross_entropy)
        model = SkillLossModel(model.model, tokenizer=model.tokenizer, use_logits=True)
    if counts:
        model.count_skills(3)
    tokens = torch.randint(VOCABULARY, (2, 8))
    batch = {'input_ids': tokens, 'labels': torch.full_like(tokens, -100), 'skill': torch.tensor([0, 2])}
    loss = model.loss(model(dict(batch)), dict(batch))
    loss.backward()
    assert float(loss) == 0
    assert all(one.grad is None or not one.grad.any() for one in model.parameters())
    if counts:
        assert not model.take_skill_losses().any()


@pytest.mark.parametrize('policy', [Watching, None])
def test_steps_without_targets_do_no_harm(
    streams: Path, run_folder: Path, tmp_path: Path, policy: type | None, monkeypatch: pytest.MonkeyPatch
):
    from skillit_stream.training import evaluation

    def half_empty(batch: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        inputs = causal_lm_inputs(batch, **options)
        inputs['labels'][inputs['input_ids'][:, 0] % 2 == 0] = -100
        return inputs

    monkeypatch.setattr(evaluation, 'causal_lm_inputs', half_empty)
    trainer = tiny_trainer(
        streams,
        policy() if policy else StaticMixture(dict.fromkeys(SKILLS, 1 / 3)),
        run_folder,
        device_train_microbatch_size=1,
    )
    fit(trainer)
    assert all(one.isfinite().all() for one in trainer.state.model.parameters())


def test_a_model_that_cannot_is_refused_by_name(streams: Path, run_folder: Path):
    inner = tiny_model(streams)
    model = HuggingFaceModel(inner.model, tokenizer=inner.tokenizer, use_logits=True)
    trainer = tiny_trainer(streams, Watching(), run_folder)
    trainer.state.model = model
    with pytest.raises(
        InputError, match=r'needs training losses by skill, which the model \(HuggingFaceModel\)'
    ):
        fit(trainer)
