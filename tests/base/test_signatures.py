"""Options against the signatures of what they are for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.base.signatures import check_options, describe, fits


class Tensor:
    """What no YAML can say."""


@pytest.mark.parametrize(
    ('annotation', 'good', 'bad'),
    [
        (int, [1, -3], [True, 1.0, '1', None, [1]]),
        (float, [1, 0.5], [True, '0.5', None, {}]),
        (bool, [True, False], [0, 'x', None, [], {}]),
        (str, ['', 'x'], [1, None, True]),
        (Optional[int], [None, 2], ['x', 2.5]),  # noqa: UP045 (as other packages write it)
        (Union[float, Tensor], [1, 2.5], ['x', [1.0], None]),  # noqa: UP007
        (str | Path | None, ['x', None], [3, []]),
        (tuple[float, float], [[0.9, 1]], [[0.9], [1, 2, 3], ['x', 1], 0.9, None]),
        (list[str | int], [[], ['x', 1]], [[None], 'x', {}]),
        (Sequence[str], [['x']], ['x', [1]]),
        (Mapping[str, float], [{}, {'a': 1}], [{'a': 'x'}, [1], None]),
        (Literal['a', 'b'], ['a'], ['c', 1]),
        (Callable[[int], int], ['x', 3, None], []),
        (Tensor, ['x', 3, None], []),
        (Any, ['x', 3, None], []),
    ],
)
def test_values_that_fit_an_annotation(annotation: Any, good: list[Any], bad: list[Any]):
    assert all(fits(annotation, value) for value in good)
    assert not any(fits(annotation, value) for value in bad)


def test_an_annotation_is_described_by_what_a_yaml_can_say():
    assert describe(float | Tensor | None) == 'a number or null'
    assert describe(tuple[float, float]) == 'a list of 2'
    assert describe(bool) == 'true or false'


def built(needed: str, *, times: int = 3, anything=None) -> None:
    """What options are given to."""


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'needed': 'x', 'time': 1}, "`part` has no option 'time': did you mean 'times'?"),
        ({}, '`part.needed` must be given'),
        ({'needed': 'x', 'times': '3'}, "`part.times` must be a whole number, but got: '3'"),
        (['needed'], '`part` must be a mapping of options'),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(options: Any, message: str):
    with pytest.raises(InputError) as error:
        check_options('part', built, options)
    assert message in str(error.value)


def test_options_that_fit_are_taken():
    check_options('part', built, {'needed': 'x', 'times': 2, 'anything': [1]})
    check_options('part', built, {}, without=['needed'])
