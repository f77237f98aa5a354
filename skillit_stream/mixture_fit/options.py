"""What to fit and within which limits, checked as far as that goes without the runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest
from skillit_stream.mixture.checks import whole_number
from skillit_stream.mixture_fit.laws import LAWS

SEARCHES = ('exact', 'regmix', 'simulation')
"""The minimum of a convex law; the mean of RegMix's best simulated mixtures; Olmix's simulation in steps."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What to fit and within which limits."""

    law: str
    """A name in `laws.LAWS`."""
    target: str | Mapping[str, float] = 'mean'
    """What to lower: `mean` of all metrics, the name of one, or a weight for each."""
    sizes: Mapping[str, float] | None = None
    """Tokens that each skill has; the natural mixture is in proportion to them."""
    tokens: int | None = None
    """Training tokens of the real run."""
    max_passes: float | None = None
    """No skill's tokens may be walked more often than this in the real run (needs `tokens` and `sizes`)."""
    search: str | None = None
    """A name in `SEARCHES`; None: the law's own."""
    pull: float | None = None
    """λ of the pull towards the natural mixture, in the target's unit; None: the law's own with its own search."""
    keep: Mapping[str, float] | None = None
    """An old mixture: skills not in `changed` keep their ratio among themselves."""
    changed: Sequence[str] = field(default=())
    """Skills that changed or are new."""
    folds: int = 5
    """Folds of the cross-validation; one for each run if there are fewer runs."""
    seed: int = 0
    """Of the folds and of simulated mixtures."""

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise InputError(f'unknown law {self.law!r}; {nearest(self.law, LAWS)}')
        if self.search not in (None, *SEARCHES):
            raise InputError(f'unknown search {self.search!r}; {nearest(str(self.search), SEARCHES)}')
        if self.search == 'exact' and not LAWS[self.law].convex:
            raise InputError(
                f'--search exact needs a convex law (data-mixing, log-linear), but got: {self.law}'
            )
        whole_number('--folds', self.folds, 2)
        whole_number('--seed', self.seed)
        for name, value in (('--tokens', self.tokens), ('--max-passes', self.max_passes)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f'{name} must be above 0, but got: {value}')
        if self.pull is not None and not 0 <= self.pull < math.inf:
            raise InputError(f'--pull must be 0 or more, but got: {self.pull}')
        if self.max_passes is not None and self.tokens is None:
            raise InputError(
                f'--max-passes {self.max_passes:g} needs the training tokens of the real run: add --tokens'
            )
        if self.tokens is not None and self.sizes is None:
            raise InputError('--tokens needs the tokens that each skill has: add --natural or --streams')
        if bool(self.changed) != (self.keep is not None):
            raise InputError(
                '--keep and --changed go together: an old mixture, and the skills that changed since'
            )
        if self.effective_pull and self.sizes is None:
            raise InputError(
                f'--law {self.law} with a pull of {self.effective_pull:g} needs the natural mixture: '
                'add --natural or --streams, or --pull 0'
            )

    @property
    def effective_pull(self) -> float:
        """λ, the law's own unless told otherwise; 0 where another search is asked for."""
        if self.pull is not None:
            return self.pull
        return LAWS[self.law].pull if self.effective_search == 'exact' else 0.0

    @property
    def effective_search(self) -> str:
        """A name in `SEARCHES`, the law's own unless told otherwise."""
        return self.search or ('exact' if LAWS[self.law].convex else 'regmix')
