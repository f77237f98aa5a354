"""An S3 server on loopback for tests; the fixture `store` starts it."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Store:
    """An S3 server that counts requests and fails as often as it is told.

    Attributes:
        gets: Requests for the contents of a key, 'bucket/key' -> number.
        failures: 'bucket/key' -> how many of the next requests for it are answered by an error 500.
    """

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server('127.0.0.1', 0, self._answer, threaded=True)
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        self.gets: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._buckets = 0
        logging.getLogger('werkzeug').setLevel(logging.ERROR)
        Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, environ: dict[str, Any], start_response: Callable) -> Any:
        key = environ['PATH_INFO'].lstrip('/')
        if self.failures[key] > 0:
            self.failures[key] -= 1
            start_response('500 Internal Server Error', [('Content-Length', '0')])
            return []
        if environ['REQUEST_METHOD'] == 'GET':
            self.gets[key] += 1
        return self._application(environ, start_response)

    def client(self) -> Any:
        return boto3.client('s3', endpoint_url=self.url, region_name='us-east-1')

    def upload(self, folder: Path) -> str:
        """Put a folder into a bucket of its own; returns the bucket's name."""
        self._buckets += 1
        bucket, client = f'bucket{self._buckets}', self.client()
        client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob('*.*')):
            if path.is_file():
                client.put_object(
                    Bucket=bucket, Key=path.relative_to(folder).as_posix(), Body=path.read_bytes()
                )
        return bucket

    def close(self) -> None:
        self._server.shutdown()
