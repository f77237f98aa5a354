"""The streams folders that a YAML names: here, or elsewhere (`streams`) with a cache of them here (`streams_local`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from streaming import Stream
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import is_missing_folder
from skillit_stream.formats.manifest import Manifest
from skillit_stream.formats.remote_folder import check_cache, fetch_tokenizer
from skillit_stream.formats.streams_folders import (
    SourceFolder,
    homes_of_skills,
    joined_manifest,
    manifest_bytes,
    source_folders,
)
from skillit_stream.training.config import TrainConfig

GRAPH = 'graph.json'


def load_manifest(config: TrainConfig) -> Manifest:
    """What is in the streams; those that are elsewhere leave a copy of it in `streams_local`.

    Raises:
        InputError: It cannot be read, or there are several that do not go together.
    """
    return joined_manifest(_folders(config))


def written_manifests(config: TrainConfig) -> bytes:
    """What `load_manifest` has read, as it is written."""
    return manifest_bytes(_folders(config))


def stream_folders(config: TrainConfig) -> Callable[[str], Path]:
    """Of a skill, the folder here that holds its stream or the cache of it; the losses of its samples lie there."""
    home = _homes(config)
    return lambda skill: home(skill).local / skill


def own_graph(config: TrainConfig) -> Path:
    """The graph that lies in the streams folder; of several, in one of them.

    Raises:
        InputError: None of several folders has one, or more than one.
    """
    folders = _folders(config)
    if len(folders) == 1:
        return folders[0].file(GRAPH)
    found = [path for folder in folders if (path := _graph_in(folder))]
    if len(found) != 1:
        have = ' and '.join(map(str, found)) if found else 'none of the folders'
        raise InputError(
            f'`graph=streams` must find one {GRAPH} in `streams`, but {have} has it: name a file, graph=PATH.'
        )
    return found[0]


def _graph_in(folder: SourceFolder) -> Path | None:
    try:
        path = folder.file(GRAPH)
    except InputError:  # elsewhere, and not there
        return None
    return path if path.is_file() else None


def load_tokenizer(config: TrainConfig) -> PreTrainedTokenizerBase:
    """The tokenizer that the YAML names, or the one that was saved with the streams.

    Raises:
        InputError: It cannot be loaded.
    """
    # They all have the same.
    first = _folders(config)[0]
    if first.is_cached and config.tokenizer is None:
        fetch_tokenizer(first.source, first.local)
    name = config.tokenizer or str(first.local / 'tokenizer')
    if is_missing_folder(name):
        raise InputError(
            f'`tokenizer`: there is no folder {name}; name one with a tokenizer, or a tokenizer on the hub.'
        )
    with as_input_error(
        f'`tokenizer`: none could be loaded from {name} (a hub name, or a folder that holds one)', OSError
    ):
        return AutoTokenizer.from_pretrained(name)


def document_end_of(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that ends a document, where `mask_documents` asks for documents that do not see each other.

    Raises:
        InputError: The tokenizer has no such token.
    """
    if not config.mask_documents:
        return None
    end: Any = tokenizer.eos_token_id
    if end is None:
        raise InputError(
            f'`mask_documents` needs a tokenizer with an EOS token, which ends the documents in the streams, but '
            f'{tokenizer.name_or_path} has none.'
        )
    return int(end)


def open_streams(config: TrainConfig, manifest: Manifest, skills: list[str], split: str) -> dict[str, Stream]:
    """A Stream a skill, which can serve a single dataset.

    Raises:
        InputError: The cache is of other streams.
    """
    home, opened = _homes(config), {}
    for skill in skills:
        folder = home(skill)
        local, remote = str(folder.local / skill), None
        if folder.is_cached:
            check_cache(manifest, folder.local, [skill], split)
            remote = f'{folder.source.rstrip("/")}/{skill}'
        opened[skill] = Stream(remote=remote, local=local, split=split)
    return opened


def _folders(config: TrainConfig) -> list[SourceFolder]:
    return source_folders(config.streams, config.streams_local)


def _homes(config: TrainConfig) -> Callable[[str], SourceFolder]:
    """Of a skill, the folder that it is in; of several folders the manifests must lie here."""
    folders = _folders(config)
    return homes_of_skills(folders).__getitem__ if len(folders) > 1 else lambda _: folders[0]
