"""Where the streams come to lie: a folder that appears complete or not at all (`staged_folder.py`), or an object store.

A destination has two local folders. In ``work`` lie the parts that are done, and what else is in progress; a command
that was stopped finds it again. In ``root`` the streams are put together, from nothing each time, or of an object
store what is left to upload. Both are locked: one command writes the streams of a place, whatever its ``work``.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.base.files import write_json
from skillit_stream.convert.existing import Existing
from skillit_stream.convert.locks import LOCK_NAME, locked
from skillit_stream.convert.parts import RECORD_NAME
from skillit_stream.convert.shards import Shard, index_hash, write_index
from skillit_stream.convert.splits import WorkKeptError
from skillit_stream.convert.tokens import TOKENIZER_FOLDER
from skillit_stream.formats.manifest import MANIFEST_NAME, Manifest
from skillit_stream.formats.remote_folder import listed_objects

Saved = TypeVar('Saved')
# In the work: shards of what the parts have left over.
REST_FOLDER = 'rest'


class Destination(ABC):
    """Where a command works and where its streams come to lie; can be sent to other processes.

    Args:
        root: Local folder in which the streams are put together.
        work: Local folder for work in progress; it is removed at the end.
    """

    existing = Existing()
    """The streams that are added to."""
    finished_earlier = False
    """Whether it has just finished what a command was killed at."""

    def __init__(self, root: str, work: str) -> None:
        self.root = root
        self.work = work
        self.tokenizer = ''
        """Folder of the tokenizer, once it is saved."""

    def part_folder(self, name: str) -> str:
        """Folder of a part."""
        return os.path.join(self.work, 'parts', name)

    @contextmanager
    def opened(self, *, shared: bool) -> Iterator[None]:
        """Make the folders and keep other commands out; of one that fails nothing is left if no part was done.

        Args:
            shared: Whether other commands may open it too, if they ask for the same. What they share is not removed.

        Raises:
            InputError: The folders cannot be made, or another command is at work there.
        """
        self._make_root()
        parts = os.path.join(self.work, 'parts')
        with ExitStack() as locks:
            for folder in (self.root, self.work):
                locks.enter_context(locked(os.path.join(folder, LOCK_NAME), shared=shared))
            os.makedirs(parts, exist_ok=True)
            try:
                yield
            except BaseException:
                if not shared and not self._has_parts():
                    self.clear()
                raise

    @contextmanager
    def cleared_if_refused(self) -> Iterator[None]:
        """Within this context an InputError means that the input has to change: the parts are removed.

        Unless they serve a command with other options.
        """
        try:
            yield
        except WorkKeptError:
            raise
        except InputError:
            self.clear()
            raise

    def _has_parts(self) -> bool:
        with suppress(FileNotFoundError):
            names = os.listdir(os.path.join(self.work, 'parts'))
            return any(os.path.exists(os.path.join(self.part_folder(name), RECORD_NAME)) for name in names)
        return False

    def keep_tokenizer(self, save: Callable[[str], Saved]) -> Saved:
        """Keep the tokenizer that `save` saves to a folder; several commands may do so at once, with different ones.

        Returns:
            What `save` returns.
        """
        scratch = tempfile.mkdtemp(prefix='.tokenizer.', dir=self.work)
        try:
            found = save(scratch)
        except BaseException:
            shutil.rmtree(scratch)
            raise
        digest = hashlib.blake2b(digest_size=8)
        for path in sorted(Path(scratch).iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        self.tokenizer = os.path.join(self.work, f'tokenizer.{digest.hexdigest()}')
        try:
            os.rename(scratch, self.tokenizer)
        except OSError:  # another command, or an earlier one, has saved it
            shutil.rmtree(scratch)
        return found

    def has_shards(self, folder: str, skill: str, shards: Sequence[Shard]) -> bool:
        """Whether the train shards that a part has written are where they are to be found."""
        del folder, skill, shards
        return True

    def begin_assembly(self) -> None:
        """Empty the folder in which the streams are put together, but for the tokenizer."""
        kept = {os.path.basename(self.work), LOCK_NAME}
        for name in set(os.listdir(self.root)) - kept:
            path = os.path.join(self.root, name)
            (remove_folder if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)
        remove_folder(os.path.join(self.work, REST_FOLDER))
        shutil.copytree(self.tokenizer, os.path.join(self.root, TOKENIZER_FOLDER))

    def clear(self) -> None:
        """Remove all that was made."""
        shutil.rmtree(self.work, ignore_errors=True)

    @abstractmethod
    def writer_target(self, local: str, skill: str, split: str) -> str | tuple[str, str]:
        """What to give a ShardWriter as `out` so that shards of a split are written to the folder `local`."""

    @abstractmethod
    def finish_split(
        self, skill: str, split: str, folders: Sequence[str], shards: Sequence[Mapping[str, Any]]
    ) -> str:
        """Bring the shards of a split together and write its index.

        Args:
            skill: Safe name.
            split: 'train' or 'eval'.
            folders: Local folders that shards were written to, if there were any.
            shards: Entries of the index.

        Returns:
            The hash of the index.
        """

    @abstractmethod
    def publish(self, manifest: Manifest, companions: Mapping[str, Any]) -> None:
        """Write the manifest: the streams are complete.

        Args:
            manifest: Of the streams.
            companions: Name of a JSON file to lie beside it -> contents.
        """

    @abstractmethod
    def _make_root(self) -> None:
        """Make the root folder, or find it as an earlier command left it."""


class ObjectStore(Destination):
    """Streams at a URL such as ``s3://bucket/path``, written through Streaming's uploaders.

    Train shards are uploaded by whoever converts a part, everything else by the command that puts the streams
    together, the manifest last. There is no lock: whoever is to publish looks once more whether somebody else has.

    Args:
        url: The URL.
        work: Local folder for work in progress.
        overwrite: As on the command line; finished streams are not replaced.

    Raises:
        InputError: There is no such bucket, it is not to be had, or finished streams are there.
    """

    def __init__(self, url: str, work: str | None, *, overwrite: bool) -> None:
        if work is None:
            raise InputError(f'--out {url}: needs a local folder for work in progress; pass one as --work')
        super().__init__(os.path.join(work, 'streams'), work)
        self._url = url.rstrip('/')
        self._check(overwrite)

    def _check(self, overwrite: bool) -> None:
        try:
            found = self._is_finished()
        except Exception as error:  # each store has errors of its own
            raise InputError(
                f'--out {self._url}: cannot be reached ({type(error).__name__}: {first_line(error)}); check the '
                'bucket and your credentials'
            ) from error
        if found and overwrite:
            raise InputError(
                f'--out {self._url}: holds finished streams, and --overwrite replaces local folders only; remove '
                'them first, or choose another place'
            )
        if found:
            raise InputError(f'--out {self._url}: holds finished streams; choose another place')

    def _is_finished(self) -> bool:
        return bool(listed_objects(self._uploader(), MANIFEST_NAME))

    def _make_root(self) -> None:
        os.makedirs(self.root, exist_ok=True)

    def writer_target(self, local: str, skill: str, split: str) -> tuple[str, str]:
        """The folder, and where its shards are uploaded to."""
        return local, f'{self._url}/{skill}/{split}'

    def finish_split(
        self, skill: str, split: str, folders: Sequence[str], shards: Sequence[Mapping[str, Any]]
    ) -> str:
        """Upload the index; the shards are there already."""
        os.makedirs(folders[0], exist_ok=True)
        write_index(folders[0], shards)
        self._upload(folders[0], f'/{skill}/{split}', 'index.json')
        return index_hash(folders[0])

    def publish(self, manifest: Manifest, companions: Mapping[str, Any]) -> None:
        """Upload the tokenizer and what lies beside the manifest, then the manifest.

        Raises:
            InputError: Another command has published streams there meanwhile: a store has no lock.
        """
        if self._is_finished():
            raise InputError(
                f'--out {self._url}: another command has finished streams there meanwhile, and some of its shards may '
                'be overwritten by those of this one; remove all that is there and run one of the commands again (the '
                'parts of this one are kept)'
            )
        tokenizer = os.path.join(self.root, TOKENIZER_FOLDER)
        self._upload(tokenizer, f'/{TOKENIZER_FOLDER}', *sorted(os.listdir(tokenizer)))
        for name, contents in companions.items():
            write_json(os.path.join(self.root, name), contents)
        manifest.save(self.root)
        self._upload(self.root, '', *companions, MANIFEST_NAME)
        self.clear()

    def _upload(self, folder: str, where: str, *names: str) -> None:
        """Upload files of a local folder to the URL and `where`."""
        uploader = self._uploader(folder, where)
        for name in names:
            uploader.upload_file(name)

    def _uploader(self, folder: str | None = None, where: str = '') -> Any:
        from streaming.base.storage import CloudUploader

        # It warns of folders that are not empty, as the ones that are uploaded are.
        logging.getLogger('streaming.base.storage.upload').setLevel(logging.ERROR)
        url = f'{self._url}{where}'
        return CloudUploader.get(url if folder is None else (folder, url), keep_local=True, exist_ok=True)


def remove_folder(folder: str) -> None:
    """Remove a folder with all that is in it, if it is there."""
    if os.path.isdir(folder):
        shutil.rmtree(folder)
