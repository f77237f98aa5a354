"""What `skillit apply` leaves in a run folder for the run that goes on, and what the run notes of it.

``apply.json`` is the newest request, written by the command (or by hand) and read by rank 0 at the end of every round::

    {"version": 1, "from_round": 6, "mixing": {"policy": "static", "proportions": {"a": 0.25, "b": 0.75}}}

``applied.json`` is written by rank 0 alone: the requests that were taken, each with its round, before the round's
checkpoint. A run that was killed and goes on from an older checkpoint takes each at the same round once more, before
anything newer. A request is pending until it is the last that was taken; neither file is ever moved or changed.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain, read_text, write_json

REQUEST, TAKEN = 'apply.json', 'applied.json'
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """Another policy for a run from one of its next rounds on."""

    mixing: dict[str, Any]
    """Options as of ``algorithms.data_mixing``: `policy` and its own, the graph written out."""
    from_round: int | None = None
    """None: the next round whose mixture is not decided yet."""
    written: str | None = None
    """When, for people; it also makes a request another one than the same mixture before."""
    digest: str = ''
    """SHA-256 of the file."""

    def is_due(self, upcoming: int) -> bool:
        """Whether the round that is about to be decided is one that it is for."""
        return self.from_round is None or self.from_round <= upcoming


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A request that a run has taken."""

    from_round: int
    """The first round that it decides."""
    mixing: dict[str, Any]
    digest: str
    """Of the request."""
    evaluated: list[str]
    """Skills whose losses were known then."""


def write_request(folder: Path, request: Request) -> None:
    """Put a request into a run folder, in the place of one that may be there."""
    plain = {key: value for key, value in asdict(request).items() if key != 'digest' and value is not None}
    write_json(folder / REQUEST, {'version': VERSION, **plain})


def read_request(folder: Path) -> Request | None:
    """The newest request; None if there is none.

    Raises:
        InputError: The file cannot be read, or is none of a request.
    """
    path = folder / REQUEST
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error}') from None
    try:
        plain = json.loads(content)
        _check_keys(plain)
        return from_plain(Request, {**plain, 'digest': hashlib.sha256(content).hexdigest()})
    except (ValueError, RecursionError) as error:
        raise InputError(
            f'{path} is no request: {error}; `skillit apply` writes one, --cancel removes it'
        ) from None


def digest_of_request(folder: Path) -> str | None:
    """SHA-256 of the file of the newest request, whatever is in it; None if there is none."""
    try:
        return hashlib.sha256((folder / REQUEST).read_bytes()).hexdigest()
    except OSError:
        return None


def remove_request(folder: Path) -> None:
    """Take the newest request away, if there is one."""
    (folder / REQUEST).unlink(missing_ok=True)


def read_taken(folder: Path) -> tuple[Taken, ...]:
    """The requests that a run has taken, in order; raises InputError if the file is broken."""
    path = folder / TAKEN
    return parse_taken(read_text(path), str(path)) if path.exists() else ()


def parse_taken(text: str, where: str) -> tuple[Taken, ...]:
    """The requests in the text of an ``applied.json``; raises InputError, which begins with `where`."""
    try:
        plain = json.loads(text)
        if not isinstance(plain, dict) or not isinstance(plain.get('taken'), list):
            raise ValueError("it must hold a list 'taken'")
        _check_version(plain)
        return tuple(from_plain(Taken, one, f'taken[{at}]') for at, one in enumerate(plain['taken']))
    except ValueError as error:
        raise InputError(f'{where}: {error}; restore the file: the run goes on by it') from None


def write_taken(folder: Path, taken: Sequence[Taken]) -> None:
    """Write down what a run has taken."""
    write_json(folder / TAKEN, {'version': VERSION, 'taken': [asdict(one) for one in taken]})


def pending_request(folder: Path) -> Request | None:
    """The newest request if the run has not taken it; raises InputError if a file is broken."""
    request, taken = read_request(folder), read_taken(folder)
    return None if request and taken and taken[-1].digest == request.digest else request


def remove_all(folder: Path) -> None:
    """Forget requests: the run is begun anew."""
    for name in (REQUEST, TAKEN):
        (folder / name).unlink(missing_ok=True)


def _check_keys(plain: Any) -> None:
    if not isinstance(plain, dict):
        raise ValueError(f'it must be a JSON object, but got: {plain!r:.80}')
    known = {'version', 'mixing', 'from_round', 'written'}
    if unknown := sorted(plain.keys() - known):
        raise ValueError(f'it has an unknown key {unknown[0]!r} (known: {", ".join(sorted(known))})')
    _check_version(plain)


def _check_version(plain: dict[str, Any]) -> None:
    if plain.get('version') != VERSION:
        raise ValueError(f"'version' must be {VERSION}, but got: {plain.get('version')!r}")
