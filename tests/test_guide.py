"""What README.md and the pages of docs/ say, done as it stands but for its size."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import NOT_RUN, PAGES, Desk, blocks, reason_not_to_run, write_byte_tokenizer
from tests.support.launching import RankServer
from tests.support.paths import ROOT

WORDS = {
    'arxiv': ['lemma', 'proof', 'limit'],
    'github': ['def', 'return', 'if'],
    # Of more words, which are harder to foresee: a loss that stays higher than the others'.
    'wikipedia': [
        *('today', 'city', 'river', 'king', 'war', 'north', 'music'),
        *('film', 'team', 'church', 'coast', 'party', 'year', 'town'),
    ],
}
GUIDE = 'docs/your-own-data.md'
# Page -> those before it whose streams and runs it goes on with, where that is not the guide alone.
NEEDED = {
    'docs/train.md': [GUIDE, 'docs/mixtures.md'],
    'docs/graphs.md': [GUIDE, 'docs/convert.md'],
    'docs/report.md': [GUIDE, 'docs/forks.md'],
    'docs/index.md': [],
    'docs/install.md': [],
    'docs/multi-node.md': [],
    'docs/llm-foundry.md': [],
}
# What other tests run in part too.
LONG = (
    *('docs/any-trainer.md', 'docs/convert.md', 'docs/experiments.md', 'docs/forks.md', 'docs/graphs.md'),
    *('docs/mixtures.md', 'docs/python.md', 'docs/report.md', 'docs/train.md'),
)
# Page -> files that its commands make.
MADE = {
    'README.md': [
        'streams/mine/skills.json',
        'streams/rows/skills.json',
        'runs/mine-stratified-s1/report/report.html',
    ],
    GUIDE: ['graph.json', 'graph.png', 'runs/mine-skill_it-s1/mixture.jsonl', 'runs/compare/results.md'],
    'docs/convert.md': ['streams/shared/skills.json'],
    'docs/train.md': ['exported/config.json'],
    'docs/mixtures.md': ['mixture.yaml', 'fitted.yaml', 'later.yaml'],
    'docs/graphs.md': ['from-runs.json', 'written.json'],
    'docs/forks.md': ['forks/mine/result.json', 'forks/mine/graph.json', 'forks/mine/fork.html'],
    'docs/report.md': ['round-1.npy'],
    'docs/any-trainer.md': ['own-loop/mixture.jsonl'],
    'docs/extending.md': [
        'streams/rows/skills.json',
        'streams/lines/skills.json',
        'runs/mine-steepest-s1/mixture.jsonl',
    ],
}


def write_corpus(folder: Path) -> None:
    """What the pages take for granted: rows of three sources, text files, lines, a tokenizer, tables of runs."""
    rng = random.Random(0)
    (folder / 'corpus').mkdir()
    for source, words in WORDS.items():
        texts = [' '.join(rng.choices(words, k=60)) for _ in range(240)]
        rows = ''.join(json.dumps({'text': text, 'meta': {'source': source}}) + '\n' for text in texts)
        (folder / 'corpus' / f'{source}.jsonl').write_text(rows)
        (folder / 'notes' / source).mkdir(parents=True)
        for number, text in enumerate(texts):
            (folder / 'notes' / source / f'{number}.txt').write_text(text)
    (folder / 'new').mkdir()
    books = [
        {'text': ' '.join(rng.choices(['page', 'tale'], k=60)), 'meta': {'source': 'books'}}
        for _ in range(90)
    ]
    (folder / 'new' / 'books.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in books))
    lines = [
        f'{source}\t{word} {number}\n' for source in WORDS for number, word in enumerate(WORDS[source] * 40)
    ]
    (folder / 'lines.tsv').write_text(''.join(lines))
    ratios, metrics = ['run,arxiv,github,wikipedia'], ['run,arxiv,github,wikipedia']
    for number in range(12):
        weights = [rng.uniform(0.2, 1) for _ in WORDS]
        shares = [weight / sum(weights) for weight in weights]
        ratios.append(','.join([f'r{number}', *map(str, shares)]))
        metrics.append(','.join([f'r{number}', *(str(4 - share) for share in shares)]))
    (folder / 'ratios.csv').write_text('\n'.join(ratios) + '\n')
    (folder / 'metrics.csv').write_text('\n'.join(metrics) + '\n')


@pytest.fixture(scope='module')
def desk(tmp_path_factory: pytest.TempPathFactory, rank_server: RankServer) -> Desk:
    """A folder with a corpus, in which the pages are read."""
    folder = tmp_path_factory.mktemp('desk')
    write_corpus(folder)
    write_byte_tokenizer(folder / 'tokenizer')
    for shown in ('yamls', 'examples'):
        (folder / shown).symlink_to(ROOT / shown)
    return Desk(folder, rank_server)


def _marked(page: str) -> Any:
    return pytest.param(page, marks=pytest.mark.slow) if page in LONG else page


@pytest.mark.parametrize('page', map(_marked, PAGES))
def test_every_command_of_a_page_works_as_it_stands(desk: Desk, page: str):
    for earlier in NEEDED.get(page, [] if page == 'README.md' else [GUIDE]):
        desk.read(earlier)
    printed = desk.read(page)
    for made in MADE.get(page, ()):
        assert (desk.folder / made).is_file(), (made, printed[-2000:])


def test_the_script_of_the_readme_mixes_and_says_what_it_drew(desk: Desk):
    desk.read('README.md')
    *_, last = desk.printed['README.md'].strip().splitlines()
    proportions, samples = (json.loads(part + '}') for part in last.replace("'", '"').split('}')[:2])
    assert set(proportions) == set(samples) == set(WORDS)
    assert sum(samples.values()) == 5 * 160
    assert max(proportions.values()) > 1.05 * min(proportions.values())


def test_every_page_is_read_and_listed():
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / 'docs').glob('*.md')}
    assert pages == set(PAGES) - {'README.md'}
    navigation = (ROOT / 'mkdocs.yml').read_text()
    for page in pages:
        assert f': {Path(page).name}\n' in navigation


def test_what_is_not_run_is_in_the_pages_and_little():
    commands = [
        command
        for page in PAGES
        for block in blocks(page)
        if block.kind == 'sh'
        for command in block.commands
    ]
    left_out = [command for command in commands if reason_not_to_run(command)]
    for pattern in NOT_RUN:
        assert any(re.search(pattern, command) for command in left_out), pattern
    assert len(left_out) < len(commands) / 4


@pytest.mark.parametrize('page', [*PAGES, 'CONTRIBUTING.md', 'benchmarks/results/experiments.md'])
def test_links_into_the_repository_lead_somewhere(page: str):
    text = re.sub(r'^```.*?^```$', '', (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r'\]\((?!\w+:|#)([^)#\s]+)', text)
    assert links or page in ('docs/llm-foundry.md', 'docs/multi-node.md', 'CONTRIBUTING.md')
    for link in links:
        assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_small_yaml_is_the_one_that_the_guide_shows():
    (shown,) = [block.text for block in blocks(GUIDE) if block.saved_as == 'mine.yaml']
    assert (ROOT / 'yamls' / 'small.yaml').read_text() == shown


def test_make_knows_what_the_readme_types():
    for block in blocks('README.md'):
        for command in filter(lambda line: line.startswith('make '), block.commands):
            subprocess.run([*command.split(), '--dry-run'], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_the_site_is_built_without_a_warning(tmp_path: Path):
    pytest.importorskip('material', reason="needs mkdocs-material: pip install '.[docs]'")
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path / 'site')]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    home = (tmp_path / 'site' / 'index.html').read_text()
    assert 'your-own-data/' in home
    assert (tmp_path / 'site' / 'search' / 'search_index.json').is_file()
