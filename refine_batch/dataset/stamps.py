"""Identities of a million input files with few requests."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.hashing import hash_text
from refine_batch.errors import UsageError
from refine_batch.io import local, remote
from refine_batch.io.retry import is_transient
from refine_batch.io.storage import StorageError, StoreAwayError, failure, fetch, stamp
from refine_batch.io.uri import file_of, is_local, normalise, parent, redact_uri, scheme

T = TypeVar("T")

MISSING = "missing"
# There may be such a file, but it may not be looked at; a row that names one fails when it is loaded.
UNREADABLE = "unreadable"
# The store did not answer; of a local file: nothing is mounted where it should be.
AWAY = "away"

_CHUNK = 256
# Seconds that a look at a local file takes where it has to be waited for: a network, a disk that is not cached.
_FAR = 50e-6
# A listing tells 1000 objects in about the time of five single looks, of which a pool has 32 in flight.
_LIST_FROM = 32
_LIST_PER_WANTED = 10
_LIST_AT_LEAST = 2000
_CLIMB = 3
_LONGEST_CONTENT = 1 << 30
_LONGEST_LIST = 1 << 20
# Seconds for which a store that did not answer is not asked again: each asking takes all its retries.
_REST = 30.0


class InputStamper:
    """Stamps URIs: a folder that many rows share is listed once, other files are asked for one by one, in parallel.

    Files on S3 are looked up in listings of the folders that hold many of them, or, where each has a folder of its own,
    of a folder up to three levels above. A listing goes on only as far as it is worth it (ten listed keys per wanted
    one), so that a handful of files among millions of others is asked for singly. It is kept, at 16 bytes a file.

    Parameters
    ----------
    s3_endpoint
        URL of an S3 server other than AWS's.
    """

    def __init__(self, s3_endpoint: str | None = None):
        self.s3_endpoint = s3_endpoint
        self._listings: dict[str, _Listing] = {}
        self._away = _Away()

    def stamps(self, uris: pa.Array) -> pa.Array:
        """One string per absolute URI, null where it is null.

        `MISSING` where there is no such file, `UNREADABLE` where it may not be looked at or the URI means nothing,
        `AWAY` where its store still fails after every retry, or did a moment ago; else text that changes when the file
        does (ETag; else size and time; else a hash of the content).
        """
        encoded = uris.dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        unique = encoded.dictionary.to_pylist()
        with ThreadPoolExecutor(remote.CONNECTIONS) as pool:
            if pc.any(pc.match_substring(encoded.dictionary, "://")).as_py():
                found = self._everywhere([file_of(uri) for uri in unique], pool)
            else:
                found = list(self._local(unique, pool))
        return pa.array(found, pa.string()).take(encoded.indices)

    def _everywhere(self, uris: list[str], pool: ThreadPoolExecutor) -> list[str]:
        places = defaultdict(list)
        for at, uri in enumerate(uris):
            places[_place(uri)].append(at)
        found = [UNREADABLE] * len(uris)
        for place, chosen in places.items():
            wanted = [uris[at] for at in chosen]
            some = self._s3(wanted, pool) if place == "s3" else self._each(wanted, pool, place)
            for at, text in zip(chosen, some, strict=True):
                found[at] = text
        return found

    def contents(self, uris: list[str | None]) -> list[bytes | str | None]:
        """The bytes of files that name others, which count too; None where there is none or it cannot be read, `AWAY`
        where its store does not answer."""
        with ThreadPoolExecutor(remote.CONNECTIONS) as pool:
            return list(pool.map(self._content, uris))

    def _content(self, uri: str | None) -> bytes | str | None:
        if uri is None:
            return None
        try:
            return self._away.asked(uri, partial(fetch, uri, s3_endpoint=self.s3_endpoint, max_bytes=_LONGEST_LIST))
        except FileNotFoundError:
            return AWAY if is_local(uri) and local.is_away(uri) else None
        except (StorageError, UsageError):
            return None

    def _each(self, uris: list[str], pool: ThreadPoolExecutor, place: str) -> Iterable[str]:
        return self._local(uris, pool) if place == "local" else pool.map(self._look, uris)

    def _local(self, uris: list[str], pool: ThreadPoolExecutor) -> Iterable[str]:
        """One by one while the files are at hand; threads, which then would only be in each other's way, once not."""
        chunks = deque(uris[i : i + _CHUNK] for i in range(0, len(uris), _CHUNK))
        found: list[str] = []
        while chunks:
            chunk, begun = chunks.popleft(), time.perf_counter()
            found += _stat_all(chunk)
            if time.perf_counter() - begun > _FAR * len(chunk):
                break
        return found + [text for chunk in pool.map(_stat_all, chunks) for text in chunk]

    def _look(self, uri: str) -> str:
        """One file by itself."""
        try:
            return self._away.asked(uri, partial(_identity, uri, self.s3_endpoint))
        except FileNotFoundError:
            return MISSING
        except (StorageError, UsageError):
            return UNREADABLE

    def _s3(self, uris: list[str], pool: ThreadPoolExecutor) -> list[str]:
        found: dict[str, str] = {}
        for folder, wanted in self._covered(uris).items():
            listing = self._listings.setdefault(folder, _Listing(folder, self.s3_endpoint))
            some = self._away.asked(folder, partial(listing.stamps, wanted))
            found.update(dict.fromkeys(wanted, AWAY) if isinstance(some, str) else some)
        rest = [uri for uri in dict.fromkeys(uris) if uri not in found]
        found.update(zip(rest, pool.map(self._look, rest), strict=True))
        return [found[uri] for uri in uris]

    def _covered(self, uris: list[str]) -> dict[str, list[str]]:
        """Folders worth listing, with the files wanted of each."""
        covered: dict[str, list[str]] = defaultdict(list)
        folders = {uri: parent(uri) for uri in uris}
        for _ in range(_CLIMB):
            many = {f for f, count in Counter(folders.values()).items() if count >= _LIST_FROM} | self._listings.keys()
            left = {}
            for uri, folder in folders.items():
                if folder in many:
                    covered[folder].append(uri)
                else:
                    left[uri] = parent(folder)
            folders = left
        return covered


class _Away:
    """Stores that did not answer, each asked again only after a while."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def asked(self, uri: str, look: Callable[[], T]) -> T | str:
        """What `look` finds out, `AWAY` where the store of `uri` does not answer or lately did not."""
        store = uri[: uri.find("/", uri.find("://") + 3)] if scheme(uri) not in ("", "s3") else scheme(uri)
        if time.monotonic() < self._until.get(store, 0.0):
            return AWAY
        try:
            return look()
        except StoreAwayError:
            if store:  # of local files each may lie elsewhere
                self._until[store] = time.monotonic() + _REST
            return AWAY


def _identity(uri: str, endpoint: str | None) -> str:
    identity = stamp(uri, s3_endpoint=endpoint)
    if identity.etag:
        return _of_etag(identity.etag)
    if str(identity):
        return str(identity)
    data = fetch(uri, s3_endpoint=endpoint, max_bytes=_LONGEST_CONTENT)
    return f"content:{hashlib.blake2b(data, digest_size=16).hexdigest()}"


def _place(uri: str) -> str:
    name = scheme(uri)
    return "local" if not name else "s3" if name == "s3" else "other"


def _stat_all(paths: list[str]) -> list[str]:
    return [_stat(path) for path in paths]


def _stat(path: str) -> str:
    """As `str(Stamp)`, without its cost: this runs a million times."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return AWAY if local.is_away(path) else MISSING
    except (OSError, ValueError) as error:
        return AWAY if is_transient(error) else UNREADABLE
    if not stat.S_ISREG(status.st_mode):
        return UNREADABLE
    return f"size:{status.st_size},modified:{status.st_mtime_ns}"


def _of_etag(etag: str) -> str:
    # A hash, since a listing keeps no more of it.
    return f"etag:{int(hash_text(pa.array([etag]))['high'][0]):016x}"


class _Listing:
    """What has been listed of one folder so far: hashes of keys and ETags, sorted by the former."""

    def __init__(self, folder: str, endpoint: str | None):
        self._folder, self._endpoint = folder, endpoint
        self._pages = remote.s3_pages(folder, endpoint)
        self._complete = self._refused = False
        self._budget = _LIST_AT_LEAST
        self._last = ""
        self._keys = np.empty(0, np.uint64)
        self._etags = np.empty(0, np.uint64)

    def stamps(self, uris: list[str]) -> dict[str, str]:
        """Stamps of those of the files that the listing tells about; it goes on as far as they are worth.

        Raises StorageError where the store fails; a further call then goes on from where it was.
        """
        paths = [uri.partition("://")[2] for uri in uris]
        self._budget += _LIST_PER_WANTED * len(uris)
        self._extend(max(paths))
        if self._refused or (not len(self._keys) and not self._complete):
            return {}
        wanted = hash_text(pa.array(paths, pa.string()))["high"]
        at = np.minimum(np.searchsorted(self._keys, wanted), max(len(self._keys) - 1, 0))
        known = self._keys[at] == wanted if len(self._keys) else np.zeros(len(wanted), bool)
        found = {
            uris[i]: f"etag:{int(self._etags[at[i]]):016x}" for i in np.flatnonzero(known & (self._etags_at(at) != 0))
        }
        if self._complete:
            found |= {uris[i]: MISSING for i in np.flatnonzero(~known)}
        return found

    def _etags_at(self, at: np.ndarray) -> np.ndarray:
        return self._etags[at] if len(self._etags) else np.zeros(len(at), np.uint64)

    def _extend(self, furthest: str) -> None:
        keys, etags = [self._keys], [self._etags]
        try:
            while not self._complete and not self._refused and self._budget > 0 and self._last < furthest:
                page = next(self._pages, None)
                if page is None:
                    self._complete = True
                elif page:
                    self._budget -= len(page)
                    self._last = page[-1][0]
                    keys.append(hash_text(pa.array([key for key, _ in page], pa.string()))["high"])
                    # A store without ETags is asked for each file, whose size and time then count.
                    values = hash_text(pa.array([etag.strip('"') for _, etag in page], pa.string()))["high"].copy()
                    values[[not etag for _, etag in page]] = 0
                    etags.append(values)
        except PermissionError:
            self._refused = True  # reading single files may still be allowed
        except FileNotFoundError:
            self._complete = True  # there is no such bucket
        except Exception as error:
            # A generator that raised is at its end: it would seem that there are no further files.
            after = self._last.partition("/")[2]
            self._pages = remote.s3_pages(self._folder, self._endpoint, after or None)
            raise failure("list", self._folder, error) from None
        finally:
            self._keep(keys, etags)

    def _keep(self, keys: list[np.ndarray], etags: list[np.ndarray]) -> None:
        if len(keys) > 1:
            joined = np.concatenate(keys)
            order = np.argsort(joined, kind="stable")
            self._keys, self._etags = joined[order], np.concatenate(etags)[order]


def stamp_one(uri: str, s3_endpoint: str | None = None) -> str:
    """The stamp of a single file, as `InputStamper.stamps` gives it. Raises StorageError where its store is away."""
    found = InputStamper(s3_endpoint).stamps(pa.array([normalise(uri)], pa.string()))[0].as_py()
    if found == AWAY and is_local(uri) and local.is_away(normalise(uri)):
        return MISSING  # nobody waits for it
    if found == AWAY:
        raise StoreAwayError(f"cannot read {redact_uri(uri)}: the store does not answer")
    return found
