"""Folders and files wherever they are: fsspec, wrapped once.

Every request is repeated with backoff while its failure may pass (`retry.retrying`); what is raised in the end is a
FileNotFoundError or a StorageError whose text names the URI and holds no credentials.
"""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from refine_batch.errors import RefineBatchError
from refine_batch.io import local, remote
from refine_batch.io.retry import is_transient, refused, retrying
from refine_batch.io.uri import file_of, is_inside, is_local, join, normalise, redact, redact_uri, resolve, user_of

if TYPE_CHECKING:
    import fsspec

__all__ = [
    "AccessDeniedError",
    "FileTooLargeError",
    "NotAFileError",
    "Stamp",
    "Storage",
    "StorageError",
    "StoreAwayError",
    "StoredFile",
    "failure",
    "fetch",
    "redact",
    "resolve",
    "stamp",
]

T = TypeVar("T")
_DELETE_AT_ONCE = 1000


class StorageError(RefineBatchError, OSError):
    """A store refused or failed for good, after every retry; the text holds no credentials."""


class StoreAwayError(StorageError):
    """The store did not answer, or only to say that it cannot at the moment; it may later."""


class AccessDeniedError(StorageError):
    """The store is there and works, but refuses."""


class NotAFileError(StorageError):
    """There is something else in the file's place: a folder, a pipe, a device."""


class FileTooLargeError(StorageError):
    """A file is larger than its reader accepts."""


@dataclass(frozen=True)
class Stamp:
    """A cheap identity of a file: its ETag, else size in bytes and time of last change (ns since the epoch)."""

    etag: str | None
    size: int | None
    modified: int | None

    def __str__(self) -> str:
        """Text that differs where the identity does; empty where the store tells too little."""
        if self.etag:
            return f"etag:{self.etag}"
        return f"size:{self.size},modified:{self.modified}" if None not in (self.size, self.modified) else ""


@dataclass(frozen=True)
class StoredFile:
    """One file of a listing; `path` is relative to the folder that was asked, `modified` is UTC."""

    path: str
    size: int
    modified: datetime | None
    etag: str | None


@dataclass(frozen=True)
class Storage:
    """A folder, local or at any fsspec URI. Holds no connection: pickles, and is safe across forks and threads.

    Parameters
    ----------
    uri
        The folder; it need not exist. Relative paths are made absolute here, so that other processes agree.
    s3_endpoint
        URL of an S3 server other than AWS's.
    """

    uri: str
    s3_endpoint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", normalise(self.uri))

    def __str__(self) -> str:
        return redact_uri(self.uri)

    @property
    def local(self) -> bool:
        """Whether this is a folder of this machine's file system."""
        return is_local(self.uri)

    def child(self, path: str) -> Storage:
        """The folder `path` inside this one."""
        return Storage(self.path_of(path), self.s3_endpoint)

    def path_of(self, path: str) -> str:
        """Absolute URI of `path`."""
        return join(self.uri, path)

    def read(self, path: str) -> bytes:
        """The whole file. Raises FileNotFoundError or StorageError."""
        return fetch(self.path_of(path), s3_endpoint=self.s3_endpoint)

    def open(self, path: str, *, size: int | None = None, buffer: int = 1 << 20) -> BinaryIO:
        """The file, seekable, read in ranges of which each is retried on its own.

        `size` in bytes, where a listing told it, saves a request; reads shorter than `buffer` bytes share one.
        """
        uri = self.path_of(path)
        if self.local:
            return cast(BinaryIO, _guarded("read", uri, lambda: open(uri, "rb")))
        if size is None:
            size = _guarded("read", uri, lambda: remote.info(uri, self.s3_endpoint)).get("size")
        if size is None:
            return io.BytesIO(self.read(path))  # web servers need not say

        def read_range(start: int, end: int) -> bytes:
            return _guarded("read", uri, lambda: remote.read_range(uri, self.s3_endpoint, start, end))

        reader = remote.RangeReader(read_range, int(size))
        return cast(BinaryIO, io.BufferedReader(reader, buffer) if buffer else reader)

    def write(self, path: str, data: bytes) -> None:
        """Put the file whole or not at all, over one that is there."""
        uri = self.path_of(path)
        if self.local:
            _guarded("write", uri, lambda: local.write(uri, data))
        else:
            _guarded("write", uri, lambda: remote.write(uri, self.s3_endpoint, data))

    def create(self, path: str, data: bytes) -> bool:
        """Put the file unless there is one; False where there is. `data` should be the caller's alone (hold a nonce).

        Exclusive on local file systems and on S3 servers that honour `If-None-Match`; elsewhere two callers at the same
        instant can both get True, and the later one's data stays.
        """
        uri = self.path_of(path)
        if self.local:
            return _guarded("write", uri, lambda: local.create(uri, data))
        if _guarded("write", uri, lambda: remote.create(uri, self.s3_endpoint, data)):
            return True
        # An attempt whose answer was lost, here or below in the HTTP client, may itself have put what is there now.
        try:
            return self.read(path) == data
        except FileNotFoundError:
            return False

    def update(self, path: str, change: Callable[[bytes], bytes | None], within: float) -> bytes | None:
        """Replace the file's content by what `change` makes of it, in at most `within` seconds.

        Returns the new content, None where `change` gave None and so left it as it is. On local file systems, and on S3
        servers that honour `If-Match`, nothing is overwritten but what `change` has seen, however late a write comes;
        elsewhere it may be. Local files are changed in place: keep the length, so that no reader sees half of it.

        Raises
        ------
        FileNotFoundError
            There is no such file, or a local one was replaced meanwhile.
        StorageError
            The store failed until the time was over.
        """
        uri, until = self.path_of(path), time.monotonic() + within

        def once() -> bytes | None:
            if self.local:
                return local.update(uri, change)
            return remote.update(uri, self.s3_endpoint, change, max(until - time.monotonic(), 0.1) / 2)

        return _guarded("update", uri, once, until)

    def list(self, prefix: str = "", starting_with: str = "") -> list[StoredFile]:
        """Every file under the folder `prefix`, sorted by path, as it is now; empty where there is no such folder.

        `starting_with` leaves out those whose path in that folder begins otherwise, on S3 within the request.
        Hidden files (a leading dot) are left out. A file that replaces another while the listing is made is never
        missed together with it, provided that on an object store its name sorts after the other's.
        """
        folder = self.path_of(prefix)
        if self.local:
            found = _guarded("list", folder, lambda: local.listing(self.uri, prefix.strip("/")))
            start = join(prefix.strip("/"), starting_with) if prefix else starting_with
            return [
                StoredFile(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), None)
                for path, status in found
                if path.startswith(start)
            ]
        root = remote.key_of(self.uri).rstrip("/") + "/"
        entries = _guarded("list", folder, lambda: remote.find(folder, self.s3_endpoint, starting_with))
        files = [
            StoredFile(e["name"].removeprefix(root), int(e["size"]), remote.modified_of(e), remote.etag_of(e))
            for e in entries
            if e["name"].startswith(root) and not e["name"].endswith("/")
        ]
        return sorted((f for f in files if not _hidden(f.path)), key=lambda f: f.path)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        try:
            stamp(self.path_of(path), s3_endpoint=self.s3_endpoint)
        except FileNotFoundError:
            return False
        return True

    def delete(self, *paths: str) -> None:
        """Remove files; those that are not there are no error."""
        uris = [self.path_of(path) for path in paths]
        if self.local:
            for uri in uris:
                _guarded("delete", uri, partial(_unlink, uri))
            return
        for start in range(0, len(uris), _DELETE_AT_ONCE):
            some = uris[start : start + _DELETE_AT_ONCE]
            _guarded("delete", some[0], partial(remote.delete, some, self.s3_endpoint))

    def filesystem(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The fsspec file system of this process and the root's path in it, for pyarrow."""
        if self.local:
            return remote.fsspec.filesystem("file"), self.uri
        return remote.filesystem(self.uri, self.s3_endpoint, own_retries=False), remote.key_of(self.uri)


def fetch(uri: str, *, s3_endpoint: str | None = None, max_bytes: int | None = None) -> bytes:
    """The bytes of an input file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    FileTooLargeError
        It has more than `max_bytes` bytes; no more than that is read.
    StorageError
        The store refuses, or still fails after every retry.
    """
    uri = normalise(uri)
    if is_inside(uri):
        from refine_batch.io.inside import read_inside

        return read_inside(uri, s3_endpoint, max_bytes)

    def once() -> bytes | None:
        if not is_local(uri):
            return remote.read(uri, s3_endpoint, max_bytes)
        _stat_file(uri)
        with open(uri, "rb") as file:
            data = file.read() if max_bytes is None else file.read(max_bytes + 1)
        return data if max_bytes is None or len(data) <= max_bytes else None

    data = _guarded("read", uri, once)
    if data is None:
        raise FileTooLargeError(f"{redact_uri(uri)} is larger than {max_bytes:,} bytes")
    return data


def stamp(uri: str, *, s3_endpoint: str | None = None) -> Stamp:
    """Identity of an input file, or of the one that it lies inside, without reading it. Raises as `fetch` does."""
    uri = file_of(normalise(uri))
    if is_local(uri):
        status = _guarded("read", uri, lambda: _stat_file(uri))
        return Stamp(None, status.st_size, status.st_mtime_ns)
    entry = _guarded("read", uri, lambda: remote.info(uri, s3_endpoint))
    if entry.get("type") == "directory":
        raise FileNotFoundError(errno.ENOENT, "there is no such file", redact_uri(uri))
    modified = remote.modified_of(entry)
    size = entry.get("size")
    return Stamp(
        remote.etag_of(entry),
        None if size is None else int(size),
        None if modified is None else int(modified.timestamp()) * 10**9,
    )


def _stat_file(path: str) -> os.stat_result:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError(f"{path} is a folder or a device, not a file")  # a pipe would block for ever
    return status


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _hidden(path: str) -> bool:
    return any(segment.startswith(".") for segment in path.split("/"))


def _guarded(verb: str, uri: str, operation: Callable[[], T], until: float = math.inf) -> T:
    """The operation with retries, its failures as errors for people."""
    try:
        return retrying(operation, until=until)
    except RefineBatchError:
        raise
    except Exception as error:
        # `from None`: the chain below may hold signed URLs and request headers.
        raise failure(verb, uri, error) from None


def failure(verb: str, uri: str, error: Exception) -> Exception:
    """A store's failure as an error for people: FileNotFoundError or a StorageError."""
    bucket_is_missing = "bucket does not exist" in str(error)
    if _says_absent(error) and verb != "write" and not bucket_is_missing:
        return FileNotFoundError(errno.ENOENT, "there is no such file", redact_uri(uri))
    kind = StoreAwayError if is_transient(error) else StorageError
    if isinstance(error, PermissionError) or refused(error):
        kind = AccessDeniedError
    return kind(f"cannot {verb} {redact_uri(uri)}: {_reason(error, uri)}")


def _says_absent(error: Exception) -> bool:
    names_nothing = (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
    return isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno in names_nothing)


def _reason(error: Exception, uri: str) -> str:
    def shown(text: str) -> str:
        # What stands between the scheme and an @ may come back without the scheme that tells it for what it is.
        return redact(text).replace(f"{user_of(uri)}@", "***@") if user_of(uri) else redact(text)

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the node a role"
    if isinstance(error, PermissionError):
        return f"access denied ({shown(error.strerror or str(error) or 'no reason given')})"
    if remote.timed_out(error):
        return "the store did not answer in time"
    text = shown(getattr(error, "strerror", None) or str(error)) or type(error).__name__
    return " ".join(text.split())[:300]
