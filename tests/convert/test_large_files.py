"""One large file of JSON lines is done in parts: any line is in one of them, and a stop costs one part."""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.convert import pipeline
from skillit_stream.convert.corpora import jsonl
from skillit_stream.convert.corpus import RowCorpus
from skillit_stream.convert.inputs import FileRange, InputFile
from skillit_stream.convert.parts import divided
from skillit_stream.convert.readers import Tap, lines_before, open_input, read_lines
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.convert.test_parts import digests


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b'\n', b' ')), max_size=30),
    ends_whole=st.booleans(),
    part_bytes=st.integers(1, 60),
)
@settings(max_examples=150, deadline=None)
def test_each_line_is_in_one_range(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends_whole: bool, part_bytes: int
):
    path = tmp_path_factory.getbasetemp() / 'lines.jsonl'
    path.write_bytes(b'\n'.join(lines) + b'\n' * ends_whole)
    file = InputFile(str(path), path.name, ())
    found: list[bytes] = []
    hashes = []
    for piece in divided([file], part_bytes, lambda _: True):
        tap = Tap(lambda _: None)
        if isinstance(piece, FileRange):
            assert lines_before(piece) == len(found)
        with open_input(piece, tap) as raw:
            found += [line for _, line in read_lines(raw, piece.path)]
        hashes.append(tap.hash)
        assert tap.bytes == path.stat().st_size
    tap = Tap(lambda _: None)
    with open_input(file, tap) as raw:
        assert found == [line for _, line in read_lines(raw, file.path)]
    assert hashes == [tap.hash] + [''] * (len(hashes) - 1)


@pytest.fixture
def large(write_rows: Callable[..., Path]) -> Path:
    rows = [{'text': f'{row} ' * (1 + row % 50), 'kind': f's{row % 3}'} for row in range(1200)]
    return write_rows('large.jsonl', rows)


@pytest.fixture
def command(large: Path, tokenizer: str) -> list[object]:
    options = ['--tokenizer', tokenizer, '--seq-len', 16, '--skill-field', 'kind', '--part-size', '30kb']
    return ['convert', 'jsonl', large, *options, '--workers', 1]


def test_a_large_file_is_done_in_parts_that_are_kept(
    tmp_path: Path, large: Path, command: list[object], skillit, monkeypatch: pytest.MonkeyPatch
):
    skillit(*command, '--out', tmp_path / 'S')
    manifest = verify(str(tmp_path / 'S'))
    assert sum(one.documents for skill in manifest.skills.values() for one in skill.splits.values()) == 1200
    digest = f'blake2b:{hashlib.blake2b(large.read_bytes(), digest_size=32).hexdigest()}'
    for skill in manifest.skills.values():
        assert [(one.file, one.hash, one.bytes) for one in skill.sources] == [
            ('large.jsonl', digest, large.stat().st_size)
        ]
    # Documents of eval are decided by their hash: they are those of the file in one piece.
    skillit(*command, '--part-size', '1mb', '--out', tmp_path / 'whole')
    whole = Manifest.load(str(tmp_path / 'whole'))
    for name, skill in manifest.skills.items():
        for split, info in skill.splits.items():
            assert (info.documents, info.bytes) == (
                whole.skills[name].splits[split].documents,
                whole.skills[name].splits[split].bytes,
            )
    numbers: list[int] = []
    run = pipeline.run_in_process

    def count(job, parts, report, tokenizer) -> None:
        numbers.extend(part.number for part in parts)
        run(job, parts, report, tokenizer)

    skillit(*command, '--task', '0/2', '--out', tmp_path / 'again')
    monkeypatch.setattr(pipeline, 'run_in_process', count)
    skillit(*command, '--out', tmp_path / 'again')
    assert len(numbers) >= 2
    assert all(number % 2 for number in numbers)
    assert digests(tmp_path / 'S') == digests(tmp_path / 'again')


def test_a_fault_in_a_later_part_names_the_line_of_the_file(
    tmp_path: Path, large: Path, command: list[object], refused
):
    lines = large.read_bytes().splitlines()
    lines[1099] = b'{"text": '
    large.write_bytes(b'\n'.join(lines))
    assert 'large.jsonl:1100: broken JSON' in refused(*command, '--out', tmp_path / 'S')


def test_two_large_files_of_one_name_keep_their_own_hashes(
    tmp_path: Path, large: Path, command: list[object], skillit
):
    other = tmp_path / 'corpus' / 'other' / 'large.jsonl'
    other.parent.mkdir()
    other.write_bytes(large.read_bytes().replace(b' ', b'  '))
    command[2:3] = [large, other]
    skillit(*command, '--out', tmp_path / 'S')
    manifest = verify(str(tmp_path / 'S'))
    expected = [
        f'blake2b:{hashlib.blake2b(one.read_bytes(), digest_size=32).hexdigest()}' for one in (large, other)
    ]
    assert [one.hash for one in manifest.skills['s0'].sources] == expected


def test_archives_arrays_and_corpora_that_look_at_other_rows_are_not_divided():
    args = argparse.Namespace(paths=[], text_field='text', skill='a', skill_field=None, skill_from=None)
    corpus = jsonl.JsonRows(args, ['x'])

    class Own(RowCorpus):
        name = 'own'

        def skill_of(self, row, file, where) -> str:
            return 'a'

    plain = InputFile('a.ndjson', 'a.ndjson', ())
    assert corpus.by_line(plain)
    assert not Own(['x']).by_line(plain)
    for name in ('a.json', 'a.jsonl.zst', 'a.jsonl.gz'):
        assert not corpus.by_line(InputFile(name, name, ()))
