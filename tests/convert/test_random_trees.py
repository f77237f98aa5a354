"""Random trees of input files: each document is in the streams once, or counted once, however the work is divided."""

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream.cli import main
from tests.support.paths import ROOT
from tests.support.random_trees import Tree, random_tree
from tests.support.streams_reading import left_in
from tests.support.tree_outcome import check_streams, digests, may_be_too_small

# The same trees every time; a number here draws others.
OTHER_TREES = 'SKILLIT_TREES_SEED'
SEED = os.environ.get(OTHER_TREES, '0')
TREES = 300
# The others are for the slow tests.
FIRST = 20
# One in so many is also converted by commands that are killed, or by several processes.
KILLED_EVERY = 12
PROCESSES_EVERY = 20
MOST_KILLS = 4


def trees() -> list:
    return [pytest.param(number, marks=() if number < FIRST else pytest.mark.slow) for number in range(TREES)]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`skillit ARGUMENTS`; returns its code and what it printed on stderr, one line where it was refused."""

    def command(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert code in (0, 2), error
        assert error.count('\n') == (code == 2), error
        return code, error

    return command


@pytest.mark.parametrize('number', trees())
def test_each_document_is_in_the_streams_once_or_counted_once(
    tmp_path: Path, tokenizer: str, run, request: pytest.FixtureRequest, number: int
):
    tree = random_tree(f'{SEED}.{number}')
    tree.write(tmp_path / 'corpus')
    # Shown where the test fails.
    request.node.add_report_section('call', 'tree', f'{OTHER_TREES}={SEED}, tree {number}:\n{tree}')
    options = ['--tokenizer', tokenizer, *tree.options]
    command = ['convert', tree.corpus, str(tmp_path / 'corpus'), *options]
    out = tmp_path / 'S'
    command = converted(tree, command, out, run)
    if not command:
        assert not out.exists()
        return
    assert left_in(tmp_path) == ['S', 'corpus']
    check_streams(tree, out)
    assert run('verify', out)[0] == 0
    rng = random.Random(number)
    again = tmp_path / 'T'
    if number >= FIRST and number % KILLED_EVERY == 0:
        rank_server = request.getfixturevalue('rank_server')
        kill_now_and_then(rng, [*command, '--out', str(again)], again, rank_server)
    shares = rng.random() < 0.5
    if again.exists():
        # It was killed when all but the last of its own files were removed; typed again it removes them.
        code, error = run(*command, '--out', again)
        assert (code, 'holds finished streams' in error) == (2, True)
    elif shares:
        share_out(rng, [*command, '--out', str(again)], run)
    else:
        several = number >= FIRST and number % PROCESSES_EVERY == 1
        workers = rng.randint(2, 3) if several else 1
        assert run(*command, '--out', again, '--workers', workers)[0] == 0
    assert left_in(tmp_path) == ['S', 'T', 'corpus']
    assert digests(out) == digests(again)
    shutil.rmtree(tmp_path)


def converted(tree: Tree, command: list[str], out: Path, run) -> list[str]:
    """The command by which the tree was converted; empty if it was refused, for what is wrong with it."""
    code, error = run(*command, '--out', out, '--workers', 1)
    skips = '--bad-records' in command
    if not tree.read:
        assert (code, 'no input files' in error) == (2, True)
    elif tree.unreadable:
        assert (code, 'rename the file' in error) == (2, True)
    elif tree.faults and not skips:
        assert (code, 'or count and leave out such records with --bad-records skip' in error) == (
            2,
            True,
        ) or (tree.clashes() and 'would both be stored as' in error)
    elif tree.clashes():
        assert (code, 'would both be stored as' in error) == (2, True)
    elif not tree.documents():
        assert (code, 'no documents in' in error) == (2, True)
    elif (code and 'too small' in error) or re.match(r"skillit: skill '", error):
        small = [skill for skill in tree.documents() if repr(skill) in error]
        assert small
        assert '--min-samples' not in command
        assert all(may_be_too_small(tree, tree.documents()[skill]) for skill in small)
        return converted(tree, [*command, '--min-samples', '1'], out, run)
    elif code:
        assert 'which is all of them' in error
        assert all(may_be_too_small(tree, texts) for texts in tree.documents().values())
    else:
        return command
    return []


def share_out(rng: random.Random, command: list[str], run) -> None:
    """Convert as tasks, in any order, some of them not at all."""
    count = rng.randint(1, 4)
    for task in rng.sample(range(count), rng.randint(1, count)):
        assert run(*command, '--workers', '1', '--task', f'{task}/{count}')[0] == 0
    assert run(*command, '--workers', '1')[0] == 0


def kill_now_and_then(rng: random.Random, command: list[str], out: Path, server) -> None:
    """Convert in processes that are killed at any moment, until none is left to kill."""
    for _ in range(rng.randint(1, MOST_KILLS)):
        process = server.ask(
            environment={'OMP_NUM_THREADS': '1'},
            arguments=[*command, '--workers', '1'],
            output=os.devnull,
            script=str(ROOT / 'skillit_stream' / 'cli.py'),
        )
        time.sleep(rng.random() * 0.4)
        if server.ask(ended=process) is None:
            os.kill(process, signal.SIGKILL)
            while server.ask(ended=process) is None:
                time.sleep(0.01)
        if (out / 'skills.json').exists():
            return
