"""What the folder of a run says of it: what a policy of it is built from, and how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain, read_json
from skillit_stream.base.names import is_url
from skillit_stream.formats.applied import Taken, read_taken
from skillit_stream.formats.run_log import RecordedRounds, RoundRecord, read_rounds
from skillit_stream.mixture import MixturePolicy, RunContext, SkillsGraph
from skillit_stream.mixture.from_options import policy_of_options

LOG, ABOUT, CONFIG = 'mixture.jsonl', 'run.json', 'config.yaml'


@dataclass(frozen=True, kw_only=True)
class _About:
    """What is needed of run.json."""

    name: str = ''
    policy: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    graph: dict[str, Any] | None = None
    rounds: int | None = None
    eval_skills: list[str] | None = None
    evaluates_rounds: bool | None = None


class RunFacts:
    """A run folder: of `skillit train`, or of a trainer of one's own that has a driver write mixture.jsonl there.

    Args:
        folder: The run's `save_folder`.

    Raises:
        InputError: It is none, a file is broken, or nothing is known of the run yet.
    """

    def __init__(self, folder: str | Path) -> None:
        if is_url(str(folder)):
            raise InputError(
                f'RUN must be the folder here that the run writes to (`save_folder`), but got: {folder}; a remote '
                f'checkpoint folder has copies alone.'
            )
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f'There is no run folder at {folder}: give the `save_folder` of a run.')
        path, log = self.folder / ABOUT, self.folder / LOG
        if not path.is_file() and not log.is_file():
            raise InputError(f'{folder} has no {ABOUT} and no {LOG}: no run has begun there.')
        try:
            self.about = from_plain(_About, read_json(path)) if path.is_file() else _About()
        except ValueError as error:
            raise InputError(f'{path}: {error}; restore the file.') from None
        self.log = read_rounds(log) if log.is_file() else RecordedRounds((), 0, 0)

    @property
    def name(self) -> str:
        """Of the run."""
        return self.about.name or self.folder.resolve().name

    @property
    def rounds(self) -> Sequence[RoundRecord]:
        """Lines of rounds, the last perhaps of one in which training ended."""
        return self.log.rounds

    @cached_property
    def ended(self) -> Sequence[RoundRecord]:
        """The rounds that have ended."""
        return [record for record in self.rounds if record.ended_after is None]

    @property
    def under_way(self) -> int:
        """The round whose mixture was decided last."""
        return self.ended[-1].round + 1 if self.ended else 0

    @cached_property
    def dataset(self) -> Mapping[str, Any]:
        """What the run's dataset says of itself; raises InputError if nothing does."""
        found = self.rounds[-1].state if self.rounds else None
        found = found or self.about.dataset
        if not found or not isinstance(found.get('streams'), dict):
            raise InputError(
                f'{self.folder} does not say what the run trains on: no round of it has ended yet.'
            )
        return found

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Samples of each train stream that may be drawn."""
        return {
            skill: int(stream.get('subset') or stream['samples'])
            for skill, stream in self.dataset['streams'].items()
        }

    @cached_property
    def eval_skills(self) -> list[str]:
        """Skills that are evaluated, as far as is known."""
        if self.about.eval_skills is not None:
            return self.about.eval_skills
        losses = next((one.losses for one in reversed(self.log.records) if one.losses), None)
        return list(losses or (self.about.graph or {}).get('eval_skills', ()))

    @cached_property
    def taken(self) -> tuple[Taken, ...]:
        """What `skillit apply` has given the run; raises InputError if the file is broken."""
        return read_taken(self.folder)

    def build(
        self, options: Mapping[str, Any], evaluated: Sequence[str]
    ) -> tuple[MixturePolicy, SkillsGraph | None]:
        """A policy for this run and its graph; raises InputError if the run would refuse it."""
        dataset, rounds = self.dataset, self.about.rounds
        round_steps = int(dataset['round_size']) // int(dataset['global_batch_size'])
        context = RunContext(
            skills=list(self.sizes),
            eval_skills=evaluated,
            sizes=self.sizes,
            rounds=rounds,
            round_size=int(dataset['round_size']),
            round_steps=round_steps,
            run_steps=None if rounds is None else rounds * round_steps,
        )
        policy, graph = policy_of_options(options, context, streams_graph=self._streams_graph)
        if missing := [skill for skill in policy.eval_skills if skill not in evaluated]:
            raise InputError(
                f'the policy needs the loss of {missing[0]}, which the run does not evaluate (it does: '
                f'{", ".join(evaluated)})'
            )
        if policy.eval_skills and self.about.evaluates_rounds is False:
            raise InputError(
                f'policy {policy.name!r} needs losses at the end of every round, which `eval_interval` passes over'
            )
        return policy, graph

    def _streams_graph(self) -> Path:
        """The graph that lies in the streams folder."""
        if not (self.folder / CONFIG).is_file():
            raise InputError(
                f'`graph=streams`: {self.folder} has no {CONFIG}, which names the streams: name a file'
            )
        # Only then: Streaming takes its time to be imported.
        from skillit_stream.training.config import load_config
        from skillit_stream.training.streams_folder import own_graph

        return own_graph(load_config(self.folder / CONFIG))
