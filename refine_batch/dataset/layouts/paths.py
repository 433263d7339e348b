"""Files of a source: listed without holding more than their names, and found by stem."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterable, Iterator

from refine_batch.dataset.layouts.entry import LeftOutError, Reason
from refine_batch.io import remote
from refine_batch.io.storage import Storage, failure
from refine_batch.io.uri import scheme

MESH_SUFFIXES = (".obj", ".ply", ".off", ".stl", ".glb", ".gltf")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def file_names(storage: Storage, prefix: str = "") -> Iterator[str]:
    """Every file below the folder `prefix`, relative to `storage`, folder by folder in order; hidden ones left out.

    Nothing where there is no such folder. Streams: a folder of millions of files costs no memory.
    """
    start = f"{prefix.strip('/')}/" if prefix else ""
    for name in _names(storage.child(prefix) if prefix else storage):
        if not any(segment.startswith(".") for segment in name.split("/")):
            yield start + name


def _names(folder: Storage) -> Iterator[str]:
    if folder.local:
        yield from _walk(folder.uri, "", ())
        return
    if scheme(folder.uri) != "s3":
        yield from (file.path for file in folder.list())
        return
    root = remote.key_of(folder.uri).rstrip("/") + "/"
    try:
        for page in remote.s3_pages(folder.uri, folder.s3_endpoint):
            yield from (key.removeprefix(root) for key, _ in page if not key.endswith("/"))
    except Exception as error:
        raise failure("list", folder.uri, error) from None


def _walk(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise failure("list", folder, error) from None
    for entry in entries:
        if not entry.is_dir():
            yield prefix + entry.name
            continue
        real = os.path.realpath(entry.path)
        if real not in above:  # a link back to where we came from
            yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, real))


def safe_path(value: object, what: str) -> str:
    """A path that metadata names, relative to the source and inside it.

    Raises
    ------
    LeftOutError
        PATH_UNSAFE: it is none, is absolute, has a scheme or climbs out of the folder.
    """
    if not isinstance(value, str) or not value.strip():
        raise LeftOutError(Reason.PATH_UNSAFE, f"{what} is {str(value)[:80]!r}, not a path")
    path = value.replace("\\", "/")
    segments = path.split("/")
    if path.startswith("/") or ".." in segments or "\x00" in path or scheme(path) or path[1:2] == ":":
        raise LeftOutError(
            Reason.PATH_UNSAFE, f"{what} is {value[:80]!r}; only paths inside the source folder are followed"
        )
    return "/".join(segment for segment in segments if segment not in ("", "."))


def stem_of(path: str) -> str:
    """The path without its last suffix: `a/b.png` is `a/b`."""
    return posixpath.splitext(path)[0]


class StemIndex:
    """Files by their path without the suffix; about 200 bytes of memory each."""

    def __init__(self, names: Iterable[str], suffixes: tuple[str, ...]):
        self._suffixes: dict[str, str] = {}
        for name in names:
            stem, suffix = posixpath.splitext(name)
            if suffix.lower() in suffixes:
                other = self._suffixes.get(stem)
                # Two files of one stem: neither is meant for certain.
                self._suffixes[stem] = sys.intern(suffix if other is None else f"{other}|{suffix}")

    def __len__(self) -> int:
        return len(self._suffixes)

    def __iter__(self) -> Iterator[str]:
        """The stems in the order of the listing."""
        return iter(self._suffixes)

    def __contains__(self, stem: str) -> bool:
        return stem in self._suffixes

    def path(self, stem: str) -> str | None:
        """The file of this stem; None where there is none.

        Raises
        ------
        LeftOutError
            AMBIGUOUS: there are several.
        """
        suffix = self._suffixes.get(stem)
        if suffix is not None and "|" in suffix:
            files = " and ".join(stem + each for each in suffix.split("|"))
            raise LeftOutError(Reason.AMBIGUOUS, f"{files} have the same stem; keep one")
        return None if suffix is None else stem + suffix

    def first(self, stems: Iterable[str]) -> str | None:
        """The file of the first of these stems that has one."""
        return next((path for stem in stems if (path := self.path(stem)) is not None), None)
