"""Where streams come to lie: what others put there stays, and one command at a time writes there."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skillit_stream.cli import main
from skillit_stream.convert import pipeline, staged_folder
from skillit_stream.convert.locks import LOCK_NAME, locked
from skillit_stream.convert.staged_folder import StagedFolder
from skillit_stream.convert.verify import verify
from tests.support.adding import documents_of, rows_of
from tests.support.streams_reading import left_in


@pytest.fixture
def command(add_command, old_file) -> Callable[..., list[object]]:
    """The arguments of a conversion to S."""
    return lambda *more, out='S': [*add_command(old_file, out=out), *more]


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the parts that are converted from now on."""
    numbers: list[int] = []
    run = pipeline._run

    def count(job, parts, *rest) -> None:
        numbers.extend(part.number for part in parts)
        run(job, parts, *rest)

    monkeypatch.setattr(pipeline, '_run', count)
    return numbers


def texts_in(root: Path, skill: str) -> int:
    """How many of the rows of a skill are in its streams whole."""
    rows = {row['text'] for row in rows_of(skill, 0, 150)}
    return len(rows & (documents_of(root, skill, 'train') | documents_of(root, skill, 'eval')))


@contextmanager
def before_publication(act: Callable[[], None]) -> Iterator[None]:
    """Have something happen when all is converted and nothing is published."""
    publish = StagedFolder.publish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StagedFolder, 'publish', lambda *arguments: (act(), publish(*arguments)))
        yield


def test_what_is_put_into_the_place_meanwhile_stays(tmp_path: Path, command, skillit, refused, converted):
    thesis = tmp_path / 'S' / 'thesis.tex'

    def put() -> None:
        thesis.parent.mkdir(exist_ok=True)
        thesis.write_text('years of work')

    with before_publication(put):
        error = refused(*command())
    assert 'is not empty and no streams folder' in error
    assert thesis.read_text() == 'years of work'
    thesis.unlink()
    converted.clear()
    skillit(*command())
    assert converted == []
    assert left_in(tmp_path) == ['S', 'corpus']
    # And where the streams are replaced.
    (tmp_path / 'S' / 'prose' / 'cleaning.md').write_text('how it was cleaned')
    with before_publication(put):
        skillit(*command('--overwrite'))
    assert thesis.read_text() == 'years of work'
    assert (tmp_path / 'S' / 'prose' / 'cleaning.md').read_text() == 'how it was cleaned'
    verify(str(tmp_path / 'S'))
    assert texts_in(tmp_path / 'S', 'prose') > 140
    assert left_in(tmp_path) == ['S', 'corpus']


def test_what_is_in_the_way_of_new_streams_is_not_replaced(
    tmp_path: Path, command, skillit, refused, write_rows
):
    skillit(*command())
    (tmp_path / 'S' / 'law').write_text('mine')
    before = {path: path.read_bytes() for path in (tmp_path / 'S').rglob('*') if path.is_file()}
    law = write_rows('law.jsonl', rows_of('law', 0, 150))
    arguments = [law if one == tmp_path / 'corpus' / 'old.jsonl' else one for one in command('--overwrite')]
    assert 'holds what this command did not write (law)' in refused(*arguments)
    assert {path: path.read_bytes() for path in (tmp_path / 'S').rglob('*') if path.is_file()} == before
    (tmp_path / 'S' / 'law').unlink()
    skillit(*arguments)
    assert list(verify(str(tmp_path / 'S')).skills) == ['law']


@pytest.mark.parametrize('error', [KeyboardInterrupt, None])
def test_a_task_that_fails_removes_nothing_that_is_shared(
    tmp_path: Path, command, write_rows, error, monkeypatch
):
    work = tmp_path / 'work'
    other = StagedFolder(str(tmp_path / 'S'), str(work / 'S.skillit-work'), overwrite=False)
    if error:
        monkeypatch.setattr(pipeline, '_run', lambda *_: (_ for _ in ()).throw(error))
    else:
        write_rows('old.jsonl', [b'{'])
    with other.opened(shared=True):
        begun = Path(other.part_folder('00007'), 'prose', 'shard')
        begun.parent.mkdir(parents=True)
        begun.write_text('half a shard of another task')
        (Path(other.root) / 'begun').write_text('by another task')
        code = main([str(one) for one in command('--work', work, '--task', '0/2')])
        assert code == (130 if error else 2)
        assert begun.exists()
        assert (Path(other.root) / 'begun').exists()


def test_two_tasks_are_not_at_one_part(command, tmp_path: Path, refused):
    destination = StagedFolder(str(tmp_path / 'S'), None, overwrite=False)
    with destination.opened(shared=True), locked(f'{destination.part_folder("00000")}.lock'):
        assert '00000: another command is at work there; wait' in refused(*command('--task', '0/1'))


@pytest.mark.parametrize('task', [(), ('--task', '0/2')])
def test_one_place_is_written_by_one_command_whatever_its_work(
    tmp_path: Path, command, refused, skillit, task
):
    there = StagedFolder(str(tmp_path / 'S'), str(tmp_path / 'a' / 'S.skillit-work'), overwrite=False)
    with there.opened(shared=False):
        error = refused(*command('--work', tmp_path / 'b', *task))
    assert '.S.skillit-partial: another command is at work there; wait for it to end' in error
    skillit(*command('--work', tmp_path / 'b'))
    assert texts_in(tmp_path / 'S', 'prose') > 140


class Killed(BaseException):
    """Stands for a kill."""


def kill() -> None:
    raise Killed


def test_streams_that_a_killed_command_put_together_are_not_published(
    tmp_path: Path, command, skillit, old_file
):
    with before_publication(kill), pytest.raises(Killed):
        skillit(*command())
    assert (tmp_path / '.S.skillit-partial' / 'verse').exists()
    arguments = [str(one) for one in command()]
    at = arguments.index('--skill-field')
    arguments[at : at + 2] = ['--skill', 'all']
    skillit(*arguments)
    assert left_in(tmp_path / 'S') == ['all', 'skills.json', 'tokenizer']
    manifest = verify(str(tmp_path / 'S'))
    assert sum(split.documents for split in manifest.skills['all'].splits.values()) == 300


def test_a_killed_putting_together_goes_on_without_converting_anew(
    tmp_path: Path, command, skillit, converted
):
    with before_publication(kill), pytest.raises(Killed):
        skillit(*command())
    converted.clear()
    skillit(*command())
    assert converted == []
    verify(str(tmp_path / 'S'))
    assert texts_in(tmp_path / 'S', 'verse') > 140


def test_a_part_whose_shards_are_gone_is_done_again(tmp_path: Path, command, skillit, converted):
    skillit(*command('--task', '0/1'))
    parts = tmp_path / '.S.skillit-partial' / '.work' / 'parts'
    min(parts.rglob('shard.*')).unlink()
    converted.clear()
    skillit(*command())
    assert converted == [0]
    assert texts_in(tmp_path / 'S', 'prose') > 140


@pytest.mark.parametrize('there', [True, False])
def test_a_link_leads_to_where_the_streams_come_to_lie(tmp_path: Path, command, skillit, there: bool):
    disk = tmp_path / 'disk'
    disk.mkdir()
    (tmp_path / 'S').symlink_to(disk / 'streams')
    if there:
        (disk / 'streams').mkdir()
    skillit(*command('--task', '0/2'))
    assert '.streams.skillit-partial' in left_in(disk)
    skillit(*command())
    assert (tmp_path / 'S').is_symlink()
    assert left_in(disk) == ['streams']
    verify(str(disk / 'streams'))
    skillit(*command('--overwrite'))
    assert (tmp_path / 'S').is_symlink()
    assert left_in(tmp_path) == ['S', 'corpus', 'disk']


@pytest.mark.parametrize('kind', ['tmpfs', 'bind'])
def test_a_mount_point_is_filled(tmp_path: Path, command, skillit, refused, kind: str):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'S').mkdir()
    how = ['-t', 'tmpfs', 'tmpfs'] if kind == 'tmpfs' else ['--bind', tmp_path / 'disk']
    if subprocess.run(['mount', *how, tmp_path / 'S'], capture_output=True, check=False).returncode:
        pytest.skip('needs the right to mount')
    try:
        skillit(*command('--task', '0/2'))
        assert left_in(tmp_path / 'S') == ['.skillit-partial']
        skillit(*command())
        assert left_in(tmp_path / 'S') == ['prose', 'skills.json', 'tokenizer', 'verse']
        verify(str(tmp_path / 'S'))
        assert texts_in(tmp_path / 'S', 'verse') > 140
        assert 'holds finished streams' in refused(*command())
        (tmp_path / 'S' / 'notes.txt').write_text('mine')
        skillit(*command('--overwrite'))
        assert left_in(tmp_path / 'S') == ['notes.txt', 'prose', 'skills.json', 'tokenizer', 'verse']
        verify(str(tmp_path / 'S'))
        assert left_in(tmp_path) == ['S', 'corpus', 'disk']
    finally:
        subprocess.run(['umount', tmp_path / 'S'], check=True)


def test_streams_that_nobody_lists_are_not_replaced_by_what_is_added(
    tmp_path: Path, command, add_command, new_files, skillit, refused
):
    skillit(*command())
    shutil.copytree(tmp_path / 'S' / 'verse', tmp_path / 'S' / 'law')
    index = (tmp_path / 'S' / 'law' / 'train' / 'index.json').read_bytes()
    error = refused(*add_command(new_files[1]), '--add')
    assert 'S/law/train: streams that skills.json does not list; move them away' in error
    assert (tmp_path / 'S' / 'law' / 'train' / 'index.json').read_bytes() == index
    shutil.rmtree(tmp_path / 'S' / 'law')
    skillit(*add_command(new_files[1]), '--add')
    assert list(verify(str(tmp_path / 'S')).skills) == ['law', 'prose', 'verse']


@pytest.mark.parametrize('work', [False, True])
@pytest.mark.parametrize('killed_at', ['remove_folder', '_remove_locks'])
def test_what_a_command_killed_after_its_publication_left_goes_when_it_is_typed_again(
    tmp_path: Path, command, refused, monkeypatch, killed_at, work
):
    def kill(*_) -> None:
        raise SystemExit('stands for a kill')

    typed = command(*(('--work', tmp_path / 'work') if work else ()))
    with monkeypatch.context() as patch:
        patch.setattr(StagedFolder if killed_at[0] == '_' else staged_folder, killed_at, kill)
        with pytest.raises(SystemExit):
            main([str(one) for one in typed])
    assert 'S: holds finished streams' in refused(*typed)
    assert left_in(tmp_path) == ['S', 'corpus', *(['work'] if work else [])]
    assert not work or left_in(tmp_path / 'work') == []
    assert not (tmp_path / 'S' / LOCK_NAME).exists()
    assert texts_in(tmp_path / 'S', 'prose') > 140
