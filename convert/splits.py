"""Documents -> train, eval, by a hash of the text.

A document is an eval document if its hash lies below a threshold. The threshold is the eval fraction, unless
one split of a small skill would not fill a single sample: then it is the nearest one that fills it. So the
split is a function of the skill's documents alone, not of their order, exact duplicates are always on the
same side, and a document keeps its side when a corpus grows (in a skill so small that the threshold had to
move: mostly).

Which threshold that is comes out only at the end, but only the documents next to the eval fraction can change
sides. They are held back: at most one sample's worth of tokens on either side, plus one document. Memory does
not grow with the corpus.
"""

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skillit_stream.errors import InputError

HASH_BYTES = 16
TRAIN: str = 'train'
EVAL: str = 'eval'


def document_hash(text: bytes) -> int:
    """A stable 128-bit hash of a document's UTF-8 text."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=HASH_BYTES).digest(), 'big')


@dataclass(slots=True)
class EncodedDocument:
    """A document after encoding."""

    key: int
    """Its :func:`document_hash`."""
    tokens: np.ndarray
    """Token ids, EOS last; shape (tokens,)."""
    bytes: int
    """UTF-8 bytes of its text."""
    copies: int = 1
    """How many identical documents it stands for."""


class Reserve:
    """The documents of one split that are nearest to the threshold: just enough of them to fill one sample.

    Args:
        threshold: The hash from which distances are measured.
        need: Tokens to hold, where the split has that many.
    """

    def __init__(self, threshold: int, need: int) -> None:
        self.tokens = 0
        self._threshold = threshold
        self._need = need
        self._farthest_first: list[tuple[int, int]] = []
        self._documents: dict[int, EncodedDocument] = {}

    def add(self, document: EncodedDocument) -> list[EncodedDocument]:
        """Take a document in and return those that can no longer change sides."""
        held = self._documents.get(document.key)
        if held is not None:
            held.copies += 1
        else:
            self._documents[document.key] = document
            heapq.heappush(self._farthest_first, (-self._distance(document), document.key))
        self.tokens += len(document.tokens)
        released = []
        while self._farthest_first:
            farthest = self._documents[self._farthest_first[0][1]]
            rest = self.tokens - len(farthest.tokens) * farthest.copies
            if rest < self._need:
                break
            heapq.heappop(self._farthest_first)
            released.append(self._documents.pop(farthest.key))
            self.tokens = rest
        return released

    def drain(self) -> list[EncodedDocument]:
        """Hand out what is left, the nearest first."""
        documents = sorted(self._documents.values(), key=self._distance)
        self._documents, self._farthest_first, self.tokens = {}, [], 0
        return documents

    def _distance(self, document: EncodedDocument) -> int:
        return abs(document.key - self._threshold)


class SkillSplitter:
    """Sends each document of one skill to train or eval.

    Args:
        skill: The skill's name, for messages.
        eval_fraction: Expected share of documents in eval, between 0 and 1.
        seq_len: Tokens that fill a sample; each split gets at least these, or there is an error.
        emit: Called as ``emit(split, document)`` when a document's side is settled.
    """

    def __init__(
        self, skill: str, *, eval_fraction: float, seq_len: int, emit: Callable[[str, EncodedDocument], None]
    ) -> None:
        self.skill = skill
        self._threshold = int(eval_fraction * (1 << (8 * HASH_BYTES)))
        self._seq_len = seq_len
        self._emit = emit
        self._reserves = {split: Reserve(self._threshold, seq_len) for split in (TRAIN, EVAL)}
        self._settled = dict.fromkeys((TRAIN, EVAL), 0)

    def add(self, document: EncodedDocument) -> None:
        """Take the next document of the skill."""
        split = EVAL if document.key < self._threshold else TRAIN
        for released in self._reserves[split].add(document):
            self._settle(split, released)

    def finish(self) -> None:
        """Settle the documents held back.

        Raises:
            InputError: The skill cannot fill one sample of each split.
        """
        left = {split: reserve.drain() for split, reserve in self._reserves.items()}
        totals = {split: self._settled[split] + _count(left[split]) for split in left}
        before = dict(totals)
        short = next((split for split in (EVAL, TRAIN) if totals[split] < self._seq_len), None)
        if short is not None:
            other = TRAIN if short == EVAL else EVAL
            while totals[short] < self._seq_len and left[other]:
                moved = left[other].pop(0)
                left[short].append(moved)
                totals[short] += _count([moved])
                totals[other] -= _count([moved])
            if min(totals.values()) < self._seq_len:
                self._refuse(before)
        for split, documents in left.items():
            for document in documents:
                self._settle(split, document)

    def _settle(self, split: str, document: EncodedDocument) -> None:
        self._settled[split] += _count([document])
        for _ in range(document.copies):
            self._emit(split, document)

    def _refuse(self, totals: dict[str, int]) -> None:
        raise InputError(
            f'skill {self.skill!r}: its {sum(totals.values())} tokens give {totals[TRAIN]} to train and '
            f'{totals[EVAL]} to eval, but each needs at least --seq-len {self._seq_len}; '
            'lower --seq-len, change --eval-fraction, or add documents'
        )


def _count(documents: list[EncodedDocument]) -> int:
    return sum(len(document.tokens) * document.copies for document in documents)
