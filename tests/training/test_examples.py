"""What the documentation shows, run as it stands."""

import re
import runpy
import subprocess
import sys
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


def test_the_small_tokenizer_gives_back_any_text(tmp_path: Path):
    from transformers import AutoTokenizer

    (tmp_path / 'a.txt').write_text('the rose, the moon, the sea\n' * 50, encoding='utf-8')
    script, out = ROOT / 'examples' / 'small_tokenizer.py', tmp_path / 'tokenizer'
    command = [sys.executable, str(script), str(out), '280', str(tmp_path / 'a.txt')]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert 256 < len(tokenizer) <= 280
    text = 'the rose: ein Mönd, 海\t\x00'
    assert tokenizer.decode(tokenizer(text)['input_ids']) == text
    assert tokenizer.eos_token_id is not None
