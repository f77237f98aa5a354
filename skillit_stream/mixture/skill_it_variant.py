"""Where Skill-It's published code departs from its paper: each an option, the paper the default."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import one_of
from skillit_stream.mixture.graph import SkillsGraph


@dataclass(frozen=True, kw_only=True)
class SkillItVariant:
    """Variations of Skill-It. In brackets the flag of the published code that does the same.

    Five things of that code are not offered, as they are slips rather than choices: its "initial"
    losses are measured after the first optimizer step; with lone nodes held, `eta_schedule` divides
    a sum over all skills by a sum over the connected ones (here both run over the connected ones);
    a lone node must have a weight of exactly 1 on itself; a window of 0 means a uniform mixture; and
    a unit edge in row i and column i is kept even where these are two skills (train skills that are
    not evaluated), which is so in none of the graphs published.
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
        return np.where((graph.weights == 1.0) & ~graph.same_skill, 0.5, graph.weights)

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

    def published(self, graph: SkillsGraph) -> 'SkillItVariant':
        """Add what the published code always does; its flags stay as they are set here.

        It counts evaluations, reads unit edges as 0.5, takes a mean where the graph's columns are
        target skills, lets the second evaluation replace the first as reference, and starts a graph
        of equal sides from the prior. Holding lone nodes, it overwrites its prior with each mixture
        (the two share an array), which makes the update multiplicative.
        """
        targets = set(graph.eval_skills) < set(graph.train_skills)
        return replace(
            self,
            window_in='evaluations',
            unit_edges='half',
            reduce='mean' if targets else 'sum',
            first_losses=1,
            initial_losses='prior' if graph.is_square else 'ones',
            compound=self.hold_lone,
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
    'compound': (False, True),
}

VARIANT_OPTIONS = tuple(field.name for field in fields(SkillItVariant))
