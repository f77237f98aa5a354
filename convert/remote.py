"""Streams folders in an object store, written through Streaming's uploaders."""

import logging
import os
from typing import Any

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.formats.manifest import MANIFEST_NAME


class Remote:
    """A streams folder at a URL such as ``s3://bucket/path``.

    Args:
        root: The URL.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip('/')

    def check(self, *, overwrite: bool) -> None:
        """See that it can be written and holds no finished streams.

        Raises:
            InputError: There is no such bucket, it is not to be had, or finished streams are there.
        """
        try:
            found = self._uploader().list_objects(MANIFEST_NAME)
        except NotImplementedError:
            # Streaming cannot look into every kind of store.
            found = None
        except Exception as error:  # each store has errors of its own
            raise InputError(
                f'--out {self.root}: cannot be reached ({type(error).__name__}: {first_line(error)}); check the '
                'bucket and your credentials'
            ) from error
        if found and overwrite:
            raise InputError(
                f'--out {self.root}: holds finished streams, and --overwrite replaces local folders only; remove '
                'them first, or choose another place'
            )
        if found:
            raise InputError(f'--out {self.root}: holds finished streams; choose another place')

    def upload(self, folder: str, name: str) -> None:
        """Upload the files of a local folder into the folder `name`."""
        uploader = self._uploader(folder, name)
        for file in sorted(os.listdir(folder)):
            uploader.upload_file(file)

    def upload_file(self, folder: str, name: str) -> None:
        """Upload one file of a local folder."""
        self._uploader(folder).upload_file(name)

    def _uploader(self, folder: str | None = None, name: str = '') -> Any:
        from streaming.base.storage import CloudUploader

        # It warns of folders that are not empty, as the ones that are uploaded are.
        logging.getLogger('streaming.base.storage.upload').setLevel(logging.ERROR)
        url = f'{self.root}/{name}' if name else self.root
        return CloudUploader.get(url if folder is None else (folder, url), keep_local=True, exist_ok=True)
