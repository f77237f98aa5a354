"""A remote with a latency and a bandwidth, on this machine: as much of S3 as a download needs.

    with SlowRemote(folder) as address:  # what S3_ENDPOINT_URL is to be
        Stream(remote='s3://any/arxiv', ...)  # serves folder/arxiv

Every request waits for the latency first; all answers together share the bandwidth, as those of a node share
its network. It runs in a process of its own, so that the loader under test does not wait for its Python.
Nothing is signed or checked: credentials may be any.
"""

import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

LATENCY = 0.05  # seconds before a request is answered
BANDWIDTH = 50e6  # bytes a second, all connections together
_PIECE = 1 << 16


class SlowRemote:
    """The server, from `with` to its end.

    Args:
        folder: What it serves; ``s3://any/path`` is ``folder/path``.
        latency: Seconds before each request is answered.
        bandwidth: Bytes a second, all connections together.
    """

    def __init__(self, folder: Path, latency: float = LATENCY, bandwidth: float = BANDWIDTH) -> None:
        self._command = [sys.executable, __file__, str(folder), str(latency), str(bandwidth)]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline() if self._process.stdout else ''
        return f'http://127.0.0.1:{int(line)}'

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()


class BandwidthLimit:
    """Lets bytes through at a rate, whoever sends them."""

    def __init__(self, bandwidth: float) -> None:
        self._bandwidth = bandwidth
        self._free = 0.0
        self._lock = Lock()

    def take(self, size: int) -> None:
        """Wait until `size` bytes may have passed."""
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now) + size / self._bandwidth
            wait = self._free - now
        time.sleep(wait)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, latency: float, bandwidth: float) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.folder, self.latency, self.limit = folder, latency, BandwidthLimit(bandwidth)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ends in the middle of an answer is no error of the server's."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """HEAD and GET of an object, whole or a range."""

    protocol_version = 'HTTP/1.1'

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are not logged."""

    def _answer(self, with_body: bool) -> None:
        server = cast(_Server, self.server)
        time.sleep(server.latency)
        # Endpoints that are addresses get the bucket as the first part of the path.
        path = server.folder / self.path.split('?')[0].lstrip('/').partition('/')[2]
        if not path.is_file():
            self.send_response(404)
            self.send_header('Content-Length', '0')
            self.end_headers()
            return
        size = path.stat().st_size
        asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
        first, last = (int(asked[1]), min(int(asked[2] or size), size - 1)) if asked else (0, size - 1)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header('Content-Range', f'bytes {first}-{last}/{size}')
        self.send_header('Content-Length', str(last - first + 1))
        self.send_header('ETag', f'"{path.name}-{size}"')
        self.send_header('Last-Modified', self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if with_body:
            with open(path, 'rb') as file:
                file.seek(first)
                self._send(file, last - first + 1, server.limit)

    def _send(self, file: BinaryIO, left: int, limit: BandwidthLimit) -> None:
        while left:
            piece = file.read(min(left, _PIECE))
            limit.take(len(piece))
            self.wfile.write(piece)
            left -= len(piece)


def main() -> None:
    """Serve until terminated; the first line printed is the port."""
    server = _Server(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == '__main__':
    main()
