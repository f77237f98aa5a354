"""Weighed by skill, training is that of a plain loop that weighs the loss of every token."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composer.models import HuggingFaceModel
from numpy.typing import NDArray
from torch.nn import functional
from torch.optim import AdamW

from skillit_stream import MixturePolicy, RoundObservation, SkillLossModel, causal_lm_inputs, collate
from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.mixture import LimitedPolicy, Limits
from skillit_stream.training.token_losses import chunked_linear_cross_entropy, take_loss_by_token
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, without_clocks
from tests.support.training_runs import (
    BATCH,
    LLAMA,
    SKILLS,
    STEPS,
    TRAIN_SAMPLES,
    fit,
    tiny_dataset,
    tiny_model,
    tiny_trainer,
)

# By a ceiling of one half, rounds 0 and 2 are weighed and round 1 is not.
WANTED = [[0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.2, 0.2, 0.6]]
WEIGHTS = [[1.6, 0.4, 0.4], [1.0, 1.0, 1.0], [0.8, 0.8, 1.2]]


class Moving(MixturePolicy):
    """A mixture for each round; remembers the training losses that it is shown."""

    def __init__(self, *, needs_train_losses: bool = False) -> None:
        super().__init__(SKILLS)
        self.needs_train_losses = needs_train_losses
        self.shown: list[Mapping[str, float] | None] = []

    def initial(self) -> NDArray[np.float64]:
        return np.array(WANTED[0])

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        self.shown.append(observation.train_losses)
        return np.array(WANTED[(observation.round + 1) % 3])


def weighed(*, ceiling: float = 0.5, max_weight: float | None = 4.0, **options: Any) -> MixturePolicy:
    return LimitedPolicy(Moving(**options), Limits.build(SKILLS, ceiling=ceiling), max_weight=max_weight)


def train(streams: Path, run: Path, policy: MixturePolicy, **options: Any) -> dict[str, torch.Tensor]:
    """The parameters after three rounds."""
    trainer = tiny_trainer(streams, policy, run, accumulate_train_batch_on_tokens=True, **options)
    fit(trainer)
    return {name: one.detach().clone() for name, one in trainer.state.model.named_parameters()}


def sample_loss(model: Any, sample: Mapping[str, Any]) -> tuple[torch.Tensor, int]:
    """The sum of the losses of a sample's target tokens, and their number."""
    ids = torch.from_numpy(np.asarray(sample['tokens']).astype(np.int64))
    wanted = torch.from_numpy(np.asarray(sample['loss_mask']))[1:] == 1
    logits = model(input_ids=ids[None]).logits[0, :-1]
    return functional.cross_entropy(logits, ids[1:], reduction='none')[wanted].sum(), int(wanted.sum())


def trained_by_hand(
    streams: Path, samples: Mapping[int, list[int]]
) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """The parameters after a loop over steps and samples, and the mean loss, not weighed, of each round's skills."""
    model, dataset = tiny_model(streams), tiny_dataset(streams)
    model.train()
    optimizer = AdamW(model.parameters(), lr=0.01)
    means: list[dict] = []
    sums: dict[str, list[float]] = {}
    for step, ids in samples.items():
        if step % STEPS == 0:
            sums = {}
        loss, tokens = torch.zeros(()), 0
        for one in ids:
            number = one // TRAIN_SAMPLES
            nats, count = sample_loss(model.model, dataset.get_item(one))
            loss, tokens = loss + WEIGHTS[step // STEPS][number] * nats, tokens + count
            total = sums.setdefault(SKILLS[number], [0.0, 0.0])
            total[0] += float(nats)
            total[1] += count
        optimizer.zero_grad()
        (loss / tokens).backward()
        optimizer.step()
        if step % STEPS == STEPS - 1:
            means.append({skill: nats / count for skill, (nats, count) in sums.items()})
    return {name: one.detach() for name, one in model.named_parameters()}, means


@pytest.mark.parametrize('microbatch', [4, 3, 1])
@pytest.mark.parametrize('counts', [False, True], ids=['weighs alone', 'counts too'])
def test_training_is_that_of_a_plain_loop(uneven: Path, run_folder: Path, microbatch: int, counts: bool):
    policy = weighed(needs_train_losses=counts)
    found = train(uneven, run_folder, policy, device_train_microbatch_size=microbatch)
    expected, means = trained_by_hand(uneven, drawn_samples(run_folder))
    for name, one in expected.items():
        # 18 steps of 0.01 in float32.
        torch.testing.assert_close(found[name], one, rtol=0, atol=1e-5)
    lines = rounds_of(run_folder)
    assert [list(line.get('objective', {}).values()) for line in lines] == [
        pytest.approx(WANTED[0]), [], pytest.approx(WANTED[2])
    ]  # fmt: skip
    if counts:
        # What a policy is shown is not weighed.
        for line, mean in zip(lines, means, strict=True):
            assert line['train_losses'] == pytest.approx(mean, rel=1e-3)
    unweighed = train(uneven, run_folder / 'plain', weighed(max_weight=None))
    assert max(float((unweighed[name] - one).abs().max()) for name, one in found.items()) > 1e-3


def test_where_no_limit_binds_nothing_changes(uneven: Path, run_folder: Path, tmp_path: Path):
    one = train(uneven, run_folder, weighed(ceiling=0.9))
    other = train(uneven, tmp_path / 'plain', weighed(ceiling=0.9, max_weight=None))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert without_clocks(mixture_lines(run_folder)) == without_clocks(mixture_lines(tmp_path / 'plain'))


@pytest.mark.parametrize('stop', ['3ba', '6ba', '15ba'])
def test_a_run_that_stopped_ends_as_one_that_did_not(
    uneven: Path, run_folder: Path, tmp_path: Path, stop: str
):
    straight = train(uneven, tmp_path / 'straight', weighed())
    folder = run_folder / 'checkpoints'
    train(uneven, run_folder, weighed(), max_duration=stop, save_folder=str(folder), save_interval='1ep')
    found = train(uneven, run_folder, weighed(), load_path=str(folder / 'latest-rank0.pt'))
    assert all(torch.equal(found[name], one) for name, one in straight.items())
    lines = [without_clocks(mixture_lines(one)) for one in (run_folder, tmp_path / 'straight')]
    assert [line.get('objective') for line in lines[0]] == [line.get('objective') for line in lines[1]]


@pytest.mark.parametrize('counts', [False, True])
def test_a_loss_taken_by_token_is_weighed_alike(uneven: Path, counts: bool):
    ours, plain = tiny_model(uneven), tiny_model(uneven)
    take_loss_by_token(ours.model, chunked_linear_cross_entropy)
    ours = SkillLossModel(ours.model, tokenizer=ours.tokenizer, use_logits=True)
    samples = [sample for sample, _ in zip(tiny_dataset(uneven), range(2 * BATCH), strict=False)]
    batch = causal_lm_inputs(collate(samples))
    for model in (ours, plain):
        model.weigh_skills([1.5, 0.25, 0.25])
        if counts:
            model.count_skills(3)
        model.train()
    plain._has_more_terms = False
    losses = [model.loss(model(dict(batch)), dict(batch)) for model in (ours, plain)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-6)
    for loss in losses:
        loss.backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    if counts:
        torch.testing.assert_close(*(model.take_skill_losses() for model in (ours, plain)))


def test_what_is_evaluated_is_not_weighed(uneven: Path):
    model = tiny_model(uneven)
    batch = causal_lm_inputs(
        collate([sample for sample, _ in zip(tiny_dataset(uneven), range(4), strict=False)])
    )
    model.eval()
    before = model.loss(model(dict(batch)), dict(batch))
    model.weigh_skills([4.0, 0.0, 0.0])
    assert torch.equal(model.loss(model(dict(batch)), dict(batch)), before)


def test_a_loss_of_further_terms_is_refused_at_the_first_step_whether_it_is_weighed_or_not(
    tiny_yaml: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
):
    router = {'model_type': 'mixtral', 'num_local_experts': 4, 'output_router_logits': 'true'}
    options = {**LLAMA, **router, 'router_aux_loss_coef': 5.0}
    model = [f'model.config.{key}={value}' for key, value in options.items()]
    limits = ['algorithms.data_mixing.token_weights=true', 'algorithms.data_mixing.ceiling=0.9']
    assert main(['train', str(tiny_yaml), *model, *limits]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert '`token_weights` weigh the cross-entropy of tokens, but the loss of MixtralForCausalLM has' in line
    assert not list(run_folder.glob('checkpoints/*.pt'))


def test_a_model_that_knows_no_skills_is_refused(streams: Path, run_folder: Path):
    inner = tiny_model(streams)
    trainer = tiny_trainer(streams, weighed(), run_folder)
    trainer.state.model = HuggingFaceModel(inner.model, tokenizer=inner.tokenizer, use_logits=True)
    with pytest.raises(
        InputError, match=r'`token_weights` need the losses .* which the model \(HuggingFaceModel\)'
    ):
        fit(trainer)
