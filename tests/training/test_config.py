"""The training YAML: strict about keys and types, resolved, and written down so that it loads again."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import MISSING, OmegaConf

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest
from skillit_stream.mixture.registry import options_of
from skillit_stream.training.config import TrainConfig, dump_config, load_config
from skillit_stream.training.parts import ALGORITHMS, CALLBACKS, LOGGERS, OPTIMIZERS, SCHEDULERS
from tests.support.paths import ROOT
from tests.support.training_runs import write_yaml

REFERENCE = ROOT / 'yamls' / 'reference.yaml'
# Those of experiments have a schema of their own.
YAMLS = [path for path in sorted((ROOT / 'yamls').glob('*/*.yaml')) if path.parent.name != 'experiments']
# Of those that leave it to the user.
GRAPH = 'algorithms.data_mixing.graph=graph.json'
LEAST = {
    'streams': 'S',
    'max_duration': '1ep',
    'global_train_batch_size': 4,
    'train_loader': {'round_size': 40},
}


def refusal(path: Path, *overrides: str) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert '\n' not in message
    return message


def brought(path: Path) -> list[str]:
    """What must be given beside a YAML of the repository."""
    return [GRAPH] if '???' in path.read_text() else []


@pytest.fixture
def least(tmp_path: Path) -> Path:
    """A YAML of the mandatory keys alone."""
    return write_yaml(tmp_path / 'least.yaml', LEAST)


@pytest.mark.parametrize('path', YAMLS, ids=lambda path: path.stem)
def test_every_yaml_of_the_repository_loads(path: Path):
    config = load_config(path, ['seed=5', *brought(path)])
    assert config.seed == 5
    assert config.run_name.endswith('-s5')
    assert config.save_folder == f'runs/{config.run_name}'


def test_there_are_yamls():
    assert {path.parent.name for path in YAMLS} == {
        'addition',
        'lego',
        'natural_instructions',
        'package_text',
        'redpajama',
    }


def test_a_graph_that_must_be_brought_is_asked_for():
    path = ROOT / 'yamls' / 'natural_instructions' / 'fine_tuning_stance.yaml'
    assert refusal(path) == (
        f'{path}: `algorithms.data_mixing.graph` must be given: add it, or pass algorithms.data_mixing.graph=...'
    )


def test_the_reference_has_every_key_with_its_default():
    loaded = OmegaConf.to_container(OmegaConf.load(REFERENCE))
    assert isinstance(loaded, dict)
    required = {'streams', 'max_duration', 'global_train_batch_size', 'train_loader.round_size'}
    # An example stands there: without one a run would have no model.
    required.add('model.config')
    for key, default in defaults(TrainConfig):
        value: Any = loaded
        for name in key.split('.'):
            assert name in value, f'yamls/reference.yaml lacks {key}'
            value = value[name]
        assert default is MISSING or key in required or value == default, key
    assert load_config(REFERENCE).train_loader.round_size == loaded['train_loader']['round_size']


def test_the_reference_explains_every_key():
    for line in REFERENCE.read_text().splitlines():
        if ':' in line and not line.lstrip().startswith('#'):
            name = line.split(':')[0].strip()
            explained = '#' in line or name in SPEAKS_FOR_ITSELF
            assert explained, line


def test_the_words_of_the_reference_are_those_of_the_parts():
    text = REFERENCE.read_text()
    for known in (OPTIMIZERS, SCHEDULERS, CALLBACKS, LOGGERS, ALGORITHMS):
        assert [name for name in known if name not in text] == []


SPEAKS_FOR_ITSELF = {
    *('lr', 'model', 'train_loader', 'eval_loader', 'optimizer', 'scheduler', 'run_name', 'save_interval'),
    *(
        'progress_bar',
        'log_to_console',
        'model_type',
        'hidden_size',
        'intermediate_size',
        'num_hidden_layers',
    ),
    'num_attention_heads',
}


def defaults(schema: type, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Every key of a schema, with dots, and its default."""
    for item in fields(schema):
        made = item.default_factory() if callable(item.default_factory) else item.default
        if isinstance(item.type, type) and is_dataclass(item.type):
            yield from defaults(item.type, f'{prefix}{item.name}.')
        else:
            yield f'{prefix}{item.name}', made


def test_mandatory_keys_are_enough(least: Path):
    config = load_config(least)
    assert config.train_loader.round_size == 40
    assert config.eval_interval == '1ep'
    assert config.optimizer['name'] == 'decoupled_adamw'
    assert config.save_folder == f'runs/{config.run_name}'


@pytest.mark.parametrize(
    ('overrides', 'samples'),
    [
        ([], 256),
        (['samples_per_skill=null'], None),
        (['samples_per_skill=7'], 7),
        # What run folders of before hold.
        (['subset_num_batches=-1'], None),
        (['subset_num_batches=3'], 12),
        (['subset_num_batches=3', 'batch_size=5'], 15),
    ],
)
def test_evaluation_is_of_a_stated_number_of_samples(
    least: Path, tmp_path: Path, overrides: list[str], samples: int | None
):
    config = load_config(least, [f'eval_loader.{one}' for one in overrides])
    assert config.eval_loader.samples_per_skill == samples
    again = tmp_path / 'config.yaml'
    again.write_text(dump_config(config))
    assert load_config(again) == config


def test_two_numbers_of_samples_to_evaluate_are_refused(least: Path):
    message = refusal(least, 'eval_loader.samples_per_skill=7', 'eval_loader.subset_num_batches=-1')
    assert '`eval_loader.subset_num_batches`=-1 and `eval_loader.samples_per_skill`=7' in message


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('optimiser.lr=1', "unknown key `optimiser`: did you mean 'optimizer'?"),
        ('train_loader.roundsize=4', "unknown key `train_loader.roundsize`: did you mean 'round_size'?"),
        ('eval_loader.skill=[a]', "unknown key `eval_loader.skill`: did you mean 'skills'?"),
        ('model.pretrain=true', "unknown key `model.pretrain`: did you mean 'pretrained'?"),
        ('sede=3', "unknown key `sede`: did you mean 'seed'?"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(least: Path, override: str, message: str):
    assert f'{least}: {message}' in refusal(least, override)


def test_an_unknown_key_near_nothing_gets_the_known_ones(least: Path):
    message = refusal(least, 'train_loader.xyzzy=1')
    assert 'unknown key `train_loader.xyzzy`: known: batching, dataset, match_passes, num_workers,' in message


def test_unknown_keys_of_the_file_are_refused_too(tmp_path: Path):
    path = write_yaml(tmp_path / 'a.yaml', {**LEAST, 'train_loader': {'round_size': 40, 'batch': 'random'}})
    assert "unknown key `train_loader.batch`: did you mean 'batching'?" in refusal(path)


@pytest.mark.parametrize('key', ['streams', 'max_duration', 'global_train_batch_size'])
def test_a_missing_mandatory_key_is_named(tmp_path: Path, key: str):
    path = write_yaml(tmp_path / 'a.yaml', {name: value for name, value in LEAST.items() if name != key})
    assert refusal(path) == f'{path}: `{key}` must be given: add it, or pass {key}=...'


def test_a_missing_nested_mandatory_key_is_named_with_its_section(tmp_path: Path):
    path = write_yaml(tmp_path / 'a.yaml', {**LEAST, 'train_loader': {}})
    assert '`train_loader.round_size` must be given' in refusal(path)


@pytest.mark.parametrize(
    'override',
    ['seed=many', 'global_train_batch_size=4.5', 'train_loader.num_workers=some', 'autoresume=perhaps'],
)
def test_a_value_of_the_wrong_type_is_named_with_its_key(least: Path, override: str):
    message, (key, value) = refusal(least, override), override.split('=')
    assert f'`{key}`' in message
    assert value in message
    assert message.startswith(str(least))


def test_a_section_that_is_a_plain_value_is_refused(least: Path):
    assert '`train_loader` must be a mapping of keys, but got: 3' in refusal(least, 'train_loader=3')
    assert '`optimizer`' in refusal(least, 'optimizer=adamw')


def test_an_override_without_a_value_is_refused(least: Path):
    assert refusal(least, 'seed') == "An override must look like key=value, but got: 'seed'."


def test_overrides_win_and_are_typed(least: Path):
    config = load_config(least, ['optimizer.lr=3e-4', 'train_loader.skills=[a,b]', 'load_path=null'])
    assert config.optimizer == {'name': 'decoupled_adamw', 'lr': 3e-4}
    assert config.train_loader.skills == ['a', 'b']
    assert config.load_path is None


def test_a_missing_file_is_named(tmp_path: Path):
    path = tmp_path / 'none.yaml'
    assert refusal(path) == f'There is no YAML at {path}: see the ones under yamls/.'
    assert f'There is no YAML at {tmp_path}' in refusal(tmp_path)


@pytest.mark.parametrize('text', ['a: [1, 2\nb: 3\n', 'a: b: c\n', '\tseed: 1\n'])
def test_broken_yaml_is_refused_with_the_place(tmp_path: Path, text: str):
    path = tmp_path / 'broken.yaml'
    path.write_text(text)
    message = refusal(path)
    assert message.startswith(f'{path} cannot be read as YAML: ')
    assert 'line ' in message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    path = tmp_path / 'weights.yaml'
    path.write_bytes(bytes(range(128, 256)))
    assert refusal(path).startswith(f'{path} cannot be read as YAML: ')


def test_a_tilde_is_the_home_folder_in_every_place(least: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('HOME', '/home/me')
    places = ('streams', 'streams_local', 'save_folder', 'checkpoint_folder', 'load_path')
    config = load_config(
        least, [f'{name}=~/{name}/{{run_name}}' for name in places[1:]] + ['streams=[~/a,s3://~/b]']
    )
    assert config.streams == ['/home/me/a', 's3://~/b']
    for name in places[1:]:
        assert getattr(config, name) == f'/home/me/{name}/{config.run_name}'


def test_values_refer_to_other_keys(tmp_path: Path):
    keys = {
        **LEAST,
        'variables': {'width': 32},
        'run_name': 'r-${seed}-${variables.width}',
        'model': {'config': {'model_type': 'llama', 'hidden_size': '${variables.width}'}},
    }
    config = load_config(write_yaml(tmp_path / 'a.yaml', keys), ['seed=9'])
    assert config.run_name == 'r-9-32'
    assert config.save_folder == 'runs/r-9-32'
    assert config.model.config == {'model_type': 'llama', 'hidden_size': 32}


def test_a_reference_to_nothing_is_refused(least: Path):
    assert 'nowhere' in refusal(least, 'run_name=${nowhere}')


def test_the_run_name_may_come_from_the_environment(least: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('SKILLIT_RUN_NAME', 'from-outside')
    assert load_config(least).save_folder == 'runs/from-outside'


@pytest.mark.parametrize('path', YAMLS, ids=lambda path: path.stem)
def test_a_dumped_configuration_loads_as_the_same(path: Path, tmp_path: Path):
    config = load_config(path, ['seed=8', 'callbacks.speed_monitor={}', *brought(path)])
    dumped = tmp_path / 'config.yaml'
    dumped.write_text(dump_config(config))
    assert '${' not in dumped.read_text()
    assert load_config(dumped) == config


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rate=st.floats(1e-9, 1.0),
    names=st.none() | st.lists(st.text('abcdefgh_', min_size=1), min_size=1),
    option=st.none() | st.booleans() | st.text('xyz-. ', max_size=5) | st.integers(-5, 5),
)
def test_any_values_survive_a_dump(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rate: float, names: Any, option: Any
):
    folder = tmp_path_factory.mktemp('dump')
    keys = {**LEAST, 'seed': seed, 'optimizer': {'name': 'adamw', 'lr': rate, 'other': option}}
    keys['eval_loader'] = {'skills': names}
    config = load_config(write_yaml(folder / 'a.yaml', keys))
    dumped = folder / 'config.yaml'
    dumped.write_text(dump_config(config))
    assert load_config(dumped) == config
    assert config.optimizer['other'] == option
    assert config.eval_loader.skills == names


def test_nearest_names_one_or_all():
    assert nearest('sed', ['seed', 'streams']) == "did you mean 'seed'?"
    assert nearest('zzz', ['seed', 'streams']) == 'known: seed, streams'


SKILL_IT = ROOT / 'yamls' / 'addition' / 'skill_it.yaml'


@pytest.mark.parametrize('also', [[], ['algorithms.data_mixing.eta=null']])
def test_one_override_switches_the_policy(also: list[str]):
    config = load_config(SKILL_IT, ['algorithms.data_mixing.policy=stratified', *also])
    assert set(config.algorithms['data_mixing']) <= {'policy', 'graph', 'targets'}
    assert config.algorithms['data_mixing']['policy'] == 'stratified'


def test_what_is_said_of_new_skills_goes_with_the_graph():
    assert {'graph', 'new_skills'} <= (options_of('stratified') or set())
    assert not {'graph', 'new_skills'} & (options_of('proportional') or set())


def test_an_option_that_means_something_else_of_the_other_policy_is_dropped():
    curriculum = ROOT / 'yamls' / 'addition' / 'sample_curriculum.yaml'
    assert 'start' in load_config(curriculum).algorithms['data_mixing']
    switched = load_config(curriculum, ['algorithms.data_mixing.policy=stratified'])
    assert switched.algorithms['data_mixing'] == {'policy': 'stratified'}


def test_an_option_typed_beside_another_policy_is_not_dropped():
    config = load_config(
        SKILL_IT, ['algorithms.data_mixing.policy=stratified', 'algorithms.data_mixing.eta=1']
    )
    assert config.algorithms['data_mixing']['eta'] == 1


def test_the_run_name_in_braces_is_filled_in_everywhere(least: Path):
    config = load_config(
        least,
        [
            'run_name=q',
            'save_folder=rc/{run_name}',
            'checkpoint_folder=s3://b/{run_name}',
            'load_path=w/{run_name}.pt',
        ],
    )
    assert (config.save_folder, config.checkpoint_folder, config.load_path) == ('rc/q', 's3://b/q', 'w/q.pt')
    assert '`save_folder` must be without braces' in refusal(least, 'save_folder=rc/{rank}')


def test_text_stays_as_it_was_typed(least: Path):
    for text in ('no', '1e3', '007', '1_000', 'a: b'):
        assert load_config(least, [f'run_name={text}']).run_name == text
    assert load_config(least, ['method=null']).method is None
    assert load_config(least, ["run_name='quoted'"]).run_name == 'quoted'
    least.write_text(least.read_text() + '\nrun_name: no\n')
    assert '`run_name` must be text, but YAML reads it as False: put it in quotes' in refusal(least)


@pytest.mark.parametrize('override', ['train_loader.skills.0=x', 'train_loader.skills.a=x'])
def test_an_override_into_a_list_is_one_line(least: Path, override: str):
    least.write_text(least.read_text().replace('round_size: 40', 'round_size: 40\n  skills: [a, b]'))
    assert override in refusal(least, override)
