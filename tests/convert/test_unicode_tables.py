"""Documents with code points of newer Unicode versions are encoded as the tokenizer itself does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.convert.tokens import load_tokenizer
from skillit_stream.convert.unicode_tables import SURROGATES, has_newer_signs, is_newer_sign

# A letter between blanks and an ideograph, marks whose classes an older table does not have.
AWKWARD = (
    '\U00018d9a\u95e6',
    ' \U00011dda\u95e6',
    ' \U00018d1a\u95e6',
    '\u073f\U00010f50',
    '\u073f\u07fd',
    'm\u073f\u0c3c',
)


@pytest.mark.parametrize('name', ['gpt2', 'gptneox20b'])
def test_newer_signs_get_the_ids_of_the_tokenizer_itself(shared_data, name: str):
    folder = str(shared_data / 'tokenizers' / name)
    fast, itself = load_tokenizer(folder), load_tokenizer(folder, 'tokenizers')
    assert fast.encoder == 'gigatoken'
    texts = [f'document {i}: {sign} and more' for i, sign in enumerate([*AWKWARD, 'plain', 'caf\u00e9', ''])]
    for eos in (True, False):
        found, expected = fast.encode(texts, eos=eos), itself.encode(texts, eos=eos)
        assert [one.tolist() for one in found] == [one.tolist() for one in expected]
    assert fast.encode(texts[:1]).flat.dtype == itself.encode(texts[:1]).flat.dtype


def test_common_text_is_not_kept_from_the_fast_encoder():
    common = [
        'ascii',
        'caf\u00e9 e\u0301',
        '\u201cquoted\u201d \u2014 \u20ac',
        '\u4f60\u597d',
        '\U0001f600',
        '\u0e44\u0e17\u0e22',
    ]
    assert not any(has_newer_signs(text) or has_newer_signs(text.encode()) for text in common)
    assert all(has_newer_signs(text) and has_newer_signs(text.encode()) for text in AWKWARD)


@given(st.text(st.characters(exclude_categories=['Cs']), max_size=12), st.integers(0x80, 0x10FFFF))
def test_every_sign_of_a_text_is_looked_up(text: str, code: int):
    sign = '' if code in SURROGATES else chr(code)
    for one in (text + sign, sign + text, f'{text}{sign}\u20ac{text}'):
        newer = any(is_newer_sign(ord(sign)) for sign in one if not sign.isascii())
        assert has_newer_signs(one) is has_newer_signs(one.encode()) is newer
