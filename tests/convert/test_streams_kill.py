"""A change of skills that is killed at any moment: the folder is as before, as after, or says what ends it."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.convert import changed_folder
from skillit_stream.convert.verify import verify
from tests.convert.test_streams import rows_of
from tests.support.adding import digests
from tests.support.streams_reading import left_in


class Killed(BaseException):
    """Stands for a kill."""


# What changes files; an index is written in two steps.
STEPS = ('replace', 'rename', 'unlink', 'rmdir', 'mkdir')


def kill_at(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Be killed before the step of a number (from 0), while a change is made; returns the steps that were come to."""
    steps: list[str] = []

    def come_to(name: str) -> None:
        steps.append(name)
        if len(steps) > number:
            raise Killed

    def guarded(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            come_to(name)
            return run(*arguments, **options)

        return step

    def write_index(folder: str, shards: Any) -> None:
        come_to('open index')
        Path(folder, 'index.json').write_text('{"version": 2, "sha')
        come_to('write index')
        written(folder, shards)

    make, written = changed_folder.make_change, changed_folder.write_index

    def begin(*arguments: Any) -> None:
        for name in STEPS:
            patch.setattr(os, name, guarded(name, getattr(os, name)))
        make(*arguments)

    patch.setattr('skillit_stream.convert.streams.make_change', begin)
    patch.setattr(changed_folder, 'write_index', write_index)
    return steps


def state_of(root: Path) -> dict[str, str]:
    """Hash of every file; of the manifest without dates."""
    found = digests(root)
    manifest = json.loads((root / 'skills.json').read_text())
    for entry in (*manifest.get('history', ()), *manifest.get('changes', ())):
        del entry['date']
        entry.pop('arguments', None)
    return {**found, 'skills.json': json.dumps(manifest)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ('words', 'least'),
    [
        (['rename', 'S', 'law', 'statutes'], 5),
        (['drop', 'S', 'law', 'verse'], 12),
        (['merge', 'S', '--into', 'texts', 'law', 'prose'], 15),
        (['merge', 'S', '--into', 'law', 'prose', 'verse', 'law'], 20),
    ],
)
def test_a_kill_between_any_two_steps_leaves_no_half(
    tmp_path: Path, add_command, write_rows, skillit, refused, monkeypatch: pytest.MonkeyPatch, words, least
):
    rows = [row for kind in ('law', 'prose', 'verse') for row in rows_of(kind, 0, 60)]
    root = tmp_path / 'S'
    skillit(*add_command(write_rows('old.jsonl', rows)))
    skillit(*add_command(write_rows('new.jsonl', rows_of('law', 100, 60))), '--add')
    (root / 'law' / 'notes.md').write_text('mine')
    command = ['streams', words[0], root, *words[2:]]
    shutil.copytree(root, tmp_path / 'pristine')
    before = state_of(root)
    skillit(*command)
    after = state_of(root)
    verify(str(root))
    add = [*add_command(write_rows('more.jsonl', rows_of('other', 100, 60))), '--add']
    seen = set()
    number = 0
    for number in range(1000):
        shutil.rmtree(root)
        shutil.copytree(tmp_path / 'pristine', root)
        with monkeypatch.context() as patch:
            steps = kill_at(patch, number)
            try:
                skillit(*command)
                break
            except Killed:
                pass
        # Of a file that is written a killed process leaves what has its number in its name.
        for leftover in root.glob('.skills.json*'):
            leftover.unlink()
        if not (root / 'skills.json.change').exists():
            found = state_of(root)
            assert found in (before, after), steps
            seen.add('before' if found == before else 'after')
        elif not (root / 'skills.json').exists():
            seen.add('half')
            for other in (['verify', root], ['streams', 'list', root], add):
                error = refused(*other)
                assert (
                    f'{root}: its skills are being changed; if that was stopped, finish it: skillit' in error
                )
            way_on = shlex.split(error.split('finish it: skillit ')[1])
            skillit(*way_on)
            assert state_of(root) == after, steps
            verify(str(root))
            assert left_in(tmp_path) == ['S', 'corpus', 'pristine']
    assert number > least
    assert state_of(root) == after
    assert seen == {'before', 'half', 'after'}


def test_another_command_finishes_first_what_was_stopped(
    tmp_path: Path, add_command, write_rows, skillit, monkeypatch: pytest.MonkeyPatch
):
    rows = [row for kind in ('law', 'prose', 'verse') for row in rows_of(kind, 0, 60)]
    root = tmp_path / 'S'
    skillit(*add_command(write_rows('old.jsonl', rows)))
    with monkeypatch.context() as patch:
        kill_at(patch, 4)
        with pytest.raises(Killed):
            skillit('streams', 'merge', root, '--into', 'texts', 'law', 'prose')
    skillit('streams', 'rename', root, 'texts', 'all')
    manifest = verify(str(root))
    assert list(manifest.skills) == ['all', 'verse']
    assert [change.action for change in manifest.changes] == ['merge', 'rename']


def test_a_plan_that_cannot_be_read_changes_nothing(
    tmp_path: Path, add_command, write_rows, skillit, refused
):
    root = tmp_path / 'S'
    skillit(*add_command(write_rows('old.jsonl', [*rows_of('law', 0, 60), *rows_of('verse', 0, 60)])))
    (root / 'skills.json.change').write_text('{"command": "x"}')
    before = digests(root)
    assert 'skills.json.change: restore the folder' in refused('streams', 'drop', root, 'law')
    assert digests(root) == before
