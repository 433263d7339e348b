"""A glTF file with moved positions.

World positions are taken back through the node that placed them. Where a mesh stands under several nodes each gets a
mesh of its own, since each may have moved in its own way; instances of EXT_mesh_gpu_instancing become nodes for the
same reason. What did not move keeps its bytes, and everything that is not geometry stays untouched.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, Sibling
from refine_batch.io.formats.gltf.accessors import accessor_array, decoded
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import INSTANCING, Document, whole
from refine_batch.io.formats.gltf.edits import Edits, references
from refine_batch.io.formats.gltf.parts import Part, Scene, read_scene
from refine_batch.io.formats.gltf.plain import uncompressed
from refine_batch.io.formats.gltf.reader import MAX_BESIDE, open_scene, well_formed
from refine_batch.io.formats.gltf.scene import Placement
from refine_batch.io.formats.normals import Shading, renewed
from refine_batch.io.formats.written import Written, check_count

_FLAT = 1e-9


def write_gltf(data: bytes, vertices: np.ndarray, max_faces: int, sibling: Sibling | None, stem: str) -> Written:
    """Compressed primitives and views are written uncompressed, normals and tangents follow the surface."""
    with well_formed():
        document, buffers, scene = open_scene(data, max_faces, sibling)
        before = _world(scene)
        check_count(vertices, len(before))
        if np.array_equal(vertices, before.astype(np.float32)):
            return Written(data, references=references(document.description))
        document = uncompressed(document, buffers, max_faces=max_faces)
        buffers = Buffers(document, sibling, max_bytes=MAX_BESIDE, max_faces=max_faces)
        scene = read_scene(buffers, max_faces=max_faces)
        return _Writer(document, buffers, scene, vertices).written(stem)


@dataclass(frozen=True)
class _Slots:
    """The normals of one part that stand in one accessor, as slots `start` and following."""

    part: Part
    accessor: int
    tangent: int | None
    primitives: tuple[int, ...]
    start: int
    count: int


class _Writer:
    def __init__(self, document: Document, buffers: Buffers, scene: Scene, vertices: np.ndarray):
        self._edits = Edits(document, buffers)
        self._document, self._buffers, self._scene = document, buffers, scene
        before = _world(scene)
        self._moved = (vertices != before.astype(np.float32)).any(axis=1)
        self._after = np.where(self._moved[:, None], vertices.astype(np.float64), before)
        self._before = before
        self._meshes: dict[tuple[int, int | None], dict[str, Any]] = {}  # by node and instance, those to write into
        self._owned: set[int] = set()  # accessors that have been written
        self._uses = _uses(document.description)

    def written(self, stem: str) -> Written:
        touched = {part.placement.mesh for part in self._scene.parts if self._moved[_range(part)].any()}
        self._make_own(touched)
        for part in self._scene.parts:
            if part.placement.mesh in touched:
                self._write_positions(part)
        self._write_normals(touched)
        return self._edits.written(stem)

    def _make_own(self, touched: set[int]) -> None:
        """A mesh for each placement: the first keeps its number, further ones get copies."""
        description = self._edits.description
        first: set[int] = set()
        instances: dict[int, list[Placement]] = {}
        for placement in dict.fromkeys(part.placement for part in self._scene.parts):
            if placement.mesh not in touched:
                continue
            number = placement.mesh
            if number in first:
                description["meshes"].append(copy.deepcopy(self._document.description["meshes"][number]))
                number = len(description["meshes"]) - 1
            first.add(placement.mesh)
            self._meshes[placement.node, placement.instance] = description["meshes"][number]
            if placement.instance is None:
                description["nodes"][placement.node]["mesh"] = number
            else:
                instances.setdefault(placement.node, []).append(placement)
                self._add_node(placement, number, len(instances[placement.node]) - 1)
        for index in instances:
            node = description["nodes"][index]
            del node["mesh"], node["extensions"][INSTANCING]
            if not node["extensions"]:
                del node["extensions"]
        if instances:
            self._forget_instancing()

    def _add_node(self, placement: Placement, mesh: int, place: int) -> None:
        """A node for an instance, before the children that its node has."""
        description = self._edits.description
        assert placement.instance_transform is not None
        matrix = placement.instance_transform.T.reshape(-1).tolist()
        description["nodes"].append({"mesh": mesh, "matrix": matrix})
        description["nodes"][placement.node].setdefault("children", []).insert(place, len(description["nodes"]) - 1)

    def _forget_instancing(self) -> None:
        description = self._edits.description
        if any(INSTANCING in node.get("extensions", {}) for node in description["nodes"]):
            return
        for key in ("extensionsUsed", "extensionsRequired"):
            names = [name for name in description.get(key, []) if name != INSTANCING]
            if names:
                description[key] = names
            else:
                description.pop(key, None)

    def _write_positions(self, part: Part) -> None:
        where = _range(part)
        moved = self._moved[where]
        first = next(iter(part.surface.primitives))
        old = self._document.description["meshes"][part.placement.mesh]["primitives"][first]["attributes"]["POSITION"]
        local = part.surface.points
        if moved.any():
            local = np.where(moved[:, None], _taken_back(part.placement, self._after[where]), local)
        self._put(part, "POSITION", whole(old), local.astype(np.float32), bounds=True)

    def _write_normals(self, touched: set[int]) -> None:
        slots, shading = self._shading()
        if not slots:
            return
        faces = np.concatenate([faces for part in self._scene.parts for faces in part.faces()])
        normals, tangents = renewed(self._before, self._after, faces, shading)
        for found in slots:
            linear = found.part.placement.transform[:3, :3]
            if found.part.placement.mesh not in touched or not _invertible(linear):
                continue
            where = slice(found.start, found.start + found.count)
            self._put_vectors(
                found, "NORMAL", found.accessor, normals[where] @ linear, shading.normals[where] != normals[where]
            )
            if found.tangent is not None and tangents is not None:
                assert shading.tangents is not None
                changed = shading.tangents[where] != tangents[where]
                self._put_vectors(found, "TANGENT", found.tangent, tangents[where] @ np.linalg.inv(linear).T, changed)

    def _shading(self) -> tuple[list[_Slots], Shading]:
        """Every normal of the scene, in world space; the last slot stands for corners that have none."""
        slots: list[_Slots] = []
        normals, tangents, vertex, corners = [], [], [], []
        start = 0
        for part in self._scene.parts:
            primitives = self._document.description["meshes"][part.placement.mesh]["primitives"]
            known: dict[tuple[int | None, int | None], _Slots] = {}
            for number, faces in part.surface.primitives.items():
                attributes = primitives[number]["attributes"]
                key = (attributes.get("NORMAL"), attributes.get("TANGENT"))
                if key[0] is None:
                    corners.append(np.full(faces.shape, -1))
                    continue
                if key not in known:
                    normal, tangent = self._vectors(part, whole(key[0]), key[1])
                    known[key] = _Slots(part, whole(key[0]), key[1], (), start, len(normal))
                    normals.append(normal)
                    tangents.append(tangent)
                    vertex.append(part.start + np.arange(len(normal)))
                    start += len(normal)
                    slots.append(known[key])
                turned = part.faces()[list(part.surface.primitives).index(number)] - part.start
                corners.append(known[key].start + turned)
        none = np.zeros((1, 3))
        corner = np.concatenate([np.zeros((0, 3), dtype=np.int64), *corners])
        return slots, Shading(
            np.concatenate([*normals, none]),
            np.concatenate([*vertex, [0]]),
            np.where(corner < 0, start, corner),
            np.concatenate([*tangents, none]) if any(s.tangent is not None for s in slots) else None,
        )

    def _vectors(self, part: Part, normal: int, tangent: int | None) -> tuple[np.ndarray, np.ndarray]:
        """(V, 3) normals and tangents of a part in world space, of length 1; zeros where there are none."""
        linear = part.placement.transform[:3, :3]
        count = len(part.surface.points)
        if not _invertible(linear):
            return np.zeros((count, 3)), np.zeros((count, 3))
        normals = _unit(self._array(normal, count) @ np.linalg.inv(linear))
        if tangent is None:
            return normals, np.zeros((count, 3))
        return normals, _unit(self._array(whole(tangent), count)[:, :3] @ linear.T)

    def _array(self, accessor: int, count: int) -> np.ndarray:
        values = decoded(
            accessor_array(self._buffers, accessor, limit=count), self._document.description["accessors"][accessor]
        )
        if len(values) != count or values.shape[1] < 3:
            raise MeshFormatError(f"accessor {accessor} has {len(values)} rows for {count} vertices")
        return values

    def _put_vectors(self, found: _Slots, semantic: str, index: int, local: np.ndarray, changed: np.ndarray) -> None:
        """Unit vectors, those that changed; the others, and a tangent's sign, as they were."""
        old = self._array(whole(index), found.count)
        new = old.copy()
        rows = changed.any(axis=1)
        new[rows, :3] = _unit(local)[rows]
        self._put(found.part, semantic, whole(index), new.astype(np.float32), bounds=False)

    def _put(self, part: Part, semantic: str, old: int, values: np.ndarray, *, bounds: bool) -> None:
        """Give the part's mesh these values wherever its primitives name the accessor `old`."""
        description = self._edits.description
        mesh = self._meshes[part.placement.node, part.placement.instance]
        users = [p["attributes"] for p in mesh["primitives"] if p["attributes"].get(semantic) == old]
        same = np.array_equal(self._array(old, len(values)).astype(np.float32), values)
        index = old
        if old in self._owned or self._uses.get(old, 0) > len(users):
            if same and old not in self._owned:
                return
            index = self._edits.new_accessor(self._document.description["accessors"][old])
            for attributes in users:
                attributes[semantic] = index
            self._edits.fill(index, values)
        elif not same and not self._edits.overwrite(index, values):
            self._edits.fill(index, values)
        self._owned.add(index)
        accessor = description["accessors"][index]
        if len(values) and (bounds or "min" in accessor or "max" in accessor):
            accessor["min"], accessor["max"] = values.min(axis=0).tolist(), values.max(axis=0).tolist()


def _world(scene: Scene) -> np.ndarray:
    return np.concatenate([np.zeros((0, 3)), *(part.world() for part in scene.parts)])


def _uses(description: dict[str, Any]) -> dict[int, int]:
    named: list[Any] = []
    for mesh in description.get("meshes", []):
        for primitive in mesh["primitives"]:
            named += primitive["attributes"].values()
            named.append(primitive.get("indices"))
            named += (index for target in primitive.get("targets", []) for index in target.values())
    for animation in description.get("animations", []):
        for sampler in animation.get("samplers", []):
            named += (sampler.get("input"), sampler.get("output"))
    named += (skin.get("inverseBindMatrices") for skin in description.get("skins", []))
    for node in description.get("nodes", []):
        named += node.get("extensions", {}).get(INSTANCING, {}).get("attributes", {}).values()
    counts: dict[int, int] = {}
    for index in named:
        if isinstance(index, int):
            counts[index] = counts.get(index, 0) + 1
    return counts


def _range(part: Part) -> slice:
    return slice(part.start, part.start + len(part.surface.points))


def _invertible(linear: np.ndarray) -> bool:
    sizes = np.linalg.svd(linear, compute_uv=False)
    return bool(sizes[-1] > _FLAT * sizes[0])


def _taken_back(placement: Placement, world: np.ndarray) -> np.ndarray:
    """(V, 3) positions in the mesh's own space."""
    transform = placement.transform
    if np.array_equal(transform, np.eye(4)):
        return world
    if not _invertible(transform[:3, :3]):
        raise MeshFormatError(
            f"node {placement.node} flattens its mesh (a scale of 0), so that moved positions cannot be written into it"
        )
    return (world - transform[:3, 3]) @ np.linalg.inv(transform[:3, :3]).T


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
