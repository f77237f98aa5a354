"""Marks of parameters."""

from typing import Any

import pytest


def slowly(*values: Any) -> list[Any]:
    """Values of a parameter that the slow tests have beside those of all days; a tuple is the values of several."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for value in values
    ]
