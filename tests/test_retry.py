"""Which failures are worth repeating, and how often."""

import errno

import botocore.exceptions
import pytest

from refine_batch.io import retry
from refine_batch.io.retry import RetryPolicy, is_transient, retrying


def answered(code: str, status: int) -> OSError:
    """What s3fs raises: an OSError whose cause holds the server's answer."""
    error = OSError(errno.EIO, code)
    error.__cause__ = botocore.exceptions.ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
    )
    return error


@pytest.mark.parametrize(
    "error",
    [
        answered("SlowDown", 503),
        answered("InternalError", 500),
        answered("RequestTimeout", 400),
        answered("TooManyRequests", 429),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"),
        TimeoutError(),
        ConnectionResetError(),
        OSError(errno.EIO, "I/O error"),
    ],
)
def test_transient(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        answered("AccessDenied", 403),
        answered("NoSuchKey", 404),
        answered("InvalidArgument", 400),
        answered("NotImplemented", 501),
        botocore.exceptions.NoCredentialsError(),
        FileNotFoundError(),
        PermissionError(),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError(),
    ],
)
def test_permanent(error):
    assert not is_transient(error)


def test_retrying_is_bounded_and_counts(monkeypatch):
    waits = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    calls = []

    def operation():
        calls.append(1)
        raise TimeoutError("no")

    before = retry.retries()
    with pytest.raises(TimeoutError):
        retrying(operation, RetryPolicy(attempts=6, base=1.0, cap=4.0))
    assert len(calls) == 6
    assert retry.retries() - before == 5
    assert all(0 <= wait <= limit for wait, limit in zip(waits, (1, 2, 4, 4, 4), strict=True))


def test_full_jitter_spreads_over_the_whole_interval():
    policy = RetryPolicy(base=1.0, cap=100.0)
    waits = [policy.wait(3) for _ in range(2000)]
    assert min(waits) < 0.5
    assert max(waits) > 7.5
    assert 3.5 < sum(waits) / len(waits) < 4.5


def test_retrying_returns_after_a_passing_failure(monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: None)
    failures = [TimeoutError(), answered("SlowDown", 503)]

    def operation():
        if failures:
            raise failures.pop()
        return "done"

    assert retrying(operation) == "done"


def test_a_permanent_failure_is_not_repeated():
    calls = []

    def operation():
        calls.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        retrying(operation)
    assert len(calls) == 1
