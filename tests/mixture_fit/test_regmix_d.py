"""Policy `regmix_d`: at each stage the mixture that a fit to whole runs predicts to end it lowest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import MixturePolicy, RoundObservation, build_policy
from skillit_stream.mixture_fit.laws import Linear
from skillit_stream.mixture_fit.search import Bounds, simulated_mixture
from tests.support.mix_runs import drawn_mixtures, write_logs

SKILLS = ('a', 'b', 'c')
SIZES = {'a': 200, 'b': 100, 'c': 100}
Array = NDArray[np.float64]

# After stage 0 the loss is 0.5 l + (0, 1, 2) · m + 1, after stage 1 it is 0.8 l + (3, 0, 1) · m.
KEPT = (0.5, 0.8)
SLOPES = np.array([[1.0, 2.0, 3.0], [3.0, 0.0, 1.0]])


def linear_runs(folder: Path, runs: int = 20, *, same: bool = False) -> list[str]:
    """Runs of two stages whose loss of 'a' follows the lines above; that of 'b' is 1 higher."""
    mixtures = np.stack([drawn_mixtures(runs, 3, seed=2 if same else stage) for stage in (2, 3)], axis=1)
    if same:
        mixtures = mixtures[:1].repeat(runs, axis=0)
    losses = [7.0 + np.random.default_rng(5).uniform(0, 0.5, size=runs)]
    for stage in (0, 1):
        losses.append(KEPT[stage] * losses[-1] + mixtures[:, stage] @ SLOPES[stage])
    of_a = np.stack(losses, axis=1)[:, :, None]
    return write_logs(folder, mixtures, np.concatenate([of_a, of_a + 1], axis=2), SKILLS)


def build(runs: Any, **options: Any) -> MixturePolicy:
    options = {
        'law': 'regmix',
        'targets': ['a'],
        'eval_skills': SKILLS,
        'rounds': 2,
        'sizes': SIZES,
        **options,
    }
    return build_policy('regmix_d', skills=SKILLS, runs=runs, **options)


def best_of(slopes: Array, seed: int = 0) -> Array:
    """RegMix's search with a linear law, candidates around the sizes."""
    bounds = Bounds(limits=np.ones(3), log_base=np.log([0.5, 0.25, 0.25]), pull=0.0)
    return simulated_mixture([Linear(slopes)], np.ones(1), bounds, seed)


def observed(number: int, loss: float) -> RoundObservation:
    return RoundObservation(number, {'a': loss, 'b': loss, 'c': loss})


def begun(policy: MixturePolicy, loss: float) -> Array:
    policy.observe(observed(-1, loss))
    return policy.initial()


def test_each_stage_has_the_mixture_of_its_own_regression(tmp_path: Path):
    policy = build(linear_runs(tmp_path))
    np.testing.assert_allclose(begun(policy, 7.2), best_of(SLOPES[0]), atol=1e-9)
    assert policy.decided() == {
        'predicted_loss': pytest.approx(0.5 * 7.2 + best_of(SLOPES[0]) @ SLOPES[0], abs=1e-9)
    }
    np.testing.assert_allclose(policy.update(observed(0, 4.0)), best_of(SLOPES[1]), atol=1e-9)
    assert policy.decided() == {
        'predicted_loss': pytest.approx(0.8 * 4.0 + best_of(SLOPES[1]) @ SLOPES[1], abs=1e-9)
    }


def test_offline_it_is_a_schedule_of_the_same_mixtures(tmp_path: Path):
    policy = build(linear_runs(tmp_path), online=False)
    assert policy.name == 'schedule'
    assert not policy.needs_initial_losses
    np.testing.assert_allclose(policy.initial(), best_of(SLOPES[0]), atol=1e-9)
    np.testing.assert_allclose(policy.update(observed(0, 1.0)), best_of(SLOPES[1]), atol=1e-9)


def test_the_target_is_the_mean_of_the_targets_and_the_seed_is_of_the_candidates(tmp_path: Path):
    runs = linear_runs(tmp_path)
    policy = build(runs, targets=['a', 'b'], seed=4)
    policy.observe(RoundObservation(-1, {'a': 7.0, 'b': 8.0}))
    np.testing.assert_allclose(policy.initial(), best_of(SLOPES[0], seed=4), atol=1e-9)
    # Of a: 0.5 x 7.0 + b · m; b's is 1 higher before and after.
    expected = 0.5 * 7.0 + best_of(SLOPES[0], seed=4) @ SLOPES[0] + 0.5
    assert policy.decided()['predicted_loss'] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(('rounds', 'stage_of'), [(1, [0]), (4, [0, 0, 1, 1]), (3, [0, 0, 1])])
def test_stages_are_spread_over_the_rounds_of_the_run(tmp_path: Path, rounds: int, stage_of: list[int]):
    policy = build(linear_runs(tmp_path), rounds=rounds)
    played = [begun(policy, 7.0), *(policy.update(observed(number, 5.0)) for number in range(rounds - 1))]
    for mixture, stage in zip(played, stage_of, strict=True):
        np.testing.assert_allclose(mixture, best_of(SLOPES[stage]), atol=1e-9)


def test_trees_see_the_stage_and_the_loss(tmp_path: Path):
    pytest.importorskip('lightgbm', reason='the extra `trees` is not installed')
    rng = np.random.default_rng(1)
    mixtures = np.stack([drawn_mixtures(200, 3, seed) for seed in (6, 7)], axis=1)
    first = rng.uniform(3, 9, size=200)
    # In stage 0 `a` helps; in stage 1 `b` does where the loss is above 5, and `c` where it is below.
    second = rng.uniform(3, 7, size=200) - 2 * mixtures[:, 0, 0]
    helps = np.where(second > 5, mixtures[:, 1, 1], mixtures[:, 1, 2])
    losses = np.stack([first, second, second - 2 * helps], axis=1)[:, :, None]
    policy = build(write_logs(tmp_path, mixtures, losses, SKILLS), law='regmix-trees')
    assert begun(policy, 6.0).argmax() == 0
    assert policy.update(observed(0, 6.0)).argmax() == 1
    assert policy.update(observed(0, 2.5)).argmax() == 2


def test_runs_are_found_by_a_pattern(tmp_path: Path):
    runs = linear_runs(tmp_path)
    by_name, by_pattern = build(runs), build(f'{tmp_path}/run*')
    assert begun(by_name, 7.0).tolist() == begun(by_pattern, 7.0).tolist()
    assert by_pattern.describe()['runs'] == len(runs)


def test_runs_that_cannot_be_fitted_are_refused(tmp_path: Path):
    runs = linear_runs(tmp_path)
    with pytest.raises(InputError, match=r"no run folder is at 'elsewhere/\*'; give runs=FOLDERS"):
        build('elsewhere/*')
    with pytest.raises(InputError, match=r'at least 3 runs'):
        build(runs[:2])
    with pytest.raises(InputError, match=r"'d' is trained on in one of this run and its `runs` alone"):
        build_policy(
            'regmix_d',
            skills=list('abcd'),
            eval_skills=['a'],
            sizes=dict.fromkeys('abcd', 1),
            rounds=2,
            runs=runs,
        )
    with pytest.raises(InputError, match=r"do not evaluate 'c'; name `targets` that they do: a, b"):
        build(runs, targets=None)
    with pytest.raises(InputError, match=r"law must be one of 'regmix-trees', 'regmix'"):
        build(runs, law='log-linear')
    with pytest.raises(InputError, match=r'needs the length of the run'):
        build(runs, rounds=None)
    (tmp_path / 'same').mkdir()
    with pytest.raises(InputError, match=r'at least 3 distinct mixtures'):
        build(linear_runs(tmp_path / 'same', same=True))


def test_runs_without_a_loss_before_training_are_refused(tmp_path: Path):
    runs = linear_runs(tmp_path)
    log = Path(runs[3]) / 'mixture.jsonl'
    log.write_text(''.join(log.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match=r'run3 has no losses of before round 0.*before_training'):
        build(runs)


def test_a_policy_without_a_loss_before_training_says_so(tmp_path: Path):
    with pytest.raises(InputError, match='regmix_d needs the losses before training'):
        build(linear_runs(tmp_path)).initial()
