"""Keeps what a library's native code writes to standard output and error away from the terminal.

Ray's C++ writes to the file descriptors themselves, where no Python logger reaches. So the descriptors lead to a file
for as long as Ray is there, and Python's own streams, through which this program speaks, to where they led before.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import IO, Any

STREAMS = {1: "stdout", 2: "stderr"}


class Quiet:
    """A context manager. Where Python's streams are not the descriptors (under a test), those alone are turned away."""

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._streams: dict[str, Any] = {}
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Quiet:
        self._said = tempfile.TemporaryFile(buffering=0)
        for number, name in STREAMS.items():
            stream = getattr(sys, name)
            try:
                self._before[number] = os.dup(number)
            except OSError:
                continue  # closed, as a daemon's are
            if _number(stream) == number:
                stream.flush()
                self._streams[name] = stream
                text = {"encoding": stream.encoding, "errors": stream.errors}
                setattr(sys, name, open(self._before[number], "w", buffering=1, closefd=False, **text))
            os.dup2(self._said.fileno(), number)
        return self

    def said(self) -> str:
        """What was kept away so far, the last 100 kB of it."""
        if self._said is None:
            return ""
        size = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), 100_000, max(0, size - 100_000)).decode(errors="replace")

    def __exit__(self, *exception: object) -> None:
        for name, stream in self._streams.items():
            with contextlib.suppress(OSError, ValueError):
                getattr(sys, name).flush()
            setattr(sys, name, stream)
        for number, kept in self._before.items():
            os.dup2(kept, number)
            os.close(kept)
        if self._said is not None:
            self._said.close()
        self._streams, self._before, self._said = {}, {}, None


def _number(stream: Any) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
