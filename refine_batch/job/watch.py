"""Notices that the Ray under a run is lost, before Ray does: that takes it a minute, and then it ends the process."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from refine_batch.errors import RefineBatchError

LOOK_EVERY = 1.0
# Seconds after which Ray ends a process whose cluster does not answer; ours is done before.
RAYS_PATIENCE, RAYS_SETTING = 60.0, "RAY_gcs_rpc_server_reconnect_timeout_s"
DAEMONS = ("gcs_server", "raylet")
RESUME = "the same command goes on from here"


class ClusterLostError(RefineBatchError):
    """The Ray under the run is gone; the message says what was lost."""


class Watch:
    """Looks at one cluster, once a second.

    Parameters
    ----------
    own
        Whether it was started by this process: then its daemons are children of it.
    address
        HOST:PORT of its head.
    """

    def __init__(self, own: bool, address: str):
        self._own, self._address = own, address
        self._daemons = _children() if own else {}
        self._next = 0.0
        self._silent_since: float | None = None
        self._patience = 0.75 * float(os.environ.get(RAYS_SETTING, RAYS_PATIENCE))

    def check(self) -> None:
        """Raise ClusterLostError where it is lost; cheap enough for a loop."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_EVERY
        if self._own:
            for pid, name in self._daemons.items():
                if _name(pid) != name:
                    raise ClusterLostError(f"this machine's own Ray was lost: its process {name} ended; {RESUME}")
            return
        if self._answers():
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > self._patience:
            raise ClusterLostError(f"the Ray cluster {self._address} was lost: its head does not answer; {RESUME}")

    def explain(self, error: BaseException) -> ClusterLostError | None:
        """What an error of Ray's means where the cluster is gone; waits until that is certain. None where it lives."""
        import ray

        if not isinstance(error, ray.exceptions.RayError | ConnectionError | SystemError):
            return None
        while True:
            self._next = 0.0
            try:
                self.check()
            except ClusterLostError as lost:
                return lost
            if not self._own and self._silent_since is None:
                return None
            if self._own:
                return None
            time.sleep(LOOK_EVERY)

    def _answers(self) -> bool:
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_EVERY).close()
        except OSError:
            return False
        return True


def _children() -> dict[int, str]:
    """Process number and name of this process's children that are Ray's; none where the system does not tell."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        name = _name(pid, parent=os.getpid())
        if name is not None:
            found[pid] = name
    return found


def _name(pid: int, parent: int | None = None) -> str | None:
    """Which of Ray's daemons this process is; None where it is none, has ended, or has another parent."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return None
    state, above = rest.split()[:2]
    if name not in DAEMONS or state in "ZX" or (parent is not None and int(above) != parent):
        return None
    return name
