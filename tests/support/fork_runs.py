"""Runs to fork: three sources in signs of their own, and a target, never trained on, that is written as one of them."""

import json
import random
from pathlib import Path
from typing import Any

from skillit_stream.cli import main
from skillit_stream.training.config import load_config
from skillit_stream.training.session import fit
from tests.support import training_runs
from tests.support.training_runs import write_yaml

SIGNS = {'letters': 'abcdefgh', 'capitals': 'ABCDEFGH', 'digits': '12345678', 'wanted': 'abcdefgh'}
TRAINED = ('letters', 'capitals', 'digits')
ROUNDS, STEPS = 10, 8
LENGTH, BATCH = 32, 8
CLIPPED = {'gradient_clipping': {'clipping_type': 'norm', 'clipping_threshold': 1.0}}


def write_streams(folder: Path) -> Path:
    """Streams of the four sources; their words are pairs of a sign, in which a model of one layer finds the pattern."""
    from tests.support.documents import write_byte_tokenizer

    rng = random.Random(0)
    (folder / 'corpus').mkdir(parents=True)
    for source, signs in SIGNS.items():
        texts = [' '.join(2 * rng.choice(signs) for _ in range(60)) for _ in range(60)]
        rows = ''.join(json.dumps({'text': text, 'source': source}) + '\n' for text in texts)
        (folder / 'corpus' / f'{source}.jsonl').write_text(rows)
    write_byte_tokenizer(folder / 'tokenizer')
    arguments = ['--tokenizer', folder / 'tokenizer', '--seq-len', LENGTH, '--skill-field', 'source']
    out = folder / 'streams'
    assert main(['convert', 'jsonl', *map(str, [folder / 'corpus', '--out', out, *arguments])]) == 0
    return out


def settings(streams: Path, run: Path) -> dict[str, Any]:
    """The keys of a run of ten rounds of eight steps on the stratified mixture."""
    return {
        **training_runs.settings(streams, run),
        'max_duration': f'{ROUNDS}ep',
        'global_train_batch_size': BATCH,
        'train_loader': {'round_size': STEPS * BATCH, 'skills': list(TRAINED)},
        'eval_loader': {'batch_size': 16, 'samples_per_skill': 24},
        'optimizer': {'name': 'adamw', 'lr': 0.005},
        'scheduler': {'name': 'cosine_with_warmup', 't_warmup': '4ba'},
        'algorithms': {'data_mixing': {'policy': 'stratified'}, **CLIPPED},
        'save_num_checkpoints_to_keep': -1,
    }


def four_rounds(mixing: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Changes of such a run that give it a policy and four rounds."""
    return {'max_duration': '4ep', 'algorithms': {'data_mixing': mixing, **CLIPPED}, **changes}


def train(streams: Path, run: Path, **changes: Any) -> Path:
    """Train such a run, with other keys if they are given; returns its folder."""
    keys = {**settings(streams, run), **changes}
    fit(load_config(write_yaml(run.with_suffix('.yaml'), keys)))
    return run
