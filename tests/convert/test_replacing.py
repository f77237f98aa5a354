"""A folder takes the place of another: killed between any two steps, with files in it that are nobody's streams."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.convert.replacing import (
    MADE,
    check_free,
    fill_folder,
    finish_filling,
    finish_replacing,
    replace_folder,
)

FOREIGN = (
    'notes.txt',
    'prose/cleaning.md',
    'prose/train/figure.png',
    'tokenizer/mine.txt',
    'mine/train/shard.mds',
)


class Killed(BaseException):
    """Stands for a kill."""


def write_streams(root: Path, *skills: str, name: str = 'skills.json') -> None:
    for skill in skills:
        for split in ('train', 'eval'):
            folder = root / skill / split
            folder.mkdir(parents=True)
            (folder / 'index.json').write_text(f'index of {skill}')
            (folder / 'shard.00000.00000.mds').write_text(f'shard of {skill} {root.name}')
    (root / 'tokenizer').mkdir()
    (root / 'tokenizer' / 'tokenizer.json').write_text(root.name)
    manifest = {'skills': dict.fromkeys(skills, 0), 'corpus': {'eval_fraction': 0.05}}
    (root / name).write_text(json.dumps(manifest))


def tree(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob('*') if path.is_file()}


def killed_at(number: int, action: Callable[[], Any]) -> bool:
    """Do something, and be killed before the step of a number (from 0); whether it was."""
    steps = 0

    def guarded(run: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > number:
                raise Killed
            return run(*arguments, **options)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in ('replace', 'rename', 'unlink', 'mkdir', 'rmdir'):
            patch.setattr(os, name, guarded(getattr(os, name)))
        try:
            action()
        except Killed:
            return True
    return False


def folders_until_done(root: Path, least: int, was_killed: list[bool]) -> Iterator[tuple[int, Path]]:
    """(step, an empty folder) for every step that a kill can come at, as long as the last one was killed."""
    while was_killed[-1]:
        folder = root / str(len(was_killed))
        folder.mkdir()
        yield len(was_killed) - 1, folder
    assert len(was_killed) > least


def prepare(folder: Path, *, inside: bool) -> tuple[Path, Path, dict[str, str], dict[str, str]]:
    """(target, new, what the target is to hold at the end, what it holds now)."""
    target = folder / 'S'
    new = target / '.new' if inside else folder / '.new'
    write_streams(target, 'prose', 'verse')
    for name in FOREIGN:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(name)
    before = tree(target)
    new.mkdir()
    write_streams(new, 'prose', 'law', name=MADE if inside else 'skills.json')
    expected = {name: name for name in FOREIGN} | {
        name.replace(MADE, 'skills.json'): text for name, text in tree(new).items()
    }
    return target, new, expected, before


def test_a_kill_between_any_two_steps_loses_nothing_that_is_foreign(tmp_path: Path):
    kills = [True]
    for step, folder in folders_until_done(tmp_path, 10, kills):
        target, new, expected, before = prepare(folder, inside=False)
        places = (str(target), str(folder / '.previous'))
        kills.append(killed_at(step, partial(replace_folder, str(new), *places)))
        finish_replacing(*places)
        found = tree(target)
        assert found == expected or (kills[-1] and found == before)
        if found == before:
            replace_folder(str(new), *places)
        assert tree(target) == expected
        assert os.listdir(folder) == ['S']


def test_a_folder_that_must_stay_is_filled_whatever_step_a_kill_comes_at(tmp_path: Path):
    kills = [True]
    for step, folder in folders_until_done(tmp_path, 20, kills):
        target, new, expected, _ = prepare(folder, inside=True)
        kills.append(killed_at(step, partial(fill_folder, str(new), str(target))))
        # Whoever reads it meanwhile finds whole streams or none.
        if (target / 'skills.json').exists():
            skills = json.loads((target / 'skills.json').read_text())['skills']
            assert all((target / skill / 'eval' / 'index.json').exists() for skill in skills)
        if (new / MADE).exists():
            finish_filling(str(new), str(target))
        assert {name: text for name, text in tree(target).items() if not name.startswith('.new')} == expected
        assert kills[-1] or tree(target) == expected


@pytest.mark.parametrize('name', ['law', 'law/train/index.json', 'graph.json'])
def test_what_is_foreign_and_in_the_way_is_not_replaced(tmp_path: Path, name: str):
    target, new, _, _ = prepare(tmp_path, inside=False)
    (new / 'graph.json').write_text('a graph of the corpus')
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_text('mine')
    before = tree(target)
    with pytest.raises(InputError, match=f'did not write \\({name}.*; move it away'):
        replace_folder(str(new), str(target), str(tmp_path / '.previous'))
    assert tree(target) == before
    assert new.exists()


def test_a_place_that_was_empty_when_it_was_looked_at_is_looked_at_again(tmp_path: Path):
    _, new, _, _ = prepare(tmp_path, inside=False)
    target = tmp_path / 'T'
    check_free(str(new), str(target))
    target.mkdir()
    replace_folder(str(new), str(target), str(tmp_path / '.previous'))
    assert (target / 'law').exists()
    other = tmp_path / 'U'
    other.mkdir()
    (other / 'thesis.tex').write_text('years of work')
    with pytest.raises(InputError, match=r'did not write \(thesis.tex\)'):
        replace_folder(str(target), str(other), str(tmp_path / '.previous'))
    assert tree(other) == {'thesis.tex': 'years of work'}
