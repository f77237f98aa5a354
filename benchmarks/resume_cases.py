"""The cases: what happens to a run, and what it is compared with.

The streams are 256, 128 and 128 numbered samples, and a pass over them is 32 steps of 16 samples. Each case is a
function of a :class:`Scene` and gives the outcome of one loader.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from counted import Outcome, compare, count_pass, refused
from rank_processes import Played, play
from resume_loaders import LOADERS, LoaderRun, Proportions, Stage

STREAMS = {'large': 256, 'medium': 128, 'small': 128}
GROWN = {**STREAMS, 'small': 256}
# Fewer samples than ranks times workers (8), and than a rank's batch (4).
TINY = {'large': 503, 'tiny': 6, 'tinier': 3}
CORPORA = {'streams': STREAMS, 'grown': GROWN, 'tiny': TINY}

STEPS_IN_ROUND = 8
# Inside the second round of ours, inside the epoch of the others.
SAVED, KILLED = 11, 14
# Three mixtures that make one pass: 32, 48, 48 samples, then 64, 32, 32, then twice 80, 24, 24.
NATURAL: Proportions = (0.5, 0.25, 0.25)
MIXTURES: dict[int, Proportions] = {
    0: (0.25, 0.375, 0.375),
    STEPS_IN_ROUND: (0.5, 0.25, 0.25),
    2 * STEPS_IN_ROUND: (0.625, 0.1875, 0.1875),
}
UNCHANGED = dict.fromkeys(MIXTURES, NATURAL)
# What is left after the first round when the small stream has grown: 192, 96 and 224 samples.
AFTER_GROWTH: Proportions = (0.375, 0.1875, 0.4375)


class RefusedError(Exception):
    """A start failed; its message is the loader's."""


@dataclass
class Scene:
    """One loader on this machine.

    Attributes:
        loader: A key of `LOADERS`.
        root: Holds the streams of `CORPORA`, a folder each, and takes what the starts write.
        corpus: Which of them is the one in `root` / present now; none at first.
    """

    loader: str
    root: Path
    corpus: str = ''
    _uninterrupted: dict[tuple, Played] = field(default_factory=dict)
    _starts: int = 0

    @property
    def kind(self) -> type[LoaderRun]:
        """The loader's class."""
        return LOADERS[self.loader]

    @property
    def streams(self) -> Mapping[str, int]:
        """Samples by stream."""
        return CORPORA[self.corpus]

    def start(self, **options: Any) -> Played:
        """Play a start of a run; raises `RefusedError`."""
        self._starts += 1
        stage = Stage(self.loader, self.root / 'present', self.streams, **options)
        folder = self.root / 'starts' / f'{self._starts}-{list(LOADERS).index(self.loader)}'
        played = play(stage, folder)
        if played.failure:
            raise RefusedError(played.failure)
        return played

    def uninterrupted(self, **options: Any) -> Played:
        """A pass without a stop; it is played once and remembered."""
        key = (self.corpus, repr(sorted(options.items())))
        if key not in self._uninterrupted:
            self._uninterrupted[key] = self.start(end=self.steps, **options)
        return self._uninterrupted[key]

    def killed(self, **options: Any) -> Played:
        """The beginning of a pass, killed after its checkpoint."""
        played = self.start(end=self.steps, save_at=SAVED, kill_at=KILLED, **options)
        if len(played.states) < len(played.batches):
            raise RefusedError(
                f'ended by itself before it was killed, after {len(played.steps())} of {self.steps} steps'
            )
        return played

    def resumed(self, before: Played, at: int = SAVED, **options: Any) -> list[list[int]]:
        """All that was drawn when a checkpoint is resumed: up to it, and after it."""
        after = self.start(begin=at, end=self.steps, states=before.states, **options)
        return before.steps(at) + after.steps()

    def show(self, corpus: str) -> None:
        """Let the folder of the streams hold this corpus."""
        present = self.root / 'present'
        if present.exists():
            present.rename(self.root / self.corpus)
        # Not a link: a loader may look through it, and its state would name another folder.
        (self.root / corpus).rename(present)
        self.corpus = corpus

    @property
    def steps(self) -> int:
        """Steps in a pass over the streams."""
        return sum(self.streams.values()) // 16

    def count(self, steps: list[list[int]], *, walks_all: bool = False) -> Outcome:
        """What became of the samples of a pass."""
        ends_early = self.kind.ends_with_a_stream and not walks_all
        return count_pass(steps, self.streams, ends_with_a_stream=ends_early)


def uninterrupted(scene: Scene) -> Outcome:
    """A pass without a stop."""
    return scene.count(scene.uninterrupted(walks_all=True).steps(), walks_all=True)


def change_mixture(scene: Scene) -> Outcome:
    """Other proportions after 8 and after 16 of 32 steps, which together make one pass."""
    return scene.count(scene.uninterrupted(mixtures=MIXTURES, steps_in_round=STEPS_IN_ROUND).steps())


def change_mixture_one_worker(scene: Scene) -> Outcome:
    """The same with one worker a rank."""
    options = dict(mixtures=MIXTURES, steps_in_round=STEPS_IN_ROUND, workers=1)
    return scene.count(scene.uninterrupted(**options).steps())


def unchanged_mixture(scene: Scene) -> Outcome:
    """What `change_mixture` does to the loader, with the same proportions each time."""
    return scene.count(scene.uninterrupted(mixtures=UNCHANGED, steps_in_round=STEPS_IN_ROUND).steps())


def change_and_kill(scene: Scene) -> Outcome:
    """The same, killed in the second mixture and resumed."""
    options: dict[str, Any] = dict(mixtures=MIXTURES, steps_in_round=STEPS_IN_ROUND)
    reference = scene.uninterrupted(**options).steps()
    return compare(scene.resumed(scene.killed(**options), **options), reference)


def kill(scene: Scene) -> Outcome:
    """SIGKILL inside a round, and a resumption from the last checkpoint, three steps before."""
    return compare(scene.resumed(scene.killed()), scene.uninterrupted().steps())


def kill_one_worker(scene: Scene) -> Outcome:
    """The same with one worker a rank."""
    return compare(scene.resumed(scene.killed(workers=1), workers=1), scene.uninterrupted(workers=1).steps())


def fewer_ranks(scene: Scene) -> Outcome:
    """Four ranks, resumed by two; the global batch stays."""
    return compare(scene.resumed(scene.killed(ranks=4)), scene.uninterrupted(ranks=4).steps())


def more_ranks(scene: Scene) -> Outcome:
    """Two ranks, resumed by four; the global batch stays."""
    return compare(scene.resumed(scene.killed(), ranks=4), scene.uninterrupted().steps())


def other_workers(scene: Scene) -> Outcome:
    """Two workers a rank, resumed with three."""
    return compare(scene.resumed(scene.killed(), workers=3), scene.uninterrupted().steps())


def grow_in_a_round(scene: Scene) -> Outcome:
    """Killed inside a round; resumed, a stream has twice its samples, and the pass is to take in the new ones."""
    before = scene.killed()
    scene.show('grown')
    return scene.count(scene.resumed(before))


def grow_between(scene: Scene) -> Outcome:
    """The same at the end of a round of ours, the pass unfinished; the others between two epochs."""
    if scene.kind.ends_with_epoch or not scene.kind.state_has_mixture:
        scene.show('grown')
        return scene.count(scene.uninterrupted(walks_all=True).steps(), walks_all=True)
    # One step into the next round it is killed: the checkpoint is that of the end of the round.
    before = scene.start(end=scene.steps, save_at=STEPS_IN_ROUND, kill_at=STEPS_IN_ROUND + 1)
    scene.show('grown')
    mixtures = {STEPS_IN_ROUND: AFTER_GROWTH}
    return scene.count(
        scene.resumed(before, at=STEPS_IN_ROUND, mixtures=mixtures, steps_in_round=STEPS_IN_ROUND)
    )


def tiny_streams(scene: Scene) -> Outcome:
    """Streams of 6 and 3 samples beside a large one, four ranks of two workers, four samples a batch."""
    scene.show('tiny')
    return scene.count(scene.uninterrupted(ranks=4).steps())


def tiny_and_kill(scene: Scene) -> Outcome:
    """The same, killed and resumed."""
    scene.show('tiny')
    return compare(scene.resumed(scene.killed(ranks=4), ranks=4), scene.uninterrupted(ranks=4).steps())


CASES: dict[str, Callable[[Scene], Outcome]] = {
    'no stop': uninterrupted,
    'mixture changed': change_mixture,
    'mixture changed, one worker a rank': change_mixture_one_worker,
    'mixture set anew, the same': unchanged_mixture,
    'mixture changed, then killed': change_and_kill,
    'killed': kill,
    'killed, one worker a rank': kill_one_worker,
    'ranks 4 to 2': fewer_ranks,
    'ranks 2 to 4': more_ranks,
    'workers 2 to 3': other_workers,
    'stream grown, inside a round': grow_in_a_round,
    'stream grown, between rounds': grow_between,
    'tiny streams': tiny_streams,
    'tiny streams, killed': tiny_and_kill,
}


def outcome_of(scene: Scene, case: str) -> Outcome:
    """Play a case with one loader."""
    scene.show('streams')
    try:
        return CASES[case](scene)
    except RefusedError as refusal:
        return refused(str(refusal))
