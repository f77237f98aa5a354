"""Training in processes of their own: by the `composer` launcher, or forked from one that has imported everything."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.jobs import free_port
from tests.support.paths import IMPORTABLE, ROOT

COMPOSER = Path(sys.executable).with_name('composer')
SHARED_MEMORY = Path('/dev/shm')
STORE_VARIABLES = ('S3_ENDPOINT_URL', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_DEFAULT_REGION')
# Set by the Composer of other tests of this process; a launcher would take them for its own.
WORLD_VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'NODE_RANK', 'BASE_RANK')

NEEDS = [
    pytest.mark.skipif(not COMPOSER.exists(), reason='needs the `composer` launcher beside the interpreter'),
    pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason='needs /dev/shm and /proc'),
]

# A node sees no shared memory, no temporary files (their folder is short: sockets are made there) and no
# streams but its own. All of it goes with the namespace.
AS_NODE = (
    'mount -t tmpfs tmpfs /dev/shm && mkdir /dev/shm/tmp && export TMPDIR=/dev/shm/tmp && '
    'mount -t tmpfs tmpfs "$0" && exec "$@"'
)


def _environment() -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if name not in WORLD_VARIABLES}
    return {**outside, 'OMP_NUM_THREADS': '1'}


@dataclass
class Launch:
    """One run and everything that it started."""

    leaders: list[int]
    """Its first processes, each the leader of a session that all it starts belongs to."""

    exit_code: Callable[[], int | None]
    """0 once all of `leaders` have ended well; of one that has not, the code; None while they run."""

    output: Path
    streams: Path
    shared: set[tuple[Path, int]] = field(default_factory=set)
    """(path, inode) of the shared memory that its processes were seen to have."""

    def pids(self) -> list[int]:
        """Its processes that have not ended."""
        found = []
        for folder in Path('/proc').glob('[0-9]*'):
            with suppress(OSError):  # it may just have ended
                state, _, _, session = (folder / 'stat').read_text().rpartition(')')[2].split()[:4]
                if int(session) in self.leaders and state not in 'ZX':
                    found.append(int(folder.name))
        return found

    def note_shared_memory(self) -> None:
        """Remember the shared memory of datasets over its streams.

        Its processes open that of all other jobs on the machine too; Streaming writes into each which
        folders it is for.
        """
        for locals_ in SHARED_MEMORY.glob('*_locals'):
            with suppress(OSError):
                if str(self.streams).encode() in locals_.read_bytes():
                    prefix = locals_.name.removesuffix('locals')
                    self.shared |= {(one, one.stat().st_ino) for one in SHARED_MEMORY.glob(f'{prefix}*')}

    def left_in_shared_memory(self) -> list[Path]:
        """What of it is still there, by inode: another job may have taken the same names since."""
        return [path for path, inode in self.shared if path.exists() and path.stat().st_ino == inode]

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait while it runs; it must not end before that."""
        while not happened():
            assert self.exit_code() is None, self.output.read_text()[-3000:]
            time.sleep(0.005)

    def kill(self) -> None:
        """End all of its processes at once, without a chance to tidy up."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def finish(*launches: Launch) -> None:
    """Wait for launches that run at the same time; the first that fails, fails the test."""
    deadline = time.monotonic() + 200
    waiting = list(launches)
    while waiting and time.monotonic() < deadline:
        for one, code in [(one, one.exit_code()) for one in waiting]:
            if code is not None:
                assert code == 0, one.output.read_text()[-3000:]
                waiting.remove(one)
        time.sleep(0.05)
    assert not waiting, waiting[0].output.read_text()[-3000:]


class RankServer:
    """A process that has imported everything, and forks ranks; see :mod:`rank_server`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name('rank_server.py'))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**_environment(), **IMPORTABLE},
        )

    def ask(self, **request: Any) -> Any:
        """Its answer to a request; the first one waits for the imports."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + '\n')
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


class Forked:
    """What `subprocess.Popen` starts for `python -m skillit_stream.cli ARGUMENTS`, forked by a server.

    Args:
        server: Has imported what the command needs.
        command: From the interpreter on; anything else than that command is refused.
        stdout: A file that gets all that is printed.
        env: Its environment.
        **kwargs: Others of Popen, without effect here.
    """

    def __init__(
        self,
        server: RankServer,
        command: Sequence[str],
        *,
        stdout: Any,
        env: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        assert [sys.executable, '-m', 'skillit_stream.cli'] == list(command[:3])
        self._server = server
        self._code: int | None = None
        self._process = server.ask(
            environment={name: value for name, value in env.items() if name not in WORLD_VARIABLES},
            arguments=list(command[3:]),
            output=stdout.name,
            script=str(ROOT / 'skillit_stream' / 'cli.py'),
            folder=str(Path.cwd()),
        )

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self._code is None:
            self._code = self._server.ask(ended=self._process)
        return self._code

    def terminate(self) -> None:
        """End it."""
        if self.poll() is None:
            os.kill(self._process, signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended."""
        while self.poll() is None:
            time.sleep(0.01)


def forking_subprocess(server: RankServer) -> SimpleNamespace:
    """Stands in for the module `subprocess` where commands of `skillit` are started."""
    constants = {'DEVNULL': subprocess.DEVNULL, 'STDOUT': subprocess.STDOUT}
    return SimpleNamespace(Popen=partial(Forked, server), **constants)


class Launcher:
    """Starts runs of ``skillit_stream.train``, and ends what is left of them.

    Args:
        folder: For what the processes print.
        server: Forks ranks.
    """

    def __init__(self, folder: Path, server: RankServer) -> None:
        self._folder, self._server = folder, server
        self._launches: list[Launch] = []

    def composer(
        self,
        yaml: Path,
        streams: Path,
        *options: str,
        overrides: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> Launch:
        """`composer OPTIONS -m skillit_stream.train YAML OVERRIDES`, behind a prefix."""
        command = [*prefix, sys.executable, str(COMPOSER), *options, '-m', 'skillit_stream.train', str(yaml)]
        return self._start([*command, *overrides], streams)

    def script(self, script: Path, streams: Path, *arguments: str) -> Launch:
        """`python SCRIPT ARGUMENTS`, which may start ranks by itself."""
        return self._start([sys.executable, str(script), *arguments], streams)

    def ranks(
        self,
        yaml: Path,
        streams: Path,
        ranks: int,
        *,
        nodes: int = 1,
        overrides: Sequence[str] = (),
        script: Path | None = None,
        imports: Sequence[str] = (),
    ) -> Launch:
        """The processes that the launcher would start, on one node or as so many nodes of one machine.

        With a `script` they run its `main`, whose first argument is then `yaml`. The `imports` are those of all of
        them: the server does them once.
        """
        output, local = self._output(), ranks // nodes
        world: dict[str, Any] = {'WORLD_SIZE': ranks, 'LOCAL_WORLD_SIZE': local}
        world |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port()}
        # The server was started before the test said where its object store is.
        world |= {name: os.environ[name] for name in STORE_VARIABLES if name in os.environ}
        started = []
        for rank in range(ranks):
            own = {'RANK': rank, 'LOCAL_RANK': rank % local, 'NODE_RANK': rank // local}
            environment = {name: str(value) for name, value in {**world, **own}.items()}
            arguments = [str(yaml), *overrides]
            request = {'arguments': arguments, 'script': script and str(script), 'imports': imports}
            started.append(self._server.ask(environment=environment, output=str(output), **request))
        codes: dict[int, int] = {}

        def exit_code() -> int | None:
            for rank in started:
                if rank not in codes and (code := self._server.ask(ended=rank)) is not None:
                    codes[rank] = code
            return next(filter(None, codes.values()), 0 if len(codes) == ranks else None)

        return self._add(Launch(started, exit_code, output, streams))

    def _start(self, command: Sequence[str], streams: Path) -> Launch:
        output = self._output()
        with output.open('w') as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**_environment(), **IMPORTABLE},
                cwd=self._folder,
                start_new_session=True,
            )
        return self._add(Launch([process.pid], process.poll, output, streams))

    def _output(self) -> Path:
        return self._folder / f'output-{len(self._launches)}.txt'

    def _add(self, launch: Launch) -> Launch:
        self._launches.append(launch)
        return launch

    def close(self) -> None:
        """End what is left, and remove its shared memory."""
        for one in self._launches:
            one.note_shared_memory()
            one.kill()
            one.exit_code()
            for path in one.left_in_shared_memory():
                path.unlink()
