"""A triangle mesh as two arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh.

    Parameters
    ----------
    vertices : (V, 3) float32
        Positions in object units, y up.
    faces : (F, 3) int32
        Vertex indices, counter-clockwise seen from outside where the mesh is oriented.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self):
        vertices = np.ascontiguousarray(self.vertices, dtype=np.float32)
        indices = np.asarray(self.faces)
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise ValueError(f"Mesh: expected vertices of shape (V, 3), got {vertices.shape}")
        if indices.ndim != 2 or indices.shape[1] != 3:
            raise ValueError(f"Mesh: expected faces of shape (F, 3), got {indices.shape}")
        if indices.size and indices.dtype.kind not in "iu":
            raise ValueError(f"Mesh: expected faces of an integer type, got {indices.dtype}")
        # Before they become int32, in which a large index could wrap round into the valid range.
        if indices.size and (indices.min() < -(2**31) or indices.max() >= 2**31):
            raise ValueError(f"Mesh: vertex indices from {indices.min()} to {indices.max()} do not fit int32")
        faces = np.ascontiguousarray(indices, dtype=np.int32)
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)

    def check(self, name: str) -> None:
        """Raise `InstanceError` unless the mesh can be refined; `name` (a URI, say) tells the reader which it is."""
        if len(self.vertices) == 0 or len(self.faces) == 0:
            raise InstanceError(
                ErrorKind.MESH_EMPTY,
                f"{name}: the mesh has {len(self.vertices)} vertices and {len(self.faces)} faces; it needs both",
            )
        if not np.isfinite(self.vertices).all():
            bad = int((~np.isfinite(self.vertices)).any(axis=1).sum())
            raise InstanceError(ErrorKind.MESH_BROKEN, f"{name}: {bad} vertices are NaN or infinite")
        low, high = int(self.faces.min()), int(self.faces.max())
        if low < 0 or high >= len(self.vertices):
            raise InstanceError(
                ErrorKind.MESH_BROKEN,
                f"{name}: a face names vertex {high if high >= len(self.vertices) else low}, "
                f"but the mesh has vertices 0 to {len(self.vertices) - 1}",
            )
        if (self.vertices.max(axis=0) == self.vertices.min(axis=0)).all():
            raise InstanceError(ErrorKind.MESH_BROKEN, f"{name}: all vertices lie at one point")
