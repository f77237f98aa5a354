"""The command line as a whole: usage errors and how exceptions end."""

import re

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.cli import COMMANDS, main, run_guarded
from tests.support.paths import ROOT


def raising(error: BaseException):
    """A command that fails."""

    def command() -> int:
        raise error

    return command


def test_wrong_usage_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_info:
        main(['trian'])
    lines = capsys.readouterr().err.strip().splitlines()
    assert exit_info.value.code == 2
    assert len(lines) == 1
    assert 'trian' in lines[0]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(['--help'])
    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_info:
        main(['--version'])
    assert exit_info.value.code == 0
    written = re.search(r'^version = "(.+)"', (ROOT / 'pyproject.toml').read_text(), re.MULTILINE)
    assert written
    assert capsys.readouterr().out == f'skillit {written[1]}\n'


def test_input_errors_end_in_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]):
    assert run_guarded(raising(InputError('x must be y, but got: z.'))) == 2
    assert capsys.readouterr().err == 'skillit: x must be y, but got: z.\n'


def test_an_input_error_from_a_worker_process_ends_in_its_own_line(capsys: pytest.CaptureFixture[str]):
    text = (
        'Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
        '  File "a.py", line 1\nskillit_stream.base.errors.InputError: Skill a runs out.\n'
    )
    assert run_guarded(raising(InputError(text))) == 2
    assert capsys.readouterr().err == 'skillit: Skill a runs out.\n'


def test_other_errors_end_in_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]):
    assert run_guarded(raising(RuntimeError('first\nsecond'))) == 1
    assert capsys.readouterr().err == 'skillit: RuntimeError: first (traceback: --debug)\n'


def test_debug_shows_the_traceback():
    with pytest.raises(InputError):
        run_guarded(raising(InputError('x')), debug=True)
