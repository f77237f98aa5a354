"""Whether Skill-It can be expected to help with a graph, in words: how dense it is, and how it was learned."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.graph_measurement import FINISHED, SCRATCH

# The authors give no numbers for "nearly"; these are ours.
NEARLY_EMPTY, NEARLY_COMPLETE = 0.05, 0.95
# Rows that differ by less than this fraction of their mean move a mixture hardly at all.
EVEN_ROWS = 0.05
ADVICE = (
    'Skill-It should not be expected to help, as the graph suggests no clear order of the skills; try another '
    "partition of the data into skills (the advice of Skill-It's authors, arXiv 2307.14430 and its code's README)"
)
BETTER_START = (
    'learn it again from a checkpoint at 10-20 % of a run like the one that is planned (load_path=CHECKPOINT), before '
    'the data are partitioned anew'
)
FROM_SCRATCH = (
    'the short runs started from scratch, and the first steps of a new model lower every loss alike, whatever they '
    f'are on: {BETTER_START}'
)
FROM_FINISHED = (
    'the short runs started from a finished model, which has little left to learn in so few steps: '
    f'{BETTER_START}'
)
START_UNKNOWN = (
    'see first what the short runs started from: from scratch all losses fall, from a finished model none; '
    f'{ADVICE}'
)
LOSSES_ROSE = (
    'the steps are too large for these weights, as a new optimizer without warm-up makes them: lower optimizer.lr to '
    'what it was at the checkpoint, or give the scheduler t_warmup'
)


@dataclass(frozen=True)
class Density:
    """How much of a graph is there. A skill's weight on itself is no edge."""

    pairs: int
    """Pairs of a train skill and another eval skill."""
    edges: int
    """Those of a weight above 0."""
    mean_weight: float
    """Over the edges; 0 where there is none."""
    negative: int
    """Pairs of a weight below 0: training on one hurts the other."""
    above_noise: int | None = None
    """Edges above their noise; None: the short runs were not repeated."""

    @property
    def fraction(self) -> float:
        """Edges over pairs; 0 where there is no pair."""
        return self.edges / self.pairs if self.pairs else 0.0


def edges_within_noise(graph: SkillsGraph) -> NDArray[np.bool_]:
    """Edges that are not above their noise, bool ``[k, m]``; a skill's weight on itself is no edge."""
    edges = (graph.weights > 0) & ~graph.same_skill
    return edges & (graph.measured.within_noise if graph.measured else False)


def density_of(graph: SkillsGraph) -> Density:
    """Count the edges between skills of different names."""
    between = graph.weights[~graph.same_skill]
    edges = between[between > 0]
    mean = float(edges.mean()) if edges.size else 0.0
    repeated = graph.measured is not None and graph.measured.standard_errors is not None
    above = edges.size - int(edges_within_noise(graph).sum()) if repeated else None
    return Density(between.size, edges.size, mean, int((between < 0).sum()), above)


def learned_line(graph: SkillsGraph) -> str | None:
    """How a graph was learned and how many of its edges are above their noise; None: it is not known."""
    measured = graph.measured
    if measured is None:
        return None
    runs = 'short runs' if measured.steps is None else f'runs of {measured.steps:,} steps'
    orders = f' in {measured.repeats} sample orders each' if measured.repeats > 1 else ''
    start = measured.start.words if measured.start else 'not known'
    density = density_of(graph)
    noise = (
        'their noise is not known (--repeats 3)'
        if density.above_noise is None
        else f'{density.above_noise} of {density.edges} edges above their noise'
    )
    return f'{measured.method}, {runs}{orders}; start: {start}; {noise}'


def warnings_of(graph: SkillsGraph) -> list[str]:
    """Sentences on why Skill-It may not help with this graph; none where nothing speaks against it."""
    found, density = [], density_of(graph)
    if not density.pairs:
        return ['There is no pair of different skills: there is nothing to mix.']
    counted = f'{density.edges} of {density.pairs} possible edges'
    sums = graph.weights.sum(axis=1)
    even = bool(np.ptp(sums) <= EVEN_ROWS * abs(sums.mean()))
    rose = _losses_that_rose(graph)
    if density.fraction < NEARLY_EMPTY:
        found.append(f'The graph is nearly empty ({counted}): {_why_empty(graph, bool(rose))}.')
    elif density.fraction > NEARLY_COMPLETE and not set(graph.train_skills).isdisjoint(graph.eval_skills):
        # Where no skill is both, nothing speaks against it that all help: how much each does is what decides.
        weights = (
            ''
            if even
            else f'; only the weights differ (sums of the rows: {sums.min():.3g} to {sums.max():.3g})'
        )
        found.append(f'The graph is nearly complete ({counted}{weights}): {_why_complete(graph)}.')
    if rose:
        found.append(f'{rose}: {LOSSES_ROSE}.')
    if density.above_noise is not None and 2 * density.above_noise < density.edges:
        found.append(
            f'Only {density.above_noise} of {density.edges} edges are above their noise: take more --steps or more '
            f'--repeats.'
        )
    if even and len(graph.train_skills) > 1:
        found.append(
            f'All rows sum to about the same ({sums.min():.3g} to {sums.max():.3g}): while the losses are alike, '
            f'Skill-It gives every skill about the same proportion.'
        )
    return found


def _why_empty(graph: SkillsGraph, losses_rose: bool) -> str:
    if graph.measured is None:
        return ADVICE
    start = graph.measured.start
    if start is not None and start.part == FINISHED:
        return FROM_FINISHED
    if losses_rose:
        return 'in most runs the loss rose, so that they say nothing of what helps'
    return ADVICE if start is not None and start.part else START_UNKNOWN


def _why_complete(graph: SkillsGraph) -> str:
    if graph.measured is None:
        return ADVICE
    start = graph.measured.start
    if start is not None and start.part == SCRATCH:
        return FROM_SCRATCH
    return ADVICE if start is not None and start.part else START_UNKNOWN


def _losses_that_rose(graph: SkillsGraph) -> str:
    """How many losses rose where most did; nothing otherwise, or if the method measures something else."""
    measured = graph.measured
    if measured is None or measured.method != 'approximate':
        return ''
    effects = measured.effects[np.isfinite(measured.effects)]
    rose = int((effects < 0).sum())
    return f'{rose} of {effects.size} losses rose in the short runs' if 2 * rose > effects.size else ''
