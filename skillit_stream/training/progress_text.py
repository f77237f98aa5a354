"""What a run says of itself, as text: pure functions of numbers and names, at most `WIDTH` columns wide.

At the start a line for each of skills, rounds, evaluation, mixture and folder; a row of a table for every round; at the
end the final losses and what to type next.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 100
LABEL = 13
LONGEST_NAME = 12  # of a skill in a row; a longer one is cut
_NUMBERS = (6, 5, 10)  # columns of loss, tokens a second, time left
CHEAP = 0.5  # of the samples of a round: what an evaluation may have before its remedy is named
REMEDY = 0.25  # of the samples of a round: what it has with the remedy


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is known of a run before its first step."""

    skills: Mapping[str, int]
    """Train skill -> samples."""
    seq_len: int
    """Tokens in a sample."""
    duration: str
    """`max_duration`."""
    rounds: int | None
    """None where the duration does not say."""
    round_size: int
    """Samples."""
    batch_size: int
    """Samples in a step, all ranks together."""
    eval_skills: Mapping[str, int]
    """Eval skill -> samples in its stream."""
    samples_per_skill: int | None
    """That are evaluated at most; None: all."""
    eval_batches: int
    """Of a rank."""
    eval_interval: str
    folder: str
    policy: str
    checkpoints: str
    """Where they go, how often, and how many stay."""
    loaded: str | None = None
    """Checkpoint that the run starts from."""
    kernels: str | None = None
    stands_for: int | None = None
    """Tokens of the run whose passes this one makes (`match_passes`); None: no other's."""

    @property
    def steps(self) -> int:
        """Of a round."""
        return -(-self.round_size // self.batch_size)


def start_lines(plan: RunPlan, resumed_at: str | None = None, changes: Sequence[str] = ()) -> list[str]:
    """What a run is going to do.

    Args:
        plan: Of the run.
        resumed_at: How far it is already; None: at its beginning.
        changes: What differs from the run that goes on, a line a key.
    """
    total = sum(plan.skills.values())
    repeating = f' (a part of the streams: match_passes={plan.stands_for:,})' if plan.stands_for else ''
    sizes = named(sorted(plan.skills.items(), key=lambda one: -one[1]), '{} {:,}', 6)
    rounds = f'{plan.rounds} of {plan.steps:,} steps' if plan.rounds else f'of {plan.steps:,} steps'
    rows = [
        ('skills', f'{len(plan.skills)}, {total:,} samples of {plan.seq_len:,} tokens{repeating}: {sizes}'),
        (
            'rounds',
            f'{rounds} (max_duration={plan.duration}); a step is {plan.batch_size:,} samples, '
            f'{plan.batch_size * plan.seq_len:,} tokens',
        ),
        ('evaluation', evaluation_text(plan)),
        ('folder', plan.folder),
        ('checkpoints', plan.checkpoints),
    ]
    if plan.kernels:
        rows.append(('kernels', plan.kernels))
    if resumed_at:
        rows.append(('resuming', f'{resumed_at}, from {plan.loaded or "its newest checkpoint"}'))
    elif plan.loaded:
        rows.append(('weights', f'from {plan.loaded}'))
    lines = [line for label, text in rows for line in labelled(label, text)]
    # Not wrapped: a line a key can be searched for.
    return [*lines, *(f'{"" if at else "changed":<{LABEL}}{change}' for at, change in enumerate(changes))]


def evaluation_text(plan: RunPlan) -> str:
    """How much is evaluated, what that is beside the training, and what makes it cheaper where it is much."""
    there, limit = plan.eval_skills, plan.samples_per_skill
    taken = sum(count if limit is None else min(count, limit) for count in there.values())
    every = sum(there.values())
    part = taken / plan.round_size
    cost = (
        f'{part:.1f} times the samples of a round' if part >= 1 else f'{part:.0%} of the samples of a round'
    )
    batches = f'{plan.eval_batches:,} batch{"es" if plan.eval_batches != 1 else ""}'
    when = '' if plan.eval_interval == '1ep' else f', every {plan.eval_interval}'
    which = f'all {every:,} samples' if taken == every else f'{taken:,} of {every:,} samples'
    text = f'{which} of {len(there)} skill{"s" if len(there) != 1 else ""}, {batches}, {cost}{when}'
    if part > CHEAP:
        fewer = max(1, int(REMEDY * plan.round_size / len(there)))
        return f'{text}; cheaper: eval_loader.samples_per_skill={fewer}, or a larger train_loader.round_size'
    return text if taken == every else f'{text} (all: eval_loader.samples_per_skill=null)'


def mixture_line(policy: str, proportions: Mapping[str, float], *, first: bool) -> list[str]:
    """The policy, and the mixture that the run begins with or goes on with."""
    largest = sorted(proportions.items(), key=lambda one: -one[1])
    text = named([(skill, 100 * value) for skill, value in largest], '{} {:.1f} %', 6)
    return labelled('mixture', f'{policy}; {"first" if first else "now"}: {text}')


class RoundTable:
    """The table with a row for every round.

    Args:
        skills: All names that may stand in it.
        rounds: Of the run; None: not known.
    """

    def __init__(self, skills: Sequence[str], rounds: int | None) -> None:
        self._rounds = rounds
        longest = max(min(len(skill), LONGEST_NAME) for skill in skills)
        self._first = max(5, len(f'{rounds}/{rounds}') if rounds else 5)
        room = WIDTH - self._first - sum(_NUMBERS) - 2 * 5
        # Two proportions, each such as `name 45.1 +12.3`; the highest losses get what is left, one or two.
        self._highest = max(18, room - max(27, 2 * (longest + 11) + 2))
        self._mixture = room - self._highest

    def header(self) -> str:
        """Names of the columns."""
        return self._row(
            'round', 'loss', 'highest losses', 'proportions, % (and change)', 'tok/s', 'time left'
        )

    def before_training(self, losses: Mapping[str, float], seconds: float) -> str:
        """The row of the evaluation before training, which took so many seconds."""
        took = f'(evaluated in {duration_text(seconds)})'
        return self._row('start', mean_text(losses), self._highest_of(losses), took, '', '')

    def row(
        self,
        finished: int,
        losses: Mapping[str, float],
        proportions: Mapping[str, float],
        before: Mapping[str, float] | None,
        *,
        tokens_per_second: float,
        seconds_left: float | None,
    ) -> str:
        """The row of a round.

        Args:
            finished: Rounds by now.
            losses: Nats per token per eval skill at its end.
            proportions: Of the round, by train skill.
            before: Those of the round before, where they are known.
            tokens_per_second: In training, evaluations left out.
            seconds_left: Of the run, where that is known.
        """
        return self._row(
            f'{finished}/{self._rounds}' if self._rounds else str(finished),
            mean_text(losses),
            self._highest_of(losses),
            self._largest_of(proportions, before),
            short_number(tokens_per_second),
            duration_text(seconds_left) if seconds_left else '',
        )

    def _row(self, *cells: str) -> str:
        loss, rate, left = _NUMBERS
        forms = (
            f'>{self._first}',
            f'>{loss}',
            f'<{self._highest}',
            f'<{self._mixture}',
            f'>{rate}',
            f'>{left}',
        )
        return '  '.join(format(cell, form) for cell, form in zip(cells, forms, strict=True)).rstrip()

    def _highest_of(self, losses: Mapping[str, float]) -> str:
        # What is no number comes first: it is what one must see.
        worst = sorted(losses.items(), key=lambda one: (one[1] == one[1], -one[1]))
        return _as_many_as_fit(
            [f'{cut(skill)} {loss:.{2 if loss >= 1 else 3}f}' for skill, loss in worst], self._highest
        )

    def _largest_of(self, proportions: Mapping[str, float], before: Mapping[str, float] | None) -> str:
        entries = []
        for skill, value in sorted(proportions.items(), key=lambda one: -one[1]):
            change = f' {100 * (value - before[skill]):+.1f}' if before and skill in before else ''
            change = '' if change in (' +0.0', ' -0.0') else change
            entries.append(f'{cut(skill)} {100 * value:.1f}{change}')
        return _as_many_as_fit(entries, self._mixture)


def end_lines(
    plan: RunPlan, finished: str, seconds: float, eval_seconds: float, losses: Mapping[str, float]
) -> list[str]:
    """What a run came to.

    Args:
        plan: Of the run.
        finished: Rounds and steps.
        seconds: That this process trained.
        eval_seconds: Of these, how many it evaluated.
        losses: The last ones, nats per token per eval skill.
    """
    part = f', {eval_seconds / seconds:.0%} of it evaluation' if seconds and eval_seconds else ''
    lines = labelled('finished', f'{finished} in {duration_text(seconds)}{part}')
    if losses:
        worst = named(sorted(losses.items(), key=lambda one: -one[1]), '{} {:.3f}', 6)
        lines += labelled('final losses', f'mean {mean_text(losses)}: {worst}')
    return [
        *lines,
        *labelled('folder', plan.folder),
        # Not wrapped: a command in two lines cannot be copied.
        f'{"look at it":<{LABEL}}skillit report {plan.folder}',
    ]


def labelled(label: str, text: str, width: int = WIDTH) -> list[str]:
    """Lines with a label before the first of them, at most `width` columns wide where words allow it."""
    indent = ' ' * LABEL
    return textwrap.wrap(
        f'{label:<{LABEL}}{text}',
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def named(entries: Sequence[tuple[str, float]], form: str, most: int) -> str:
    """The first entries, written as `form`, and how many more there are."""
    text = ', '.join(form.format(name, value) for name, value in entries[:most])
    return f'{text} and {len(entries) - most} more' if len(entries) > most else text


def mean_text(losses: Mapping[str, float]) -> str:
    """The mean of some losses; empty without any."""
    return f'{sum(losses.values()) / len(losses):.3f}' if losses else ''


def cut(name: str) -> str:
    """A name of bearable length."""
    return name if len(name) <= LONGEST_NAME else f'{name[: LONGEST_NAME - 1]}…'


def short_number(value: float) -> str:
    """A number to three digits: 950, 12.3k, 1.25M."""
    for size, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= size:
            scaled = value / size
            return f'{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{letter}'
    return f'{value:.0f}'


def duration_text(seconds: float) -> str:
    """Seconds as 12 s, 3 min 20 s, 12 min, 2 h 05 m or 3 d 04 h."""
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s' if whole else '<1 s'
    if whole < 600:
        return f'{whole // 60} min {whole % 60:02} s'
    if whole < 3600:
        return f'{whole // 60} min'
    if whole < 86400:
        return f'{whole // 3600} h {whole % 3600 // 60:02} m'
    return f'{whole // 86400} d {whole % 86400 // 3600:02} h'


def _as_many_as_fit(entries: Sequence[str], width: int) -> str:
    """The first entries that fit beside each other; one always does, cut if need be."""
    text = entries[0][:width] if entries else ''
    for entry in entries[1:]:
        if len(text) + 2 + len(entry) > width:
            break
        text += f', {entry}'
    return text
