"""A round as its end needs to know it, which may come in another process than the round was played in."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import RoundRecord
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixing.round_mixture import RoundMixture
from skillit_stream.mixture import RoundObservation


@dataclass(frozen=True)
class RoundSummary:
    """A round, or the first steps of one, that was played; its fields are plain Python, for checkpoints."""

    number: int
    proportions: dict[str, float]
    samples: dict[str, Any]
    samples_seen: dict[str, int]
    """By its end, all rounds together."""
    passes: dict[str, float]
    state: dict[str, Any]
    """The dataset's at its start."""

    @classmethod
    def of(cls, dataset: SkillStreamingDataset) -> 'RoundSummary':
        """The dataset's present round."""
        return cls(
            number=dataset.round,
            proportions=dataset.proportions,
            samples=dict(dataset.samples),
            samples_seen=dataset.samples_seen,
            passes=dataset.passes,
            state=dataset.round_state(),
        )

    @classmethod
    def beginning_of(cls, dataset: SkillStreamingDataset, steps: int) -> 'RoundSummary':
        """The first `steps` global batches of the dataset's present round."""
        ids = dataset.sample_ids(dataset.round)[: steps * dataset.global_batch_size]
        skills = np.searchsorted(dataset.samples_per_stream.cumsum(), ids, side='right')
        counts = np.bincount(skills, minlength=len(dataset.skills)).tolist()
        samples = dict(zip(dataset.skills, counts, strict=True))
        whole = dataset.samples
        seen = {skill: total - whole[skill] + samples[skill] for skill, total in dataset.samples_seen.items()}
        return cls(
            number=dataset.round,
            proportions=dataset.proportions,
            samples=samples,
            samples_seen=seen,
            passes={skill: seen[skill] / size for skill, size in dataset.pass_sizes.items()},
            state=dataset.round_state(),
        )

    def observation(
        self,
        losses: Mapping[str, float],
        train_losses: Mapping[str, float] | None,
        gradients: Mapping[str, Mapping[str, float]] | None,
    ) -> RoundObservation:
        """What a policy is shown at its end."""
        return RoundObservation(
            round=self.number,
            eval_losses=dict(losses),
            train_losses=None if train_losses is None else dict(train_losses),
            proportions=self.proportions,
            samples_seen=self.samples_seen,
            gradients=None if gradients is None else {skill: dict(row) for skill, row in gradients.items()},
        )

    def record(self, mixture: RoundMixture | None, **others: Any) -> RoundRecord:
        """Its line of the log.

        Args:
            mixture: That was decided last, for this round or another.
            **others: RoundRecord's fields that the dataset knows nothing of.
        """
        drawn = sum(self.samples.values())
        objective = mixture.objective if mixture and mixture.round == self.number else None
        return RoundRecord(
            round=self.number,
            proportions=self.proportions,
            objective=objective or {},
            realised={skill: count / drawn for skill, count in self.samples.items()},
            samples=self.samples,
            passes=self.passes,
            state=self.state,
            **others,
        )


def place_after(
    dataset: SkillStreamingDataset, steps: int, *, was_ended: bool, unended: RoundSummary | None
) -> dict[str, Any]:
    """Where a run goes on that has trained so much of the dataset's present round, in plain Python.

    Args:
        dataset: That is trained on.
        steps: Global batches of its present round that were trained, counted from the round's beginning.
        was_ended: Whether that round was ended, and its mixture's successor set.
        unended: The round before it, where that was loaded with its end still to come.

    Returns:
        ``dataset``, its state, and ``unended``, the round whose end is still to come, or None.

    Raises:
        InputError: A round has fewer steps.
    """
    whole = _steps_of_round(dataset)
    if not 0 <= steps <= whole:
        raise InputError(f'`steps` must be from 0 to the {whole} of a round, but got: {steps}.')
    if steps == whole and not was_ended:
        unended = unended or RoundSummary.of(dataset)
    if was_ended or unended:
        # Of the round that comes next.
        state = dataset.state_dict(0, from_beginning=True)
    else:
        samples = steps * dataset.global_batch_size * (dataset.replication or 1)
        # Workers may have dealt all of a short round out before the first step.
        state = dataset.state_dict(samples, from_beginning=steps > 0)
    return {'dataset': state, 'unended': asdict(unended) if unended else None}


def check_whole(dataset: SkillStreamingDataset, steps: int) -> None:
    """Refuse to end the dataset's present round while batches of it are left; raises InputError."""
    whole = _steps_of_round(dataset)
    if steps < whole:
        raise InputError(
            f'Round {dataset.round} cannot end after {steps} of its {whole} batches: train on all of '
            f'`batches(loader)`, or call end_within_round where training ends inside a round.'
        )


def _steps_of_round(dataset: SkillStreamingDataset) -> int:
    return dataset.round_size // dataset.global_batch_size
