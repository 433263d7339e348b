"""What is in a row's files, told by their bytes: a file that was touched but not changed is the same file.

Looked at only where a stamp changed, and only for rows all of whose files are local: an ETag is of the content already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from refine_batch.dataset.columns import MANIFEST_SCHEMA, MESHES, URIS, VIEWS
from refine_batch.dataset.hashing import hash_high
from refine_batch.dataset.views import resolve_views, view_uris
from refine_batch.io.beside import buffers_beside, may_keep_buffers_beside
from refine_batch.io.meshes import MAX_MESH_BYTES
from refine_batch.io.storage import StorageError, fetch
from refine_batch.io.uri import is_local, parent

_THREADS = 8
_LONGEST_LIST = 1 << 20


def digest_of(data: bytes) -> str:
    """32 hex digits of one file's bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def content_of(digests: Mapping[str, str | None]) -> str | None:
    """32 hex digits of a row's files; None where the digest of one of them is not known, or there are none.

    Parameters
    ----------
    digests
        By absolute URI.
    """
    if not digests or None in digests.values():
        return None
    return digest_of("\n".join(f"{digest} {uri}" for uri, digest in sorted(digests.items())).encode())


def contents(rows: pa.RecordBatch) -> np.ndarray:
    """(N,) uint64: the hash of each row's `content_of`, its files read here; 0 where it cannot be told."""
    named = [_files(row) for row in rows.select([n for n in MANIFEST_SCHEMA.names if n in (*URIS, VIEWS)]).to_pylist()]
    unique = list(dict.fromkeys(uri for uris in named for uri in uris or ()))
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(unique, pool.map(_digest, unique), strict=True))
    found = [None if uris is None else content_of({uri: digests[uri] for uri in uris}) for uris in named]
    return hash_high(pa.array(found, pa.string()))


def _files(row: dict[str, str | None]) -> list[str] | None:
    """Every file that a row names; None where one is not local, or cannot be known."""
    uris = [uri for name in URIS if (uri := row[name])]
    views = row[VIEWS]
    if row["views_uri"] and is_local(row["views_uri"]):
        try:
            text = fetch(row["views_uri"], max_bytes=_LONGEST_LIST).decode("utf-8", "replace")
        except (OSError, StorageError):
            return None
        views = resolve_views(text, parent(row["views_uri"]))
    if views:
        uris += view_uris(views)
    if not all(map(is_local, uris)):
        return None
    for uri in {row[name] for name in MESHES}:
        if uri and may_keep_buffers_beside(uri):
            try:
                uris += buffers_beside(uri, fetch(uri, max_bytes=MAX_MESH_BYTES))
            except (OSError, StorageError):
                return None
    return uris


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except (OSError, ValueError):
        return None
