"""What a writer gives back, and the replacing of words in a text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, Sibling


@dataclass(frozen=True)
class Written:
    """A file with moved positions.

    Parameters
    ----------
    data
        The file.
    beside
        Files that have to lie beside it and were made with it, by their names.
    references
        Names of further files that it mentions, as it writes them: they are what they were.
    """

    data: bytes
    beside: dict[str, bytes] = field(default_factory=dict)
    references: tuple[str, ...] = ()


# A file's bytes, (V, 3) float32 positions in its own order, the most faces, what fetches files beside it, and the name
# without extension that the file will have.
Writer = Callable[[bytes, np.ndarray, int, Sibling | None, str], Written]

_WORD = re.compile(rb"[^\s#]+")


def check_count(vertices: np.ndarray, count: int) -> None:
    if vertices.shape != (count, 3):
        raise MeshFormatError(f"it has {count} vertices, and positions of {len(vertices)} are to be written into it")


def texts(values: np.ndarray) -> list[bytes]:
    """Numbers as words, the shortest that tell a float32 from its neighbours."""
    plain = values.reshape(-1) if values.dtype.kind == "i" else values.reshape(-1).astype(np.float32)
    return plain.astype(np.bytes_).tolist()


def replaced(data: bytes, starts: np.ndarray, words: list[bytes]) -> bytes:
    """The text with the words that begin at the bytes `starts` replaced."""
    pieces: list[bytes] = []
    at = 0
    order = np.argsort(starts, kind="stable")
    for start, text in zip(starts[order].tolist(), (words[i] for i in order.tolist()), strict=True):
        pieces += (data[at:start], text)
        word = _WORD.match(data, start)
        at = word.end() if word else start
    pieces.append(data[at:])
    return b"".join(pieces)
