"""Text files of a manifest as they lie in storage: plain, or compressed as their name's end says."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa

from refine_batch.errors import RefineBatchError, UsageError
from refine_batch.io.storage import Storage
from refine_batch.io.uri import redact, redact_uri

_UNPACKED: dict[str, Callable[[BinaryIO], object]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda file: pa.CompressedInputStream(file, "zstd"),
}
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


def bare_name(name: str) -> str:
    """The name without the end that says how the file is compressed."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in _UNPACKED else name


@contextlib.contextmanager
def open_text(storage: Storage, path: str, buffer: int) -> Iterator[BinaryIO]:
    """The file's text as bytes, read forwards, `buffer` bytes of the file at a time.

    Raises
    ------
    UsageError
        It is compressed and damaged; raised by the reads within the context.
    """
    with storage.open(path, buffer=buffer) as file:
        unpacked = _UNPACKED.get(PurePosixPath(path).suffix.lower())
        if unpacked is None:
            yield file
            return
        try:
            with contextlib.closing(cast(BinaryIO, unpacked(file))) as inner:
                yield cast(BinaryIO, io.BufferedReader(inner, 1 << 20))  # type: ignore[type-var]
        except (RefineBatchError, FileNotFoundError):
            raise
        except _DAMAGE as error:
            where = redact_uri(storage.path_of(path))
            said = redact(str(error)).partition("\n")[0]
            raise UsageError(f"{where} is compressed and damaged, or cut short: {said}") from error


def not_utf8(storage: Storage, path: str, longest: int) -> str | None:
    """What to say of the first line that is not UTF-8 text; None where all are."""
    with open_text(storage, path, 1 << 20) as file:
        number = 0
        while line := file.readline(longest):
            number += 1
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number}, is not UTF-8 text{_hint(line, error.start, number)}"
    return None


def _hint(line: bytes, at: int, number: int) -> str:
    if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding, seen = "UTF-16", ""
    else:
        # Windows-1252 says what Latin-1 leaves empty, and is what such files usually are.
        around = line[max(0, at - 20) : at + 20].decode("cp1252", "replace").strip()
        encoding, seen = "WINDOWS-1252", f" ({redact(around)!r})"
    return f"{seen}: save it as UTF-8, perhaps with iconv -f {encoding} -t UTF-8"
