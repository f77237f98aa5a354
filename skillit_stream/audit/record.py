"""A run as its folder records it: streams, settings and the exact counts of every finished round."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from skillit_stream.audit.round_lines import RoundLine, read_round_lines
from skillit_stream.audit.stream_index import StreamIndex, read_stream_index
from skillit_stream.errors import InputError
from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.streams.plan import RoundShape
from skillit_stream.streams.tape import Tape

Int64 = NDArray[np.int64]

RUN_VERSION = 1
SPLIT = 'train'


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRecord:
    """Everything the order of a run's finished rounds depends on."""

    folder: Path
    streams: dict[str, StreamIndex]
    """By skill, in the order of the run: sample ids count through them."""
    shape: RoundShape
    block_size: int
    shuffle: bool
    counts: Int64
    """int64 [finished rounds, skills], samples drawn."""

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the streams, in the order of the run."""
        return tuple(self.streams)

    @property
    def rounds(self) -> int:
        """Finished rounds: they are 0 to this - 1."""
        return len(self.counts)

    @property
    def samples(self) -> int:
        """Samples in all streams; ids are below."""
        return sum(stream.samples for stream in self.streams.values())

    def tapes(self) -> list[Tape]:
        """The streams' tapes, one a skill."""
        return [
            Tape(
                skill,
                stream.sizes,
                seed=self.shape.seed,
                canonical_nodes=self.shape.canonical_nodes,
                block_size=self.block_size,
                shuffle=self.shuffle,
            )
            for skill, stream in self.streams.items()
        ]


def read_run(folder: str | Path, *, streams: str | Path | None = None) -> RunRecord:
    """Read a run folder and the indexes of its streams.

    Args:
        folder: Holds run.json, mixture.jsonl and (unless `streams` is given) config.yaml.
        streams: The streams folder, ROOT of ROOT/<skill>/train/index.json; None: the one config.yaml names.

    Raises:
        InputError: A file is missing or broken, the streams are not those of the run, or run.json and
            mixture.jsonl contradict each other.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f'There is no run folder at {path}: give the `save_folder` of a run.')
    dataset = _dataset_facts(path / 'run.json')
    nodes = _positive(dataset, 'num_canonical_nodes', path)
    shape = RoundShape(
        _positive(dataset, 'round_size', path),
        _positive(dataset, 'global_batch_size', path),
        nodes,
        str(_fact(dataset, 'batching', path)),
        _whole(dataset, 'shuffle_seed', path),
    )
    sizes = _stream_sizes(dataset, path)
    lines = read_round_lines(path / 'mixture.jsonl')
    return RunRecord(
        folder=path,
        streams=_read_streams(sizes, str(streams or _streams_root(path / 'config.yaml'))),
        shape=shape,
        block_size=_positive(dataset, 'shuffle_block_size', path),
        shuffle=_flag(dataset, 'shuffle', path),
        counts=np.array([_counts(line, list(sizes), shape) for line in lines], np.int64).reshape(
            -1, len(sizes)
        ),
    )


def _dataset_facts(path: Path) -> Mapping[str, Any]:
    """The section `dataset` of run.json."""
    try:
        facts = json.loads(path.read_bytes())
    except OSError:
        raise InputError(
            f'{path.parent} has no {path.name}: give the `save_folder` of a run that `skillit train` wrote.'
        ) from None
    except ValueError:
        raise InputError(f'{path} is not JSON: restore it.') from None
    if not isinstance(facts, dict) or facts.get('version') != RUN_VERSION:
        version = facts.get('version') if isinstance(facts, dict) else None
        raise InputError(
            f'{path} must be of version {RUN_VERSION}, but got: {version}; use the skillit_stream that wrote it.'
        )
    if not isinstance(facts.get('dataset'), dict):
        raise InputError(f'{path} must describe the `dataset` of the run, but does not: restore it.')
    return facts['dataset']


def _fact(dataset: Mapping[str, Any], key: str, folder: Path) -> Any:
    if key not in dataset:
        raise InputError(
            f'{folder / "run.json"} does not say `dataset.{key}`, which the order depends on: the run was '
            f'written by an older skillit_stream.'
        )
    return dataset[key]


def _whole(dataset: Mapping[str, Any], key: str, folder: Path) -> int:
    value = _fact(dataset, key, folder)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(
            f'{folder / "run.json"}: `dataset.{key}` must be a whole number, but got: {value!r}; restore the file.'
        )
    return value


def _positive(dataset: Mapping[str, Any], key: str, folder: Path) -> int:
    value = _whole(dataset, key, folder)
    if value < 1:
        raise InputError(
            f'{folder / "run.json"}: `dataset.{key}` must be positive, but got: {value}; restore the file.'
        )
    return value


def _flag(dataset: Mapping[str, Any], key: str, folder: Path) -> bool:
    value = _fact(dataset, key, folder)
    if not isinstance(value, bool):
        raise InputError(
            f'{folder / "run.json"}: `dataset.{key}` must be true or false, but got: {value!r}; restore the file.'
        )
    return value


def _stream_sizes(dataset: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Samples of each stream by skill, in the order of the run."""
    streams = _fact(dataset, 'streams', folder)
    if (
        not isinstance(streams, dict)
        or not streams
        or not all(isinstance(one, dict) for one in streams.values())
    ):
        raise InputError(
            f'{folder / "run.json"}: `dataset.streams` must map skills to their samples, but got: {streams!r}; '
            f'restore the file.'
        )
    flat = {f'streams.{skill}.samples': stream.get('samples') for skill, stream in streams.items()}
    return {skill: _positive(flat, key, folder) for skill, key in zip(streams, flat, strict=True)}


def _streams_root(path: Path) -> str:
    """The streams folder that config.yaml names."""
    try:
        config = OmegaConf.load(path)
    except OSError:
        raise InputError(
            f'{path.parent} has no {path.name}, which names the streams: pass the streams folder as --streams.'
        ) from None
    except YAMLError:
        raise InputError(
            f'{path} is not YAML: restore it, or pass the streams folder as --streams.'
        ) from None
    root = config.get('streams') if isinstance(config, DictConfig) else None
    if not isinstance(root, str):
        raise InputError(f'{path} does not name `streams`: pass the streams folder as --streams.')
    return root


def _read_streams(sizes: Mapping[str, int], root: str) -> dict[str, StreamIndex]:
    if '://' in root:
        raise InputError(
            f'The streams lie at {root}: pass a local copy of their folder as --streams (index.json files alone '
            f'are enough).'
        )
    streams = {skill: read_stream_index(skill, Path(root, skill, SPLIT)) for skill in sizes}
    for skill, stream in streams.items():
        if stream.samples != sizes[skill]:
            raise InputError(
                f'Skill {skill} had {sizes[skill]} samples in the run, but its index in {stream.folder} has '
                f'{stream.samples}: pass the streams the run was trained on as --streams.'
            )
    return streams


def _counts(line: RoundLine, skills: Sequence[str], shape: RoundShape) -> list[int]:
    """Samples of each skill in a round, made sure against what the run says it drew."""
    if set(line.proportions) != set(skills):
        odd = sorted(set(line.proportions) ^ set(skills))[0]
        problem = 'lacks a share for' if odd in skills else 'has a share for unknown'
        raise InputError(f'{line.where} {problem} skill {odd}: run.json and mixture.jsonl are of two runs.')
    try:
        counts = largest_remainder([line.proportions[skill] for skill in skills], shape.round_size).tolist()
    except InputError as error:
        raise InputError(f'{line.where}: {error}') from None
    end = (line.number + 1) * shape.batches
    if [line.samples.get(skill) for skill in skills] != counts or line.step != end:
        raise InputError(
            f'{line.where}: round {line.number} ended at step {line.step} with {sum(line.samples.values())} '
            f'samples, where run.json says step {end} and {shape.round_size}, by proportions: the run went on '
            f'with other settings, and its order cannot be recomputed from this folder.'
        )
    return counts
