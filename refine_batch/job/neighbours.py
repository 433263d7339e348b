"""The runs of one machine that each have a Ray of their own: how many there are, so that they share its cores.

Each holds a lock on a file of its own in a folder that all can write to; the system lets go of it however a run ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path

# Seconds for which a count is good enough.
COUNTED_EVERY = 2.0


class Neighbours:
    """Counts this run and its like.

    Parameters
    ----------
    folder
        Where the files are; the same for every user of the machine.
    """

    def __init__(self, folder: Path | None = None):
        self._folder = folder or Path(tempfile.gettempdir()) / "refine-batch-runs"
        self._path: Path | None = None
        self._held: int | None = None
        self._count, self._until = 1, 0.0

    def join(self) -> Neighbours:
        """Be counted; where the folder cannot be written to, this run counts itself alone."""
        with contextlib.suppress(OSError):
            if not self._folder.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._folder.chmod(0o1777)
            handle, name = tempfile.mkstemp(dir=self._folder)
            os.fchmod(handle, 0o644)
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._held, self._path = handle, Path(name)
        return self

    def count(self) -> int:
        """How many runs there are now, at least 1."""
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + COUNTED_EVERY
            self._count = 1 + sum(self._lives(path) for path in self._others())
        return self._count

    def leave(self) -> None:
        if self._held is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    def _others(self) -> list[Path]:
        try:
            return [path for path in self._folder.iterdir() if path != self._path]
        except OSError:
            return []

    @staticmethod
    def _lives(path: Path) -> bool:
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
        # One that was killed; another user's file stays, and counts for nothing.
        with contextlib.suppress(OSError):
            path.unlink()
        return False
