"""Orders, logs and converted bytes, equal to those in tests/golden: what a release may not change by accident.

``GOLDEN=write pytest tests/test_golden.py`` writes the files anew; a change to them is a change of behaviour.
"""

import hashlib
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
import yaml

from skillit_stream import SkillStreamingDataset
from skillit_stream.cli import main
from skillit_stream.mixture import Pace, SampleOrder
from tests.support.mds import open_streams, write_streams
from tests.support.paths import GOLDEN, SHARED
from tests.support.ranked_samples import ranked

CLOCKS = ('seconds', 'stalled_seconds', 'eval_seconds')
# What the reader of a log needs to know about its form is not what happened in the run. How the steps went is beside
# what decides the run: the evaluation's losses, which stand here, follow from the same steps. The next mixture is that
# of the next line.
FORM = ('version', 'order', 'state', 'trained', 'next_proportions')
# Of the tokenizer.json that transformers 4 makes of GPT-2's vocabulary and merges; transformers 5 makes another one.
GPT2_HASH = 'sha256:1fe93b6152957cf9cfd6d89002467f789ce8b3f3e000b3a2edf27c808ddd0b9e'


def matches(name: str, found: Any) -> None:
    """Compare with tests/golden/<name>.json, or write it."""
    path = GOLDEN / f'{name}.json'
    found = json.loads(json.dumps(found))
    if os.environ.get('GOLDEN') == 'write':
        path.write_text(json.dumps(found, indent=1) + '\n')
    assert found == json.loads(path.read_text())


def digest(ids: Sequence[int] | np.ndarray) -> str:
    return hashlib.sha256(np.asarray(ids, '<i8').tobytes()).hexdigest()[:32]


def world(number: int, *, whole: bool) -> dict[str, Any]:
    """Streams, settings and mixtures of a random run; `whole`: every share is a number of whole samples."""
    rng = random.Random(number)
    skills = rng.sample('abcdefg', rng.randint(1, 5))
    nodes = rng.choice([1, 1, 2, 3, 4])
    batch = nodes * rng.randint(1, 5)
    round_size = batch * rng.randint(1, 12)
    mixtures = []
    for _ in range(4 if whole else 1):
        if whole:
            cuts = sorted(rng.randint(0, round_size) for _ in skills[1:])
            edges = [0, *cuts, round_size]
            shares = [(edges[at + 1] - edges[at]) / round_size for at in range(len(skills))]
        else:
            weights = [rng.random() for _ in skills]
            shares = [weight / sum(weights) for weight in weights]
        mixtures.append(dict(zip(skills, shares, strict=True)))
    return {
        'streams': {skill: [rng.randint(1, 30) for _ in range(rng.randint(1, 9))] for skill in skills},
        'mixtures': mixtures,
        'paced': [skill for skill in skills if whole and rng.random() < 0.2],
        'settings': {
            'round_size': round_size,
            'batch_size': batch,
            'num_canonical_nodes': nodes,
            'batching': rng.choice(['random', 'stratified']),
            'shuffle_seed': rng.randint(0, 999),
            'shuffle_block_size': rng.choice([1, 7, 40]),
            'shuffle': rng.random() < 0.9,
        },
    }


class _OfAnyStream:
    """Ranked samples that do not ask which stream they are of."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def check_stream(self, skill: str, digest: str) -> None:
        pass


def paced(sizes: list[int]) -> SampleOrder:
    losses = [((7 * number) % 23) / 5 for number in range(sum(sizes))]
    samples: Any = _OfAnyStream(ranked(losses, sizes))
    return SampleOrder(samples, Pace((0, 11, 40), (0.8, 2.0, 9.0)))


def orders_of(root: Path, of: dict[str, Any]) -> list[str]:
    write_streams(root, of['streams'])
    dataset = SkillStreamingDataset(
        streams=open_streams(root, of['streams']),
        proportions=of['mixtures'][0],
        sample_orders={skill: paced(of['streams'][skill]) for skill in of['paced']},
        **of['settings'],
    )
    found = []
    for number in range(len(of['mixtures'])):
        found.append(digest(dataset.sample_ids(number)))
        assert digest([int(sample['sample_id']) for sample in dataset]) == found[-1]
        if number + 1 < len(of['mixtures']):
            dataset.set_proportions(of['mixtures'][number + 1])
    return found


def test_orders_of_rounds(tmp_path: Path):
    matches(
        'orders',
        {str(number): orders_of(tmp_path / str(number), world(number, whole=True)) for number in range(40)},
    )


def test_orders_of_first_rounds_whose_shares_are_no_whole_samples(tmp_path: Path):
    found = {n: orders_of(tmp_path / str(n), world(n, whole=False)) for n in range(100, 120)}
    matches('first_rounds', found)


def six_figures(value: Any) -> Any:
    """Floats as a machine of another kind would also have them."""
    if isinstance(value, dict):
        return {key: six_figures(one) for key, one in value.items()}
    if isinstance(value, list):
        return [six_figures(one) for one in value]
    return float(f'{value:.4g}') if isinstance(value, float) else value


@pytest.mark.parametrize(
    ('name', 'mixing', 'rounds'),
    [
        (
            'static',
            {'policy': 'static', 'proportions': {'digit_0': 0.5, 'digit_1': 0.25, 'digit_2': 0.25}},
            3,
        ),
        ('skill_it', {'policy': 'skill_it', 'graph': 'streams', 'eta': 0.5}, 1),
        ('online', {'policy': 'odm'}, 1),
    ],
)
def test_logs_of_runs(tmp_path: Path, name: str, mixing: dict[str, Any], rounds: int):
    streams = tmp_path / 'addition'
    counts = ['--train-samples', '300', '--eval-samples', '41']
    assert main(['convert', 'addition', '--out', str(streams), *counts]) == 0
    model = {'model_type': 'llama', 'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1}
    model |= {'num_attention_heads': 2, 'num_key_value_heads': 2, 'max_position_embeddings': 32}
    keys = {
        'streams': str(streams),
        'run_name': 'golden',
        'save_folder': str(tmp_path / 'run'),
        'max_duration': f'{rounds}ep',
        'eval_interval': '3ba',
        'seed': 3,
        'device': 'cpu',
        'global_train_batch_size': 4,
        'model': {'config': model, 'init': 'fan_in'},
        'train_loader': {'round_size': 24},
        'eval_loader': {'batch_size': 7},
        'optimizer': {'name': 'adamw', 'lr': 0.01},
        'algorithms': {'data_mixing': mixing},
        'progress_bar': False,
    }
    (tmp_path / 'run.yaml').write_text(yaml.safe_dump(keys))
    assert main(['train', str(tmp_path / 'run.yaml')]) == 0
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'mixture.jsonl').read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key not in CLOCKS + FORM} for line in lines]
    matches(f'log_{name}', six_figures(kept))


def files_of(root: Path) -> dict[str, str]:
    """Digest of every file of the streams; of the manifest without what names this machine's paths."""
    found = {}
    for path in sorted(root.rglob('*')):
        if path.is_file() and path.relative_to(root).parts[0] != 'tokenizer':
            found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    manifest = json.loads((root / 'skills.json').read_text())
    del manifest['tokenizer']['name']
    manifest.pop('corpus')
    if manifest['tokenizer']['hash'] != GPT2_HASH and manifest['vocab_size'] == 50257:
        assert int(transformers.__version__.split('.')[0]) >= 5
        manifest['tokenizer']['hash'] = GPT2_HASH
    found['skills.json'] = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()[:32]
    return found


@pytest.mark.parametrize('workers', [1, 2, 4])
@pytest.mark.parametrize('corpus', ['addition', 'lego', 'redpajama'])
def test_converted_bytes(tmp_path: Path, corpus: str, workers: int):
    command = ['convert', corpus, '--out', str(tmp_path / 'out')]
    if corpus == 'redpajama':
        if not SHARED.exists():
            pytest.skip('shared/data is not there')
        command += [str(SHARED / 'redpajama_sample'), '--tokenizer', str(SHARED / 'tokenizers' / 'gpt2')]
        command += ['--seq-len', '256', '--eval-fraction', '0.05']
    else:
        command += ['--train-samples', '300', '--eval-samples', '41', '--seed', '5']
    command += ['--workers', str(workers)]
    assert main(command) == 0
    matches(f'bytes_{corpus}', files_of(tmp_path / 'out'))
