"""The graph that an experiment learns before its runs, and what its results say of it."""

import os
import subprocess
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.experiments.config import ExperimentConfig
from skillit_stream.experiments.planning import graph_hash, overrides_of
from skillit_stream.experiments.running import ONE_THREAD, command_of, with_us


def learn_graph(experiment: ExperimentConfig, home: Path) -> None:
    """Learn `out`/graph.json; what of it was learned with the same settings is kept.

    `skillit graph learn` is called each time: it alone knows whether the runs that it finds were of these
    settings, of this training YAML and of these streams.

    Args:
        experiment: What is wanted.
        home: Folder of its YAML.

    Raises:
        InputError: The graph cannot be learned so.
    """
    path = graph_path(experiment)
    before = graph_hash(path) if path.exists() else None
    overrides = overrides_of(experiment, 'graph', 'graph', experiment.seeds[0])
    command = command_of(experiment.ranks, 'graph', 'learn', str(home / experiment.yaml), *overrides)
    command += [*(experiment.learn_graph or []), '--out', str(path), '--work', str(_records(experiment))]
    environment = {**os.environ, **ONE_THREAD}
    if subprocess.run(command, env=environment, preexec_fn=with_us(), check=False).returncode:
        raise InputError(f'The graph {path} could not be learned with `learn_graph`; see above.')
    if before not in (None, graph_hash(path)):
        print(f'{path} is another graph than before: the runs that name it are trained again.', flush=True)


def graph_facts(experiment: ExperimentConfig) -> dict[str, Any]:
    """The learned graph, what it was learned with, and all that speaks against it, in plain Python."""
    from skillit_stream.graphs.finished_runs import losses_of_table
    from skillit_stream.graphs.learning import TABLE
    from skillit_stream.graphs.look import as_facts, load_graph, warnings_of_losses
    from skillit_stream.mixture.graph_formulas import not_learned

    facts = as_facts(load_graph(str(graph_path(experiment))))
    found = losses_of_table(str(_records(experiment) / TABLE))
    facts['warnings'] += warnings_of_losses(not_learned(found.losses, found.eval_skills))
    return {'learned_with': [f'seed={experiment.seeds[0]}', *(experiment.learn_graph or [])], **facts}


def graph_path(experiment: ExperimentConfig) -> Path:
    """Where the graph lies once it is learned."""
    return Path(experiment.out) / 'graph.json'


def _records(experiment: ExperimentConfig) -> Path:
    """Folder of the short runs that the graph was learned from."""
    return graph_path(experiment).with_suffix('.runs')
