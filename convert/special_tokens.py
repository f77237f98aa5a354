"""Special tokens that are found in text: the words of one, written in a document, become that token.

A tokenizer finds its added tokens in a text before anything else, wherever they stand: a web page about language models
may hold ``<|endoftext|>``, and a model then learns that a document ends there. So they are counted; and with
``--special-tokens text`` such documents are encoded once more, by the tokenizer itself, as if they were no special
tokens.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError

SPECIAL, TEXT = MODES = ('special', 'text')
# In no vocabulary: Unicode will never give it a sign.
UNKNOWN = '\U0010ffff'
# Forms in which the words of added tokens stand in text; the flags of a token tell between them.
FORMS = ('{0}', 'a{0}b', ' {0} ', '\n\t{0}\u3000\r\n', '{0}{0}', '{0}s', '\u00e9{0}.', '<{0}>')

# What a normalizer may make one sign of with the last sign of a word, which then is that word no more.
MARKS = [
    *map(chr, range(0x300, 0x370)),
    *'\u3099\u309a\u1161\u11a8\u093c\u09be\u0b3e\u0bbe\u0cc2\u0d3e\u0dca\u1b35',
]
# Special tokens stand in few runs of ids.
MOST_RUNS = 6

Found = Mapping[int, Counter[str]]
"""Number of a text -> special token -> how often the text holds it; texts that hold none are left out."""


class SpecialTokens:
    """The special tokens of a tokenizer.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        vocab_size: Every id is smaller.
    """

    def __init__(self, backend: Any, vocab_size: int) -> None:
        added = backend.get_added_tokens_decoder()
        self._names = {id_: token.content for id_, token in added.items() if token.special}
        self._backend = backend
        # What the model makes of anything that it does not know is no word of a token.
        self._unknown = next((id_ for id_ in _ids_of_unknown(backend) if id_ in self._names), None)
        self._normalized = self._unknown is not None and added[self._unknown].normalized
        self._is_special = np.zeros(max([vocab_size, *(id_ + 1 for id_ in self._names)]), bool)
        self._is_special[list(self._names)] = True
        edges = np.flatnonzero(np.diff(self._is_special, prepend=False, append=False)).tolist()
        self._runs = [(first, end - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]

    def find(self, flat: np.ndarray, ends: np.ndarray, texts: Sequence[str | bytes]) -> Found:
        """The special tokens among the ids of texts.

        Args:
            flat: Token ids, the texts end to end; [tokens].
            ends: Where each begins and the last ends; [texts + 1].
            texts: As they were encoded.
        """
        places = np.flatnonzero(self._among(flat)) if self._names else np.empty(0, np.int64)
        found: dict[int, Counter[str]] = {}
        if not len(places):
            return found
        numbers, firsts = np.unique(np.searchsorted(ends, places, side='right') - 1, return_index=True)
        of_each = np.split(flat[places], firsts[1:])
        for number, ids in zip(numbers.tolist(), of_each, strict=True):
            words = Counter(self._names[id_] for id_ in ids.tolist())
            if self._unknown is not None and words[self._names[self._unknown]]:
                words[self._names[self._unknown]] = self._written_unknown(texts[number])
            if +words:
                found[number] = +words
        return found

    def _among(self, flat: np.ndarray) -> np.ndarray:
        """Which ids are of special tokens, bool [tokens]; comparing is ten times as fast as looking each one up."""
        if len(self._runs) > MOST_RUNS:
            return self._is_special[flat]
        return np.logical_or.reduce([(flat >= first) & (flat <= last) for first, last in self._runs])

    def check_text(self, found: Found, name: str) -> None:
        """Refuse special tokens among the ids of texts that were encoded as text.

        Args:
            found: As of :meth:`find`.
            name: Of the tokenizer.

        Raises:
            InputError: There are some: the model of the tokenizer has their words by itself.
        """
        for words in found.values():
            raise InputError(
                f'--special-tokens text: --tokenizer {name} encodes {next(iter(words))!r} in a text as that token all '
                'the same, for its vocabulary has it as a word; pass --special-tokens special'
            )

    def _written_unknown(self, text: str | bytes) -> int:
        """How often a text holds the word of the unknown token, and not only signs that are unknown."""
        text = text if isinstance(text, str) else text.decode()
        word = self._names[self._unknown or 0]
        normalizer = self._backend.normalizer if self._normalized else None
        if normalizer is None and word not in text:
            return 0
        encoding = self._backend.encode(text, add_special_tokens=False)
        places = zip(encoding.ids, encoding.offsets, strict=True)
        parts = [text[begin:end].strip() for id_, (begin, end) in places if id_ == self._unknown]
        if normalizer is None:
            return parts.count(word)
        return [normalizer.normalize_str(part) for part in parts].count(normalizer.normalize_str(word))


def found_in_pieces(pieces: Iterable[Found]) -> Found:
    """What texts hold that were encoded piece by piece."""
    whole: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for found in pieces:
        for number, words in found.items():
            whole[number] += words
    return whole


def texts_with_added_tokens(backend: Any) -> list[str]:
    """Texts with the words of all added tokens, alone, beside letters, blanks and each other."""
    tokens = backend.get_added_tokens_decoder().values()
    words = [token.content for token in tokens]
    before = [token.content for token in tokens if token.normalized] if backend.normalizer else []
    by_last_sign = {word[-1]: word for word in before}
    marked = [''.join(word + mark for mark in MARKS) for word in by_last_sign.values()]
    cut = [word[:-1] + word for word in words] + [word + word[1:] for word in words]
    forms = [[form.format(word) for word in words] for form in FORMS]
    return (
        [separator.join(texts) for texts in (*forms, cut, marked) for separator in ('', ' ')] if words else []
    )


def _ids_of_unknown(backend: Any) -> list[int]:
    try:
        return [token.id for token in backend.model.tokenize(UNKNOWN)]
    except Exception:  # the model knows no unknown token; the library raises bare Exception
        return []
