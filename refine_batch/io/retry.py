"""Retries with exponential backoff and full jitter, in one place."""

from __future__ import annotations

import errno
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long apart.

    The wait before attempt n + 1 is uniform in [0, min(cap, base·2ⁿ)] seconds, so that many actors that were throttled
    together do not come back together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). The
    defaults give up after about 12 s of waiting, and bound a store that stalls at attempts × its read timeout.
    """

    attempts: int = 8
    base: float = 0.25
    cap: float = 8.0

    def wait(self, attempt: int) -> float:
        return random.uniform(0.0, min(self.cap, self.base * 2.0**attempt))


POLICY = RetryPolicy()
_lock = threading.Lock()
_retries = 0


def retries() -> int:
    """How often this process has repeated a storage request so far (for metrics)."""
    return _retries


def retrying(operation: Callable[[], T], policy: RetryPolicy | None = None, *, until: float = math.inf) -> T:
    """The operation's result, repeating it while it fails for a reason that may pass; its last error otherwise.

    No attempt is begun after `until`, by `time.monotonic`.
    """
    global _retries
    policy = policy or POLICY
    attempt = 0
    while True:
        try:
            return operation()
        except Exception as error:
            wait = policy.wait(attempt)
            if attempt + 1 >= policy.attempts or not is_transient(error) or time.monotonic() + wait >= until:
                raise
        time.sleep(wait)
        attempt += 1
        with _lock:
            _retries += 1


# Of a file system, object store included: asking again cannot help.
_PERMANENT = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_TRANSIENT_ERRNO = frozenset(
    {errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EPIPE}
    | {errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENETUNREACH, errno.EHOSTUNREACH}
)
# A body that arrived torn or late is the connection's fault, though the answer is a 4xx.
_TRANSIENT_CODES = frozenset(
    {"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "SlowDown", "Throttling"}
    | {"ThrottlingException", "RequestLimitExceeded", "OperationAborted", "ConditionalRequestConflict"}
)
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 508, 509, 529})
_PERMANENT_CLIENT = ("NoCredentials", "PartialCredentials", "ParamValidation", "NoRegion", "InvalidURL", "SSL")


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: throttling, 5xx, timeouts and torn connections."""
    status, code = _answer(error)
    if code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS:
        return True
    if status is not None or isinstance(error, _PERMANENT):
        return False
    # asyncio's and fsspec's timeouts, and requests cut off in flight.
    if isinstance(error, (TimeoutError, ConnectionError, EOFError)) or type(error).__name__ == "FSTimeoutError":
        return True
    if type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp", "urllib3", "requests"):
        return not type(error).__name__.startswith(_PERMANENT_CLIENT)
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO


def refused(error: BaseException) -> bool:
    """Whether a server answered that it will not let this request through."""
    return _answer(error)[0] in (401, 403)


def _answer(error: BaseException) -> tuple[int | None, str | None]:
    """HTTP status and S3 error code behind an exception, where a server answered at all."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode"), response.get("Error", {}).get("Code")
        status = getattr(candidate, "status", None)
        if isinstance(status, int):
            return status, None
    return None, None
