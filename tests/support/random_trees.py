"""Random trees of input files, each with what a conversion must find in it: the generator knows what it wrote."""

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import tree_files, tree_texts
from tests.support.tree_files import Content, SkillValues, Texts

# Those of a tree are drawn from here: what becomes one name, what cannot be one, what looks like a file of ours.
NAMES = (
    'prose',
    'verse',
    'docs',
    'docs.held',
    'tail',
    'train',
    'eval',
    'shards',
    'a b',
    'a/b',
    'a_b',
    'B',
    'b',
    '-x',
    ' x',
    'x',
    '.hidden',
    'hidden',
    '...',
    'na\u00efve',
    'nai\u0308ve',
    '\u65e5\u672c\u8a9e',
    '\u6570' * 79,
    'n' * 201,
)
UNUSABLE = ('skills.json', 'tokenizer', '\u6570' * 90, 'n' * 241)
FOLDERS = (
    (),
    (),
    ('sub',),
    ('a b', 'c.d'),
    ('caf\u00e9',),
    ('cafe\u0301',),
    ('x.jsonl',),
    ('deep', 'er', 'still'),
)
UNREAD_FOLDERS = (('.git',), ('_temporary', '0'), ('sub', '_logs'), ('sub', '.cache'))
STEMS = (
    'part-{}',
    'part-{}.of.9',
    'rows {}',
    '_{}',
    'data.{}.v2',
    '\u0434\u0430\u043d\u043d\u044b\u0435{}',
    'e\u0301{}',
    '-{}',
    "it's{}",
    'l' * 180 + '{}',
)
# A name of two lines, and one that is not UTF-8.
UNREADABLE_STEMS = ('new\nline{}', 'caf\udce9{}')
ARCHIVES = {
    '': ('',),
    '.gz': ('.gz', '.gzip', '.GZ'),
    '.zst': ('.zst', '.zstd', '.Zst'),
    '.xz': ('.xz', '.XZ'),
    '.bz2': ('.bz2', '.bz'),
}
SPELLINGS = {
    '.jsonl': ('.jsonl', '.JSONL', '.ndjson', '.jsonlines', '.ldjson'),
    '.json': ('.json', '.Json'),
    '.txt': ('.txt', '.TXT', '.text', '.md', '.markdown'),
    '.parquet': ('.parquet', '.pq', '.Parq'),
}
FORMS = {'jsonl': ('.jsonl', '.jsonl', '.json'), 'text': ('.txt',), 'parquet': ('.parquet',)}


@dataclass
class TreeFile:
    """A file of a tree."""

    path: str
    """Below the tree's root."""
    content: Content
    is_read: bool
    """Whether the command reads it."""
    what: str
    """For whoever looks at a failure."""


@dataclass
class Tree:
    """A command, its input, and what must come of it.

    Attributes:
        corpus: The kind of corpus.
        options: Of the command, besides its paths, output, tokenizer and workers.
        seq_len: Tokens in a sample.
        eval_need: (tokens, documents) that eval must have of each skill.
        files: All there are.
    """

    corpus: str
    options: list[str]
    seq_len: int
    eval_need: tuple[int, int]
    files: list[TreeFile] = field(default_factory=list)

    @property
    def read(self) -> list[Content]:
        """What is in the files that the command reads."""
        return [file.content for file in self.files if file.is_read]

    @property
    def unreadable(self) -> list[str]:
        """Files that the command reads whose names no message can hold."""
        names = [file.path for file in self.files if file.is_read]
        return [name for name in names if '\n' in name or '\udce9' in name]

    @property
    def faults(self) -> Counter[str]:
        """Bad records by reason."""
        return sum((content.faults for content in self.read), Counter())

    def documents(self) -> dict[str, Counter[str]]:
        """Name of a skill's folder -> its texts, and how many of each."""
        found: dict[str, Counter[str]] = {}
        for content in self.read:
            for skill, text in content.documents:
                found.setdefault(safe_name(skill), Counter())[text] += 1
        return found

    def clashes(self) -> bool:
        """Whether two skills would have one folder."""
        raw: dict[str, set[str]] = {}
        for content in self.read:
            for skill in {*(one for one, _ in content.documents), *content.named}:
                raw.setdefault(safe_name(skill), set()).add(unicodedata.normalize('NFC', skill))
        return any(len(names) > 1 for names in raw.values())

    def write(self, root: Path) -> None:
        """Put the files there."""
        root.mkdir()
        for file in self.files:
            path = root / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content.data)

    def __str__(self) -> str:
        lines = [f'convert {self.corpus} {" ".join(map(ascii, self.options))}']
        lines += [
            f'  {file.path!a}: {file.what}, {len(file.content.data)} bytes, '
            f'{len(file.content.documents)} documents, {dict(file.content.faults)}'
            f'{"" if file.is_read else ", not read"}'
            for file in self.files
        ]
        return '\n'.join(lines)


def safe_name(raw: str) -> str:
    """The folder of a skill, by the rule that the documents state."""
    name = re.sub(r'[^\w.-]+', '_', unicodedata.normalize('NFC', raw).strip())
    return name.lstrip('.') or '_'


def random_tree(seed: str) -> Tree:
    """The tree of a seed."""
    rng = random.Random(seed)
    corpus = rng.choice(['jsonl', 'jsonl', 'jsonl', 'text', 'parquet'])
    tree = _command(rng, corpus)
    ways = ['folder', 'file', 'pattern', 'fixed', *(['field'] * 4 if corpus != 'text' else [])]
    way = rng.choice(ways)
    fixed = rng.choice(['prose', 'docs.held', 'na\u00efve', '-x'])
    key = rng.choice(['kind', 'meta.source'])
    tree.options += {
        'fixed': [f'--skill={fixed}'],
        'field': ['--skill-field', key],
        'folder': ['--skill-from', 'folder'],
        'file': ['--skill-from', 'file'],
        'pattern': ['--skill-pattern', r'(?:^|/)part-(\d+)[^/]*$'],
    }[way]
    names = rng.sample(NAMES, rng.randint(1, 4))
    texts = Texts(rng)
    count = rng.choice([1, 1, 2, 3, 5, 8])
    for number in range(count):
        folders = rng.choice(FOLDERS if rng.random() < 0.85 else UNREAD_FOLDERS)
        stem = rng.choice(STEMS if rng.random() < 0.98 else UNREADABLE_STEMS).format(number)
        skill = {
            'fixed': fixed,
            'folder': (folders or ('corpus',))[-1],
            'file': stem.split('.')[0],
            'pattern': str(number) if stem.startswith('part-') else None,
            'field': None,
        }[way]
        values = SkillValues(rng, key, names, UNUSABLE) if way == 'field' else SkillValues(rng, '', [skill])
        tree.files.append(_file(rng, tree, (folders, stem), values, texts))
    for folder in {Path(file.path).parent for file in tree.files if rng.random() < 0.3}:
        tree.files.append(_other_file(rng, str(folder)))
    return tree


def _command(rng: random.Random, corpus: str) -> Tree:
    """A tree without files: the options about sizes."""
    seq_len = rng.choice([24, 32, 32, 64])
    size = rng.choice(['', '', 'fraction', 'documents', 'tokens'])
    documents, tokens = rng.randint(1, 9), rng.randint(1, 400)
    options = {
        '': [],
        'fraction': ['--eval-fraction', str(rng.choice([0.001, 0.2, 0.5, 0.99]))],
        'documents': ['--eval-documents', str(documents)],
        'tokens': ['--eval-tokens', str(tokens)],
    }[size]
    options += ['--seq-len', str(seq_len), '--encoder', rng.choice(['tokenizers', 'tokenizers', 'gigatoken'])]
    options += ['--part-size', rng.choice(['100b', '1kb', '4kb', '256mb'])]
    options += ['--shard-size', rng.choice(['20kb', '64kb', '64mb'])]
    if rng.random() < 0.75:
        options += ['--bad-records', 'skip']
    if rng.random() < 0.7:
        options += ['--min-samples', '1']
    need = (max(seq_len, tokens * (size == 'tokens')), documents * (size == 'documents'))
    return Tree(corpus, options, seq_len, need)


def _file(
    rng: random.Random, tree: Tree, name: tuple[Sequence[str], str], values: SkillValues, texts: Texts
) -> TreeFile:
    folders, stem = name
    form = rng.choice(FORMS[tree.corpus])
    archive = '' if form == '.parquet' else rng.choice(['', '', *ARCHIVES])
    hidden = '.' * (rng.random() < 0.05)
    path = '/'.join((*folders, hidden + stem + rng.choice(SPELLINGS[form]) + rng.choice(ARCHIVES[archive])))
    make = {'.jsonl': tree_files.lines_file, '.json': tree_files.json_file, '.parquet': tree_texts.table_file}
    damaged = rng.random() < 0.5
    build = make.get(form, tree_texts.text_file)
    content, what = build(rng, values, texts, archive, damaged=damaged)
    is_read = not hidden and not any(one[0] in '._' for one in folders)
    return TreeFile(path, content, is_read, what)


def _other_file(rng: random.Random, folder: str) -> TreeFile:
    """One that no corpus reads."""
    name = rng.choice(['_SUCCESS', 'README.rst', 'a.jsonl.crc', 'rows.csv', '.DS_Store', 'jsonl', 'x.zip'])
    return TreeFile(f'{folder}/{name}', Content(rng.randbytes(20)), False, 'of another kind')
