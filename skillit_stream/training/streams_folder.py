"""The streams folder that a YAML names: here, or elsewhere (`streams`) with a cache of it here (`streams_local`)."""

from pathlib import Path
from typing import Any

from streaming import Stream
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import is_missing_folder
from skillit_stream.formats.manifest import Manifest
from skillit_stream.formats.remote_folder import check_cache, fetch_file, fetch_manifest, fetch_tokenizer
from skillit_stream.training.config import TrainConfig


def load_manifest(config: TrainConfig) -> Manifest:
    """What is in the streams; those that are elsewhere leave a copy of it in `streams_local`.

    Raises:
        InputError: It cannot be read.
    """
    if config.streams_local is None:
        return Manifest.load(config.streams)
    return fetch_manifest(config.streams, config.streams_local)


def local_root(config: TrainConfig) -> Path:
    """The folder here that holds the streams or their cache; the losses of samples lie in it."""
    return Path(config.streams_local or config.streams)


def own_graph(config: TrainConfig) -> Path:
    """The graph that lies in the streams folder."""
    if config.streams_local is None:
        return Path(config.streams) / 'graph.json'
    return fetch_file(config.streams, 'graph.json', config.streams_local)


def load_tokenizer(config: TrainConfig) -> PreTrainedTokenizerBase:
    """The tokenizer that the YAML names, or the one that was saved with the streams.

    Raises:
        InputError: It cannot be loaded.
    """
    if config.streams_local is not None and config.tokenizer is None:
        fetch_tokenizer(config.streams, config.streams_local)
    name = config.tokenizer or str(local_root(config) / 'tokenizer')
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
    if config.streams_local is None:
        return {skill: Stream(local=str(Path(config.streams) / skill), split=split) for skill in skills}
    check_cache(manifest, config.streams_local, skills, split)
    root, cache = config.streams.rstrip('/'), Path(config.streams_local)
    return {
        skill: Stream(remote=f'{root}/{skill}', local=str(cache / skill), split=split) for skill in skills
    }
