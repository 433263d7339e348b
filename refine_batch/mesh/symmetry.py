"""The symmetry plane of a coarse mesh, found in its shape, and how far the shape bears it out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.sampling import has_area, sample_surface
from refine_batch.mesh.surface import Surface

# A plane is believed by half where the mesh is this far (in extents) from its mirror image.
HALF_BELIEVED = 0.03
# Below this share a plane is none.
LEAST_TRUST = 0.02
# How much farther from its mirror image a mesh may be in an axis' plane than in an oblique one, and in z's than in x's,
# for that to be taken: people put objects upright along the axes, z across.
AXIS_MARGIN, Z_MARGIN = 1.15, 1.3
_SAMPLES, _FEW = 400, 133
_DIRECTIONS = 24
_STARTS = 2
_STEPS = 3
# Share of the samples that a plane is fitted to: objects are symmetric but for a handle.
_FITTED = 0.8


def find_plane(mesh: Mesh, seed: int = 0) -> SymmetryPlane | None:
    """The upright plane in which the mesh is most nearly its own mirror image, with how far it is to be believed.

    Any upright plane, wherever it stands: directions are tried all round, the best of them fitted to pairs of points
    and their images. An axis' plane is taken where an oblique one is hardly better; z's, the field's default, before
    x's.

    Parameters
    ----------
    mesh
        About the origin, its largest extent 1, y up.

    Returns
    -------
    SymmetryPlane or None
        None where no plane is believed at all.
    """
    if not has_area(mesh):
        return None
    mirror = Mirror(mesh, seed)
    found = mirror.searched()
    fitted = [mirror.fitted(plane) for _, plane in found[:_STARTS]]
    best = min(fitted, key=lambda one: one[0])
    z, x = (mirror.fitted(next(p for _, p in found if p.axis == axis), turn=False) for axis in ("z", "x"))
    across = z if z[0] <= Z_MARGIN * x[0] else x
    if across[0] <= AXIS_MARGIN * best[0]:
        best = across
    return believed(best[1], best[0])


def believed(plane: SymmetryPlane, asymmetry: float) -> SymmetryPlane | None:
    """The plane with the trust that a mesh so far from its mirror image bears out; None where that is next to none."""
    trust = trust_of(asymmetry)
    return None if trust < LEAST_TRUST else SymmetryPlane(plane.normal, plane.offset, trust, free=True)


def trust_of(asymmetry: float) -> float:
    """From 1 for a mesh that is its own mirror image, by half at `HALF_BELIEVED`, to 0."""
    return 1.0 / (1.0 + (asymmetry / HALF_BELIEVED) ** 4)


class Mirror:
    """A mesh held against its mirror images."""

    def __init__(self, mesh: Mesh, seed: int = 0):
        self._points = sample_surface(mesh, _SAMPLES, seed)
        self._surface = Surface(mesh)
        self._vertices = mesh.vertices.astype(np.float64)

    def asymmetry(self, plane: SymmetryPlane) -> float:
        """Root mean square distance from the mirrored surface to the surface, in the mesh's units."""
        return _root_mean(self._held([plane], self._points)[0])[0]

    def searched(self) -> list[tuple[float, SymmetryPlane]]:
        """Upright planes all round, through the middle of the box in each direction and through the mean point, with
        their asymmetries by few points; the best first."""
        planes = []
        mean = self._points.mean(axis=0)
        for angle in np.arange(_DIRECTIONS) * (math.pi / _DIRECTIONS):
            # Rounded, lest the plane across x be none of the axes'.
            normal = np.round([math.sin(angle), 0.0, math.cos(angle)], 12)
            along = self._vertices @ normal
            offsets = (float(along.min() + along.max()) / 2.0, float(mean @ normal))
            planes += [SymmetryPlane(tuple(normal.tolist()), offset) for offset in offsets]
        few = self._points[:: _SAMPLES // _FEW]
        found = zip(_root_mean(self._held(planes, few)[0]), planes, strict=True)
        return sorted(found, key=lambda one: one[0])

    def fitted(self, plane: SymmetryPlane, turn: bool = True) -> tuple[float, SymmetryPlane]:
        """The plane fitted to points and their images' nearest ones, and the asymmetry there.

        `turn`: its direction is fitted, too.

        Of pairs p, q about their means the reflection that is best in the mean square has the normal n that makes
        Σ (p·n)(q·n) least, for |p − 2(p·n)n − q|² = |p − q|² + 4(p·n)(q·n).
        """
        best = (math.inf, plane)
        for step in range(_STEPS + 1):
            squared, nearest = self._held([plane], self._points)
            best = min(best, (_root_mean(squared)[0], plane), key=lambda found: found[0])
            if step == _STEPS:
                break
            near = np.argsort(squared[0])[: int(_FITTED * len(self._points))]
            p, q = self._points[near], nearest[0, near]
            normal = np.asarray(plane.normal)
            if turn:
                a, b = (p - p.mean(axis=0))[:, [0, 2]], (q - q.mean(axis=0))[:, [0, 2]]
                _, vectors = np.linalg.eigh(a.T @ b + b.T @ a)
                normal = np.array([vectors[0, 0], 0.0, vectors[1, 0]])
            plane = SymmetryPlane(tuple(normal.tolist()), float(((p + q) / 2.0 @ normal).mean()))
        return best

    def _held(self, planes: Sequence[SymmetryPlane], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(P, N) squared distances of mirrored points to the surface, and (P, N, 3) where they are nearest to."""
        mirrored = np.stack([plane.reflect(points) for plane in planes])
        nearest = self._surface.nearest(mirrored.reshape(-1, 3)).reshape(mirrored.shape)
        return ((mirrored - nearest) ** 2).sum(axis=2), nearest


def _root_mean(squared: np.ndarray) -> list[float]:
    return np.sqrt(squared.mean(axis=1)).tolist()


def asymmetry(mesh: Mesh, plane: SymmetryPlane, seed: int = 0) -> float:
    """Root mean square distance from the surface mirrored in `plane` to the surface, in the mesh's units."""
    return Mirror(mesh, seed).asymmetry(plane)
