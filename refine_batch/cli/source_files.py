"""`export --format source`: each mesh's own file, read again from where the manifest named it, with moved positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError

if TYPE_CHECKING:
    from refine_batch.cli.export_sinks import Sink
    from refine_batch.mesh import Mesh

# Of the extent: what rounding makes of the positions of a mesh that came back as it was.
_SAME = 1e-4


def write_source(target: Sink, name: str, row: dict[str, Any], mesh: Mesh, s3_endpoint: str | None) -> list[str]:
    """Write the file; its path, then sentences about what lies beside its source and could not be copied.

    A file that others have to lie beside (buffers, materials, textures) gets a folder of its own, called `name`.

    Raises
    ------
    InstanceError
        The source is gone, cannot be read, or is not what was refined.
    """
    from refine_batch.io.beside import files_beside
    from refine_batch.io.meshes import read_mesh
    from refine_batch.io.uri import redact
    from refine_batch.io.write_like import companions, refined_file

    uri = row["mesh_uri"]
    data = fetch_coarse(uri, s3_endpoint)
    sibling = files_beside(uri, s3_endpoint=s3_endpoint)
    coarse = read_mesh(data, redact(uri), sibling=sibling).mesh
    _check_unchanged(coarse, mesh, redact(uri), kept=row["status"] == "kept")
    written = refined_file(data, redact(uri), mesh.vertices, sibling=sibling, stem=name)
    place = f"{name}/{name}" if written.file.beside or written.file.references else name
    path = f"{place}.{written.file_format}"
    target.write(path, written.file.data)
    for beside, body in written.file.beside.items():
        target.write(f"{name}/{beside}", body)
    notes = []
    for found in companions(written, sibling):
        if isinstance(found, str):
            notes.append(found)
        else:
            target.write(f"{name}/{found.name}", found.data)
    return [path, *notes]


def fetch_coarse(uri: str, s3_endpoint: str | None) -> bytes:
    """The bytes of a coarse mesh, as they are now."""
    from refine_batch.io.meshes import MAX_MESH_BYTES
    from refine_batch.io.storage import StorageError, fetch

    try:
        return fetch(uri, s3_endpoint=s3_endpoint, max_bytes=MAX_MESH_BYTES)
    except (FileNotFoundError, StorageError) as error:
        raise InstanceError(ErrorKind.MISSING_FILE, f"its coarse mesh cannot be read any more: {error}") from error


def _check_unchanged(coarse: Mesh, mesh: Mesh, uri: str, *, kept: bool) -> None:
    """Of the file that was refined a result knows the faces, and the positions where they were kept."""
    what = ""
    if len(coarse.vertices) != len(mesh.vertices) or len(coarse.faces) != len(mesh.faces):
        now, then = (f"{len(m.vertices)} vertices and {len(m.faces)} faces" for m in (coarse, mesh))
        what = f"it has {now}, its result {then}"
    elif not np.array_equal(coarse.faces, mesh.faces):
        what = "its faces are others"
    elif kept and np.abs(coarse.vertices - mesh.vertices).max() > _SAME * np.ptp(coarse.vertices, axis=0).max():
        what = "its vertices are elsewhere, though they were kept"
    if what:
        raise InstanceError(
            ErrorKind.MESH_BROKEN,
            f"{uri} is not the file that was refined: {what}; run it again, or export it as obj, ply or glb",
        )
