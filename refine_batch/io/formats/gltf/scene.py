"""The nodes of a scene: which mesh stands where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError
from refine_batch.io.formats.gltf.accessors import accessor_array, decoded
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import INSTANCING, whole

MAX_NODES = 100_000


@dataclass(frozen=True, eq=False)
class Placement:
    """A mesh where a node puts it; `instance` counts the copies of a node that has EXT_mesh_gpu_instancing."""

    node: int
    mesh: int
    transform: np.ndarray  # (4, 4) float64, object to scene
    instance: int | None = None
    instance_transform: np.ndarray | None = None  # (4, 4), within the node


def placements(buffers: Buffers) -> Iterator[Placement]:
    """Every mesh of the default scene, parents before children."""
    nodes = buffers.description.get("nodes", [])
    if len(nodes) > MAX_NODES:
        raise MeshFormatError(f"it has {len(nodes)} nodes; the limit is {MAX_NODES}")
    seen: set[int] = set()
    waiting = [(root, np.eye(4)) for root in reversed(_roots(buffers.description, nodes))]
    while waiting:
        index, parent = waiting.pop()
        index = whole(index)
        if index in seen:
            raise MeshFormatError(f"node {index} has two parents or is its own ancestor")
        seen.add(index)
        node = nodes[index]
        transform = parent @ local_transform(node, index)
        if "mesh" in node:
            mesh = whole(node["mesh"])
            if INSTANCING in node.get("extensions", {}):
                for i, within in enumerate(_instances(buffers, node["extensions"][INSTANCING], index)):
                    yield Placement(index, mesh, transform @ within, i, within)
            else:
                yield Placement(index, mesh, transform)
        waiting.extend((child, transform) for child in reversed(node.get("children", [])))


def _roots(description: dict[str, Any], nodes: list) -> list:
    scenes = description.get("scenes", [])
    if scenes:
        return scenes[whole(description.get("scene", 0))].get("nodes", [])
    children = {child for node in nodes for child in node.get("children", [])}
    return [i for i in range(len(nodes)) if i not in children]


def _instances(buffers: Buffers, extension: dict[str, Any], index: int) -> Iterator[np.ndarray]:
    """The 4×4 of each copy; https://github.com/KhronosGroup/glTF, EXT_mesh_gpu_instancing."""
    found: dict[str, np.ndarray] = {}
    for name in ("TRANSLATION", "ROTATION", "SCALE"):
        if name in extension.get("attributes", {}):
            accessor = whole(extension["attributes"][name])
            values = accessor_array(buffers, accessor, limit=MAX_NODES)
            found[name.lower()] = decoded(values, buffers.description["accessors"][accessor])
    counts = {len(values) for values in found.values()}
    if len(counts) != 1:
        raise MeshFormatError(f"the instances of node {index} have no common number")
    for i in range(counts.pop()):
        yield local_transform({name: values[i] for name, values in found.items()}, index)


def local_transform(node: dict[str, Any], index: int) -> np.ndarray:
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
