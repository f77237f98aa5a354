"""`skillit streams`: skills of finished streams renamed, dropped and merged; not one shard is written anew."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import StreamingDataset
from streaming.base.util import clean_stale_shared_memory

from skillit_stream.convert.locks import locked
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.adding import digests, documents_of
from tests.support.mounts import in_child, read_only, tiny
from tests.support.paths import SUPPORT
from tests.support.streams_reading import left_in

COUNTS = ('documents', 'bytes', 'samples', 'tokens', 'target_tokens', 'text_tokens')


def rows_of(kind: str, first: int, count: int) -> list[dict[str, Any]]:
    """Documents of which no two have 32 signs in common."""
    return [
        {'text': hashlib.sha512(f'{kind} {number}'.encode()).hexdigest()[: 40 + number % 50], 'kind': kind}
        for number in range(first, first + count)
    ]


@pytest.fixture
def streams(tmp_path: Path, add_command, write_rows, skillit) -> Path:
    """Streams of three skills, each of several shards."""
    rows = [row for kind in ('law', 'prose', 'verse') for row in rows_of(kind, 0, 150)]
    skillit(*add_command(write_rows('old.jsonl', rows)))
    return tmp_path / 'S'


def shard_bytes(root: Path) -> dict[int, bytes]:
    """Inode -> contents of every shard: a shard that was moved has kept both."""
    return {path.stat().st_ino: path.read_bytes() for path in root.rglob('*.mds')}


def plainly_read(root: Path, skill: str, split: str) -> list[bytes]:
    """The samples of a split, as a plain StreamingDataset has them."""
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(root / skill), split=split, shuffle=False, batch_size=1)
    return [dataset[number]['tokens'].tobytes() for number in range(dataset.num_samples)]


def total(manifest: Manifest, skills: tuple[str, ...], split: str, name: str) -> int:
    return sum(getattr(manifest.skills[skill].splits[split], name) for skill in skills)


def test_a_skill_is_renamed_with_all_that_is_known_of_it(streams: Path, skillit):
    (streams / 'law' / 'notes.md').write_text('mine')
    before, shards = verify(str(streams)), shard_bytes(streams)
    had = {split: plainly_read(streams, 'law', split) for split in ('train', 'eval')}
    printed = skillit('streams', 'rename', streams, 'law', 'statutes')
    assert "'law' renamed to 'statutes'" in printed
    after = verify(str(streams))
    assert list(after.skills) == ['prose', 'statutes', 'verse']
    assert after.skills['statutes'].splits == before.skills['law'].splits
    assert after.skills['statutes'].sources == before.skills['law'].sources
    assert after.corpus['eval_below']['statutes'] == before.corpus['eval_below']['law']
    assert 'law' not in after.corpus['eval_below']
    assert {split: plainly_read(streams, 'statutes', split) for split in had} == had
    assert shard_bytes(streams) == shards
    assert left_in(streams) == ['prose', 'skills.json', 'statutes', 'tokenizer', 'verse']
    assert left_in(streams.parent) == ['S', 'corpus']
    assert (streams / 'statutes' / 'notes.md').read_text() == 'mine'
    listed = skillit('streams', 'list', streams)
    assert "statutes: has the documents of 'law', 'statutes'" in listed
    assert re.search(r"\d{4}-\d\d-\d\dT.*: 'law' renamed to 'statutes'", listed)


def test_a_skill_that_is_renamed_back_is_as_it_was(streams: Path, skillit):
    before = Manifest.load(str(streams))
    skillit('streams', 'rename', streams, 'law', 'statutes')
    skillit('streams', 'rename', streams, 'statutes', 'law')
    after = verify(str(streams))
    assert after.skills['law'].splits == before.skills['law'].splits
    assert [change.into for change in after.changes] == ['statutes', 'law']


def test_skills_are_dropped_and_what_is_not_of_the_streams_stays(streams: Path, skillit):
    (streams / 'verse' / 'train' / 'losses').mkdir()
    (streams / 'verse' / 'train' / 'losses' / 'about.json').write_text('hours of work')
    kept = digests(streams / '.')
    printed = skillit('streams', 'drop', streams, 'law', 'verse')
    assert "'law', 'verse' dropped" in printed
    assert 'what is not of the streams stayed: verse/train/losses/about.json' in printed
    after = verify(str(streams))
    assert list(after.skills) == list(after.corpus['eval_below']) == ['prose']
    found = digests(streams)
    expected = {name: kept[name] for name in kept if name.startswith(('prose', 'tokenizer'))}
    assert {name: one for name, one in found.items() if name != 'skills.json'} == {
        **expected,
        'verse/train/losses/about.json': kept['verse/train/losses/about.json'],
    }
    assert not (streams / 'law').exists()


@pytest.mark.parametrize('into', ['texts', 'verse', 'law'])
def test_skills_are_merged_shard_after_shard(streams: Path, skillit, into: str):
    before, shards = verify(str(streams)), shard_bytes(streams)
    order = sorted(['law', 'verse'], key=lambda skill: skill != into)
    had = {
        split: [sample for skill in order for sample in plainly_read(streams, skill, split)]
        for split in ('train', 'eval')
    }
    assert 'split differently' not in skillit('streams', 'merge', streams, '--into', into, 'law', 'verse')
    after = verify(str(streams))
    assert list(after.skills) == sorted(['prose', into])
    assert after.skills['prose'] == before.skills['prose']
    for split in ('train', 'eval'):
        for name in COUNTS:
            assert total(after, (into,), split, name) == total(before, ('law', 'verse'), split, name)
        assert plainly_read(streams, into, split) == had[split]
    assert after.skills[into].sources == before.skills['law'].sources, 'one file, named once'
    assert after.skills[into].dropped['tail_tokens'] == sum(
        before.skills[skill].dropped['tail_tokens'] for skill in order
    )
    assert set(after.skills[into].names) == {'law', 'verse', into}
    assert after.corpus['eval_below'][into] == before.corpus['eval_below']['law']
    assert shard_bytes(streams) == shards
    assert left_in(streams) == sorted(['prose', 'skills.json', 'tokenizer', into])


def test_what_was_merged_is_merged_again(streams: Path, skillit):
    shards = shard_bytes(streams)
    skillit('streams', 'merge', streams, '--into', 'a', 'law', 'verse')
    skillit('streams', 'merge', streams, 'prose', 'a', '--into', 'prose')
    assert list(verify(str(streams)).skills) == ['prose']
    assert shard_bytes(streams) == shards


def test_merged_into_one_of_them_a_stream_is_lengthened(streams: Path, skillit):
    before = json.loads((streams / 'verse' / 'train' / 'index.json').read_text())['shards']
    skillit('streams', 'merge', streams, '--into', 'verse', 'law', 'verse')
    after = json.loads((streams / 'verse' / 'train' / 'index.json').read_text())['shards']
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_documents_of_an_old_name_are_added_to_the_skill_as_it_is_called_now(
    streams: Path, add_command, write_rows, skillit
):
    skillit('streams', 'rename', streams, 'law', 'statutes')
    skillit('streams', 'merge', streams, '--into', 'texts', 'prose', 'verse')
    before = verify(str(streams))
    kinds = ('law', 'statutes', 'prose', 'verse', 'texts', 'new')
    rows = [row for kind in kinds for row in rows_of(kind, 1000, 60)]
    printed = skillit(*add_command(write_rows('new.jsonl', rows)), '--add')
    assert "statutes: has the documents of 'law', 'statutes'\n" in printed
    assert "texts: has the documents of 'prose', 'verse', 'texts'\n" in printed
    after = verify(str(streams))
    assert list(after.skills) == ['new', 'statutes', 'texts']
    count = {
        skill: sum(one.documents for one in info.splits.values()) for skill, info in after.skills.items()
    }
    assert count == {'new': 60, 'statutes': 150 + 120, 'texts': 300 + 180}
    assert after.changes == before.changes
    assert after.skills['texts'].names == ('prose', 'verse', 'texts')
    assert len(after.history) == 2
    # A change after an addition carries the counts of both conversions.
    skillit('streams', 'merge', streams, '--into', 'all', 'statutes', 'texts')
    skillit('streams', 'drop', streams, 'new')
    assert list(verify(str(streams)).skills) == ['all']
    skillit(
        *add_command(write_rows('third.jsonl', rows_of('prose', 3000, 60) + rows_of('new', 3000, 60))),
        '--add',
    )
    assert list(verify(str(streams)).skills) == ['all', 'new']


def test_documents_go_to_the_split_of_their_twins_after_a_merge(
    streams: Path, add_command, write_rows, skillit
):
    held = documents_of(streams, 'law', 'eval') & {row['text'] for row in rows_of('law', 0, 150)}
    assert held
    skillit('streams', 'merge', streams, '--into', 'texts', 'law', 'verse')
    again = [{'text': text, 'kind': 'verse'} for text in sorted(held)]
    skillit(*add_command(write_rows('again.jsonl', [*again, *rows_of('law', 500, 60)])), '--add')
    verify(str(streams))
    assert not documents_of(streams, 'texts', 'train') & held


def test_a_merged_skill_that_was_split_in_two_ways_is_not_added_to(
    tmp_path: Path, add_command, write_rows, skillit, refused
):
    """With --eval-documents every skill has a bound of its own."""

    def command(name: str, rows: list[Any]) -> list[object]:
        options = [one for one in add_command(write_rows(name, rows)) if one not in ('--eval-fraction', 0.2)]
        return [*options, '--eval-documents', 9]

    skillit(*command('old.jsonl', [*rows_of('law', 0, 90), *rows_of('verse', 0, 90)]))
    printed = skillit('streams', 'merge', tmp_path / 'S', '--into', 'texts', 'law', 'verse')
    assert (
        'texts: what was merged had been split differently: a document that two of them had may be in'
        in printed
    )
    assert verify(str(tmp_path / 'S')).corpus['eval_below'] == {}
    error = refused(*command('new.jsonl', rows_of('law', 100, 90)), '--add')
    assert 'it was merged of skills that were split differently' in error
    skillit(*command('new.jsonl', rows_of('other', 100, 90)), '--add')
    assert list(verify(str(tmp_path / 'S')).skills) == ['other', 'texts']


def test_skills_with_a_sample_in_both_splits_together_are_not_merged(
    tmp_path: Path, tokenizer: str, skillit, refused
):
    path = tmp_path / 'questions.tsv'
    splits = {'a': ('train', 'eval'), 'b': ('eval', 'train')}
    lines = [
        f'{kind}\t{a}+1=\t{a + 1}\t{one}\n{kind}\t{kind}{a}-1=\t{a - 1}\t{other}\n'
        for kind, (one, other) in splits.items()
        for a in range(40)
    ]
    path.write_text(''.join(lines))
    options = ['--tokenizer', tokenizer, '--seq-len', 16, '--one-per-sample', '--loss', 'answer']
    skillit('convert', 'custom', SUPPORT / 'my_corpus.py', path, '--out', tmp_path / 'S', *options)
    before = digests(tmp_path / 'S')
    error = refused('streams', 'merge', tmp_path / 'S', '--into', 'c', 'a', 'b')
    assert '40 samples would be in train and in eval of a and b together; convert them as one skill' in error
    assert digests(tmp_path / 'S') == before


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['rename', 'S', 'lav', 'x'], "no skill 'lav'; did you mean 'law'?"),
        (['drop', 'S', 'law', 'nothing'], "no skill 'nothing'; "),
        (['merge', 'S', '--into', 'x', 'law', 'prosa'], "no skill 'prosa'; did you mean 'prose'?"),
        (['rename', 'S', 'law', 'verse'], "has a skill 'verse' already; choose another name, or merge them"),
        (['merge', 'S', '--into', 'prose', 'law', 'verse'], "has a skill 'prose' already"),
        (['rename', 'S', 'law', 'law'], "skill 'law' has that name"),
        (['rename', 'S', 'law', 'a/b'], "skill 'a/b' cannot name a folder"),
        (['rename', 'S', 'law', 'tokenizer'], 'is a reserved name'),
        (['rename', 'S', 'law', 'skills.json.change'], 'is a reserved name'),
        (['drop', 'S', 'law', 'prose', 'verse'], 'has no other skills than those to drop; remove the folder'),
        (['merge', 'S', '--into', 'x', 'law'], "merge: 'law' is one skill, and two are needed"),
        (['merge', 'S', '--into', 'x', 'law', 'law'], "skill 'law' is named twice"),
        (['drop', 'S', 'law', 'law'], "skill 'law' is named twice"),
        (
            ['drop', 'T', 'law'],
            'T/skills.json: cannot be read (No such file or directory); name a folder made by',
        ),
        (['drop', 'corpus', 'law'], 'corpus/skills.json: cannot be read (No such file or directory)'),
        (['list', 'T'], 'T/skills.json: cannot be read (No such file or directory)'),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_changes(
    streams: Path, refused, words: list[str], message: str
):
    before = digests(streams)
    error = refused('streams', words[0], streams.parent / words[1], *words[2:])
    assert message in error
    assert digests(streams) == before
    assert left_in(streams.parent) == ['S', 'corpus']


def test_another_unicode_form_is_the_same_name(tmp_path: Path, add_command, write_rows, skillit, refused):
    composed, apart = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))
    skillit(*add_command(write_rows('old.jsonl', [*rows_of('law', 0, 90), *rows_of(composed, 0, 90)])))
    assert 'has a skill' in refused('streams', 'rename', tmp_path / 'S', 'law', apart)
    skillit('streams', 'rename', tmp_path / 'S', apart, 'bar')
    skillit('streams', 'rename', tmp_path / 'S', 'bar', apart)
    assert list(verify(str(tmp_path / 'S')).skills) == [composed, 'law']


def test_a_name_that_a_corpus_has_for_another_skill_is_refused(streams: Path, skillit, refused):
    skillit('streams', 'rename', streams, 'law', 'statutes')
    error = refused('streams', 'rename', streams, 'verse', 'law')
    assert "'law' is what a corpus calls the skill 'statutes', and `convert --add` would put its" in error


def test_what_lies_where_a_skill_is_to_go_is_left_alone(streams: Path, refused):
    (streams / 'statutes').mkdir()
    (streams / 'statutes' / 'thesis.tex').write_text('years of work')
    error = refused('streams', 'rename', streams, 'law', 'statutes')
    assert 'S/statutes: is there already, and no stream that skills.json lists; move it away' in error
    assert (streams / 'statutes' / 'thesis.tex').read_text() == 'years of work'
    verify(str(streams))


def test_streams_in_an_object_store_are_refused(refused):
    error = refused('streams', 'rename', 's3://bucket/S', 'a', 'b')
    assert (
        's3://bucket/S: is in an object store, where nothing can be renamed; fetch the folder, change it'
        in error
    )


def test_a_converter_at_work_keeps_others_out(streams: Path, refused):
    staging = streams.parent / '.S.skillit-partial'
    with locked(str(staging / '.skillit-lock')):
        for words in (['rename', streams, 'law', 'x'], ['drop', streams, 'law']):
            assert 'S: another command is at work there; wait for it to end' in refused('streams', *words)
    verify(str(streams))


def test_work_in_progress_beside_the_folder_stays(streams: Path, skillit):
    work = streams.parent / '.S.skillit-partial' / '.work' / 'parts' / '00000'
    work.mkdir(parents=True)
    (work / 'part.json').write_text('{}')
    skillit('streams', 'drop', streams, 'law')
    assert (work / 'part.json').exists()


def test_a_folder_that_cannot_be_written_to_is_one_line(streams: Path, refused, skillit):
    before = digests(streams)
    mounts = [read_only(streams.parent)]
    error = in_child(lambda: refused('streams', 'rename', streams, 'law', 'x'), mounts)
    assert 'S: cannot be changed: ' in error
    assert 'Read-only file system' in error
    assert 'law' in in_child(lambda: skillit('streams', 'list', streams), mounts)
    assert digests(streams) == before


def test_a_mount_point_is_changed_where_it_is(tmp_path: Path, add_command, write_rows, skillit):
    rows = [row for kind in ('law', 'prose', 'verse') for row in rows_of(kind, 0, 90)]
    command = add_command(write_rows('old.jsonl', rows))
    root = tmp_path / 'S'
    root.mkdir()

    def change() -> tuple[list[str], list[str], list[str]]:
        skillit(*command)
        skillit('streams', 'rename', root, 'law', 'statutes')
        skillit('streams', 'merge', root, '--into', 'texts', 'prose', 'verse')
        return list(verify(str(root)).skills), left_in(root), left_in(tmp_path)

    skills, inside, beside = in_child(change, [tiny(root, '50m')])
    assert skills == ['statutes', 'texts']
    assert inside == ['skills.json', 'statutes', 'texts', 'tokenizer']
    assert beside == ['S', 'corpus']


def test_links_are_followed_or_refused(streams: Path, tmp_path: Path, skillit, refused):
    shutil.move(streams / 'verse', tmp_path / 'elsewhere')
    (streams / 'verse').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'L').symlink_to(streams)
    assert 'S/verse: is a link; put what it leads to in its place' in refused(
        'streams', 'drop', streams, 'verse'
    )
    assert 'is a link' in refused('streams', 'merge', streams, '--into', 'x', 'law', 'verse')
    skillit('streams', 'rename', tmp_path / 'L', 'verse', 'poems')
    verify(str(streams))
    assert (streams / 'poems').is_symlink()
    shard = next((streams / 'law' / 'train').glob('*.mds'))
    shutil.move(shard, tmp_path / 'shard.mds')
    shard.symlink_to(tmp_path / 'shard.mds')
    assert f'{shard.name}: is a link' in refused('streams', 'merge', streams, '--into', 'x', 'prose', 'law')


@pytest.mark.parametrize('damage', ['index', 'columns', 'shard'])
def test_streams_that_are_not_as_the_manifest_says_are_not_merged(streams: Path, refused, damage: str):
    index = streams / 'law' / 'train' / 'index.json'
    if damage == 'index':
        index.write_text(index.read_text() + ' ')
    elif damage == 'shard':
        next((streams / 'law' / 'train').glob('*.mds')).unlink()
    else:
        data = json.loads((streams / 'skills.json').read_text())
        data['columns'] = {'tokens': 'ndarray:uint32:32'}
        (streams / 'skills.json').write_text(json.dumps(data))
    before = digests(streams)
    error = refused('streams', 'merge', streams, '--into', 'x', 'prose', 'law')
    found = {
        'index': 'law/train: its index is not the one that the manifest knows',
        'columns': 'prose/train: shards with the columns',
        'shard': f'{streams}: ',
    }
    assert found[damage] in error
    assert digests(streams) == before


def test_streams_that_a_process_has_mapped_are_not_changed(streams: Path, refused, skillit):
    shard = next((streams / 'law' / 'train').glob('*.mds'))
    program = f'import numpy; m = numpy.memmap({str(shard)!r}, mode="r"); print(len(m), flush=True); input()'
    command = [sys.executable, '-c', program]
    reader = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert reader.stdout is not None
        reader.stdout.readline()
        error = refused('streams', 'rename', streams, 'law', 'x')
        assert f'process {reader.pid} reads its shards; end it first' in error
        skillit('streams', 'drop', streams, 'verse')
    finally:
        reader.communicate('\n')
    skillit('streams', 'rename', streams, 'law', 'x')
    assert sorted(verify(str(streams)).skills) == ['prose', 'x']


def test_the_graph_of_computed_streams_follows(tmp_path: Path, skillit, refused):
    root = tmp_path / 'A'
    skillit('convert', 'addition', '--train-samples', 30, '--eval-samples', 9, '--out', root)
    skills = list(Manifest.load(str(root)).skills)
    assert len(skills) == 3
    before = json.loads((root / 'graph.json').read_text())
    skillit('streams', 'rename', root, skills[0], 'ones')
    after = json.loads((root / 'graph.json').read_text())
    assert after == {**before, **{side: ['ones', *skills[1:]] for side in ('train_skills', 'eval_skills')}}
    assert 'graph.json: does not say how much the merged skill helps' in refused(
        'streams', 'merge', root, '--into', 'x', *skills[1:]
    )
    skillit('streams', 'drop', root, skills[1])
    after = json.loads((root / 'graph.json').read_text())
    assert after['train_skills'] == ['ones', skills[2]]
    assert np.array_equal(after['weights'], np.array(before['weights'])[np.ix_([0, 2], [0, 2])])
    verify(str(root))


def test_left_out_skills_and_bad_records_stay_in_the_manifest(
    tmp_path: Path, add_command, write_rows, skillit
):
    rows = [
        *rows_of('law', 0, 90),
        *rows_of('verse', 0, 90),
        {'text': 'x', 'kind': 'tiny'},
        {'kind': 'law'},
        b'[',
    ]
    path = write_rows('old.jsonl', rows)
    skillit(*add_command(path), '--min-samples', 1, '--bad-records', 'skip')
    before = Manifest.load(str(tmp_path / 'S'))
    skillit('streams', 'merge', tmp_path / 'S', '--into', 'texts', 'law', 'verse')
    after = verify(str(tmp_path / 'S'))
    assert after.corpus['left_out'] == before.corpus['left_out'] != {}
    assert after.dropped == before.dropped != {}
    assert after.skills['texts'].dropped['missing_text'] == 1
