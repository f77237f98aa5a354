"""Checks of what comes in by name: proportions and saved states."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.errors import InputError
from skillit_stream.mixture.apportion import checked_proportions


def named_shares(proportions: Mapping[str, float], skills: Sequence[str]) -> NDArray[np.float64]:
    """Proportions by name as float64 [skills], in the order of `skills`.

    Raises:
        InputError: A skill is missing or unknown, or the shares are not shares that sum to 1.
    """
    missing = [skill for skill in skills if skill not in proportions]
    unknown = [name for name in proportions if name not in skills]
    if missing or unknown:
        problem = f'no share for {missing[0]!r}' if missing else f'a share for unknown skill {unknown[0]!r}'
        raise InputError(
            f'`proportions` must name every skill once ({_shortened(skills)}), but has {problem}.'
        )
    return checked_proportions([float(proportions[skill]) for skill in skills])


def check_state(state: Mapping[str, Any], present: Mapping[str, Any], version: int) -> None:
    """Refuse a dataset state that does not fit the present dataset.

    Args:
        state: As saved by ``SkillStreamingDataset.state_dict``.
        present: What ``SkillStreamingDataset.describe`` says of it.
        version: The version that can be read.
    """
    if state.get('version') != version:
        raise InputError(
            f'The dataset state must be of version {version}, but got: {state.get("version")}; it may come from '
            f'another kind of dataset.'
        )
    for skill in state['streams'].keys() | present['streams'].keys():
        before, now = (
            streams.get(skill, {}).get('samples') for streams in (state['streams'], present['streams'])
        )
        if before != now:
            raise InputError(
                f'The streams must be those of the saved state, but {skill} had '
                f'{before or "no"} samples and has {now or "none"} now: resume with the same streams folder.'
            )
    in_the_middle = state['sample_in_epoch'] > 0
    for name in ('round_size', 'global_batch_size', 'batching'):
        if in_the_middle and state[name] != present[name]:
            raise InputError(
                f'`{name}` must stay {state[name]} until the round that was interrupted at sample '
                f'{state["sample_in_epoch"]} is over, but got: {present[name]}.'
            )


def _shortened(names: Sequence[str], most: int = 8) -> str:
    shown = ', '.join(names[:most])
    return shown if len(names) <= most else f'{shown}, ... {len(names) - most} more'
