"""The triangles of a scene, mesh by mesh: what reading and writing agree on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, check_face_count, check_vertex_count
from refine_batch.io.formats.gltf.accessors import accessor_array, decoded, layout
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import DRACO, whole
from refine_batch.io.formats.gltf.draco import unpack
from refine_batch.io.formats.gltf.scene import Placement, placements

TRIANGLES, STRIP, FAN = 4, 5, 6


@dataclass(frozen=True)
class Surface:
    """The vertices that some primitives of a mesh share, in the mesh's own space.

    Parameters
    ----------
    points : (V, 3) float64
    primitives
        By their place in the mesh: the (F, 3) faces of each, indices into `points`.
    """

    points: np.ndarray
    primitives: dict[int, np.ndarray]


@dataclass(frozen=True)
class Part:
    """A surface where a node puts it; its vertices are number `start` and following of the whole."""

    placement: Placement
    surface: Surface
    start: int

    def world(self) -> np.ndarray:
        """(V, 3) float64 positions in the scene."""
        transform = self.placement.transform
        if np.array_equal(transform, np.eye(4)):
            return self.surface.points
        return self.surface.points @ transform[:3, :3].T + transform[:3, 3]

    def faces(self) -> list[np.ndarray]:
        """(F, 3) of each primitive, numbered through the whole; turned round where the transform mirrors."""
        turn = slice(None, None, -1 if np.linalg.det(self.placement.transform[:3, :3]) < 0 else 1)
        return [self.start + faces[:, turn] for faces in self.surface.primitives.values()]


@dataclass
class Scene:
    """Parts in order, and what was left out."""

    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_scene(buffers: Buffers, *, max_faces: int) -> Scene:
    """The parts of the default scene: in the order of its nodes, of a mesh in the order of its primitives.

    Primitives of one mesh that use the same positions share their vertices. A mesh under several nodes is read once.
    """
    scene, meshes = Scene(), {}
    vertices = faces = 0
    for placement in placements(buffers):
        if placement.mesh not in meshes:
            scene.notes += _movable(buffers, placement.mesh)
            meshes[placement.mesh] = _surfaces(buffers, placement.mesh, max_faces - faces, scene.notes)
        for surface in meshes[placement.mesh]:
            scene.parts.append(Part(placement, surface, vertices))
            vertices += len(surface.points)
            faces += sum(len(f) for f in surface.primitives.values())
            check_vertex_count(vertices, max_faces)
            check_face_count(faces, max_faces)
    return scene


def _movable(buffers: Buffers, mesh: int) -> list[str]:
    """What of a mesh the refinement does not see: it stands as its positions have it."""
    nodes = buffers.description.get("nodes", [])
    skinned = any(node.get("mesh") == mesh and "skin" in node for node in nodes)
    targets = any(primitive.get("targets") for primitive in buffers.description["meshes"][mesh]["primitives"])
    said = []
    if skinned:
        said.append(f"mesh {mesh} has a skin: it is refined as its positions stand, its joints' weights are left alone")
    if targets:
        said.append(f"mesh {mesh} has morph targets: they are left alone, relative to positions that move")
    return said


def _surfaces(buffers: Buffers, mesh: int, faces_left: int, notes: list[str]) -> list[Surface]:
    found: dict[tuple[str, int], Surface] = {}
    skipped = 0
    for number, primitive in enumerate(buffers.description["meshes"][mesh]["primitives"]):
        mode = primitive.get("mode", TRIANGLES)
        if mode not in (TRIANGLES, STRIP, FAN) or "POSITION" not in primitive["attributes"]:
            skipped += 1
            continue
        position = whole(primitive["attributes"]["POSITION"])
        check_face_count(_claimed_faces(buffers, primitive, position, mode), faces_left)
        if DRACO in primitive.get("extensions", {}):
            points, faces = _compressed(buffers, primitive, position, faces_left)
            # Each has its own data, and two that share an accessor share nothing else.
            found["draco", number] = Surface(points, {number: faces})
            continue
        if ("plain", position) not in found:
            found["plain", position] = Surface(_positions(buffers, position, faces_left), {})
        surface = found["plain", position]
        surface.primitives[number] = _faces(buffers, primitive, mode, len(surface.points), faces_left)
    if skipped:
        notes.append(f"{skipped} primitives of mesh {mesh} are points or lines, or have no positions, and are left out")
    return list(found.values())


def _claimed_faces(buffers: Buffers, primitive: dict[str, Any], position: int, mode: int) -> int:
    corners = whole(buffers.description["accessors"][whole(primitive.get("indices", position))]["count"])
    return corners // 3 if mode == TRIANGLES else max(corners - 2, 0)


def _positions(buffers: Buffers, index: int, faces_left: int) -> np.ndarray:
    accessor = buffers.description["accessors"][index]
    if accessor["type"] != "VEC3":
        raise MeshFormatError(f"its positions are {str(accessor['type'])[:20]!a}, not VEC3")
    check_vertex_count(whole(accessor["count"]), faces_left)
    return decoded(accessor_array(buffers, index, limit=3 * faces_left), accessor)


def _faces(buffers: Buffers, primitive: dict[str, Any], mode: int, count: int, faces_left: int) -> np.ndarray:
    if "indices" in primitive:
        dtype, width = layout(buffers.description["accessors"][whole(primitive["indices"])])
        if dtype.kind != "u" or width != 1:
            raise MeshFormatError("its indices are not unsigned whole numbers")
        indices = accessor_array(buffers, primitive["indices"], limit=3 * faces_left + 2)[:, 0].astype(np.int64)
    else:
        indices = np.arange(count)
    if len(indices) and indices.max() >= count:
        raise MeshFormatError(f"a face names vertex {indices.max()} of a primitive with {count} vertices")
    return _triangles(indices, mode)


def _compressed(
    buffers: Buffers, primitive: dict[str, Any], position: int, faces_left: int
) -> tuple[np.ndarray, np.ndarray]:
    unpacked = unpack(buffers, primitive, max_faces=faces_left)
    if "POSITION" not in unpacked.attributes or unpacked.attributes["POSITION"].shape[1] != 3:
        raise MeshFormatError(f"what is compressed with {DRACO} has no positions")
    points = decoded(unpacked.attributes["POSITION"], buffers.description["accessors"][position])
    faces = unpacked.faces.astype(np.int64)
    if len(faces) and faces.max() >= len(points):
        raise MeshFormatError(f"a face names vertex {faces.max()} of a primitive with {len(points)} vertices")
    return points, faces


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    if mode == TRIANGLES:
        if len(indices) % 3:
            raise MeshFormatError(f"a list of triangles has {len(indices)} corners, which is no multiple of 3")
        return indices.reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), dtype=np.int64)
    if mode == FAN:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
    strip = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip
