"""The YAML of an experiment, and where one of a name is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest

FOLDER = Path('yamls') / 'experiments'
# Options of `skillit graph learn` that are not a user's: an experiment knows where its graph is, and needs all of it.
_OPTIONS_OF_OURS = ('--out', '--work', '--task')


# What makes a method a control for another one.
CONTROLS = ('mixture_of', 'other_order_of')


@dataclass
class MethodConfig:
    """One method of an experiment."""

    data_mixing: dict[str, Any] | None = None
    """Replaces the training YAML's `algorithms.data_mixing`; null: as it stands there."""
    mixture_of: str | None = None
    """A control instead of `data_mixing`: the fixed mixture that draws of every skill what the runs of this
    method drew, all their rounds and seeds together."""
    other_order_of: str | None = None
    """A control instead of `data_mixing`: this method once more, from the same weights, with the samples in another
    order. What the two differ by is noise, which a difference between methods must exceed."""
    losses_of_samples: bool = False
    """Take the losses of all samples before training (`skillit score`), for `policy: sample_curriculum`."""
    overrides: list[str] = field(default_factory=list)
    """More `key=value` overrides for this method."""
    paper: float | None = None
    """The mean loss that the paper reports for it, shown beside ours."""


@dataclass
class ExperimentConfig:
    """Methods x seeds."""

    name: str = MISSING
    """Name of the experiment."""
    yaml: str = MISSING
    """The training YAML, relative to the experiment's."""
    out: str = MISSING
    """Folder of the runs, the results and the report."""
    streams: str = MISSING
    """Streams folder."""
    convert: list[str] | None = None
    """Arguments of `skillit convert` that make the streams folder if it is not there."""
    learn_graph: list[str] | None = None
    """Arguments of `skillit graph learn` after its YAML, e.g. [--method, approximate, --steps, '200']: before any run
    the graph `${out}/graph.json` is learned from `yaml`, with `overrides` and the first of the seeds. Methods name it
    so. Learned with other settings it is learned anew, and the runs that use it are trained again."""
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    """Every method is trained once with each: initial weights and order of the samples are its own."""
    overrides: list[str] = field(default_factory=list)
    """`key=value` overrides for all methods."""
    jobs: int | None = None
    """Runs at a time; null: one a core, or one where runs have several ranks."""
    ranks: int = 1
    """Processes of each run, on this machine: one a GPU. Each computes with one thread."""
    baseline: str | None = None
    """The method that the others are compared with: paired tests, and the step at which each reaches its final
    loss."""
    note: str = ''
    """What a reader must know of the set-up, for the results."""
    closing: str = ''
    """Printed at the very end: where such a result can be expected, and where not."""
    methods: dict[str, MethodConfig] = field(default_factory=dict)
    """Method -> what distinguishes it."""


def find_yaml(name: str) -> Path:
    """The YAML of an experiment: a path, or a name among yamls/experiments here or in the repository.

    Raises:
        InputError: There is none.
    """
    repository = Path(__file__).resolve().parents[2]
    folders = [FOLDER, repository / FOLDER]
    for path in [Path(name), *(folder / f'{name}.yaml' for folder in folders)]:
        if path.is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob('*.yaml')})
    raise InputError(
        f'There is no experiment {name!r}, neither a file nor one of these: {nearest(name, known)}'
    )


def check(experiment: ExperimentConfig, path: Path) -> None:
    """Refuse an experiment that cannot be run; raises InputError."""
    methods = experiment.methods
    if not methods or not experiment.seeds:
        raise InputError(f'{path} must name at least one method and one seed.')
    if len(set(experiment.seeds)) < len(experiment.seeds):
        raise InputError(f'{path}: `seeds` must differ, but got: {experiment.seeds}.')
    for key, number in (('jobs', experiment.jobs), ('ranks', experiment.ranks)):
        if number is not None and number < 1:
            raise InputError(f'{path}: `{key}` must be at least 1, but got: {number}.')
    _check_learning(experiment.learn_graph or [], path)
    named = [('baseline', experiment.baseline)]
    for name, method in methods.items():
        named += [(f'methods.{name}.{key}', getattr(method, key)) for key in CONTROLS]
    for key, method in named:
        if method is not None and method not in methods:
            raise InputError(
                f'{path}: `{key}` must be a method, but got: {method!r}; {nearest(method, list(methods))}'
            )
    for name, method in methods.items():
        _check_control(name, method, methods, path)


def control_for(method: MethodConfig) -> str | None:
    """The method that this one is a control for; None where it is a method of its own."""
    return method.mixture_of or method.other_order_of


def order_control(experiment: ExperimentConfig) -> str | None:
    """The method that is the baseline in another order; None where there is none."""
    found = (name for name, method in experiment.methods.items() if method.other_order_of)
    return next(
        (name for name in found if experiment.methods[name].other_order_of == experiment.baseline), None
    )


def _check_control(name: str, method: MethodConfig, methods: Mapping[str, MethodConfig], path: Path) -> None:
    given = [key for key in ('data_mixing', *CONTROLS) if getattr(method, key) is not None]
    source = control_for(method)
    if source is None:
        return
    if len(given) > 1:
        raise InputError(f'{path}: `methods.{name}` has both `{given[1]}` and `{given[0]}`: leave one out.')
    if control_for(methods[source]) is not None:
        raise InputError(f'{path}: `methods.{name}.{given[0]}` must be a method with a policy of its own.')


def _check_learning(arguments: list[str], path: Path) -> None:
    for argument in arguments:
        option = argument.partition('=')[0]
        # argparse takes the beginning of an option for the whole.
        if option.startswith('--') and any(ours.startswith(option) for ours in _OPTIONS_OF_OURS):
            raise InputError(
                f'{path}: `learn_graph` must be without {", ".join(_OPTIONS_OF_OURS)}, but got: {argument}; the graph '
                f'is written to graph.json in `out`.'
            )
