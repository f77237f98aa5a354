"""`skillit convert ... --add`: finished streams grow, and what was there stays as it was."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.cli import main
from skillit_stream.convert.grown_folder import GrownFolder
from skillit_stream.convert.splits import document_hash
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.paths import SUPPORT
from tests.support.streams_reading import EOS, left_in, read_split, read_tokens

COUNTS = ('documents', 'bytes', 'samples', 'tokens', 'target_tokens')


def rows_of(kind: str, first: int, count: int) -> list[dict[str, Any]]:
    return [
        {'text': f'{kind} {number}: ' + f'line {number} of it, ' * (1 + number % 5), 'kind': kind}
        for number in range(first, first + count)
    ]


@pytest.fixture
def command(tmp_path: Path, tokenizer: str) -> Callable[..., list[object]]:
    """The arguments of a conversion of some files to the folder S."""

    def arguments(*files: object, out: str = 'S') -> list[object]:
        options = ['--tokenizer', tokenizer, '--seq-len', 32, '--skill-field', 'kind', '--workers', 1]
        sizes = ['--eval-fraction', 0.2, '--part-size', '4kb', '--shard-size', '16kb']
        return ['convert', 'jsonl', *files, '--out', tmp_path / out, *options, *sizes]

    return arguments


@pytest.fixture
def old(write_rows: Callable[..., Path]) -> Path:
    """The corpus of the first conversion: two skills."""
    return write_rows('old.jsonl', [*rows_of('prose', 0, 150), *rows_of('verse', 0, 150)])


@pytest.fixture
def new(write_rows: Callable[..., Path]) -> list[Path]:
    """What is added, in several parts: more of one skill, and a skill of its own."""
    return [
        write_rows('more.jsonl', rows_of('prose', 150, 150)),
        write_rows('law.jsonl', rows_of('law', 0, 150)),
        write_rows('mixed.jsonl', [*rows_of('prose', 300, 50), *rows_of('law', 150, 50)]),
    ]


def digests(root: Path) -> dict[str, str]:
    """Hash of every file; of the manifest without the date of its last conversion and paths of this test."""
    found = {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }
    manifest = json.loads((root / 'skills.json').read_text())
    for entry in manifest.get('history', ()):
        del entry['date'], entry['arguments']
    found['skills.json'] = json.dumps(manifest)
    return found


def documents_of(root: Path, skill: str, split: str) -> set[str]:
    """The whole documents that a split holds."""
    from transformers import AutoTokenizer

    decoder = AutoTokenizer.from_pretrained(str(root / 'tokenizer'))
    return set(decoder.decode(read_tokens(root, skill, split)).split(EOS))


def test_a_known_skill_is_lengthened_and_a_new_one_comes(tmp_path: Path, command, old, new, skillit):
    skillit(*command(old))
    before = digests(tmp_path / 'S')
    first = Manifest.load(str(tmp_path / 'S'))
    skillit(*command(*new), '--add')
    assert left_in(tmp_path) == ['S', 'corpus']
    manifest = verify(str(tmp_path / 'S'))
    assert list(manifest.skills) == ['law', 'prose', 'verse']
    after = digests(tmp_path / 'S')
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {'skills.json', 'prose/train/index.json', 'prose/eval/index.json'}
    for split in ('train', 'eval'):
        index = json.loads((tmp_path / 'S' / 'prose' / split / 'index.json').read_text())
        names = [shard['raw_data']['basename'] for shard in index['shards']]
        had = [name for name in names if not name.startswith('shard.add1.')]
        assert names[: len(had)] == had
        assert len(had) < len(names)
    assert manifest.skills['verse'] == first.skills['verse']
    assert [entry.corpus['name'] for entry in manifest.history] == ['jsonl', 'jsonl']
    assert [[file.file for file in entry.files] for entry in manifest.history] == [
        ['old.jsonl'],
        ['law.jsonl', 'mixed.jsonl', 'more.jsonl'],
    ]
    for skill, info in manifest.skills.items():
        for split, there in info.splits.items():
            for name in COUNTS:
                brought = [
                    entry.counts.get(skill, {}).get(split, {}).get(name, 0) for entry in manifest.history
                ]
                assert sum(brought) == getattr(there, name)
    assert manifest.history[1].arguments['seq_len'] == 32


def test_documents_land_where_one_conversion_of_all_would_put_them(
    tmp_path: Path, command, old, new, skillit
):
    skillit(*command(old))
    skillit(*command(*new), '--add')
    skillit(*command(old, *new, out='whole'))
    grown, whole = (verify(str(tmp_path / name)).skills for name in ('S', 'whole'))
    for skill, info in whole.items():
        for split, other in (('train', 'eval'), ('eval', 'train')):
            for count in ('documents', 'bytes', 'text_tokens'):
                assert getattr(grown[skill].splits[split], count) == getattr(info.splits[split], count)
            found = documents_of(tmp_path / 'S', skill, split)
            whole_ones = {text for text in found if text.startswith(f'{skill} ') and text.count(skill) == 1}
            assert len(whole_ones) > 10
            assert not whole_ones & documents_of(tmp_path / 'whole', skill, other)


@pytest.mark.parametrize('how', ['workers', 'tasks', 'elsewhere'])
def test_however_the_work_is_divided_the_bytes_are_the_same(
    tmp_path: Path, command, old, new, skillit, how: str
):
    skillit(*command(old))
    shutil.copytree(tmp_path / 'S', tmp_path / 'T')
    skillit(*command(*new), '--add')
    other = [*command(*new, out='T'), '--add']
    if how == 'workers':
        skillit(*other, '--workers', 2)
    elif how == 'elsewhere':
        skillit(*other, '--work', tmp_path / 'elsewhere')
    else:
        for task in ('1/2', '0/2'):
            assert f'task {task}: ' in skillit(*other, '--task', task)
        skillit(*other)
    assert digests(tmp_path / 'S') == digests(tmp_path / 'T')


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
    tmp_path: Path, command, old, new, skillit, refused, monkeypatch: pytest.MonkeyPatch
):
    skillit(*command(old))
    shutil.copytree(tmp_path / 'S', tmp_path / 'pristine')
    before = verify(str(tmp_path / 'S'))
    skillit(*command(*new), '--add')
    straight = digests(tmp_path / 'S')
    seen = set()
    for number in range(1000):
        shutil.rmtree(tmp_path / 'S')
        shutil.copytree(tmp_path / 'pristine', tmp_path / 'S')
        with monkeypatch.context() as patch:
            steps = kill_at(patch, number)
            try:
                skillit(*command(*new), '--add')
                break
            except Killed:
                pass
        now = Manifest.load(str(tmp_path / 'S'))
        if now != before:
            seen.add('made')
            assert digests(tmp_path / 'S') == straight
            assert 'has all 3 input files already' in refused(*command(*new), '--add')
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
        skillit(*command(*new), '--add')
        assert digests(tmp_path / 'S') == straight, steps
        assert left_in(tmp_path) == ['S', 'corpus', 'pristine']
    assert digests(tmp_path / 'S') == straight
    assert seen == {'as before', 'half put in place', 'made'}


def test_what_a_killed_addition_left_is_gone_after_another_one(
    tmp_path: Path, command, old, new, skillit, monkeypatch: pytest.MonkeyPatch
):
    skillit(*command(old))
    shutil.copytree(tmp_path / 'S', tmp_path / 'T')
    with monkeypatch.context() as patch:
        kill_at(patch, 7)
        with pytest.raises(Killed):
            skillit(*command(*new), '--add')
    assert list((tmp_path / 'S').rglob('shard.add1.*'))
    skillit(*command(new[1]), '--add')
    skillit(*command(new[1], out='T'), '--add')
    assert digests(tmp_path / 'S') == digests(tmp_path / 'T')


def test_a_document_of_eval_never_comes_into_train(tmp_path: Path, command, old, new, write_rows, skillit):
    skillit(*command(old))
    skillit(*command(old, *new, out='whole'))
    held = {text for text in documents_of(tmp_path / 'whole', 'prose', 'eval') if text.startswith('prose ')}
    again = [{'text': text, 'kind': 'prose'} for text in sorted(held)]
    skillit(*command(write_rows('again.jsonl', [*again, *rows_of('prose', 150, 100)])), '--add')
    verify(str(tmp_path / 'S'))
    assert not documents_of(tmp_path / 'S', 'prose', 'train') & held


@pytest.mark.parametrize(
    'sizes', [['--eval-fraction', 0.001], ['--eval-documents', 9], ['--eval-tokens', 400]]
)
def test_a_threshold_that_was_moved_stays_where_it_is(
    tmp_path: Path, command, old, write_rows, skillit, sizes: list[object]
):
    skillit(*(one for one in command(old) if one not in ('--eval-fraction', 0.2)), *sizes)
    texts = {row['text'] for row in rows_of('verse', 0, 150)}
    held, train = (documents_of(tmp_path / 'S', 'verse', split) & texts for split in ('eval', 'train'))
    assert held
    rows = [{'text': text, 'kind': 'verse'} for text in sorted(held | train)]
    path = write_rows('again.jsonl', rows)
    skillit(*(one for one in command(path) if one not in ('--eval-fraction', 0.2)), *sizes, '--add')
    info = verify(str(tmp_path / 'S')).skills['verse'].splits
    first = Manifest.load(str(tmp_path / 'S')).history[0].counts['verse']
    assert info['eval'].documents - first['eval']['documents'] == len(held)
    assert not documents_of(tmp_path / 'S', 'verse', 'train') & held


def test_samples_alike_in_both_splits_are_left_out_of_the_split_that_grows(
    tmp_path: Path, command, write_rows, skillit
):
    def blanks(first: int, count: int) -> list[dict[str, Any]]:
        return [
            {'text': ' ' * 200 + f'row {number}', 'kind': 'prose'} for number in range(first, first + count)
        ]

    skillit(*command(write_rows('old.jsonl', rows_of('prose', 0, 60))))
    skillit(*command(write_rows('new.jsonl', blanks(0, 60))), '--add')
    one = verify(str(tmp_path / 'S')).skills['prose']
    assert one.dropped['eval_samples_in_train'] > 0
    # Nothing but blanks is left of eval: what comes next must not be in it.
    skillit(*command(write_rows('third.jsonl', [*blanks(60, 60), *rows_of('prose', 900, 60)])), '--add')
    two = verify(str(tmp_path / 'S'))
    assert two.skills['prose'].dropped['eval_samples_in_train'] > one.dropped['eval_samples_in_train']
    assert list(two.skills['prose'].dropped) == sorted(two.skills['prose'].dropped)
    assert len(two.history) == 3


def test_train_samples_that_are_in_eval_already_are_left_out(tmp_path: Path, command, write_rows, skillit):
    blanks = [' ' * 200 + f'row {number}' for number in range(80)]
    in_eval = [text for text in blanks if document_hash(text.encode()) < 0.2 * 2**128]
    old = [*rows_of('prose', 0, 60), *({'text': text, 'kind': 'prose'} for text in in_eval)]
    new = [{'text': text, 'kind': 'prose'} for text in blanks if text not in in_eval]
    skillit(*command(write_rows('old.jsonl', old)))
    held = {sample['tokens'].tobytes() for sample in read_split(tmp_path / 'S', 'prose', 'eval')}
    skillit(*command(write_rows('new.jsonl', new)), '--add')
    found = verify(str(tmp_path / 'S')).skills['prose']
    assert found.dropped['train_samples_in_eval'] > 0
    trained = {sample['tokens'].tobytes() for sample in read_split(tmp_path / 'S', 'prose', 'train')}
    assert not trained & held
    # All tokens are accounted for: written, in a tail, or in a sample left out of a split.
    total = sum(len(row['text']) + 1 for row in (*old, *new))
    left_out = found.dropped['train_samples_in_eval'] + found.dropped['eval_samples_in_train']
    written = sum(split.tokens for split in found.splits.values())
    assert written + found.dropped['tail_tokens'] + 32 * left_out == total


def test_files_that_the_streams_have_are_passed_over_and_named(
    tmp_path: Path, command, old, new, write_rows, skillit, refused
):
    skillit(*command(old))
    copy = write_rows('renamed.jsonl', [])
    copy.write_bytes(old.read_bytes())
    printed = skillit(*command(copy, new[1]), '--add')
    assert 'passed over, in the streams already: ' in printed
    assert 'renamed.jsonl' in printed
    assert Manifest.load(str(tmp_path / 'S')).history[1].files[0].file == 'law.jsonl'
    before = digests(tmp_path / 'S')
    error = refused(*command(copy, old), '--add')
    assert 'has all 2 input files already, the first' in error
    assert digests(tmp_path / 'S') == before


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--seq-len', 16], '--seq-len: must be as in .*S, 32, but got: 16'),
        (['--eval-fraction', 0.1], '--eval-fraction: must be as in .*S, 0.2, but got: 0.1'),
        (['--overwrite'], 'not allowed with argument'),
    ],
)
def test_other_options_are_refused_by_name(
    tmp_path: Path, command, old, new, skillit, capsys, options: list[object], message: str
):
    skillit(*command(old))
    before = digests(tmp_path / 'S')
    try:
        code = main([str(one) for one in (*command(*new), '--add', *options)])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert re.search(message, capsys.readouterr().err)
    assert digests(tmp_path / 'S') == before
    assert left_in(tmp_path) == ['S', 'corpus']


def test_another_tokenizer_is_refused_and_the_one_beside_the_streams_will_do(
    tmp_path: Path, command, old, new, skillit, refused, tokenizer: str
):
    skillit(*command(old))
    data = json.loads((Path(tokenizer) / 'tokenizer.json').read_text())
    data['model']['vocab']['two'] = 257
    other = shutil.copytree(tokenizer, tmp_path / 'other')
    (other / 'tokenizer.json').write_text(json.dumps(data))
    error = refused(*command(*new), '--add', '--tokenizer', other)
    assert f'--tokenizer {other}: is not the one of ' in error
    skillit(*command(*new), '--add', '--tokenizer', tmp_path / 'S' / 'tokenizer')
    verify(str(tmp_path / 'S'))


def test_examples_packed_in_another_way_are_refused(tmp_path: Path, tokenizer: str, skillit, refused):
    path = tmp_path / 'questions.tsv'
    path.write_text(''.join(f'sums\t{a}+{b}=\t{a + b}\t\n' for a in range(12) for b in range(12)))
    more = tmp_path / 'more.tsv'
    more.write_text(''.join(f'sums\t{a}+{b}=\t{a + b}\t\n' for a in range(12, 20) for b in range(12)))
    command = ['convert', 'custom', SUPPORT / 'my_corpus.py', path, '--out', tmp_path / 'S']
    options = ['--tokenizer', tokenizer, '--seq-len', 16]
    skillit(*command, *options, '--one-per-sample', '--loss', 'answer')
    command[3] = more
    assert '--one-per-sample: must be as in' in refused(*command, *options, '--loss', 'answer', '--add')
    assert '--loss: must be as in' in refused(*command, *options, '--one-per-sample', '--add')
    skillit(*command, *options, '--one-per-sample', '--loss', 'answer', '--add')
    counts = verify(str(tmp_path / 'S')).skills['sums'].splits
    assert sum(split.samples for split in counts.values()) == 20 * 12
    # The corpus decides on the split of these: nothing says that their twins went the same way.
    more.write_text(''.join(f'sums\t{a}-1=\t{a - 1}\ttrain\n' for a in range(50)))
    error = refused(*command, *options, '--one-per-sample', '--loss', 'answer', '--add')
    assert "skill 'sums': the corpus says itself which documents are for eval" in error
    verify(str(tmp_path / 'S'))


def test_a_skill_whose_corpus_decided_on_its_splits_is_refused_by_name(
    tmp_path: Path, tokenizer: str, skillit, refused
):
    path = tmp_path / 'questions.tsv'
    lines = [
        f'sums\t{a}+{b}=\t{a + b}\t{"eval" if b < 3 else "train"}\n' for a in range(12) for b in range(12)
    ]
    path.write_text(''.join(lines))
    command = ['convert', 'custom', SUPPORT / 'my_corpus.py', path, '--out', tmp_path / 'S']
    options = ['--tokenizer', tokenizer, '--seq-len', 16]
    skillit(*command, *options)
    path.write_text(''.join(f'sums\t{a}-1=\t{a - 1}\t\n' for a in range(50)))
    assert 'does not say which of its documents are for eval' in refused(*command, *options, '--add')
    path.write_text(''.join(f'other\t{a}-1=\t{a - 1}\t\n' for a in range(50)))
    skillit(*command, *options, '--add')
    assert list(verify(str(tmp_path / 'S')).skills) == ['other', 'sums']


def test_places_that_cannot_be_added_to_are_refused(
    tmp_path: Path, command, old, new, skillit, refused, tokenizer: str
):
    error = refused(*command(*new), '--add')
    assert 'holds no finished streams to add to; leave out --add to make them' in error
    error = refused(*command(*new), '--add', '--out', 's3://bucket/S', '--work', tmp_path / 'work')
    assert '--add: --out s3://bucket/S is in an object store, and only streams in a local folder' in error
    skillit(
        *('convert', 'addition', '--train-samples', 30, '--eval-samples', 9, '--out', tmp_path / 'S'),
        *('--tokenizer', tokenizer),
    )
    assert 'are computed (addition), and cannot be added to' in refused(*command(*new), '--add')
    assert left_in(tmp_path) == ['S', 'corpus']


def test_streams_of_an_earlier_release_take_new_skills_only(
    tmp_path: Path, command, old, new, skillit, refused
):
    skillit(*command(old))
    path = tmp_path / 'S' / 'skills.json'
    data = json.loads(path.read_text())
    assert data['version'] == 1
    del data['corpus']['eval_below']
    path.write_text(json.dumps(data))
    assert "skill 'prose': " in refused(*command(new[0]), '--add')
    skillit(*command(new[1]), '--add')
    assert json.loads(path.read_text())['version'] == 2
    verify(str(tmp_path / 'S'))


@pytest.mark.parametrize('damage', ['shard', 'index', 'history'])
def test_damage_to_what_was_added_is_found(tmp_path: Path, command, old, new, skillit, refused, damage: str):
    skillit(*command(old))
    skillit(*command(*new), '--add')
    shard = next((tmp_path / 'S' / 'prose' / 'train').glob('shard.add1.*'))
    index = tmp_path / 'S' / 'prose' / 'eval' / 'index.json'
    manifest = tmp_path / 'S' / 'skills.json'
    if damage == 'shard':
        shard.write_bytes(shard.read_bytes()[:-1] + b'!')
        assert 'differs from the index' in refused('verify', tmp_path / 'S')
    elif damage == 'index':
        index.write_text(index.read_text() + ' ')
        assert 'prose/eval/index.json: has sha256:' in refused('verify', tmp_path / 'S')
    else:
        data = json.loads(manifest.read_text())
        data['history'][1]['counts']['prose']['train']['samples'] += 1
        manifest.write_text(json.dumps(data))
        assert "skill 'prose' has " in refused('verify', tmp_path / 'S')
