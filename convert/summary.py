"""What is printed of a streams folder: a row for each skill and split, what was left out, what to type next."""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len

from skillit_stream.base.names import is_url, number_of
from skillit_stream.base.terminal import default_console, print_line
from skillit_stream.convert.existing import BOUNDS
from skillit_stream.convert.special_tokens import TEXT
from skillit_stream.convert.splits import EVAL, EVAL_FRACTION, fraction_threshold
from skillit_stream.formats.manifest import LEFT_OUT, Manifest, SkillInfo, sum_of_special

HEAD = ('documents', 'MB of text', 'samples', 'tokens')
GAP = '  '
# What the counts of `dropped` mean, where their names do not say it.
MEANINGS = {
    'tail_tokens': 'at the end, too few for a sample',
    'cut_tokens': 'of documents longer than a sample',
    'eval_documents_in_train': 'left out of eval',
    'eval_samples_in_train': 'left out of eval',
    'train_samples_in_eval': 'left out of train',
    'row_is_none': 'the function returned None for them',
    'samples_without_target': 'no token of them counts in the loss',
}
# More skills that were left out are in the manifest alone.
MOST_NAMED = 10
# Of more skills than this the largest and the smallest are told, and the sum of the others.
MOST_SKILLS = 40
LARGEST, SMALLEST = 8, 4
Row = tuple[str, ...]
Counts = dict[str, list[float]]
"""Split -> documents, bytes of text, samples, tokens."""


def print_summary(manifest: Manifest, root: str, *, title: str = 'Streams') -> None:
    """Print a table of a streams folder, and what was left out."""
    print(f'{title}: {root if is_url(root) else os.path.normpath(root)}')
    print('\n'.join(table_lines(manifest, default_console().width)))
    for line in (*eval_lines(manifest), *left_out_lines(manifest)):
        print_line(line)


def print_speed(manifest: Manifest, seconds: float, *, kept: int = 0, parts: int = 0) -> None:
    """Print how much text a conversion has converted, and how fast.

    Args:
        manifest: Of the streams; of those that were added to, the last conversion counts.
        seconds: That the command took.
        kept: Parts that an earlier command had done.
        parts: All of them.
    """
    skills = [skill.splits.values() for skill in manifest.skills.values()]
    size = sum(split.bytes for splits in skills for split in splits)
    if manifest.history:
        size = sum(split['bytes'] for one in manifest.history[-1].counts.values() for split in one.values())
    text = f'{_size_in_words(size)} of text in {seconds:.1f} s'
    if kept:
        print_line(f'{text}, {kept:,} of {number_of(parts, "part")} done before')
    else:
        print_line(f'{text}, {size / 1e6 / max(seconds, 1e-9):.1f} MB/s')


def print_next(root: str, *, verified: bool = False, added: bool = False) -> None:
    """Print the commands that come next.

    Args:
        root: The streams folder.
        verified: Whether it has been verified.
        added: Whether a run that began on the folder may go on with it.
    """
    name = shlex.quote(root)
    commands = [] if verified or is_url(root) else [f'skillit verify {name}']
    commands.append(f'skillit train YOUR.yaml streams={name}')
    print('\n'.join(f'{"next:" if not number else "":5} {one}' for number, one in enumerate(commands)))
    if added:
        print('A run that began before goes on with what was added: train_loader.on_changed=allow')


def table_lines(manifest: Manifest, width: int) -> list[str]:
    """The table in lines of at most `width` columns, names whole.

    A skill has a line a split; where its name does not fit before the numbers, it has a line of its own above them. Of
    many skills the largest and the smallest stand there, and the sum of those between.
    """
    counts = {name: _counts_of(skill) for name, skill in manifest.skills.items()}
    listed = list(counts)
    between: list[str] = []
    if len(counts) > MOST_SKILLS:
        ranked = sorted(counts, key=lambda name: -sum(one[-1] for one in counts[name].values()))
        listed, between = [*ranked[:LARGEST], *ranked[-SMALLEST:]], ranked[LARGEST:-SMALLEST]
    rows: list[Row] = [('skill', 'split', *HEAD)]
    for number, name in enumerate(listed):
        if between and number == LARGEST:
            rows += _rows_of(f'{len(between):,} others', _sum_of(counts[one] for one in between))
        rows += _rows_of(name, counts[name])
    if len(counts) > 1:
        rows += _rows_of('all' if not between else f'all {len(counts):,}', _sum_of(counts.values()))
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if sum(widths) + len(GAP) * (len(widths) - 1) > width:
        rows = [part for row in rows for part in _apart(row)]
        widths[0] = 0
    return [_line(row, widths) for row in rows]


def _counts_of(skill: SkillInfo) -> Counts:
    return {
        split: [info.documents, info.bytes, info.samples, info.tokens] for split, info in skill.splits.items()
    }


def _sum_of(counts: Iterable[Counts]) -> Counts:
    found: Counts = {}
    for one in counts:
        for split, values in one.items():
            sums = found.setdefault(split, [0] * len(values))
            found[split] = [total + value for total, value in zip(sums, values, strict=True)]
    return found


def _rows_of(name: str, counts: Counts) -> list[Row]:
    return [
        (name if not number else '', split, *_in_words(values))
        for number, (split, values) in enumerate(counts.items())
    ]


def _in_words(counts: Sequence[float]) -> Row:
    documents, size, samples, tokens = counts
    return f'{documents:,}', f'{size / 1e6:,.2f}', f'{samples:,}', f'{tokens:,}'


def _size_in_words(size: float) -> str:
    return f'{size / 1e6:,.1f} MB' if size >= 1e6 else f'{size / 1e3:,.1f} kB'


def eval_lines(manifest: Manifest) -> list[str]:
    """What eval has taken of the skills, where the conversion was not told how much: of small ones more."""
    bounds: Mapping[str, str] = manifest.corpus.get(BOUNDS, {})
    if manifest.corpus.get('eval_fraction', 0) is not None or not bounds:
        return []
    usual = fraction_threshold(EVAL_FRACTION)
    taken = {
        name: (skill.splits[EVAL].documents, sum(split.documents for split in skill.splits.values()))
        for name, skill in manifest.skills.items()
        if int(bounds.get(name, '0'), 16) > usual and EVAL in skill.splits
    }
    ranked = sorted(taken, key=lambda name: (taken[name][1], name))
    named = [f'{name} {taken[name][0]:,} of {taken[name][1]:,}' for name in ranked[:MOST_NAMED]]
    if len(ranked) > MOST_NAMED:
        named.append(f'and of {len(ranked) - MOST_NAMED:,} others')
    more = f'; of small skills more: {", ".join(named)}' if named else ''
    return [f'eval: a twentieth of the documents{more}']


def _apart(row: Row) -> list[Row]:
    """A row with the name of its skill in one of its own."""
    return [row[:1], ('', *row[1:])] if row[0] and row[0] != 'skill' else [('', *row[1:])]


def _line(row: Row, widths: Sequence[int]) -> str:
    names = [cell + ' ' * (width - cell_len(cell)) for cell, width in zip(row[:2], widths, strict=False)]
    numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=False)]
    return GAP.join([*names, *numbers]).rstrip()


def left_out_lines(manifest: Manifest) -> list[str]:
    """A line for each reason for which something was left out."""
    by_reason: dict[str, dict[str, int]] = {}
    for name, skill in manifest.skills.items():
        for reason, count in skill.dropped.items():
            if count:
                by_reason.setdefault(reason, {})[name] = count
    lines = []
    for reason, counts in by_reason.items():
        meaning = f' ({MEANINGS[reason]})' if reason in MEANINGS else ''
        lines.append(f'left out: {sum(counts.values()):,} {reason}{meaning} {_where(counts)}')
    empty = {
        name: count
        for name, skill in manifest.skills.items()
        if (count := sum(split.without_target or 0 for split in skill.splits.values()))
    }
    if empty:
        lines.append(
            f'kept: {sum(empty.values()):,} samples_without_target (no token of them counts in the loss; '
            f'--drop-without-target leaves them out) {_where(empty)}'
        )
    lines += _left_out_skills(manifest)
    return [
        *lines,
        *_special_lines(manifest),
        *(f'left out, of no known skill: {count:,} {reason}' for reason, count in manifest.dropped.items()),
    ]


def _special_lines(manifest: Manifest) -> list[str]:
    """How often documents hold the words of special tokens, which text hardly means, and what was made of them."""
    counts = {name: one.special_tokens for name, one in manifest.skills.items() if one.special_tokens}
    whole = sum_of_special(counts.values())
    if whole is None:
        return []
    ranked = sorted(whole.tokens.items(), key=lambda item: (-item[1], item[0]))
    named = [f'{count:,} {word}' for word, count in ranked[:MOST_NAMED]]
    words = ', '.join([*named, *(['...'] if len(ranked) > MOST_NAMED else [])])
    way = 'as these tokens (--special-tokens text encodes them as text)'
    way = 'as text' if manifest.corpus.get('special_tokens') == TEXT else way
    by_skill = {name: sum(one.tokens.values()) for name, one in counts.items()}
    found = f'{sum(by_skill.values()):,} in {number_of(whole.documents, "document")} ({words})'
    return [f'words of special tokens: {found}, encoded {way} {_where(by_skill)}']


def _left_out_skills(manifest: Manifest) -> list[str]:
    skills = manifest.corpus.get(LEFT_OUT, {})
    if not skills:
        return []
    documents = number_of(sum(one['documents'] for one in skills.values()), 'document')
    names = ', '.join(list(skills)[:MOST_NAMED]) + (', ...' if len(skills) > MOST_NAMED else '')
    least = manifest.corpus['min_samples']
    return [f'left out: {number_of(len(skills), "skill")} under --min-samples {least}, {documents}: {names}']


def _where(counts: Mapping[str, int]) -> str:
    name, most = max(counts.items(), key=lambda item: item[1])
    return f'in {name}' if len(counts) == 1 else f'in {len(counts)} skills, {most:,} of them in {name}'
