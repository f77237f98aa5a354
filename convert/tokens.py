"""Documents -> token ids, by any Hugging Face tokenizer that has a Rust backend."""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from skillit_stream.errors import InputError

# Tried in turn where a tokenizer comes without a word on which token ends a document.
EOS_CANDIDATES = ('<|endoftext|>', '</s>', '<|end_of_text|>', '<eos>')
BATCH_DOCUMENTS = 1024
BATCH_CHARACTERS = 4_000_000


class DocumentTokenizer:
    """Encodes documents and ends each with EOS.

    Args:
        tokenizer: A ``transformers.PreTrainedTokenizerFast``.
        name: What to call it in the manifest.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        # A tokenizer.json may ask for both; documents are neither cut nor filled up.
        self._backend.no_truncation()
        self._backend.no_padding()
        # Ids need not be dense: an added token may lie beyond the count.
        self.vocab_size = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))
        self.eos_id = self._find_eos()

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The narrowest of uint16 and uint32 that holds every id."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, EOS last, without what a tokenizer adds for a model's sake (BOS, CLS)."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array([*encoding.ids, self.eos_id], dtype=self.dtype) for encoding in encodings]

    def save(self, folder: str) -> str:
        """Save the tokenizer to `folder` and return the hash of its ``tokenizer.json``."""
        self._tokenizer.save_pretrained(folder)
        return tokenizer_hash(folder)

    def _find_eos(self) -> int:
        if self._tokenizer.eos_token_id is not None:
            return self._tokenizer.eos_token_id
        vocabulary = self._tokenizer.get_vocab()
        for token in EOS_CANDIDATES:
            if token in vocabulary:
                self._tokenizer.eos_token = token
                return vocabulary[token]
        raise InputError(
            f'--tokenizer {self.name}: has no end-of-text token to put between documents; '
            'set "eos_token" in its tokenizer_config.json'
        )


def tokenizer_hash(folder: str) -> str:
    """``sha256:`` and the hex digest of ``tokenizer.json`` in a tokenizer's folder."""
    with open(os.path.join(folder, 'tokenizer.json'), 'rb') as file:
        return f'sha256:{hashlib.sha256(file.read()).hexdigest()}'


def load_tokenizer(name: str) -> DocumentTokenizer:
    """Load a tokenizer from a folder or, if `name` is none, from the hub or its cache.

    A folder may hold a whole saved tokenizer, a bare ``tokenizer.json``, or GPT-2's ``vocab.json`` with
    ``merges.txt``.

    Raises:
        InputError: It cannot be loaded, or has no Rust backend.
    """
    # Rust threads encode a batch; without this, transformers turns them off after a fork.
    os.environ.setdefault('TOKENIZERS_PARALLELISM', 'true')
    if not os.path.isdir(name) and (os.path.exists(name) or name.startswith(('.', '/', '~'))):
        raise InputError(
            f'--tokenizer {name}: no such folder; name a folder with a tokenizer, or one on the hub'
        )
    tokenizer = _load_folder(name) if os.path.isdir(name) else _load_automatically(name)
    if not getattr(tokenizer, 'is_fast', False):
        raise InputError(f'--tokenizer {name}: has no fast (Rust) version; convert it to a tokenizer.json')
    return DocumentTokenizer(
        tokenizer, name if not os.path.isdir(name) else os.path.basename(os.path.abspath(name))
    )


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


def _load_automatically(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        # transformers and the hub client print advice of their own; one line is ours.
        with contextlib.redirect_stderr(io.StringIO()):
            return AutoTokenizer.from_pretrained(name)
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


def batches(documents: Iterable[Any]) -> Iterator[list[Any]]:
    """Group documents (anything with a ``text``) so that a batch is neither many nor long."""
    batch: list[Any] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
