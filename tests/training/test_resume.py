"""A run that stopped goes on as if it had not: same samples at every step, same mixtures, same losses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream import SkillIt, SkillsGraph
from tests.support.marks import slowly
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, without_clocks
from tests.support.training_runs import STEPS, fit, tiny_dataset, tiny_trainer

Release = Callable[[], None]
LAST = 3 * STEPS


def train(
    streams: Path, run: Path, *, evaluate_first: bool = False, dataset: Any = None, **options: Any
) -> Any:
    """Train a tiny Skill-It run of three rounds; returns the dataset."""
    policy = SkillIt(SkillsGraph.load(streams / 'graph.json'), eta=1.0, window=2)
    dataset = tiny_dataset(streams) if dataset is None else dataset
    defaults = {'save_folder': str(run / 'checkpoints'), 'save_interval': '1ep', 'save_overwrite': True}
    fit(
        tiny_trainer(streams, policy, run, dataset=dataset, **{**defaults, **options}),
        evaluate_first=evaluate_first,
    )
    return dataset


def outcome(run: Path, dataset: Any) -> dict[str, Any]:
    """What must not depend on stops."""
    return {
        'samples': drawn_samples(run),
        'lines': without_clocks(mixture_lines(run)),
        'next': dataset.next_proportions,
        'seen': dataset.samples_seen,
    }


def drop_order(line: dict[str, Any]) -> dict[str, Any]:
    """A line as it is where a line before it has said what the order depends on."""
    return {key: value for key, value in line.items() if key != 'order'}


def without_order(run: Path) -> list[dict[str, Any]]:
    """The rounds of a run that goes on in a folder of its own, whose first line has to say it again."""
    return [drop_order(line) for line in without_clocks(rounds_of(run))]


@pytest.fixture(scope='module')
def straight_folder(streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the undisturbed run is, with a checkpoint after every step."""
    return tmp_path_factory.mktemp('straight') / 'run'


@pytest.fixture(scope='module')
def straight(streams: Path, straight_folder: Path) -> dict[str, Any]:
    """The outcome of the undisturbed run."""
    return outcome(straight_folder, train(streams, straight_folder, evaluate_first=True, save_interval='1ba'))


def test_the_undisturbed_run_is_worth_comparing_with(straight: dict[str, Any]):
    assert list(straight['samples']) == list(range(LAST))
    mixtures = [line['proportions'] for line in straight['lines']] + [straight['next']]
    assert len({tuple(mixture.values()) for mixture in mixtures}) == 5
    assert all(line['losses'] for line in straight['lines'])


# In the middle of a round, one before its last batch, at its last batch, at its end, in the last round.
STOPS = ['8ba', '11ba', '12ba', '2ep', '13ba', '17ba']


@pytest.mark.parametrize(
    ('stop', 'before', 'after'),
    [
        *((stop, 0, 0) for stop in STOPS),
        ('9ba', 0, 2),
        ('11ba', 2, 2),
        *slowly(('9ba', 2, 0), *((stop, 2, 2) for stop in STOPS if stop != '11ba')),
    ],
)
def test_a_run_that_stopped_goes_on_as_if_it_had_not(
    streams: Path,
    run_folder: Path,
    straight: dict[str, Any],
    release_datasets: Release,
    stop: str,
    before: int,
    after: int,
):
    train(streams, run_folder, evaluate_first=True, max_duration=stop, workers=before)
    release_datasets()
    latest = str(run_folder / 'checkpoints' / 'latest-rank0.pt')
    dataset = train(streams, run_folder, load_path=latest, workers=after)
    assert outcome(run_folder, dataset) == straight


@pytest.mark.parametrize('step', range(1, LAST))
def test_the_checkpoint_of_every_step_goes_on_with_the_same_rest(
    streams: Path, run_folder: Path, straight: dict[str, Any], straight_folder: Path, step: int
):
    path = straight_folder / 'checkpoints' / f'ep{(step - 1) // STEPS}-ba{step}-rank0.pt'
    dataset = train(streams, run_folder, load_path=str(path), save_interval='100ep')
    rest = {number: ids for number, ids in straight['samples'].items() if number >= step}
    assert drawn_samples(run_folder) == rest
    finished = (step - 1) // STEPS
    assert without_order(run_folder) == [drop_order(line) for line in straight['lines'][1 + finished :]]
    assert dataset.next_proportions == straight['next']


def test_a_run_stopped_again_and_again_is_the_undisturbed_one(
    streams: Path, run_folder: Path, straight: dict[str, Any], release_datasets: Release
):
    latest = str(run_folder / 'checkpoints' / 'latest-rank0.pt')
    dataset = train(streams, run_folder, evaluate_first=True, max_duration='4ba')
    for stop in ('5ba', '6ba', '2ep', '15ba', '3ep'):
        release_datasets()
        dataset = train(streams, run_folder, load_path=latest, max_duration=stop)
    assert outcome(run_folder, dataset) == straight


def test_rounds_after_the_checkpoint_are_trained_and_written_down_again(
    streams: Path, run_folder: Path, straight: dict[str, Any], release_datasets: Release
):
    train(streams, run_folder, evaluate_first=True, save_interval='1ba')
    release_datasets()
    path = run_folder / 'checkpoints' / 'ep1-ba8-rank0.pt'
    dataset = train(streams, run_folder, load_path=str(path))
    assert outcome(run_folder, dataset) == straight
    logged = (run_folder / 'samples' / 'samples-rank0.jsonl').read_text().count('\n')
    assert logged == LAST + LAST - 8


def test_weights_alone_start_a_fresh_run(
    streams: Path, run_folder: Path, straight_folder: Path, straight: Any
):
    path = straight_folder / 'checkpoints' / 'ep2-ba18-rank0.pt'
    dataset = train(streams, run_folder, load_path=str(path), load_weights_only=True, max_duration='1ep')
    assert [line['round'] for line in mixture_lines(run_folder)] == [0]
    assert drawn_samples(run_folder) == {step: straight['samples'][step] for step in range(STEPS)}
    assert dataset.round == 0


@pytest.mark.parametrize('step', [STEPS, STEPS + 1])
def test_a_trainer_without_data_mixing_goes_on_from_the_last_batch_of_a_round(
    streams: Path, run_folder: Path, tmp_path: Path, release_datasets: Release, step: int
):
    train(streams, run_folder, algorithms=[], evaluators=[], save_interval='1ba', max_duration='2ep')
    release_datasets()
    path = run_folder / 'checkpoints' / f'ep{(step - 1) // STEPS}-ba{step}-rank0.pt'
    train(streams, tmp_path / 'on', algorithms=[], evaluators=[], load_path=str(path), max_duration='2ep')
    whole = drawn_samples(run_folder)
    assert drawn_samples(tmp_path / 'on') == {number: whole[number] for number in range(step, 2 * STEPS)}
