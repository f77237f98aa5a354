"""`train_loader.match_passes`: a short run that passes through its streams as often as a longer one will."""

from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream.audit.replay import Replay
from skillit_stream.cli import main
from tests.support.run_folders import drawn_samples, rounds_of
from tests.support.training_runs import ROUND, SKILLS, TRAIN_SAMPLES

SEQ_LEN = 17
TOKENS = 2 * ROUND * SEQ_LEN  # of the tiny run's two rounds
STATIC = [
    'algorithms.data_mixing={policy: static, proportions: {digit_0: 0.5, digit_1: 0.25, digit_2: 0.25}}'
]


def test_streams_are_passed_through_as_by_the_run_that_it_stands_for(
    tiny_yaml: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(['train', str(tiny_yaml), *STATIC, f'train_loader.match_passes={25 * TOKENS}']) == 0
    assert (
        f'36 samples of {SEQ_LEN} tokens (a part of the streams: match_passes={25 * TOKENS:,})'
        in capsys.readouterr().err
    )
    last = rounds_of(run_folder)[-1]
    # 24, 12 and 12 samples were drawn, of 300 each. A run 25 times as long would draw 600 and 300.
    assert last['passes'] == {'digit_0': 2, 'digit_1': 1, 'digit_2': 1}
    drawn = [one for step in drawn_samples(run_folder).values() for one in step]
    assert len(set(drawn)) == len(SKILLS) * TRAIN_SAMPLES // 25
    replayed = Replay(run_folder)
    assert [one for number in range(2) for one in replayed.sample_ids(number).tolist()] == drawn


@pytest.mark.parametrize('duration', ['2ep', '12ba', f'{2 * ROUND}sp', f'{TOKENS}tok'])
def test_the_length_of_the_run_may_be_said_in_any_unit_of_data(
    trained: Callable[..., None], run_folder: Path, duration: str
):
    trained(*STATIC, f'train_loader.match_passes={25 * TOKENS}', f'max_duration={duration}')
    assert rounds_of(run_folder)[-1]['passes'] == {'digit_0': 2, 'digit_1': 1, 'digit_2': 1}


def test_the_part_of_a_round_that_a_run_ends_with_counts_passes_alike(
    trained: Callable[..., None], run_folder: Path
):
    trained(*STATIC, f'train_loader.match_passes={25 * TOKENS}', 'max_duration=8ba')
    # Of 8 steps of 4 samples; 32 samples of the run are 800 of the other, whose streams have 900.
    last = rounds_of(run_folder)[-1]
    assert last['ended_after'] == 2
    seen = {skill: sum(line['samples'][skill] for line in rounds_of(run_folder)) for skill in SKILLS}
    size = round(TRAIN_SAMPLES * 8 * 4 * SEQ_LEN / (25 * TOKENS))
    assert last['passes'] == {skill: count / size for skill, count in seen.items()}


def test_a_limit_of_passes_is_one_of_the_run_that_it_stands_for(
    trained: Callable[..., None], run_folder: Path
):
    options = '{policy: static, proportions: {digit_0: 0.5, digit_1: 0.25, digit_2: 0.25}, max_passes: 1.5}'
    trained(f'algorithms.data_mixing={options}', f'train_loader.match_passes={25 * TOKENS}')
    assert rounds_of(run_folder)[-1]['passes']['digit_0'] == 1.5


@pytest.mark.parametrize(
    ('overrides', 'problem'),
    [
        (
            [f'train_loader.match_passes={TOKENS - 1}'],
            f'must be the tokens of a run that is no shorter than this one, {TOKENS:,}',
        ),
        (['train_loader.match_passes=100000', 'max_duration=10iter'], '`max_duration` in ep, ba, sp or tok'),
        (['train_loader.match_passes=0'], '`train_loader.match_passes` must be tokens, at least 1'),
    ],
)
def test_what_cannot_be_matched_is_refused(refused: Callable[..., str], overrides: list[str], problem: str):
    assert problem in refused(*overrides)


def test_a_resumed_run_of_another_length_is_refused_by_name(
    trained: Callable[..., None], refused: Callable[..., str]
):
    matched = f'train_loader.match_passes={25 * TOKENS}'
    trained(matched)
    problem = refused(matched, 'max_duration=4ep', 'autoresume=true')
    assert 'digit_0 was drawn from 12 of its 300 samples, and now from 24 of its 300' in problem
    assert '`match_passes`' in problem
