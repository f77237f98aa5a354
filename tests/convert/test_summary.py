"""What is printed at the end of a conversion reads well at 80 columns and says what comes next."""

import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from skillit_stream.convert.summary import (
    eval_lines,
    left_out_lines,
    print_speed,
    print_summary,
    table_lines,
)
from skillit_stream.formats.manifest import Manifest, SkillInfo, SplitInfo

LONG = 'question_answering-portuguese_brazil-portuguese_brazil'


def split(samples: int) -> SplitInfo:
    tokens = 2048 * samples
    counts = {'samples': samples, 'tokens': tokens, 'target_tokens': tokens, 'bytes': 8000 * samples}
    return SplitInfo(**counts, documents=3 * samples, index_hash='')


def manifest(*names: str, dropped: dict[str, int] | None = None) -> Manifest:
    skill = SkillInfo(splits={'train': split(123_456_789), 'eval': split(1)}, dropped=dropped or {})
    return manifest_of(dict.fromkeys(names, skill))


def manifest_of(skills: dict[str, SkillInfo]) -> Manifest:
    return Manifest(
        tokenizer_name='gpt2',
        tokenizer_hash='',
        vocab_size=50257,
        seq_len=2048,
        dtype='uint16',
        columns={},
        skills=skills,
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


@pytest.mark.parametrize('count', [1, 3, 30])
def test_up_to_some_tens_of_skills_each_has_its_rows(count: int):
    names = [f'skill_{number:02}' for number in range(count)]
    lines = table_lines(manifest(*names), 80)
    assert [line.split()[0] for line in lines[1::2]][:count] == names
    assert len(lines) == 1 + 2 * (count + (count > 1))


def test_of_thousands_of_skills_the_largest_the_smallest_and_the_sums_are_told():
    skills = {
        f'skill_{number:04}': SkillInfo(splits={'train': split(number), 'eval': split(1)})
        for number in range(1, 3001)
    }
    lines = table_lines(manifest_of(skills), 80)
    train = [line.split() for line in lines[1::2]]
    found = [(' '.join(words[:-5]), int(words[-2].replace(',', ''))) for words in train]
    largest = [(f'skill_{number}', number) for number in range(3000, 2992, -1)]
    smallest = [(f'skill_{number:04}', number) for number in range(4, 0, -1)]
    total = sum(range(1, 3001))
    others = ('2,988 others', total - sum(number for _, number in largest + smallest))
    assert found == [*largest, others, *smallest, ('all 3,000', total)]
    assert all(len(line) <= 80 for line in lines)


def test_wide_signs_count_for_two_columns():
    names = ('\u8cea\u554f\u5fdc\u7b54', 'cafe\u0301', 'arxiv')
    lines = table_lines(manifest(*names), 80)
    assert len({cell_len(line) for line in lines}) == 1
    wide = '\u8cea\u554f' * 20
    lines = table_lines(manifest(wide, 'arxiv'), 80)
    assert wide in [line.strip() for line in lines]
    assert all(cell_len(line) <= 80 for line in lines)


def shown(print_it: Callable[[], None], monkeypatch: pytest.MonkeyPatch, width: int | None) -> str:
    """What is printed on a terminal of so many columns, or to a pipe."""
    written = io.StringIO()
    monkeypatch.setattr(sys, 'stdout', written)
    monkeypatch.setattr(written, 'isatty', lambda: width is not None, raising=False)
    monkeypatch.setenv('COLUMNS', str(width or 80))
    monkeypatch.setenv('TERM', 'dumb')
    print_it()
    return written.getvalue()


def test_on_a_terminal_lines_end_between_words_and_in_a_pipe_they_stay_whole(monkeypatch: pytest.MonkeyPatch):
    names = [f'{LONG}-{number}' for number in range(3)]
    skill = SkillInfo(splits={'train': split(9), 'eval': split(1)}, dropped={'broken_json': 2})
    made = replace(
        manifest_of(dict.fromkeys(names, skill)),
        corpus={'eval_fraction': None, 'eval_below': dict.fromkeys(names, 'f' * 32)},
    )
    terminal = shown(lambda: print_summary(made, 'S'), monkeypatch, 80)
    assert all(len(line) <= 80 for line in terminal.splitlines())
    assert all(terminal.count(f'{name} ') >= 1 for name in names)
    pipe = shown(lambda: print_summary(made, 'S'), monkeypatch, None)
    taken = ', '.join(f'{name} 3 of 30' for name in names)
    assert f'eval: a twentieth of the documents; of small skills more: {taken}\n' in pipe
    assert f'left out: 6 broken_json in 3 skills, 2 of them in {names[0]}\n' in pipe


def test_of_many_small_skills_the_smallest_are_said_to_have_more_in_eval():
    bounds = {f's{number:02}': f'{1 << 127:032x}' for number in range(50)}
    skills = dict.fromkeys(bounds, SkillInfo(splits={'train': split(4), 'eval': split(1)}))
    made = replace(manifest_of(skills), corpus={'eval_fraction': None, 'eval_below': bounds})
    [line] = eval_lines(made)
    assert line.endswith('s09 3 of 15, and of 40 others')
    assert eval_lines(replace(made, corpus={**made.corpus, 'eval_fraction': 0.05})) == []
    usual = {name: f'{int(0.05 * (1 << 128)):032x}' for name in bounds}
    made = replace(made, corpus={'eval_fraction': None, 'eval_below': usual})
    assert eval_lines(made) == ['eval: a twentieth of the documents']


def test_it_says_how_much_text_was_converted_in_which_time(capsys: pytest.CaptureFixture[str]):
    print_speed(manifest('a', 'b'), 1000.0)
    assert capsys.readouterr().out == '1,975,308.6 MB of text in 1000.0 s, 1975.3 MB/s\n'
    print_speed(manifest_of({'a': SkillInfo(splits={'train': split(3)})}), 2.0, kept=3, parts=4)
    assert capsys.readouterr().out == '24.0 kB of text in 2.0 s, 3 of 4 parts done before\n'


def test_an_addition_tells_its_own_text_and_how_many_files_there_were(
    tmp_path: Path, tokenizer: str, write_rows: Callable[..., Path], skillit: Callable[..., str]
):
    options = ['--skill', 'prose', '--tokenizer', tokenizer, '--seq-len', 16, '--out', tmp_path / 'S']
    for number in range(12):
        write_rows(f'{number:02}.jsonl', [{'text': f'{number} and {row} of it'} for row in range(60)])
    folder = write_rows('12.jsonl', [{'text': f'12 and {row} of it'} for row in range(60)]).parent
    printed = skillit('convert', 'jsonl', folder, *options)
    assert '13 files read' in printed
    assert re.search(r'\n11\.0 kB of text in \d+\.\d s, \d+\.\d MB/s\n', printed)
    write_rows('13.jsonl', [{'text': f'more of it {row:02}'} for row in range(60)])
    printed = skillit('convert', 'jsonl', folder, *options, '--add')
    assert '0.8 kB of text in' in printed
    assert '09.jsonl, ...\n' in printed


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
