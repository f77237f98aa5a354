"""What is printed at the end of a conversion reads well at 80 columns and says what comes next."""

from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream.convert.summary import left_out_lines, table_lines
from skillit_stream.formats.manifest import Manifest, SkillInfo, SplitInfo

LONG = 'question_answering-portuguese_brazil-portuguese_brazil'


def split(samples: int) -> SplitInfo:
    tokens = 2048 * samples
    counts = {'samples': samples, 'tokens': tokens, 'target_tokens': tokens, 'bytes': 8000 * samples}
    return SplitInfo(**counts, documents=3 * samples, index_hash='')


def manifest(*names: str, dropped: dict[str, int] | None = None) -> Manifest:
    skill = SkillInfo(splits={'train': split(123_456_789), 'eval': split(1)}, dropped=dropped or {})
    return Manifest(
        tokenizer_name='gpt2',
        tokenizer_hash='',
        vocab_size=50257,
        seq_len=2048,
        dtype='uint16',
        columns={},
        skills=dict.fromkeys(names, skill),
    )


def test_short_names_stand_beside_their_numbers_with_sums_below():
    lines = table_lines(manifest('arxiv', 'book'), 80)
    assert [line.split() for line in lines] == [
        ['skill', 'split', 'documents', 'MB', 'of', 'text', 'samples', 'tokens'],
        ['arxiv', 'train', '370,370,367', '987,654.31', '123,456,789', '252,839,503,872'],
        ['eval', '3', '0.01', '1', '2,048'],
        ['book', 'train', '370,370,367', '987,654.31', '123,456,789', '252,839,503,872'],
        ['eval', '3', '0.01', '1', '2,048'],
        ['all', 'train', '740,740,734', '1,975,308.62', '246,913,578', '505,679,007,744'],
        ['eval', '6', '0.02', '2', '4,096'],
    ]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize('width', [80, 100, 140])
def test_long_names_stay_whole_within_the_terminal(width: int):
    lines = table_lines(manifest('arxiv', LONG), width)
    assert all(len(line) <= width for line in lines)
    assert any(line.strip().startswith(LONG) for line in lines)
    assert (LONG in [line.strip() for line in lines]) == (width < 140)


def test_what_was_left_out_is_a_line_a_reason():
    one = manifest('a', dropped={'tail_tokens': 1234, 'cut_tokens': 0})
    assert left_out_lines(one) == ['left out: 1,234 tail_tokens (at the end, too few for a sample) in a']
    two = manifest('a', 'b', dropped={'broken_json': 2})
    assert left_out_lines(two) == ['left out: 4 broken_json in 2 skills, 2 of them in a']


def test_it_ends_with_what_to_type_next(
    tmp_path: Path, tokenizer: str, write_rows: Callable[..., Path], skillit: Callable[..., str]
):
    rows = [{'text': f'row {number} of it'} for number in range(60)]
    options = ['--skill', 'prose', '--tokenizer', tokenizer, '--seq-len', 16, '--out', tmp_path / 'S']
    printed = skillit('convert', 'jsonl', write_rows('a.jsonl', rows), *options)
    assert printed.splitlines()[-2:] == [
        f'next: skillit verify {tmp_path / "S"}',
        f'      skillit train YOUR.yaml streams={tmp_path / "S"}',
    ]
    printed = skillit('verify', tmp_path / 'S')
    assert printed.splitlines()[0] == f'Verified: {tmp_path / "S"}'
    assert printed.splitlines()[-1] == f'next: skillit train YOUR.yaml streams={tmp_path / "S"}'
    more = [{'text': f'row {number} of it'} for number in range(60, 160)]
    printed = skillit('convert', 'jsonl', write_rows('b.jsonl', more), *options, '--add')
    assert 'goes on with what was added: train_loader.on_changed=allow' in printed.splitlines()[-1]
