"""Progress: a Composer callback that says on rank 0 what a run does, a row a round, on stderr.

On a terminal one more line, which changes, shows the steps and evaluation batches of the round under way. Where there
is none, as in a log file, or where it is switched off, a round of many minutes says from time to time how far it is.
"""

import sys
from collections.abc import Callable, Sequence
from shutil import get_terminal_size
from time import monotonic

from composer.core import Callback, State, TimeUnit
from composer.loggers import Logger
from composer.utils import dist

from skillit_stream.base.errors import CLEAR_LINE
from skillit_stream.formats.run_log import BEFORE_TRAINING
from skillit_stream.mixing.driver import MixtureDriver
from skillit_stream.training.data_mixing import DataMixing
from skillit_stream.training.evaluation import ALL_SKILLS, evaluates_at_end
from skillit_stream.training.progress_text import (
    RoundTable,
    RunPlan,
    end_lines,
    mixture_line,
    short_number,
    start_lines,
)

REDRAW_SECONDS = 0.5
FIRST_SIGN, LONGEST_SILENCE = 60.0, 3600.0
BAR = 20
ROWS_TO_A_HEADER = 25


class StatusLine:
    """Lines that stay, on stderr, and below them on a terminal one that changes.

    Args:
        changing: Whether there is a line that changes. Without it, what would stand there is printed when nothing
            else has been for a minute, then for twice as long, and so on up to an hour.
    """

    def __init__(self, *, changing: bool) -> None:
        self._changing = changing
        self._silence = FIRST_SIGN
        self._last = monotonic()
        self._drawn = False

    def print(self, line: str) -> None:
        """A line that stays."""
        self.clear()
        print(line, file=sys.stderr, flush=True)
        self._last = monotonic()

    def show(self, text: Callable[[], str]) -> None:
        """Redraw the line that changes, if it is time to; `text` is called only then."""
        if monotonic() - self._last < (REDRAW_SECONDS if self._changing else self._silence):
            return
        if not self._changing:
            self._silence = min(2 * self._silence, LONGEST_SILENCE)
            self.print(text())
            return
        line = text()[: get_terminal_size().columns - 1]
        print(f'{CLEAR_LINE}{line}', end='', file=sys.stderr, flush=True)
        self._last, self._drawn = monotonic(), True

    def clear(self) -> None:
        """Take the changing line away: what others print stands on a line of its own."""
        if self._drawn:
            print(CLEAR_LINE, end='', file=sys.stderr, flush=True)
            self._drawn = False


class Progress(Callback):
    """Says what the run is going to do, how each round went, and what it came to.

    Args:
        plan: Of the run.
        bar: Whether the line that changes is wanted; it is drawn on a terminal alone.
    """

    def __init__(self, plan: RunPlan, *, bar: bool = True) -> None:
        self._plan = plan
        self._speaks = dist.get_global_rank() == 0
        self._status = StatusLine(changing=bar and sys.stderr.isatty())
        self._table = RoundTable([*plan.skills, *plan.eval_skills], plan.rounds)
        self._ended = False
        self._introduced = False
        self.changes: Sequence[str] = ()
        """A line for each key that differs from the run that goes on."""
        self._rows = 0
        self._before: dict[str, float] | None = None
        self._started = self._round_started = monotonic()
        self._first_token = 0
        self._elapsed_before = 0.0
        self._eval_seconds = 0.0

    def eval_standalone_start(self, state: State, logger: Logger) -> None:
        """The evaluation before training."""
        del logger
        self._introduce(state)

    def fit_start(self, state: State, logger: Logger) -> None:
        """The plan, the first mixture, and the head of the table."""
        del logger
        self._introduce(state)
        driver, record = _driver_of(state), _driver_of(state).last_record
        policy, applied = self._plan.policy, driver.applied_from
        if applied is not None:
            policy = f'{driver.policy.describe()["name"]}, applied in round {applied}'
        self._say(
            *mixture_line(policy, driver.dataset.next_proportions, first=not int(state.timestamp.batch))
        )
        self._say('', self._table.header())
        if record is not None and record.round == BEFORE_TRAINING and record.losses:
            self._say(self._table.before_training(record.losses, record.eval_seconds))
        self._started = monotonic()
        self._elapsed_before = _elapsed(state)
        self._begin_round(state)

    def epoch_start(self, state: State, logger: Logger) -> None:
        """A round begins."""
        del logger
        self._begin_round(state)

    def batch_end(self, state: State, logger: Logger) -> None:
        """A step."""
        del logger
        if self._speaks:
            self._status.show(lambda: self._step_text(state))

    def eval_batch_end(self, state: State, logger: Logger) -> None:
        """A batch of an evaluation."""
        del logger
        if self._speaks:
            self._status.show(lambda: self._evaluation_text(state))

    def eval_end(self, state: State, logger: Logger) -> None:
        """Whatever is printed next stands on a line of its own."""
        del state, logger
        self._status.clear()

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """The row of the round that has just ended; DataMixing has taken it up by now."""
        del logger
        record = _driver_of(state).last_record
        if record is None:
            raise RuntimeError('Internal error: a round ended without a record of it.')
        seconds = max(record.seconds - record.eval_seconds, 1e-3)
        self._eval_seconds += record.eval_seconds
        if self._rows and self._rows % ROWS_TO_A_HEADER == 0:
            self._say(self._table.header())
        self._rows += 1
        self._say(
            self._table.row(
                record.round + 1,
                record.losses,
                record.proportions,
                self._before,
                tokens_per_second=(int(state.timestamp.token) - self._first_token) / seconds,
                seconds_left=self._seconds_left(state),
            )
        )
        self._before = record.proportions

    def fit_end(self, state: State, logger: Logger) -> None:
        """The end, unless Composer evaluates after it."""
        del logger
        self._ended = evaluates_at_end(state)
        if not self._ended:
            self._end(state)

    def eval_after_all(self, state: State, logger: Logger) -> None:
        """The end, where it was still to be evaluated; DataMixing has written that down by now."""
        del logger
        if self._ended:
            self._end(state)

    def _end(self, state: State) -> None:
        self._ended = False
        self._status.clear()
        record = _driver_of(state).last_record
        part = f' and {record.ended_after:,} steps of the next' if record and record.ended_after else ''
        finished = f'{int(state.timestamp.epoch):,} rounds{part}, {int(state.timestamp.batch):,} steps'
        seconds = monotonic() - self._started
        losses = record.losses if record else {}
        self._say('', *end_lines(self._plan, finished, seconds, self._eval_seconds, losses))

    def _introduce(self, state: State) -> None:
        if self._introduced:
            return
        self._introduced = True
        step, within = int(state.timestamp.batch), int(state.timestamp.batch_in_epoch)
        place = f' and {within:,} steps of the next' if within else ''
        resumed_at = f'after {self._rounds_text(state)}{place}, step {step:,}' if step else None
        self._say(*start_lines(self._plan, resumed_at, self.changes))

    def _begin_round(self, state: State) -> None:
        self._round_started = monotonic()
        self._first_token = int(state.timestamp.token)

    def _say(self, *lines: str) -> None:
        if self._speaks:
            for line in lines:
                self._status.print(line)

    def _seconds_left(self, state: State) -> float | None:
        done = _elapsed(state) - self._elapsed_before
        if done <= 0:
            return None
        return max(0.0, 1 - _elapsed(state)) / done * (monotonic() - self._started)

    def _rounds_text(self, state: State) -> str:
        total = f' of {self._plan.rounds}' if self._plan.rounds else ''
        return f'{int(state.timestamp.epoch)}{total} rounds'

    def _step_text(self, state: State) -> str:
        step, steps = int(state.timestamp.batch_in_epoch), int(state.dataloader_len or 1)
        seconds = max(monotonic() - self._round_started, 1e-3)
        rate = (int(state.timestamp.token) - self._first_token) / seconds
        loss = float(state.total_loss_dict.get('loss/train/total', float('nan')))
        return (
            f'{_bar(step, steps)} {self._rounds_text(state)} done, step {step:,} of {steps:,}, '
            f'training loss {loss:.3f}, {short_number(rate)} tok/s'
        )

    def _evaluation_text(self, state: State) -> str:
        batch, batches = int(state.eval_timestamp.batch), int(state.dataloader_len or 1)
        label = '' if state.dataloader_label == ALL_SKILLS else f' {state.dataloader_label}'
        return (
            f'{_bar(batch, batches)} {self._rounds_text(state)} done, evaluating{label}, '
            f'batch {batch:,} of {batches:,}'
        )


def _driver_of(state: State) -> MixtureDriver:
    return next(one for one in state.algorithms if isinstance(one, DataMixing)).driver


def _elapsed(state: State) -> float:
    """The part of the duration that is trained, 0 to 1."""
    duration = state.max_duration
    if duration is None:
        return 0.0
    if duration.unit == TimeUnit.EPOCH:
        steps = int(state.dataloader_len or 1)
        trained = int(state.timestamp.epoch) + int(state.timestamp.batch_in_epoch) / steps
        return trained / int(duration.value)
    elapsed = state.get_elapsed_duration()
    return 0.0 if elapsed is None else float(elapsed.value)


def _bar(done: int, total: int) -> str:
    full = BAR * done // max(total, 1)
    return f'[{"#" * full}{"." * (BAR - full)}]'
