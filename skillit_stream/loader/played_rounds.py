"""What a training dataset says of its rounds: which is on, with which mixture, and what has been drawn."""

from typing import Any

from numpy.typing import NDArray

from skillit_stream.loader.rounds import Rounds
from skillit_stream.loader.skill_shards import SkillShards


class PlayedRounds(SkillShards):
    """Shards that are played in rounds."""

    _rounds: Rounds
    _round_size: int

    @property
    def round(self) -> int:
        """The round being played, or the one to be played first if none has begun."""
        return self._rounds.current

    @property
    def next_round(self) -> int:
        """The first round that has not begun: the one that :meth:`set_proportions` sets."""
        return self._rounds.upcoming

    @property
    def first_batch(self) -> int | None:
        """Global batch of its round with which the first iteration begins; None once one has begun."""
        return self._rounds.first_batch

    @property
    def proportions(self) -> dict[str, float]:
        """Proportions asked for in the current round, by skill."""
        return self._by_skill(self._rounds.proportions(self.round))

    @property
    def next_proportions(self) -> dict[str, float]:
        """Proportions asked for in the next round, by skill."""
        return self._by_skill(self._rounds.proportions(self.next_round))

    @property
    def round_size(self) -> int:
        """Samples in a round, all ranks together."""
        return self._round_size

    @property
    def global_batch_size(self) -> int:
        """Samples in a global batch."""
        return self._rounds.shape.global_batch

    @property
    def samples_seen(self) -> dict[str, int]:
        """Samples of each skill drawn by all rounds that have begun, the current one as a whole."""
        return self._by_skill(self._rounds.drawn_before(self.next_round))

    @property
    def pass_sizes(self) -> dict[str, int]:
        """Samples in a pass over each stream: all of it, or the part of it that may be drawn."""
        return self._by_skill(self._rounds.sizes)

    @property
    def passes(self) -> dict[str, float]:
        """How often each stream has been walked: samples seen over the samples that may be drawn of it."""
        return self._by_skill(self._rounds.drawn_before(self.next_round) / self._rounds.sizes)

    @property
    def samples(self) -> dict[str, int]:
        """Samples of each skill in the current round."""
        return self._by_skill(self._rounds.counts(self.round))

    @property
    def upcoming_passes(self) -> dict[str, float]:
        """How often each stream will have been walked at the end of the next round."""
        return self._by_skill(self._rounds.drawn_before(self.next_round + 1) / self._rounds.sizes)

    def _by_skill(self, values: NDArray) -> dict[str, Any]:
        return dict(zip(self.skills, values.tolist(), strict=True))
