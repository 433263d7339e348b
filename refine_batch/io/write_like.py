"""A mesh's own file with moved positions: everything else in it stays as it was."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.beside import files_beside, relative_name
from refine_batch.io.formats.common import MeshFormatError, Sibling
from refine_batch.io.formats.gltf.reader import MAX_BESIDE
from refine_batch.io.formats.gltf.writer import write_gltf
from refine_batch.io.formats.obj_writer import write_obj
from refine_batch.io.formats.off_writer import write_off
from refine_batch.io.formats.ply_writer import write_ply
from refine_batch.io.formats.stl_writer import write_stl
from refine_batch.io.formats.written import Writer, Written
from refine_batch.io.meshes import MAX_FACES, MAX_MESH_BYTES, SourceFormat, mesh_format, named_errors
from refine_batch.io.storage import Storage, fetch
from refine_batch.io.uri import normalise, parent

_WRITERS: dict[SourceFormat, Writer] = {
    "obj": write_obj,
    "ply": write_ply,
    "off": write_off,
    "stl": write_stl,
    "glb": write_gltf,
    "gltf": write_gltf,
}
_TEXTURE = re.compile(rb"(?mi)^[ \t]*(?:map_\w+|bump|disp|decal|norm|refl)[ \t]+([^\r\n]+?)[ \t]*\r?$")


def write_like(
    source: bytes | str | os.PathLike[str],
    vertices: np.ndarray,
    path: str | os.PathLike[str],
    *,
    s3_endpoint: str | None = None,
    max_faces: int = MAX_FACES,
) -> tuple[str, ...]:
    """Write the file `source` with moved positions to `path`.

    GLB and glTF keep nodes, transforms, materials, textures, colours and animations, OBJ its `vt`, groups and comments,
    PLY its further properties; normals and tangents follow the surface, bounds are renewed. Files that the source
    mentions (buffers, textures, `mtllib`) are copied beside `path` unless they are there.

    Parameters
    ----------
    source
        A path or an fsspec URI; or the file's bytes, where nothing beside it is needed.
    vertices : (V, 3) float
        As `parse_mesh` gives them of the same file, in its order: reading what was written gives them back, to the
        rounding of float32 and of the nodes' transforms.
    path
        A path or URI, with the source's own extension.

    Returns
    -------
    Sentences about files beside the source that could not be copied. They cost their textures, not the mesh.

    Raises
    ------
    InstanceError
        The source cannot be read, or not hold these positions: another number of vertices, a node that flattens.
    UsageError
        `path` has the extension of another format.
    ValueError
        `vertices` are not (V, 3) finite numbers.
    FileNotFoundError, StorageError
        As storage raises them.
    """
    if isinstance(source, bytes):
        data, name, sibling = source, os.fspath(path), None
    else:
        name = normalise(os.fspath(source))
        data = fetch(name, s3_endpoint=s3_endpoint, max_bytes=MAX_MESH_BYTES)
        sibling = files_beside(name, s3_endpoint=s3_endpoint)
    target = normalise(os.fspath(path))
    stem, extension = posixpath.splitext(posixpath.basename(target))
    written = refined_file(data, name, vertices, sibling=sibling, stem=stem, max_faces=max_faces)
    if extension[1:].lower() != written.file_format:
        raise UsageError(f"{target}: the source is {written.file_format.upper()}; write it as .{written.file_format}")
    folder = Storage(parent(target), s3_endpoint)
    folder.write(posixpath.basename(target), written.file.data)
    for name_beside, body in written.file.beside.items():
        folder.write(name_beside, body)
    if sibling is None or parent(name) == parent(target):
        return ()
    notes = []
    for found in companions(written, sibling):
        if isinstance(found, str):
            notes.append(found)
        elif not folder.exists(found.name):
            folder.write(found.name, found.data)
        elif folder.read(found.name) != found.data:
            notes.append(f"{found.name} lies beside {target} already and differs from the source's; it stays")
    return tuple(notes)


@dataclass(frozen=True)
class RefinedFile:
    file: Written
    file_format: SourceFormat


@dataclass(frozen=True)
class Companion:
    """A file that has to lie beside another, by its relative name."""

    name: str
    data: bytes


def refined_file(
    data: bytes,
    uri: str,
    vertices: np.ndarray,
    *,
    sibling: Sibling | None = None,
    stem: str = "mesh",
    max_faces: int = MAX_FACES,
) -> RefinedFile:
    """The bytes of `write_like`; `uri` names the source in errors, `stem` is the new file's name without extension."""
    positions = np.asarray(vertices, dtype=np.float32)
    if positions.ndim != 2 or positions.shape[1] != 3 or not np.isfinite(positions).all():
        raise ValueError(f"write_like: expected (V, 3) finite vertices, got {np.shape(vertices)}")
    file_format = mesh_format(data, uri)
    with named_errors(uri):
        if file_format is None:
            raise MeshFormatError("it is none of OBJ, PLY, OFF, STL, GLB and glTF")
        return RefinedFile(_WRITERS[file_format](data, positions, max_faces, sibling, stem), file_format)


def companions(written: RefinedFile, sibling: Sibling) -> Iterator[Companion | str]:
    """Each file that a written one mentions, as its source had it; a sentence instead where it cannot be had."""
    left = MAX_BESIDE
    waiting = list(dict.fromkeys(written.file.references))
    if written.file_format == "obj":
        waiting = [quote(name, errors="surrogateescape") for name in waiting]
    seen = set(waiting)
    while waiting:
        reference = waiting.pop(0)
        try:
            name = relative_name(reference)
            data = sibling(reference, left)
        except (MeshFormatError, InstanceError) as error:
            yield f"what it mentions cannot be copied: {error}"
            continue
        left -= len(data)
        yield Companion(name, data)
        if written.file_format == "obj" and name.lower().endswith(".mtl"):
            further = [posixpath.join(posixpath.dirname(reference), texture) for texture in _textures(data)]
            waiting += [texture for texture in further if texture not in seen]
            seen.update(further)


def _textures(library: bytes) -> list[str]:
    """Quoted names of the files that a material library mentions; options such as `-bm 1` stand before the name."""
    names = []
    for rest in dict.fromkeys(_TEXTURE.findall(library)):
        name = rest.split()[-1] if rest.startswith(b"-") else rest
        names.append(quote(name.decode("utf-8", "surrogateescape"), errors="surrogateescape"))
    return names
