"""Ray's temporary folder: whether a Ray can be started in it, and what to do where not."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from refine_batch.errors import UsageError
from refine_batch.io.storage import redact

# Its logs, and what its processes need before the first of them can say that there was no room.
ROOM = 50 << 20
# `<folder>/ray/session_2026-01-31_12-05-01_123456_1234567/sockets/plasma_store` has to fit a socket's address.
LONGEST = 107 - len("/ray/session_2026-01-31_12-05-01_123456_1234567/sockets/plasma_store")
_ELSEWHERE = "or name another folder by RAY_TMPDIR"


def temporary_folder() -> str:
    """Where Ray will put its sessions."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"


def check_folder(folder: str) -> None:
    """Raise UsageError where no Ray can be started in this folder; Ray itself takes half a minute, and forty lines."""
    if len(os.fsencode(os.path.abspath(folder))) > LONGEST:
        raise UsageError(
            _sentence(folder, f"its path is longer than {LONGEST} bytes: name a shorter one by RAY_TMPDIR")
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UsageError(_sentence(folder, _of_the_system(error))) from error
    if free < ROOM:
        raise UsageError(
            _sentence(
                folder, f"it has {free / 1e6:.0f} MB left and {ROOM / 1e6:.0f} are needed: free some, {_ELSEWHERE}"
            )
        )


def why_not_started(folder: str, error: BaseException) -> str:
    """A sentence about a Ray that did not start."""
    if isinstance(error, OSError) and error.errno:
        return _sentence(folder, _of_the_system(error))
    reason = redact(" ".join(str(error).split())[:300]) or type(error).__name__
    logs = Path(folder) / "ray" / "session_latest" / "logs"
    return f"this machine's own Ray could not be started: {reason} Its logs are in {logs}"


def _of_the_system(error: OSError) -> str:
    what = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"it is full: free some space there, {_ELSEWHERE}"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"it cannot be written to ({what}): mend that, {_ELSEWHERE}"
    return (
        f"{what} ({error.filename}): mend that, {_ELSEWHERE}" if error.filename else f"{what}: mend that, {_ELSEWHERE}"
    )


def _sentence(folder: str, reason: str) -> str:
    return f"this machine's own Ray cannot be started in the temporary folder {redact(folder)}: {reason}"
