"""Documents -> samples of equal length: packed end to end, or one a sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.splits import EVAL, EncodedDocument
from skillit_stream.convert.tokens import DocumentTokenizer


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples.

    Attributes:
        tokens: uint16 or uint32 [n, S].
        mask: uint8 [n, S], 1 where a token counts in the loss; None: everywhere.
    """

    tokens: np.ndarray
    mask: np.ndarray | None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def has_target(self) -> np.ndarray:
        """Whether a token of each counts in the loss, bool [n]; the first one has nothing before it and never does."""
        if self.mask is None:
            return np.ones(len(self), bool)
        return self.mask[:, 1:].any(axis=1)

    def select(self, chosen: np.ndarray) -> 'Samples':
        """Those samples for which `chosen`, bool [n], is true."""
        if chosen.all():
            return self
        return Samples(self.tokens[chosen], None if self.mask is None else self.mask[chosen])


class TargetCheck:
    """Leaves out samples without a target token, if it is to, and counts them.

    Args:
        drop: Whether to leave them out.
    """

    def __init__(self, *, drop: bool = False) -> None:
        self._drop = drop
        self.dropped = 0

    def pass_on(self, samples: Samples) -> Samples:
        """The samples that go on."""
        if not self._drop:
            return samples
        kept = samples.has_target
        self.dropped += int((~kept).sum())
        return samples.select(kept)


class Packer:
    """Packs the documents of one skill and split end to end.

    Args:
        seq_len: Tokens in a sample, S.
        dtype: Of the samples.
        answers_only: Whether the loss is on answers alone, and samples come with a mask.
        drop_without_target: Whether samples without a target token are left out.
    """

    def __init__(
        self,
        seq_len: int,
        dtype: type[np.uint16] | type[np.uint32],
        *,
        answers_only: bool = False,
        drop_without_target: bool = False,
    ) -> None:
        self.check = TargetCheck(drop=drop_without_target)
        self._seq_len = seq_len
        self._tokens = np.empty(0, dtype)
        self._mask = np.empty(0, np.uint8) if answers_only else None
        self.cut_tokens = 0

    @property
    def tail(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The tokens that do not fill a sample yet, and their mask; [n < S] each."""
        return self._tokens, self._mask

    def add(self, documents: Sequence[EncodedDocument]) -> Samples:
        """Append documents and return the samples they complete."""
        mask = np.concatenate([_mask_of(one) for one in documents]) if self._mask is not None else None
        return self.extend(np.concatenate([one.tokens for one in documents]), mask)

    def extend(self, tokens: np.ndarray, mask: np.ndarray | None) -> Samples:
        """Append tokens and return the samples they complete."""
        self._tokens, whole = self._cut(self._tokens, tokens)
        whole_mask = None
        if self._mask is not None and mask is not None:
            self._mask, whole_mask = self._cut(self._mask, mask)
        return self.check.pass_on(Samples(whole, whole_mask))

    def _cut(self, tail: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        joined = np.concatenate([tail, more])
        whole = len(joined) // self._seq_len * self._seq_len
        # A copy, or a short tail would keep the whole of a long document alive.
        return joined[whole:].copy(), joined[:whole].reshape(-1, self._seq_len)


class Padder:
    """Puts one document into each sample, cut to S tokens or padded; padding does not count in the loss.

    A document is cut at its end, but one with an answer at its start: the answer is what it is for.

    Args:
        seq_len: Tokens in a sample, S.
        dtype: Of the samples.
        pad_id: Fills samples up.
        answers_only: Whether the loss is on answers alone.
        drop_without_target: Whether samples without a target token are left out.
    """

    def __init__(
        self,
        seq_len: int,
        dtype: type[np.uint16] | type[np.uint32],
        *,
        pad_id: int,
        answers_only: bool = False,
        drop_without_target: bool = False,
    ) -> None:
        self.check = TargetCheck(drop=drop_without_target)
        self._seq_len = seq_len
        self._dtype = dtype
        self._pad_id = pad_id
        self._answers_only = answers_only
        self.cut_tokens = 0

    @property
    def tail(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Nothing: no document waits for another."""
        return np.empty(0, self._dtype), np.empty(0, np.uint8)

    def add(self, documents: Sequence[EncodedDocument]) -> Samples:
        """The samples of documents."""
        tokens = np.full((len(documents), self._seq_len), self._pad_id, self._dtype)
        mask = np.zeros(tokens.shape, np.uint8)
        for row, document in enumerate(documents):
            begin = min(document.prompt, max(0, len(document.tokens) - self._seq_len))
            kept = document.tokens[begin : begin + self._seq_len]
            tokens[row, : len(kept)] = kept
            mask[row, : len(kept)] = (
                _mask_of(document)[begin : begin + len(kept)] if self._answers_only else 1
            )
            self.cut_tokens += len(document.tokens) - len(kept)
        return self.check.pass_on(Samples(tokens, mask))

    def extend(self, tokens: np.ndarray, mask: np.ndarray | None) -> Samples:
        """No samples: there are no tails to go on from."""
        del mask
        return Samples(tokens.reshape(0, self._seq_len), np.empty((0, self._seq_len), np.uint8))


def new_packer(options: ConvertOptions, tokenizer: DocumentTokenizer, split: str) -> Packer | Padder:
    """What makes samples of a split's documents."""
    answers = options.loss == 'answer' and (split == EVAL or options.train_on == 'answer')
    given: Any = dict(answers_only=answers, drop_without_target=options.drop_without_target)
    if options.one_per_sample:
        return Padder(options.seq_len, tokenizer.dtype, pad_id=tokenizer.facts.pad_id, **given)
    return Packer(options.seq_len, tokenizer.dtype, **given)


def sample_keys(samples: Samples) -> np.ndarray:
    """A hash of the tokens of each sample, uint64 [n]; by these, samples alike in train and eval are found."""
    rows = np.ascontiguousarray(samples.tokens)
    return np.array([xxhash.xxh3_64_intdigest(row) for row in rows], np.uint64)


def _mask_of(document: EncodedDocument) -> np.ndarray:
    """1 on the answer and the EOS, uint8 [tokens]."""
    mask = np.ones(len(document.tokens), np.uint8)
    mask[: document.prompt] = 0
    mask[len(mask) - document.rest :] = 0
    return mask
