"""A real Ray cluster of two emulated nodes, one of which is killed: what was begun there is done again elsewhere."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task, ray_cluster
from skillit_stream.cli import main
from skillit_stream.convert.verify import verify
from tests.support.paths import SUPPORT
from tests.test_golden import files_of, matches

pytest.importorskip('ray')
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# Another loopback address than 127.0.0.1, for which Ray would put the address of a network card.
LOOPBACK = '127.0.0.2'
# A dead node is noticed within two seconds.
HEALTH = {
    'health_check_initial_delay_ms': 0,
    'health_check_period_ms': 500,
    'health_check_timeout_ms': 500,
    'health_check_failure_threshold': 3,
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes of one CPU each; none of its processes is left at the end."""
    monkeypatch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    import ray
    from ray.cluster_utils import Cluster

    node = {'num_cpus': 1, 'node_ip_address': LOOPBACK, 'object_store_memory': 80 << 20}
    head = {**node, 'include_dashboard': False, '_system_config': HEALTH}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(**node)
    made.wait_for_nodes()
    pids = [
        info.process.pid
        for one in made.list_all_nodes()
        for kind in one.all_processes.values()
        for info in kind
    ]
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        until = time.monotonic() + 20
        while any(is_running(pid) for pid in pids) and time.monotonic() < until:
            time.sleep(0.1)
        assert not [pid for pid in pids if is_running(pid)]


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
    return False


def convert_gated(out: Path, gate: Path, address: str) -> int:
    counts = ['--train-samples', '300', '--eval-samples', '41', '--seed', '5']
    file = str(SUPPORT / 'gated_lego.py')
    return main(
        ['convert', 'custom', file, '--gate', str(gate), '--out', str(out), *counts, '--ray', address]
    )


def test_a_conversion_outlives_a_node(tmp_path: Path, cluster: Any):
    gate = tmp_path / 'gate'
    gate.mkdir()
    other = cluster.worker_nodes.copy().pop()
    killed: list[Path] = []

    def kill() -> None:
        """When both nodes are in the middle of a part, kill one, then open the gate."""
        until = time.monotonic() + 100
        while time.monotonic() < until:
            waiting = list(gate.iterdir())
            if len({path.name.split('.')[1] for path in waiting}) == 2:
                killed.extend(path for path in waiting if path.name.split('.')[1] == other.node_id)
                cluster.remove_node(other, allow_graceful=False)
                break
            time.sleep(0.05)
        (gate / 'open').touch()

    killer = threading.Thread(target=kill)
    killer.start()
    assert convert_gated(tmp_path / 'out', gate, cluster.address) == 0
    killer.join()
    [lost] = killed
    # The part that was being converted there was begun again on the node that was left.
    skill = lost.name.split('.')[0]
    assert len(list(gate.glob(f'{skill}.*'))) == 2
    verify(str(tmp_path / 'out'))
    matches('bytes_lego', files_of(tmp_path / 'out'))
    assert sorted(os.listdir(tmp_path)) == ['gate', 'out']


def note(folder: Path, task: Task) -> None:
    for item in task.share(range(7)):
        (folder / str(item)).touch()


def refuse(task: Task) -> None:
    raise InputError(f'task {task.number} is refused')


def test_tasks_are_done_over_the_cpus_and_a_refusal_is_passed_on(tmp_path: Path, cluster: Any):
    lines: list[str] = []
    with ray_cluster(cluster.address) as ray:
        ray.run_tasks(partial(note, tmp_path), Task(1, 2), 7, lines.append)
        assert sorted(path.name for path in tmp_path.iterdir()) == ['1', '3', '5']
        assert lines[0] == 'Ray: 2 tasks, one a CPU.'
        assert sorted(lines[1:]) == ['Task 1/4 is done.', 'Task 3/4 is done.']
        with pytest.raises(InputError, match='task 0 is refused'):
            ray.run_tasks(refuse, Task(), 1, lines.append)


def test_local_is_a_cluster_of_its_own(cluster: Any):
    import ray

    with ray_cluster('local'):
        assert LOOPBACK not in {node['NodeManagerAddress'] for node in ray.nodes()}
    assert len(cluster.list_all_nodes()) == 2


@pytest.mark.parametrize('address', ['127.0.0.1:1', 'auto', 'nowhere'])
def test_a_cluster_that_is_not_there_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('RAY_ADDRESS', '127.0.0.1:1')
    with pytest.raises(InputError, match=f'--ray {address}: cannot be reached'), ray_cluster(address):
        pass
