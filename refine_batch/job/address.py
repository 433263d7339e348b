"""Which Ray cluster a run goes to: the one it was told, the one that `ray start` left on this machine, or its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from refine_batch.errors import UsageError
from refine_batch.io.storage import redact
from refine_batch.job import probe

# Seconds: a head that has just been started may not listen yet.
ANSWERS_WITHIN = 10.0
# Seconds for a cluster that was not asked for: it is there or it is not.
FOUND_WITHIN = 2.0
# Seconds for the import of Ray and one question.
PROBE_WITHIN = 60.0
LOCAL = "local"


class Refused(Exception):
    """A cluster that cannot be used; the text says why."""


@dataclass(frozen=True)
class Address:
    """Where a cluster is.

    Parameters
    ----------
    text
        HOST:PORT.
    source
        Who named it, for messages: `--address`, `RAY_ADDRESS`, or None for one that was found.
    """

    text: str
    source: str | None = None

    @property
    def shown(self) -> str:
        text = redact(self.text)
        return f"{self.source} {text}" if self.source else text

    def check(self) -> None:
        """Raise Refused where no cluster answers there, or it does not take us."""
        _require_listener(self.text, ANSWERS_WITHIN if self.source else FOUND_WITHIN)
        how = "named" if self.source else "found"
        command = [sys.executable, "-P", probe.__file__, self.text, how]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_WITHIN, check=False)
        except subprocess.TimeoutExpired:
            raise Refused("what answers there is no Ray cluster, or it stands still") from None
        answer = asked.stdout.strip()
        if answer == "token":
            raise Refused(_about_the_token())
        if answer != "yes":
            raise Refused(redact(answer or _last_line(asked.stderr) or "Ray did not say why"))


def choose(address: str | None) -> Address | str | None:
    """What to connect to: an address, `local` for a cluster of one's own, or None where none was asked for or found.

    Raises
    ------
    UsageError
        `auto` was asked for and there is no cluster, or an address that no run can go to.
    """
    source = "--address" if address else "RAY_ADDRESS"
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    if wanted == LOCAL:
        return LOCAL
    if wanted and wanted.startswith("ray://"):
        raise UsageError(
            f"{source} {redact(wanted)}: a run cannot be driven through Ray's client; submit it with "
            "`ray job submit -- python jobs/refine.py`, or give the cluster's own HOST:PORT"
        )
    if wanted and wanted != "auto":
        return Address(wanted, source)
    found = _noted()
    if wanted and not found:
        raise UsageError(
            f"{source} auto: no cluster was started on this machine with `ray start`; give its HOST:PORT, or local for "
            "one of the run's own"
        )
    return Address(found, f"{source} auto:" if wanted else None) if found else None


def _noted() -> str | None:
    """The cluster of which this machine is a node, by the note that `ray start` leaves.

    A Ray that a process started for itself leaves none, and ends with it: that one is not to be found.
    """
    from ray._private.utils import read_ray_address

    try:
        return read_ray_address() or None
    except (OSError, ValueError):
        return None


def _require_listener(address: str, within: float) -> None:
    """Raise Refused where nothing listens at HOST:PORT: Ray itself tries for many minutes, and fills the log."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()) or "/" in host:
        raise Refused("it is no HOST:PORT")
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=within).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > deadline or (isinstance(error, ConnectionRefusedError) and within < ANSWERS_WITHIN):
                reason = getattr(error, "strerror", None) or error
                raise Refused(
                    f"nothing answers there ({reason}); it is the HOST:PORT that `ray start --head` prints, mostly of "
                    "port 6379"
                ) from error
        time.sleep(min(0.5, within / 4))


def _about_the_token() -> str:
    token = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if os.environ.get("RAY_AUTH_MODE") == "token" and not token and not (Path.home() / ".ray" / "auth_token").exists():
        return (
            "RAY_AUTH_MODE is token, but there is no token: set RAY_AUTH_TOKEN to the cluster's, or "
            "RAY_AUTH_TOKEN_PATH to a file that holds it"
        )
    return (
        "it asks for a token that this process does not have: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the "
        "cluster's (its head has it in ~/.ray/auth_token)"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
