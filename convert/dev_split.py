"""Which instances of a task of Natural Instructions are for eval.

The published experiments list them in pickles, task name to indices: 50 of each task of the training split, 400 at
most of one of the test split, 100 of a cross-lingual one (HazyResearch/skill-it, aux_data/). A pickle can run any code,
so only numbers, containers and NumPy arrays are let through.
"""

import hashlib
import io
import os
import pickle
from collections.abc import Sequence
from typing import Any

import orjson

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.convert.faults import BadRecordError

# What pickles of integers in containers and arrays name; any other name is refused.
HARMLESS = {
    ('collections', 'OrderedDict'),
    ('collections', 'defaultdict'),
    ('builtins', 'list'),
    ('builtins', 'set'),
    ('builtins', 'range'),
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
    *(
        (f'numpy.{core}.{module}', name)
        for core in ('core', '_core')
        for module, name in (
            ('multiarray', '_reconstruct'),
            ('multiarray', 'scalar'),
            ('numeric', '_frombuffer'),
        )
    ),
}


class DevSplit:
    """The first instances of each task, or those that a file lists.

    Args:
        count: How many, but at most half of a task.
        listed: Task name -> indices from 0, instead.
        digest: Hash of the file they are from.
    """

    def __init__(
        self, count: int = 0, listed: dict[str, frozenset[int]] | None = None, digest: str = ''
    ) -> None:
        self.count = count
        self.listed = listed
        self.hash = digest or f'first {count}'

    def indices(self, task: str, size: int, where: str) -> frozenset[int]:
        """The instances of a task that are for eval.

        Args:
            task: Its name.
            size: How many instances it has.
            where: Its file, for messages.

        Raises:
            BadRecordError: The file does not list it, or lists an instance that it has not.
        """
        if self.listed is None:
            return frozenset(range(min(self.count, size // 2)))
        if task not in self.listed:
            what = f'the --dev-split file does not list the task {task}'
            raise BadRecordError('no_dev_split', where=where, what=what, remedy='add it to the file')
        outside = [index for index in self.listed[task] if not 0 <= index < size]
        if outside:
            what = f'the --dev-split file lists instance {outside[0]}, but the task has {size}'
            raise BadRecordError('no_dev_split', where=where, what=what, remedy='take the right file')
        return self.listed[task]


def read_dev_split(paths: Sequence[str]) -> DevSplit:
    """Read files that list instances for eval: JSON, or a pickle where the name ends in ``.pkl``.

    Raises:
        InputError: One cannot be read or does not map task names to indices, or two do not agree on a task.
    """
    listed: dict[str, frozenset[int]] = {}
    digest = hashlib.blake2b(digest_size=32)
    for path in paths:
        data, more = _read_file(path)
        digest.update(data)
        for task in sorted(listed.keys() & more.keys()):
            if listed[task] != more[task]:
                raise InputError(
                    f'--dev-split {path}: lists other instances of {task} than a file before it; name one of them'
                )
        listed |= more
    return DevSplit(listed=listed, digest=f'blake2b:{digest.hexdigest()}')


def _read_file(path: str) -> tuple[bytes, dict[str, frozenset[int]]]:
    """The bytes of a file, and what it lists."""
    try:
        with open(path, 'rb') as file:
            data = file.read()
        is_pickle = os.path.splitext(path)[1] in ('.pkl', '.pickle')
        listed = _Unpickler(io.BytesIO(data)).load() if is_pickle else orjson.loads(data)
        return data, {str(task): frozenset(map(_index, found)) for task, found in listed.items()}
    except Exception as error:  # a broken pickle raises anything
        raise InputError(
            f'--dev-split {path}: must map task names to indices of instances ({first_line(error)}); '
            'mend the file'
        ) from error


def _index(value: Any) -> int:
    if isinstance(value, bool) or value != int(value):
        raise ValueError(f'not an index: {value!r}')
    return int(value)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The thing of that name, if it is harmless."""
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f'{module}.{name} is not allowed here')
        return super().find_class(module, name)
