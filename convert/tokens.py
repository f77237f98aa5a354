"""Documents -> token ids, by any Hugging Face tokenizer that has a Rust backend.

The ids are gigatoken's where it can load the tokenizer: it is an order of magnitude faster. They are those of
the Hugging Face tokenizer all the same: gigatoken is used only if it agrees on a list of awkward strings, and
a part of all documents is encoded by both; a difference stops the conversion. Documents with code points that an
older Unicode does not have go through the tokenizer itself.
"""

import contextlib
import hashlib
import io
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.base.names import is_missing_folder
from skillit_stream.convert.special_tokens import SPECIAL, TEXT, Found, SpecialTokens, texts_with_added_tokens
from skillit_stream.convert.unicode_tables import has_newer_signs

TOKENIZER_FILE = 'tokenizer.json'
TOKENIZER_FOLDER = 'tokenizer'
HUB_SECONDS = 3.0
# The cache has one of them of every tokenizer that was fetched from the hub.
HUB_FILES = ('tokenizer_config.json', 'tokenizer.json', 'config.json', 'vocab.json')
# Tried in turn where a tokenizer comes without a word on which token ends a document.
EOS_CANDIDATES = ('<|endoftext|>', '</s>', '<|end_of_text|>', '<eos>')


# Strings that tokenizers are known to disagree on: specials in the text, blanks, signs beyond the first plane.
AWKWARD = (
    ' ',
    '   leading and trailing   ',
    'a\n\n\n b\t\t\tc\r\n',
    'nul\x00 bell\x07 \ufeffbom \u200b',
    "it's we'll I'M 12345678 3.14e-10 x=f(y[0]);",
    'na\u00efve \u4f60\u597d\u4e16\u754c \u0645\u0631\u062d\u0628\u0627 e\u0301',
    '\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001d54f',
    'a' * 3000,
    '\u00e9' * 50 + ' ' * 500,
    '<|endoftext|>a<|endoftext|> </s><s> <pad> <unk> <|im_start|>',
)
# Of a document that is encoded by both, this much is: a document of 200 MB would take minutes.
CHECKED_CHARACTERS = 5_000


@dataclass(frozen=True, slots=True)
class Ids:
    """Token ids of several texts.

    Attributes:
        flat: uint16 or uint32 [tokens], the texts end to end.
        ends: int64 [texts + 1], where each begins and the last ends.
        special: Special tokens whose words the texts hold, by the number of the text.
    """

    flat: np.ndarray
    ends: np.ndarray
    special: Found = field(default_factory=dict)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.flat[begin:end] for begin, end in pairwise(self.ends.tolist()))


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """What one has to know of a tokenizer besides its ``tokenizer.json``."""

    name: str
    """What to call it in the manifest and in messages."""
    vocab_size: int
    """Every id is smaller."""
    eos_id: int
    pad_id: int


class DocumentTokenizer:
    """Encodes documents.

    Args:
        backend: A ``tokenizers.Tokenizer``.
        facts: Of it.
        encoder: 'gigatoken', 'tokenizers', or 'auto': gigatoken where it loads the tokenizer and agrees.
        special_tokens: 'special': the words of a special token in a text become that token; 'text': they are text.

    Raises:
        InputError: gigatoken is asked for, but cannot be used.
    """

    def __init__(
        self, backend: Any, facts: TokenizerFacts, encoder: str = 'auto', *, special_tokens: str = SPECIAL
    ) -> None:
        self.facts = facts
        self._backend = backend
        # A tokenizer.json may ask for both; documents are neither cut nor filled up.
        self._backend.no_truncation()
        self._backend.no_padding()
        # A tokenizer may have been saved to split them; its tokenizer.json, which processes load, does not say so.
        self._backend.encode_special_tokens = False
        self._special = SpecialTokens(backend, facts.vocab_size)
        self._as_text = special_tokens == TEXT
        self._fast = None if encoder == 'tokenizers' else self._load_fast(required=encoder == 'gigatoken')

    @property
    def encoder(self) -> str:
        """Who encodes."""
        return 'tokenizers' if self._fast is None else 'gigatoken'

    @property
    def own_additions(self) -> list[str]:
        """Special tokens that the tokenizer puts around a text for a model (BOS, CLS); documents come without."""
        encoding = self._backend.encode('')
        return [
            token for token, added in zip(encoding.tokens, encoding.special_tokens_mask, strict=True) if added
        ]

    @property
    def eos(self) -> str:
        """The token that ends a document."""
        return self._backend.id_to_token(self.facts.eos_id)

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The narrowest of uint16 and uint32 that holds every id."""
        return np.uint16 if self.facts.vocab_size <= 1 << 16 else np.uint32

    def encode(self, texts: Sequence[str | bytes], *, eos: bool = True) -> Ids:
        """Token ids of the texts, without what a tokenizer adds for a model's sake (BOS, CLS).

        Args:
            texts: Any number, as strings or in UTF-8.
            eos: Whether each is followed by EOS.
        """
        apart = [] if self._fast is None else [i for i, text in enumerate(texts) if has_newer_signs(text)]
        ids = self._encode_again(apart, texts, self._encode(texts, fast=self._fast))
        found = self._special.find(ids.flat, ids.ends, texts)
        if found and self._as_text:
            ids = self._encode_as_text(found, texts, ids)
        if eos:
            flat = np.insert(ids.flat, ids.ends[1:], self.facts.eos_id)
            ids = Ids(flat, ids.ends + np.arange(len(ids.ends)))
        return replace(ids, special=found)

    def _encode_as_text(self, found: Found, texts: Sequence[str | bytes], ids: Ids) -> Ids:
        """`ids` with those texts encoded anew in which special tokens were found; raises InputError."""
        self._backend.encode_special_tokens = True
        try:
            ids = self._encode_again(list(found), texts, ids)
            self._special.check_text(self._special.find(ids.flat, ids.ends, texts), self.facts.name)
        finally:
            self._backend.encode_special_tokens = False
        return ids

    def _encode_again(self, chosen: Sequence[int], texts: Sequence[str | bytes], ids: Ids) -> Ids:
        """`ids` with those of the texts of these numbers in which the tokenizer itself encodes them."""
        if not chosen:
            return ids
        lists = list(ids)
        for i, one in zip(chosen, self._encode([texts[i] for i in chosen], fast=None), strict=True):
            lists[i] = one
        return Ids(np.concatenate(lists), np.array([0, *accumulate(map(len, lists))], np.int64))

    def _encode(self, texts: Sequence[str | bytes], *, fast: Any) -> Ids:
        """Token ids of the texts, by gigatoken, or by the tokenizer itself where `fast` is None."""
        if fast is None:
            strings = [text if isinstance(text, str) else text.decode() for text in texts]
            encodings = self._backend.encode_batch_fast(strings, add_special_tokens=False)
            lists = [encoding.ids for encoding in encodings]
            ends = np.array([0, *accumulate(map(len, lists))], np.int64)
            flat = np.fromiter(chain.from_iterable(lists), self.dtype, count=int(ends[-1]))
        else:
            # As bytes: taken over as they are, where strings are looked through one by one.
            data = [text.encode() if isinstance(text, str) else text for text in texts]
            encoded = fast.encode_batch(data).layout
            ends = np.asarray(encoded.offsets.data).astype(np.int64)
            flat = np.asarray(encoded.content.data)[ends[0] : ends[-1]].astype(self.dtype)
            ends -= ends[0]
        return Ids(flat, ends)

    def check(self, text: str, where: str) -> None:
        """Encode the beginning of a document by both encoders.

        Raises:
            InputError: They differ; the message begins with `where`.
        """
        if has_newer_signs(text):
            return  # the tokenizer alone encodes it
        if self._fast is not None and not self._agree(self._fast, text[:CHECKED_CHARACTERS]):
            raise InputError(
                f'{where}: gigatoken encodes it differently from --tokenizer {self.facts.name}; '
                'pass --encoder tokenizers'
            )

    def _load_fast(self, *, required: bool) -> Any:
        """A gigatoken encoder that gives the tokenizer's ids, or None."""
        try:
            import gigatoken

            fast = gigatoken.Tokenizer.from_json(self._backend.to_str())
            reason = 'it encodes some texts differently'
            if all(self._agree(fast, text) for text in (*AWKWARD, *texts_with_added_tokens(self._backend))):
                return fast
        except Exception as error:  # whatever the loader trips over
            reason = f'{type(error).__name__}: {first_line(error)}'
        if required:
            raise InputError(
                f'--encoder gigatoken: cannot be used with --tokenizer {self.facts.name} ({reason}); '
                'pass --encoder auto or tokenizers'
            )
        return None

    def _agree(self, fast: Any, text: str) -> bool:
        return fast.encode(text).tolist() == self._backend.encode(text, add_special_tokens=False).ids


def tokenizer_facts(tokenizer: Any, name: str) -> TokenizerFacts:
    """What a ``transformers.PreTrainedTokenizerFast`` says of itself; its EOS is set if it knows none.

    Raises:
        InputError: No token of it ends a text.
    """
    # Ids need not be dense: an added token may lie beyond the count.
    vocabulary = tokenizer.get_vocab()
    size = max(len(tokenizer), 1 + max(vocabulary.values(), default=0))
    if tokenizer.eos_token_id is None:
        known = next((token for token in EOS_CANDIDATES if token in vocabulary), None)
        if known is None:
            raise InputError(
                f'--tokenizer {name}: has no end-of-text token to put between documents; '
                'set "eos_token" in its tokenizer_config.json'
            )
        tokenizer.eos_token = known
    eos: Any = tokenizer.eos_token_id
    pad = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return TokenizerFacts(name, size, int(eos), int(pad))


def save_tokenizer(tokenizer: Any, folder: str) -> str:
    """Save a ``PreTrainedTokenizerFast`` to `folder` and return the hash of its ``tokenizer.json``."""
    tokenizer.save_pretrained(folder)
    _leave_out_empty_template(os.path.join(folder, TOKENIZER_FILE))
    return tokenizer_hash(folder)


def _leave_out_empty_template(path: str) -> None:
    """Take a post-processor that adds no token out of a ``tokenizer.json``.

    transformers 5 gives one to every tokenizer that has none. With it the hash would depend on the version.
    """
    from tokenizers import Tokenizer

    backend: Any = Tokenizer.from_file(path)
    written = json.loads(backend.to_str())['post_processor'] or {}
    if written.get('type') == 'TemplateProcessing' and not written['special_tokens']:
        backend.post_processor = None
        backend.save(path)


def tokenizer_hash(folder: str) -> str:
    """``sha256:`` and the hex digest of ``tokenizer.json`` in a tokenizer's folder."""
    with open(os.path.join(folder, TOKENIZER_FILE), 'rb') as file:
        return f'sha256:{hashlib.sha256(file.read()).hexdigest()}'


def load_tokenizer(name: str, encoder: str = 'auto', *, special_tokens: str = SPECIAL) -> DocumentTokenizer:
    """The tokenizer in a folder or on the hub, ready to encode; raises InputError as :func:`find_tokenizer`."""
    tokenizer = find_tokenizer(name)
    facts = tokenizer_facts(tokenizer, called(name))
    return DocumentTokenizer(tokenizer.backend_tokenizer, facts, encoder, special_tokens=special_tokens)


def reload_tokenizer(
    folder: str, facts: TokenizerFacts, encoder: str, *, special_tokens: str = SPECIAL
) -> DocumentTokenizer:
    """A tokenizer that was saved to a folder; without transformers, which takes seconds to import."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(os.path.join(folder, TOKENIZER_FILE))
    return DocumentTokenizer(backend, facts, encoder, special_tokens=special_tokens)


def called(name: str) -> str:
    """What to call a tokenizer: its name on the hub, or the last part of its folder."""
    return os.path.basename(os.path.abspath(name)) if os.path.isdir(name) else name


def use_threads() -> None:
    """Let Rust threads encode a batch: unless told, the library stops after a fork, and says so of every process."""
    os.environ.setdefault('TOKENIZERS_PARALLELISM', 'true')


def find_tokenizer(name: str) -> Any:
    """A ``PreTrainedTokenizerFast`` from a folder or, if `name` is none, from the hub or its cache.

    A folder may hold a whole saved tokenizer, a bare ``tokenizer.json``, or GPT-2's ``vocab.json`` with
    ``merges.txt``.

    Raises:
        InputError: It cannot be loaded, or has no Rust backend.
    """
    use_threads()
    if is_missing_folder(name):
        raise InputError(
            f'--tokenizer {name}: no such folder; name a folder with a tokenizer, or one on the hub'
        )
    tokenizer = _load_folder(name) if os.path.isdir(name) else _load_from_hub(name)
    if not getattr(tokenizer, 'is_fast', False):
        raise InputError(f'--tokenizer {name}: has no fast (Rust) version; convert it to a tokenizer.json')
    return tokenizer


def _load_folder(folder: str) -> Any:
    from transformers.models.gpt2 import GPT2TokenizerFast
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    files = set(os.listdir(folder))
    try:
        if files & {'tokenizer_config.json', 'config.json'}:
            return _load_automatically(folder)
        if 'tokenizer.json' in files:
            return PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, 'tokenizer.json'))
        if files >= {'vocab.json', 'merges.txt'}:
            return GPT2TokenizerFast.from_pretrained(folder)
    except InputError:
        raise
    except Exception as error:  # the Rust parser raises bare Exception
        raise _cannot_load(folder, error) from error
    return _load_automatically(folder)


def _load_from_hub(name: str) -> Any:
    if _hub_answers():
        return _load_automatically(name)
    from huggingface_hub import try_to_load_from_cache

    # Only then: transformers takes seconds to import.
    if any(isinstance(try_to_load_from_cache(name, file), str) for file in HUB_FILES):
        return _load_automatically(name, local_files_only=True)
    raise InputError(
        f'--tokenizer {name}: no such folder, and the hub, where it might be, cannot be reached; name a folder '
        'with a tokenizer.json'
    )


def _hub_answers() -> bool:
    """Whether somebody listens where the hub is; asked first, for its client tries for a quarter of a minute."""
    from huggingface_hub import constants

    url = urlsplit(constants.ENDPOINT)
    if getproxies().get(url.scheme):  # which alone knows
        return True
    try:
        port = url.port or (80 if url.scheme == 'http' else 443)
        socket.create_connection((url.hostname or '', port), HUB_SECONDS).close()
    except OSError:
        return False
    return True


def _load_automatically(name: str, **options: Any) -> Any:
    from transformers import AutoTokenizer

    try:
        # transformers and the hub client print advice of their own; one line is ours.
        with contextlib.redirect_stderr(io.StringIO()):
            return AutoTokenizer.from_pretrained(name, **options)
    except (
        Exception
    ) as error:  # OSError, ValueError, KeyError, ImportError, hub errors: all mean the same here
        raise _cannot_load(name, error) from error


def _cannot_load(name: str, error: Exception) -> InputError:
    first_line = (str(error).splitlines() or [''])[0][:160]
    return InputError(
        f'--tokenizer {name}: cannot be loaded ({type(error).__name__}: {first_line}); '
        'name a folder with a tokenizer.json, or a tokenizer on the hub while online'
    )
