"""Reading and writing small files: errors in a sentence, no file ever half-written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names


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
