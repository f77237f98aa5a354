"""What an experiment found, as Markdown and JSON: table, tests, and what it was run on."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skillit_stream.experiments.config import ExperimentConfig
from skillit_stream.experiments.learned_graph import graph_facts
from skillit_stream.experiments.planning import FINISHED
from skillit_stream.report.comparison import Spread, find_reaches, loss_rows, pairs, spread, verdicts
from skillit_stream.report.methods import Method, group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.summary import learning_curves, summarise, to_json
from skillit_stream.report.verdict import verdict

MOST_SKILLS = 12  # up to which a table has a column for each, and a graph's matrix is shown


def write_results(experiment: ExperimentConfig, folders: Sequence[Path], command: str) -> Path:
    """Write results.md and results.json into the experiment's folder; returns the path of the first.

    Args:
        experiment: Its configuration.
        folders: Of its runs.
        command: What was typed.
    """
    methods = group_runs(read_runs(folders))
    about = {
        'experiment': experiment.name,
        'command': command,
        'seeds': experiment.seeds,
        'note': experiment.note,
        'ran_on': _machines(folders),
        'paper': {name: one.paper for name, one in experiment.methods.items() if one.paper is not None},
    }
    if experiment.learn_graph is not None:
        about['graph'] = graph_facts(experiment)
    out = Path(experiment.out)
    numbers = {**about, **summarise(methods, experiment.baseline), 'curves': learning_curves(methods)}
    (out / 'results.json').write_bytes(to_json(numbers))
    path = out / 'results.md'
    path.write_text(as_markdown(about, methods, experiment.baseline), encoding='utf-8')
    return path


def _machines(folders: Sequence[Path]) -> dict[str, int]:
    """What runs ran on -> how many did; those of before it was written down are told so."""
    marks = [json.loads((folder / FINISHED).read_bytes()) for folder in folders]
    return dict(Counter(mark.get('ran_on', 'hardware not written down') for mark in marks))


def as_markdown(about: Mapping[str, Any], methods: Sequence[Method], baseline: str | None) -> str:
    """The results for a reader."""
    seconds = sum(record.seconds for method in methods for run in method.runs for record in run.rounds)
    ran_on = about['ran_on']
    machines = [f'{text} ({count} runs)' if len(ran_on) > 1 else text for text, count in ran_on.items()]
    parts = [
        f'# {about["experiment"]}',
        f'**{verdict(methods, baseline)}**',
        about['note'].strip(),
        f'    {about["command"]}',
        *(f'{text}.' for text in machines),
        f'{seconds / 60:,.0f} minutes of training in all.',
        'Nats per token at the last evaluation, mean ± sample standard deviation over seeds; lower is better.',
        _table(about, methods, baseline),
        _left_out(methods),
        _bullets(verdicts(methods, baseline)),
    ]
    if baseline:
        parts += [
            f'Each method against {baseline}, paired by seed:',
            _bullets([f'{pair}.' for pair in pairs(methods, baseline)]),
        ]
    if 'graph' in about:
        parts += _graph(about['graph'])
    return '\n\n'.join(part for part in parts if part) + '\n'


def _table(about: Mapping[str, Any], methods: Sequence[Method], baseline: str | None) -> str:
    rows = loss_rows(methods)
    if len(rows) > 1 + MOST_SKILLS:
        rows = rows[:1]
    accuracies = [_mean_figure(method, 'exact_match') for method in methods]
    reaches = {reach.method: reach for reach in find_reaches(methods, baseline)} if baseline else {}
    head = ['method', *(row.skill for row in rows)]
    if any(accuracies):
        head.append('answers right')
    if reaches:
        head.append(f'step at which {baseline} is reached')
    if about['paper']:
        head.append('paper, mean of the skills')
    lines = [head]
    for number, method in enumerate(methods):
        line = [method.name, *(str(row.cells[number] or '-') for row in rows)]
        if any(accuracies):
            accuracy = accuracies[number]
            line.append(f'{accuracy.mean:.1%}' if accuracy else '-')
        if reaches:
            line.append(str(reaches[method.name]))
        if about['paper']:
            line.append(f'{about["paper"].get(method.name, "-")}')
        lines.append(line)
    return _markdown_table(lines)


def _left_out(methods: Sequence[Method]) -> str:
    skills = len(loss_rows(methods)) - 1
    return (
        f'The losses of the {skills} skills are in results.json and in the report.'
        if skills > MOST_SKILLS
        else ''
    )


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of them the heading."""
    head, *rows = lines
    return '\n'.join(f'| {" | ".join(line)} |' for line in (head, ['---'] * len(head), *rows))


def _graph(facts: Mapping[str, Any]) -> list[str]:
    """How dense a learned graph is, each warning of it, and the matrix if it is small enough to read."""
    lone = ', '.join(facts['lone_skills'])
    parts = [
        f'The graph, learned with `{shlex.join(facts["learned_with"])}`: {facts["edges"]} of {facts["pairs"]} possible '
        f'edges, of mean weight {facts["mean_weight"]:.3g}.',
        f'Short runs: {facts["learned"]}.' if facts['learned'] else '',
        f'Without an edge to or from another skill: {lone}.' if lone else '',
        *(f'Warning: {line}' for line in facts['warnings']),
    ]
    if max(len(facts['train_skills']), len(facts['eval_skills'])) <= MOST_SKILLS:
        rows = zip(facts['train_skills'], facts['weights'], strict=True)
        weights = [[skill, *(f'{weight:.3g}' for weight in row)] for skill, row in rows]
        parts.append(_markdown_table([['trained on, helps', *facts['eval_skills']], *weights]))
    return parts


def _mean_figure(method: Method, name: str) -> Spread | None:
    """A figure beside the losses at the end of training, averaged over its skills, over the runs that have it."""
    found = [
        float(np.mean(list(values.values())))
        for run in method.runs
        if (values := run.final_figures.get(name))
    ]
    return spread(np.array(found))


def _bullets(sentences: Sequence[str]) -> str:
    return '\n'.join(f'- {sentence}' for sentence in sentences)
