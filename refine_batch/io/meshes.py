"""Meshes from bytes and to bytes, in the file's own order of vertices and faces."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.formats.common import (
    Geometry,
    MeshFormatError,
    MeshTooLargeError,
    Sibling,
)
from refine_batch.io.formats.gltf.document import MAGIC as GLB_MAGIC
from refine_batch.io.formats.gltf.document import looks_like_gltf
from refine_batch.io.formats.gltf.reader import read_gltf
from refine_batch.io.formats.obj import read_obj
from refine_batch.io.formats.off import looks_like_off, read_off
from refine_batch.io.formats.ply import read_ply
from refine_batch.io.formats.ply_header import looks_like_ply
from refine_batch.io.formats.stl import read_stl
from refine_batch.io.uri import is_http
from refine_batch.mesh import Mesh

MeshFormat = Literal["obj", "ply", "glb"]
SourceFormat = Literal["obj", "ply", "off", "stl", "glb", "gltf"]
Reader = Callable[[bytes, int, Sibling | None], Geometry]

MAX_MESH_BYTES = 512 * 1024 * 1024
# Where nothing else is said; a run says what its `--max-faces` is.
MAX_FACES = 5_000_000

_HEAD = 1 << 16
_OBJ_LINE = re.compile(rb"^v[ \t]+[-+.\d]", re.MULTILINE)

_READERS: dict[SourceFormat, Reader] = {
    "obj": read_obj,
    "ply": read_ply,
    "off": read_off,
    "stl": read_stl,
    "glb": read_gltf,
    "gltf": read_gltf,
}


@dataclass(frozen=True)
class MeshFile:
    """A file's mesh, the format it was in, and sentences about what of it was left out."""

    mesh: Mesh
    file_format: SourceFormat
    notes: tuple[str, ...]


def parse_mesh(
    data: bytes,
    uri: str,
    *,
    max_faces: int = MAX_FACES,
    max_bytes: int = MAX_MESH_BYTES,
    sibling: Sibling | None = None,
) -> Mesh:
    """The mesh in the bytes of an OBJ, PLY, OFF, STL, GLB or glTF file.

    Vertices and faces keep the file's order; polygons become fans about their first corner; nothing is merged, except
    STL's repeated corners. Materials and textures are never followed; `io.write_like` writes them back.

    Parameters
    ----------
    data
        The whole file.
    uri
        Where it came from, as it may be shown: its extension tells the format where the content does not, and the
        errors name it.
    max_faces, max_bytes
        Limits, checked from headers and line counts before memory is spent where the format allows.
    sibling
        Fetches the buffers of a glTF file that lie beside it; `io.beside.files_beside` makes one. Without it they are
        refused.

    Raises
    ------
    InstanceError
        MESH_TOO_LARGE, MESH_EMPTY (no faces or no vertices) or MESH_BROKEN (anything else: not a mesh, cut short, an
        index out of range, a NaN).
    """
    return read_mesh(data, uri, max_faces=max_faces, max_bytes=max_bytes, sibling=sibling).mesh


def read_mesh(
    data: bytes,
    uri: str,
    *,
    max_faces: int = MAX_FACES,
    max_bytes: int = MAX_MESH_BYTES,
    sibling: Sibling | None = None,
) -> MeshFile:
    """As `parse_mesh`, with the format and what was left out."""
    if len(data) > max_bytes:
        raise InstanceError(ErrorKind.MESH_TOO_LARGE, f"{uri}: it has {len(data)} bytes; the limit is {max_bytes}")
    if not data.strip():
        raise InstanceError(ErrorKind.MESH_EMPTY, f"{uri}: the file is empty")
    file_format = mesh_format(data, uri)
    if file_format is None:
        raise InstanceError(
            ErrorKind.MESH_BROKEN, f"{uri}: not a mesh that can be read; OBJ, PLY, OFF, STL, GLB and glTF files can"
        )
    with named_errors(uri):
        found = _READERS[file_format](data, max_faces, sibling)
    if len(found.faces) == 0 and found.notes:
        raise InstanceError(ErrorKind.MESH_EMPTY, f"{uri}: the mesh has no faces: {'; '.join(found.notes)}")
    return MeshFile(_checked(found.vertices, found.faces, uri), file_format, found.notes)


@contextmanager
def named_errors(uri: str) -> Iterator[None]:
    """What a reader or writer says of a file's bytes, as an error of the instance that names the file."""
    try:
        yield
    except MeshTooLargeError as error:
        raise InstanceError(ErrorKind.MESH_TOO_LARGE, f"{uri}: {error}; decimate it first") from error
    except MeshFormatError as error:
        raise InstanceError(ErrorKind.MESH_BROKEN, f"{uri}: broken mesh: {error}") from error


def mesh_format(data: bytes, uri: str) -> SourceFormat | None:
    """The format's name by content where that can be told for certain, else by extension; None for neither."""
    if data[:4] == GLB_MAGIC:
        return "glb"
    if looks_like_ply(data):
        return "ply"
    if looks_like_off(data):
        return "off"
    # Elsewhere than on the web both marks may be part of a name.
    name = uri.partition("?")[0].partition("#")[0] if is_http(uri) else uri
    extension = posixpath.splitext(name)[1][1:].lower()
    if extension in ("glb", "gltf") and looks_like_gltf(data):
        return "gltf"
    return cast(SourceFormat, extension) if extension in _READERS else _by_content(data)


def _by_content(data: bytes) -> SourceFormat | None:
    """Of bytes without a name, where what they begin with, or how many they are, tells."""
    if _OBJ_LINE.search(data[:_HEAD]) and b"\nf " in data:
        return "obj"
    text = data[:_HEAD].lstrip().startswith(b"solid") and b"facet" in data[:_HEAD]
    counted = len(data) > 84 and len(data) == 84 + 50 * int.from_bytes(data[80:84], "little")
    return "stl" if text or counted else None


def _checked(vertices: np.ndarray, faces: np.ndarray, uri: str) -> Mesh:
    # Before the indices become int32, in which a large one could wrap round into the valid range.
    if len(faces) and len(vertices) and (faces.min() < 0 or faces.max() >= len(vertices)):
        bad = int(faces.max() if faces.max() >= len(vertices) else faces.min())
        raise InstanceError(
            ErrorKind.MESH_BROKEN,
            f"{uri}: a face names vertex {bad}, but the mesh has vertices 0 to {len(vertices) - 1}",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mesh = Mesh(vertices.astype(np.float32), faces.astype(np.int32))
    mesh.check(uri)
    return mesh


def write_mesh(mesh: Mesh, file_format: MeshFormat) -> bytes:
    """The bytes of an OBJ (text), PLY (binary) or GLB file that reads back to the same float32 and indices."""
    if file_format == "obj":
        return _write_obj(mesh)
    if file_format not in ("ply", "glb"):
        raise ValueError(f"write_mesh: expected obj, ply or glb, got {file_format!r}")
    stream = io.BytesIO()
    import trimesh  # half a second, which readers need not pay

    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(stream, file_type=file_format)
    return stream.getvalue()


def _write_obj(mesh: Mesh) -> bytes:
    # Nine significant digits tell every float32 from its neighbours.
    vertices = "v %.9g %.9g %.9g\n" * len(mesh.vertices) % tuple(mesh.vertices.ravel().tolist())
    faces = "f %d %d %d\n" * len(mesh.faces) % tuple((mesh.faces + 1).ravel().tolist())
    return (vertices + faces).encode("ascii")
