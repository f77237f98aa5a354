"""Records that cannot be used: an error that stops the command, or a count."""

from collections import Counter, defaultdict

from skillit_stream.base.errors import InputError

SKIP_HINT = 'or count and leave out such records with --bad-records skip'


class BadRecordError(InputError):
    """A record, or the rest of a file, that cannot be used.

    Args:
        reason: The key it is counted under, such as ``broken_json``.
        where: File and line.
        what: What is wrong with it.
        remedy: What to do about it, besides leaving it out.
        skill: The skill it belongs to, where that is known.
    """

    def __init__(self, reason: str, *, where: str, what: str, remedy: str, skill: str | None = None) -> None:
        super().__init__(f'{where}: {what}; {remedy}, {SKIP_HINT}')
        self.reason = reason
        self.skill = skill


class LeftOutError(BadRecordError):
    """A record that its corpus leaves out on purpose: it is counted whatever ``--bad-records`` says."""


class Faults:
    """What happens to bad records: ``error`` raises the first, ``skip`` counts them per skill and reason."""

    POLICIES = ('error', 'skip')

    def __init__(self, policy: str = 'error') -> None:
        if policy not in self.POLICIES:
            raise InputError(f'--bad-records must be one of {", ".join(self.POLICIES)}, but got: {policy}')
        self.policy = policy
        self.counts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)

    def handle(self, fault: BadRecordError) -> None:
        """Raise `fault`, or count it for its skill (None: not known, or not yet)."""
        if self.policy == 'error' and not isinstance(fault, LeftOutError):
            raise fault
        self.counts[fault.skill][fault.reason] += 1

    def place(self, before: Counter[str], skills: set[str]) -> None:
        """Give the faults counted under None since `before` to the file's skill, if it has exactly one."""
        if len(skills) == 1:
            since = self.counts[None] - before
            self.counts[None] -= since
            self.counts[next(iter(skills))] += since
