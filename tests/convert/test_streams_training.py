"""Runs on streams whose skills were renamed or merged: refused or gone on with by name, and audits stay true."""

import json
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.cli import main
from tests.convert.test_streams import rows_of
from tests.support.run_folders import rounds_of
from tests.support.training_runs import settings, write_yaml


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_a_run_is_told_of_new_names_and_audits_find_the_shards(
    tmp_path: Path, tokenizer: str, write_rows, skillit, refused, release_datasets
):
    root, run = tmp_path / 'S', tmp_path / 'run'
    rows = [row for kind in 'abc' for row in rows_of(kind, 0, 60)]
    options = ['--tokenizer', tokenizer, '--seq-len', 16, '--skill-field', 'kind', '--eval-fraction', 0.2]
    skillit('convert', 'jsonl', write_rows('a.jsonl', rows), '--out', root, *options, '--workers', 1)

    def train(rounds: int, **loader: Any) -> list[str]:
        keys = settings(root, run)
        keys |= {'max_duration': f'{rounds}ep', 'algorithms': {'data_mixing': {'policy': 'proportional'}}}
        keys['train_loader'] |= loader
        keys |= {'autoresume': True, 'save_interval': '1ep', 'save_num_checkpoints_to_keep': -1}
        return ['train', str(write_yaml(tmp_path / 'run.yaml', keys))]

    def drawn(step: int) -> list[tuple[str, bytes, int]]:
        """(skill, the shard's contents, row) of all samples of a step."""
        found = json.loads(skillit('audit', run, '--step', step, '--json'))
        return [(one['skill'], Path(one['shard']).read_bytes(), one['row']) for one in found['samples']]

    assert main(train(2)) == 0
    release_datasets()
    before = [drawn(step) for step in range(12)]
    assert {skill for step in before for skill, _, _ in step} == {'a', 'b', 'c'}
    skillit('streams', 'rename', root, 'a', 'first')
    assert [drawn(step) for step in range(12)] == before
    error = refused(*train(4))
    assert 'The streams must be those of the saved state, but' in error
    assert 'but a is called first now: resume with' in error
    release_datasets()
    skillit('streams', 'merge', root, '--into', 'b', 'b', 'c')
    error = refused(*train(4))
    assert 'b has grown from' in error
    assert 'c (' in error
    release_datasets()
    assert main(train(4, on_changed='allow')) == 0
    release_datasets()
    lines = rounds_of(run)
    assert [set(line['proportions']) for line in lines] == [{'a', 'b', 'c'}] * 2 + [{'b', 'first'}] * 2
    # What was drawn of a and b is found still; the shards of c have other names now, which is said.
    step = next(number for number, found in enumerate(before) if {skill for skill, _, _ in found} >= {'c'})
    assert 'Skill c has no index at' in refused('audit', run, '--step', step)
