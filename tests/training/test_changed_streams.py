"""Training goes on with a corpus that has changed since the checkpoint."""

from pathlib import Path
from typing import Any

import pytest

from skillit_stream import SkillIt, SkillsGraph, StaticMixture
from skillit_stream.base.errors import InputError
from tests.support.run_folders import mixture_lines, rounds_of
from tests.support.training_runs import fit, tiny_dataset, tiny_evaluators, tiny_trainer

OLD, NEW = ('digit_0', 'digit_1'), ('digit_1', 'digit_2', 'digit_0')


def train(
    streams: Path,
    run: Path,
    skills: tuple[str, ...],
    rounds: int,
    policy: Any,
    *,
    first: bool,
    **options: Any,
) -> Any:
    """Train a tiny run over some of the streams up to the end of a round; returns the dataset."""
    checkpoint = run / 'checkpoints' / 'ep1.pt'
    dataset = tiny_dataset(streams, skills, **options)
    trainer = tiny_trainer(
        streams,
        policy,
        run,
        dataset=dataset,
        evaluators=tiny_evaluators(streams, skills),
        max_duration=f'{rounds}ep',
        save_folder=str(run / 'checkpoints'),
        save_filename='ep{epoch}.pt',
        save_interval='1ep',
        save_overwrite=True,
        load_path=None if first else str(checkpoint),
    )
    fit(trainer, evaluate_first=True)
    return dataset


def skill_it(skills: tuple[str, ...]) -> SkillIt:
    return SkillIt(SkillsGraph.identity(list(skills)), eta=2.0)


@pytest.fixture
def begun(streams: Path, run_folder: Path) -> Path:
    """A run of one round over the old streams."""
    train(streams, run_folder, OLD, 1, skill_it(OLD), first=True)
    return run_folder


def test_a_policy_of_other_skills_begins_anew(streams: Path, begun: Path):
    with pytest.warns(
        UserWarning, match=r'streams have changed \(digit_2 added\): the policy forgets .* round 1'
    ):
        dataset = train(streams, begun, NEW, 3, skill_it(NEW), first=False, on_changed='allow')
    lines = rounds_of(begun)
    assert [line['round'] for line in lines] == [0, 1, 2]
    assert list(lines[0]['proportions']) == list(OLD)
    # The first mixture of an identity graph is even; losses move it from then on.
    assert lines[1]['proportions'] == pytest.approx(dict.fromkeys(NEW, 1 / 3))
    assert lines[2]['proportions'] != pytest.approx(dict.fromkeys(NEW, 1 / 3))
    drawn = {skill: sum(line['samples'].get(skill, 0) for line in lines) for skill in NEW}
    assert dataset.samples_seen == drawn


def test_the_log_says_which_streams_a_round_drew_from(streams: Path, begun: Path):
    with pytest.warns(UserWarning, match='streams have changed'):
        train(streams, begun, NEW, 3, skill_it(NEW), first=False, on_changed='allow')
    states = [line['state'] for line in rounds_of(begun)]
    assert [list(state['streams']) for state in states] == [list(OLD), list(NEW), list(NEW)]
    assert mixture_lines(begun)[0]['round'] == -1


def test_a_static_mixture_is_the_new_one_at_once(streams: Path, begun: Path):
    shares = {'digit_1': 0.5, 'digit_2': 0.25, 'digit_0': 0.25}
    # The state is of Skill-It, which is no reason to go on with its mixture.
    with pytest.warns(UserWarning, match='begins anew'):
        train(streams, begun, NEW, 2, StaticMixture(shares), first=False, on_changed='allow')
    assert rounds_of(begun)[1]['proportions'] == pytest.approx(shares)


def test_unless_allowed_changed_streams_are_refused(streams: Path, begun: Path):
    with pytest.raises(InputError, match=r'digit_2 \(300 samples\) was not among them'):
        train(streams, begun, NEW, 2, skill_it(NEW), first=False)


@pytest.mark.parametrize(
    ('policy', 'what'),
    [
        (SkillIt(SkillsGraph.identity(list(reversed(OLD))), eta=2.0), 'skills is'),
        (StaticMixture.stratified(list(OLD)), "policy is 'skill_it' in the checkpoint, 'static' in this run"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_where_the_streams_are_the_same(
    streams: Path, begun: Path, policy: Any, what: str
):
    with pytest.raises(InputError, match=f'^policy state does not fit: {what}'):
        train(streams, begun, OLD, 2, policy, first=False)
