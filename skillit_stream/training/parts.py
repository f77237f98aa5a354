"""Composer parts that a YAML names: optimizers, schedulers, algorithms, callbacks, loggers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from composer.algorithms import SWA, GradientClipping, LowPrecisionLayerNorm
from composer.callbacks import (
    ActivationMonitor,
    EarlyStopper,
    FreeOutputs,
    Generate,
    LRMonitor,
    MemoryMonitor,
    MemorySnapshot,
    NaNMonitor,
    OOMObserver,
    OptimizerMonitor,
    RuntimeEstimator,
    SpeedMonitor,
    SystemMetricsMonitor,
    ThresholdStopper,
)
from composer.core import Algorithm, Callback
from composer.loggers import FileLogger, LoggerDestination, MLFlowLogger, TensorboardLogger, WandBLogger
from composer.optim import (
    ConstantScheduler,
    ConstantWithWarmupScheduler,
    CosineAnnealingWithWarmupScheduler,
    DecoupledAdamW,
    LinearWithWarmupScheduler,
    MultiStepWithWarmupScheduler,
    PolynomialWithWarmupScheduler,
)
from composer.utils import dist

from skillit_stream.base.errors import InputError, as_input_error, first_line
from skillit_stream.base.names import nearest
from skillit_stream.base.signatures import check_options
from skillit_stream.training.averaging import EMA
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.kernels import on_gpu
from skillit_stream.training.parts_not_offered import NOT_OFFERED
from skillit_stream.training.sample_log import SampleLog

CLIPPING_TYPES = ('norm', 'value', 'adaptive')
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    'adamw': torch.optim.AdamW,
    'decoupled_adamw': DecoupledAdamW,
}
SCHEDULERS: dict[str, Callable[..., Any]] = {
    'constant': ConstantScheduler,
    'constant_with_warmup': ConstantWithWarmupScheduler,
    'cosine_with_warmup': CosineAnnealingWithWarmupScheduler,
    'linear_decay_with_warmup': LinearWithWarmupScheduler,
    'multistep_with_warmup': MultiStepWithWarmupScheduler,
    'polynomial_with_warmup': PolynomialWithWarmupScheduler,
}
DATA_MIXING = 'data_mixing'
NOT_SHARDED = ('ema', 'swa')
# Beside `data_mixing`, which is built with its policy.
ALGORITHMS: dict[str, Callable[..., Any]] = {
    'ema': EMA,
    'gradient_clipping': GradientClipping,
    'low_precision_layernorm': LowPrecisionLayerNorm,
    'swa': SWA,
}
CALLBACKS: dict[str, Callable[..., Any]] = {
    'activation_monitor': ActivationMonitor,
    'early_stopper': EarlyStopper,
    'free_outputs': FreeOutputs,
    'generate_callback': Generate,
    'lr_monitor': LRMonitor,
    'memory_monitor': MemoryMonitor,
    'memory_snapshot': MemorySnapshot,
    'nan_monitor': NaNMonitor,
    'oom_observer': OOMObserver,
    'optimizer_monitor': OptimizerMonitor,
    'runtime_estimator': RuntimeEstimator,
    'sample_log': SampleLog,
    'speed_monitor': SpeedMonitor,
    'system_metrics_monitor': SystemMetricsMonitor,
    'threshold_stopper': ThresholdStopper,
}
LOGGERS: dict[str, Callable[..., Any]] = {
    'file': FileLogger,
    'mlflow': MLFlowLogger,
    'tensorboard': TensorboardLogger,
    'wandb': WandBLogger,
}


def check_parts(config: TrainConfig) -> None:
    """Refuse names and options that do not exist, before anything is built or written; raises InputError."""
    for where, known in (('optimizer', OPTIMIZERS), ('scheduler', SCHEDULERS)):
        options = dict(getattr(config, where))
        name = str(options.pop('name', ''))
        _refuse_unknown_name(f'{where}.name', name, known)
        _check_part(where, known[name], options, 'params')
    for where, known in (('callbacks', CALLBACKS), ('loggers', LOGGERS)):
        for name, options in getattr(config, where).items():
            _refuse_unknown_name(f'{where}.{name}', name, known)
            _check_part(f'{where}.{name}', known[name], {} if options is None else options)
            _check_counts(f'{where}.{name}', options or {})
    if config.device == 'gpu' and not torch.cuda.is_available():
        raise InputError('`device=gpu` needs a GPU, but there is none: pass device=cpu, or leave it out.')
    _try_step(config.optimizer, 'cuda' if on_gpu(config.device) else 'cpu')
    if config.compile_config is not None:
        check_options('compile_config', torch.compile, config.compile_config, without=['model'])


def _refuse_unknown_name(where: str, name: str, known: Mapping[str, Any]) -> None:
    if (why := NOT_OFFERED.get(where)) is not None:
        raise InputError(f'`{where}` is not offered: {why}.')
    if name not in known:
        raise InputError(f'`{where}`: there is no {name!r}: {nearest(name, list(known))}')


def _check_part(where: str, build: Callable[..., Any], options: Any, *without: str) -> None:
    # Composer's base class takes whatever it is given, and forgets it.
    if getattr(build, '__init__', None) is Callback.__init__ and options:
        raise InputError(f'`{where}` has no options, but got: {options!r}.')
    check_options(where, build, options, without=without)


def _check_counts(where: str, options: Mapping[str, Any]) -> None:
    """Refuse windows and intervals of nothing: steps later they divide by them."""
    for name, value in options.items():
        if name.endswith(('size', 'interval')) and isinstance(value, int) and value < 1:
            raise InputError(f'`{where}.{name}` must be at least 1, but got: {value!r}.')


def _try_step(options: Mapping[str, Any], device: str) -> None:
    """Refuse options with which the optimizer takes no step: it looks at some of them only then."""
    weight = torch.nn.Parameter(torch.zeros(1, device=device))
    optimizer = build_optimizer(options, [weight])
    weight.grad = torch.zeros_like(weight)
    with as_input_error('`optimizer` takes no step with these options', RuntimeError, AssertionError):
        optimizer.step()


def build_optimizer(
    options: Mapping[str, Any], parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer that `options['name']` names."""
    return _named('optimizer', OPTIMIZERS, options, parameters)


def build_scheduler(options: Mapping[str, Any]) -> Any:
    """The learning rate scheduler that `options['name']` names."""
    return _named('scheduler', SCHEDULERS, options)


def build_clipping(options: Mapping[str, Any] | None) -> list[GradientClipping]:
    """Gradient clipping, if the YAML has it: `clipping_type` norm, value or adaptive, and `clipping_threshold`."""
    if options is None:
        return []
    where = 'algorithms.gradient_clipping'
    if not isinstance(options, Mapping):
        raise InputError(f'`{where}` must be a mapping: {{clipping_type: norm, clipping_threshold: 1.0}}.')
    check_options(where, GradientClipping, options)
    clipping = _call(where, GradientClipping, options)
    if clipping.clipping_type not in CLIPPING_TYPES:
        raise InputError(
            f'`{where}.clipping_type` must be one of {", ".join(CLIPPING_TYPES)}, but got: '
            f'{clipping.clipping_type!r}.'
        )
    threshold = clipping.clipping_threshold
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not threshold > 0:
        raise InputError(f'`{where}.clipping_threshold` must be a number above 0, but got: {threshold!r}.')
    return [clipping]


def build_algorithms(options: Mapping[str, Any], *, sharded: bool) -> list[Algorithm]:
    """Algorithms by name, all but `data_mixing`.

    Args:
        options: `algorithms`.
        sharded: Whether the model will be, by FSDP.

    Raises:
        InputError: There is none of that name, it has no such option, or it is not for such a run.
    """
    others = {name: rest for name, rest in options.items() if name != DATA_MIXING}
    for name, rest in others.items():
        _refuse_unknown_name(f'algorithms.{name}', name, {**ALGORITHMS, DATA_MIXING: None})
        if name == 'gradient_clipping':
            continue
        _check_part(f'algorithms.{name}', ALGORITHMS[name], {} if rest is None else rest)
        if name == 'swa' and dist.get_world_size() > 1:
            raise InputError(
                '`algorithms.swa` is for one rank: Composer cannot go on from a checkpoint of it on several; take ema.'
            )
        if sharded and name in NOT_SHARDED:
            raise InputError(
                f'`algorithms.{name}` keeps a copy of all weights on every rank, where `fsdp_config` shards them: '
                f'leave one of them out.'
            )
    clipping = build_clipping(others.pop('gradient_clipping', None))
    return [*clipping, *_each('algorithms', ALGORITHMS, others)]


def build_callbacks(options: Mapping[str, Any]) -> list[Callback]:
    """Callbacks by name."""
    return _each('callbacks', CALLBACKS, options)


def build_loggers(options: Mapping[str, Any]) -> list[LoggerDestination]:
    """Loggers by name."""
    return _each('loggers', LOGGERS, options)


def _named(
    where: str, known: Mapping[str, Callable[..., Any]], options: Mapping[str, Any], *first: Any
) -> Any:
    rest = dict(options)
    name = str(rest.pop('name', ''))
    _refuse_unknown_name(f'{where}.name', name, known)
    return _call(f'{where}', known[name], rest, *first)


def _each(where: str, known: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]) -> list[Any]:
    for name in options:
        _refuse_unknown_name(f'{where}.{name}', name, known)
    return [_call(f'{where}.{name}', known[name], rest or {}) for name, rest in options.items()]


def _call(where: str, build: Callable[..., Any], options: Mapping[str, Any], *first: Any) -> Any:
    with as_input_error(f'`{where}` has an option that {build.__name__} does not take'):
        try:
            return build(*first, **options)
        except ImportError as error:
            raise InputError(
                f'`{where}` needs a package that is not installed: {first_line(error)}'
            ) from error
