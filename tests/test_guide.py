"""Every command and every file of docs/your-own-data.md, as it stands but for its size."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream.cli import main
from tests.support.paths import ROOT

GUIDE = ROOT / 'docs' / 'your-own-data.md'
# What stands in the guide -> what is run here. Each must occur: a guide that has moved on is noticed.
SMALLER = {
    'max_duration: 2000ba': 'max_duration: 2ep\ndevice: cpu\nprogress_bar: false',
    'round_size: 3200': 'round_size: 64',
    't_warmup: 100ba': 't_warmup: 1ba',
    'hidden_size: 256': 'hidden_size: 16',
    'intermediate_size: 1024': 'intermediate_size: 32',
    'num_hidden_layers: 4': 'num_hidden_layers: 1',
    '--steps 200': '--steps 2',
    'seeds: [1, 2, 3, 4, 5]': 'seeds: [1]',
    'num_workers: 1': 'num_workers: 0',
}
WORDS = {'poems': ['rose', 'moon', 'sea'], 'code': ['def', 'return', 'if'], 'news': ['today', 'vote', 'rain']}


def write_corpus(folder: Path) -> None:
    """Rows of three sources."""
    folder.mkdir()
    rng = random.Random(0)
    for source, words in WORDS.items():
        rows = [{'text': ' '.join(rng.choices(words, k=60)), 'meta': {'source': source}} for _ in range(120)]
        (folder / f'{source}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    alphabet = {sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token='<|end|>').save_pretrained(str(folder))


def words_of(command: str, folder: Path) -> list[str]:
    """What the shell hands to `skillit`, which is the command's first word."""
    shell = 'skillit() { printf "%s\\0" "$@"; }; '
    ran = subprocess.run(
        ['bash', '-c', shell + command], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    words = ran.stdout.split('\0')
    assert words.pop() == '', command
    return words


@pytest.mark.slow
@pytest.mark.usefixtures('forked_runs')
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_the_guide_for_ones_own_data_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release_datasets: Callable[[], None]
):
    write_corpus(tmp_path / 'corpus')
    write_tokenizer(tmp_path / 'tokenizer')
    text = GUIDE.read_text()
    for whole, small in SMALLER.items():
        assert whole in text, whole
        text = text.replace(whole, small)
    files = re.findall(r'Save this as\s+`(\S+)`.*?```yaml\n(.*?)```', text, flags=re.S)
    assert [name for name, _ in files] == ['mine.yaml', 'compare.yaml']
    for name, content in files:
        (tmp_path / name).write_text(content)
    commands = [
        line for block in re.findall(r'```sh\n(.*?)```', text, flags=re.S) for line in block.splitlines()
    ]
    assert len(commands) == 8
    monkeypatch.chdir(tmp_path)
    installed = Path(sys.executable).with_name('skillit')
    for command in commands:
        words = words_of(command, tmp_path)
        if words[0] == 'verify':
            # In a process of its own, as it is installed; the others need not import everything again.
            assert subprocess.run([installed, *words], check=False).returncode == 0, command
        else:
            assert main(words) == 0, command
            release_datasets()
    for made in ('graph.png', 'runs/mine-stratified-s1/report/report.html', 'runs/compare/results.md'):
        assert (tmp_path / made).is_file()
    results = (tmp_path / 'runs' / 'compare' / 'results.md').read_text()
    assert '| fixed_tilt |' in results
