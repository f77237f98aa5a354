"""The command line as a whole: usage errors and how exceptions end."""

import argparse
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skillit_stream import train
from skillit_stream.base.errors import InputError, OneLineParser
from skillit_stream.cli import COMMANDS, main, run_guarded
from tests.support.paths import ROOT

HOW = ['--steps', '3', '--method', 'approximate']


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


@pytest.mark.parametrize('show', ['print', 'default_console().print', 'print_line'])
@pytest.mark.parametrize('lines', [1, 10_000])
def test_a_command_whose_reader_has_ended_ends_without_a_word(show: str, lines: int):
    code = f"""import sys
from skillit_stream.base.errors import run_guarded
from skillit_stream.base.terminal import default_console, print_line
sys.exit(run_guarded(lambda: {show}('line\\n' * {lines})))"""
    command = [sys.executable, '-c', code]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b'')


def test_a_pipe_that_breaks_elsewhere_is_an_error(capsys: pytest.CaptureFixture[str]):
    assert run_guarded(raising(BrokenPipeError(32, 'Broken pipe'))) == 1
    assert 'skillit: BrokenPipeError' in capsys.readouterr().err


def test_debug_shows_the_traceback():
    with pytest.raises(InputError):
        run_guarded(raising(InputError('x')), debug=True)


def parsed(command: str, *words: str) -> argparse.Namespace:
    """What a command's parser makes of the words, the command's own parser being below that of `skillit`."""
    parser = OneLineParser()
    below = parser.add_subparsers(dest='command').add_parser(command)
    importlib.import_module(f'skillit_stream.{COMMANDS[command][0]}').add_arguments(below)
    return parser.parse_args([command, *words])


@pytest.mark.parametrize(
    ('command', 'words'),
    [
        ('train', ['a.yaml', 'seed=1', 'x.y={a: 1}']),
        ('train', ['seed=1', 'a.yaml', 'x.y={a: 1}']),
        ('experiment', ['seed=1', 'a.yaml', 'x.y={a: 1}']),
        ('score', ['a.yaml', '--name', 'n', 'seed=1', '--overwrite', 'x.y={a: 1}']),
        ('score', ['a.yaml', '--ray', 'seed=1', '--name=k=v', 'x.y={a: 1}']),
        ('graph', ['learn', 'seed=1', 'a.yaml', *HOW, 'x.y={a: 1}', '--out', 'g']),
        ('graph', ['learn', *HOW, '--out', 'g=h.json', 'a.yaml', 'seed=1', 'x.y={a: 1}']),
        ('graph', ['learn', 'a.yaml', '--out', 'g', *HOW, 'seed=1', '--ray', 'x.y={a: 1}']),
    ],
)
def test_overrides_may_stand_anywhere(command: str, words: list[str]):
    args = parsed(command, *words)
    assert args.overrides == ['seed=1', 'x.y={a: 1}']
    assert getattr(args, 'name' if command == 'experiment' else 'yaml') == 'a.yaml'
    if command == 'graph':
        assert args.out == ('g=h.json' if 'g=h.json' in words else 'g')
    if '--ray' in words:
        assert args.ray == 'auto'
    if '--name=k=v' in words:
        assert args.name == 'k=v'


@pytest.mark.parametrize(
    'words', [['learn', 'a.yaml', *HOW, '--out', 'g', 'runs/x=1.pt'], ['show', 'g.json', 'seed=1']]
)
def test_what_is_no_override_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_info:
        main(['graph', *words])
    assert exit_info.value.code == 2
    assert f'unrecognized arguments: {words[-1]}' in capsys.readouterr().err


def test_overrides_reach_the_module_that_launchers_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / 'a.yaml').write_text('streams: nowhere\nmax_duration: 1ep\n')
    assert train.main(['seed=x', str(tmp_path / 'a.yaml'), 'run_name=b']) == 2
    assert '`seed`' in capsys.readouterr().err
