"""Words of special tokens in a document's text: counted, and encoded as the tokens or as text, by either encoder."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

from skillit_stream.base.errors import InputError
from skillit_stream.convert.tokens import DocumentTokenizer, TokenizerFacts, load_tokenizer, tokenizer_facts
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.paths import SUPPORT
from tests.support.streams_reading import EOS, read_split, read_tokens

END_OF_TURN = '<|turn|>'
TEXTS = [f'row {n} of plain text {"and more " * (n % 5)}' for n in range(200)]
TEXTS[3] += EOS
TEXTS[50] = f'{EOS}a{EOS} b {END_OF_TURN}'
TEXTS[120] = f'{END_OF_TURN} at the start, <|Turn|> and <|endoftext| are none'
WORDS = {EOS: 3, END_OF_TURN: 2}


def byte_level(*tokens: AddedToken, normalizer: Any = None) -> Tokenizer:
    """A tokenizer of single bytes with added tokens."""
    alphabet = {sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend: Any = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    for token in tokens:
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    return backend


def special(content: str, **flags: bool) -> AddedToken:
    return AddedToken(content, **{'special': True, 'normalized': False, **flags})


def ready(backend: Any, encoder: str, mode: str = 'special') -> DocumentTokenizer:
    facts = TokenizerFacts('test', backend.get_vocab_size(), 0, 0)
    return DocumentTokenizer(Tokenizer.from_str(backend.to_str()), facts, encoder, special_tokens=mode)


@pytest.fixture
def two_specials(tmp_path: Path) -> Path:
    """A tokenizer of bytes with an end of text and an end of turn."""
    backend = byte_level(special(EOS), special(END_OF_TURN))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS).save_pretrained(str(tmp_path / 'T'))
    return tmp_path / 'T'


def texts_in(root: Path, folder: Path) -> tuple[str, dict[str, int]]:
    """The text of all samples, decoded with special tokens as words, and how many tokens are special ones."""
    tokenizer: Any = Tokenizer.from_file(str(folder / 'tokenizer.json'))
    tokens = np.concatenate([read_tokens(root, 'x', split) for split in ('train', 'eval')])
    found = {word: int((tokens == tokenizer.token_to_id(word)).sum()) for word in WORDS}
    return tokenizer.decode(tokens.tolist(), skip_special_tokens=False), found


@pytest.mark.parametrize('encoder', ['gigatoken', 'tokenizers'])
@pytest.mark.parametrize('workers', [1, 2])
def test_words_of_special_tokens_are_counted_and_encoded_as_asked(
    tmp_path, two_specials, write_rows, skillit, encoder, workers
):
    path = write_rows('a.jsonl', [{'text': text} for text in TEXTS])
    arguments = [
        'convert',
        'jsonl',
        path,
        '--out',
        tmp_path / 'S',
        '--tokenizer',
        two_specials,
        '--skill',
        'x',
    ]
    arguments += [
        '--seq-len',
        32,
        '--eval-fraction',
        0.2,
        '--encoder',
        encoder,
        '--workers',
        workers,
        '--overwrite',
    ]
    for more, said in (
        ((), 'as these tokens (--special-tokens text encodes them as text)'),
        (('--special-tokens', 'text'), 'as text'),
    ):
        printed = skillit(*arguments, *more)
        assert (
            f'words of special tokens: 5 in 3 documents (3 {EOS}, 2 {END_OF_TURN}), encoded {said} in x\n'
            in printed
        )
        manifest = json.loads((tmp_path / 'S' / 'skills.json').read_text())
        assert manifest['skills']['x']['special_tokens'] == {'documents': 3, 'tokens': WORDS}
        assert manifest['corpus'].get('special_tokens') == ('text' if more else None)
        assert Manifest.load(str(tmp_path / 'S')).to_json() == manifest
        verify(str(tmp_path / 'S'))
        text, found = texts_in(tmp_path / 'S', two_specials)
        assert found[END_OF_TURN] == (0 if more else 2)
        # One at the end of each document, of which the tails of train and eval hold a few.
        assert 190 <= found[EOS] <= 200 + (0 if more else 3)
        assert f'{EOS}a{EOS} b {END_OF_TURN}{EOS}' in text
        assert text.count(END_OF_TURN) == 2


def test_streams_without_such_words_say_nothing(tmp_path, two_specials, write_rows, skillit):
    path = write_rows('a.jsonl', [{'text': f'row {n} <|endoftext <| turn|>'} for n in range(90)])
    arguments = [
        'convert',
        'jsonl',
        path,
        '--out',
        tmp_path / 'S',
        '--tokenizer',
        two_specials,
        '--skill',
        'x',
    ]
    assert 'special' not in skillit(*arguments, '--seq-len', 8)
    assert 'special' not in (tmp_path / 'S' / 'skills.json').read_text()


def test_parts_and_streams_of_the_other_way_are_not_mixed_in(
    tmp_path, two_specials, write_rows, skillit, refused
):
    files = [write_rows(f'{n}.jsonl', [{'text': f'{n} {text}'} for text in TEXTS]) for n in range(2)]
    arguments = [
        'convert',
        'jsonl',
        *files,
        '--out',
        tmp_path / 'S',
        '--tokenizer',
        two_specials,
        '--skill',
        'x',
    ]
    arguments += ['--seq-len', 8, '--part-size', files[0].stat().st_size, '--workers', 1]
    skillit(*arguments, '--task', '0/2')
    skillit(*arguments, '--special-tokens', 'text')
    _, found = texts_in(tmp_path / 'S', two_specials)
    assert found[END_OF_TURN] == 0
    new = write_rows('new.jsonl', [{'text': f'new {text}'} for text in TEXTS])
    more = ['convert', 'jsonl', new, *arguments[4:], '--add']
    assert '--special-tokens: must be as in' in refused(*more)
    skillit(*more, '--special-tokens', 'text')
    counted = Manifest.load(str(tmp_path / 'S')).skills['x'].special_tokens
    assert counted is not None
    assert (counted.documents, dict(counted.tokens)) == (9, {EOS: 9, END_OF_TURN: 6})
    assert '15 in 9 documents' in skillit('verify', tmp_path / 'S')


def test_answers_are_counted_too_and_their_masks_stay(tmp_path, two_specials, skillit):
    rows = [f'x\tq {n}{EOS}\ta{END_OF_TURN}\t{"eval" if n % 4 == 0 else "train"}\n' for n in range(40)]
    (tmp_path / 'a.tsv').write_text(''.join(rows))
    for mode, answer in (('special', 3), ('text', 2 + len(END_OF_TURN))):
        out = tmp_path / mode
        arguments = ['convert', 'custom', SUPPORT / 'my_corpus.py', tmp_path / 'a.tsv', '--out', out]
        arguments += ['--tokenizer', two_specials, '--seq-len', 48, '--one-per-sample', '--loss', 'answer']
        printed = skillit(*arguments, '--special-tokens', mode)
        assert f'words of special tokens: 80 in 40 documents (40 {EOS}, 40 {END_OF_TURN})' in printed
        assert {int(one['loss_mask'].sum()) for one in read_split(out, 'x', 'train')} == {answer}


def test_a_tokenizer_that_was_saved_to_split_its_special_tokens_is_no_other(tmp_path, two_specials):
    found: Any = PreTrainedTokenizerFast.from_pretrained(str(two_specials), split_special_tokens=True)
    assert found.backend_tokenizer.encode_special_tokens
    tokenizer = DocumentTokenizer(found.backend_tokenizer, tokenizer_facts(found, 'test'))
    assert tokenizer.encode([EOS], eos=False).flat.tolist() == [found.eos_token_id]


def test_an_unknown_word_is_no_word_of_the_unknown_token():
    backend: Any = Tokenizer(
        models.WordLevel({'<unk>': 0, 'a': 1, '<': 2, 'unk': 3, '>': 4}, unk_token='<unk>')
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens([special('<unk>')])
    texts = ['a b', 'a <unk> b <unk>', 'c d e']
    as_tokens, as_text = ready(backend, 'auto').encode(texts), ready(backend, 'auto', 'text').encode(texts)
    assert as_tokens.special == as_text.special == {1: Counter({'<unk>': 2})}
    assert [one.tolist() for one in as_tokens] == [[1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0]]
    assert [one.tolist() for one in as_text] == [[1, 0, 0], [1, 2, 3, 4, 0, 2, 3, 4, 0], [0, 0, 0, 0]]


def test_a_model_that_has_the_word_of_a_special_token_cannot_encode_it_as_text():
    pieces = [('<unk>', -9.0), ('</s>', 0.0), ('<', -3.0), ('/', -3.0), ('s', -3.0), ('>', -3.0), ('a', -3.0)]
    backend: Any = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.normalizer = normalizers.NFKC()
    backend.add_special_tokens([special('<unk>'), special('</s>')])
    # Full-width signs, which the normalizer makes one of the token's word.
    texts = ['a<s>a', 'a\uff1c/s\uff1ea']
    assert ready(backend, 'auto').encode(texts, eos=False).special == {1: Counter({'</s>': 1})}
    with pytest.raises(
        InputError, match=r"--special-tokens text: --tokenizer test encodes '</s>' .* as that token"
    ):
        ready(backend, 'auto', 'text').encode(texts)


def test_gigatoken_is_not_taken_where_it_finds_added_tokens_otherwise():
    backend = byte_level(special('<|x|>', single_word=True))
    assert ready(backend, 'auto').encoder == 'tokenizers'
    with pytest.raises(InputError, match='encodes some texts differently'):
        ready(backend, 'gigatoken')
    # The normalizer makes one sign of the last one of its words and a mark behind it: the word is no longer there.
    for word in ('<|x', '<|x|>'):
        marked = byte_level(special(word, normalized=True), normalizer=normalizers.NFC())
        assert ready(marked, 'auto').encoder == 'tokenizers'


@pytest.mark.parametrize('name', ['gpt2', 'gptneox20b'])
@pytest.mark.parametrize('mode', ['special', 'text'])
def test_long_texts_are_the_same_by_both_encoders(shared_data: Path, name: str, mode: str):
    folder = str(shared_data / 'tokenizers' / name)
    fast, itself = (
        load_tokenizer(folder, encoder, special_tokens=mode) for encoder in ('auto', 'tokenizers')
    )
    assert fast.encoder == 'gigatoken'
    texts = []
    for size in (1 << 12, 1 << 16, 1 << 17):
        around = [
            f'{"word " * (size // 5 + 1)}'[: size - cut] + EOS + 'tail' * 9
            for cut in range(0, len(EOS) + 2, 3)
        ]
        texts += [around[0] + ''.join(around[1:4]), *around]
    found, expected = fast.encode(texts), itself.encode(texts)
    assert np.array_equal(found.flat, expected.flat)
    assert np.array_equal(found.ends, expected.ends)
    assert found.special == {n: Counter({EOS: text.count(EOS)}) for n, text in enumerate(texts)}
    specials = len(texts) if mode == 'text' else len(texts) + sum(text.count(EOS) for text in texts)
    assert (found.flat == fast.facts.eos_id).sum() == specials


# A single byte is a word of the model, too.
CONTENTS = st.text('<|ab>', min_size=2, max_size=5)
FLAGS = st.fixed_dictionaries(
    {name: st.booleans() for name in ('lstrip', 'rstrip', 'single_word', 'normalized')}
)
ADDED = st.lists(st.tuples(CONTENTS, FLAGS, st.booleans()), max_size=9, unique_by=lambda one: one[0])


@st.composite
def tokenizers_and_texts(draw: Any) -> tuple[Any, list[str]]:
    """A tokenizer with added tokens of any kind, and texts in which their words occur among others."""
    added = draw(ADDED)
    tokens = [AddedToken(content, **flags, special=is_special) for content, flags, is_special in added]
    backend = byte_level(*tokens, normalizer=draw(st.sampled_from([None, normalizers.NFC()])))
    pieces = st.one_of(
        st.sampled_from([content for content, _, _ in added] or ['a']),
        st.text('<|ab> \n\u3000\u00e9e\u0301', max_size=4),
    )
    return backend, [''.join(one) for one in draw(st.lists(st.lists(pieces, max_size=12), max_size=4))]


@settings(max_examples=100, deadline=None)
@given(tokenizers_and_texts())
@example((byte_level(), ['', 'plain']))
def test_both_encoders_agree_on_any_added_tokens(drawn: tuple[Any, list[str]]):
    backend, texts = drawn
    library = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(backend.to_str()))
    ids_of_special = {i for i, one in backend.get_added_tokens_decoder().items() if one.special}
    for mode in ('special', 'text'):
        found, itself = (
            ready(backend, encoder, mode).encode(texts, eos=False) for encoder in ('auto', 'tokenizers')
        )
        for one in (found, itself):
            expected = [
                library(text, add_special_tokens=False, split_special_tokens=mode == 'text')['input_ids']
                for text in texts
            ]
            assert [ids.tolist() for ids in one] == expected
        assert found.special == itself.special
        for number, text in enumerate(texts):
            as_tokens = backend.encode(text, add_special_tokens=False).ids
            words = Counter(backend.id_to_token(i) for i in as_tokens if i in ids_of_special)
            assert found.special.get(number, Counter()) == words


@settings(max_examples=100, deadline=None)
@given(
    st.lists(CONTENTS, min_size=1, max_size=4, unique=True),
    st.lists(st.text('<|ab> ', max_size=30), min_size=1, max_size=3),
)
def test_counts_are_those_of_words_found_from_the_left_the_longest_first(words: list[str], texts: list[str]):
    backend = byte_level(*map(special, words))
    pattern = re.compile('|'.join(map(re.escape, sorted(words, key=len, reverse=True))))
    found = ready(backend, 'auto').encode(texts).special
    assert found == {n: Counter(hits) for n, text in enumerate(texts) if (hits := pattern.findall(text))}
    # Without its special tokens the same tokenizer knows nothing but text.
    plain = [byte_level().encode(text).ids for text in texts]
    assert [ids.tolist() for ids in ready(backend, 'auto', 'text').encode(texts, eos=False)] == plain
