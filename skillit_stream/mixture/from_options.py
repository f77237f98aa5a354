"""A policy and its graph from the options of `data_mixing`, as YAMLs and `skillit apply` have them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names
from skillit_stream.mixture.context import RunContext
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.grouped import GroupedPolicy, context_of_groups, groups_of
from skillit_stream.mixture.measuring import MeasuringPolicy
from skillit_stream.mixture.new_skills import ERROR, NewSkills
from skillit_stream.mixture.policy import MixturePolicy
from skillit_stream.mixture.registry import build_policy, has_own_start, takes_graph

PolicyBuilder = Callable[[Mapping[str, Any], Sequence[str]], tuple[MixturePolicy, SkillsGraph | None]]
"""Makes a policy of the options of `data_mixing` and the skills that are evaluated; raises InputError."""
DEFAULT_POLICY = 'skill_it'
"""Of a `data_mixing` that names none."""


def policy_of_options(
    options: Mapping[str, Any], context: RunContext, *, streams_graph: Callable[[], Any] | None = None
) -> tuple[MixturePolicy, SkillsGraph | None]:
    """The policy that the options of `data_mixing` name, and its graph if it has one.

    Args:
        options: `policy`, `graph`, `new_skills`, `groups`, and the policy's own.
        context: What the run knows.
        streams_graph: Finds the graph that ``graph: streams`` means; None: there is none.

    Raises:
        InputError: It cannot be built from what is there.
    """
    options = dict(options)
    name, source = str(options.pop('policy', DEFAULT_POLICY)), options.pop('graph', None)
    measure = options.pop('measure', None)
    if measure is not None and source != 'measure':
        raise InputError(
            '`measure` says how the graph of graph=measure is learned: add that, or leave it out'
        )
    if source == 'streams' and streams_graph is not None:
        source = streams_graph()
    given = options.pop('groups', None)
    groups = None if given is None else groups_of(given, context.skills)
    if groups is not None:
        context = context_of_groups(context, groups)
    if source == 'measure':
        policy = _measuring(name, options, context, measure)
        return (policy if groups is None else GroupedPolicy(policy, groups)), None
    graph = named_graph(
        source,
        list(context.skills),
        list(context.eval_skills),
        options.get('targets'),
        new_skills=options.pop('new_skills', ERROR),
    )
    policy = build_policy(name, replace(context, graph=graph), **options)
    return (policy if groups is None else GroupedPolicy(policy, groups)), graph


def _measuring(name: str, options: Mapping[str, Any], context: RunContext, measure: Any) -> MixturePolicy:
    """A policy whose graph is learned in the run; raises InputError."""
    if not takes_graph(name):
        raise InputError(f'policy {name!r} takes no graph: leave graph=measure out')
    if 'new_skills' in options:
        raise InputError(
            '`new_skills` says what a graph lacks, but one that is measured has all: leave it out'
        )
    size, steps = context.round_size, context.round_steps
    return MeasuringPolicy(
        lambda graph: build_policy(name, replace(context, graph=graph), **options),
        context.skills,
        list(unique_names('targets', options['targets'])) if options.get('targets') else context.eval_skills,
        measure=measure,
        start=0 if has_own_start(name) else options.get('start', 0),
        batch_size=size // steps if size and steps else None,
        run_steps=context.run_steps,
    )


def written_out(options: Mapping[str, Any], graph: SkillsGraph | None) -> dict[str, Any]:
    """The options with their graph in place of where it lies: they mean the same on every machine and later on."""
    if graph is None:
        return dict(options)
    rows = {
        skill: dict(zip(graph.eval_skills, map(float, row), strict=True))
        for skill, row in zip(graph.train_skills, graph.weights, strict=True)
    }
    # It has a row for every skill by now.
    return {**{key: value for key, value in options.items() if key != 'new_skills'}, 'graph': rows}


def policy_inside_run(
    build: PolicyBuilder, options: Mapping[str, Any], *, begins: int, evaluated: Sequence[str]
) -> tuple[MixturePolicy, SkillsGraph | None]:
    """A policy for a run that goes on, and its graph.

    Args:
        build: Makes a policy of options.
        options: As of `data_mixing`, without `start`.
        begins: The first round that it decides, at least 1.
        evaluated: Skills whose losses are known.

    Raises:
        InputError: The options are wrong, or it is none that can begin inside a run.
    """
    if 'start' in options or 'before_start' in options:
        raise InputError(
            '`start` must be left out where a mixture is applied: --from-round says when it begins'
        )
    name = str(options.get('policy', DEFAULT_POLICY))
    if has_own_start(name):
        raise InputError(f'policy {name!r} has a `start` of its own, so that it cannot begin inside a run')
    if options.get('graph') == 'measure':
        raise InputError(
            'graph=measure is learned where a run begins with it: `skillit graph learn` with load_path=CHECKPOINT '
            'learns one that can be applied'
        )
    policy, graph = build({**options, 'start': begins}, evaluated)
    if policy.sample_orders():
        raise InputError(
            f'policy {policy.name!r} chooses the order of samples, which cannot change once some are drawn: begin '
            f'another run with it'
        )
    return policy, graph


def named_graph(
    source: Any,
    skills: list[str],
    eval_skills: list[str],
    targets: list[str] | None = None,
    *,
    new_skills: NewSkills = ERROR,
) -> SkillsGraph | None:
    """The graph that `graph:` names: a .json or .npy file, `identity`, or rows written out.

    Args:
        source: The option's value.
        skills: To train on.
        eval_skills: That are evaluated. The columns of a bare array, unless there are `targets` and some of
            `skills` are not evaluated: then the array is of all of `skills`, and square.
        targets: Columns to keep; the others need not be evaluated.
        new_skills: The rows and columns of skills that the graph lacks, see `SkillsGraph.with_new_skills`.

    Raises:
        InputError: There is none, it cannot be read, or it is of other skills.
    """
    if targets is not None:
        targets = list(unique_names('targets', targets))
    if source is None:
        if new_skills != ERROR:
            raise InputError(
                '`new_skills` says what a graph lacks, but there is no `graph`: give one, or leave it out'
            )
        return None
    if source == 'identity':
        return SkillsGraph.identity(skills)
    if isinstance(source, Mapping):
        graph = _of_rows(source, eval_skills)
    else:
        graph = _read(Path(str(source)), skills, eval_skills, targets, keep_all=new_skills != ERROR)
    graph = graph.with_new_skills(skills, eval_skills, new_skills, targets=targets)
    if targets:
        graph = graph.select(eval_skills=targets)
    _check_streams(graph, skills, eval_skills)
    return graph


def _read(
    path: Path, skills: list[str], eval_skills: list[str], targets: list[str] | None, *, keep_all: bool
) -> SkillsGraph:
    """A graph from a file; `keep_all`: of an array with names beside it all rows, as of a .json."""
    if path.suffix == '.json' or (keep_all and path.with_suffix('.names.json').is_file()):
        return SkillsGraph.load(path)
    columns = skills if targets and not set(skills) <= set(eval_skills) else eval_skills
    return SkillsGraph.load(path, train_skills=skills, eval_skills=columns)


def _check_streams(graph: SkillsGraph, skills: list[str], eval_skills: list[str]) -> None:
    """Refuse a graph that is not of these skills; raises InputError."""
    try:
        graph.check_streams(skills, eval_skills)
    except InputError as error:
        lacks_rows = not set(skills) <= set(graph.train_skills)
        remedy = '; new_skills=identity, mean or a row written out says what that of a new skill is'
        evaluate = '; evaluate them too (`eval_loader.skills`), or keep other columns alone (`targets`)'
        lacks_columns = not set(graph.eval_skills) <= set(eval_skills)
        raise InputError(
            f'{error}{remedy if lacks_rows else ""}{evaluate if lacks_columns else ""}'
        ) from None


def _of_rows(rows: Mapping[str, Any], eval_skills: list[str]) -> SkillsGraph:
    """The graph of ``{train skill: {eval skill: weight}}``; what is not named has no edge."""
    for train_skill, row in rows.items():
        if not isinstance(row, Mapping):
            raise InputError(
                f'`graph`: row {train_skill!r} must be eval skills with their weights, such as {{{train_skill}: 1}}, '
                f'but got: {row!r}'
            )
    named = list(dict.fromkeys(column for row in rows.values() for column in row))
    # In the order in which they are evaluated; names that are not come last, for the check of the streams to refuse.
    columns = [skill for skill in eval_skills if skill in named]
    columns += [skill for skill in named if skill not in columns]
    return SkillsGraph(
        list(rows), columns, [[row.get(column, 0) for column in columns] for row in rows.values()]
    )
