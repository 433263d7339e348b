"""One run per output.

The lock is a small file. It is made by a conditional put where the store has one, so that of two runs that start
together one gets it; where the store has none (it takes the later put of two), each run looks again after a moment
whether what is there is its own. It is renewed in the same way: by a put that changes nothing but the lock it has read,
and that is given up before the lock expires. Where a store takes any put, a late one of the run that the lock was taken
from is undone by the next heartbeat. A run that finds, at any heartbeat, that its lock is another's, stops: what two
runs wrote meanwhile is only work done twice, since the newest row of an instance is the truth.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from refine_batch.errors import RefineBatchError, UsageError
from refine_batch.io.storage import Storage, StorageError

LOCK = "lock.json"
_SETTLE = 0.5  # seconds; more than a put takes
_POLL = 2.0
# A renewal may take this share of the lock's time to live.
_PATIENCE = 1 / 3
# A lock's length, or a multiple of it: a renewal in place does not change it.
_PADDED = 1024


class OutputLockedError(UsageError):
    """Another run holds the output; the message names it."""


class LockLostError(RefineBatchError):
    """Another run took the output over while this one could not renew its lock."""


@dataclass(frozen=True)
class Holder:
    """What a lock file says: who holds it, and when they last were alive (`heartbeat_at`, Unix seconds)."""

    run_id: str
    purpose: str
    host: str
    boot: str
    pid: int
    process_started: str
    nonce: str
    started_at: float
    ttl: float
    heartbeat_at: float

    @classmethod
    def here(cls, run_id: str, purpose: str, ttl: float) -> Holder:
        now = time.time()
        pid = os.getpid()
        return cls(
            run_id, purpose, platform.node(), _boot(), pid, _started(pid) or "", secrets.token_hex(8), now, ttl, now
        )

    @classmethod
    def parse(cls, data: bytes) -> Holder | None:
        """None for a file that is no lock of ours; it counts as a stale one."""
        try:
            values = json.loads(data)
            return cls(**{name: values[name] for name in cls.__dataclass_fields__})
        except (ValueError, TypeError, KeyError):
            return None

    def dump(self) -> bytes:
        data = json.dumps(asdict(self), indent=2).encode()
        return data.ljust(-(-len(data) // _PADDED) * _PADDED - 1) + b"\n"

    def is_dead(self) -> bool:
        """True where this machine can tell that the holder's process has ended."""
        return self.boot != "" and self.boot == _boot() and _started(self.pid) != self.process_started

    def is_late(self) -> bool:
        """True where the heartbeat is out of date, by clocks that may differ between machines."""
        return abs(time.time() - self.heartbeat_at) > self.ttl

    def state(self) -> str:
        """`running`, `killed`, or `unknown` where its heart has not beaten for too long elsewhere."""
        return "killed" if self.is_dead() else "unknown" if self.is_late() else "running"

    def __str__(self) -> str:
        age = _duration(max(0.0, time.time() - self.started_at))
        beat = _duration(max(0.0, time.time() - self.heartbeat_at))
        return f"{self.purpose} {self.run_id} on {self.host} (process {self.pid}), started {age} ago, alive {beat} ago"


class OutputLock:
    """A lock file with a heartbeat, as a context manager.

    A lock is stale when its process is known to be dead (same host), or when its heartbeat is older than `ttl` seconds
    and does not move while it is watched; a stale lock is taken over.

    Parameters
    ----------
    storage
        The output folder.
    purpose
        What the holder does, for the message that others get.
    heartbeat
        Seconds between renewals; well below `ttl`.
    """

    def __init__(
        self, storage: Storage, run_id: str, *, purpose: str = "run", ttl: float = 60.0, heartbeat: float = 10.0
    ):
        self._storage = storage
        self._ttl, self._heartbeat = ttl, heartbeat
        self._holder = Holder.here(run_id, purpose, ttl)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._taken_by: Holder | None = None
        self._predecessor: str | None = None
        self._renewed = 0.0

    def acquire(self, wait: float = 0.0) -> OutputLock:
        """Take the lock, waiting up to `wait` seconds for its holder.

        Raises
        ------
        OutputLockedError
            Another run holds it.
        """
        deadline = time.monotonic() + wait
        while (holder := self._try()) is not None:
            if time.monotonic() >= deadline:
                raise OutputLockedError(
                    f"the output {self._storage} is in use by {holder}; wait for it to end, or stop it"
                    f" (a run that died is noticed after {_duration(holder.ttl)})"
                )
            time.sleep(min(_POLL, max(0.0, deadline - time.monotonic())))
        self._renewed = _clock()
        self._thread = threading.Thread(target=self._keep, name="output-lock", daemon=True)
        self._thread.start()
        return self

    def _try(self) -> Holder | None:
        """One attempt; the holder where there is one."""
        data, taken_over = self._read(), False
        self._predecessor = None
        if data is not None:
            holder = Holder.parse(data)
            self._predecessor = holder.nonce if holder is not None else None
            if holder is None:
                time.sleep(_SETTLE)  # it may just be being written
            elif not holder.is_dead():
                if not holder.is_late():
                    return holder
                # Its clock may be off. A living holder moves its heartbeat while it is watched.
                time.sleep(1.5 * self._heartbeat)
                if self._read() not in (data, None):
                    return self._current() or holder
            taken_over = True
        self._holder = replace(self._holder, started_at=time.time(), heartbeat_at=time.time())
        if not self._put(data):
            return self._current() or self._holder
        # Where the store has no conditional put, or two took over one stale lock, the last put stays: look again.
        if taken_over or not self._storage.local:
            time.sleep(_SETTLE)
        current = self._current()
        return None if current is not None and current.nonce == self._holder.nonce else current or self._try()

    def _put(self, stale: bytes | None) -> bool:
        """Make the lock, in the place of a stale one where there is one; whether that came to pass."""
        mine = self._holder.dump()
        if stale is not None and self._storage.local:
            # A new file: what its former holder still writes goes into the old one.
            if self._read() == stale:
                self._storage.delete(LOCK)
        elif stale is not None:
            try:
                return self._storage.update(LOCK, lambda data: mine if data == stale else None, self._ttl) is not None
            except FileNotFoundError:
                pass
        return self._storage.create(LOCK, mine)

    def _read(self) -> bytes | None:
        try:
            return self._storage.read(LOCK)
        except FileNotFoundError:
            return None

    def _current(self) -> Holder | None:
        data = self._read()
        return None if data is None else Holder.parse(data)

    def _keep(self) -> None:
        while not self._stop.wait(self._heartbeat):
            if self._is_late():
                # Others may have come and gone meanwhile: that the file is ours, or not there, proves nothing. Without
                # further beats the lock stays lost.
                return
            begun = _clock()
            try:
                self._renew(min(_PATIENCE * self._ttl, self._ttl - (begun - self._renewed)))
            except (StorageError, OSError):
                continue  # the next beat tries again; `lost` tells once it has gone on for too long
            if self._taken_by is not None:
                return
            self._renewed = begun

    def _renew(self, within: float) -> None:
        self._holder = replace(self._holder, heartbeat_at=time.time())
        found: list[Holder] = []

        def renewed(data: bytes) -> bytes | None:
            current = Holder.parse(data)
            found[:] = [current] if current is not None else []
            if current is None or current.nonce in (self._holder.nonce, self._predecessor):
                return self._holder.dump()
            return None

        try:
            if self._storage.update(LOCK, renewed, within) is None:
                self._taken_by = found[0]
        except FileNotFoundError:
            # Removed by hand, or by another's late release. Whoever has made a new one meanwhile is found by the next.
            if not self._is_late():
                self._storage.create(LOCK, self._holder.dump())

    def release(self) -> None:
        """Give the lock back; never raises."""
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(timeout=self._heartbeat + 5)
        self._thread = None
        try:
            current = self._current()
            if current is not None and current.nonce == self._holder.nonce:
                self._storage.delete(LOCK)
        except (StorageError, OSError):
            return  # it will be found stale

    @property
    def lost(self) -> bool:
        """Whether another run holds the lock by now, or it could not be renewed for `ttl` seconds."""
        return self._taken_by is not None or self._is_late()

    def _is_late(self) -> bool:
        return _clock() - self._renewed > self._ttl

    def check(self) -> None:
        """Raise LockLostError if the lock is lost; cheap, for the driver's loop."""
        if self._taken_by is not None:
            raise LockLostError(f"the output {self._storage} was taken over by {self._taken_by}; this run stops")
        if self.lost:
            raise LockLostError(
                f"the lock of {self._storage} could not be renewed for {_duration(self._ttl)}, so that another run may"
                " have taken the output over; this run stops"
            )

    def __enter__(self) -> OutputLock:
        return self if self._thread is not None else self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()


def holder_of(storage: Storage) -> Holder | None:
    """Who the lock that this machine finds in the folder is of, dead or alive; None where it finds none."""
    try:
        return Holder.parse(storage.read(LOCK))
    except FileNotFoundError:
        return None


def held_by(storage: Storage) -> str | None:
    """The run whose lock this machine finds in the folder; None where it finds none."""
    holder = holder_of(storage)
    return holder.run_id if holder else None


def _clock() -> float:
    """Seconds that go on while the machine is suspended, where it can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _boot() -> str:
    """Identity of this machine since it started, and of its space of process numbers; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process of this machine started, in the kernel's ticks; None where there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
