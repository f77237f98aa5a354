"""What a run drew, beside what it should have drawn, in numbers of samples and in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numbered_streams import APART, numbers_of


@dataclass(frozen=True)
class Outcome:
    """What became of the samples.

    Attributes:
        words: The same in words.
        lost: Samples that should have been drawn and were not; None: it was not run to where that can be said.
        repeated: Draws beyond those that a sample should have.
    """

    words: str
    lost: int | None = None
    repeated: int | None = None


Steps = Sequence[Sequence[int]]


def compare(steps: Steps, reference: Steps) -> Outcome:
    """A resumed run beside an uninterrupted one, step by step.

    A sample is lost that the uninterrupted run draws and this one does not; it is repeated when it is drawn oftener
    than there, if it is drawn there at all, and oftener than once.
    """
    drawn, expected = _flat(steps), _flat(reference)
    if drawn == expected:
        return Outcome('same order', 0, 0)
    if [sorted(step) for step in steps] == [sorted(step) for step in reference]:
        return Outcome('same batches, other order inside', 0, 0)
    got, wanted = Counter(drawn), Counter(expected)
    if got == wanted:
        return Outcome('same samples, other batches', 0, 0)
    lost = (wanted - got).total()
    repeated = sum(max(0, draws - max(1, wanted[number])) for number, draws in got.items())
    return Outcome(f'{lost} lost, {repeated} repeated', lost, repeated)


def count_pass(steps: Steps, streams: Mapping[str, int], *, ends_with_a_stream: bool = False) -> Outcome:
    """A pass over the streams, in which every sample is to be drawn once.

    With `ends_with_a_stream` the pass is over when one stream is: what that one lost can be counted, and what the
    others have left is not lost.
    """
    drawn = _flat(steps)
    draws = Counter(drawn)
    missing = [number for number in numbers_of(streams) if not draws[number]]
    repeated = len(drawn) - len(draws)
    if not ends_with_a_stream:
        return Outcome(f'{len(missing)} lost, {repeated} repeated', len(missing), repeated)
    by_stream = Counter(number // APART for number in drawn)
    walked = max(range(len(streams)), key=lambda place: by_stream[place] / list(streams.values())[place])
    lost = sum(number // APART == walked for number in missing)
    left = len(missing) - lost
    return Outcome(f'{lost} lost, {repeated} repeated, {left} left at its end', lost, repeated)


def refused(message: str, length: int = 160) -> Outcome:
    """A run that ended with an error, hung, or was over too soon."""
    is_error = not message.startswith(('hung', 'ended'))
    return Outcome(f'refused: {_cut(message, length)}' if is_error else message)


def _flat(steps: Steps) -> list[int]:
    return [number for step in steps for number in step]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + '…'
