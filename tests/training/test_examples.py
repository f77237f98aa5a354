"""What the documentation shows, run as it stands."""

import re
import runpy
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.training_runs import SKILLS


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_the_plain_composer_example_mixes(
    streams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    script = ROOT / 'examples' / 'plain_composer.py'
    assert len(script.read_text(encoding='utf-8').splitlines()) <= 70
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', [str(script), str(streams), '2ep'])
    runpy.run_path(str(script), run_name='__main__')
    printed = re.findall(
        r'^(digit_\d): loss \d+\.\d{3}, (\d+) samples$', capfd.readouterr().out, re.MULTILINE
    )
    assert [skill for skill, _ in printed] == list(SKILLS)
    counts = [int(count) for _, count in printed]
    # Two rounds of 50 steps, not in equal shares.
    assert sum(counts) == 2 * 50 * 64
    assert max(counts) > 1.2 * min(counts)
