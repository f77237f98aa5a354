"""A skill's loss is the mean over all its target tokens, each sample seen once, in one pass or apart."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composer import Trainer
from composer.models import HuggingFaceModel
from streaming import MDSWriter, Stream

from skillit_stream import InputError
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.training.evaluation import (
    build_evaluators,
    evaluated_skills,
    skill_evaluator,
)
from skillit_stream.training.models import LOSS_METRIC
from skillit_stream.training.skill_metrics import Figures, MeanSkillLoss
from tests.support.by_hand import by_hand, mean_loss
from tests.support.evaluating import LIMIT, WAYS, evaluate_all, figures_of
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.mds import SEQ_LEN, tokens_of, write_streams
from tests.support.paths import SUPPORT
from tests.support.streams_reading import samples_in
from tests.support.training_runs import EVAL_SAMPLES, SKILLS, tiny_evaluators, tiny_model

SIZES = {'long': [9, 4, 6], 'short': [3]}


def measured(model: HuggingFaceModel, evaluators: list[Any]) -> dict[str, float]:
    """What Composer's evaluation says, by label."""
    trainer = Trainer(model=model, eval_dataloader=evaluators, device='cpu', progress_bar=False)
    try:
        trainer.eval()
        metrics = trainer.state.eval_metrics
        return {str(one.label): float(metrics[str(one.label)][LOSS_METRIC].compute()) for one in evaluators}
    finally:
        trainer.close()


def measured_at_once(model: HuggingFaceModel, evals: EvalStreams, **options: Any) -> Figures:
    """What one pass over all skills says."""
    model.val_metrics = {MeanSkillLoss.__name__: MeanSkillLoss(evals.skills, accuracy=True)}
    evaluator = skill_evaluator(evals, **{'batch_size': 7, **options})
    trainer = Trainer(model=model, eval_dataloader=evaluator, device='cpu', progress_bar=False)
    try:
        trainer.eval()
        return figures_of(trainer)
    finally:
        trainer.close()


def assert_as_by_hand(
    model: HuggingFaceModel, root: Path, figures: Figures, limit: int | None = None
) -> None:
    """The figures of the three skills against the plain loop over the samples of each."""
    assert sorted(figures) == ['accuracy', 'exact_match', 'losses']
    for skill in SKILLS:
        expected = by_hand(model, samples_in(root / skill / 'eval')[:limit])
        found = {name: values[skill] for name, values in figures.items()}
        assert found['losses'] == pytest.approx(expected.pop('losses'), rel=1e-6)
        # Counts are whole numbers: nothing is lost in adding them up.
        assert {name: found[name] for name in expected} == expected


@pytest.fixture
def plain_streams(tmp_path: Path) -> Path:
    """Streams without a mask: 19 samples in three shards, and 3."""
    write_streams(tmp_path / 'plain', SIZES)
    return tmp_path / 'plain'


def plain_evaluators(root: Path, **options: Any) -> list[Any]:
    """Evaluators over the streams without a mask."""
    streams = EvalStreams({skill: Stream(local=str(root / skill)) for skill in SIZES})
    return build_evaluators(streams, **{'batch_size': 4, 'metric_names': [LOSS_METRIC], **options})


@pytest.fixture(scope='module')
def ragged_streams(streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three skills of 41, 1 and 19 eval samples: 61 divide neither by 2 or 3 ranks nor by a batch.

    The targets of the last skill's samples are all of their tokens, the last n, or none at all.
    """
    root = Path(shutil.copytree(streams, tmp_path_factory.mktemp('ragged') / 'streams'))
    [length] = {len(sample['tokens']) for sample in samples_in(root / 'digit_0' / 'eval')}
    columns = {'tokens': f'ndarray:uint16:{length}', 'loss_mask': f'ndarray:uint8:{length}'}
    for skill, count in (('digit_1', 1), ('digit_2', 19)):
        kept = samples_in(root / skill / 'eval')[:count]
        shutil.rmtree(root / skill / 'eval')
        with MDSWriter(out=str(root / skill / 'eval'), columns=columns) as writer:
            for number, sample in enumerate(kept):
                if skill == 'digit_2':
                    sample['loss_mask'] = (np.arange(length) >= number).astype(np.uint8)
                writer.write(sample)
    return root


# The metric adds up in float32: n terms may be off by n/2 units in the last place, 41 by 2.4e-6.
FLOAT32_SUM = 2.5e-6


@pytest.mark.parametrize('batch_size', [1, 7, 41, 64])
def test_the_loss_of_masked_streams_is_that_of_a_plain_loop(streams: Path, batch_size: int):
    model = tiny_model(streams)
    losses = measured(model, tiny_evaluators(streams, batch_size=batch_size))
    assert list(losses) == list(SKILLS)
    for skill, loss in losses.items():
        samples = samples_in(streams / skill / 'eval')
        assert len(samples) == EVAL_SAMPLES
        # One answer token in 17 counts.
        assert sum(int(np.sum(sample['loss_mask'])) for sample in samples) == EVAL_SAMPLES
        assert loss == pytest.approx(mean_loss(model, samples), rel=FLOAT32_SUM)


@pytest.mark.parametrize('batch_size', [1, 4, 19])
def test_the_loss_of_streams_without_a_mask_counts_every_token(
    streams: Path, plain_streams: Path, batch_size: int
):
    model = tiny_model(streams, vocab_size=64)
    losses = measured(model, plain_evaluators(plain_streams, batch_size=batch_size))
    for skill, loss in losses.items():
        samples = samples_in(plain_streams / skill)
        assert [len(sample['tokens']) for sample in samples] == [SEQ_LEN] * sum(SIZES[skill])
        assert loss == pytest.approx(mean_loss(model, samples), rel=FLOAT32_SUM)


def test_samples_with_many_targets_weigh_more_than_those_with_few(streams: Path, tmp_path: Path):
    columns = {'tokens': f'ndarray:uint16:{SEQ_LEN}', 'loss_mask': f'ndarray:uint8:{SEQ_LEN}'}
    with MDSWriter(out=str(tmp_path / 'uneven'), columns=columns) as writer:
        for number in range(6):
            mask = (np.arange(SEQ_LEN) > number).astype(np.uint8)
            writer.write({'tokens': tokens_of(0, number), 'loss_mask': mask})
    model = tiny_model(streams, vocab_size=64)
    evals = EvalStreams({'uneven': Stream(local=str(tmp_path / 'uneven'))})
    loss = measured(model, build_evaluators(evals, batch_size=2, metric_names=[LOSS_METRIC]))['uneven']
    samples = samples_in(tmp_path / 'uneven')
    assert loss == pytest.approx(mean_loss(model, samples), rel=1e-6)
    by_sample = np.mean([mean_loss(model, [sample]) for sample in samples])
    assert abs(loss - by_sample) > 1e-3


def test_evaluators_apart_take_the_first_samples_of_each_skill(streams: Path):
    model = tiny_model(streams)
    losses = measured(model, tiny_evaluators(streams, samples_per_skill=16))
    for skill, loss in losses.items():
        samples = samples_in(streams / skill / 'eval')[:16]
        assert loss == pytest.approx(mean_loss(model, samples), rel=FLOAT32_SUM)


def test_a_subset_larger_than_the_stream_is_the_stream(streams: Path):
    model = tiny_model(streams)
    whole = measured(model, tiny_evaluators(streams))
    assert measured(model, tiny_evaluators(streams, samples_per_skill=1000)) == whole


def test_evaluating_again_gives_the_same(streams: Path):
    model = tiny_model(streams)
    evaluators = tiny_evaluators(streams)
    first = measured(model, evaluators)
    assert measured(model, evaluators) == first


@pytest.mark.parametrize('batch_size', [1, 4, 19])
def test_one_pass_counts_every_token_of_streams_without_a_mask(
    streams: Path, plain_streams: Path, batch_size: int
):
    model = tiny_model(streams, vocab_size=64)
    evals = EvalStreams({skill: Stream(local=str(plain_streams / skill)) for skill in SIZES})
    figures = measured_at_once(model, evals, batch_size=batch_size)
    for skill in SIZES:
        expected = mean_loss(model, samples_in(plain_streams / skill))
        assert figures['losses'][skill] == pytest.approx(expected, rel=1e-6)


def test_one_pass_is_a_plain_loop_in_batches_of_any_size(ragged_streams: Path):
    model = tiny_model(ragged_streams)
    for found in evaluate_all(ragged_streams):
        assert_as_by_hand(model, ragged_streams, found['at once'], found['limit'])
        expected = pytest.approx(found['at once']['losses'], rel=FLOAT32_SUM)
        assert found['apart'] == expected
        assert found['plain'] == pytest.approx(found['at once']['losses'], rel=1e-6)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    'ranks', [pytest.param(2, marks=[*NEEDS, pytest.mark.slow]), pytest.param(3, marks=NEEDS)]
)
def test_ranks_that_do_not_divide_the_samples_count_each_once(
    ragged_streams: Path, tmp_path: Path, launcher: Launcher, ranks: int
):
    out = tmp_path / 'found.json'
    script = SUPPORT / 'evaluating.py'
    finish(launcher.ranks(ragged_streams, ragged_streams, ranks, overrides=[str(out)], script=script))
    every = json.loads(out.read_text())
    assert [found['limit'] for found in every] == [limit for _, _, limit in WAYS]
    assert LIMIT in [found['limit'] for found in every]
    model = tiny_model(ragged_streams)
    alone = evaluate_all(ragged_streams)[0]['gradients']
    for found in every:
        assert_as_by_hand(model, ragged_streams, found['at once'], found['limit'])
        assert found['apart'] == pytest.approx(found['at once']['losses'], rel=FLOAT32_SUM)
        assert found['plain'] == pytest.approx(found['at once']['losses'], rel=1e-6)
        assert found['gradients'] == alone


def test_a_model_without_the_metric_of_one_pass_is_told_what_it_lacks(streams: Path):
    evals = EvalStreams({skill: Stream(local=str(streams / skill), split='eval') for skill in SKILLS})
    evaluator = skill_evaluator(evals, batch_size=7)
    with pytest.raises(
        InputError, match=r'of the skills digit_0, digit_1, digit_2 in this order, but got: none;'
    ):
        evaluated_skills(evaluator, {})
    swapped = MeanSkillLoss(['digit_1', 'digit_0', 'digit_2'])
    with pytest.raises(InputError, match=r'but got: digit_1, digit_0, digit_2; pass eval_metrics='):
        evaluated_skills(evaluator, {'MeanSkillLoss': swapped})
    assert evaluated_skills(evaluator, {'MeanSkillLoss': MeanSkillLoss(SKILLS)}) == SKILLS


def test_a_skill_may_be_called_all(streams: Path, tmp_path: Path):
    shutil.copytree(streams / 'digit_0', tmp_path / 'all')
    evals = EvalStreams({'all': Stream(local=str(tmp_path / 'all'), split='eval')})
    [evaluator] = build_evaluators(evals, batch_size=7, metric_names=[LOSS_METRIC])
    assert evaluated_skills(evaluator, {}) == ('all',)


def test_a_skill_view_holds_its_samples_in_the_order_of_the_files(plain_streams: Path):
    evals = EvalStreams({skill: Stream(local=str(plain_streams / skill)) for skill in SIZES})
    for skill in SIZES:
        view = evals.skill(skill)
        stored = samples_in(plain_streams / skill)
        assert len(view) == len(stored)
        for number, sample in enumerate(stored):
            assert np.array_equal(view[number]['tokens'], sample['tokens'])
        batch = view.__getitems__([2, 0, 1])
        assert [one['tokens'].tolist() for one in batch] == [stored[i]['tokens'].tolist() for i in (2, 0, 1)]


def test_compressed_streams_are_read_too(streams: Path, tmp_path: Path, plain_streams: Path):
    write_streams(tmp_path / 'small', SIZES, compression='zstd')
    model = tiny_model(streams, vocab_size=64)
    assert measured(model, plain_evaluators(tmp_path / 'small')) == measured(
        model, plain_evaluators(plain_streams)
    )


def test_an_eval_stream_without_an_index_is_named(streams: Path, tmp_path: Path):
    gone = {'gone': Stream(local=str(tmp_path), split='eval')}
    with pytest.raises(InputError, match=rf'^Stream gone has no index at {tmp_path}/eval/index.json'):
        EvalStreams(gone)
