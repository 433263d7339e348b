"""Primitives compressed with KHR_draco_mesh_compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, check_face_count, check_vertex_count
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import DRACO, whole

_METADATA = 0x8000


@dataclass(frozen=True)
class Unpacked:
    """`faces` (F, 3) uint32, and by semantic (`POSITION`, …) the (V, width) values as Draco keeps them."""

    faces: np.ndarray
    attributes: dict[str, np.ndarray]


def unpack(buffers: Buffers, primitive: dict[str, Any], *, max_faces: int) -> Unpacked:
    """All that a compressed primitive holds; its counts are looked at before anything is decoded."""
    import DracoPy

    packed = primitive["extensions"][DRACO]
    data = buffers.view(whole(packed["bufferView"]))[0].tobytes()
    faces, vertices = claimed(data)
    check_face_count(faces, max_faces)
    check_vertex_count(vertices, max_faces)
    try:
        mesh = DracoPy.decode(data)
        triangles = np.asarray(mesh.faces)
    except Exception as error:  # its own exceptions derive from nothing in common
        raise MeshFormatError(f"what is compressed with {DRACO} cannot be decoded: {str(error)[:120]}") from error
    attributes = {}
    for semantic, identity in packed["attributes"].items():
        found = [a for a in mesh.attributes if a["unique_id"] == whole(identity)]
        if not found:
            raise MeshFormatError(f"what is compressed with {DRACO} has no {str(semantic)[:40]!a}")
        values = np.asarray(found[0]["data"])
        attributes[str(semantic)] = values.reshape(len(values), -1)
    return Unpacked(triangles.reshape(-1, 3), attributes)


def claimed(data: bytes) -> tuple[int, int]:
    """The numbers of faces and vertices in the header of a Draco bitstream, (0, 0) where they stand further inside.

    Sections 3 and 4 of https://google.github.io/draco/spec/: of a mesh without metadata the connectivity comes first.
    """
    if data[:5] != b"DRACO" or len(data) < 12:
        raise MeshFormatError(f"what is said to be compressed with {DRACO} is not")
    version, kind, method = (data[5], data[6]), data[7], data[8]
    if kind != 1:
        raise MeshFormatError(f"what is compressed with {DRACO} is a point cloud, not a mesh")
    if int.from_bytes(data[9:11], "little") & _METADATA or version < (2, 2):
        return 0, 0
    at = 11 + (method == 1)  # Edgebreaker: which traversal, then vertices and faces; sequential: faces, then vertices
    first, at = _varint(data, at)
    second, _ = _varint(data, at)
    return (second, first) if method == 1 else (first, second)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """LEB128, as Draco writes unsigned numbers."""
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            break
    return value, at
