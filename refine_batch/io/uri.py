"""URIs as text: what is local, what a relative one means, and what may be shown of one.

A local file is a plain absolute path; everything else keeps its scheme (`s3://bucket/key`).
"""

from __future__ import annotations


def normalise(uri: str) -> str:
    """An absolute local path, or the URI with its scheme; trailing slashes, `.` and `..` resolved.

    `file://` URIs are percent-decoded and become paths; relative paths are taken from the working directory.

    Raises
    ------
    UsageError
        The text is empty, or a scheme without a place.
    """
    raise NotImplementedError


def is_local(uri: str) -> bool:
    """True for plain paths and `file://` URIs."""
    raise NotImplementedError


def resolve(base: str, uri: str) -> str:
    """`uri` as `normalise` gives it, a relative one being relative to the folder `base` (itself absolute)."""
    raise NotImplementedError


def parent(uri: str) -> str:
    """The folder that holds `uri`."""
    raise NotImplementedError


def redact(text: str) -> str:
    """`text` without credentials: user and password, query strings of URIs, keys, and the process's own secrets."""
    raise NotImplementedError
