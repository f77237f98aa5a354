"""Commands that must be refused."""

import pytest

from skillit_stream.cli import main


def refused_line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run `skillit ...`, which must end in exit code 2, and return its one line on stderr."""
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    output = capsys.readouterr()
    assert output.err.count('\n') == 1, output.err
    assert output.err.startswith('skillit: ')
    assert output.out == ''
    return output.err
