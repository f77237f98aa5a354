"""Documents -> train, eval, by a hash of the text.

A document is an eval document if its hash lies below a threshold. The threshold is the eval fraction, unless
one split of a small skill would not fill a single sample: then it is the nearest one that fills it. Where eval
is to have a number of documents or tokens, it is the one below which there are that many. So the split is a
function of the skill's documents alone, not of their order, exact duplicates are always on the same side,
and a document keeps its side when a corpus grows (where the threshold had to move: mostly).

Where nothing is asked for, eval is a twentieth, and of a small skill more: a mean loss over n documents has a standard
error of 1 / sqrt(n) of what documents differ by among themselves, so that one over the four that are a twentieth of 85
says little. The threshold then moves until eval has :data:`EVAL_DOCUMENTS` and :data:`EVAL_SAMPLES`, as long as it is
no more than :data:`LARGEST_EVAL` of the documents and of the tokens.

Which threshold that is comes out only at the end, but only the documents next to the eval fraction can change
sides. They are held back: at most what a split must have on either side, plus one document. Each part of a
corpus holds back its own; what the parts held back is enough to find the threshold of the whole.
"""

import hashlib
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import number_of
from skillit_stream.convert.options import ConvertOptions

HASH_BYTES = 16
# Of a skill, where nothing is asked for: the share of its documents that is eval, ...
EVAL_FRACTION = 0.05
# ... what eval has all the same, ...
EVAL_DOCUMENTS = 16
EVAL_SAMPLES = 4
# ... and the share of the skill beyond which it does not grow for that.
LARGEST_EVAL = 0.2
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
    prompt: int = 0
    """How many tokens at its start come before the answer; 0 where there is none."""
    rest: int = 0
    """How many tokens at its end come after the answer."""


class Amount(NamedTuple):
    """So many tokens and so many documents."""

    tokens: int = 0
    documents: int = 0

    def __add__(self, other: 'Amount') -> 'Amount':  # type: ignore[override]
        return Amount(self.tokens + other.tokens, self.documents + other.documents)

    def __sub__(self, other: 'Amount') -> 'Amount':
        return Amount(self.tokens - other.tokens, self.documents - other.documents)

    def covers(self, need: 'Amount') -> bool:
        """Whether it is no less, in both."""
        return self.tokens >= need.tokens and self.documents >= need.documents

    def times(self, share: float) -> 'Amount':
        """A share of it, rounded down."""
        return Amount(int(self.tokens * share), int(self.documents * share))

    def most(self, other: 'Amount') -> 'Amount':
        """The larger of the two, in both."""
        return Amount(max(self.tokens, other.tokens), max(self.documents, other.documents))


def amount_of(document: EncodedDocument) -> Amount:
    """What a document and its copies come to."""
    return Amount(len(document.tokens) * document.copies, document.copies)


class Reserve:
    """The documents of one split that are nearest to the threshold: just enough of them for what it needs.

    Args:
        threshold: The hash from which distances are measured.
        need: What to hold, where the split has that much.
    """

    def __init__(self, threshold: int, need: Amount) -> None:
        self.held = Amount()
        self._threshold = threshold
        self._need = need
        self._farthest_first: list[tuple[int, int]] = []
        self._documents: dict[int, EncodedDocument] = {}

    def add(self, document: EncodedDocument) -> list[EncodedDocument]:
        """Take a document in and return those that can no longer change sides."""
        held = self._documents.get(document.key)
        distance = self._distance(document)
        if held is None and self.held.covers(self._need):
            farthest = -self._farthest_first[0][0] if self._farthest_first else -1
            if distance > farthest:  # as of nearly all: what is held is enough, and no more than that
                return [document]
        if held is not None:
            held.copies += document.copies
        else:
            self._documents[document.key] = document
            heapq.heappush(self._farthest_first, (-distance, document.key))
        self.held += amount_of(document)
        released = []
        while self._farthest_first:
            farthest = self._documents[self._farthest_first[0][1]]
            rest = self.held - amount_of(farthest)
            if not rest.covers(self._need):
                break
            heapq.heappop(self._farthest_first)
            released.append(self._documents.pop(farthest.key))
            self.held = rest
        return released

    def drain(self) -> list[EncodedDocument]:
        """Hand out what is left, the nearest first."""
        documents = sorted(self._documents.values(), key=self._distance)
        self._documents, self._farthest_first, self.held = {}, [], Amount()
        return documents

    def _distance(self, document: EncodedDocument) -> int:
        return abs(document.key - self._threshold)


def fraction_threshold(fraction: float) -> int:
    """The hash below which a share of all documents is expected."""
    return int(fraction * (1 << (8 * HASH_BYTES)))


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How large the splits of a skill are.

    Attributes:
        eval_fraction: Expected share of documents in eval.
        train: What train must have.
        eval: What eval must have, whatever the fraction.
        wanted: What eval is to have besides, as long as it is no more than :data:`LARGEST_EVAL` of the skill.
        fixed: A threshold that holds whatever the fraction and the needs.
    """

    eval_fraction: float
    train: Amount
    eval: Amount
    wanted: Amount = field(default_factory=Amount)
    fixed: int | None = None

    @classmethod
    def at(cls, threshold: int) -> 'SplitRule':
        """The rule of a threshold that is known."""
        return cls(0.0, Amount(), Amount(), fixed=threshold)

    @property
    def threshold(self) -> int:
        """Documents with a hash below go to eval, if no split needs more."""
        if self.fixed is not None:
            return self.fixed
        return fraction_threshold(self.eval_fraction)


def split_rule(options: ConvertOptions) -> SplitRule:
    """How large the splits of a skill are to be."""
    least = Amount(documents=1) if options.one_per_sample else Amount(tokens=options.seq_len)
    asked = Amount(options.eval_tokens or 0, options.eval_documents or 0)
    if asked != Amount():
        return SplitRule(0.0, least, least.most(asked))
    if options.eval_fraction is not None:
        return SplitRule(options.eval_fraction, least, least)
    # A sample that holds one document has as few tokens as that.
    tokens = 0 if options.one_per_sample else EVAL_SAMPLES * options.seq_len
    return SplitRule(EVAL_FRACTION, least, least, Amount(tokens, EVAL_DOCUMENTS))


class TooSmallError(InputError):
    """A skill that fills no sample of one of its splits.

    Args:
        skill: Its safe name.
        what: What it has and what it lacks.
        remedy: What to do about it, besides leaving the skill out.
        brief: `what` in few words.
    """

    def __init__(self, skill: str, what: str, remedy: str, brief: str) -> None:
        super().__init__(f'skill {skill!r}: {what}; {remedy}')
        self.skill, self.what, self.remedy, self.brief = skill, what, remedy, brief


class WorkKeptError(InputError):
    """Refused as the options are; with others what is converted serves, and is kept."""


class SmallSkillsError(WorkKeptError):
    """All skills of a corpus that are too small.

    Args:
        skills: What is wrong with each, at least one.
        generated: Whether the corpus is computed; then none can be left out.
    """

    def __init__(self, skills: Sequence[TooSmallError], *, generated: bool = False) -> None:
        one = skills[0]
        named, remedy = f'skill {one.skill!r}: {one.what}', one.remedy
        if len(skills) > 1:
            listed = ', '.join(f'{error.skill!r} ({error.brief})' for error in skills)
            named, remedy = (
                f'{len(skills)} skills are too small: {listed}',
                'lower --seq-len, or add documents',
            )
        them = 'it' if len(skills) == 1 else 'them'
        leave = f', or leave {them} out with --min-samples 1 (the work that is done is kept)'
        super().__init__(f'{named}; {remedy}{"" if generated else leave}')


class SkillSplitter:
    """Sends each document of one skill to train or eval.

    Args:
        skill: The skill's name, for messages.
        rule: How large the splits are.
        emit: Called as ``emit(split, document)``, once for each copy, when a document's side is settled.
        settled: What of each split has been settled elsewhere.
    """

    def __init__(
        self,
        skill: str,
        rule: SplitRule,
        emit: Callable[[str, EncodedDocument], None],
        settled: Mapping[str, Amount] | None = None,
    ) -> None:
        self.skill = skill
        self.settled = {TRAIN: Amount(), EVAL: Amount(), **(settled or {})}
        # Documents with a hash below are in eval; it moves at the end, if at all.
        self.threshold = rule.threshold
        self._rule = rule
        self._needs = {TRAIN: rule.train, EVAL: rule.eval}
        self._emit = emit
        # A document may have to leave a split for what the other one needs.
        self._reserves = {
            TRAIN: Reserve(rule.threshold, rule.eval.most(rule.wanted)),
            EVAL: Reserve(rule.threshold, rule.train),
        }

    def add(self, document: EncodedDocument) -> None:
        """Take the next document of the skill."""
        split = EVAL if document.key < self._rule.threshold else TRAIN
        for released in self._reserves[split].add(document):
            self.settle(split, released)

    def settle(self, split: str, document: EncodedDocument) -> None:
        """Send a document to a split, whatever its hash."""
        self.settled[split] += amount_of(document)
        for _ in range(document.copies):
            self._emit(split, document)

    def hold(self) -> list[EncodedDocument]:
        """The documents whose side only the whole of the skill decides; they are forgotten here."""
        return [document for reserve in self._reserves.values() for document in reserve.drain()]

    def finish(self) -> None:
        """Settle the documents held back.

        Raises:
            TooSmallError: The skill has too little for both splits.
        """
        left = {split: reserve.drain() for split, reserve in self._reserves.items()}
        totals = {
            split: sum(map(amount_of, documents), self.settled[split]) for split, documents in left.items()
        }
        before = dict(totals)
        short = next((split for split in (EVAL, TRAIN) if not totals[split].covers(self._needs[split])), None)
        if short is not None:
            other = TRAIN if short == EVAL else EVAL
            while not totals[short].covers(self._needs[short]) and left[other]:
                self._move_nearest(left, totals, short)
            if not all(totals[split].covers(need) for split, need in self._needs.items()):
                distinct = sum(map(len, left.values()))
                raise self._too_small(before, alike=distinct == 1 and not any(self._settled_documents()))
        if short != TRAIN:
            self._grow_eval(left, totals)
        for split, documents in left.items():
            for document in documents:
                self.settle(split, document)

    def _move_nearest(
        self, left: Mapping[str, list[EncodedDocument]], totals: dict[str, Amount], split: str
    ) -> None:
        """Move the document of the other split that is nearest to the threshold, and the threshold past it."""
        other = TRAIN if split == EVAL else EVAL
        moved = left[other].pop(0)
        self.threshold = moved.key + (split == EVAL)
        left[split].append(moved)
        totals[split] += amount_of(moved)
        totals[other] -= amount_of(moved)

    def _grow_eval(self, left: Mapping[str, list[EncodedDocument]], totals: dict[str, Amount]) -> None:
        """Move documents into eval until it has what it is to have, or is as large a part of the skill as it may be."""
        most = (totals[TRAIN] + totals[EVAL]).times(LARGEST_EVAL)
        while not totals[EVAL].covers(self._rule.wanted) and left[TRAIN]:
            moved = amount_of(left[TRAIN][0])
            rest = totals[TRAIN] - moved
            if not (most.covers(totals[EVAL] + moved) and rest.covers(self._needs[TRAIN])):
                return
            self._move_nearest(left, totals, EVAL)

    def _settled_documents(self) -> list[int]:
        return [amount.documents for amount in self.settled.values()]

    def _too_small(self, totals: Mapping[str, Amount], *, alike: bool) -> TooSmallError:
        total = totals[TRAIN] + totals[EVAL]
        if alike and total.documents > 1:
            brief = f'all its {number_of(total.documents, "document")} are alike'
            what = f'{brief}, and equal documents are in one split'
            return TooSmallError(self.skill, what, 'add other documents', brief)
        brief = f'{number_of(total.tokens, "token")} in {number_of(total.documents, "document")}'
        what = (
            f'its {brief} give {_in_words(totals[TRAIN])} to train and {_in_words(totals[EVAL])} to eval, but they '
            f'need {_in_words(self._rule.train)} and {_in_words(self._rule.eval)}'
        )
        remedy = 'lower --seq-len, change the size of eval, or add documents'
        return TooSmallError(self.skill, what, remedy, brief)


def _in_words(amount: Amount) -> str:
    return f'{number_of(amount.tokens, "token")} in {amount.documents}'
