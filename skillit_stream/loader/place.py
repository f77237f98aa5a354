"""Where one process is in the round that it plays, for loaders that keep a state per worker."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from torch.utils.data import get_worker_info

from skillit_stream.base.errors import InputError
from skillit_stream.loader.host.other_loaders import refuse_other_division
from skillit_stream.loader.rounds import Rounds, Turn

PLACE_VERSION = 1
Drawn = TypeVar('Drawn')


@dataclass
class Place:
    """A worker of a DataLoader, or a process that iterates by itself, in a round."""

    round: int
    batch: int
    """Global batch of the round that it draws next; at or beyond their number once it has drawn all of its own."""
    worker: int = 0
    workers: int = 1

    def to_plain(self) -> dict[str, Any]:
        """In plain Python."""
        return {'place_version': PLACE_VERSION, **asdict(self)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> 'Place':
        """Inverse of `to_plain`; raises InputError for another version."""
        rest = dict(plain)
        if (version := rest.pop('place_version')) != PLACE_VERSION:
            raise InputError(
                f"The state of a loader's worker must be of version {PLACE_VERSION}, but got: {version}."
            )
        return cls(**rest)

    def first_batch(self, here: tuple[int, int], base: tuple[int, int], batches: int) -> int | None:
        """The global batch to play this place's round from, as worker 0 would.

        Args:
            here: Number of the worker that asks, and how many there are.
            base: Round and global batch of the state that the dataset itself has loaded.
            batches: Global batches of a round.

        Returns:
            None: the round is over, and the base is the start of the next.

        Raises:
            InputError: The place is another worker's, or of another step than the base.
        """
        if here != (self.worker, self.workers):
            raise InputError(
                f'The state is of worker {self.worker} of {self.workers}, but got it in worker {here[0]} of {here[1]}: '
                f'a loader that keeps a state per worker goes on with as many as before. To go on with others, load '
                f"the state of MixtureDriver or of the dataset alone, and not the loader's."
            )
        number, step = base
        if (self.round + 1, 0) == base and self.batch >= batches:
            return None
        if self.round != number or not step <= self.batch < step + self.workers:
            raise InputError(
                f"The loader's state is of round {self.round}, its worker {self.worker} before batch {self.batch}, but "
                f'the dataset is in round {number} before batch {step}: load the state of the same step into the '
                f'dataset first (MixtureDriver.load_state_dict, or its own), in the process that has the loader; a '
                f'StatefulDataLoader needs snapshot_every_n_steps=1.'
            )
        return self.batch - self.worker


class OwnPlace:
    """The place of this process; every worker has a copy of its own."""

    def __init__(self) -> None:
        self._place = Place(round=-1, batch=0)
        self._loaded: Place | None = None
        # A state of a round's start, or of its middle, has been loaded, and nothing was drawn since.
        self._at_start = self._is_within = False

    def restart(self, sample: int) -> None:
        """The dataset has loaded a state of so many samples of a round."""
        self._at_start, self._is_within = not sample, sample > 0

    def begins_late(self) -> bool:
        """Whether the next iteration counts from its first sample on alone.

        A loader that keeps states, and was stopped between two rounds, iterates once in vain after it has loaded one.

        Raises:
            InputError: Another library would drop part of that iteration.
        """
        refuse_other_division(resumed=self._is_within)
        return self._at_start and get_worker_info() is None

    def begin_late(self, dataset: Iterable[Drawn]) -> Iterator[Drawn]:
        """Iterate when drawn from."""
        self._at_start = False
        yield from dataset

    def load(self, plain: Mapping[str, Any]) -> None:
        """Have the next iteration go on at the place of a worker; raises InputError for one of another version."""
        self._loaded = Place.from_plain(plain)

    def to_plain(self) -> dict[str, Any]:
        """The place in plain Python."""
        return self._place.to_plain()

    def advance(self) -> None:
        """A batch has been drawn."""
        self._place.batch += self._place.workers

    def begin(self, rounds: Rounds, refusal: InputError | None, worker: int, workers: int) -> Turn | None:
        """Begin to iterate, unless there is a refusal; None where the place that was loaded is at its round's end.

        A place of another worker, or of another step than the dataset's state, is a refusal too: one is raised when
        the turn is played.
        """
        loaded, self._loaded, self._is_within = self._loaded, None, False
        own = None
        if loaded:
            base, sample = rounds.base
            step = sample // rounds.shape.global_batch
            try:
                own = loaded.first_batch((worker, workers), (base, step), rounds.shape.batches)
            except InputError as error:
                refusal = refusal or error
            else:
                if own is None:
                    self._place = replace(loaded)
                    return None
        turn = rounds.begin(refusal)
        turn = turn if own is None else turn._replace(first=own)
        self._place = Place(turn.number, turn.first + worker, worker, workers)
        return turn

    def samples_drawn(self, rounds: Rounds) -> int:
        """Samples of the current round that a process which iterates by itself has drawn for all ranks.

        0 after the last, as Composer counts, whose round is then over.

        Raises:
            InputError: Workers have drawn them.
        """
        batch = rounds.first_batch
        if batch is None:
            if self._place.round != rounds.current:
                raise InputError(
                    '`num_samples` must be given, for workers of a DataLoader have drawn samples, and how many of '
                    'them were trained on is not known here: let MixtureDriver.batches count them.'
                )
            batch = self._place.batch
        return batch % rounds.shape.batches * rounds.shape.global_batch
