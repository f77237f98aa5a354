"""A streams folder in an object store: its small files are fetched whole, its shards as they are needed.

The folder on this machine that they go to is laid out like the one they come from.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.formats.manifest import MANIFEST_NAME, Manifest

TOKENIZER_FILES = ('tokenizer.json', 'tokenizer_config.json')
# A chat template is written for tokenizers that have one, and nothing in training depends on it; the map was written by
# transformers 4, which said the same in the configuration.
TOKENIZER_FILES_OF_SOME = ('special_tokens_map.json', 'chat_template.jinja')


def fetch_manifest(remote: str, local: str | Path) -> Manifest:
    """Fetch ``skills.json`` anew: what a cache holds of an earlier day may be of other streams.

    Raises:
        InputError: It cannot be had, or is broken.
    """
    fetch_file(remote, MANIFEST_NAME, local)
    return Manifest.load(str(local))


def fetch_tokenizer(remote: str, local: str | Path) -> None:
    """Fetch the tokenizer that was saved with the streams.

    Raises:
        InputError: It cannot be had.
    """
    try:
        for name in TOKENIZER_FILES:
            fetch_file(remote, f'tokenizer/{name}', local)
    except InputError as error:
        raise InputError(f'{error} Or name a tokenizer: tokenizer=NAME_OR_FOLDER.') from error
    for name in TOKENIZER_FILES_OF_SOME:
        # Every kind of store says in its own way that there is no such file.
        with contextlib.suppress(InputError):
            fetch_file(remote, f'tokenizer/{name}', local)


def fetch_file(remote: str, name: str, local: str | Path) -> Path:
    """Fetch one file, replacing what is there; all ranks of a node may do so at once.

    Args:
        remote: The streams folder, anything that Streaming can read from.
        name: Of the file in it.
        local: The folder on this machine.

    Returns:
        Its path.

    Raises:
        InputError: It cannot be had.
    """
    from streaming.base.storage import CloudDownloader

    path = Path(local, name)
    scratch = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        CloudDownloader.direct_download(f'{remote.rstrip("/")}/{name}', str(scratch))
        os.replace(scratch, path)
    except Exception as error:  # each store has errors of its own
        raise InputError(
            f'`streams`: {remote.rstrip("/")}/{name} cannot be read ({type(error).__name__}: '
            f'{first_line(error)}); check the address and your credentials.'
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    return path


def listed_objects(store: Any, name: str) -> list[str]:
    """What a store of Streaming's or Composer's has under a name; nothing where it cannot be looked into."""
    try:
        return store.list_objects(name)
    except NotImplementedError:
        return []


def check_cache(manifest: Manifest, local: str | Path, skills: Iterable[str], split: str) -> None:
    """Refuse a cache of other streams: its shards would be taken for those of the remote.

    Args:
        manifest: Of the remote.
        local: The folder on this machine.
        skills: Those that are going to be read.
        split: Of each of them.

    Raises:
        InputError: An index in the cache is not the one that the manifest knows.
    """
    for skill in skills:
        path = Path(local, skill, split, 'index.json')
        with contextlib.suppress(FileNotFoundError):
            digest = f'sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}'
            if digest != manifest.skills[skill].splits[split].index_hash:
                raise InputError(
                    f'`streams_local`: {path.parent} was fetched from other streams than those in `streams`: remove '
                    f'it, or name another folder.'
                )
