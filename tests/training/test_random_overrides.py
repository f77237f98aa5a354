"""Any override starts the run or is refused in one line, whatever the key and the value."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from composer import Trainer
from hypothesis import HealthCheck, given, seed, settings

from skillit_stream.cli import main
from tests.support.random_overrides import overrides

# A release is tried with 500. The same tries every time; another seed draws others.
TRIES = int(os.environ.get('SKILLIT_OVERRIDES_TRIES', '150'))
OTHER_TRIES = 'SKILLIT_OVERRIDES_SEED'
# Fixtures of one test serve all tries, and a try takes a while.
CHECKS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs end after their first step, name no hub, and find files beside `tiny.yaml`."""
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, 'fit', lambda self: fit(self, duration='1ba'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@seed(int(os.environ.get(OTHER_TRIES, '0')))
@settings(max_examples=TRIES, deadline=None, suppress_health_check=CHECKS, database=None)
@given(drawn=overrides())
def test_an_override_starts_the_run_or_is_refused_in_one_line(
    tiny_yaml: Path,
    one_step: None,
    release_datasets: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    drawn: list[str],
):
    capsys.readouterr()
    try:
        code = main(['train', str(tiny_yaml), 'save_overwrite=true', *drawn])
    finally:
        release_datasets()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('skillit: ')]
    refusals = [line for line in lines if not line.startswith('skillit: warning: ')]
    assert (code, len(refusals)) in ((0, 0), (2, 1)), (drawn, code, lines)
