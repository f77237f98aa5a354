"""Code points on which the Unicode tables of two encoders may differ: those that newer versions of Unicode have added.

An encoder asks its tables whether a sign is a letter, which decides where words end, and what its combining class is,
which decides the order of marks in the normalised text. What an older table does not have counts as unassigned in it,
and as no mark. So two encoders of one tokenizer can differ on signs that this Python does not know either, and on marks
that came after Unicode 3.2.
"""

import unicodedata
from functools import cache

import numpy as np

SURROGATES = range(0xD800, 0xE000)


def has_newer_signs(text: str | bytes) -> bool:
    """Whether a text, as a string or in UTF-8, holds a code point on which encoders may differ."""
    if text.isascii():
        return False
    string = text if isinstance(text, str) else text.decode()
    return bool(_table()[np.frombuffer(string.encode('utf-32-le'), np.uint32)].any())


def is_newer_sign(code: int) -> bool:
    """Whether tables may differ on a code point."""
    sign = chr(code)
    if code in SURROGATES:
        return False  # in no text
    if unicodedata.category(sign) == 'Cn':
        return True
    return unicodedata.combining(sign) != unicodedata.ucd_3_2_0.combining(sign)


@cache
def _table() -> np.ndarray:
    """Of every code point, bool [0x110000]."""
    table = np.zeros(0x110000, bool)
    table[0x80:] = [is_newer_sign(code) for code in range(0x80, len(table))]
    return table
