"""`streams: [a, b]`: the run on several folders is the run on one that has all of their skills."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml as pyyaml
from transformers import AutoModelForCausalLM

from skillit_stream.audit.replay import Replay
from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.formats.sample_losses import RankedLosses, losses_folder
from skillit_stream.training.config import dump_config, load_config
from skillit_stream.training.foundry import build_skill_streams
from tests.support import commands
from tests.support.divided_streams import change_manifest, divided
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, without_clocks
from tests.support.training_runs import SKILLS, settings, write_yaml

Refused = Callable[..., str]


@pytest.fixture
def parts(streams: Path, tmp_path: Path) -> list[Path]:
    """The addition corpus in two folders, of two skills and of one."""
    return divided(streams, tmp_path, ('digit_0', 'digit_2'), ('digit_1',))


@pytest.fixture
def train(tmp_path: Path, streams: Path) -> Callable[..., Path]:
    """Train with overrides, in a run folder of the given name, which is returned."""

    def run(name: str, *overrides: str, **keys: Any) -> Path:
        yaml = write_yaml(tmp_path / f'{name}.yaml', {**settings(streams, tmp_path / name), **keys})
        assert main(['train', str(yaml), *overrides]) == 0
        return tmp_path / name

    return run


def listed(folders: list[Path]) -> str:
    return f'streams=[{",".join(map(str, folders))}]'


def outcome(run: Path) -> dict[str, Any]:
    return {'samples': drawn_samples(run), 'lines': without_clocks(mixture_lines(run))}


def test_the_run_is_that_on_one_folder_in_whatever_order_they_are_named(
    train: Callable[..., Path], parts: list[Path]
):
    whole = outcome(train('whole'))
    assert len(whole['samples']) == 12
    assert outcome(train('named', streams=[str(part) for part in parts])) == whole
    assert outcome(train('overridden', listed(parts[::-1]))) == whole


def test_a_run_goes_on_with_the_folders_named_in_another_order(
    train: Callable[..., Path], parts: list[Path], tmp_path: Path
):
    train('run', listed(parts), 'max_duration=9ba', 'save_interval=9ba')
    resumed = train('run', listed(parts[::-1]), 'autoresume=true')
    whole = train('whole')
    assert drawn_samples(resumed) == drawn_samples(whole)
    assert rounds_of(resumed)[-1]['losses'] == rounds_of(whole)[-1]['losses']


def test_one_folder_in_a_list_is_that_folder(tiny_yaml: Path, streams: Path):
    config = load_config(tiny_yaml, [f'streams=[{streams}]'])
    assert dump_config(config) == dump_config(load_config(tiny_yaml))


def test_a_folder_takes_the_place_of_a_list(tiny_yaml: Path, tmp_path: Path):
    keys = {**pyyaml.safe_load(tiny_yaml.read_text()), 'streams': ['a', 'b']}
    several = write_yaml(tmp_path / 'several.yaml', keys)
    assert load_config(several).streams == ['a', 'b']
    assert load_config(several, ['streams=1e3']).streams == '1e3'
    assert load_config(several, ['streams=[c, d, e]']).streams == ['c', 'd', 'e']


def test_audits_find_every_shard(
    train: Callable[..., Path], parts: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    run, whole = train('run', listed(parts)), train('whole')
    replay = Replay(run)
    for number in range(2):
        assert (replay.sample_ids(number) == Replay(whole).sample_ids(number)).all()
    answer = json.loads(commands.done(capsys, 'audit', run, '--step', 0, '--json')[0])
    for sample in answer['samples']:
        home = parts[sample['skill'] == 'digit_1']
        assert Path(sample['shard']).parent == home / sample['skill'] / 'train'
        assert Path(sample['shard']).is_file()
    moved = [part.rename(tmp_path / f'moved-{number}') for number, part in enumerate(parts)]
    assert 'has no index at' in commands.refusal(capsys, 'audit', run, '--round', 0)
    given = [argument for folder in moved for argument in ('--streams', folder)]
    assert commands.done(capsys, 'audit', *given, run, '--round', 0)[0].count('digit_') == 3


def test_report_and_export_of_such_a_run(train: Callable[..., Path], parts: list[Path], tmp_path: Path):
    run = train('run', listed(parts))
    assert main(['report', str(run), '--out', str(tmp_path / 'report')]) == 0
    page = (tmp_path / 'report' / 'report.html').read_text()
    assert all(skill in page for skill in SKILLS)
    assert main(['export', str(run), '--out', str(tmp_path / 'exported')]) == 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / 'exported').config.model_type == 'llama'


def test_losses_of_samples_lie_beside_each_stream_and_are_found(
    train: Callable[..., Path], parts: list[Path], tmp_path: Path, streams: Path
):
    yaml = write_yaml(tmp_path / 'score.yaml', settings(streams, tmp_path / 'score'))
    whole = Path(shutil.copytree(streams, tmp_path / 'all', ignore=shutil.ignore_patterns('losses')))
    assert main(['score', str(yaml), listed(parts)]) == 0
    assert main(['score', str(yaml), f'streams={whole}']) == 0
    for skill in SKILLS:
        homes = (parts[skill == 'digit_1'], whole)
        found, expected = (
            RankedLosses.load(losses_folder(home / skill / 'train', 'initial'), skill) for home in homes
        )
        assert np.array_equal(found.losses, expected.losses)
    curriculum = {'data_mixing': {'policy': 'sample_curriculum', 'start': 0.1, 'full_at': 0.7}}
    divided_run = train('divided', listed(parts), algorithms=curriculum)
    assert drawn_samples(divided_run) == drawn_samples(
        train('whole', f'streams={whole}', algorithms=curriculum)
    )


@pytest.mark.slow
def test_graphs_are_learned_on_several_folders(
    parts: list[Path], streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    keys = settings(streams, tmp_path / 'run')
    del keys['callbacks']
    yaml = write_yaml(tmp_path / 'graph.yaml', keys)
    learned = {}
    for name, folders in (('divided', parts), ('whole', [streams])):
        out = tmp_path / f'{name}.json'
        arguments = ['graph', 'learn', yaml, listed(folders), '--method', 'approximate', '--steps', '2']
        commands.done(capsys, *arguments, '--out', out)
        learned[name] = json.loads(out.read_text())
    assert learned['divided']['weights'] == learned['whole']['weights']
    # Named the other way round, the runs that are done are found again.
    arguments = ['graph', 'learn', yaml, listed(parts[::-1]), '--method', 'approximate', '--steps', '2']
    assert (
        '3 runs of 2 steps, 3 done before'
        in commands.done(capsys, *arguments, '--out', tmp_path / 'divided.json')[1]
    )


def test_verify_reads_each_and_says_whether_they_go_together(
    parts: list[Path], streams: Path, capsys: pytest.CaptureFixture[str]
):
    output = commands.done(capsys, 'verify', *parts)[0]
    assert [f'Verified: {part}' in output for part in parts] == [True, True]
    assert f"skillit train YOUR.yaml streams='[{parts[0]},{parts[1]}]'" in output
    assert main(['verify', str(parts[0]), str(streams)]) == 2
    assert f"skill 'digit_0' is in {parts[0]} and in {streams}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('keys', 'said'),
    [
        ({'seq_len': 9}, 'has samples of 9 tokens, {0} of 17: convert one of them again with the --seq-len'),
        (
            {'tokenizer': {'name': 'gpt2', 'hash': 'sha256:00'}},
            'is of another tokenizer (gpt2) than {0} (addition words): convert one of them again with --tok',
        ),
        ({'vocab_size': 21}, 'is of another tokenizer'),
        ({'dtype': 'uint32'}, 'has tokens as uint32, {0} as uint16: convert one of them again'),
        (
            {'columns': {'tokens': 'ndarray:uint16:17', 'loss_mask': 'ndarray:uint8:17'}},
            'has the columns loss_mask, tokens, {0} has tokens: convert one of them again with the --loss',
        ),
    ],
)
def test_folders_that_differ_in_what_a_sample_is(
    refused: Refused, parts: list[Path], keys: dict[str, Any], said: str
):
    manifest = json.loads((parts[0] / 'skills.json').read_text())
    one = {'tokens': manifest['columns']['tokens']}
    change_manifest(parts[0], {**manifest, 'columns': one})
    own = json.loads((parts[1] / 'skills.json').read_text())
    change_manifest(parts[1], {**own, 'columns': one, **keys})
    message = refused(listed(parts))
    assert message.startswith(f'skillit: `streams`: {parts[1]} {said.format(parts[0])}')


def test_folders_whose_documents_end_otherwise(refused: Refused, parts: list[Path]):
    path = parts[1] / 'tokenizer' / 'tokenizer_config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'eos_token': {'content': '<pad>'}}))
    assert f"documents end with '<pad>' in {parts[1]}, with '<eos>' in {parts[0]}" in refused(listed(parts))
    path.unlink()
    assert f'{path} cannot be read' in refused(listed(parts))


def test_a_skill_in_two_folders(refused: Refused, parts: list[Path], streams: Path):
    assert refused(listed([streams, parts[1]])) == (
        f"skillit: `streams`: skill 'digit_1' is in {streams} and in {parts[1]}: convert it under another name in one "
        f'of them (--skill), or leave one of them out.\n'
    )


@pytest.mark.parametrize(
    ('value', 'said'),
    [
        ('streams=[]', '`streams` must be a streams folder, or a list of them, but got: [].'),
        ('streams=[a,1]', "but got: ['a', 1]."),
        ('streams.0=x', "but got: {'0': 'x'}."),
        ('streams=[a,b,./a]', '`streams` names ./a twice: leave it out once.'),
        ('streams=[a,s3://b/c]', '`streams_local` must be given, the folder that shards are fetched to'),
        ('streams=[no-such,neither]', 'no-such/skills.json: cannot be read'),
    ],
)
def test_what_is_no_list_of_folders(refused: Refused, value: str, said: str):
    assert said in refused(value)


def test_the_graph_of_the_streams_is_in_one_of_the_folders(refused: Refused, parts: list[Path]):
    shutil.copy(parts[0] / 'graph.json', parts[1])
    message = refused(listed(parts))
    assert '`graph=streams` must find one graph.json in `streams`, but ' in message
    assert 'part-0/graph.json and ' in message
    for part in parts:
        (part / 'graph.json').unlink()
    assert 'but none of the folders has it: name a file, graph=PATH.' in refused(listed(parts))


def test_folders_on_a_slow_disk_have_a_cache_each(
    train: Callable[..., Path], parts: list[Path], tmp_path: Path, release_datasets: Callable[[], None]
):
    cache = tmp_path / 'cache'
    run = train('cached', listed(parts), f'streams_local={cache}')
    assert outcome(run) == outcome(train('local', listed(parts)))
    homes = [cache / str(part).strip('/') for part in parts]
    assert list((homes[0] / 'digit_0').rglob('shard.*'))
    assert list((homes[1] / 'digit_1').rglob('shard.*'))
    # The caches have the indexes that an audit reads.
    for part in parts:
        part.rename(part.with_name(f'{part.name}-gone'))
    assert len(Replay(run).sample_ids(1)) == 24


def test_the_loader_of_llm_foundry_takes_several(parts: list[Path]):
    options: dict[str, Any] = {'tokenizer': None, 'device_batch_size': 4}
    named = [str(part) for part in parts]
    loader = build_skill_streams(streams=named, round_size=24, **options)
    assert loader.dataloader.dataset.skills == SKILLS  # pyright: ignore
    for skill in SKILLS:
        assert len(build_skill_streams(streams=named, skill=skill, **options).dataloader.dataset)  # pyright: ignore
    with pytest.raises(InputError, match=r'part-0 and .*part-1 has no eval split of'):
        build_skill_streams(streams=named, skill='digit_9', **options)
