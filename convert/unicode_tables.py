"""Code points on which the Unicode tables of two encoders may differ: those that newer versions of Unicode have added.

An encoder asks its tables whether a sign is a letter, which decides where words end, and what its combining class is,
which decides the order of marks in the normalised text. What an older table does not have counts as unassigned in it,
and as no mark. So two encoders of one tokenizer can differ on signs that this Python does not know either, and on marks
that came after Unicode 3.2.
"""

import unicodedata

import numpy as np

# What a sign of so many bytes begins with in UTF-8, at least.
TWO_BYTES, THREE_BYTES, FOUR_BYTES = 0xC0, 0xE0, 0xF0
UNKNOWN = 2
# Of every code point whether it is newer, as far as any text has asked: to look all up takes half a second.
_TABLE = np.full(0x110000, UNKNOWN, np.uint8)
SURROGATES = range(0xD800, 0xE000)


def has_newer_signs(text: str | bytes) -> bool:
    """Whether a text, as a string or in UTF-8, holds a code point on which encoders may differ."""
    if text.isascii():
        return False
    codes = _codes_beyond_ascii(np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8))
    for code in np.unique(codes[_TABLE[codes] == UNKNOWN]).tolist():
        _TABLE[code] = is_newer_sign(code)
    return bool(_TABLE[codes].any())


def _codes_beyond_ascii(data: np.ndarray) -> np.ndarray:
    """The code points from U+0080 on of a text in UTF-8, uint8 [bytes]; uint32 [signs]."""
    begins = np.flatnonzero(data >= TWO_BYTES)
    first = data[begins].astype(np.uint32)
    # Of short signs these are of what follows; they are not used.
    second, third, fourth = (
        data[np.minimum(begins + more, len(data) - 1)].astype(np.uint32) & 0x3F for more in (1, 2, 3)
    )
    of_two = (first & 0x1F) << 6 | second
    of_three = (first & 0x0F) << 12 | second << 6 | third
    of_four = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
    return np.where(first < THREE_BYTES, of_two, np.where(first < FOUR_BYTES, of_three, of_four))


def is_newer_sign(code: int) -> bool:
    """Whether tables may differ on a code point."""
    sign = chr(code)
    if code in SURROGATES:
        return False  # in no text
    if unicodedata.category(sign) == 'Cn':
        return True
    return unicodedata.combining(sign) != unicodedata.ucd_3_2_0.combining(sign)
