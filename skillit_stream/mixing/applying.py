"""Policies that a run is given while it goes on (`skillit apply`): found at the end of a round, agreed, taken over.

What is given is a request in the run folder (:mod:`skillit_stream.formats.applied`). Rank 0 reads it; every rank
builds the policy and tries it on the round that has just ended. Where one of them cannot, all go on as before and
rank 0 warns of it once. What was taken is part of the driver's state, which so says which policy decides.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.base.files import from_plain
from skillit_stream.formats.applied import (
    REQUEST,
    TAKEN,
    Taken,
    digest_of_request,
    read_request,
    read_taken,
    write_taken,
)
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixing.checks import check_same_skills, require_losses
from skillit_stream.mixing.ranks import from_rank_zero, global_rank, on_every_rank, on_rank_zero
from skillit_stream.mixture import MixturePolicy, RoundObservation, RunContext, SkillsGraph
from skillit_stream.mixture.from_options import (
    PolicyBuilder,
    policy_inside_run,
    policy_of_options,
    written_out,
)


def builder_for(dataset: SkillStreamingDataset) -> PolicyBuilder:
    """Builds from what a dataset knows: the length of the run and the losses of single samples it does not."""

    def build(
        options: Mapping[str, Any], evaluated: Sequence[str]
    ) -> tuple[MixturePolicy, SkillsGraph | None]:
        context = RunContext(
            skills=dataset.skills,
            eval_skills=evaluated,
            sizes=dataset.pass_sizes,
            round_size=dataset.round_size,
            round_steps=dataset.round_size // dataset.global_batch_size,
        )
        return policy_of_options(options, context)

    return build


def policy_from(build: PolicyBuilder, taken: Taken) -> tuple[MixturePolicy, SkillsGraph | None]:
    """The policy of a request, and its graph; raises InputError."""
    return policy_inside_run(build, taken.mixing, begins=taken.from_round, evaluated=taken.evaluated)


def left_behind(from_round: int) -> InputError:
    """Why the state of a run that was given another policy is none of the policy that begins anew."""
    return InputError(f'`skillit apply` gave the run another policy in round {from_round}')


class Applying:
    """The requests of a run, and the policies that they give it; all ranks call it alike.

    Args:
        folder: The run folder; None: there are no requests.
        own: The policy that the run began with.
        build: Makes the policy of a request.
        admit: Refuses a policy that needs what this trainer does not measure.
    """

    def __init__(
        self,
        folder: Path | None,
        own: MixturePolicy,
        build: PolicyBuilder,
        admit: Callable[[MixturePolicy], None] | None = None,
    ) -> None:
        self.taken: Taken | None = None
        """The request whose policy decides; None: the run's own does."""
        self.graph: SkillsGraph | None = None
        """Of that policy."""
        self._folder, self._own, self._build = folder, own, build
        self._admit = admit or self._needs_no_more
        self._past: tuple[Taken, ...] = ()  # on rank 0
        self._refused: str | None = None
        self._looked_at: str | None = None
        self._notes: list[str] = []
        self._just_taken = False

    def start(self, *, resumed: bool) -> None:
        """Read what was taken before; raises InputError if the file of it is broken."""

        def read() -> None:
            self._past = read_taken(self._folder) if self._folder else ()

        on_rank_zero(read)
        if self._past and not resumed:
            at = ', '.join(str(one.from_round) for one in self._past)
            warnings.warn(
                f'{self._folder} has {TAKEN}: this run begins at round 0 and is given again what was applied at '
                f'round {at}; to begin without, remove that file and {REQUEST}.',
                stacklevel=3,
            )

    def due(self, observation: RoundObservation) -> tuple[Taken, MixturePolicy] | None:
        """What decides the round after the one that was observed, if it was given to the run.

        Returns:
            The request and its policy, which has seen nothing yet.

        Raises:
            InputError: What was taken before, by a process that was killed since, cannot be taken again.
        """
        self._notes, self._just_taken = [], False
        if self._folder is None:
            return None
        found: list[tuple[Taken, bool]] = []
        again = False
        try:
            on_rank_zero(lambda: found.extend(self._found(observation)))
            first = from_rank_zero(found[0] if found else None)
            if first is None:
                return None
            taken, again = first
            return taken, on_every_rank(lambda: self._tried(taken, observation))
        except InputError as error:
            if again:
                raise
            self.refuse(error)
            return None

    def take(self, taken: Taken) -> None:
        """Write down that a request decides from now on, before the checkpoint that holds it."""
        self.taken, self._just_taken = taken, True
        self._notes = ['apply: the run was given another policy (`skillit apply`)']
        if global_rank() == 0 and self._folder and taken not in self._past:
            self._past = (*self._past, taken)
            write_taken(self._folder, self._past)

    def refuse(self, error: InputError) -> None:
        """Warn, once, of a request that cannot be taken; the run goes on as before."""
        self._notes = [f'apply: refused, the mixture goes on as it is: {error}']
        if global_rank() == 0:
            self._refused = self._looked_at
            warnings.warn(self._notes[0], stacklevel=4)

    def notes(self) -> list[str]:
        """What happened at the end of the last round."""
        return self._notes

    def about(self, policy: MixturePolicy) -> dict[str, Any] | None:
        """For the line of the round after which a request was taken: from which round, which policy and graph."""
        if self.taken is None or not self._just_taken:
            return None
        return {
            'from_round': self.taken.from_round,
            'policy': policy.describe(),
            'graph': self.graph.to_dict() if self.graph else None,
        }

    def state_dict(self) -> dict[str, Any] | None:
        """What decides, in plain Python; None: the run's own policy."""
        return asdict(self.taken) if self.taken else None

    def restored(self, state: Mapping[str, Any] | None, *, begin_anew: bool) -> MixturePolicy:
        """The policy that decides by a state.

        Raises:
            InputError: It cannot be built any more, or is left behind: the run's own is to `begin_anew`.
        """
        self.taken = None
        if state is None:
            return self._own
        taken = from_plain(Taken, state)
        if begin_anew:
            raise left_behind(taken.from_round)
        policy, self.graph = policy_from(self._build, taken)
        self.taken = taken
        return policy

    def _found(self, observation: RoundObservation) -> list[tuple[Taken, bool]]:
        """The request for the coming round, its graph written out, and whether it was taken before; on rank 0."""
        upcoming, folder = observation.round + 1, self._folder
        if folder is None:
            return []
        if past := [one for one in self._past if one.from_round == upcoming]:
            return [(past[-1], True)]
        last = self._past[-1] if self._past else None
        if last and upcoming < last.from_round:  # going on from an older checkpoint comes first
            return []
        # Taken before it is read: of what replaces the file meanwhile it is not the digest.
        self._looked_at = digest_of_request(folder)
        if self._looked_at is None or self._looked_at == self._refused:
            return []
        request = read_request(folder)
        if request is None or not request.is_due(upcoming) or (last and last.digest == request.digest):
            return []
        taken = Taken(
            from_round=upcoming,
            mixing=request.mixing,
            digest=request.digest,
            evaluated=list(observation.eval_losses),
        )
        with _whatever_it_raises():
            _, graph = policy_from(self._build, taken)
        return [(replace(taken, mixing=written_out(request.mixing, graph)), False)]

    def _tried(self, taken: Taken, observation: RoundObservation) -> MixturePolicy:
        """The policy of a request, once another one like it has decided the coming round."""
        with _whatever_it_raises():
            policy, self.graph = policy_from(self._build, taken)
            check_same_skills(policy, tuple(observation.proportions or ()))
            self._admit(policy)
            require_losses(policy, observation.eval_losses, f'at the end of round {observation.round}')
            policy.update(observation)
            return policy_from(self._build, taken)[0]

    def _needs_no_more(self, policy: MixturePolicy) -> None:
        """Refuse a policy that needs what the run's own does not, which nobody may measure."""
        for need in ('train_losses', 'gradients'):
            if getattr(policy, f'needs_{need}') and not getattr(self._own, f'needs_{need}'):
                raise InputError(f'policy {policy.name!r} needs {need}, which this trainer does not measure')
        if policy.weighs_tokens and not self._own.weighs_tokens:
            raise InputError(f'policy {policy.name!r} weighs tokens, which this trainer does not')


@contextmanager
def _whatever_it_raises() -> Iterator[None]:
    """Within this context any error is the policy's, which may be the user's own code: an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f'{type(error).__name__}: {first_line(error)}') from error
