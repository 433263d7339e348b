"""URIs as text: what is local, what a relative one means, and what may be shown of one.

A local file is a plain absolute path; everything else keeps its scheme (`s3://bucket/key`).
"""

from __future__ import annotations

import os
import posixpath
import re
from functools import lru_cache
from urllib.parse import unquote

from refine_batch.errors import UsageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ONE_SLASH = re.compile(r"(?i)(s3|s3a|s3n|gs|gcs|az|abfs|https?|file|local):(?!//)")
_LOCAL_SCHEMES = ("file", "local")
# What lies inside another file: see `inside`.
_INSIDE = ("tar://", "parquet://")
_SYNONYMS = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


def scheme(uri: str) -> str:
    """The scheme in lower case; empty for a plain path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_local(uri: str) -> bool:
    """True for plain paths and `file://` URIs."""
    return scheme(uri) in ("", *_LOCAL_SCHEMES)


def is_http(uri: str) -> bool:
    return scheme(uri) in ("http", "https")


def is_inside(uri: str) -> bool:
    """Whether what a URI names lies inside another file."""
    return uri.startswith(_INSIDE)


def file_of(uri: str) -> str:
    """The file that holds what a URI names: itself, unless that lies inside another."""
    return uri.split("/", 3)[-1].rpartition("#")[0] if uri.startswith(_INSIDE) else uri


def in_file(uri: str, file: str) -> str:
    """The same place inside `file`, of a URI that `is_inside`."""
    head, _, rest = uri.partition("://")
    return f"{head}://{rest.partition('/')[0]}/{file}#{uri.rpartition('#')[2]}"


def is_absolute(uri: str) -> bool:
    """Whether a manifest's URI says all by itself where the file is."""
    uri = file_of(uri)
    return uri.startswith("/") or bool(_SCHEME.match(uri))


def normalise(uri: str) -> str:
    """An absolute local path, or the URI with its scheme; trailing slashes, `.` and `..` resolved.

    `file://` URIs are percent-decoded and become paths; relative paths are taken from the working directory.

    Raises
    ------
    UsageError
        The text is empty, or a scheme without a place.
    """
    uri = os.fspath(uri)
    if not uri.strip() or "\x00" in uri:
        raise UsageError(f"{uri!r} is not a path or URI")
    if is_inside(uri):
        return in_file(uri, normalise(file_of(uri)))
    name = scheme(uri)
    if not name:
        if _ONE_SLASH.match(uri):
            raise UsageError(f"{redact_uri(uri)} is neither a path nor a URI; a URI has two slashes after the colon")
        return os.path.abspath(uri)
    rest = uri[len(name) + len("://") :]
    if name in _LOCAL_SCHEMES:
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            raise UsageError(f"{redact_uri(uri)} is not a local path: write file:///absolute/path, or the path itself")
        return os.path.abspath(slash + unquote(path))
    name = _SYNONYMS.get(name, name)
    if name in ("http", "https"):
        return f"{name}://{rest}"
    host, _, path = rest.partition("/")
    if not host:
        raise UsageError(f"{redact_uri(uri)} names no bucket or host")
    path = _without_dots(path).rstrip("/")
    return f"{name}://{host}/{path}" if path else f"{name}://{host}"


def _without_dots(path: str) -> str:
    """Resolve `.` and `..` as a file system would; double slashes stay, which mean something in an object's key."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


def resolve(base: str, uri: str) -> str:
    """`uri` as `normalise` gives it, a relative one being relative to the folder `base` (itself absolute)."""
    if is_inside(uri):
        return in_file(uri, resolve(base, file_of(uri)))
    return normalise(uri) if is_absolute(uri) else normalise(join(base, uri))


def join(base: str, path: str) -> str:
    """`path` inside the folder `base`."""
    return base if not path else f"{base.rstrip('/')}/{path}"


def parent(uri: str) -> str:
    """The folder that holds `uri`, which `normalise` gave."""
    name = scheme(uri)
    if not name:
        return posixpath.dirname(uri)
    head, slash, _ = uri[len(name) + 3 :].rpartition("/")
    return f"{name}://{head}" if slash else uri


def user_of(uri: str) -> str:
    """What stands between the scheme and an `@`: a user, and perhaps a password; empty where there is none."""
    authority = uri[len(scheme(uri)) + len("://") :].partition("/")[0] if scheme(uri) else ""
    return authority.rpartition("@")[0]


# From the first letter on, so that a long word is looked at once.
_USER = re.compile(r"(?<![A-Za-z])([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#'\"<>]*@")
_QUERY = re.compile(r"(?<![A-Za-z])([A-Za-z][A-Za-z0-9+.-]*://[^\s?'\"<>]*)\?[^\s'\"<>]+")
_NAMED = re.compile(
    r"(?i)\b((?:[a-z0-9_-]*(?:secret|token|passw(?:or)?d|signature|credential|api_?key|access_?key(?:_?id)?))"
    r"['\"]?\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s&'\",;)}\]]+)"
)
_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")
_SECRET_NAMES = re.compile(r"(?i)(SECRET|TOKEN|PASSWORD|ACCESS_KEY)")
_MASK = "***"


def redact_uri(uri: str) -> str:
    """One URI without user, password and query; a local path as it is."""
    if is_local(uri) and scheme(uri) == "":
        return uri
    uri = _USER.sub(rf"\1{_MASK}@", uri)
    head, mark, _ = uri.partition("?")
    # An object's key may hold a question mark; only a name=value after it looks like a query.
    return f"{head}?{_MASK}" if mark and (is_http(uri) or "=" in uri[len(head) :]) else uri


def redact(text: str) -> str:
    """`text` without credentials: user and password, query strings of URIs, keys, and the process's own secrets."""
    text = str(text)
    for value in _own_secrets():
        text = text.replace(value, _MASK)
    text = _USER.sub(rf"\1{_MASK}@", text)
    text = _QUERY.sub(rf"\1?{_MASK}", text)
    text = _NAMED.sub(rf"\1{_MASK}", text)
    return _KEY_ID.sub(_MASK, text)


@lru_cache(maxsize=4096)
def _is_secret(name: bytes) -> bool:
    """Whether an environment's variable of this name holds a secret."""
    return bool(_SECRET_NAMES.search(os.fsdecode(name)))


def _own_secrets() -> list[str]:
    """Values of the environment's variables that hold secrets, longest first; short ones would garble the text."""
    # Names first, as they are: to decode all of them takes longer than all else that is done with a text.
    found = (os.environ.get(os.fsdecode(name), "") for name in os.environb if _is_secret(name))
    values = {value for value in found if len(value) >= 8 and not value.startswith("/")}
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    return sorted(values | ({secret} if len(secret) >= 5 else set()), key=len, reverse=True)
