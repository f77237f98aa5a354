"""Where Skill-It's published code departs from its paper: each an option, the paper the default."""

from dataclasses import dataclass, fields, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import one_of
from skillit_stream.mixture.graph import SkillsGraph


@dataclass(frozen=True, kw_only=True)
class SkillItVariant:
    """Variations of Skill-It. In brackets the flag of the published code that does the same.

    Some things of that code are not offered, as they are slips rather than choices. Its "initial" losses
    are measured after the first optimizer step. With lone nodes held, `eta_schedule` divides a sum over
    all skills by a sum over the connected ones (here both run over the connected ones), a lone node must
    have a weight of exactly 1 on itself, and there have to be a prior and a lone node. With a window of 0
    (refused here) every update gives a matrix in place of a mixture: equal proportions, whatever the prior,
    where the graph is square, NaN under a target mask, an error out of domain.
    """

    window_in: str = 'rounds'
    """What the window counts: 'rounds' (the last evaluation of each) or single 'evaluations'."""

    reduce: str = 'sum'
    """How losses are put together over the window: 'sum', or 'mean' [with --target_mask]."""

    losses: str = 'raw'
    """'raw' in nats, or 'relative': divided by the first losses, skill by skill [--normalize_loss]."""

    eta_schedule: str = 'fixed'
    """'fixed', or 'adaptive': eta / (sum of the newest losses / sum of the first) [--eta_schedule]."""

    first_losses: int = 0
    """Which evaluation counts as the first: 0, or 1, the one after it, once there is one."""

    pad_window: bool = False
    """Before all evaluations put one whose losses all are the mean of the first [--initialize_loss]."""

    initial_losses: str = 'ones'
    """What stands for the losses in the first mixture: 'ones', or the weights of the 'prior'."""

    unit_edges: str = 'keep'
    """'keep', or 'half': a weight of exactly 1 between different skills is read as 0.5."""

    hold_lone: bool = False
    """Hold skills without an edge to or from another at 1/k [--ignore_lone_nodes]."""

    damp_edges: bool = False
    """Halve the positive weights between different skills after every update [--dynamic_lambda]."""

    diagonal: str = 'skill'
    """Which weights are a skill's on itself, for `unit_edges` and `damp_edges`: row and column of one 'skill', or
    of one 'position' (for damping: in a graph of as many columns as rows)."""

    compound: bool = False
    """Multiply by the mixture before, as multiplicative weights do, instead of by the prior."""

    def __post_init__(self) -> None:
        """Refuse values that are no choice.

        Raises:
            InputError: Naming the option and its choices.
        """
        for option, choices in CHOICES.items():
            one_of(option, getattr(self, option), choices)

    @property
    def looks_back(self) -> bool:
        """Whether the losses before training matter however long the run."""
        return self.pad_window or self.losses == 'relative' or self.eta_schedule == 'adaptive'

    def edges(self, graph: SkillsGraph) -> NDArray[np.float64]:
        """Return the weights as read under `unit_edges`, float64 ``[k, m]``."""
        if self.unit_edges == 'keep':
            return graph.weights
        own = graph.same_skill if self.diagonal == 'skill' else np.eye(*graph.weights.shape, dtype=np.bool_)
        return np.where((graph.weights == 1.0) & ~own, 0.5, graph.weights)

    def damped(self, graph: SkillsGraph) -> NDArray[np.bool_]:
        """Which weights `damp_edges` halves after every update, bool ``[k, m]``."""
        own = graph.same_skill
        if self.diagonal == 'position':
            rows, columns = own.shape
            own = np.eye(rows, columns, dtype=np.bool_) & (rows == columns)
        return (graph.weights > 0) & ~own & self.damp_edges

    def check_graph(self, graph: SkillsGraph) -> None:
        """Refuse options that have no meaning for this graph.

        Raises:
            InputError: Naming the option and what it needs.
        """
        needy = [('hold_lone', self.hold_lone), ("initial_losses='prior'", self.initial_losses == 'prior')]
        for option, chosen in needy:
            if chosen and not graph.is_square:
                raise InputError(
                    f'{option} needs a skills graph with the same skills on both sides, but got: '
                    f'{len(graph.train_skills)} train skills and {len(graph.eval_skills)} eval skills'
                )

    def published(self, graph: SkillsGraph, *, targets: bool = False) -> 'SkillItVariant':
        """Add what the published code always does; its flags stay as they are set here.

        It counts evaluations, reads unit edges as 0.5, takes a mean where the graph's columns are
        target skills, lets the second evaluation replace the first as reference, and starts a graph
        of equal sides from the prior, unless these are all targets. Of skills out of domain it takes those of
        one position for one skill. Holding lone nodes, it overwrites its prior with each mixture (the two share
        an array), which makes the update multiplicative.

        Args:
            graph: The graph that is used, its columns reduced to the targets.
            targets: Whether a target mask is set; where the columns are some of the rows' skills, it is.

        Raises:
            InputError: If one of these options is set already, and otherwise.
        """
        rows, columns = set(graph.train_skills), set(graph.eval_skills)
        targets = targets or columns < rows
        fixed = {
            'window_in': 'evaluations',
            'unit_edges': 'half',
            'reduce': 'mean' if targets else 'sum',
            'first_losses': 1,
            'initial_losses': 'prior' if graph.is_square and not targets else 'ones',
            'diagonal': 'skill' if columns <= rows else 'position',
            'compound': self.hold_lone,
        }
        for option, value in fixed.items():
            if getattr(self, option) not in (getattr(SkillItVariant(), option), value):
                refuse_overridden(option)
        return replace(self, **fixed)


OVERRIDDEN = ('window_in', 'reduce', 'first_losses', 'initial_losses', 'unit_edges', 'diagonal', 'compound')
"""What `SkillItVariant.published` sets."""


def refuse_overridden(option: str) -> NoReturn:
    """Refuse an option beside ``published: true``.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"policy 'skill_it' with published=True sets the option {option!r} itself; "
        f'leave {option} out, or leave published out and set the options one by one'
    )


CHOICES: dict[str, tuple[object, ...]] = {
    'window_in': ('rounds', 'evaluations'),
    'reduce': ('sum', 'mean'),
    'losses': ('raw', 'relative'),
    'eta_schedule': ('fixed', 'adaptive'),
    'first_losses': (0, 1),
    'pad_window': (False, True),
    'initial_losses': ('ones', 'prior'),
    'unit_edges': ('keep', 'half'),
    'hold_lone': (False, True),
    'damp_edges': (False, True),
    'diagonal': ('skill', 'position'),
    'compound': (False, True),
}

VARIANT_OPTIONS = tuple(field.name for field in fields(SkillItVariant))
