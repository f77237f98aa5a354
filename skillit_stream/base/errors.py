"""How errors and warnings are told: the one exception that says that the input is at fault, and a parser to match."""

import argparse
import os
import re
import select
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

LONGEST_CAUSE = 300
CLEAR_LINE = '\r\033[K'
"""Has a terminal go to the start of its line and clear it."""


class InputError(ValueError):
    """Bad usage or bad input: the message names what, where and the remedy in one line.

    The command line prints the message alone and exits with code 2; in Python it is a ``ValueError``.
    """


class MissingPackageError(ModuleNotFoundError, InputError):
    """What was asked for needs a package that is not installed: the message says how to install it."""


COMPOSER = "pip install 'mosaicml[nlp]>=0.32.1,<0.33'"
# What comes with it and nothing else here needs.
_PACKAGES_OF_COMPOSER = ('composer', 'torchmetrics')


@contextmanager
def naming_composer(what: str) -> Iterator[None]:
    """Within this context a missing Composer is one line that says how to install it.

    Args:
        what: That needs it: the beginning of the line.

    Raises:
        MissingPackageError: In place of Python's own error.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        is_of_composer = (error.name or '').partition('.')[0] in _PACKAGES_OF_COMPOSER
        if isinstance(error, MissingPackageError) or not is_of_composer:
            raise
        raise MissingPackageError(
            f'{what} needs Composer, which is not installed: {COMPOSER}', name=error.name
        ) from error


def first_line(error: BaseException) -> str:
    """What another package says of an error, on one line of bearable length."""
    text = ' '.join((str(error).strip() or type(error).__name__).split())
    return text if len(text) <= LONGEST_CAUSE else f'{text[:LONGEST_CAUSE]} ...'


@contextmanager
def as_input_error(what: str, *kinds: type[BaseException]) -> Iterator[None]:
    """Within this context an error of the given kinds is the input's fault.

    Args:
        what: Beginning of the line: which part of the input was refused.
        *kinds: Exceptions that the code inside raises for bad input; ValueError and TypeError always.

    Raises:
        InputError: Instead of them; one raised inside passes as it is.
    """
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, *kinds) as error:
        raise InputError(f'{what}: {first_line(error)}') from error


# A key with dots, =, a value: neither an option nor a path with a = in it.
_OVERRIDE = re.compile(r'[^-\s=/\\\'"{\[][^\s=/\\\'"{\[]*=')


class OneLineParser(argparse.ArgumentParser):
    """argparse whose errors are one line, with exit code 2, and whose `key=value` may stand anywhere.

    A command with an argument `overrides` gets all words of the form ``key=value`` that are not the value of an
    option, wherever they stand among its options: argparse itself takes arguments without a name from one place alone.
    """

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] (of its overloads)
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Set overrides aside, parse what is left, and put them back."""
        words = list(sys.argv[1:] if args is None else args)
        if not any(action.dest == 'overrides' for action in self._actions):
            return super().parse_known_args(words, namespace)
        overrides = [word for at, word in enumerate(words) if self._is_override(words, at)]
        rest = [word for at, word in enumerate(words) if not self._is_override(words, at)]
        found, unknown = super().parse_known_args(rest, namespace)
        found.overrides = [*found.overrides, *overrides]
        return found, unknown

    def _is_override(self, words: Sequence[str], at: int) -> bool:
        if not _OVERRIDE.match(words[at]):
            return False
        before = words[at - 1] if at else ''
        options = [
            action
            for action in self._actions
            for name in action.option_strings
            if before == name or (before.startswith('--') and name.startswith(before))
        ]
        # One that may stand alone, as --ray, does not take an override for its value.
        return not any(action.nargs is None for action in options)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f'{self.prog}: {message} (see {self.prog} --help)\n')


DECIMALS = re.compile(r'\d+\.\d+')
FOR_DEVELOPERS = (FutureWarning, DeprecationWarning, PendingDeprecationWarning)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Within this context a warning is one line without its place in the source, each once.

    Those about what will change in other packages are left out.
    """
    printed: set[str] = set()

    def line_of(message: Warning | str, *rest: object, **more: object) -> str:
        del rest, more
        text = ' '.join(str(message).split())
        # What differs in its figures alone is the same warning of another round.
        if (kind := DECIMALS.sub('', text)) in printed:
            return ''
        printed.add(kind)
        return f'{_start_of_line()}skillit: warning: {text}\n'

    shown, warnings.formatwarning = warnings.formatwarning, line_of
    try:
        with warnings.catch_warnings():
            for kind in FOR_DEVELOPERS:
                warnings.simplefilter('ignore', kind)
            yield
    finally:
        warnings.formatwarning = shown


def _start_of_line() -> str:
    """What takes away a line of progress, where there may be one: nobody who warns or fails knows of it."""
    return CLEAR_LINE if sys.stderr.isatty() else ''


def run_guarded(action: Callable[[], int | None], debug: bool = False) -> int:
    """Call `action` and turn what it raises into one line on stderr and an exit code.

    A command whose output nobody reads any more, as in ``| head``, ends without a word, with the code of SIGPIPE.
    With `debug` errors and warnings are Python's own, with their places in the source.
    """
    try:
        with nullcontext() if debug else plain_warnings(), naming_composer('This command'):
            code = action() or 0
            # What is left is written here, and not at the interpreter's exit, where a failure is a traceback.
            print(end='', flush=True)
            return code
    except InputError as error:
        if debug:
            raise
        # One raised in a DataLoader worker arrives with the worker's traceback before it.
        line = (
            str(error)
            .strip()
            .splitlines()[-1]
            .removeprefix(f'{InputError.__module__}.{InputError.__name__}: ')
        )
        print(f'{_start_of_line()}skillit: {line}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141
        if debug:
            raise
        first_line = (str(error).splitlines() or [''])[0]
        line = f'skillit: {type(error).__name__}: {first_line} (traceback: --debug)'
        print(f'{_start_of_line()}{line}', file=sys.stderr)
        return 1


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader has ended, as in ``| head``; then what is left for it goes nowhere."""
    try:
        stdout = sys.stdout.fileno()
    except (AttributeError, ValueError):
        return False
    poll = select.poll()
    poll.register(stdout, 0)
    if not any(events & select.POLLERR for _, events in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True
