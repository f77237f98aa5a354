"""Plain text: what a document is, and what is none."""

import gzip
import lzma

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpora import text
from tests.support.corpora_reading import make_corpus, read_corpus


def test_a_document_a_file_with_skills_by_folder(tmp_path):
    for name, data in {
        'prose/a.txt': b'one\n\ntwo\n',
        'prose/b.md.gz': gzip.compress(b'# three\r\nfour'),
        'verse/c.txt.zst': zstandard.compress('fünf'.encode()),
        'verse/d.txt.xz': lzma.compress(b'six'),
        'verse/e.rst': b'not asked for',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = read_corpus(text, tmp_path, '--skill-from', 'folder')
    assert list(zip(found.skills, found.texts, strict=True)) == [
        ('prose', 'one\n\ntwo'),
        ('prose', '# three\r\nfour'),
        ('verse', 'fünf'),
        ('verse', 'six'),
    ]
    assert 'not asked for' in read_corpus(text, tmp_path, '--skill', 'x', '--suffix', '.rst').texts
    assert read_corpus(text, tmp_path, '--skill-pattern', '/(.)').skills == list('abcd')


SEPARATED = {
    '<|endoftext|>': b'one\nand more\n<|endoftext|>\ntwo\n <|endoftext|> \r\n<|endoftext|>\nthree\n',
    '': b'\n\none\nand more\n\ntwo\n \n\r\n\nthree',
}


@pytest.mark.parametrize('separator', SEPARATED)
def test_documents_between_separating_lines(tmp_path, separator):
    path = tmp_path / 'a.txt'
    path.write_bytes(SEPARATED[separator])
    found = read_corpus(text, path, '--skill', 'x', '--separator', separator)
    assert found.texts == ['one\nand more', 'two', 'three']
    assert make_corpus(text, path, '--skill', 'x', '--separator', separator).options() == {
        'skill': 'x',
        'separator': separator,
    }


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.text(st.characters(blacklist_categories=['Cs'])).filter(lambda t: t.strip() and '%%' not in t),
        min_size=1,
        max_size=5,
    )
)
def test_any_documents_come_back(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp('texts') / 'a.txt'
    path.write_bytes('\n%%\n'.join(documents).encode())
    found = read_corpus(text, path, '--skill', 'x', '--separator', '%%')
    documents[-1] = documents[-1].removesuffix('\n')  # the end of the file's last line
    documents[0] = documents[0].removeprefix('\ufeff')  # the mark of Windows
    assert found.texts == [document for document in documents if document.encode().strip()]


def test_wrong_encodings_are_faults_with_their_place(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'fine\n\nof the \xe9t\xe9\n\nfine again')
    (tmp_path / 'b.txt').write_bytes('UTF-16'.encode('utf-16'))
    (tmp_path / 'c.txt').write_bytes(b'\xef\xbb\xbfwith a mark')
    (tmp_path / 'd.txt').write_bytes(b'a lone \xed\xa0\x80 surrogate')
    (tmp_path / 'e.txt').write_bytes(b'a \0 is text')
    found = read_corpus(text, tmp_path, '--skill', 'x', '--separator', '')
    assert found.texts == ['fine', 'fine again', 'with a mark', 'a \0 is text']
    assert found.reasons == ['broken_encoding'] * 3
    assert str(found.faults[0]).startswith(
        f'{tmp_path}/a.txt: byte 13: not UTF-8 (invalid continuation byte: 0xe9); convert it to UTF-8'
    )
    assert (tmp_path / 'a.txt').read_bytes()[13] == 0xE9
    assert f'{tmp_path}/d.txt: byte 7: ' in str(found.faults[2])


def test_files_without_a_document_are_faults(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'')
    (tmp_path / 'b.txt').write_bytes(b' \n\n')
    (tmp_path / 'c.txt.gz').write_bytes(gzip.compress(b'cut off' * 1000)[:-5])
    (tmp_path / 'd.txt').symlink_to(tmp_path / 'nowhere')
    found = read_corpus(text, tmp_path, '--skill', 'x')
    assert found.documents == []
    assert found.reasons == ['empty_text', 'empty_text', 'truncated_file', 'unreadable_file']
    assert f'{tmp_path}/a.txt: a file without any text; remove the file' in str(found.faults[0])


def test_a_suffix_begins_with_a_dot(tmp_path):
    with pytest.raises(InputError, match=r'--suffix must begin with a dot, such as \.rst, but got: rst'):
        make_corpus(text, tmp_path, '--skill', 'x', '--suffix', 'rst')
