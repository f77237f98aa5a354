"""Token ids -> samples: documents end to end, cut into equal lengths."""

import numpy as np


class Packer:
    """Packs the documents of one skill and split into samples.

    Args:
        seq_len: Tokens in a sample, S.
        dtype: Of the samples.
    """

    def __init__(self, seq_len: int, dtype: type[np.uint16] | type[np.uint32]) -> None:
        self._seq_len = seq_len
        self._tail = np.empty(0, dtype)

    @property
    def tail_tokens(self) -> int:
        """Tokens that do not fill a sample yet."""
        return len(self._tail)

    def add(self, tokens: np.ndarray) -> np.ndarray:
        """Append a document and return the samples it completes; shape (n, S), n >= 0."""
        joined = np.concatenate([self._tail, tokens])
        whole = len(joined) // self._seq_len * self._seq_len
        # A copy, or a short tail would keep the whole of a long document alive.
        self._tail = joined[whole:].copy()
        return joined[:whole].reshape(-1, self._seq_len)
