"""What decides the mixture of a run: its skills, its graph and its policy, from the configuration."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from composer.core import Time, TimeUnit

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest, unique_names
from skillit_stream.formats.manifest import Manifest
from skillit_stream.formats.sample_losses import RankedLosses, losses_folder
from skillit_stream.mixture import MixturePolicy, RunContext, SkillsGraph
from skillit_stream.mixture.from_options import DEFAULT_POLICY, PolicyBuilder, policy_of_options
from skillit_stream.mixture.grouped import groups_of
from skillit_stream.order.subset_tape import subset_size
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.intervals import check_evaluated_rounds
from skillit_stream.training.streams_folder import own_graph, stream_folders

DEFAULT_MIXING = {'policy': 'proportional'}
"""Without `algorithms.data_mixing`."""


@dataclass(frozen=True)
class RunUnits:
    """What a duration is in samples and rounds."""

    round_size: int
    """Samples in a round, all ranks together."""
    batch_size: int
    """Samples in a step, all ranks together."""
    seq_len: int | None
    """Tokens in a sample; None: a duration in tokens is not known in others."""

    def samples(self, duration: Time) -> int | None:
        """Samples that are drawn in it; None where that is not known beforehand."""
        each = {TimeUnit.EPOCH: self.round_size, TimeUnit.BATCH: self.batch_size, TimeUnit.SAMPLE: 1}
        if duration.unit in each:
            return int(duration.value) * each[duration.unit]
        in_tokens = duration.unit == TimeUnit.TOKEN and self.seq_len
        return -(-int(duration.value) // in_tokens) if in_tokens else None

    def rounds(self, duration: Time) -> int | None:
        """Rounds that it takes, the last one perhaps a part; None where that is not known beforehand."""
        samples = self.samples(duration)
        return None if samples is None else -(-samples // self.round_size)

    def first_round_after(self, option: str, text: str) -> int:
        """The first round that begins when so much has been trained.

        Raises:
            InputError: The text is no time string of data.
        """
        try:
            rounds = self.rounds(Time.from_timestring(text))
        except ValueError:
            rounds = None
        if rounds is None:
            raise InputError(
                f'`{option}` must be a number of rounds, or a time string in ep, ba, sp or tok, but got: {text!r}.'
            )
        return rounds


def run_units(config: TrainConfig, seq_len: int) -> RunUnits:
    """The units of a run whose samples have so many tokens."""
    return RunUnits(config.train_loader.round_size, config.global_train_batch_size, seq_len)


def chosen_skills(config: TrainConfig, manifest: Manifest) -> tuple[list[str], list[str]]:
    """The skills to train on and those to evaluate.

    Raises:
        InputError: The configuration names one that the streams do not have.
    """
    train = _chosen('train', config.train_loader.skills, manifest)
    return train, _chosen('eval', config.eval_loader.skills, manifest)


def _chosen(split: str, names: list[str] | None, manifest: Manifest) -> list[str]:
    """The skills of a loader: those that are named, where `*` stands for any signs, or all that have its split."""
    known = [skill for skill, info in manifest.skills.items() if split in info.splits]
    if not known:
        raise InputError(f'The streams have no {split} split of any skill: convert the corpus with one.')
    if not names:
        return known
    chosen: list[str] = []
    for name in names:
        # A skill that is called so is meant by its name.
        pattern = None if name in known or '*' not in name else '.*'.join(map(re.escape, name.split('*')))
        chosen += [skill for skill in known if pattern and re.fullmatch(pattern, skill)] or [name]
    for name in unique_names(f'`{split}_loader.skills`', chosen):
        if name in manifest.skills and name not in known:
            raise InputError(
                f'`{split}_loader.skills` names skill {name!r}, but it has no {split} split: leave it out.'
            )
        if name not in known:
            raise InputError(
                f'`{split}_loader.skills` names skill {name!r}, but the streams have none: {nearest(name, known)}'
            )
    return chosen


def stream_groups(config: TrainConfig, skills: Sequence[str]) -> dict[str, list[str]]:
    """The streams of each skill that the policy mixes: those of its group, or itself where there are no `groups`.

    Raises:
        InputError: They are no groups of these streams.
    """
    given = config.data_mixing.get('groups')
    return {skill: [skill] for skill in skills} if given is None else groups_of(given, skills)


def train_sizes(config: TrainConfig, manifest: Manifest, skills: Sequence[str]) -> dict[str, int]:
    """Samples of each train stream that may be drawn: limits and proportions are by these."""
    fraction = stream_fraction(config, manifest.seq_len)
    return {skill: subset_size(manifest.skills[skill].splits['train'].samples, fraction) for skill in skills}


def policy_of_run(
    config: TrainConfig, sizes: dict[str, int], eval_skills: list[str], *, seq_len: int
) -> tuple[MixturePolicy, SkillsGraph | None]:
    """The policy that `algorithms.data_mixing` names, and its graph if it has one.

    Args:
        config: Of the run.
        sizes: Samples in each train stream, by skill.
        eval_skills: Skills that are evaluated.
        seq_len: Tokens in a sample.

    Raises:
        InputError: It cannot be built from what is there, or needs losses that the run does not take.
    """
    folder, units = stream_folders(config), run_units(config, seq_len)
    context = run_context(
        sizes,
        eval_skills,
        duration=Time.from_timestring(config.max_duration),
        units=units,
        train_folder=lambda skill: folder(skill) / 'train',
    )
    options = config.data_mixing or DEFAULT_MIXING
    policy, graph = chosen_policy(options, context, units, streams_graph=lambda: own_graph(config))
    _check_evaluated(policy, eval_skills, config)
    check_evaluated_rounds(config, policy, seq_len)
    return policy, graph


def builder_of_run(
    config: TrainConfig, sizes: dict[str, int], eval_skills: list[str], *, seq_len: int
) -> PolicyBuilder:
    """Builds the policies that the run may be given while it goes on (`skillit apply`)."""

    def build(
        options: Mapping[str, Any], evaluated: Sequence[str]
    ) -> tuple[MixturePolicy, SkillsGraph | None]:
        del evaluated  # the configuration says it
        algorithms = {**config.algorithms, 'data_mixing': dict(options)}
        return policy_of_run(replace(config, algorithms=algorithms), sizes, eval_skills, seq_len=seq_len)

    return build


def run_context(
    sizes: Mapping[str, int],
    eval_skills: Sequence[str],
    *,
    duration: Time | None,
    units: RunUnits,
    train_folder: Callable[[str], Path],
) -> RunContext:
    """What a run knows when its policy is built, but for the graph, which the options name (`chosen_policy`).

    Args:
        sizes: Samples in each train stream, by skill.
        eval_skills: Skills that are evaluated.
        duration: Of the run; None: not known.
        units: What its durations are in samples.
        train_folder: The folder here of a skill's train split or its cache, beside which losses of samples lie.
    """
    rounds = None if duration is None else units.rounds(duration)
    samples = None if duration is None else units.samples(duration)

    def sample_losses(name: str) -> dict[str, RankedLosses]:
        return {skill: RankedLosses.load(losses_folder(train_folder(skill), name), skill) for skill in sizes}

    return RunContext(
        skills=list(sizes),
        eval_skills=eval_skills,
        sizes=sizes,
        rounds=rounds,
        round_size=units.round_size,
        round_steps=-(-units.round_size // units.batch_size),
        run_steps=None if samples is None else -(-samples // units.batch_size),
        sample_losses=sample_losses,
    )


def chosen_policy(
    options: Mapping[str, Any],
    context: RunContext,
    units: RunUnits,
    *,
    streams_graph: Callable[[], Any] | None = None,
) -> tuple[MixturePolicy, SkillsGraph | None]:
    """The policy that the options of `data_mixing` name, and its graph if it has one.

    Args:
        options: `policy`, `graph`, `new_skills`, `groups`, and the policy's own.
        context: What the run knows.
        units: What its durations are in samples.
        streams_graph: Finds the graph that ``graph: streams`` means; None: there is none.

    Raises:
        InputError: It cannot be built from what is there.
    """
    options = dict(options)
    if isinstance(options.get('start'), str):
        options['start'] = units.first_round_after('start', options['start'])
    return policy_of_options(options, context, streams_graph=streams_graph)


def policy_name(config: TrainConfig) -> str:
    """The policy as the configuration names it."""
    options = config.data_mixing or DEFAULT_MIXING
    return str(options.get('policy', DEFAULT_POLICY))


def _check_evaluated(policy: MixturePolicy, eval_skills: list[str], config: TrainConfig) -> None:
    """Refuse a policy that needs the loss of a skill which is not evaluated; raises InputError."""
    identity = config.data_mixing.get('graph') == 'identity'
    for skill in policy.eval_skills:
        if skill not in eval_skills and identity:
            raise InputError(
                f'`graph=identity` needs every skill that is trained on to be evaluated, but `eval_loader.skills` '
                f'leaves out {skill}: evaluate it too, or learn a graph from the train to the eval skills (`skillit '
                f'graph learn`).'
            )
        if skill not in eval_skills:
            raise InputError(
                f'The policy needs the loss of eval skill {skill}, but `eval_loader.skills` leaves it out: add it, '
                f'or take it out of the graph.'
            )


def stream_fraction(config: TrainConfig, seq_len: int) -> float:
    """The part of every stream that the run may draw from, by `train_loader.match_passes`.

    Args:
        config: Of the run.
        seq_len: Tokens in a sample.

    Returns:
        Tokens of this run over those of the run that it stands for; 1 where it stands for itself.

    Raises:
        InputError: That run is shorter, or the length of this one is not known beforehand.
    """
    loader = config.train_loader
    if loader.match_passes is None:
        return 1.0
    samples = run_units(config, seq_len).samples(Time.from_timestring(config.max_duration))
    if samples is None:
        raise InputError(
            f'`train_loader.match_passes` needs the length of this run: give `max_duration` in ep, ba, sp or tok, not '
            f'{config.max_duration}.'
        )
    if samples * seq_len > loader.match_passes:
        raise InputError(
            f'`train_loader.match_passes` must be the tokens of a run that is no shorter than this one, '
            f'{samples * seq_len:,} (max_duration={config.max_duration}), but got: {loader.match_passes:,}.'
        )
    return samples * seq_len / loader.match_passes
