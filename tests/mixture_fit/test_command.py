"""`skillit mix fit`: files in, tables, JSON and YAML out, and one line for bad input."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from skillit_stream.cli import main
from skillit_stream.formats.manifest import Manifest, SkillInfo, SplitInfo
from skillit_stream.mixture import build_policy
from skillit_stream.mixture_fit import read_runs
from skillit_stream.training.config import load_config
from tests.support import commands
from tests.support.mix_runs import SKILLS, table, write_table
from tests.support.paths import ROOT

SIZES = {'web': 6_000, 'code': 1_000, 'books': 3_000}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """ratios.csv and metrics.csv of 24 runs without noise."""
    return write_table(table(), tmp_path)


def write_json(path: Path, data: object) -> str:
    """Write JSON and return the path."""
    path.write_text(json.dumps(data), encoding='utf-8')
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """What `skillit mix fit ... --json` prints."""
    assert main(['mix', 'fit', *arguments, '--json']) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that bad input ends in."""
    return commands.refusal(capsys, 'mix', 'fit', *arguments)


def test_rows_are_matched_by_name(tmp_path: Path):
    (tmp_path / 'r.csv').write_text('run,web,code\na,0.25,0.75\nb,1,0\nc,0.3333,0.6667\n')
    (tmp_path / 'm.csv').write_text('\ufeffname, x\nc,3\na,1\n\nb,2\n', encoding='utf-8')
    runs = read_runs(tmp_path / 'r.csv', tmp_path / 'm.csv')
    assert (runs.runs, runs.skills, runs.metrics) == (('a', 'b', 'c'), ('web', 'code'), ('x',))
    assert runs.values[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert runs.proportions[0].tolist() == [0.25, 0.75]


def test_tables_quality_and_a_yaml_are_printed(files: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    assert main(['mix', 'fit', *files, '--law', 'data-mixing']) == 0
    printed = capsys.readouterr().out
    for part in (*SKILLS, 'natural', 'fitted', 'Spearman', 'predicted target', '(target)'):
        assert part in printed
    shown = OmegaConf.create(printed[printed.index('# Mixture by') :])
    assert shown.algorithms.data_mixing.policy == 'static'


def test_the_streams_folder_knows_the_sizes(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def split(tokens: int) -> SplitInfo:
        return SplitInfo(
            samples=1, tokens=tokens, target_tokens=tokens, bytes=1, documents=1, index_hash='sha256:0'
        )

    skills = {
        name: SkillInfo(splits={'train': split(size), 'eval': split(77)}) for name, size in SIZES.items()
    }
    only_eval = {'law': SkillInfo(splits={'eval': split(77)})}
    manifest = Manifest(
        tokenizer_name='t', tokenizer_hash='h', vocab_size=9, seq_len=4, dtype='uint16',
        columns={'tokens': 'ndarray:uint16:4'}, skills={**skills, **only_eval},
    )  # fmt: skip
    manifest.save(str(tmp_path))
    limits = ('--tokens', '2e4', '--max-passes', '3')
    by_streams = answer(capsys, *files, '--streams', str(tmp_path), *limits)
    by_file = answer(capsys, *files, '--natural', write_json(tmp_path / 'n.json', SIZES), *limits)
    assert by_streams == by_file
    assert by_streams['natural'] == {'web': 0.6, 'code': 0.1, 'books': 0.3}
    assert max(by_streams['passes'].values()) <= 3.0
    # 3 passes of 1,000 and 3,000 tokens out of 20,000
    assert by_streams['at_limit'] == ['code', 'books']
    assert by_streams['proportions'] == {'web': 0.4, 'code': 0.15, 'books': 0.45}

    # In two folders, each with some of the skills.
    for name, part in (('one', ('web', 'law')), ('two', ('code', 'books'))):
        (tmp_path / name / 'tokenizer').mkdir(parents=True)
        (tmp_path / name / 'tokenizer' / 'tokenizer_config.json').write_text('{"eos_token": "e"}')
        own = {skill: info for skill, info in manifest.skills.items() if skill in part}
        replace(manifest, skills=own).save(str(tmp_path / name))
    folders = ('--streams', str(tmp_path / 'one'), '--streams', str(tmp_path / 'two'))
    assert answer(capsys, *files, *folders, *limits) == by_file


def test_the_yaml_trains(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / 'mixture.yaml')
    found = answer(capsys, *files, '--law', 'data-mixing', '--out', out)
    needed = ('streams=s', 'max_duration=1ep', 'global_train_batch_size=2', 'train_loader.round_size=2')
    mixing = load_config(out, needed).algorithms['data_mixing']
    policy = build_policy(mixing.pop('policy'), skills=SKILLS, **mixing)
    assert dict(zip(SKILLS, policy.initial().tolist(), strict=True)) == pytest.approx(found['proportions'])


def test_a_base_yaml_keeps_everything_but_its_mixture(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    base, out = ROOT / 'yamls' / 'redpajama' / 'tiny_cpu.yaml', tmp_path / 'mixture.yaml'
    found = answer(capsys, *files, '--law', 'data-mixing', '--out', str(out), '--base', str(base))
    before, after = load_config(base), load_config(out)
    assert after.algorithms == {'data_mixing': {'policy': 'static', 'proportions': found['proportions']}}
    before.algorithms = after.algorithms = {}
    assert before == after
    assert '${seed}' in out.read_text()


def test_reuse_and_weights_come_from_files(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    keep = write_json(tmp_path / 'keep.json', {'web': 0.4, 'books': 0.1})
    target = write_json(tmp_path / 'target.json', {'eval0': 3, 'eval1': 1})
    found = answer(
        capsys, *files, '--law', 'data-mixing', '--keep', keep, '--changed', 'code', '--target', target
    )
    assert found['groups'] == ['code', '(kept)']
    assert found['target'] == {'eval0': 0.75, 'eval1': 0.25}
    assert found['proportions']['web'] == pytest.approx(4 * found['proportions']['books'], abs=5e-6)


def refused_tables(folder: Path, capsys: pytest.CaptureFixture[str], ratios: str, metrics: str) -> str:
    """What is said of two tables that no mixture can be fitted to."""
    (folder / 'r.csv').write_text(ratios)
    (folder / 'm.csv').write_text(metrics)
    return refusal(capsys, str(folder / 'r.csv'), str(folder / 'm.csv'), '--law', 'regmix')


@pytest.mark.parametrize(
    ('ratios', 'message'),
    [
        ('', 'must have a header'),
        ('run,web,web\na,1,0\n', "must be unique, but got: 'web' twice"),
        ('run,web,code\na,1\n', "run 'a' has 1 numbers, but there are 2 columns"),
        ('run,web,code\na,1,0\na,0,1\n', "run 'a' has two rows"),
        ('run,web,code\na,1,zero\n', "column 'code' must be a finite number"),
        ('run,web,code\na,1,0\nb,0.5,0.4\nc,0,1\n', "of run 'b' must sum to 1"),
        ('run,web,code\na,1,0\nb,1.5,-0.5\nc,0,1\n', "'code' must be a proportion"),
    ],
)
def test_bad_proportions_end_in_one_line(
    ratios: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert message in refused_tables(tmp_path, capsys, ratios, 'run,x\na,1\nb,2\nc,3\n')


@pytest.mark.parametrize(
    ('rows', 'metrics', 'message'),
    [
        ('a,1,0\nb,0,1\n', 'a,1\nb,2\n', 'at least 3 runs'),
        ('a,1,0\nb,0,1\n', 'a,1\n', "run 'b' of "),
        ('a,1,0\n', 'a,1\nb,1\nc,1\n', "run 'b' and 1 more of "),
        ('a,1,0\nb,1,0\nc,0,1\n', 'a,1\nb,nan\nc,3\n', "but got: 'nan'"),
        ('a,1,0\nb,1,0\nc,0,1\n', 'a,1\nb,\nc,3\n', "but got: ''"),
    ],
)
def test_bad_metrics_end_in_one_line(
    rows: str, metrics: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert message in refused_tables(tmp_path, capsys, f'run,web,code\n{rows}', f'run,x\n{metrics}')


def test_bad_files_and_options_end_in_one_line(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = str(tmp_path / 'out.yaml')
    a_list = write_json(tmp_path / 'list.json', [1])
    cases = {
        ('missing.csv', files[1]): 'no such file: missing.csv',
        (*files,): 'needs the natural mixture',
        (*files, '--natural', a_list): 'must hold a JSON object',
        (*files, '--law', 'regmix', '--base', out): 'add --out',
        (*files, '--law', 'regmix', '--out', out, '--base', a_list): 'must be a mapping of keys',
        (*files, '--law', 'regmix', '--out', f'{files[0]}/x.yaml'): '--out cannot be written',
        (*files, '--law', 'regmix', '--streams', str(tmp_path)): 'skills.json',
    }
    for arguments, message in cases.items():
        assert message in refusal(capsys, *arguments)


def test_tokens_must_be_a_number(files: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_info:
        main(['mix', 'fit', *files, '--tokens', 'many'])
    assert exit_info.value.code == 2
    assert "must be a number of tokens, but got: 'many'" in capsys.readouterr().err
