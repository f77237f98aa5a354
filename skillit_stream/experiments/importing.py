"""Runs of an experiment that were finished in another folder: on another machine, or another day."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from skillit_stream.audit.stream_index import read_stream_index
from skillit_stream.base.errors import InputError
from skillit_stream.experiments.planning import FINISHED, PlannedRun
from skillit_stream.formats.streams_folders import listed_folders
from skillit_stream.training.config import TrainConfig, dump_config, load_config
from skillit_stream.training.yaml_files import leaves

# What a run is called, where it lies and what it runs on; what it trains on is compared by the digests of its streams
# and graph.
_PLACES = (
    'run_name',
    'streams',
    'streams_local',
    'save_folder',
    'checkpoint_folder',
    'tokenizer',
    'device',
    'dist_timeout',
)
_GRAPH = 'algorithms.data_mixing.graph'


def import_all(runs: Sequence[PlannedRun], folders: Sequence[str]) -> None:
    """`import_runs` from each of several folders, with a line of what was taken; raises InputError without one."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise InputError(f'`--import` must be a folder of finished runs, but there is none at {folder}.')
        taken = import_runs(runs, Path(folder))
        print(f'Taken from {folder}: {", ".join(taken) or "no run that is not finished here"}', flush=True)


def import_runs(runs: Sequence[PlannedRun], folder: Path) -> list[str]:
    """Take over from a folder, as an experiment's `out` is, the finished runs that are planned here and not finished.

    A run is taken whole but for its checkpoints, and only if it was trained with the very same configuration, graph and
    streams; where they lie and what the experiment is called may differ.

    Args:
        runs: That are planned.
        folder: With a folder of the same name for each.

    Returns:
        Names of the runs that were taken.

    Raises:
        InputError: A run of that name was another one; nothing of it is taken.
    """
    found = [planned for planned in runs if (folder / planned.name / FINISHED).is_file()]
    taken = [planned for planned in found if not planned.is_finished()]
    for planned in taken:
        _check(planned, folder / planned.name)
    for planned in taken:
        _take(planned, folder / planned.name)
    return [planned.name for planned in taken]


def _check(planned: PlannedRun, source: Path) -> None:
    """Refuse a run that is not the planned one; raises InputError."""
    for key, here, there in _differences(planned.config, load_config(source / 'config.yaml')):
        raise InputError(
            f'{source} is another run than {planned.name} of this experiment: `{key}` is {there} there and {here} here.'
        )
    if _read(source / FINISHED).get('graph') != planned.graph_hash():
        raise InputError(
            f'{source} was trained with another graph than {planned.name} of this experiment has.'
        )
    trained_on = _read(source / 'run.json')['dataset']['streams']
    for skill, stream in trained_on.items():
        if stream['digest'] not in _digests(planned.config, skill):
            raise InputError(
                f'{source} was trained on other samples of {skill} than the streams of this experiment have: convert '
                f'them as they were there.'
            )


def _take(planned: PlannedRun, source: Path) -> None:
    scratch = planned.folder.with_name(f'{planned.name}.importing')
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch, ignore=shutil.ignore_patterns('checkpoints'))
    (scratch / 'config.yaml').write_text(dump_config(planned.config), encoding='utf-8')
    # Of a run that was begun here, which would be begun anew.
    shutil.rmtree(planned.folder, ignore_errors=True)
    os.replace(scratch, planned.folder)


def _differences(here: TrainConfig, there: TrainConfig) -> Iterator[tuple[str, Any, Any]]:
    own, other = (
        dict(leaves(cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(one)))))
        for one in (here, there)
    )
    for key in dict.fromkeys([*own, *other]):
        is_file = key == _GRAPH and all(isinstance(one.get(key), str) for one in (own, other))
        if key not in _PLACES and not is_file and own.get(key) != other.get(key):
            yield key, own.get(key), other.get(key)


def _digests(config: TrainConfig, skill: str) -> list[str]:
    """Digests of a skill's train stream in the folders that have one."""
    folders = [Path(root) / skill / 'train' for root in listed_folders(config.streams)]
    return [read_stream_index(folder).digest() for folder in folders if (folder / 'index.json').is_file()]


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f'{path} cannot be read: the run there is not whole ({error}).') from None
