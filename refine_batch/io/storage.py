"""Folders and files wherever they are: fsspec, wrapped once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from refine_batch.errors import RefineBatchError
from refine_batch.io.uri import redact, resolve

if TYPE_CHECKING:
    import fsspec

__all__ = ["FileTooLargeError", "Stamp", "Storage", "StorageError", "StoredFile", "fetch", "redact", "resolve", "stamp"]


class StorageError(RefineBatchError, OSError):
    """A store refused or failed for good, after every retry; the text holds no credentials."""


class FileTooLargeError(StorageError):
    """A file is larger than its reader accepts."""


@dataclass(frozen=True)
class Stamp:
    """A cheap identity of a file: its ETag, else size in bytes and time of last change (ns since the epoch)."""

    etag: str | None
    size: int | None
    modified: int | None


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
        The folder; it need not exist.
    s3_endpoint
        URL of an S3 server other than AWS's.
    """

    uri: str
    s3_endpoint: str | None = None

    @property
    def local(self) -> bool:
        """Whether this is a folder of this machine's file system."""
        raise NotImplementedError

    def child(self, path: str) -> Storage:
        """The folder `path` inside this one."""
        raise NotImplementedError

    def path_of(self, path: str) -> str:
        """Absolute URI of `path`."""
        raise NotImplementedError

    def read(self, path: str) -> bytes:
        """The whole file. Raises FileNotFoundError or StorageError."""
        raise NotImplementedError

    def open(self, path: str) -> BinaryIO:
        """The file, seekable, read in ranges of which each is retried on its own."""
        raise NotImplementedError

    def write(self, path: str, data: bytes) -> None:
        """Put the file whole or not at all, over one that is there."""
        raise NotImplementedError

    def create(self, path: str, data: bytes) -> bool:
        """Put the file unless there is one; False where there is.

        Exclusive on local file systems and on S3 servers that honour `If-None-Match`; elsewhere two callers at the same
        instant can both get True, and the later one's data stays.
        """
        raise NotImplementedError

    def list(self, prefix: str = "") -> list[StoredFile]:
        """Every file under the folder `prefix`, sorted by path, as it is now; empty where there is no such folder."""
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        raise NotImplementedError

    def delete(self, *paths: str) -> None:
        """Remove files; those that are not there are no error."""
        raise NotImplementedError

    def filesystem(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The fsspec file system of this process and the root's path in it, for pyarrow."""
        raise NotImplementedError


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
    raise NotImplementedError


def stamp(uri: str, *, s3_endpoint: str | None = None) -> Stamp:
    """Identity of an input file without reading it. Raises as `fetch` does."""
    raise NotImplementedError
