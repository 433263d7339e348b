"""The mesh that is refined in place of the one in a file, and the way back.

A file splits vertices along seams and creases, holds strays, stands anywhere in units of its own and may have millions
of faces. What is refined is one surface, centred, one unit large, of no more faces than a silhouette can tell; what
moved is then carried back to every vertex of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh.decimation import decimated
from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.surface import Surface
from refine_batch.mesh.welding import weld

# How hastily a mesh is decimated, tried in this order: where many long triangles meet in a point haste makes spikes.
HASTE = (7, 5, 3)
# By how much, in extents, a decimated surface may leave the one it is made of, at all but a few of so many vertices;
# and by how much times 1/√faces: flat faces leave what is curved by the more the fewer there are.
LEFT, CHORD, SAMPLES, ALL_BUT = 0.01, 0.5, 2000, 0.99


@dataclass(frozen=True, eq=False)
class WorkingMesh:
    """A file's mesh as one surface, in shares of its largest extent about the middle of its box.

    Attributes
    ----------
    mesh
        What is refined: welded, without strays, of at most about the faces asked for.
    source
        The file's, as it is.
    centre : (3,) float64
        The middle of the box of what the source's faces use, object units.
    extent
        The largest extent of that box, object units.
    place : (V,) int64
        Which vertex of the welded surface each vertex of the source is; −1 for those that no face uses.
    welded : (W, 3) float32 or None
        Where the surface was decimated: its vertices before, in working units.
    """

    mesh: Mesh
    source: Mesh
    centre: np.ndarray
    extent: float
    place: np.ndarray
    welded: np.ndarray | None = None

    @classmethod
    def of(cls, source: Mesh, faces: int | None = None, name: str = "the mesh") -> WorkingMesh:
        """The working mesh of a mesh that was checked (`Mesh.check`).

        Parameters
        ----------
        faces
            Decimate to about this many where there are more; None: never. A surface that falls apart with fewer, or
            comes to stand elsewhere, stays.
        name
            Tells the reader of an error which mesh it is.

        Raises
        ------
        InstanceError
            MESH_BROKEN: no face has an area.
        """
        surface, place = weld(source)
        if not len(surface.faces):
            raise InstanceError(ErrorKind.MESH_BROKEN, f"{name}: no face of the mesh has an area")
        low, high = (pick(surface.vertices.astype(np.float64), axis=0) for pick in (np.min, np.max))
        centre, extent = (low + high) / 2.0, float((high - low).max())
        whole = Mesh(_placed(surface.vertices, centre, extent), surface.faces)
        if faces is None or len(whole.faces) <= faces:
            return cls(whole, source, centre, extent, place)
        for haste in HASTE:
            try:
                small = weld(decimated(whole, faces, haste))[0]
            except InstanceError:
                continue
            if _faithful(small, whole):
                return cls(small, source, centre, extent, place, whole.vertices)
        return cls(whole, source, centre, extent, place)

    @property
    def decimated(self) -> bool:
        return self.welded is not None

    def placed(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float32 of (N, 3) points in object units, in working units."""
        return _placed(points, self.centre, self.extent)

    def carry(self, vertices: np.ndarray) -> np.ndarray:
        """(V, 3) float32: the source's vertices, moved as the working mesh was, in object units.

        Exact by index where nothing was decimated; else each vertex takes the displacement of the point of the working
        surface that is nearest to it, so that what is finer than that surface stays on it. Vertices that coincided
        still do; one that nothing moved, or that no face uses, is the source's to the last bit.

        Parameters
        ----------
        vertices : (W, 3)
            The working mesh's vertices, moved.
        """
        moved = (np.asarray(vertices, np.float64) - self.mesh.vertices) * self.extent
        if self.decimated:
            face, share = self._nearest
            moved = np.einsum("nk,nkc->nc", share, moved[self.mesh.faces[face]])
        carried = self.source.vertices.copy()
        on_surface = self.place >= 0
        carried[on_surface] = self.source.vertices[on_surface] + moved[self.place[on_surface]]
        return carried

    def values(self, of_vertex: np.ndarray) -> np.ndarray:
        """(V,) float32: a value per vertex of the working mesh at each of the source's; NaN at those of no face."""
        found = np.asarray(of_vertex, np.float64)
        if self.decimated:
            face, share = self._nearest
            found = (share * found[self.mesh.faces[face]]).sum(axis=1)
        return np.where(self.place >= 0, found[self.place], np.nan).astype(np.float32)

    @cached_property
    def _nearest(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.welded is not None
        return Surface(self.mesh).closest(self.welded)


def _faithful(small: Mesh, whole: Mesh) -> bool:
    """Whether a decimated surface stands where the one it is made of does: nowhere outside its box, and near it."""
    if not len(small.faces):
        return False
    box = [np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)]) for mesh in (small, whole)]
    left = max(LEFT, CHORD / np.sqrt(len(small.faces)))
    if np.abs(box[0] - box[1]).max() > 2.0 * left:
        return False
    some = whole.vertices[:: max(1, len(whole.vertices) // SAMPLES)]
    apart = np.linalg.norm(Surface(small).nearest(some) - some, axis=1)
    return bool(np.quantile(apart, ALL_BUT) <= left)


def _placed(points: np.ndarray, centre: np.ndarray, extent: float) -> np.ndarray:
    return ((np.asarray(points, np.float64) - centre) / extent).astype(np.float32)
