"""Identities of a million input files with few requests."""

from __future__ import annotations

import pyarrow as pa

MISSING = "missing"


class InputStamper:
    """Stamps URIs: a folder that many rows share is listed once, other files are asked for one by one, in parallel.

    Parameters
    ----------
    s3_endpoint
        URL of an S3 server other than AWS's.
    """

    def __init__(self, s3_endpoint: str | None = None):
        raise NotImplementedError

    def stamps(self, uris: pa.Array) -> pa.Array:
        """One string per absolute URI, null where it is null: `MISSING` where there is no such file, else text that
        changes when the file does (ETag; else size and time; else a hash of the content).

        Raises
        ------
        StorageError
            The store still fails after every retry.
        """
        raise NotImplementedError
