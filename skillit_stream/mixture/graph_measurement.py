"""How a skills graph was learned: signed effects, their standard errors, and what the short runs started from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillit_stream.base.errors import InputError

SCRATCH, CHECKPOINT, PRETRAINED = 'scratch', 'checkpoint', 'pretrained'
EARLY, MIDDLE, FINISHED = 'early', 'middle', 'finished'
# Parts of a run: the first third, and the last tenth, in which most schedules have come down.
MIDDLE_FROM, FINISHED_FROM = 1 / 3, 0.9
# Two-sided 95 % of Student's t with 1, 2, ... degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)


@dataclass(frozen=True, kw_only=True)
class StartOfRuns:
    """The weights that the short runs of a graph started from."""

    weights: str
    """`scratch`, `checkpoint` (of a run) or `pretrained` (a model of transformers)."""
    path: str | None = None
    """The checkpoint, or the name of the pretrained model."""
    step: int | None = None
    """Of the checkpoint; None: not known."""
    of_steps: int | None = None
    """Steps of its whole run; None: not known."""

    @property
    def part(self) -> str | None:
        """`scratch`, or the part of its run: `early`, `middle` or `finished`; None: not known."""
        if self.weights == SCRATCH or self.step == 0:
            return SCRATCH
        if self.weights == PRETRAINED:
            return FINISHED
        if self.step is None or not self.of_steps:
            return None
        done = self.step / self.of_steps
        return EARLY if done < MIDDLE_FROM else FINISHED if done >= FINISHED_FROM else MIDDLE

    @property
    def words(self) -> str:
        """The start in a few words, such as `early, step 200 of 2,000 (ep2-ba200-rank0.pt)`."""
        if self.weights == SCRATCH:
            return SCRATCH
        name = PurePosixPath(self.path or 'unnamed').name
        if self.weights == PRETRAINED:
            return f'{FINISHED}, pretrained weights ({name})'
        if self.step is None:
            return f'a checkpoint of unknown step ({name})'
        length = f' of {self.of_steps:,}' if self.of_steps else ' of a run of unknown length'
        return f'{self.part or CHECKPOINT}, step {self.step:,}{length} ({name})'

    def to_dict(self) -> dict[str, Any]:
        """Plain Python, its part among it."""
        return {**asdict(self), 'part': self.part}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> 'StartOfRuns':
        """Inverse of `to_dict`.

        Raises:
            InputError: The kind of weights is none of the three.
        """
        kinds = (SCRATCH, CHECKPOINT, PRETRAINED)
        if data['weights'] not in kinds:
            raise InputError(f'start.weights must be one of {", ".join(kinds)}, but got: {data["weights"]!r}')
        return cls(**{key: data[key] for key in ('weights', 'path', 'step', 'of_steps')})


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """What a graph was read from. Arrays are float64 ``[k, m]`` as its weights; NaN: not measured."""

    method: str
    """`approximate` or `brute-force`."""
    effects: NDArray[np.float64]
    """The weights before they are clipped at 0: below 0, training on the row hurts the column."""
    steps: int | None = None
    """Of each short run; None: not known."""
    start: StartOfRuns | None = None
    """What they started from; None: not known."""
    repeats: int = 1
    """How often each run was done, each time with another order of the samples."""
    standard_errors: NDArray[np.float64] | None = None
    """Of the effects, over the repeats; None where there is one."""

    @property
    def within_noise(self) -> NDArray[np.bool_]:
        """Effects whose 95 % confidence interval (Student's t over the repeats) holds 0, bool ``[k, m]``.

        None of them where there are no repeats: then nothing is known of the noise.
        """
        if self.standard_errors is None:
            return np.zeros(self.effects.shape, dtype=bool)
        interval = student_95(self.repeats - 1) * self.standard_errors
        return np.isfinite(self.effects) & ~(np.abs(self.effects) > interval)

    def taken(self, rows: Sequence[int | None], columns: Sequence[int | None]) -> 'Measurement':
        """The measurement of these rows and columns; None: one that was not measured."""

        def cut(array: NDArray[np.float64]) -> NDArray[np.float64]:
            padded = np.pad(array, ((0, 1), (0, 1)), constant_values=np.nan)
            return padded[
                np.ix_(*([-1 if at is None else at for at in side] for side in (rows, columns)))
            ].copy()

        return Measurement(
            method=self.method,
            effects=cut(self.effects),
            steps=self.steps,
            start=self.start,
            repeats=self.repeats,
            standard_errors=None if self.standard_errors is None else cut(self.standard_errors),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain Python; what was not measured is None."""
        errors = self.standard_errors
        return {
            'method': self.method,
            'steps': self.steps,
            'start': self.start.to_dict() if self.start else None,
            'repeats': self.repeats,
            'effects': _plain(self.effects),
            'standard_errors': None if errors is None else _plain(errors),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], shape: tuple[int, int]) -> 'Measurement':
        """Inverse of `to_dict`.

        Raises:
            InputError: A key is missing, or an array has another shape than the graph's weights.
        """
        try:
            errors, start = data['standard_errors'], data['start']
            return cls(
                method=str(data['method']),
                effects=_array('effects', data['effects'], shape),
                steps=data['steps'],
                start=None if start is None else StartOfRuns.from_dict(start),
                repeats=int(data['repeats']),
                standard_errors=None if errors is None else _array('standard_errors', errors, shape),
            )
        except KeyError as error:
            raise InputError(f'measured must hold {error}') from None
        except TypeError:
            raise InputError('measured must be what `skillit graph learn` writes') from None


def student_95(freedom: int) -> float:
    """How many standard errors a two-sided 95 % interval reaches to each side; 1.96 with many degrees of freedom."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = 1.959964  # Cornish and Fisher's expansion, here within 0.002
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _plain(array: NDArray[np.float64]) -> list[list[float | None]]:
    return [[value if np.isfinite(value) else None for value in row] for row in array.tolist()]


def _array(name: str, rows: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    try:
        # None becomes NaN.
        array = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f'measured.{name} must be a rectangular matrix of numbers') from None
    if array.shape != shape:
        raise InputError(f'measured.{name} must have shape {shape}, as the weights, but got: {array.shape}')
    return array
