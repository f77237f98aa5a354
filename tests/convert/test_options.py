"""What the options of all corpora do: the size of eval, examples and their answers, who encodes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skillit_stream.convert.tokens import DocumentTokenizer
from skillit_stream.convert.verify import verify
from tests.support.paths import ROOT, SUPPORT
from tests.support.streams_reading import read_split, read_tokens

MY_CORPUS = SUPPORT / 'my_corpus.py'
ROWS = [{'text': f'document {number} ' + 'x' * (number % 50)} for number in range(300)]


@pytest.fixture
def options(tmp_path: Path, tokenizer: str) -> list[object]:
    return ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 32]


@pytest.fixture
def jsonl(write_rows: Callable[..., Path], options: list[object]) -> list[object]:
    """A conversion of 300 documents, in several parts."""
    paths = [write_rows(f'{number}.jsonl', ROWS[number * 60 : (number + 1) * 60]) for number in range(5)]
    return ['convert', 'jsonl', *paths, '--skill', 'prose', *options, '--part-size', '2kb', '--workers', 1]


def test_eval_may_be_a_number_of_documents(tmp_path: Path, jsonl, skillit):
    skillit(*jsonl, '--eval-documents', 37)
    splits = verify(str(tmp_path / 'S')).skills['prose'].splits
    assert (splits['eval'].documents, splits['train'].documents) == (37, 263)


def test_eval_may_be_a_number_of_tokens(tmp_path: Path, jsonl, skillit):
    skillit(*jsonl, '--eval-tokens', 1000)
    skill = verify(str(tmp_path / 'S')).skills['prose']
    splits = skill.splits
    # One token a byte, and one at the end of each document; the last document may reach beyond.
    eval_tokens = splits['eval'].bytes + splits['eval'].documents
    assert 1000 <= eval_tokens < 1000 + 70
    assert splits['eval'].text_tokens == eval_tokens
    assert splits['train'].text_tokens == splits['train'].bytes + splits['train'].documents
    total = sum(len(row['text']) + 1 for row in ROWS)
    kept = sum(split.tokens for split in splits.values())
    alike = 32 * skill.dropped['eval_samples_in_train']
    assert kept + skill.dropped['tail_tokens'] + alike == total


def test_the_documents_of_a_smaller_eval_are_among_those_of_a_larger(tmp_path: Path, jsonl, skillit):
    texts = []
    for count in (10, 40):
        skillit(*jsonl, '--eval-documents', count, '--overwrite')
        text = bytes(read_tokens(tmp_path / 'S', 'prose', 'eval').astype(np.uint8))
        texts.append({int(word) for word in text.decode('latin1').split() if word.isdigit()})
    # Document numbers; a sample may begin or end in the middle of one.
    assert len(texts[0] - texts[1]) <= 2


def test_eval_of_a_small_skill_suits_it_whatever_the_parts(tmp_path: Path, skillit, write_rows, options):
    texts = [f'document {number} of a small skill, ' * 3 for number in range(85)]
    found = []
    for name, sizes in (('whole', [85]), ('parts', [1, 40, 3, 41])):
        begin = 0
        for size in sizes:
            rows = [{'text': text} for text in texts[begin : begin + size]]
            write_rows(f'{name}/{begin:02}.jsonl', rows)
            begin += size
        command = ['convert', 'jsonl', tmp_path / 'corpus' / name, '--skill', 'few', *options]
        printed = skillit(*command, '--overwrite', '--part-size', 1, '--workers', 1)
        manifest = verify(str(tmp_path / 'S'))
        assert manifest.corpus['eval_fraction'] is None
        assert manifest.skills['few'].splits['eval'].documents == 16
        assert 'eval: a twentieth of the documents; of small skills more: few 16 of 85' in printed
        found.append(manifest.corpus['eval_below'])
    assert found[0] == found[1]
    more = write_rows('more.jsonl', [{'text': f'another document {number} ' * 3} for number in range(200)])
    skillit('convert', 'jsonl', more, '--skill', 'few', *options, '--add')
    assert verify(str(tmp_path / 'S')).corpus['eval_below'] == found[0]


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        (['the only document, which is long enough'], 'in 1 document give'),
        (['all of them are alike, and long enough'] * 5, 'all its 5 documents are alike'),
    ],
)
def test_a_skill_that_has_no_two_documents_is_refused(refused, write_rows, options, texts, message):
    path = write_rows('a.jsonl', [{'text': text} for text in texts])
    assert message in refused('convert', 'jsonl', path, '--skill', 'few', *options)


def test_an_addition_keeps_to_the_size_of_eval_of_the_streams(
    tmp_path: Path, skillit, write_rows, options, jsonl
):
    skillit(*jsonl, '--eval-documents', 37)
    more = write_rows('more.jsonl', [{'text': f'another document {number} ' * 3} for number in range(200)])
    skillit('convert', 'jsonl', more, '--skill', 'verse', *options, '--add')
    assert verify(str(tmp_path / 'S')).skills['verse'].splits['eval'].documents == 37


def test_too_few_documents_for_eval_are_refused(jsonl, refused):
    error = refused(*jsonl, '--eval-documents', 300)
    assert "skill 'prose': its" in error
    assert 'in 300 documents' in error


QUESTIONS = [('sums', f'{a}+{b}=', str(a + b)) for a in range(12) for b in range(12)]


def write_questions(tmp_path: Path, rows: list[tuple[str, ...]]) -> Path:
    path = tmp_path / 'questions.tsv'
    path.write_text(''.join('\t'.join((*row, '')[:4]) + '\n' for row in rows))
    return path


def test_a_corpus_of_ones_own_with_one_example_a_sample(tmp_path: Path, options, skillit):
    path = write_questions(tmp_path, QUESTIONS)
    skillit('convert', 'custom', MY_CORPUS, path, *options, '--one-per-sample', '--loss', 'answer')
    manifest = verify(str(tmp_path / 'S'))
    assert manifest.corpus['name'] == 'questions'
    splits = manifest.skills['sums'].splits
    assert sum(split.samples for split in splits.values()) == len(QUESTIONS)
    seen = set()
    for sample in read_split(tmp_path / 'S', 'sums', 'train') + read_split(tmp_path / 'S', 'sums', 'eval'):
        tokens, mask = sample['tokens'], sample['loss_mask'].astype(bool)
        text = bytes(tokens[tokens < 256].astype(np.uint8))
        answer = tokens[mask]
        assert answer[-1] == 256
        seen.add((text, len(answer)))
    # The byte tokenizer's ids are not the bytes themselves: lengths tell enough.
    assert len(seen) == len({(question + answer, len(answer)) for _, question, answer in QUESTIONS})


def test_packed_examples_with_the_loss_on_answers(tmp_path: Path, options, skillit):
    path = write_questions(tmp_path, QUESTIONS)
    skillit('convert', 'custom', MY_CORPUS, path, *options, '--loss', 'answer', '--eval-documents', 20)
    manifest = verify(str(tmp_path / 'S'))
    masks = np.concatenate([s['loss_mask'] for s in read_split(tmp_path / 'S', 'sums', 'train')])
    tokens = read_tokens(tmp_path / 'S', 'sums', 'train')
    # Each document is question, answer, EOS; the loss is on the answer and the EOS.
    ends = np.flatnonzero(tokens == 256)
    assert masks[ends].all()
    for begin, end in zip(ends[:-1] + 1, ends[1:], strict=True):
        counted = masks[begin : end + 1]
        assert counted.tolist() == sorted(counted.tolist())
        assert 2 <= counted.sum() <= 3
    assert manifest.skills['sums'].splits['train'].target_tokens == masks.sum()
    assert {split.text_tokens for split in manifest.skills['sums'].splits.values()} == {None}


def test_long_examples_are_cut_and_counted(tmp_path: Path, options, skillit):
    rows = [('sums', f'{number:03}' + 'why? ' * 10, str(number)) for number in range(100)]
    path = write_questions(tmp_path, rows)
    skillit('convert', 'custom', MY_CORPUS, path, *options, '--one-per-sample')
    skill = verify(str(tmp_path / 'S')).skills['sums']
    dropped = skill.dropped
    assert all(split.text_tokens == split.bytes + split.documents for split in skill.splits.values())
    assert dropped['cut_tokens'] == sum(53 + len(answer) + 1 - 32 for _, _, answer in rows)


def test_a_corpus_may_decide_on_splits_and_duplicates_leave_eval(tmp_path: Path, options, skillit):
    rows = [(*row, 'eval' if number < 30 else 'train') for number, row in enumerate(QUESTIONS)]
    # Five documents of eval are in train as well.
    rows += [(*row[:3], 'train') for row in rows[:5]]
    path = write_questions(tmp_path, rows)
    skillit('convert', 'custom', MY_CORPUS, path, *options, '--one-per-sample')
    skill = verify(str(tmp_path / 'S')).skills['sums']
    assert skill.splits['eval'].documents == 25
    assert skill.dropped['eval_documents_in_train'] == 5
    assert skill.splits['train'].documents == len(QUESTIONS) - 30 + 5


def test_faults_of_a_corpus_of_ones_own_are_one_line(tmp_path: Path, options, refused):
    path = write_questions(tmp_path, QUESTIONS)
    path.write_text(path.read_text() + 'only\tthree\tcells\n')
    error = refused('convert', 'custom', MY_CORPUS, path, *options)
    assert f'questions.tsv:{len(QUESTIONS) + 1}: not four cells; mend the line' in error


def test_a_file_that_is_no_corpus_is_refused(tmp_path: Path, options, refused):
    (tmp_path / 'empty.py').write_text('')
    error = refused('convert', 'custom', tmp_path / 'empty.py', *options)
    assert 'empty.py: has neither a function row(row) nor corpus(args)' in error
    assert 'no such file' in refused('convert', 'custom', tmp_path / 'none.py', *options)


@pytest.mark.parametrize('name', ['gpt2', 'gptneox20b'])
def test_both_encoders_write_the_same_streams(tmp_path: Path, shared_data: Path, skillit, name: str):
    found = {}
    for encoder in ('gigatoken', 'tokenizers'):
        out = tmp_path / encoder
        arguments = ['--tokenizer', shared_data / 'tokenizers' / name, '--seq-len', 512, '--encoder', encoder]
        output = skillit('convert', 'redpajama', shared_data / 'redpajama_sample', '--out', out, *arguments)
        assert f'encoded by {encoder}' in output
        found[encoder] = {
            (skill, split): read_tokens(out, skill, split)
            for skill, info in verify(str(out)).skills.items()
            for split in info.splits
        }
    assert found['gigatoken'].keys() == found['tokenizers'].keys()
    for key, tokens in found['gigatoken'].items():
        np.testing.assert_array_equal(tokens, found['tokenizers'][key])


def disagreeing_on(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agree = DocumentTokenizer._agree
    monkeypatch.setattr(
        DocumentTokenizer, '_agree', lambda self, fast, text: word not in text and agree(self, fast, text)
    )


def test_a_document_that_the_encoders_disagree_on_stops_the_command(
    jsonl, refused, monkeypatch: pytest.MonkeyPatch
):
    disagreeing_on('document 62 ', monkeypatch)
    error = refused(*jsonl)
    assert '1.jsonl: document 3: gigatoken encodes it differently from --tokenizer bytes' in error
    assert 'pass --encoder tokenizers' in error


def test_an_encoder_that_fails_on_awkward_text_is_not_used(jsonl, skillit, refused, monkeypatch):
    disagreeing_on('leading and trailing', monkeypatch)
    assert 'encoded by tokenizers' in skillit(*jsonl)
    error = refused(*jsonl, '--overwrite', '--encoder', 'gigatoken')
    assert '--encoder gigatoken: cannot be used with --tokenizer bytes (it encodes some texts' in error


def test_one_document_in_a_thousand_is_checked(tmp_path: Path, options, write_rows, skillit, monkeypatch):
    checked = []
    check = DocumentTokenizer.check
    monkeypatch.setattr(
        DocumentTokenizer,
        'check',
        lambda self, text, where: (checked.append(where.rsplit(' ', 1)[1]), check(self, text, where))[1],
    )
    path = write_rows('many.jsonl', [{'text': f'{number}'} for number in range(4500)])
    output = skillit('convert', 'jsonl', path, '--skill', 'numbers', *options)
    assert checked == ['1', '2', '3', '4', '1000', '2000', '3000', '4000']
    assert 'encoded by gigatoken, 8 documents by the tokenizer itself as well' in output


def test_the_corpus_that_the_documents_show_works(tmp_path: Path, options, skillit, refused):
    page = (ROOT / 'docs' / 'extending.md').read_text()
    code = next(block for block in page.split('```') if 'class TabSeparated' in block)
    (tmp_path / 'shown.py').write_text(code.removeprefix('python\n'))
    path = tmp_path / 'verses.tsv'
    path.write_text(''.join(f'{"ab"[number % 2]}\tline {number}\n' for number in range(200)))
    skillit('convert', 'custom', tmp_path / 'shown.py', path, *options)
    skills = verify(str(tmp_path / 'S')).skills
    assert {
        skill: sum(split.documents for split in info.splits.values()) for skill, info in skills.items()
    } == {
        'a': 100,
        'b': 100,
    }
    path.write_text(path.read_text() + 'no tab here\n')
    error = refused('convert', 'custom', tmp_path / 'shown.py', path, *options, '--overwrite')
    assert 'verses.tsv:201: no tab; mend it' in error


@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize('drop', [False, True])
def test_samples_without_a_target_are_counted_and_can_be_left_out(
    padded: bool, drop: bool, tmp_path: Path, options, skillit
):
    # A question of up to three samples; a long answer fills one that is cut to its end.
    rows = [('sums', f'{number:03}' + 'w' * (number % 90), 'yes') for number in range(200)]
    rows += [('sums', f'{number:03}', '') for number in range(200, 230)]
    path = write_questions(tmp_path, rows)
    shape = ['--one-per-sample'] if padded else []
    more = ['--loss', 'answer', '--workers', 1, *(['--drop-without-target'] if drop else [])]
    printed = skillit('convert', 'custom', MY_CORPUS, path, *options, *shape, *more)
    skill = verify(str(tmp_path / 'S')).skills['sums']
    empty = 0
    for split, info in skill.splits.items():
        masks = np.stack([s['loss_mask'] for s in read_split(tmp_path / 'S', 'sums', split)])
        without = int((masks[:, 1:].sum(axis=1) == 0).sum())
        assert info.without_target == (without or None)
        assert info.samples == len(masks)
        empty += without
    if drop:
        assert empty == 0
        assert (skill.dropped['samples_without_target'] > 0) == (not padded)
    else:
        assert (empty > 0) == (not padded)
        assert 'samples_without_target' not in skill.dropped
    assert ('samples_without_target (no token of them counts in the loss' in printed) == (not padded)


def test_what_is_left_out_is_what_is_counted(tmp_path: Path, options, skillit):
    rows = [('sums', f'{number:03}' + 'w' * (number % 90), 'yes') for number in range(200)]
    path = write_questions(tmp_path, rows)
    found = {}
    for name, more in {'kept': [], 'dropped': ['--drop-without-target']}.items():
        given = [tmp_path / name if one == tmp_path / 'S' else one for one in options]
        skillit('convert', 'custom', MY_CORPUS, path, *given, '--loss', 'answer', *more)
        found[name] = verify(str(tmp_path / name)).skills['sums']
    for split in ('train', 'eval'):
        before, after = (found[name].splits[split] for name in ('kept', 'dropped'))
        masks = np.stack([s['loss_mask'] for s in read_split(tmp_path / 'kept', 'sums', split)])
        assert after.target_tokens == masks[masks[:, 1:].any(axis=1)].sum()
        assert before.samples - (before.without_target or 0) == after.samples
    left_out = sum(found['kept'].splits[split].without_target or 0 for split in ('train', 'eval'))
    # What is in both splits is left out of one in either case.
    shared = [found[name].dropped['eval_samples_in_train'] for name in ('kept', 'dropped')]
    assert found['dropped'].dropped['samples_without_target'] - left_out == shared[0] - shared[1]


def test_adding_keeps_to_what_was_left_out(tmp_path: Path, options, skillit, refused):
    path = write_questions(tmp_path, QUESTIONS)
    skillit('convert', 'custom', MY_CORPUS, path, *options, '--loss', 'answer')
    more = write_questions(tmp_path, [('sums', 'another ' * 30, 'yes')])
    said = refused(
        'convert', 'custom', MY_CORPUS, more, *options, '--loss', 'answer', '--add', '--drop-without-target'
    )
    assert '--drop-without-target: must be as in' in said
