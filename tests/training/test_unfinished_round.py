"""A run that ends inside a round: what was trained of it is in the log, and gives way to the whole round."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream.report.run_folder import read_runs
from tests.support import commands
from tests.support.audit_runs import asked
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, without_clocks
from tests.support.training_runs import SKILLS, STEPS, TRAIN_SAMPLES

Trained = Callable[..., None]
END = STEPS + 2


@pytest.mark.parametrize('duration', [f'{END}ba', f'{END * 4}sp'])
def test_the_part_that_was_trained_is_written_down(
    tiny_yaml: Path, run_folder: Path, capsys: pytest.CaptureFixture[str], duration: str
):
    _, told = commands.done(capsys, 'train', tiny_yaml, f'max_duration={duration}')
    whole, part = rounds_of(run_folder)
    assert told.count('finished ') == 1
    assert f'1 rounds and 2 steps of the next, {END} steps' in told
    assert f'final losses mean {sum(part["losses"].values()) / 3:.3f}' in told
    drawn = drawn_samples(run_folder)
    assert 'ended_after' not in whole
    assert (part['round'], part['step'], part['ended_after']) == (1, END, 2)
    counts = Counter(SKILLS[one // TRAIN_SAMPLES] for step in range(STEPS, END) for one in drawn[step])
    assert {skill: count for skill, count in part['samples'].items() if count} == counts
    assert sum(part['realised'].values()) == pytest.approx(1)
    for skill, passes in part['passes'].items():
        assert passes == pytest.approx((whole['samples'][skill] + part['samples'][skill]) / TRAIN_SAMPLES)
    assert set(part['losses']) == set(SKILLS)
    assert part['losses'] != whole['losses']
    [run] = read_runs([run_folder])
    assert (run.final_step, run.final_losses) == (END, part['losses'])
    answer = asked(capsys, run_folder, '--round', '1')
    assert (answer['first_step'], answer['last_step'], answer['samples']) == (STEPS, END - 1, 8)
    step = asked(capsys, run_folder, '--step', str(END - 1))
    assert [one['sample'] for one in step['samples']] == drawn[END - 1]


def test_whoever_goes_on_finishes_the_round(trained: Trained, run_folder: Path, tmp_path: Path):
    straight = tmp_path / 'straight'
    trained(f'save_folder={straight}', f'callbacks.sample_log.folder={straight / "samples"}')
    trained(f'max_duration={END}ba')
    trained('autoresume=true')
    lines, expected = (without_clocks(mixture_lines(folder)) for folder in (run_folder, straight))
    assert lines == expected
    assert drawn_samples(run_folder) == drawn_samples(straight)


@pytest.mark.parametrize('duration', ['2ep', f'{END}ba', f'{END * 4}sp', f'{END * 4 * 17 - 1}tok'])
def test_a_finished_run_is_one_line_and_stays_as_it_is(
    tiny_yaml: Path, run_folder: Path, capsys: pytest.CaptureFixture[str], duration: str
):
    commands.done(capsys, 'train', tiny_yaml, f'max_duration={duration}')
    before = {path: path.read_bytes() for path in run_folder.glob('*.*')}
    _, told = commands.done(capsys, 'train', tiny_yaml, f'max_duration={duration}', 'autoresume=true')
    steps = 2 * STEPS if duration == '2ep' else END
    assert told == (
        f'{run_folder} is finished: {steps} steps, max_duration={duration}; a longer one goes on with it.\n'
    )
    shorter = commands.refusal(capsys, 'train', tiny_yaml, 'max_duration=1ep', 'autoresume=true')
    assert (
        f'`max_duration` must be longer than what the run has trained, {steps} steps, but got: 1ep' in shorter
    )
    assert {path: path.read_bytes() for path in run_folder.glob('*.*')} == before
