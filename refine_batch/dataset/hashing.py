"""128-bit hashes of text, a column at a time."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Sortable as two unsigned numbers.
HASH = np.dtype([("high", "<u8"), ("low", "<u8")])


def hash_text(text: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(N,) of HASH over the UTF-8 bytes of each value."""
    digests = [blake2b(value, digest_size=16).digest() for value in _bytes(text)]
    return np.frombuffer(b"".join(digests), dtype=HASH)


def hash_hex(text: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """32 hex digits per value."""
    return pa.array([blake2b(value, digest_size=16).hexdigest() for value in _bytes(text)], pa.string())


def _bytes(text: pa.Array | pa.ChunkedArray) -> list[bytes]:
    return pc.cast(text, pa.binary()).to_pylist()


def hash_high(text: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(N,) uint64: half of each value's hash, enough to compare few values with; 0 for a null."""
    high = hash_text(pc.fill_null(text, ""))["high"].copy()
    high[text.is_null().to_numpy(zero_copy_only=False)] = 0
    return high
