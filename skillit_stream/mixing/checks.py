"""What a driver refuses or warns of: states of another version, policies of other skills, a start that comes late."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixture import MixturePolicy

STATE_VERSION = 2


def check_version(state: Mapping[str, Any]) -> None:
    """Refuse a driver's state of another version; raises InputError."""
    if state.get('version') != STATE_VERSION:
        raise InputError(
            f'The state of the mixture must be of version {STATE_VERSION}, but got: {state.get("version")}.'
        )


def check_same_skills(policy: MixturePolicy, skills: Sequence[str]) -> None:
    """Refuse a policy of other train skills than there are streams; raises InputError."""
    check_named(policy.skills, skills, 'stream')
    for skill in skills:
        if skill not in policy.skills:
            raise InputError(
                f'There is a stream {skill}, but the policy does not name it; it names: '
                f'{", ".join(policy.skills)}. Add it to the graph (SkillsGraph.with_new_skills), or take the stream '
                f'out.'
            )


def check_policy(policy: MixturePolicy, dataset: SkillStreamingDataset, *, weighs_tokens: bool) -> None:
    """Refuse a policy that is not one for a dataset, or whose objective nobody would train for; raises InputError."""
    check_same_skills(policy, dataset.skills)
    if policy.weighs_tokens and not weighs_tokens:
        raise InputError(
            f'The policy {policy.name} weighs tokens: weigh the loss of each by `driver.token_weights` of its skill, '
            f'and say so, MixtureDriver(..., weighs_tokens=True), or leave `token_weights` out.'
        )
    if policy.sample_orders() and not dataset.sample_orders:
        raise InputError(
            f'The policy {policy.name} chooses the order of samples, but the dataset shuffles them: build it '
            f'with sample_orders=policy.sample_orders().'
        )


def check_named(names: Sequence[str], known: Sequence[str], what: str) -> None:
    """Refuse a policy that names what there is not; raises InputError."""
    for name in names:
        if name not in known:
            raise InputError(
                f'The policy names skill {name}, but there is no {what} of that name; there are: '
                f'{", ".join(known) or "none"}. Add it, or take it out of the graph.'
            )


def check_batch_size(loader: Any, dataset: SkillStreamingDataset) -> None:
    """Refuse a DataLoader that cuts a dataset's rounds into other batches; raises InputError."""
    size = getattr(loader, 'batch_size', None)
    if isinstance(loader, DataLoader) and size not in (None, dataset.batch_size):
        raise InputError(
            f'`batch_size` of the DataLoader must be that of the dataset, {dataset.batch_size}, but got: {size}.'
        )


def warn_of_notes(policy: MixturePolicy) -> list[str]:
    """Warn of what a policy has to say of its last mixture; all of it is in mixture.jsonl."""
    notes = policy.notes()
    for note in notes:
        warnings.warn(note, stacklevel=4)
    return notes


def warn_of_late_start(dataset: SkillStreamingDataset) -> None:
    """Warn where the first mixture comes too late for the first round: its loader has been asked to iterate."""
    if dataset.first_batch is None:
        warnings.warn(
            f'Round {dataset.round} has begun with the proportions that the dataset had: the first mixture of the '
            f'policy is that of round {dataset.next_round}. Call start() before the loader is iterated (in a trainer, '
            f'in a hook that comes before the first batches are fetched).',
            stacklevel=3,
        )


def warn_of_changed_streams(changes: Mapping[str, str], number: int) -> None:
    """Warn that a policy begins anew in round `number`, for streams were added or removed."""
    named = ', '.join(f'{skill} {change}' for skill, change in changes.items())
    warnings.warn(
        f'The streams have changed ({named}): the policy forgets the losses it has seen and begins anew with '
        f'its first mixture in round {number}.',
        stacklevel=3,
    )


def require_losses(policy: MixturePolicy, losses: Mapping[str, float], when: str) -> None:
    """Refuse losses that lack one which the policy needs; raises InputError."""
    missing = [skill for skill in policy.eval_skills if skill not in losses]
    if missing and not policy.accepts_bad_losses:
        raise InputError(f'The policy needs the loss of {missing[0]}, but none was measured {when}.')


def warn_of_passes(dataset: SkillStreamingDataset, most: float, warned: set[str]) -> None:
    """Warn of streams that will have been walked more often than `most` by the end of the next round.

    Args:
        dataset: That is trained on.
        most: Passes.
        warned: Skills that were warned of already; those that are now are added.
    """
    for skill, passes in dataset.upcoming_passes.items():
        if passes > most and skill not in warned:
            warned.add(skill)
            warnings.warn(
                f'Skill {skill} will have been walked {passes:.2f} times by the end of round '
                f'{dataset.next_round}, more than `warn_passes`={most:g}: it has few samples '
                f'for its proportion of {dataset.next_proportions[skill]:.3f}.',
                stacklevel=3,
            )
