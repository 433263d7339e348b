"""Local files: writes that are whole or not at all, exclusive creation, listings."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

# Names that listings, and every glob of `*.parquet`, pass over.
TEMPORARY_SUFFIX = ".tmp"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write(path: str, data: bytes) -> None:
    """Temporary file in the same folder, fsync, rename: a reader, or a crash, sees the old file or the new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target, data) as temporary:
        os.replace(temporary, target)
    _sync_folder(target.parent)


def create(path: str, data: bytes) -> bool:
    """`write` unless the file is there: a hard link fails where one is, and never shows half a file."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target, data) as temporary:
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            return _create_without_links(target, data)
    _sync_folder(target.parent)
    return True


def _create_without_links(target: Path, data: bytes) -> bool:
    try:
        with open(target, "xb") as file:
            _write_and_sync(file, data)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def _temporary(target: Path, data: bytes) -> Iterator[Path]:
    # Names of 255 bytes are the limit, so the temporary one does not contain the target's.
    temporary = target.with_name(f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            _write_and_sync(file, data)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_and_sync(file, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # The rename itself must survive a power cut; some file systems cannot sync a folder.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def update(path: str, change: Callable[[bytes], bytes | None]) -> bytes | None:
    """Read-modify-write in place: what `change` made of the content, None where it left it as it is.

    The content is replaced in the very file that was read. If another was put in its place meanwhile, however long
    this process stood still in between, that one is left alone, and FileNotFoundError raised.
    """
    with open(path, "r+b", buffering=0) as file:
        data = file.read()
        changed = change(data)
        if changed is None:
            return None
        os.pwrite(file.fileno(), changed, 0)
        if len(changed) < len(data):
            file.truncate(len(changed))
        os.fsync(file.fileno())
        if os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
            raise FileNotFoundError(errno.ENOENT, "it was replaced meanwhile", path)
    return changed


def walk(folder: str, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """(path relative to `folder`, stat) of every file below `prefix`, hidden ones left out."""
    try:
        entries = list(os.scandir(os.path.join(folder, prefix)))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir():
            yield from walk(folder, path)
            continue
        try:
            yield path, entry.stat()
        except FileNotFoundError:
            continue  # removed since the folder was read


def listing(folder: str, prefix: str) -> list[tuple[str, os.stat_result]]:
    """What either of two walks saw.

    A file that is replaced by another during a walk can be missed by it together with its replacement: during the
    first, the second sees the replacement; during the second, the first has seen the file itself.
    """
    seen = dict(walk(folder, prefix))
    seen.update(walk(folder, prefix))
    return sorted(seen.items())


def is_away(path: str) -> bool:
    """Whether a file that is not there seems to lie on a file system that is not mounted.

    That is so where the nearest folder above it that exists is empty, as a mount point without its mount is.
    """
    folder = os.path.dirname(path)
    while True:
        try:
            with os.scandir(folder) as entries:
                return next(entries, None) is None
        except FileNotFoundError:
            above = os.path.dirname(folder)
            if above == folder:
                return False
            folder = above
        except (OSError, ValueError):
            return False


def exchange(first: str, second: str) -> bool:
    """Swap two folders in one step of the file system; False where it or the system cannot.

    Linux's renameat2 with RENAME_EXCHANGE: whoever lists either path sees one state or the other, nothing between.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV, errno.EPERM):
            return False
        raise OSError(code, os.strerror(code), first)
    _sync_folder(Path(first).parent)
    return True
