"""Which checkpoint a run starts from: one file, the same on all ranks, or one line that says why not.

Composer's own ``autoresume`` is left aside. Where several nodes share the folder it fails (the first rank of
each node removes the same signal file), and a run that was killed while it wrote a checkpoint it either
takes for a fresh one or refuses. Here rank 0 chooses, and all ranks see whether they have what it chose. The one
exception is FSDP's sharded checkpoints, folders that every rank has its share of: they are Composer's to find.
"""

import re
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from composer.utils import dist, maybe_create_object_store_from_uri, parse_uri

from skillit_stream.base.errors import InputError, as_input_error, first_line
from skillit_stream.base.names import is_url
from skillit_stream.training.config import TrainConfig, load_config

# Composer's names: a link to the newest, moved when a checkpoint is complete, and the checkpoints themselves.
LATEST = 'latest-rank0.pt'
SHARDED = '.metadata'  # in a checkpoint that is a folder
CHECKPOINT = re.compile(r'ep\d+-ba(\d+)-rank0\.pt')


def loading_arguments(config: TrainConfig, folder: str) -> dict[str, Any]:
    """The arguments of Composer's Trainer that say what to load. All ranks call it together.

    Args:
        config: `autoresume`, `load_path` and what belongs to them.
        folder: Where the run's checkpoints are written: a path, or a URI of an object store.

    Raises:
        InputError: On all ranks, if the checkpoint is missing or is not the same on all nodes.
    """
    arguments = {
        'load_path': checkpoint_at(config.load_path) if config.load_path else None,
        'load_weights_only': config.load_weights_only,
        'load_ignore_keys': config.load_ignore_keys,
        'save_overwrite': config.save_overwrite,
        'autoresume': False,
    }
    if (config.fsdp_config or {}).get('state_dict_type') == 'sharded':
        return {**arguments, 'autoresume': config.autoresume}
    if config.autoresume:
        # What a killed run left half written, or wrote and did not link, is written again.
        arguments['save_overwrite'] = True
        if newest := _chosen_by_rank_zero(folder):
            arguments |= {'load_path': newest, 'load_weights_only': False, 'load_ignore_keys': None}
    path = arguments['load_path']
    if path and '://' not in path:
        _check_all_nodes_have(path)
    return arguments


def checkpoint_at(place: str) -> str:
    """The checkpoint that `load_path` names: itself, or the newest one of a run folder.

    Raises:
        InputError: It is a folder here without a checkpoint, or the object store cannot be reached.
    """
    if is_url(place) and not Path(place).suffix:
        with as_input_error(f'`load_path`: no checkpoint can be looked for in {place}', Exception):
            return newest_checkpoint(place) or place
    if is_url(place) or not Path(place).is_dir() or (Path(place) / SHARDED).exists():
        return place
    if found := newest_of_run(Path(place)) or newest_checkpoint(place):
        return found
    raise InputError(
        f'`load_path`: there is no checkpoint in {place}: name a .pt file, or a run folder that has one.'
    )


def newest_of_run(run: Path) -> str | None:
    """The newest checkpoint of a run folder, wherever its configuration has them put; None if there is none."""
    folder = str(run / 'checkpoints')
    if (run / 'config.yaml').exists():
        folder = load_config(run / 'config.yaml').checkpoint_folder or folder
    return newest_checkpoint(folder)


def newest_checkpoint(folder: str) -> str | None:
    """The checkpoint to go on from, or None if there is none.

    It is the one that Composer's link names. A run that was killed while the link was moved has none: then it
    is the one of the latest step that is complete.
    """
    if '://' in folder:
        return _newest_in_store(folder)
    link = Path(folder) / LATEST
    if link.exists():
        return str(link.resolve())
    steps = {path: CHECKPOINT.fullmatch(path.name) for path in Path(folder).glob('ep*-rank0.pt')}
    whole = [
        (int(match[1]), str(path)) for path, match in steps.items() if match and zipfile.is_zipfile(path)
    ]
    return max(whole)[1] if whole else None


def _newest_in_store(folder: str) -> str | None:
    store = maybe_create_object_store_from_uri(folder)
    if store is None:
        raise InputError(
            f'The checkpoints must be in an object store that Composer knows, but got: {folder}.'
        )
    _, _, prefix = parse_uri(folder)
    with tempfile.TemporaryDirectory() as scratch:
        link = Path(scratch) / LATEST
        try:
            store.download_object(f'{prefix.rstrip("/")}/{LATEST}.symlink', str(link))
        except FileNotFoundError:
            return None
        return store.get_uri(link.read_text(encoding='utf-8').strip())


def _chosen_by_rank_zero(folder: str) -> str | None:
    """What rank 0 finds: the other nodes may see a shared folder as it was a moment ago, or another one."""
    answer: list[str | None] = [None, None]
    if dist.get_global_rank() == 0:
        try:
            answer[0] = newest_checkpoint(folder)
        except Exception as error:  # all ranks must hear of it, whatever it is: they wait
            answer[1] = first_line(error)
    dist.broadcast_object_list(answer, src=0)
    if answer[1]:
        raise InputError(f'`autoresume`: no checkpoint can be looked for in {folder}: {answer[1]}')
    return answer[0]


def _check_all_nodes_have(path: str) -> None:
    """Refuse a checkpoint that some node lacks, or that is another one there."""
    seen = dist.all_gather_object((dist.get_node_rank(), fingerprint(Path(path))))
    first = seen[0][1]
    if first is None:
        raise InputError(f'`load_path`: there is no checkpoint at {path}.')
    others = sorted({node for node, fingerprint in seen if fingerprint != first})
    if others:
        raise InputError(
            f'All nodes must start from the checkpoint {path} of node 0, but this is not what node '
            f'{", ".join(map(str, others))} has there: put `save_folder` where all nodes see it, or copy the file.'
        )


def fingerprint(path: Path) -> tuple[int, int] | None:
    """Size in bytes and checksum of a checkpoint; None if there is none.

    torch writes a zip file, whose directory holds the CRC-32 of every tensor: no tensor needs to be read.
    """
    if not path.exists():
        return None
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        return size, 0
    with (
        as_input_error(f'The checkpoint {path} cannot be read', OSError, zipfile.BadZipFile),
        zipfile.ZipFile(path) as file,
    ):
        entries = [(entry.filename, entry.file_size, entry.CRC) for entry in file.infolist()]
    return size, zlib.crc32(repr(entries).encode())
