"""The YAMLs of real runs, shrunk by overrides until two ranks of a CPU train them for two rounds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from skillit_stream.cli import main
from skillit_stream.formats.manifest import Manifest
from skillit_stream.mixture import SkillsGraph
from skillit_stream.training.config import load_config
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.paths import ROOT
from tests.support.run_folders import rounds_of

FOLDER = ROOT / 'yamls'
# The small ones of addition are trained elsewhere, every method.
YAMLS = [
    *(
        path
        for path in sorted(FOLDER.glob('*/*.yaml'))
        if path.parent.name not in ('addition', 'experiments')
    ),
    FOLDER / 'addition' / 'smollm2_135m.yaml',
    FOLDER / 'reference.yaml',
]
SOURCES = ['arxiv', 'book', 'c4', 'common_crawl', 'github', 'stackexchange', 'wikipedia']
SEQ_LEN, VOCABULARY = 16, 20
# Between the group and the task in the name of a stream.
TASK = '--'

Corpus = Callable[[Sequence[str], Sequence[str]], Path]

pytestmark = [pytest.mark.timeout(240), *NEEDS]


@pytest.fixture(scope='session')
def corpus(streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Streams of digits under the given names: skills to train on, and skills to evaluate alone."""
    made: dict[tuple[str, ...], Path] = {}

    def make(skills: Sequence[str], only_evaluated: Sequence[str] = ()) -> Path:
        names = (*skills, *only_evaluated)
        if names not in made:
            made[names] = _convert(tmp_path_factory.mktemp('corpus'), streams / 'tokenizer', names)
            _drop(made[names], 'train', only_evaluated)
            _drop(made[names], 'eval', [name for name in skills if TASK in name])
            SkillsGraph.identity(skills).save(made[names] / 'graph.json')
        return made[names]

    return make


def _convert(folder: Path, tokenizer: Path, names: Sequence[str]) -> Path:
    rows = [
        {'text': ' '.join(str(row * 37 + at) for at in range(8)), 'kind': name}
        for name in names
        for row in range(60)
    ]
    # No two documents are the same, or they would land in the same split of several skills.
    for number, row in enumerate(rows):
        row['text'] = f'A = {number} , {row["text"]}'
    (folder / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    options = [
        '--skill-field',
        'kind',
        '--tokenizer',
        str(tokenizer),
        '--seq-len',
        str(SEQ_LEN),
        '--workers',
        '1',
    ]
    out = folder / 'streams'
    command = ['convert', 'jsonl', str(folder / 'rows.jsonl'), '--out', str(out), '--eval-documents', '12']
    assert main([*command, *options]) == 0
    return out


def _drop(root: Path, split: str, skills: Sequence[str]) -> None:
    manifest = Manifest.load(str(root))
    kept = dict(manifest.skills)
    for skill in skills:
        rmtree(root / skill / split)
        splits = {name: one for name, one in kept[skill].splits.items() if name != split}
        kept[skill] = replace(kept[skill], splits=splits)
    replace(manifest, skills=kept).save(str(root))


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a small model of the kind that a hub name stands for."""
    sizes = {
        'HuggingFaceTB/SmolLM2-135M': AutoConfig.for_model(
            'llama', hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        ),
        'EleutherAI/gpt-neo-125M': AutoConfig.for_model(
            'gpt_neo', hidden_size=16, num_layers=2, num_heads=2, attention_types=[[['global', 'local'], 1]]
        ),
    }

    def save(name: str) -> Path:
        config, folder = sizes[name], tmp_path_factory.mktemp('model')
        config.update({'vocab_size': VOCABULARY, 'max_position_embeddings': SEQ_LEN})
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return folder

    return save


def skills_of(path: Path) -> tuple[list[str], list[str]]:
    """Skills to train on that the YAML needs, and skills that it evaluates alone."""
    config = load_config(path, ['algorithms.data_mixing.graph=graph.npy'])
    train = config.train_loader.skills or {
        'redpajama': SOURCES,
        'natural_instructions': ['code_to_text', 'question_answering', 'summarization'],
    }.get(path.parent.name, ['kind_0', 'kind_1'])
    if (config.algorithms.get('data_mixing') or {}).get('groups') == TASK:
        groups = config.eval_loader.skills if 'fine_tuning' in path.stem else train
        return _tasks(groups or []), config.eval_loader.skills or train
    return train, [skill for skill in config.eval_loader.skills or [] if skill not in train]


def _tasks(groups: Sequence[str]) -> list[str]:
    """Two train streams for each group."""
    return [f'{group}{TASK}{task}' for group in groups for task in ('one', 'two')]


def shrunk(path: Path, root: Path, run: Path, pretrained: Callable[[str], Path]) -> list[str]:
    """The overrides: small model, streams, batches and rounds, on a CPU; all else as it stands."""
    config = load_config(path, ['algorithms.data_mixing.graph=graph.npy'])
    keys = {
        'streams': root,
        'save_folder': run,
        'device': 'cpu',
        'precision': 'fp32',
        'fsdp_config': 'null',
        'global_train_batch_size': 4,
        'device_train_microbatch_size': 1,
        'train_loader.round_size': 8,
        'train_loader.num_workers': min(config.train_loader.num_workers or 0, 1),
        'eval_loader.batch_size': 4,
        'max_duration': '2ep',
        'eval_interval': '1ep',
        'save_interval': '1ep',
        'progress_bar': 'false',
    }
    if 't_warmup' in config.scheduler:
        keys['scheduler.t_warmup'] = '1ba'
    if config.model.pretrained_model_name_or_path:
        keys['model.pretrained_model_name_or_path'] = pretrained(config.model.pretrained_model_name_or_path)
    else:
        small = {'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2}
        small |= {'num_key_value_heads': 2} if 'num_key_value_heads' in (config.model.config or {}) else {}
        keys |= {f'model.config.{key}': value for key, value in small.items()}
        keys |= {'model.config.max_position_embeddings': SEQ_LEN, 'model.config.vocab_size': VOCABULARY}
    if '???' in path.read_text():
        train, evaluated = skills_of(path)
        rows = {name.split(TASK)[0] for name in train}
        columns = len(config.eval_loader.skills or evaluated or train)
        graph = run.with_name('published.npy')
        np.save(graph, np.random.default_rng(3).random((len(rows), columns)))
        keys['algorithms.data_mixing.graph'] = graph
    return [f'{key}={value}' for key, value in keys.items()]


def expect_trained(run: Path, train: Sequence[str], evaluated: Sequence[str]) -> None:
    lines = rounds_of(run)
    assert [line['round'] for line in lines] == [0, 1]
    for line in lines:
        assert sorted(line['samples']) == sorted(train)
        assert sum(line['samples'].values()) == 8
        assert sorted(line['losses']) == sorted(evaluated)
        assert all(np.isfinite(loss) for loss in line['losses'].values())
    # In the first round the learning rate warms up: Composer's first two steps are at 0.
    assert lines[1]['losses'] != lines[0]['losses']
    assert (run / 'checkpoints' / 'latest-rank0.pt').exists()
    assert load_config(run / 'config.yaml').save_folder == str(run)


@pytest.mark.parametrize('path', YAMLS, ids=lambda path: f'{path.parent.name}-{path.stem}')
def test_two_ranks_train_it(
    path: Path, corpus: Corpus, pretrained: Callable[[str], Path], launcher: Launcher, tmp_path: Path
):
    train, evaluated = skills_of(path)
    root, run = corpus(train, evaluated), tmp_path / 'run'
    finish(launcher.ranks(path, root, 2, overrides=shrunk(path, root, run, pretrained)))
    expected = load_config(path, ['algorithms.data_mixing.graph=graph.npy']).eval_loader.skills
    expect_trained(run, train, expected or evaluated or train)


@pytest.mark.parametrize(
    ('name', 'parameters'),
    [('llama_1b', 1.2e9), ('llama_7b', 6.9e9), ('incite_3b', 2.8e9)],
)
def test_the_models_are_of_the_size_that_they_are_named_for(name: str, parameters: float):
    config = load_config(FOLDER / 'redpajama' / f'{name}.yaml').model.config
    assert config is not None
    options = dict(config)

    with torch.device('meta'):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(options.pop('model_type'), **options))
    assert sum(one.numel() for one in model.parameters()) == pytest.approx(parameters, rel=0.05)


@pytest.mark.parametrize('name', ['llama_7b', 'incite_3b'])
def test_the_sharded_ones_are_refused_where_there_is_no_gpu(
    name: str, corpus: Corpus, capsys: pytest.CaptureFixture[str]
):
    path = FOLDER / 'redpajama' / f'{name}.yaml'
    assert main(['train', str(path), f'streams={corpus(SOURCES, [])}', 'device=cpu', 'precision=fp32']) == 2
    assert '`fsdp_config` needs a GPU, but there is none' in capsys.readouterr().err
