"""Files that were touched but not changed: what their bytes told once is remembered, and they are not read again.

`OUTPUT/touched.npy` holds a few hashes of each row with such files. No result depends on it: where it is lost, they are
read once more.
"""

from __future__ import annotations

import io

import numpy as np

from refine_batch.io.storage import Storage, StorageError

FILE = "touched.npy"
# Of the row's id (128 bits), of the fingerprint in its newest result, and of the one that its files have by now.
TOUCHED = np.dtype([("high", "<u8"), ("low", "<u8"), ("result", "<u8"), ("now", "<u8")])


def recall(storage: Storage) -> np.ndarray:
    """(T,) of TOUCHED; empty where nothing was remembered, or the file is damaged."""
    try:
        found = np.load(io.BytesIO(storage.read(FILE)), allow_pickle=False)
    except (FileNotFoundError, StorageError, ValueError, EOFError):
        return np.empty(0, TOUCHED)
    return found if found.dtype == TOUCHED and found.ndim == 1 else np.empty(0, TOUCHED)


def remember(storage: Storage, touched: np.ndarray) -> None:
    """Put (T,) of TOUCHED in the place of what was remembered. Raises StorageError."""
    sink = io.BytesIO()
    np.save(sink, touched, allow_pickle=False)
    storage.write(FILE, sink.getvalue())
