"""`skillit mix fit --runs`: the table is what the logs of the runs say, over some of their rounds."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.formats.run_log import RoundRecord
from skillit_stream.mixture_fit import read_run_logs
from tests.support import commands
from tests.support.mix_runs import SKILLS, table, write_table

Rounds = Sequence[tuple[dict[str, float], dict[str, float]]]
MakeLog = Callable[..., str]


@pytest.fixture
def log(tmp_path: Path) -> MakeLog:
    """Writes a run folder: of each round the samples and the losses at its end."""

    def make(name: str, rounds: Rounds, *, first: int = 0, **last: Any) -> str:
        folder = tmp_path / name
        folder.mkdir()
        lines = []
        for number, (samples, losses) in enumerate(rounds, start=first):
            more = last if number == first + len(rounds) - 1 else {}
            lines.append(RoundRecord(round=number, step=number, samples=samples, losses=losses, **more))
        (folder / 'mixture.jsonl').write_text(''.join(f'{one.to_line()}\n' for one in lines))
        return str(folder)

    return make


def samples(web: float, code: float) -> dict[str, float]:
    return {'web': web, 'code': code}


def three(log: MakeLog) -> list[str]:
    """Runs of two rounds of 10 samples."""
    return [
        log('a', [(samples(9, 1), {'x': 5.0, 'y': 6.0}), (samples(7, 3), {'x': 3.0, 'y': 4.0})]),
        log('b', [(samples(5, 5), {'x': 5.0, 'y': 6.0}), (samples(5, 5), {'x': 2.5, 'y': 4.5})]),
        log('c', [({'web': 10}, {'y': 6.0, 'x': 5.0}), ({'web': 10}, {'y': 4.2, 'x': 2.2})]),
    ]


def test_a_row_is_the_mean_mixture_and_the_losses_at_the_end(log: MakeLog):
    runs = three(log)
    found = read_run_logs(runs)
    assert found.runs == tuple(runs)
    assert (found.skills, found.metrics) == (('web', 'code'), ('x', 'y'))
    # (9 + 7) of 20; a stream that a run does not have is none of its mixture.
    assert found.proportions.tolist() == [[0.8, 0.2], [0.5, 0.5], [1.0, 0.0]]
    assert found.values.tolist() == [[3.0, 4.0], [2.5, 4.5], [2.2, 4.2]]
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(f'1 of 3 runs moved their mixture in these rounds ({runs[0]})')


def test_a_table_of_some_rounds(log: MakeLog):
    runs = three(log)
    first = read_run_logs(runs, to_round=0)
    assert first.proportions[:, 0].tolist() == [0.9, 0.5, 1.0]
    assert first.values.tolist() == [[5.0, 6.0]] * 3
    second = read_run_logs(runs, from_round=1)
    assert second.proportions[:, 0].tolist() == [0.7, 0.5, 1.0]
    assert second.values[0].tolist() == [3.0, 4.0]
    # All were of one loss at the end of round 0, as forks of one checkpoint are.
    assert first.warnings == second.warnings == ()


def test_runs_that_do_not_begin_with_one_model_are_warned_of(log: MakeLog):
    runs = [
        log(name, [(samples(5, 5), {'x': 4.0 + n / 10}), (samples(9, 1), {'x': 3.0})])
        for n, name in enumerate('abc')
    ]
    (warning,) = read_run_logs(runs, from_round=1).warnings
    assert warning.startswith(
        'the runs do not begin round 1 with one model: their losses there differ by up to 5.00%'
    )


def test_forks_whose_logs_begin_where_they_do_need_no_first_round(log: MakeLog):
    runs = [log(name, [(samples(n, 10 - n), {'x': 3.0 - n / 10})], first=4) for n, name in enumerate('abc')]
    found = read_run_logs(runs)
    assert found.proportions[:, 0].tolist() == [0.0, 0.1, 0.2]
    assert found.warnings == ()
    early = log('early', [(samples(5, 5), {'x': 3.0})] * 5, first=0)
    with pytest.raises(InputError, match='early with round 0: say from where, --from-round 4'):
        read_run_logs([*runs, early])
    assert read_run_logs([*runs, early], from_round=4).runs == (*runs, early)


def test_where_tokens_were_weighed_the_objective_is_what_was_trained_on(log: MakeLog):
    runs = three(log)[1:]
    weighed = log('w', [(samples(5, 5), {'x': 2.0, 'y': 2.0})] * 2, objective={'web': 0.2, 'code': 0.8})
    # Of two rounds the last.
    assert read_run_logs([weighed, *runs]).proportions[0].tolist() == pytest.approx([0.35, 0.65])


def test_a_round_that_has_not_ended_does_not_count(log: MakeLog):
    runs = three(log)[1:]
    stopped = log(
        's', [(samples(6, 4), {'x': 5.0, 'y': 6.0}), (samples(3, 0), {'x': 4.0, 'y': 5.0})], ended_after=3
    )
    found = read_run_logs([stopped, *runs])
    assert found.values.tolist() == [[5.0, 6.0]] * 3
    assert found.proportions[0].tolist() == [0.6, 0.4]
    (warning,) = found.warnings
    assert warning.startswith('the table ends with round 0, the last that all runs have ended, but 2 of them')


def test_the_fit_is_that_of_the_same_numbers_as_csv(
    log: MakeLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = table()
    counts = np.round(runs.proportions * 1e6)
    counts[:, 0] += 1e6 - counts.sum(axis=1)
    folders = [
        log(name, [(dict(zip(SKILLS, row, strict=True)), dict(zip(runs.metrics, values, strict=True)))])
        for name, row, values in zip(runs.runs, counts.tolist(), runs.values.tolist(), strict=True)
    ]
    files = write_table(runs, tmp_path)
    answers = []
    for source in (['--runs', *folders], files):
        assert main(['mix', 'fit', *source, '--law', 'data-mixing', '--json']) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]['proportions'] == pytest.approx(answers[1]['proportions'], abs=1e-4)
    assert answers[0]['warnings'] == answers[1]['warnings']


def test_warnings_of_the_table_are_printed(log: MakeLog, capsys: pytest.CaptureFixture[str]):
    assert main(['mix', 'fit', '--runs', *three(log), '--law', 'regmix']) == 0
    assert 'warning: 1 of 3 runs moved their mixture' in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return commands.refusal(capsys, 'mix', 'fit', *arguments)


def test_what_is_no_table_is_refused_in_one_line(
    log: MakeLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    runs = three(log)
    same = (samples(5, 5), {'x': 1.0, 'y': 1.0})
    odd = {
        'none': log('none', []),
        'short': log('short', [same]),
        'size': log('size', [same, (samples(5, 6), {'x': 1.0, 'y': 1.0})]),
        'blind': log('blind', [same, (samples(5, 5), {})]),
        'other': log('other', [same, (samples(5, 5), {'x': 1.0})]),
        'nan': log('nan', [same, (samples(5, 5), {'x': 1.0, 'y': float('nan')})]),
    }
    to_1 = ('--to-round', '1')
    cases = {
        (): 'give RATIOS and METRICS, two CSV files, or --runs RUN ...',
        ('ratios.csv',): 'give RATIOS and METRICS',
        ('ratios.csv', 'metrics.csv', '--runs', *runs): 'leave out ratios.csv, or --runs',
        ('ratios.csv', 'metrics.csv', *to_1): '--to-round 1 is a round of --runs',
        ('--runs', *runs[:2]): '--runs must hold at least 3 runs to fit to and to hold out, but got: 2',
        ('--runs', *runs, f'{runs[0]}/'): 'twice; name each run once',
        ('--runs', *runs, str(tmp_path)): 'has no mixture.jsonl',
        ('--runs', *runs, odd['none']): 'none has no round that has ended: leave it out',
        ('--runs', *runs, odd['short'], *to_1): 'short has ended rounds 0 to 0, but the table is of 0 to 1',
        ('--runs', *runs, '--to-round', '2'): 'a has ended rounds 0 to 1, but the table is of 0 to 2',
        ('--runs', *runs, '--from-round', '-1'): '--from-round must be a round, 0 or later, but got: -1',
        ('--runs', *runs, '--from-round', '1', '--to-round', '0'): '--to-round must be 1 or later',
        ('--runs', *runs, odd['size']): 'a has drawn 20 samples and',
        ('--runs', *runs, odd['blind']): 'blind was not evaluated at the end of round 1',
        ('--runs', *runs, odd['other']): "'y' is evaluated in one of",
        ('--runs', *runs, odd['nan']): "the loss of 'y' at the end of round 1 is no finite number",
    }  # fmt: skip
    for arguments, message in cases.items():
        assert message in refused(capsys, *arguments, '--law', 'regmix')
