"""DataMixing in a Composer Trainer put together by hand: the mixture follows the losses, exactly."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composer import Callback, Evaluator, Logger, State
from composer.loggers import InMemoryLogger
from composer.optim import LinearScheduler

from skillit_stream import DataMixing, RoundObservation, SkillIt, SkillsGraph, StaticMixture
from skillit_stream.training.models import LOSS_METRIC
from tests.support.marks import slowly
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, without_clocks
from tests.support.training_runs import (
    ROUND,
    SKILLS,
    STEPS,
    TRAIN_SAMPLES,
    fit,
    tiny_dataset,
    tiny_evaluators,
    tiny_trainer,
)

TILT = {'digit_0': 0.25, 'digit_1': 0.5, 'digit_2': 0.25}


class Watched(SkillIt):
    """Skill-It that keeps what it was shown."""

    def __init__(self, graph: SkillsGraph, **options: Any) -> None:
        super().__init__(graph, **options)
        self.updates: list[RoundObservation] = []
        self.observed: list[tuple[int, dict[str, float]]] = []

    def update(self, observation: RoundObservation):
        self.updates.append(observation)
        return super().update(observation)

    def observe(self, observation: RoundObservation) -> None:
        self.observed.append((observation.round, dict(observation.eval_losses)))
        super().observe(observation)


@pytest.fixture
def graph(streams: Path) -> SkillsGraph:
    """The graph that lies beside the streams."""
    return SkillsGraph.load(streams / 'graph.json')


def expected_mixtures(
    graph: SkillsGraph, lines: list[dict[str, Any]], *, eta: float, window: int, lag: int
) -> list[dict[str, float]]:
    """The mixture of every round by the formula, one exponential at a time, from the losses written down."""
    losses = {line['round']: line['losses'] for line in lines}
    known = [losses[number] for number in sorted(losses) if lag or number >= 0]
    sums = [[1.0] * len(SKILLS)]
    for number in range(max(losses)):
        newest = number + 1
        seen = known[max(0, newest - window) : newest]
        sums.append([math.fsum(one[skill] for one in seen) for skill in graph.eval_skills])
    mixtures = []
    for total in sums:
        powers = [
            math.exp(eta * math.fsum(weight * one for weight, one in zip(row, total, strict=True)))
            for row in graph.weights.tolist()
        ]
        mixtures.append(
            dict(zip(graph.train_skills, [one / math.fsum(powers) for one in powers], strict=True))
        )
    return mixtures


def counts_of(trainer_dataset: Any, ids: list[int]) -> dict[str, int]:
    """Samples of each skill among sample ids."""
    ends = np.cumsum(trainer_dataset.samples_per_stream)
    counted = Counter(int(one) for one in np.searchsorted(ends, ids, side='right'))
    return {skill: counted[number] for number, skill in enumerate(trainer_dataset.skills)}


@pytest.mark.parametrize(('lag', 'window'), [(0, 2), (0, 3), (1, 2)])
def test_every_mixture_is_the_formula_of_the_losses_written_down(
    streams: Path, run_folder: Path, graph: SkillsGraph, lag: int, window: int
):
    policy = SkillIt(graph, eta=0.5, window=window, lag=lag)
    fit(tiny_trainer(streams, policy, run_folder, max_duration='4ep'), evaluate_first=True)
    lines = mixture_lines(run_folder)
    assert [(line['round'], line['step']) for line in lines] == [(-1, 0), (0, 6), (1, 12), (2, 18), (3, 24)]
    expected = expected_mixtures(graph, lines, eta=0.5, window=window, lag=lag)
    for line, mixture in zip(lines[1:], expected, strict=True):
        assert line['proportions'] == pytest.approx(mixture, rel=0, abs=1e-12)
    assert lines[1]['proportions'] != lines[2]['proportions'] != lines[3]['proportions']


def test_rounds_realise_their_mixture_and_the_log_says_what_was_drawn(
    streams: Path, run_folder: Path, graph: SkillsGraph
):
    dataset = tiny_dataset(streams)
    fit(tiny_trainer(streams, SkillIt(graph, eta=1.0), run_folder, dataset=dataset))
    drawn = drawn_samples(run_folder)
    assert list(drawn) == list(range(3 * STEPS))
    seen = dict.fromkeys(SKILLS, 0)
    for line in rounds_of(run_folder):
        first = line['round'] * STEPS
        ids = [one for step in range(first, first + STEPS) for one in drawn[step]]
        assert ids == dataset.sample_ids(line['round']).tolist()
        assert line['samples'] == counts_of(dataset, ids)
        assert sum(line['samples'].values()) == ROUND
        for skill, count in line['samples'].items():
            assert abs(count - ROUND * line['proportions'][skill]) < 1
            assert line['realised'][skill] == count / ROUND
            seen[skill] += count
            assert line['passes'][skill] == pytest.approx(seen[skill] / TRAIN_SAMPLES, abs=1e-12)
    assert dataset.samples_seen == seen


def test_the_losses_written_down_are_those_of_the_evaluators(
    streams: Path, run_folder: Path, graph: SkillsGraph
):
    logger = InMemoryLogger()
    policy = Watched(graph)
    trainer = tiny_trainer(streams, policy, run_folder, loggers=[logger])
    fit(trainer, evaluate_first=True)
    for number, line in enumerate(mixture_lines(run_folder)):
        for skill, loss in line['losses'].items():
            _, logged = logger.data[f'metrics/{skill}/{LOSS_METRIC}'][number]
            assert loss == pytest.approx(float(logged), rel=1e-7)
    assert [one.eval_losses for one in policy.updates] == [line['losses'] for line in rounds_of(run_folder)]


def test_a_policy_is_shown_the_round_it_has_just_trained(streams: Path, run_folder: Path, graph: SkillsGraph):
    policy = Watched(graph)
    fit(tiny_trainer(streams, policy, run_folder))
    lines = rounds_of(run_folder)
    assert [one.round for one in policy.updates] == [0, 1, 2]
    assert [one.proportions for one in policy.updates] == [line['proportions'] for line in lines]
    assert [sum((one.samples_seen or {}).values()) for one in policy.updates] == [24, 48, 72]


def test_a_first_evaluation_is_shown_only_to_a_policy_that_wants_it(
    streams: Path, run_folder: Path, graph: SkillsGraph
):
    shy, eager = Watched(graph), Watched(graph, lag=1)
    for name, policy in (('shy', shy), ('eager', eager)):
        trainer = tiny_trainer(streams, policy, run_folder / name, max_duration='1ep')
        fit(trainer, evaluate_first=True)
    assert [number for number, _ in shy.observed] == [0]
    assert [number for number, _ in eager.observed] == [-1, 0]
    assert eager.observed[0][1] == mixture_lines(run_folder / 'eager')[0]['losses']


def test_a_static_mixture_never_moves(streams: Path, run_folder: Path):
    fit(tiny_trainer(streams, StaticMixture(TILT), run_folder))
    lines = rounds_of(run_folder)
    assert [line['proportions'] for line in lines] == [TILT] * 3
    assert [line['samples'] for line in lines] == [{'digit_0': 6, 'digit_1': 12, 'digit_2': 6}] * 3


def test_losses_are_written_down_for_a_policy_that_needs_none(streams: Path, run_folder: Path):
    fit(tiny_trainer(streams, StaticMixture(TILT), run_folder, max_duration='1ep'), evaluate_first=True)
    assert [sorted(line['losses']) for line in mixture_lines(run_folder)] == [list(SKILLS)] * 2


def test_metrics_of_the_mixture_reach_the_loggers(streams: Path, run_folder: Path, graph: SkillsGraph):
    logger = InMemoryLogger()
    trainer = tiny_trainer(streams, SkillIt(graph), run_folder, loggers=[logger])
    fit(trainer)

    def series(name: str) -> list[float]:
        return [float(value) for _, value in logger.data[name]]

    lines = rounds_of(run_folder)
    # At the start of the fit and at the end of every round: the mixture to come, the samples so far.
    assert series('mixture/round') == [0, 1, 2, 3]
    for skill in SKILLS:
        assert series(f'mixture/{skill}/proportion')[:3] == [line['proportions'][skill] for line in lines]
        assert series(f'mixture/{skill}/passes') == [0, *(line['passes'][skill] for line in lines)]
        counts = [line['samples'][skill] for line in lines]
        assert series(f'mixture/{skill}/samples') == [0, *np.cumsum(counts).tolist()]


def test_other_evaluators_do_not_disturb(streams: Path, run_folder: Path, graph: SkillsGraph):
    fit(tiny_trainer(streams, SkillIt(graph), run_folder / 'alone'))
    policy = Watched(graph)
    [other] = tiny_evaluators(streams, ['digit_0'], eval_interval='2ba')
    other = Evaluator(
        label='held_out',
        dataloader=other.dataloader,
        metric_names=other.metric_names,
        eval_interval='2ba',
        device_eval_microbatch_size=7,
    )
    evaluators = [other, *tiny_evaluators(streams)]
    fit(tiny_trainer(streams, policy, run_folder / 'both', evaluators=evaluators))
    lines = without_clocks(rounds_of(run_folder / 'both'))
    # Its figures are Composer's to log: no loss of a skill, none of the mean that reports make of them.
    assert lines == without_clocks(rounds_of(run_folder / 'alone'))
    assert [number for number, _ in policy.observed] == [0, 1, 2]


def test_evaluations_inside_a_round_are_shown_and_the_one_at_its_end_decides(
    streams: Path, run_folder: Path, graph: SkillsGraph
):
    policy = Watched(graph, window=2)
    evaluators = tiny_evaluators(streams, eval_interval='2ba')
    fit(tiny_trainer(streams, policy, run_folder, evaluators=evaluators))
    assert [number for number, _ in policy.observed] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [losses for _, losses in policy.observed[2::3]] == [
        line['losses'] for line in rounds_of(run_folder)
    ]
    within = [one for line in rounds_of(run_folder) for one in line['within']]
    assert [one['step'] for one in within] == [2, 4, 8, 10, 14, 16]
    assert [one['losses'] for one in within] == [
        losses for place, (_, losses) in enumerate(policy.observed) if place % 3 < 2
    ]
    expected = expected_mixtures(graph, rounds_of(run_folder), eta=0.5, window=2, lag=0)
    for line, mixture in zip(rounds_of(run_folder), expected, strict=True):
        assert line['proportions'] == pytest.approx(mixture, rel=0, abs=1e-12)


def test_microbatches_do_not_change_the_samples(streams: Path, run_folder: Path, graph: SkillsGraph):
    for size in (4, 1, 3):
        trainer = tiny_trainer(
            streams, SkillIt(graph), run_folder / str(size), device_train_microbatch_size=size
        )
        fit(trainer)
    whole = rounds_of(run_folder / '4')
    for size in ('1', '3'):
        assert drawn_samples(run_folder / size) == drawn_samples(run_folder / '4')
        for line, other in zip(rounds_of(run_folder / size), whole, strict=True):
            assert line['samples'] == other['samples']
            assert line['losses'] == pytest.approx(other['losses'], rel=1e-3)


def test_nothing_is_written_without_a_path(streams: Path, run_folder: Path, graph: SkillsGraph):
    policy = SkillIt(graph)
    mixing = DataMixing(policy)
    fit(tiny_trainer(streams, policy, run_folder, algorithms=[mixing], max_duration='1ep'))
    assert not (run_folder / 'mixture.jsonl').exists()


@pytest.mark.parametrize('workers', [0, *slowly(2)])
@pytest.mark.parametrize('parts', [('2ep', '2ep'), ('8ba', '4ba', '12ba')])
def test_fitting_in_parts_trains_the_samples_of_one_fit(
    streams: Path, tmp_path: Path, workers: int, parts: tuple[str, ...]
):
    drawn = {}
    for name, durations in (('whole', ('24ba' if '8ba' in parts else '4ep',)), ('parts', parts)):
        dataset = tiny_dataset(streams)
        run = tmp_path / name
        trainer = tiny_trainer(
            streams, StaticMixture.stratified(dataset.skills), run, dataset=dataset, workers=workers
        )
        for duration in durations:
            trainer.fit(duration=duration)
        trainer.close()
        drawn[name] = drawn_samples(run)
    assert drawn['parts'] == drawn['whole']


def test_a_warning_comes_before_a_skill_is_walked_too_often(streams: Path, run_folder: Path):
    dataset = tiny_dataset(streams, round_size=400)
    policy = StaticMixture({'digit_0': 1.0, 'digit_1': 0.0, 'digit_2': 0.0})
    mixing = DataMixing(policy, warn_passes=1.3)
    trainer = tiny_trainer(
        streams, policy, run_folder, dataset=dataset, algorithms=[mixing], max_duration='1ba'
    )
    with pytest.warns(
        UserWarning, match=r'digit_0 will have been walked 1\.33 times by .* round 0'
    ) as caught:
        fit(trainer)
    assert len([one for one in caught if 'warn_passes' in str(one.message)]) == 1


class _Steps(Callback):
    """What Composer itself says of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.tokens: list[int] = []

    def before_train_batch(self, state: State, logger: Logger) -> None:
        del logger
        self.rates.append(state.optimizers[0].param_groups[0]['lr'])

    def batch_end(self, state: State, logger: Logger) -> None:
        del logger
        self.losses.append(float(state.total_loss_dict['loss/train/total']))
        self.tokens.append(int(state.timestamp.token))


def test_the_log_says_how_the_steps_of_each_round_went(streams: Path, run_folder: Path, graph: SkillsGraph):
    steps = _Steps()
    fit(tiny_trainer(streams, SkillIt(graph), run_folder, callbacks=[steps], schedulers=LinearScheduler()))
    before = 0
    for number, line in enumerate(rounds_of(run_folder)):
        of_round = slice(number * STEPS, (number + 1) * STEPS)
        assert line['trained']['loss'] == pytest.approx(np.mean(steps.losses[of_round]), rel=1e-12)
        assert line['trained']['learning_rate'] == steps.rates[of_round][-1]
        assert line['trained']['tokens'] == steps.tokens[of_round][-1] - before > 0
        before = steps.tokens[of_round][-1]
    assert len(set(steps.rates)) > 2 * STEPS
