"""What the figures show: arrays ready to draw, kept few enough to be read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skillit_stream.mixture import SkillsGraph
from skillit_stream.report.comparison import Reach, find_reaches
from skillit_stream.report.methods import (
    AVERAGE,
    LOSS,
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
    reach: ReachView | None
    graphs: list[tuple[str, SkillsGraph]]


def report_views(methods: Sequence[Method], baseline: str | None = None) -> Views:
    """What the figures of a report show; `baseline` is the method to compare the others with."""
    return Views(
        mixture_view(methods),
        loss_panels(methods),
        accuracy_panels(methods),
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
    panels = {skill: _loss_panel(skill, [skill], methods, figure) for skill in skills}
    if len(skills) > MAX_LOSS_PANELS:
        chosen = sorted(skills, key=lambda skill: _unlikeness(panels[skill]), reverse=True)[:MAX_LOSS_PANELS]
        skills = [skill for skill in skills if skill in chosen]
    average = [_loss_panel(AVERAGE, common, methods, figure)] if len(common) > 1 else []
    return [panel for panel in [*average, *(panels[skill] for skill in skills)] if panel.curves]


def _loss_panel(title: str, skills: Sequence[str], methods: Sequence[Method], figure: str) -> LossPanel:
    found = [(index, method.curve(skills, figure)) for index, method in enumerate(methods)]
    curves = tuple((index, _thin(curve)) for index, curve in found if curve is not None)
    values = np.concatenate([np.concatenate([curve.low, curve.high]) for _, curve in curves] or [np.zeros(0)])
    positive = values[np.isfinite(values) & (values > 0)]
    log = figure == LOSS and bool(len(positive)) and bool(positive.max() > 10 * positive.min())
    return LossPanel(title, curves, log, figure)


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
