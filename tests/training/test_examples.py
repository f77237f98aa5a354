"""What the documentation shows, run as it stands."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from composer import Trainer

from skillit_stream import MeanSkillLoss, SkillStreamingDataset
from tests.support.paths import ROOT
from tests.support.training_runs import SKILLS, tiny_model


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


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_the_script_in_the_readme_trains(streams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(encoding='utf-8'), re.DOTALL)
    (code,) = [block for block in blocks if 'Trainer(' in block]
    monkeypatch.chdir(tmp_path)
    skills = ('arxiv', 'github', 'wikipedia')
    mine = tmp_path / 'streams' / 'mine'
    mine.mkdir(parents=True)
    for skill, digit in zip(skills, SKILLS, strict=True):
        (mine / skill).symlink_to(streams / digit)
    inner = tiny_model(streams)
    names: dict[str, Any] = {'network': inner.model, 'tokenizer': inner.tokenizer}
    # The same text, but for its length.
    for long, short in (('64_000', '64'), ("'10ep'", "'2ep'"), ('num_workers=4', 'num_workers=1')):
        assert code.count(long) == 1
        code = code.replace(long, short)
    exec(compile(code, 'README.md', 'exec'), names)
    trainer, dataset = names['trainer'], names['dataset']
    assert isinstance(trainer, Trainer)
    assert isinstance(dataset, SkillStreamingDataset)
    trainer.fit()
    trainer.close()
    assert sum(dataset.samples_seen.values()) == 2 * 64
    assert dataset.next_round == 2
    (measured,) = trainer.state.eval_metrics['all'].values()
    assert isinstance(measured, MeanSkillLoss)
    assert list(measured.by_skill()['losses']) == list(skills)
