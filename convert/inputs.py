"""PATHs -> input files: which names are read, which folders are looked into, and what is passed over.

A name counts by what it ends in, without regard to case and in any common spelling (``.NDJSON.zstd`` is
``.jsonl.zst``). Folders whose names begin with a dot or an underscore are not looked into: they hold what tools keep
for themselves, and what a job has not finished (Spark's ``_temporary``). Whatever is passed over is counted.
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import number_of

FORMATS = ('.jsonl', '.json')
ARCHIVES = ('.gz', '.zst', '.xz', '.bz2')
SUFFIXES = tuple(form + archive for form in FORMATS for archive in ('', *ARCHIVES))
# What some write in the place of the suffix behind the colon.
SPELLINGS = {
    '.ndjson': '.jsonl',
    '.jsonlines': '.jsonl',
    '.ldjson': '.jsonl',
    '.pq': '.parquet',
    '.parq': '.parquet',
    '.text': '.txt',
    '.markdown': '.md',
}
ARCHIVE_SPELLINGS = {'.gzip': '.gz', '.zstd': '.zst', '.lzma': '.xz', '.bz': '.bz2'}
# What ends a line, and bytes that are not UTF-8: neither a message nor the manifest can name a file with them.
_UNREADABLE = re.compile('[\n\r\v\f\x1c-\x1e\x85\u2028\u2029\ud800-\udfff]')
# More kinds of what was passed over are summed up.
KINDS = 6


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of a corpus."""

    path: str
    """Where it is; error messages name it by this."""
    name: str
    """Relative to the PATH it was found under, with forward slashes; the manifest names it by this."""
    folders: tuple[str, ...]
    """Names of the folders above it, outermost first, starting with PATH itself (or a lone file's folder)."""

    @property
    def size(self) -> int:
        """Bytes on disk; 0 if it cannot be looked at (reading it says why)."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0

    @property
    def stamp(self) -> str:
        """Changes when the file is written to; work done from an older one is done again."""
        try:
            return str(os.stat(self.path).st_mtime_ns)
        except OSError:
            return ''


@dataclass(frozen=True, slots=True)
class VirtualFile(InputFile):
    """Something that is read like a file of a corpus, but is none on disk."""

    amount: int
    """Bytes, or a guess."""
    version: str
    """Changes with its contents; empty where that is not known."""

    @property
    def size(self) -> int:
        """Bytes, or a guess."""
        return self.amount

    @property
    def stamp(self) -> str:
        """Changes with its contents."""
        return self.version


@dataclass(frozen=True, slots=True)
class FileRange(InputFile):
    """The lines of a file that begin between two of its bytes, read as a file of its own."""

    begin: int
    end: int

    @property
    def size(self) -> int:
        """Bytes on disk, give or take a line."""
        return self.end - self.begin

    @property
    def stamp(self) -> str:
        """Changes when the file is written to, or cut otherwise."""
        return f'{InputFile.stamp.fget(self)} {self.begin}-{self.end}'  # type: ignore[attr-defined]


@dataclass(eq=False)
class FileChoice:
    """Which of the files below the PATHs are input, and how many are not, by reason."""

    include: Sequence[str] = ()
    """Patterns, one of which a file must match; none: all do."""
    exclude: Sequence[str] = ()
    """Patterns, none of which a file may match."""
    found: int = 0
    """Input files."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Reason, mostly a suffix -> files."""
    folders: list[str] = field(default_factory=list)
    """Folders that were not looked into."""
    matched: set[str] = field(default_factory=set)
    """Patterns that some file matched."""

    def reason_against(self, name: str, suffixes: tuple[str, ...]) -> str:
        """Why a file, by its path below PATH, is no input; empty if it is."""
        last = name.rsplit('/', 1)[-1]
        if last.startswith('.') and not self._asks_for(last):
            return 'hidden'
        if not has_suffix(last, suffixes):
            return suffix_of(last) or 'without a suffix'
        included = [one for one in self.include if is_match(one, name)]
        excluded = [one for one in self.exclude if is_match(one, name)]
        self.matched.update(included, excluded)
        if self.include and not included:
            return 'not of --include'
        return 'of --exclude' if excluded else ''

    def looks_into(self, folder: str) -> bool:
        """Whether the files of a folder of this name, below PATH, are read."""
        return folder[0] not in '._' or self._asks_for(folder)

    def _asks_for(self, name: str) -> bool:
        """Whether a pattern of --include names something hidden or underscored that this is."""
        pieces = (
            piece for pattern in self.include for piece in pattern.split('/') if piece[:1] in ('.', '_')
        )
        return any(fnmatchcase(name, piece) for piece in pieces)

    def check_patterns(self) -> None:
        """Refuse a pattern that no file matches: it is misspelt; raises InputError."""
        for option, patterns in (('--include', self.include), ('--exclude', self.exclude)):
            for pattern in patterns:
                if pattern not in self.matched:
                    raise InputError(
                        f'{option} {pattern}: matches no file; give a name (*.jsonl), or a path below PATH (2024/*)'
                    )

    def in_words(self, files: int, known: int = 0) -> str:
        """How many files were read and what was passed over; empty for a corpus that has no files.

        Args:
            files: Those that are read, of all that were found.
            known: Those that the streams have already.
        """
        if not self.found:
            return ''
        reasons = self.passed_over + Counter(
            {'of no use to this corpus': self.found - files - known, 'in the streams already': known}
        )
        ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        kinds = [f'{count:,} {reason}' for reason, count in ranked[:KINDS]]
        if len(ranked) > KINDS:
            kinds.append(f'{sum(count for _, count in ranked[KINDS:]):,} others')
        words = [f'{number_of(files, "file")} read']
        if reasons:
            words.append(f'{sum(reasons.values()):,} passed over ({", ".join(kinds)})')
        if self.folders:
            names = [*self.folders[:KINDS], *(['...'] if len(self.folders) > KINDS else [])]
            words.append(f'{number_of(len(self.folders), "folder")} not looked into ({", ".join(names)})')
        return ', '.join(words)


_CHOICE: ContextVar[FileChoice | None] = ContextVar('choice of files', default=None)


@contextmanager
def choosing_files(args: argparse.Namespace) -> Iterator[FileChoice]:
    """Within this context :func:`find_inputs` keeps to ``--include`` and ``--exclude`` and counts what it passes over.

    Raises:
        InputError: At the end: a pattern matches no file.
    """
    choice = FileChoice(getattr(args, 'include', None) or (), getattr(args, 'exclude', None) or ())
    token = _CHOICE.set(choice)
    try:
        yield choice
    finally:
        _CHOICE.reset(token)
    choice.check_patterns()


def pass_over(count: int, reason: str) -> None:
    """Count files that :func:`find_inputs` has found as passed over for a reason that the corpus has."""
    choice = _CHOICE.get()
    if choice is not None:
        choice.found -= count
        choice.passed_over[reason] += count


def find_inputs(paths: list[str], suffixes: tuple[str, ...] = SUFFIXES) -> list[InputFile]:
    """List the input files at and below `paths`, each PATH in turn, sorted by name.

    Args:
        paths: Files and folders.
        suffixes: What the names of input files end in, in any case and spelling; others in a folder are passed over.

    Raises:
        InputError: A PATH is missing or of an unknown kind, a file is named twice, or there is none.
    """
    choice = _CHOICE.get() or FileChoice()
    found: list[InputFile] = []
    for path in paths:
        if os.path.isdir(path):
            found += _walk(path, suffixes, choice)
        elif not os.path.exists(path):
            raise InputError(f'{path}: no such file or folder; check the PATH given to `skillit convert`')
        elif has_suffix(path, suffixes):
            name = os.path.basename(path)
            folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
            found += _chosen(InputFile(path, name, (folder,)), suffixes, choice, named=True)
        else:
            raise InputError(f'{path}: not one of {", ".join(suffixes)}; rename or convert the file')
    if not found:
        choice.check_patterns()
        choice.found = 1
        others = choice.in_words(1).removeprefix('1 file read').removeprefix(', ')
        raise InputError(
            f'{", ".join(paths)}: no input files; PATH must hold at least one of {", ".join(suffixes)}'
            f'{f" ({others})" if others else ""}'
        )
    seen: dict[str, str] = {}
    for file in found:
        first = seen.setdefault(os.path.realpath(file.path), file.path)
        if first is not file.path:
            raise InputError(f'{file.path}: the same file as {first}; name each input once')
    choice.found += len(found)
    return found


def _walk(root: str, suffixes: tuple[str, ...], choice: FileChoice) -> list[InputFile]:
    top = os.path.basename(os.path.abspath(root))
    found = []
    for folder, subfolders, names in os.walk(root, onerror=_refuse_folder, followlinks=True):
        relative = os.path.relpath(folder, root)
        parts = () if relative == '.' else tuple(relative.split(os.sep))
        choice.folders += [
            '/'.join((*parts, one)) for one in sorted(subfolders) if not choice.looks_into(one)
        ]
        subfolders[:] = sorted(filter(choice.looks_into, subfolders))
        for name in sorted(names):
            path = os.path.join(folder, name)
            found += _chosen(InputFile(path, '/'.join((*parts, name)), (top, *parts)), suffixes, choice)
    return found


def _chosen(
    file: InputFile, suffixes: tuple[str, ...], choice: FileChoice, *, named: bool = False
) -> list[InputFile]:
    """The file, or nothing if it is passed over; one that is a PATH itself may be hidden.

    Raises:
        InputError: No message could name it.
    """
    reason = choice.reason_against(file.name.lstrip('.') if named else file.name, suffixes)
    if reason:
        choice.passed_over[reason] += 1
        return []
    if _UNREADABLE.search(file.path):
        raise InputError(
            f'{file.path!a}: its path has a line break, or is not UTF-8; rename the file, or pass it over with '
            '--exclude'
        )
    return [file]


def _refuse_folder(error: OSError) -> None:
    # os.walk itself passes over a folder that it cannot list: its files would be missing without a word.
    raise InputError(f'{error.filename}: cannot be listed ({error.strerror}); check the folder') from error


def is_match(pattern: str, name: str) -> bool:
    """Whether a pattern of shell wildcards stands for a file, or for a folder above it.

    Args:
        pattern: Without a slash, of any name on the way; with one, of the way from its beginning.
        name: The way to the file below PATH, with forward slashes.
    """
    parts = name.split('/')
    if '/' not in pattern:
        return any(fnmatchcase(part, pattern) for part in parts)
    ways = ('/'.join(parts[:count]) for count in range(1, len(parts) + 1))
    return any(fnmatchcase(way, pattern.strip('/')) for way in ways)


def archive_of(path: str) -> str:
    """The archive that a file is by its name, in the common spelling; empty if none: ``.zst`` for ``A.JSONL.ZSTD``."""
    suffix = os.path.splitext(path)[1].lower()
    suffix = ARCHIVE_SPELLINGS.get(suffix, suffix)
    return suffix if suffix in ARCHIVES else ''


def form_of(path: str) -> str:
    """The suffix of a file's name without its archive, in the common spelling: ``.jsonl`` of ``a.ndjson.gz``."""
    if archive_of(path):
        path = os.path.splitext(path)[0]
    suffix = os.path.splitext(path)[1].lower()
    return SPELLINGS.get(suffix, suffix)


def suffix_of(path: str) -> str:
    """Form and archive of a file's name, in the common spelling: ``.jsonl.zst`` for ``a.NDJSON.zstd``."""
    return form_of(path) + archive_of(path)


def has_suffix(path: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file's name ends in one of the suffixes, in any case and spelling."""
    name = os.path.basename(path)
    plain = _stem(name) + suffix_of(name)
    return plain.endswith(tuple(_stem(one) + suffix_of('a' + one) for one in suffixes))


def _stem(name: str) -> str:
    """What is before form and archive, in small letters."""
    if archive_of('a' + name):
        name = name[: name.rindex('.')]
    return (name[: name.rindex('.')] if os.path.splitext('a' + name)[1] else name).lower()
