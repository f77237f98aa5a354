"""Overrides of any key of a training YAML, drawn from its schema and from the signatures of what it names."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from composer.utils import FSDPConfig
from hypothesis import strategies as st
from streaming import StreamingDataset
from transformers import LlamaConfig

from skillit_stream.mixture.context import CONTEXT
from skillit_stream.mixture.registry import COMMON, _find, policy_names
from skillit_stream.training import parts
from skillit_stream.training.config import TrainConfig
from tests.support.training_runs import SKILLS

# Numbers of moderate size: those that a machine could not serve are not what is tried here.
WHOLE = st.sampled_from([-2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 24, 48, 100])
REAL = st.sampled_from([0.0, 1e-8, 0.1, 0.3, 0.5, 0.9, 0.95, 1.0, 2.0, -1.0, 1e9, math.inf, math.nan])
TIMES = [
    '1ba',
    '2ba',
    '6ba',
    '1ep',
    '2ep',
    '100tok',
    '96sp',
    '0.5dur',
    '1dur',
    '0ba',
    '-1ba',
    '2iter',
    '3sec',
]
WORDS = [
    '',
    'x',
    'no',
    '1e3',
    'tiny.yaml',
    'new/place',
    'default',
    'identity',
    'streams',
    *SKILLS,
    'all',
    'LanguageCrossEntropy',
]
TEXT = st.sampled_from([*WORDS, *TIMES[:4]])
FLAG = st.booleans()
WEIGHTS = st.one_of(
    st.fixed_dictionaries({skill: st.one_of(REAL, WHOLE) for skill in SKILLS}),
    st.dictionaries(st.sampled_from([*SKILLS, 'x']), REAL, max_size=3),
)
# A word of an annotation -> values that it stands for.
KINDS: dict[str, st.SearchStrategy[Any]] = {
    'int': WHOLE,
    'float': REAL,
    'bool': FLAG,
    'str': TEXT,
    'Time': st.sampled_from(TIMES),
    'None': st.none(),
    'Optional': st.none(),
    'tuple': st.lists(REAL, min_size=2, max_size=2),
    'list': st.lists(st.one_of(TEXT, WHOLE), max_size=3),
    'Sequence': st.lists(st.one_of(TEXT, WEIGHTS), max_size=3),
    'dict': st.dictionaries(TEXT.filter(bool), st.one_of(TEXT, WHOLE), max_size=2),
    'Mapping': WEIGHTS,
}
ANYTHING = st.one_of(list(KINDS.values()))
# Keys whose values the kind alone does not say, or that cost more than a try may: threads, processes, compilation.
OWN: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(['max_duration', 'eval_interval', 'save_interval'], KINDS['Time']),
    'device': st.sampled_from(['cpu', 'gpu', 'tpu', None]),
    'precision': st.sampled_from(['fp32', 'amp_bf16', 'amp_fp16', 'amp_fp8', 'x']),
    'kernels': st.sampled_from(['auto', 'fused', 'eager', 'x']),
    'model.init': st.sampled_from(['default', 'fan_in', 'x']),
    'train_loader.num_workers': st.sampled_from([None, 0, 1]),
    'train_loader.batching': st.sampled_from(['random', 'stratified', 'x']),
    'train_loader.on_exhausted': st.sampled_from(['repeat', 'error', 'x']),
    'train_loader.on_changed': st.sampled_from(['error', 'allow', 'x']),
    'compile_config': st.sampled_from(
        [None, {'backend': 'eager'}, {'backend': 'x'}, {'x': 1}, {'mode': 'x'}]
    ),
}


def overrides() -> st.SearchStrategy[list[str]]:
    """One or two overrides, as they are typed."""
    one = st.one_of(_of_schema(), _of_schema(), _of_parts())
    return st.one_of(*[st.lists(one, min_size=1, max_size=1)] * 3, st.lists(one, min_size=2, max_size=2))


def _typed(key: str, value: Any) -> str:
    """``key=value`` as a user types it."""
    if isinstance(value, str):
        return f'{key}={value}'
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix('...\n').strip()
    return f'{key}={text}'


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    """Mostly values of the kinds that an annotation names."""
    text = annotation if isinstance(annotation, str) else str(annotation)
    found = [values for word, values in KINDS.items() if word in text] or [ANYTHING]
    return st.one_of(*found * 20, ANYTHING)


def _keys(schema: Any, prefix: str = '') -> dict[str, Any]:
    """Every key of the schema with dots, those that hold others too, and its annotation."""
    found = {}
    for item in fields(schema):
        found[prefix + item.name] = item.type
        if isinstance(item.type, type) and is_dataclass(item.type):
            found |= _keys(item.type, f'{prefix}{item.name}.')
    return found


@st.composite
def _of_schema(draw: st.DrawFn) -> str:
    keys = _keys(TrainConfig)
    key = draw(st.sampled_from(sorted(keys)))
    return _typed(key, draw(OWN[key] if key in OWN else _values(keys[key])))


def _options(build: Callable[..., Any], without: Sequence[str] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Those that a signature has no default for, and up to two others."""
    parameters = {
        name: one
        for name, one in inspect.signature(build).parameters.items()
        if one.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and name not in ('self', 'params', *without)
    }
    needed = [name for name, one in parameters.items() if one.default is inspect.Parameter.empty]

    @st.composite
    def options(draw: st.DrawFn) -> dict[str, Any]:
        others = draw(st.lists(st.sampled_from(sorted(parameters) or ['x']), max_size=2, unique=True))
        return {
            name: draw(_values(parameters[name].annotation if name in parameters else Any))
            for name in dict.fromkeys([*needed, *others])
        }

    return options()


def _named_part(where: str, known: Mapping[str, Callable[..., Any]]) -> st.SearchStrategy[str]:
    """``optimizer={name: ..., ...}``."""

    @st.composite
    def part(draw: st.DrawFn) -> str:
        name = draw(st.sampled_from(sorted(known)))
        return _typed(where, {'name': name, **draw(_options(known[name]))})

    return part()


def _listed_part(where: str, known: Mapping[str, Callable[..., Any]]) -> st.SearchStrategy[str]:
    """``callbacks.NAME={...}``."""

    @st.composite
    def part(draw: st.DrawFn) -> str:
        name = draw(st.sampled_from(sorted(known)))
        return _typed(f'{where}.{name}', draw(st.one_of(_options(known[name]), st.none())))

    return part()


@st.composite
def _mixing(draw: st.DrawFn) -> str:
    from skillit_stream.mixture.skill_it import SkillIt

    name = draw(st.sampled_from(policy_names()))
    build = SkillIt if name == 'skill_it' else _find(name)
    options = draw(_options(build, without=CONTEXT))
    if draw(FLAG):
        options[draw(st.sampled_from([*COMMON, 'new_skills', 'targets']))] = draw(
            st.one_of(REAL, st.sampled_from(['error', 'keep', 'last', 'mean', 'identity']), WEIGHTS)
        )
    if name in ('skill_it', 'stratified'):
        options['graph'] = draw(
            st.one_of(st.sampled_from(['identity', 'streams', 'tiny.yaml', None]), WEIGHTS)
        )
    if draw(FLAG) and options:
        key = draw(st.sampled_from(sorted(options)))
        return _typed(f'algorithms.data_mixing.{key}', options[key])
    return _typed('algorithms.data_mixing', {'policy': name, **options})


def _inside(where: str, known: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """``train_loader.dataset.shuffle_seed=...``: one option, its kind that of an annotation or a default."""

    @st.composite
    def option(draw: st.DrawFn) -> str:
        name = draw(st.sampled_from(sorted(known)))
        return _typed(f'{where}.{name}', draw(_values(known[name])))

    return option()


def _annotations(build: Callable[..., Any]) -> dict[str, Any]:
    return {
        name: one.annotation
        for name, one in inspect.signature(build).parameters.items()
        if name not in ('self', 'streams')
    }


def _of_parts() -> st.SearchStrategy[str]:
    # Loggers that call a service or need a package of their own are left out.
    llama = {name: type(value).__name__ for name, value in LlamaConfig().to_dict().items()}
    sharding = {item.name: item.type for item in fields(FSDPConfig)}
    return st.one_of(
        _named_part('optimizer', parts.OPTIMIZERS),
        _named_part('scheduler', parts.SCHEDULERS),
        _listed_part('callbacks', parts.CALLBACKS),
        _listed_part('loggers', {'file': parts.LOGGERS['file']}),
        _listed_part('algorithms', parts.ALGORITHMS),
        _mixing(),
        _inside('optimizer', _annotations(parts.OPTIMIZERS['adamw'])),
        _inside('train_loader.dataset', _annotations(StreamingDataset.__init__)),
        _inside('model.config', llama),
        _inside('model.config_overrides', llama),
        _inside('fsdp_config', sharding),
    )
