"""Binary glTF 2.0 (https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html), the triangles of its default scene.

Only the chunk inside the file is read: a buffer with a URI, `data:` or otherwise, is refused, and images are not looked
at. Compressed, quantised and sparse positions are refused with their names rather than read as something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, check_face_count, check_vertex_count

MAGIC = b"glTF"
_INDEX_TYPES: dict[int, np.dtype] = {5121: np.dtype("<u1"), 5123: np.dtype("<u2"), 5125: np.dtype("<u4")}
_FLOAT = 5126
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_MAX_NODES = 100_000
_MAX_DESCRIPTION = 1 << 26


def read_glb(data: bytes, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float64 vertices and (F, 3) int64 faces of the default scene, its transforms applied.

    Primitives follow one another in the order of the scene's nodes; those of one mesh that use the same positions share
    their vertices. A transform that mirrors turns its faces round, so that they still face outwards.
    """
    try:
        with np.errstate(all="ignore"):  # what becomes infinite is refused by the caller
            return _Reader(*_chunks(data)).read(max_faces)
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MeshFormatError(f"its description does not hold together ({type(error).__name__}: {error})") from error


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    if len(data) < 20 or data[:4] != MAGIC:
        raise MeshFormatError("it is not a binary glTF file")
    version = int.from_bytes(data[4:8], "little")
    length = int.from_bytes(data[8:12], "little")
    if version != 2:
        raise MeshFormatError(f"it is glTF version {version}; only 2 is supported")
    if length > len(data):
        raise MeshFormatError(f"it is cut short: its header says {length} bytes, {len(data)} are there")
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= length:
        size = int.from_bytes(data[at : at + 4], "little")
        if at + 8 + size > length:
            raise MeshFormatError("it is cut short: a chunk reaches past its end")
        chunks.setdefault(data[at + 4 : at + 8], data[at + 8 : at + 8 + size])
        at += 8 + size
    if len(chunks.get(b"JSON", b"")) > _MAX_DESCRIPTION:
        raise MeshFormatError(f"its JSON chunk has more than {_MAX_DESCRIPTION} bytes, the limit")
    try:
        description = json.loads(chunks.get(b"JSON", b"").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MeshFormatError(f"its JSON chunk cannot be read: {error}") from error
    if not isinstance(description, dict):
        raise MeshFormatError("its JSON chunk is not an object")
    return description, chunks.get(b"BIN\x00", b"")


class _Reader:
    def __init__(self, description: dict[str, Any], binary: bytes):
        self._gltf, self._binary = description, binary
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._vertex_count = self._face_count = 0

    def read(self, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
        for mesh, transform in self._meshes():
            self._add_mesh(self._gltf["meshes"][_index(mesh)], transform, max_faces)
        vertices = np.concatenate([np.zeros((0, 3)), *self._vertices])
        return vertices, np.concatenate([np.zeros((0, 3), dtype=np.int64), *self._faces])

    def _meshes(self) -> Iterator[tuple[Any, np.ndarray]]:
        """(mesh index, 4×4 transform) of every node of the scene that has a mesh, parents before children."""
        nodes = self._gltf.get("nodes", [])
        if len(nodes) > _MAX_NODES:
            raise MeshFormatError(f"it has {len(nodes)} nodes; the limit is {_MAX_NODES}")
        seen: set[int] = set()
        waiting = [(root, np.eye(4)) for root in reversed(self._roots(nodes))]
        while waiting:
            index, parent = waiting.pop()
            index = _index(index)
            if index in seen:
                raise MeshFormatError(f"node {index} has two parents or is its own ancestor")
            seen.add(index)
            transform = parent @ _local_transform(nodes[index], index)
            if "mesh" in nodes[index]:
                yield nodes[index]["mesh"], transform
            waiting.extend((child, transform) for child in reversed(nodes[index].get("children", [])))

    def _roots(self, nodes: list) -> list:
        scenes = self._gltf.get("scenes", [])
        if scenes:
            return scenes[_index(self._gltf.get("scene", 0))].get("nodes", [])
        children = {child for node in nodes for child in node.get("children", [])}
        return [i for i in range(len(nodes)) if i not in children]

    def _add_mesh(self, mesh: dict, transform: np.ndarray, max_faces: int) -> None:
        placed: dict[int, tuple[int, int]] = {}
        mirrored = np.linalg.det(transform[:3, :3]) < 0
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", _TRIANGLES)
            if mode not in (_TRIANGLES, _STRIP, _FAN):
                continue
            for name in primitive.get("extensions", {}):
                if "compression" in str(name):
                    raise MeshFormatError(f"it is compressed ({str(name)[:40]!a}); write it uncompressed")
            position = _index(primitive["attributes"]["POSITION"])
            corners = self._corner_count(primitive, position)
            self._face_count += corners // 3 if mode == _TRIANGLES else max(corners - 2, 0)
            check_face_count(self._face_count, max_faces)
            if position not in placed:
                points = self._positions(position) @ transform[:3, :3].T + transform[:3, 3]
                placed[position] = (self._vertex_count, len(points))
                self._vertices.append(points)
                self._vertex_count += len(points)
                check_vertex_count(self._vertex_count, max_faces)
            start, count = placed[position]
            indices = self._indices(primitive["indices"]) if "indices" in primitive else np.arange(count)
            if len(indices) and indices.max() >= count:
                raise MeshFormatError(f"a face names vertex {indices.max()} of a primitive with {count} vertices")
            faces = _triangles(indices, mode)
            self._faces.append(start + (faces[:, ::-1] if mirrored else faces))

    def _corner_count(self, primitive: dict, position: int) -> int:
        return _index(self._gltf["accessors"][_index(primitive.get("indices", position))]["count"])

    def _positions(self, index: int) -> np.ndarray:
        accessor = self._gltf["accessors"][index]
        if accessor["componentType"] != _FLOAT or accessor["type"] != "VEC3":
            raise MeshFormatError("its positions are quantised; write them as 32-bit floats")
        return self._read(accessor, np.dtype("<f4"), 3).astype(np.float64)

    def _indices(self, index: int) -> np.ndarray:
        accessor = self._gltf["accessors"][_index(index)]
        if accessor["componentType"] not in _INDEX_TYPES or accessor["type"] != "SCALAR":
            raise MeshFormatError("its indices are not unsigned whole numbers")
        return self._read(accessor, _INDEX_TYPES[accessor["componentType"]], 1)[:, 0].astype(np.int64)

    def _read(self, accessor: dict, dtype: np.dtype, width: int) -> np.ndarray:
        """(count, width) of an accessor: a view into the file's own chunk, so that no claim can cost memory."""
        if "sparse" in accessor or "bufferView" not in accessor:
            raise MeshFormatError("it uses sparse or empty accessors, which are not supported")
        view = self._gltf["bufferViews"][_index(accessor["bufferView"])]
        buffer = _index(view["buffer"])
        if buffer != 0 or "uri" in self._gltf["buffers"][buffer]:
            raise MeshFormatError("its data lies in another file; only data inside the file is read")
        start = _index(view.get("byteOffset", 0)) + _index(accessor.get("byteOffset", 0))
        stride = _index(view.get("byteStride", width * dtype.itemsize))
        count = _index(accessor["count"])
        end = _index(view.get("byteOffset", 0)) + _index(view["byteLength"])
        if stride < width * dtype.itemsize or end > len(self._binary):
            raise MeshFormatError("it is cut short or a buffer view lies outside its data")
        if count == 0:
            return np.zeros((0, width), dtype=dtype)
        if start + stride * (count - 1) + width * dtype.itemsize > end:
            raise MeshFormatError("an accessor reaches past its data")
        return np.ndarray((count, width), dtype, self._binary, start, (stride, dtype.itemsize))


def _index(value: Any) -> int:
    """A JSON number that must be a whole one, from 0; Python would let −1 count from the end."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MeshFormatError(f"its description has {str(value)[:40]!a} where a whole number from 0 belongs")
    return value


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    if mode == _TRIANGLES:
        if len(indices) % 3:
            raise MeshFormatError(f"a list of triangles has {len(indices)} corners, which is no multiple of 3")
        return indices.reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), dtype=np.int64)
    if mode == _FAN:
        return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
    strip = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip


def _local_transform(node: dict, index: int) -> np.ndarray:
    """4×4 of a node: its matrix (given column by column), or translation · rotation · scale."""
    try:
        if "matrix" in node:
            transform = np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
        else:
            x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), dtype=np.float64)
            rotation = np.array([
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ])  # fmt: skip
            transform = np.eye(4)
            transform[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), dtype=np.float64).reshape(3)
            transform[:3, 3] = np.array(node.get("translation", (0, 0, 0)), dtype=np.float64).reshape(3)
    except ValueError as error:
        raise MeshFormatError(f"the transform of node {index} has the wrong shape") from error
    if not np.isfinite(transform).all():
        raise MeshFormatError(f"the transform of node {index} is not finite")
    return transform
