"""The files that a mesh file names: only those that lie beside it, in its own folder or one below.

A glTF file keeps its buffers, an OBJ file its materials and textures in files of their own. A mesh may come from
anywhere, so a name that leads elsewhere (a scheme, an absolute path, `..`, a link out of the folder) is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from urllib.parse import unquote

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.formats.common import MeshFormatError, Sibling
from refine_batch.io.storage import AccessDeniedError, FileTooLargeError, NotAFileError, StorageError, fetch
from refine_batch.io.uri import is_http, is_inside, is_local, join, normalise, parent, redact

_SHOWN = 80


def files_beside(uri: str, *, s3_endpoint: str | None = None, fetcher: Callable[..., bytes] = fetch) -> Sibling:
    """What fetches the files beside the mesh at `uri`, by the names that it gives them.

    Raises, when called
    -------------------
    MeshFormatError
        The name leads out of the folder, or there is none: the mesh came over HTTP or out of an archive.
    InstanceError
        MISSING_FILE, MESH_TOO_LARGE, ACCESS_DENIED or STORAGE.
    """
    base = normalise(uri)

    def sibling(name: str, max_bytes: int) -> bytes:
        relative = relative_name(name)
        if is_http(base) or is_inside(base):
            why = "fetched over HTTP" if is_http(base) else "looked for in an archive"
            raise MeshFormatError(f"it keeps data in another file, {name[:_SHOWN]!a}, which is not {why}")
        place = join(parent(base), relative)
        if is_local(base):
            _check_inside(parent(base), place, name)
        shown = f"{redact(place)} (named by {redact(base)})"
        try:
            return fetcher(place, s3_endpoint=s3_endpoint, max_bytes=max_bytes)
        except (FileNotFoundError, NotAFileError) as error:
            raise InstanceError(ErrorKind.MISSING_FILE, f"{shown}: no such file") from error
        except FileTooLargeError as error:
            raise InstanceError(ErrorKind.MESH_TOO_LARGE, f"{shown}: more than {max_bytes:,} bytes") from error
        except StorageError as error:
            kind = ErrorKind.ACCESS_DENIED if isinstance(error, AccessDeniedError) else ErrorKind.STORAGE
            raise InstanceError(kind, f"{error} (named by {redact(base)})") from error

    return sibling


def may_keep_buffers_beside(uri: str | None) -> bool:
    """Whether a mesh's name is that of a file whose buffers may lie beside it."""
    return bool(uri) and str(uri).lower().endswith(".gltf")


def buffers_beside(uri: str, data: bytes) -> list[str]:
    """Absolute URIs of the buffers that a .gltf file at `uri` keeps beside it; none where it is no such file."""
    try:
        buffers = json.loads(data).get("buffers", [])
        names = [buffer["uri"] for buffer in buffers if isinstance(buffer.get("uri"), str)]
        return [join(parent(uri), relative_name(name)) for name in names if not name.startswith("data:")]
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, MeshFormatError):
        return []  # whoever reads the mesh says what is wrong


def relative_name(uri: str) -> str:
    """A reference as a path below the folder of the file that makes it, percent signs decoded.

    Raises `MeshFormatError` for one that leads elsewhere.
    """
    name = unquote(uri)
    while name.startswith("./"):
        name = name[2:]
    segments = name.replace("\\", "/").split("/")
    if (
        not name
        or "\x00" in name
        or ":" in segments[0]  # a scheme, or a drive
        or any(segment in ("", ".", "..") for segment in segments[:1])
        or ".." in segments
        or segments[-1] in ("", ".")
    ):
        raise MeshFormatError(
            f"it keeps data in another file, {uri[:_SHOWN]!a}; only files in its own folder or below are read"
        )
    return name


def _check_inside(folder: str, place: str, name: str) -> None:
    real = os.path.realpath(folder)
    if os.path.commonpath([real, os.path.realpath(place)]) != real:
        raise MeshFormatError(f"it keeps data in another file, {name[:_SHOWN]!a}, which is a link out of its folder")
