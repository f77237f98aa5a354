"""A fitted mixture on the terminal, as JSON and as YAML."""

import math
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.files import write_text
from skillit_stream.base.terminal import default_console
from skillit_stream.mixture_fit.fitting import MixtureFit
from skillit_stream.mixture_fit.quality import TARGET, quality_of_target


def to_json(fit: MixtureFit) -> dict[str, Any]:
    """All of the fit as plain data."""
    return {
        'law': fit.law,
        'runs': fit.runs,
        'pull': fit.pull,
        'target': dict(fit.target),
        'proportions': proportions(fit),
        'natural': None if fit.natural is None else _by_skill(fit, fit.natural.tolist()),
        'passes': None if fit.passes is None else _by_skill(fit, fit.passes.tolist()),
        'at_limit': [skill for skill, held in _by_skill(fit, fit.at_limit.tolist()).items() if held],
        'predicted': dict(fit.predicted),
        'best_run': fit.best_run._asdict(),
        'held_out': {name: one.to_json() for name, one in fit.quality.items()},
        'groups': list(fit.groups),
        'parameters': {name: dict(one) for name, one in fit.parameters.items()},
        'warnings': list(fit.warnings),
    }


def proportions(fit: MixtureFit) -> dict[str, float]:
    """The mixture by skill."""
    return _by_skill(fit, fit.mixture.tolist())


def _by_skill(fit: MixtureFit, values: list[Any]) -> dict[str, Any]:
    return dict(zip(fit.skills, values, strict=True))


def fragment(fit: MixtureFit) -> str:
    """The mixture as the part of a training YAML that sets it."""
    from omegaconf import OmegaConf

    return (
        f'{_comment(fit)}{OmegaConf.to_yaml(OmegaConf.create({"algorithms": {"data_mixing": _policy(fit)}}))}'
    )


def training_yaml(fit: MixtureFit, base: Path) -> str:
    """The training YAML at `base` with its mixture replaced; comments of the original are lost.

    Raises:
        InputError: If it cannot be read or is no training YAML.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    with as_input_error(f'--base {base} cannot be read as YAML', OSError, YAMLError, OmegaConfBaseException):
        config = OmegaConf.load(base)
        if not isinstance(config, DictConfig):
            raise InputError(f'--base {base} must be a mapping of keys, but got: a list')
        OmegaConf.update(config, 'algorithms.data_mixing', _policy(fit), merge=False)
        return f'{_comment(fit)}{OmegaConf.to_yaml(config)}'


def save(text: str, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: If it cannot be written.
    """
    with as_input_error(f'--out cannot be written to {path}', OSError):
        write_text(path, text)


def _policy(fit: MixtureFit) -> dict[str, Any]:
    return {'policy': 'static', 'proportions': proportions(fit)}


def _comment(fit: MixtureFit) -> str:
    main = quality_of_target(fit.quality)
    rank = 'none' if main.spearman is None else f'{main.spearman:.2f}'
    return (
        f'# Mixture by `skillit mix fit`: law {fit.law}, {fit.runs} runs, pull {fit.pull:g}.\n'
        f'# Held-out runs: R2 {main.r2:.2f}, Spearman {rank}.\n'
    )


def print_fit(fit: MixtureFit) -> None:
    """Print mixture, predictions, quality, warnings and YAML."""
    console = default_console()
    console.print(f'mixture by {fit.law}, {fit.runs} runs', style='bold', highlight=False)
    console.print(_mixture_table(fit))
    compared = [f'fitted mixture {fit.predicted["mixture"]:.4f}']
    if 'natural' in fit.predicted:
        compared.append(f'natural mixture {fit.predicted["natural"]:.4f}')
    best = fit.best_run
    beyond = '' if best.within_limits else ', beyond the limits'
    compared.append(f'best run {best.target:.4f} (measured, {best.name}{beyond})')
    console.print(f'predicted target: {", ".join(compared)}', markup=False, highlight=False)
    console.print('how well held-out runs are predicted', style='bold', highlight=False)
    console.print(_quality_table(fit))
    for warning in fit.warnings:
        console.print(f'warning: {warning}', markup=False, highlight=False, style='yellow', soft_wrap=True)
    # Not through rich: what is wrapped cannot be copied.
    print(fragment(fit), end='')


def _mixture_table(fit: MixtureFit) -> Table:
    table = Table()
    table.add_column('skill', overflow='fold')
    for column in ('natural', 'fitted', *(['passes'] if fit.passes is not None else [])):
        table.add_column(column, justify='right')
    for i, skill in enumerate(fit.skills):
        cells = ['-' if fit.natural is None else f'{fit.natural[i]:.4f}', f'{fit.mixture[i]:.4f}']
        if fit.passes is not None:
            held = ' (limit)' if fit.at_limit[i] and fit.mixture[i] > 0 else ''
            cells.append(f'{fit.passes[i]:.2f}{held}')
        table.add_row(escape(skill), *cells)
    return table


def _quality_table(fit: MixtureFit) -> Table:
    table = Table()
    table.add_column('metric', overflow='fold')
    for column in ('Spearman', 'R2', 'mean abs. error', 'of the mean'):
        table.add_column(column, justify='right')
    for name, one in fit.quality.items():
        rank = '-' if one.spearman is None else f'{one.spearman:.3f}'
        table.add_row(
            escape(name), rank, _short(one.r2), f'{one.mae:.4g}', f'{one.baseline_mae:.4g}',
            style='bold' if name == TARGET else None,
        )  # fmt: skip
    return table


def _short(value: float) -> str:
    return f'{value:.3f}' if math.fabs(value) < 1000 else f'{value:.2g}'
