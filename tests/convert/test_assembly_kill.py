"""A conversion killed while its streams are put together: the same command, or one with other options, ends it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.convert import pipeline
from skillit_stream.convert.verify import verify
from tests.support.adding import digests, rows_of
from tests.support.streams_reading import left_in


class Killed(BaseException):
    """Stands for a kill."""


# What changes files from the first shard that is brought to its place to the finished folder.
STEPS = ((os, 'replace'), (os, 'rename'), (os, 'unlink'), (os, 'rmdir'), (os, 'link'), (shutil, 'move'))


def kill_at(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Be killed before the step of a number (from 0), once all parts are done; returns the steps that were come to."""
    steps: list[str] = []

    def guarded(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            steps.append(name)
            if len(steps) > number:
                raise Killed
            return run(*arguments, **options)

        return step

    put_together = pipeline._assemble

    def begin(*arguments: Any) -> Any:
        for module, name in STEPS:
            patch.setattr(module, name, guarded(name, getattr(module, name)))
        return put_together(*arguments)

    patch.setattr(pipeline, '_assemble', begin)
    return steps


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize('links', [True, False], ids=['links', 'no links'])
@pytest.mark.parametrize('overwrite', [False, True], ids=['new', 'overwrite'])
def test_a_kill_while_shards_are_moved_costs_nothing_whatever_comes_next(
    tmp_path: Path,
    add_command,
    write_rows,
    skillit,
    refused,
    monkeypatch: pytest.MonkeyPatch,
    links: bool,
    overwrite: bool,
):
    rows = [*rows_of('law', 0, 40), *rows_of('verse', 0, 40), {'text': 'x', 'kind': 'tiny'}]
    path = write_rows('old.jsonl', [*rows, *rows_of('few', 0, 4)])
    earlier = [*add_command(write_rows('earlier.jsonl', rows_of('prose', 0, 40)))]

    def command(least: int, out: str = 'S') -> list[object]:
        more = ['--overwrite'] if overwrite else []
        return [*add_command(path, out=out), '--min-samples', least, *more]

    if not links:

        def refuse(*_: Any) -> None:
            raise OSError(95, 'Operation not supported')

        monkeypatch.setattr(os, 'link', refuse)
    straight = {}
    for least in (2, 9):
        skillit(*command(least, f'T{least}'))
        straight[least] = digests(tmp_path / f'T{least}')
    assert set(straight[2]) > set(straight[9])
    number = 0
    done = False
    while not done:
        for name in left_in(tmp_path):
            if name not in ('T2', 'T9', 'corpus'):
                shutil.rmtree(tmp_path / name)
        if overwrite:
            skillit(*earlier)
        with monkeypatch.context() as patch:
            steps = kill_at(patch, number)
            try:
                skillit(*command(2))
                done = True
            except Killed:
                pass
        if not done:
            after = 9 if number % 2 else 2
            if (tmp_path / 'S' / 'verse').exists() and not overwrite:
                assert 'holds finished streams' in refused(*command(after))
                after = 2
            else:
                skillit(*command(after))
            assert digests(tmp_path / 'S') == straight[after], (number, steps)
            verify(str(tmp_path / 'S'))
            assert left_in(tmp_path) == ['S', 'T2', 'T9', 'corpus'], (number, steps)
        number += 1
    assert number > 15
    assert digests(tmp_path / 'S') == straight[2]
