"""Small files: read with errors in a sentence, checked against a dataclass, never half-written."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, BinaryIO, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names

Checked = TypeVar('Checked')


def read_text(path: Path) -> str:
    """Read a UTF-8 text file.

    Raises:
        InputError: If it is missing or unreadable.
    """
    try:
        return path.read_text(encoding='utf-8')
    except FileNotFoundError:
        raise InputError(f'no such file: {path}') from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path} cannot be read: {error}') from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: If it is missing, unreadable or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f'{path} is not valid JSON: {error}') from None


def read_skill_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read skill names from a text file, one a line; blank lines are skipped.

    Raises:
        InputError: If the file is missing, or names are missing or repeated.
    """
    lines = read_text(Path(path)).splitlines()
    return unique_names(f'names in {path}', [line.strip() for line in lines if line.strip()])


def read_array(path: Path) -> NDArray[Any]:
    """Read a ``.npy`` file; pickled objects are refused.

    Raises:
        InputError: If it is missing or no such array.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f'no such file: {path}') from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f'{path} cannot be read as a NumPy array: {error}') from None
    if not isinstance(array, np.ndarray):
        raise InputError(f'{path} must hold one NumPy array, but is an .npz archive')
    return array


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call `write` on a temporary file beside `path` and move it there: readers never see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, at once or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write data as indented JSON, at once or not at all."""
    write_text(Path(path), json.dumps(data, indent=1, ensure_ascii=False) + '\n')


def finite_or_null(value: Any) -> Any:
    """Plain data as strict JSON has it: None for a number that is not finite, which `from_plain` reads as NaN."""
    if isinstance(value, Mapping):
        return {str(key): finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a ``.npy`` file, at once or not at all."""
    write_atomically(path, lambda file: np.save(file, array))


def from_plain(kind: type[Checked], data: Any, where: str = '') -> Checked:
    """Build a dataclass from what a JSON file holds, checking every value against its annotation.

    Keys that the dataclass does not have are passed over: a later release may write more. Annotations may be
    dataclasses, ``int``, ``float`` (null stands for NaN, as strict writers of JSON put it), ``bool``, ``str``, ``Any``,
    ``X | None``, mappings from ``str``, and tuples and lists of one kind.

    Args:
        kind: The dataclass.
        data: What ``json.loads`` returned.
        where: Path of keys to it, for messages.

    Raises:
        ValueError: A key is missing or a value is of another type; the message names both.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f'{where or "it"} must be a JSON object, but got: {data!r:.80}')
    values = {}
    for name, annotation, required in _fields_of(kind):
        inner = f'{where}.{name}' if where else name
        if name in data:
            values[name] = _checked(annotation, data[name], inner)
        elif required:
            raise ValueError(f'{inner!r} is missing')
    return kind(**values)


@cache
def _fields_of(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(kind)
    return tuple(
        (one.name, hints[one.name], one.default is MISSING and one.default_factory is MISSING)
        for one in fields(kind)
        if one.init
    )


def _checked(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        inner = next(one for one in arguments if one is not NoneType)
        return None if value is None else _checked(inner, value, where)
    if is_dataclass(kind):
        return from_plain(kind, value, where)  # type: ignore[arg-type]
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: _checked(arguments[1], one, f'{where}.{key}') for key, one in value.items()}
    if origin in (tuple, list) and isinstance(value, list):
        return origin(_checked(arguments[0], one, f'{where}[{at}]') for at, one in enumerate(value))
    if kind is float and (value is None or type(value) in (int, float)):
        return math.nan if value is None else float(value)
    if kind is Any or (kind in (int, str, bool) and type(value) is kind):
        return value
    raise ValueError(f'{where!r} must be {_NAMES[origin]}, but got: {value!r:.80}')


_NAMES = {
    int: 'a whole number',
    float: 'a number',
    str: 'a text',
    bool: 'true or false',
    dict: 'a mapping of names',
    Mapping: 'a mapping of names',
    tuple: 'a list',
    list: 'a list',
}
