"""What a run that goes on takes from its checkpoint, what from the configuration, and what it says of the difference.

The configuration that is asked for is compared with the config.yaml of the run that wrote the checkpoint. Most keys are
taken at once and those of the mixture at the next round: each is listed. A key that could have no effect, because the
checkpoint brings what it says, is refused, with the way in which it has one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from composer import Trainer
from omegaconf import OmegaConf
from yaml import YAMLError

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import is_url
from skillit_stream.mixing.ranks import from_rank_zero, on_rank_zero
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.from_options import DEFAULT_POLICY
from skillit_stream.training.checkpoints import LATEST
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.data_mixing import DataMixing
from skillit_stream.training.randomness import restore_randomness
from skillit_stream.training.run_files import ABOUT, CONFIG, checkpoint_folder, read_run_file
from skillit_stream.training.run_policy import DEFAULT_MIXING
from skillit_stream.training.whole_rounds import dataset_of
from skillit_stream.training.yaml_files import leaves

LONGEST_VALUE = 60
NOW, NEXT_ROUND, KEPT = 'taken now', 'taken at the next round', 'kept as the run began'
MIXING = 'algorithms.data_mixing'
# Set anew in the optimizer that was loaded; every other option decides what its state is.
_OPTIMIZER_OPTIONS = ('lr', 'betas', 'eps', 'weight_decay', 'maximize')
# Keys of the command and not of the run.
_PASSED_OVER = ('autoresume', 'load_ignore_keys', 'load_weights_only', 'save_overwrite', 'variables.*')
# What a run that starts from another one's checkpoint has of its own.
_OWN = ('checkpoint_folder', 'load_path', 'method', 'run_name', 'save_folder')
_OTHER_WEIGHTS = (
    'load_path={run} load_weights_only=true save_folder=ANOTHER begins another run from these weights'
)
_OTHER_MODEL = 'save_folder=ANOTHER begins another run'
_REFUSED = {
    'seed': ('it is what a run begins with', _OTHER_WEIGHTS),
    'train_loader.dataset.shuffle_seed': ('the checkpoint brings the order of samples', _OTHER_WEIGHTS),
    'train_loader.dataset.shuffle_block_size': ('the checkpoint brings the order of samples', _OTHER_WEIGHTS),
    'model.init': ('the checkpoint brings the weights', _OTHER_MODEL),
    'model.pretrained': ('the checkpoint brings the weights', _OTHER_MODEL),
    'model.gguf_file': ('the checkpoint brings the weights', _OTHER_MODEL),
    'load_path': ('the run goes on from its own newest checkpoint', _OTHER_MODEL),
    'optimizer.*': (
        "the checkpoint brings the optimizer's state",
        'load_path={run} load_ignore_keys=[state/optimizers] save_folder=ANOTHER goes on without it',
    ),
}
# Its options may change; without it the weights that were trained would be lost.
_EMA = 'algorithms.ema*'
# Of these only a value that is given asks for something.
_KEPT_UNLESS_GIVEN = ('load_path', 'train_loader.dataset.*')
_EFFECTS = {
    f'{MIXING}.*': NEXT_ROUND,
    'global_train_batch_size': NEXT_ROUND,
    'train_loader.batching': NEXT_ROUND,
    # A run that goes on with other nodes names as many as it has; the order of samples stays that of the first.
    'train_loader.dataset.num_canonical_nodes': KEPT,
    'train_loader.round_size': NEXT_ROUND,
    'model.*': f"{NOW}; the weights are the checkpoint's",
    'optimizer.*': f'{NOW}; the state of the optimizer is kept',
}


@dataclass(frozen=True)
class Change:
    """A key whose value is not that of the run that goes on."""

    key: str
    before: str
    after: str
    effect: str = NOW

    @property
    def of_the_mixture(self) -> bool:
        """Whether it is an option of the policy."""
        return self.key.startswith(MIXING)

    def line(self) -> str:
        """For the run's own output."""
        return f'{self.key}: {self.before} -> {self.after}, {self.effect}'


@dataclass(frozen=True)
class Resumption:
    """A run that goes on from a checkpoint with the optimizer's state."""

    run: str
    """Where the run is that wrote the checkpoint, as `load_path` would name it."""
    forked: bool
    """Whether that is another run than the one that goes on."""
    changes: tuple[Change, ...] = ()
    known: bool = True
    """Whether there is a config.yaml to compare with."""

    def lines(self, misfit: InputError | None, *, at_once: bool) -> list[str]:
        """What to say of the changes.

        Args:
            misfit: Why the policy cannot take over the memory of the one before; None: it does.
            at_once: Whether the policy can decide the coming round over again.
        """
        if not self.known:
            return [f'what has changed is not known: there is no {CONFIG} with the checkpoint']
        lines = []
        for change in self.changes:
            line = change.line()
            if change.of_the_mixture and misfit:
                line = f'{line}; the policy begins anew'
            elif change.of_the_mixture and not at_once:
                line = f'{line} but one: the next was decided before'
            lines.append(line)
        return lines

    def refuse_misfit(self, misfit: InputError | None) -> None:
        """Refuse another policy in the middle of a run, with the way to it; raises InputError."""
        if misfit and not self.forked:
            raise InputError(
                f'`{MIXING}`: {misfit}; load_path={self.run} save_folder=ANOTHER goes on with another policy, '
                f'begun anew, and the state of the optimizer'
            )

    def refuse_other_mixture(self, applied_from: int) -> None:
        """Refuse options of a policy that does not decide any more, for another was applied; raises InputError."""
        for change in self.changes:
            if change.of_the_mixture:
                raise InputError(
                    f'`{change.key}` must stay {change.before}, but got: {change.after}: since round {applied_from} '
                    f'the policy decides that `skillit apply` gave the run; `skillit apply {self.run} mixture.yaml` '
                    f'gives it another.'
                )

    def refusal(self) -> str:
        """How the line begins that says that the checkpoint cannot be loaded."""
        named = [
            f'`{change.key}`={change.after}' for change in self.changes if change.key.startswith('model.')
        ]
        if not named:
            return 'Composer refused the run'
        return f'The checkpoint is of another model than {", ".join(named)} makes ({_OTHER_MODEL})'


def resumption_of(
    config: TrainConfig, loading: Mapping[str, Any], graph: SkillsGraph | None
) -> Resumption | None:
    """What differs between the run that goes on and what is asked for; None for a run that begins.

    Args:
        config: That is asked for.
        loading: What to load (`loading_arguments`).
        graph: The policy's.

    Raises:
        InputError: A key would have no effect; one line for all of them.
    """
    place = loading['load_path']
    if loading['autoresume']:
        # Composer finds it.
        link = Path(checkpoint_folder(config)) / LATEST
        place = from_rank_zero(str(link) if link.is_symlink() else None)
    if place is None or loading['load_weights_only']:
        return None
    forked = not config.autoresume or not _is_own(config, place)
    run = str(config.load_path) if forked else config.save_folder
    folders = _folders_of(place) if forked else [config.save_folder, checkpoint_folder(config)]
    text = _first_of(folders, CONFIG)
    if text is None:
        return Resumption(run, forked, known=False)
    with as_input_error(f'{CONFIG} of {run} is damaged', YAMLError, AttributeError):
        before = _settings(_as_stored(text))
    after = _settings(OmegaConf.to_container(OmegaConf.structured(config)))
    passed_over = (*_PASSED_OVER, *_OWN) if forked else _PASSED_OVER
    changes = [change for change in _changes(before, after) if not _matches(change.key, passed_over)]
    _refuse_without_effect(changes, config, run)
    changes += _changed_graph(changes, _first_of(folders, ABOUT), graph)
    return Resumption(run, forked, tuple(changes))


def take_over(
    trainer: Trainer, mixing: DataMixing, options: Mapping[str, Any], resumption: Resumption | None
) -> list[str]:
    """Give what a checkpoint has brought the settings asked for.

    Args:
        trainer: After it has loaded, or not.
        mixing: The Trainer's.
        options: Of the optimizer, as they were before.
        resumption: What differs; None where no run goes on.

    Returns:
        What to say of it, a line a key.

    Raises:
        InputError: The policy is another one.
    """
    dataset, time = dataset_of(trainer.state), trainer.state.timestamp
    if int(time.batch):
        take_optimizer_options(trainer, options, batch_size=dataset.global_batch_size)
        restore_randomness(trainer)
    if resumption is None:
        return []
    misfit = mixing.misfit()
    if mixing.applied_from is not None and not resumption.forked:
        resumption.refuse_other_mixture(mixing.applied_from)
    if not {'added', 'removed'} & set(dataset.changes.values()):
        resumption.refuse_misfit(misfit)
    return resumption.lines(misfit, at_once=int(time.batch_in_epoch) > 0 or mixing.decides_again)


def take_optimizer_options(trainer: Trainer, asked: Mapping[str, Any], *, batch_size: int) -> None:
    """Give the optimizer that was loaded the options asked for, its learning rate by the schedule.

    A checkpoint brings them along with the optimizer's state: left alone, those asked for would have no effect.

    Args:
        trainer: After it has loaded; it was given one of Composer's schedulers.
        asked: The options as they were before it loaded: of a parameter group.
        batch_size: Samples in a step, all ranks together.
    """
    state = trainer.state
    schedule = cast(torch.optim.lr_scheduler.LambdaLR, state.schedulers[0])
    schedule.base_lrs = [asked['lr']] * len(schedule.base_lrs)
    now, samples = state.timestamp, int(state.timestamp.sample)
    tokens = int(now.token) // samples * batch_size
    # Composer sets the learning rate of the coming step before it moves the time on.
    state.timestamp = now.copy(
        batch=int(now.batch) - 1, sample=samples - batch_size, token=int(now.token) - tokens
    )
    factor = float(schedule.lr_lambdas[0](0))
    state.timestamp = now
    for group in state.optimizers[0].param_groups:
        group |= {name: asked[name] for name in _OPTIMIZER_OPTIONS if name in asked}
        group['initial_lr'] = asked['lr']
        group['lr'] = asked['lr'] * factor


def _is_own(config: TrainConfig, place: str) -> bool:
    """Whether a checkpoint is one of the run's own."""
    folder = checkpoint_folder(config).rstrip('/')
    if is_url(place):
        return place.rpartition('/')[0] == folder
    found = Path(place).resolve()
    return found.parent == Path(folder).resolve() or found == (Path(folder) / LATEST).resolve()


def _folders_of(place: str) -> list[str]:
    """Where the files of the run may be that wrote a checkpoint: with it, or one folder up."""
    if is_url(place):
        return [place.rpartition('/')[0]]
    return [str(folder) for folder in list(Path(place).resolve().parents)[:2]]


def _first_of(folders: Sequence[str], name: str) -> str | None:
    """The text of a run's file as rank 0 finds it: the other nodes may not see the folder."""
    found: list[str] = []

    def read() -> None:
        found.extend(text for folder in folders if (text := read_run_file(folder, name)) is not None)

    on_rank_zero(read)
    return next(iter(from_rank_zero(found)), None)


def _as_stored(text: str) -> dict[str, Any]:
    """A config.yaml, a key that is missing (it may be of an older release) with its default."""
    default = OmegaConf.to_container(OmegaConf.structured(TrainConfig))
    return _filled(yaml.safe_load(text), cast(dict[str, Any], default), TrainConfig)


def _filled(given: Any, default: dict[str, Any], schema: type) -> dict[str, Any]:
    found = {}
    for item in fields(schema):
        value, kind = given.get(item.name, default[item.name]), cast(Any, item.type)
        nested = isinstance(kind, type) and is_dataclass(kind)
        found[item.name] = _filled(value, default[item.name], kind) if nested else value
    return found


def _settings(config: Any) -> dict[str, Any]:
    """Key with dots -> value; a mapping with nothing in it is a value."""
    mixing = config['algorithms'].get('data_mixing') or DEFAULT_MIXING
    algorithms = {**config['algorithms'], 'data_mixing': {'policy': DEFAULT_POLICY, **mixing}}
    return dict(leaves({**config, 'algorithms': algorithms}))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Keys that differ, but for a mapping that was empty and has got keys, or the other way round."""
    missing = object()
    changes = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, missing), after.get(key, missing)
        filled = [one for one in (*before, *after) if one.startswith(f'{key}.')]
        if old == new or (filled and (old in ({}, None) or new in ({}, None))):
            continue
        before_text, after_text = ('not given' if one is missing else _text(one) for one in (old, new))
        effects = [effect for pattern, effect in _EFFECTS.items() if fnmatchcase(key, pattern)]
        if new in (missing, None) and _matches(key, _KEPT_UNLESS_GIVEN) and _matches(key, _REFUSED):
            effects = [KEPT]
        changes.append(Change(key, before_text, after_text, next(iter(effects), NOW)))
    return changes


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _text(value: Any) -> str:
    text = 'null' if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= LONGEST_VALUE else f'{text[: LONGEST_VALUE - 1]}…'


def _refuse_without_effect(changes: Sequence[Change], config: TrainConfig, run: str) -> None:
    refused = []
    for change in changes:
        option = change.key.removeprefix('optimizer.') if change.key.startswith('optimizer.') else ''
        ignored = any(one.startswith('state/optimizers') for one in config.load_ignore_keys or ())
        if option in _OPTIMIZER_OPTIONS or (option and ignored and not config.autoresume):
            continue
        if change.effect == KEPT:
            continue
        reasons = [why for pattern, why in _REFUSED.items() if fnmatchcase(change.key, pattern)]
        if fnmatchcase(change.key, _EMA) and 'ema' not in config.algorithms:
            reasons.append(('the model of the checkpoint has the averaged weights', _OTHER_WEIGHTS))
        refused += [(change, *why) for why in reasons]
    if refused:
        ways = dict.fromkeys(way.format(run=run) for _, _, way in refused)
        parts = [
            f'`{change.key}` must stay {change.before}, but got: {change.after} ({why})'
            for change, why, _ in refused
        ]
        raise InputError(f'{run} goes on: {"; ".join(parts)}; {"; ".join(ways)}.')


def _changed_graph(changes: Sequence[Change], about: str | None, graph: SkillsGraph | None) -> list[Change]:
    """The same file or folder may hold another graph by now."""
    key = f'{MIXING}.graph'
    if any(change.key.startswith((key, f'{MIXING}.policy')) for change in changes) or about is None:
        return []
    stored, present = yaml.safe_load(about).get('graph'), graph.to_dict() if graph else None
    if not stored or not present:
        return []
    parts = ('train_skills', 'eval_skills', 'weights')
    if all(stored.get(part) == present[part] for part in parts):
        return []
    return [Change(key, 'as it was', 'other weights', NEXT_ROUND)]
