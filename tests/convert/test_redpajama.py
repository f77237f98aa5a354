"""RedPajama rows are told apart by themselves or by their place; the genuine sample converts."""

import hashlib
import json

import pytest

from skillit_stream.convert.corpora.redpajama import SKILLS, skill_of
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile
from skillit_stream.convert.verify import verify
from tests.support.streams_reading import left_in, read_tokens

NOWHERE = InputFile('x/data.jsonl', 'data.jsonl', ('x',))
C4_META = {'timestamp': '', 'url': 'https://en.wikipedia.org/wiki/X', 'language': 'en', 'source': 'c4'}
WIKI_META = {'title': 'X', 'url': 'https://bg.wikipedia.org/wiki/X', 'language': 'bg', 'timestamp': ''}


@pytest.mark.parametrize(
    ('row', 'skill'),
    [
        ({'meta': {'arxiv_id': '1607.1', 'url': ''}}, 'arxiv'),
        ({'meta': {'short_book_title': 'X', 'url': ''}}, 'book'),
        ({'meta': C4_META}, 'c4'),
        ({'meta': json.dumps(C4_META)}, 'c4'),
        ({'source': 'cc/2019-30/en_head_0000.json.gz/line4', 'wiki_prob': 0.8}, 'common_crawl'),
        ({'meta': str({'source': 'cc/2019-30/en_head_0000.json.gz/line4'})}, 'common_crawl'),
        ({'meta': {'source': 'github', 'repo_name': 'a/b', 'language': [{'name': 'C'}]}}, 'github'),
        ({'meta': {'repo_name': 'a/b'}}, 'github'),
        ({'meta': {'source': 'stackexchange', 'question_score': '3'}}, 'stackexchange'),
        ({'meta': WIKI_META}, 'wikipedia'),
        ({'meta': str(WIKI_META)}, 'wikipedia'),
        ({'meta': '{}', 'red_pajama_subset': 'book'}, 'book'),
    ],
)
def test_a_row_tells_its_subset(row, skill):
    assert skill_of(row, NOWHERE, 'here') == skill


@pytest.mark.parametrize(
    ('name', 'folders', 'skill'),
    [
        ('data.jsonl', ('root', 'book'), 'book'),
        ('data.jsonl', ('book',), 'book'),
        (
            '2019-30/en_head_0000.json.gz.dedup.classifier.jsonl.zst',
            ('common_crawl', '2019-30'),
            'common_crawl',
        ),
        ('data.jsonl', ('Common-Crawl',), 'common_crawl'),
        ('data.jsonl', ('stack_exchange',), 'stackexchange'),
        ('sample_wiki1.jsonl', ('x',), 'wikipedia'),
        ('sample_cc1.jsonl.zst', ('x',), 'common_crawl'),
        ('c4-train.00000-of-01024.jsonl', ('x',), 'c4'),
        ('arxiv_023827cd-7ee8-42e6-aa7b-661731f4c70f.jsonl', ('x',), 'arxiv'),
        ('part.jsonl', ('arxiv', 'github'), 'github'),
        ('part.jsonl', ('github', 'wiki_and_books'), 'github'),
    ],
)
@pytest.mark.parametrize('meta', [None, 'not a mapping', '[1]', 7])
def test_the_path_tells_the_subset_where_the_row_does_not(name, folders, skill, meta):
    assert skill_of({'meta': meta}, InputFile(f'/x/{name}', name, folders), 'here') == skill


def test_an_unknown_source_is_refused_by_file_and_line(tmp_path, refused, write_rows, tokenizer):
    path = write_rows('data.jsonl', [{'text': 'a', 'source': 'moon'}])
    arguments = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 32]
    error = refused('convert', 'redpajama', path, *arguments)
    assert (
        "data.jsonl:1: a row of no known RedPajama subset (source: 'moon'); put the file in a folder" in error
    )
    assert left_in(tmp_path) == ['corpus']
    with pytest.raises(BadRecordError) as caught:
        skill_of({}, NOWHERE, 'x:1')
    assert caught.value.reason == 'unknown_source'


def documents_of(folder) -> list[str]:
    import zstandard

    [path] = folder.iterdir()
    data = path.read_bytes()
    if path.suffix == '.zst':
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [json.loads(line)['text'] for line in data.decode().split('\n') if line]


def test_the_genuine_sample_converts_and_verifies(tmp_path, skillit, shared_data):
    from transformers import AutoTokenizer

    arguments = ['--tokenizer', shared_data / 'tokenizers' / 'gpt2', '--seq-len', 512]
    skillit('convert', 'redpajama', shared_data / 'redpajama_sample', '--out', tmp_path / 'S', *arguments)
    assert 'Verified' in skillit('verify', tmp_path / 'S')
    manifest = verify(str(tmp_path / 'S'))
    assert list(manifest.skills) == list(SKILLS)
    assert (manifest.tokenizer_name, manifest.vocab_size, manifest.dtype) == ('gpt2', 50257, 'uint16')
    decoder = AutoTokenizer.from_pretrained(str(tmp_path / 'S' / 'tokenizer'))
    for skill, info in manifest.skills.items():
        texts = documents_of(shared_data / 'redpajama_sample' / skill)
        found = {split: read_tokens(tmp_path / 'S', skill, split) for split in ('train', 'eval')}
        assert sum(split.documents for split in info.splits.values()) == len(texts)
        assert sum(split.bytes for split in info.splits.values()) == sum(len(text.encode()) for text in texts)
        whole = {split: {digest(part) for part in decode(decoder, tokens)} for split, tokens in found.items()}
        assert not whole['train'] & whole['eval']
        assert whole['train'] | whole['eval'] <= {digest(text) for text in texts}
        if skill == 'wikipedia':
            # An independent count: the plain call, a document at a time.
            count = sum(len(decoder(text)['input_ids']) + 1 for text in texts)
            assert count == sum(map(len, found.values())) + info.dropped['tail_tokens']


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def decode(decoder, tokens) -> list[str]:
    """The whole documents in a packed stream."""
    return decoder.decode(tokens, clean_up_tokenization_spaces=False).split('<|endoftext|>')[:-1]


@pytest.mark.parametrize('kind', ['gpt2', 'gptneox20b'])
def test_bare_tokenizer_folders_load(shared_data, kind):
    from skillit_stream.convert.tokens import load_tokenizer

    loaded = load_tokenizer(str(shared_data / 'tokenizers' / kind))
    [tokens] = loaded.encode(['one two'])
    assert tokens[-1] == loaded.facts.eos_id
    assert len(tokens) == 3
