"""Input files are found, decompressed and hashed; broken archives are named."""

import bz2
import gzip
import hashlib
import lzma
import random
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import find_inputs
from skillit_stream.convert.readers import CHUNK_BYTES, HashingFile, read_lines

COMPRESS = {
    '': lambda data: data,
    '.gz': gzip.compress,
    '.zst': zstandard.compress,
    '.xz': lzma.compress,
    '.bz2': bz2.compress,
}


def read(path: Path) -> list[tuple[int, bytes]]:
    raw = HashingFile(str(path), lambda _: None)
    try:
        return list(read_lines(raw, str(path)))
    finally:
        raw.close()


@pytest.mark.parametrize('archive', COMPRESS)
def test_lines_are_read_from_every_archive(tmp_path: Path, archive: str):
    long = b'x' * (3 * CHUNK_BYTES)
    path = tmp_path / f'a.jsonl{archive}'
    path.write_bytes(COMPRESS[archive](b'one\n\n' + long + b'\nlast'))
    assert read(path) == [(1, b'one'), (2, b''), (3, long), (4, b'last')]


@settings(max_examples=30, deadline=None)
@given(lines=st.lists(st.binary(max_size=50).map(lambda b: b.replace(b'\n', b' ')), max_size=20))
def test_lines_come_back_as_written(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]):
    path = tmp_path_factory.mktemp('lines') / 'a.jsonl.zst'
    path.write_bytes(zstandard.compress(b''.join(line + b'\n' for line in lines)))
    assert [line for _, line in read(path)] == lines


def test_a_zst_of_several_frames_is_one_file(tmp_path: Path):
    path = tmp_path / 'a.jsonl.zst'
    path.write_bytes(zstandard.compress(b'one\ntw') + zstandard.compress(b'o\nthree\n'))
    assert [line for _, line in read(path)] == [b'one', b'two', b'three']


@pytest.mark.parametrize('archive', ['.gz', '.zst', '.xz', '.bz2'])
def test_a_truncated_archive_is_an_error_after_its_whole_lines(tmp_path: Path, archive: str):
    path = tmp_path / f'a.jsonl{archive}'
    data = COMPRESS[archive](b''.join(b'%d\n' % (i * 7919 % 1000) for i in range(1000)))
    path.write_bytes(data[: len(data) - 6])
    with pytest.raises(
        BadRecordError, match=rf'a\.jsonl\{archive}:\d+: the archive is truncated here'
    ) as caught:
        read(path)
    assert caught.value.reason == 'truncated_file'


@pytest.mark.parametrize('archive', COMPRESS)
def test_an_empty_file_has_no_lines_whatever_its_name(tmp_path: Path, archive: str):
    path = tmp_path / f'a.jsonl{archive}'
    path.write_bytes(b'')
    assert read(path) == []
    path.write_bytes(COMPRESS[archive](b''))
    assert read(path) == []


@pytest.mark.parametrize('archive', ['.gz', '.zst', '.xz', '.bz2'])
def test_of_a_file_that_is_cut_off_every_line_that_can_be_decoded_is_read(tmp_path: Path, archive: str):
    generator = random.Random(0)
    lines = [b'%x' % generator.getrandbits(200) for _ in range(20_000)]
    data = COMPRESS[archive](b''.join(line + b'\n' for line in lines))
    path = tmp_path / f'a.jsonl{archive}'
    path.write_bytes(data[: len(data) * 2 // 3])
    found, fault = [], None
    raw = HashingFile(str(path), lambda _: None)
    try:
        for _, line in read_lines(raw, str(path)):
            found.append(line)
    except BadRecordError as error:
        fault = error
    raw.close()
    assert fault is not None
    assert fault.reason == 'truncated_file'
    assert found == lines[: len(found)]
    assert len(found) == decodable(data[: len(data) * 2 // 3], archive).count(b'\n')


def decodable(data: bytes, archive: str) -> bytes:
    """All that the format's own decompressor gives of a cut file."""
    if archive == '.gz':
        return zlib.decompressobj(31).decompress(data)
    if archive == '.zst':
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return (lzma.LZMADecompressor() if archive == '.xz' else bz2.BZ2Decompressor()).decompress(data)


def test_several_members_with_zeros_or_other_data_behind_them_are_one_file(tmp_path: Path):
    for archive, behind in (('.gz', b'\0' * 100), ('.xz', b'\0' * 100), ('.bz2', b'not an archive')):
        path = tmp_path / f'a.jsonl{archive}'
        path.write_bytes(COMPRESS[archive](b'one\ntw') + COMPRESS[archive](b'o\nthree') + behind)
        assert [line for _, line in read(path)] == [b'one', b'two', b'three']


@pytest.mark.parametrize('archive', ['.gz', '.zst', '.xz', '.bz2'])
def test_plain_text_with_an_archives_name_is_an_error(tmp_path: Path, archive: str):
    path = tmp_path / f'a.jsonl{archive}'
    path.write_bytes(b'{"text": "plain"}\n' * 100)
    with pytest.raises(
        BadRecordError, match=rf'not a valid \{archive} archive .*take \{archive} off the name'
    ):
        read(path)


def test_the_hash_is_that_of_the_whole_file_however_much_was_used(tmp_path: Path):
    path = tmp_path / 'a.jsonl'
    path.write_bytes(b'one\ntwo\n' * CHUNK_BYTES)
    counted = []
    raw = HashingFile(str(path), counted.append)
    next(read_lines(raw, str(path)))
    assert raw.finish() == f'blake2b:{hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()}'
    raw.close()
    assert raw.bytes == sum(counted) == path.stat().st_size


def test_inputs_are_listed_in_order_with_their_folders(tmp_path: Path):
    for name in (
        'b/x/2.jsonl',
        'b/x/1.jsonl.zst',
        'a/z.json.gz',
        'a/readme.md',
        '.git/no.jsonl',
        'a/.no.jsonl',
    ):
        path = tmp_path / 'root' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = find_inputs([str(tmp_path / 'root')])
    assert [(file.name, file.folders) for file in found] == [
        ('a/z.json.gz', ('root', 'a')),
        ('b/x/1.jsonl.zst', ('root', 'b', 'x')),
        ('b/x/2.jsonl', ('root', 'b', 'x')),
    ]
    [alone] = find_inputs([str(tmp_path / 'root' / 'b' / 'x' / '2.jsonl')])
    assert (alone.name, alone.folders) == ('2.jsonl', ('x',))


def test_inputs_that_cannot_be_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match='nowhere: no such file or folder; check the PATH'):
        find_inputs([str(tmp_path / 'nowhere')])
    with pytest.raises(InputError, match=r'no input files; PATH must hold at least one of \.jsonl'):
        find_inputs([str(tmp_path)])
    (tmp_path / 'a.txt').touch()
    with pytest.raises(InputError, match=r'a\.txt: not one of'):
        find_inputs([str(tmp_path / 'a.txt')])
    (tmp_path / 'a.jsonl').touch()
    with pytest.raises(InputError, match=r'the same file as .*name each input once'):
        find_inputs([str(tmp_path), str(tmp_path / 'a.jsonl')])
