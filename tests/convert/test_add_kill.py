"""An addition that is killed at any moment leaves valid streams, and the same command ends it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.convert.grown_folder import GrownFolder
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.adding import digests
from tests.support.streams_reading import left_in, read_split


class Killed(BaseException):
    """Stands for a kill."""


# What changes files while new streams are put in their place.
STEPS = ((os, 'replace'), (os, 'rename'), (os, 'unlink'), (os, 'makedirs'), (shutil, 'copyfile'))


def kill_at(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Be killed before the step of a number (from 0), from `publish` on; returns the steps that were come to."""
    steps: list[str] = []

    def guarded(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            steps.append(name)
            if len(steps) > number:
                raise Killed
            return run(*arguments, **options)

        return step

    publish = GrownFolder.publish

    def begin(self: GrownFolder, *arguments: Any) -> None:
        for module, name in STEPS:
            patch.setattr(module, name, guarded(name, getattr(module, name)))
        publish(self, *arguments)

    patch.setattr(GrownFolder, 'publish', begin)
    return steps


def test_a_kill_between_any_two_steps_leaves_valid_streams_and_the_same_command_ends_it(
    tmp_path: Path, add_command, old_file, new_files, skillit, refused, monkeypatch: pytest.MonkeyPatch
):
    skillit(*add_command(old_file))
    shutil.copytree(tmp_path / 'S', tmp_path / 'pristine')
    before = verify(str(tmp_path / 'S'))
    skillit(*add_command(*new_files), '--add')
    straight = digests(tmp_path / 'S')
    seen = set()
    for number in range(1000):
        shutil.rmtree(tmp_path / 'S')
        shutil.copytree(tmp_path / 'pristine', tmp_path / 'S')
        with monkeypatch.context() as patch:
            steps = kill_at(patch, number)
            try:
                skillit(*add_command(*new_files), '--add')
                break
            except Killed:
                pass
        now = Manifest.load(str(tmp_path / 'S'))
        if now != before:
            seen.add('made')
            assert digests(tmp_path / 'S') == straight
            assert 'has all of 3 input files already' in refused(*add_command(*new_files), '--add')
            shutil.rmtree(tmp_path / '.S.skillit-partial', ignore_errors=True)
            continue
        if (tmp_path / 'S' / 'skills.json.next').exists():
            seen.add('half put in place')
            error = refused('verify', tmp_path / 'S')
            assert 'was stopped while it put new indexes in their place; run it again' in error
            for skill, info in before.skills.items():  # they can be trained on all the same
                for split, had in info.splits.items():
                    assert len(read_split(tmp_path / 'S', skill, split)) >= had.samples
        else:
            seen.add('as before')
            assert verify(str(tmp_path / 'S')) == before
        skillit(*add_command(*new_files), '--add')
        assert digests(tmp_path / 'S') == straight, steps
        assert left_in(tmp_path) == ['S', 'corpus', 'pristine']
    assert digests(tmp_path / 'S') == straight
    assert seen == {'as before', 'half put in place', 'made'}


def test_what_a_killed_addition_left_is_gone_after_another_one(
    tmp_path: Path, add_command, old_file, new_files, skillit, monkeypatch: pytest.MonkeyPatch
):
    skillit(*add_command(old_file))
    shutil.copytree(tmp_path / 'S', tmp_path / 'T')
    with monkeypatch.context() as patch:
        kill_at(patch, 7)
        with pytest.raises(Killed):
            skillit(*add_command(*new_files), '--add')
    assert list((tmp_path / 'S').rglob('shard.add1.*'))
    skillit(*add_command(new_files[1]), '--add')
    skillit(*add_command(new_files[1], out='T'), '--add')
    assert digests(tmp_path / 'S') == digests(tmp_path / 'T')
