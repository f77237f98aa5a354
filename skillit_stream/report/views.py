"""What the figures show: arrays ready to draw, kept few enough to be read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skillit_stream.mixture import SkillsGraph, largest_remainder
from skillit_stream.report.comparison import Reach, find_reaches
from skillit_stream.report.methods import (
    AVERAGE,
    DIFFERENCE,
    LOSS,
    TRAIN_LOSS,
    Curve,
    Method,
    common_eval_skills,
    eval_skills,
    measured,
)

MAX_SKILLS = 12  # areas in a mixture panel; the smaller ones are summed
MAX_LOSS_PANELS = 8  # eval skills with a panel of their own, beside the average
MAX_PANELS = 12  # methods or graphs with a panel
MAX_POINTS = 400  # rounds or evaluations along an axis
STEEP = 0.2  # of the steps: where a loss falls steeply, so that axes which show it show little else


@dataclass(frozen=True, eq=False)
class MixturePanel:
    """Proportions of one method over training."""

    title: str
    edges: np.ndarray
    """Steps where the drawn spans begin and end: spans + 1."""
    proportions: np.ndarray
    """Spans x areas; each row sums to what the proportions of its rounds sum to."""


@dataclass(frozen=True, eq=False)
class MixtureView:
    """All mixture panels; areas mean the same in each."""

    areas: tuple[str, ...]
    other: bool
    """Whether the last area sums the smaller skills."""
    panels: tuple[MixturePanel, ...]


@dataclass(frozen=True, eq=False)
class LossPanel:
    """The loss, or another figure, on one eval skill (or on average) over training."""

    title: str
    curves: tuple[tuple[int, Curve], ...]
    """Index of the method, and its curve."""
    log: bool
    figure: str = LOSS
    top: float | None = None
    """The highest value to be shown; None: all of them."""


@dataclass(frozen=True, slots=True)
class ReachView:
    """The steps of all methods to the baseline's final loss."""

    baseline: str
    reaches: tuple[Reach, ...]
    """One a method, in their order."""
    last_step: int
    """Of the last evaluation of any run."""


@dataclass(frozen=True, eq=False)
class Views:
    """All that a report draws; what there is nothing of is empty or None."""

    mixture: MixtureView
    losses: list[LossPanel]
    accuracies: list[LossPanel]
    differences: list[LossPanel]
    """Of the losses from those of the baseline, whose own curve is 0."""
    reach: ReachView | None
    graphs: list[tuple[str, SkillsGraph]]


def report_views(methods: Sequence[Method], baseline: str | None = None) -> Views:
    """What the figures of a report show; `baseline` is the method to compare the others with."""
    return Views(
        mixture_view(methods),
        loss_panels(methods),
        accuracy_panels(methods),
        difference_panels(methods, baseline),
        reach_view(methods, baseline),
        graph_panels(methods),
    )


def reach_view(methods: Sequence[Method], baseline: str | None) -> ReachView | None:
    """What a figure shows of the steps to the baseline's final loss; None where there is nothing to compare."""
    reaches = find_reaches(methods, baseline) if baseline is not None else []
    if baseline is None or not any(reach.steps for reach in reaches):
        return None
    last = max(run.final_step or 0 for method in methods for run in method.runs)
    return ReachView(baseline, tuple(reaches), last)


def mixture_view(methods: Sequence[Method]) -> MixtureView:
    """The mixture of each method over rounds, the largest skills on average shown by name."""
    skills = list(dict.fromkeys(skill for method in methods for skill in method.train_skills))
    mean = dict.fromkeys(skills, 0.0)
    for method in methods:
        for skill, proportion in zip(method.train_skills, method.mixture()[1].mean(axis=0), strict=True):
            mean[skill] += proportion / len(methods)
    # One more skill than fits may be drawn itself: "other (1 skill)" would say less in the same room.
    largest = sorted(skills, key=lambda skill: -mean[skill])
    kept = set(largest if len(skills) <= MAX_SKILLS + 1 else largest[:MAX_SKILLS])
    shown = [skill for skill in skills if skill in kept]
    n_other = len(skills) - len(shown)
    areas = (*shown, f'other ({n_other} skills)') if n_other else tuple(shown)
    panels = tuple(_mixture_panel(method, shown, with_other=n_other > 0) for method in methods[:MAX_PANELS])
    return MixtureView(areas, n_other > 0, panels)


def _mixture_panel(method: Method, shown: Sequence[str], *, with_other: bool) -> MixturePanel:
    edges, proportions = method.mixture()
    areas = np.zeros((len(proportions), len(shown) + with_other))
    for column, skill in enumerate(method.train_skills):
        area = shown.index(skill) if skill in shown else len(shown)
        areas[:, area] += proportions[:, column]
    if len(proportions) > MAX_POINTS:
        starts = np.unique(np.linspace(0, len(proportions), MAX_POINTS + 1).astype(np.int64))
        lengths = np.maximum(np.diff(edges), 1e-9)
        weights = np.add.reduceat(lengths, starts[:-1])
        areas = np.add.reduceat(areas * lengths[:, None], starts[:-1], axis=0) / weights[:, None]
        edges = edges[starts]
    return MixturePanel(method.title, edges, areas)


def loss_panels(methods: Sequence[Method]) -> list[LossPanel]:
    """The average over the common eval skills, then the eval skills whose losses differ most."""
    return _panels(methods, eval_skills(methods), common_eval_skills(methods), LOSS)


def accuracy_figure(methods: Sequence[Method]) -> str | None:
    """Which accuracy the runs measured: `exact_match` before `accuracy`; None where neither."""
    records = [record for method in methods for run in method.runs for record in run.evaluations]
    return next(
        (name for name in ('exact_match', 'accuracy') if any(r.figures.get(name) for r in records)), None
    )


def accuracy_panels(methods: Sequence[Method]) -> list[LossPanel]:
    """As `loss_panels`, of the answers (or tokens) that are right, from 0 to 1; empty where no run measured it."""
    figure = accuracy_figure(methods)
    if figure is None:
        return []
    return _panels(methods, measured_skills(figure, methods), common_measured(figure, methods), figure)


def measured_skills(figure: str, methods: Sequence[Method]) -> list[str]:
    """Eval skills whose loss (or `figure`) the last evaluation of any run measured."""
    return list(dict.fromkeys(skill for end in _ends(methods, figure) for skill in end))


def common_measured(figure: str, methods: Sequence[Method]) -> list[str]:
    """Those that the last evaluation of every run has which measured any: only these can be averaged."""
    ends = [end for end in _ends(methods, figure) if end]
    return [skill for skill in measured_skills(figure, methods) if all(skill in end for end in ends)]


def _ends(methods: Sequence[Method], figure: str) -> list[dict[str, float]]:
    return [
        measured(run.evaluations[-1], figure) for method in methods for run in method.runs if run.evaluations
    ]


def _panels(
    methods: Sequence[Method], skills: Sequence[str], common: Sequence[str], figure: str
) -> list[LossPanel]:
    def curves(of: Sequence[str]) -> list[Curve | None]:
        return [method.curve(of, figure) for method in methods]

    return chosen_panels(skills, common, curves, figure)


def chosen_panels(
    skills: Sequence[str],
    common: Sequence[str],
    curves: Callable[[Sequence[str]], Sequence[Curve | None]],
    figure: str,
) -> list[LossPanel]:
    """The average over `common`, then the skills on which the curves, one a method, differ most."""
    panels = {skill: loss_panel(skill, curves([skill]), figure) for skill in skills}
    if len(skills) > MAX_LOSS_PANELS:
        chosen = sorted(skills, key=lambda skill: _unlikeness(panels[skill]), reverse=True)[:MAX_LOSS_PANELS]
        skills = [skill for skill in skills if skill in chosen]
    average = [loss_panel(AVERAGE, curves(common), figure)] if len(common) > 1 else []
    return [panel for panel in [*average, *(panels[skill] for skill in skills)] if panel.curves]


def difference_panels(methods: Sequence[Method], baseline: str | None) -> list[LossPanel]:
    """As `loss_panels`, of each method minus the baseline by seed; empty where there is nothing to compare."""
    reference = next((method for method in methods if method.name == baseline), None)
    if reference is None:
        return []

    def curves(of: Sequence[str]) -> list[Curve | None]:
        return [method.difference(reference, of) for method in methods]

    panels = chosen_panels(eval_skills(methods), common_eval_skills(methods), curves, DIFFERENCE)
    # Where only the baseline has a curve there is no difference to be seen.
    return [panel for panel in panels if len(panel.curves) > 1]


def loss_panel(title: str, found: Sequence[Curve | None], figure: str) -> LossPanel:
    """A panel of curves, one a method."""
    curves = tuple((index, _thin(curve)) for index, curve in enumerate(found) if curve is not None)
    values, steps = _all_values(curves)
    top = _top(values, steps) if figure in (LOSS, TRAIN_LOSS) else None
    positive = values[(values > 0) & (values <= (np.inf if top is None else top))]
    log = figure in (LOSS, TRAIN_LOSS) and bool(len(positive)) and bool(positive.max() > 10 * positive.min())
    return LossPanel(title, curves, log, figure, top)


def _all_values(curves: Sequence[tuple[int, Curve]]) -> tuple[np.ndarray, np.ndarray]:
    """The finite values of all curves and their bands, and the step of each."""
    empty = np.zeros(0)
    values = np.concatenate([empty, *(side for _, curve in curves for side in (curve.low, curve.high))])
    steps = np.concatenate([empty, *(curve.steps for _, curve in curves for _ in range(2))])
    finite = np.isfinite(values)
    return values[finite], steps[finite]


def _top(values: np.ndarray, steps: np.ndarray) -> float | None:
    """The highest value after the steep fall at the start, where that fall takes more than half of the axes."""
    late = values[steps >= STEEP * steps.max()] if len(values) else values
    if not len(late):
        return None
    top, low = late.max(), values.min()
    return float(top) if low < top and values.max() - low > 2 * (top - low) else None


def rounded_together(proportions: np.ndarray, decimals: int) -> np.ndarray:
    """Proportions as they are shown, float64 ``[k]``: rounded so that what sums to 1 still does (largest remainder)."""
    total = proportions.sum()
    if not np.isfinite(total) or abs(total - 1) > 1e-6 or (proportions < 0).any():
        return np.round(proportions, decimals)
    return np.round(largest_remainder(proportions / total, 10**decimals) / 10.0**decimals, decimals)


def _thin(curve: Curve) -> Curve:
    if len(curve.steps) <= MAX_POINTS:
        return curve
    keep = np.unique(np.linspace(0, len(curve.steps) - 1, MAX_POINTS).astype(np.int64))
    return Curve(curve.steps[keep], curve.mean[keep], curve.low[keep], curve.high[keep])


def _unlikeness(panel: LossPanel) -> tuple[float, float]:
    """How far methods end apart on a skill, then how far its losses move at all; nats per token."""
    ends = [float(curve.mean[-1]) for _, curve in panel.curves]
    values = np.concatenate([curve.mean for _, curve in panel.curves] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    apart = max(ends) - min(ends) if len(ends) > 1 else 0.0
    return (apart if np.isfinite(apart) else np.inf, float(np.ptp(values)) if len(values) else 0.0)


def graph_panels(methods: Sequence[Method]) -> list[tuple[str, SkillsGraph]]:
    """The distinct graphs, each titled with the methods that used it."""
    found: list[tuple[list[str], SkillsGraph]] = []
    for method in methods:
        for run in method.runs:
            if run.graph is None:
                continue
            users = next((users for users, graph in found if graph == run.graph), None)
            if users is None:
                users = []
                found.append((users, run.graph))
            if method.name not in users:
                users.append(method.name)
    return [(', '.join(users), graph) for users, graph in found[:MAX_PANELS]]
