"""What the terminal shows while streams are put together."""

import pytest

from skillit_stream.convert import progress


def test_a_log_gets_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(progress, 'monotonic', lambda: next(now))
    with progress.assembly_display(8) as advance:
        for _ in range(4):
            advance()
    assert capsys.readouterr().err == 'putting the streams together: 25%\nputting the streams together: 50%\n'


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv('FORCE_COLOR', '1')
    monkeypatch.setenv('COLUMNS', '80')
    with progress.assembly_display(2) as advance:
        advance()
        advance()
    assert 'putting the streams together' in capsys.readouterr().err
