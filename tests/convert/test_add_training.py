"""A run goes on with streams that were added to, as with any that have grown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.cli import main
from skillit_stream.formats.manifest import Manifest
from tests.support.run_folders import drawn_samples, rounds_of
from tests.support.training_runs import settings, write_yaml


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_a_run_takes_up_what_was_added(
    tmp_path: Path,
    tokenizer: str,
    write_rows: Callable[..., Path],
    skillit: Callable[..., str],
    refused: Callable[..., str],
    release_datasets: Callable[[], None],
):
    def convert(name: str, kinds: str, first: int, *more: object) -> None:
        rows = [
            {'text': f'{kind} {number} ' + 'lorem ' * (number % 7), 'kind': kind}
            for kind in kinds
            for number in range(first, first + 60)
        ]
        options = ['--tokenizer', tokenizer, '--seq-len', 16, '--skill-field', 'kind', '--eval-fraction', 0.2]
        path = write_rows(name, rows)
        skillit('convert', 'jsonl', path, '--out', tmp_path / 'S', *options, '--workers', 1, *more)

    def train(rounds: int, **loader: Any) -> list[str]:
        keys = settings(tmp_path / 'S', tmp_path / 'run')
        keys |= {'max_duration': f'{rounds}ep', 'algorithms': {'data_mixing': {'policy': 'proportional'}}}
        keys['train_loader'] |= loader
        keys |= {'autoresume': True, 'save_interval': '1ep', 'save_num_checkpoints_to_keep': -1}
        return ['train', str(write_yaml(tmp_path / 'run.yaml', keys))]

    convert('old.jsonl', 'ab', 0)
    had = {
        name: skill.splits['train'].samples
        for name, skill in Manifest.load(str(tmp_path / 'S')).skills.items()
    }
    assert main(train(2)) == 0
    release_datasets()
    convert('new.jsonl', 'ac', 60, '--add')
    has = {
        name: skill.splits['train'].samples
        for name, skill in Manifest.load(str(tmp_path / 'S')).skills.items()
    }
    assert has['a'] > had['a']
    error = refused(*train(12))
    assert f'c ({has["c"]} samples) was not among them' in error
    assert f'a has grown from {had["a"]} samples to {has["a"]} samples' in error
    release_datasets()
    assert main(train(12, on_changed='allow')) == 0
    lines = rounds_of(tmp_path / 'run')
    assert [line['round'] for line in lines] == list(range(12))
    assert set(lines[1]['proportions']) == {'a', 'b'}
    assert set(lines[2]['proportions']) == {'a', 'b', 'c'}
    # By size, and no sample of the lengthened stream twice before all of it was drawn once.
    drawn = {skill: sum(line['samples'].get(skill, 0) for line in lines) for skill in has}
    assert drawn['c'] > 0
    assert sum(has.values()) > 12 * 24, 'the run must end within the first pass'
    ids = [one for step, found in drawn_samples(tmp_path / 'run').items() if step > 12 for one in found]
    of_a = [one for one in ids if one < has['a']]
    assert len(set(of_a)) == len(of_a)
    assert any(one >= had['a'] for one in of_a)
