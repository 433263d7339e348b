"""One run per output."""

from __future__ import annotations

from refine_batch.errors import RefineBatchError, UsageError
from refine_batch.io.storage import Storage

LOCK = "lock.json"


class OutputLockedError(UsageError):
    """Another run holds the output; the message names it."""


class LockLostError(RefineBatchError):
    """Another run took the output over while this one could not renew its lock."""


class OutputLock:
    """A lock file with a heartbeat, as a context manager.

    A lock is stale when its process is known to be dead (same host), or when its heartbeat is older than `ttl` and does
    not move while it is watched; a stale lock is taken over.
    """

    def __init__(
        self, storage: Storage, run_id: str, *, purpose: str = "run", ttl: float = 60.0, heartbeat: float = 10.0
    ): ...

    def acquire(self, wait: float = 0.0) -> OutputLock:
        """Take the lock, waiting up to `wait` seconds for its holder. Raises OutputLockedError."""
        raise NotImplementedError

    def release(self) -> None:
        """Give the lock back; never raises."""
        raise NotImplementedError

    @property
    def lost(self) -> bool:
        """Whether another run holds the lock by now, or it could not be renewed for `ttl` seconds."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise LockLostError if the lock is lost; cheap, for the driver's loop."""
        raise NotImplementedError

    def __enter__(self) -> OutputLock:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()
