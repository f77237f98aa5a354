"""The command line, from inside the test's process."""

import pytest

from skillit_stream.cli import main


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """`skillit ARGUMENTS`, which must be refused: exit code 2 and one line on stderr, which is returned."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.err.count('\n') == 1, output.err
    assert output.err.startswith('skillit: ')
    assert output.out == ''
    return output.err


def done(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """`skillit ARGUMENTS`, which must work; returns what it printed on stdout and on stderr."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert code == 0, output.err
    return output.out, output.err
