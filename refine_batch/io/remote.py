"""Remote stores through fsspec, S3 above all: one file system per process and endpoint, one attempt per call.

Nothing here repeats anything: `retry.retrying` does, around each call, for all stores alike.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import fsspec
import fsspec.asyn
from fsspec.core import strip_protocol

from refine_batch.errors import UsageError
from refine_batch.io.retry import retrying
from refine_batch.io.uri import is_http, redact_uri, scheme

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
# The HTTP client's own timeouts do not cover a put that waits for "100 Continue"; this bounds a whole exchange.
ANSWER_TIMEOUT = 60.0
SLOWEST_UPLOAD = 256 << 10  # bytes per second
# Requests in flight per process: listings and stamps come from this many threads.
CONNECTIONS = 32
# Keys in one answer of a listing: as many as S3 gives.
_PAGE = 1000


_cache: dict[tuple, fsspec.AbstractFileSystem] = {}
_cache_lock = threading.Lock()


def filesystem(uri: str, s3_endpoint: str | None, *, own_retries: bool = True) -> fsspec.AbstractFileSystem:
    """The file system for a URI, one per process, so that the threads of a pool share its connections.

    fsspec's own cache keeps one per thread, and a client costs 0.1 s to make. Forked processes make their own.

    `own_retries` leaves repeating to `retrying`; False keeps s3fs's, for callers that go to the file system directly.

    Raises
    ------
    UsageError
        No installed package reads such URIs.
    """
    protocol = scheme(uri)
    key = (os.getpid(), protocol, s3_endpoint if protocol == "s3" else None, own_retries)
    with _cache_lock:
        fs = _cache.get(key)
        if fs is None:
            fs = _cache[key] = _new_filesystem(uri, protocol, s3_endpoint)
            if protocol == "s3" and own_retries:
                fs.retries = 1
        return fs


def _new_filesystem(uri: str, protocol: str, s3_endpoint: str | None) -> fsspec.AbstractFileSystem:
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol == "s3":
        options |= _s3_options(s3_endpoint)
    elif is_http(uri):
        options |= _http_options()
    try:
        return fsspec.filesystem(protocol, **options)
    except (ImportError, ValueError, TypeError) as error:
        raise UsageError(
            f"{redact_uri(uri)} cannot be read: {protocol}:// URIs need a package that is not installed ({error})"
        ) from error


# File systems of the parent process. Letting them go would close their connections through the event loop's epoll
# object, which both processes share: the parent would no longer hear from its own sockets.
_inherited: list[dict] = []


def _after_fork() -> None:
    global _cache, _cache_lock
    _inherited.append(_cache)
    _cache = {}
    _cache_lock = threading.Lock()  # another thread may have held it


os.register_at_fork(after_in_child=_after_fork)


def _s3_options(endpoint: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "max_pool_connections": 2 * CONNECTIONS,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
    }
    if endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # Servers other than AWS's reject or garble the checksum trailers that newer SDKs send by default.
        config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    options: dict[str, Any] = {"config_kwargs": config}
    if endpoint:
        options["endpoint_url"] = endpoint
    return options


def _http_options() -> dict[str, Any]:
    from aiohttp import ClientTimeout

    # Without these a server that accepts and then says nothing is waited for five minutes.
    return {"client_kwargs": {"timeout": ClientTimeout(None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)}}


def key_of(uri: str) -> str:
    """The path that fsspec's file systems take."""
    return uri if is_http(uri) else strip_protocol(uri)


def read(uri: str, endpoint: str | None, limit: int | None = None) -> bytes | None:
    """The whole file with one request, or None where it is longer than `limit` bytes (no more than that is read)."""
    fs = filesystem(uri, endpoint)
    if scheme(uri) == "s3":
        return fsspec.asyn.sync(fs.loop, _get_object, fs, key_of(uri), {}, limit)
    if is_http(uri):
        return fsspec.asyn.sync(fs.loop, _get_page, fs, uri, limit)
    if limit is None:
        return fs.cat_file(key_of(uri))
    with fs.open(key_of(uri), "rb") as file:
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


def read_range(uri: str, endpoint: str | None, start: int, end: int) -> bytes:
    """Bytes `start` to `end` (exclusive), all of which the file must have."""
    fs = filesystem(uri, endpoint)
    if scheme(uri) == "s3":
        data = fsspec.asyn.sync(fs.loop, _get_object, fs, key_of(uri), {"Range": f"bytes={start}-{end - 1}"}, None)
    else:
        data = fs.cat_file(key_of(uri), start=start, end=end)
        if len(data) > end - start:
            data = data[start:end]  # a web server that knows no ranges sends everything
    if len(data) != end - start:
        raise EOFError(f"{len(data)} bytes came of {end - start}")
    return data


async def _get_object(fs, path: str, options: dict[str, str], limit: int | None) -> bytes | None:
    # Not s3fs's cat_file, which asks for the size first: two round trips for every small file.
    bucket, key, version = fs.split_path(path)
    if version:
        options = options | {"VersionId": version}
    answer = await asyncio.wait_for(fs._call_s3("get_object", Bucket=bucket, Key=key, **options), ANSWER_TIMEOUT)
    try:
        if limit is not None and answer["ContentLength"] > limit:
            return None
        return await answer["Body"].read()
    finally:
        answer["Body"].close()


async def _get_page(fs, url: str, limit: int | None) -> bytes | None:
    # Not fsspec's stream, which asks for the size first and takes any failure to tell it for a file that is not there.
    session = await fs.set_session()
    async with session.get(fs.encode_url(url), **fs.kwargs) as answer:
        fs._raise_not_found_for_status(answer, url)
        if limit is None:
            return await answer.read()
        chunks, left = [], limit
        async for chunk in answer.content.iter_any():
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                return None
        return b"".join(chunks)


def write(uri: str, endpoint: str | None, data: bytes) -> None:
    fs = filesystem(uri, endpoint)
    if scheme(uri) == "s3":
        fs.pipe_file(key_of(uri), data, timeout=_upload_timeout(data))
    else:
        fs.makedirs(fs._parent(key_of(uri)), exist_ok=True)
        fs.pipe_file(key_of(uri), data)


def _upload_timeout(data: bytes) -> float:
    return ANSWER_TIMEOUT + len(data) / SLOWEST_UPLOAD


def _call(fs, method: str, timeout: float | None = None, **request: Any) -> dict[str, Any]:
    """One S3 request by its boto name."""
    return fsspec.asyn.sync(fs.loop, fs._call_s3, method, timeout=timeout or ANSWER_TIMEOUT, **request)


def create(uri: str, endpoint: str | None, data: bytes) -> bool:
    """Put unless there; False where the store says, or a look just before shows, that there is one."""
    try:
        info(uri, endpoint)
        return False
    except FileNotFoundError:
        pass
    fs = filesystem(uri, endpoint)
    if scheme(uri) != "s3":
        write(uri, endpoint, data)
        return True
    bucket, key, _ = fs.split_path(key_of(uri))
    try:
        _call(fs, "put_object", Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    except OSError as error:
        if isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412"):
            return False
        if _code(error) not in ("NotImplemented", "501"):
            raise
        write(uri, endpoint, data)
    return True


class ChangedMeanwhileError(ConnectionError):
    """Another wrote between a look and a conditional put: the same again may succeed."""


def update(uri: str, endpoint: str | None, change: Callable[[bytes], bytes | None], timeout: float) -> bytes | None:
    """Read-modify-write: what `change` made of the content, None where it left it as it is.

    On S3 by a conditional put, where the server honours it: a put that is late, or beside another's, changes nothing.
    """
    fs = filesystem(uri, endpoint)
    if scheme(uri) != "s3":
        changed = change(fs.cat_file(key_of(uri)))
        if changed is not None:
            write(uri, endpoint, changed)
        return changed
    place = dict(zip(("Bucket", "Key"), fs.split_path(key_of(uri)), strict=False))
    data, etag = fsspec.asyn.sync(fs.loop, _get_tagged, fs, place, timeout=timeout)
    changed = change(data)
    if changed is None:
        return None
    try:
        _call(fs, "put_object", timeout, **place, Body=changed, **({"IfMatch": etag} if etag else {}))
    except OSError as error:
        if _code(error) in ("PreconditionFailed", "412"):
            raise ChangedMeanwhileError("the file was changed meanwhile") from None
        if _code(error) not in ("NotImplemented", "501"):
            raise
        _call(fs, "put_object", timeout, **place, Body=changed)
    return changed


async def _get_tagged(fs, place: dict[str, str]) -> tuple[bytes, str | None]:
    answer = await fs._call_s3("get_object", **place)
    try:
        return await answer["Body"].read(), answer.get("ETag")
    finally:
        answer["Body"].close()


def delete(uris: list[str], endpoint: str | None) -> None:
    """Remove up to 1000 files, on S3 with one request."""
    fs = filesystem(uris[0], endpoint)
    if scheme(uris[0]) != "s3":
        for uri in uris:
            if fs.exists(key_of(uri)):
                fs.rm_file(key_of(uri))
        return
    split = [fs.split_path(key_of(uri)) for uri in uris]
    objects = [{"Key": key} for _, key, _ in split]
    answer = _call(fs, "delete_objects", Bucket=split[0][0], Delete={"Objects": objects, "Quiet": True})
    errors = [e for e in answer.get("Errors", ()) if e.get("Code") not in ("NoSuchKey", "404")]
    if errors:
        message = f"{errors[0].get('Code')}: {errors[0].get('Message')}"
        raise (PermissionError if errors[0].get("Code") == "AccessDenied" else ConnectionError)(message)


def info(uri: str, endpoint: str | None) -> dict[str, Any]:
    """fsspec's entry of one file, on S3 with one request."""
    fs = filesystem(uri, endpoint)
    if is_http(uri):
        return _page_info(fs, uri)
    if scheme(uri) != "s3":
        return fs.info(key_of(uri))
    bucket, key, version = fs.split_path(key_of(uri))
    if not key:
        raise FileNotFoundError(uri)
    answer = _call(fs, "head_object", Bucket=bucket, Key=key, **({"VersionId": version} if version else {}))
    return {"ETag": answer.get("ETag"), "LastModified": answer.get("LastModified"), "size": answer["ContentLength"]}


def _page_info(fs, url: str) -> dict[str, Any]:
    """fsspec's entry of a page; it says "no such file" of whatever goes wrong, a refused connection too."""
    try:
        return fs.info(url)
    except FileNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, Exception) and getattr(cause, "status", None) not in _GONE:
            raise cause from None
        raise


_GONE = (404, 410)


def find(folder: str, endpoint: str | None, starting_with: str = "") -> list[dict[str, Any]]:
    """fsspec's entries of every file below `folder`, in the store's order; empty where there is no such folder.

    With `starting_with` only of those whose path in the folder begins so.
    """
    fs = filesystem(folder, endpoint)
    root = key_of(folder).rstrip("/")
    options = {"prefix": starting_with} if starting_with and scheme(folder) == "s3" else {}
    try:
        entries = fs.find(root, detail=True, **options).values()
        # A folder that comes into being meanwhile is told as if it were a file.
        return [e for e in entries if e["name"].startswith(f"{root}/{starting_with}")]
    except FileNotFoundError:
        if scheme(folder) == "s3":
            raise  # the bucket: that of a folder is an empty listing
        return []


def s3_pages(folder: str, endpoint: str | None, start_after: str | None = None) -> Iterator[list[tuple[str, str]]]:
    """(key, ETag) of every object below `folder`, a page of up to 1000 at a time, in the order of keys."""
    fs = filesystem(folder, endpoint)
    bucket, prefix, _ = fs.split_path(key_of(folder))
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", "MaxKeys": _PAGE}
    if start_after:
        request["StartAfter"] = start_after
    while True:
        page = retrying(lambda: _call(filesystem(folder, endpoint), "list_objects_v2", **request))
        yield [(f"{bucket}/{o['Key']}", o.get("ETag", "")) for o in page.get("Contents", ())]
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def etag_of(entry: dict[str, Any]) -> str | None:
    value = entry.get("ETag") or entry.get("etag") or ""
    return value.removeprefix("W/").strip('"') or None


def modified_of(entry: dict[str, Any]) -> datetime | None:
    """Time of last change, whole seconds: a listing and a single look differ in the fractions."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "modified", "created"):
        value = entry.get(name)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(int(value), UTC)
    return None


def _code(error: BaseException) -> str | None:
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


class RangeReader(io.RawIOBase):
    """A remote file as a seekable stream; each range that is read is one request, repeated on its own when it fails."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int):
        self._read_range, self._size, self._position = read_range, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        data = self._read_range(self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def timed_out(error: BaseException) -> bool:
    return isinstance(error, (TimeoutError, asyncio.TimeoutError)) or "Timeout" in type(error).__name__
