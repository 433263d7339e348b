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
        faces = np.ascontiguousarray(self.faces, dtype=np.int32)
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise ValueError(f"Mesh: expected vertices of shape (V, 3), got {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"Mesh: expected faces of shape (F, 3), got {faces.shape}")
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)

    def check(self, name: str) -> None:
        """Raise `InstanceError` unless the mesh can be refined; `name` (a URI, say) tells the reader which it is."""
        if len(self.vertices) == 0 or len(self.faces) == 0:
            raise InstanceError(
                ErrorKind.MESH_EMPTY,
                f"{name}: the mesh has {len(self.vertices)} vertices and {len(self.faces)} faces; it needs some of both",
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
        extent = float((self.vertices.max(axis=0) - self.vertices.min(axis=0)).max())
        if extent == 0.0:
            raise InstanceError(ErrorKind.MESH_BROKEN, f"{name}: all vertices lie at one point")
