"""The symmetry plane of a coarse mesh, found in its shape, and how far the shape bears it out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.plane import AXES, SymmetryPlane
from refine_batch.mesh.sampling import has_area, sample_surface
from refine_batch.mesh.surface import Surface

# A plane is believed by half where the mesh is this far (in extents) from its mirror image.
HALF_BELIEVED = 0.03
# Below this share a plane is none.
LEAST_TRUST = 0.02
# How much farther from its mirror image a mesh may be in an axis' plane than in an oblique one, and in z's than in x's,
# for that to be taken: people put objects upright along the axes, z across.
AXIS_MARGIN, Z_MARGIN = 1.15, 1.3
# The plane through the file's own origin across one of its axes is that in which an object was made: it is taken
# where the mesh is at most so far from its mirror image in it, in extents, and at most so many times as far as in the
# best plane, and believed by half where it is as far as that. The coarse mesh's own best plane has its errors in it.
OWN_LIMIT, OWN_MARGIN, OWN_HALF_BELIEVED = 0.05, 3.0, 0.045
# An origin nearer than this, in extents, to the middle of the mesh's box, or to its mean point, was put there when the
# mesh was made, errors and all, and tells nothing of the object.
CENTRED = 0.004
# Added before they are compared: of two planes in which a mesh is its own mirror image, neither is the better one for
# the rounding of single numbers.
ALIKE = 1e-3
_SAMPLES, _FEW = 400, 133
_DIRECTIONS = 24
_STARTS = 2
_STEPS = 6
# Nearer than this, in extents, a point lies on the surface: the direction from there is rounding.
_ON_SURFACE = 1e-5
# A plane is fitted to what is nearer than about this to its image, in extents: objects are symmetric but for a handle.
_REACH = 0.03


def find_plane(mesh: Mesh, seed: int = 0, origin: Sequence[float] | None = None) -> SymmetryPlane | None:
    """The upright plane in which the mesh is most nearly its own mirror image, with how far it is to be believed.

    Any upright plane, wherever it stands: directions are tried all round, the best of them fitted to the distances of
    mirrored points. An axis' plane is taken where an oblique one is hardly better; z's, the usual one, before x's; and
    before all of them the one through the object's own origin, where the mesh bears that out.

    Parameters
    ----------
    mesh
        Its box about (0, 0, 0), its largest extent 1, y up.
    origin
        Where the origin of the object's own coordinates is; None: nobody knows.

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
    if origin is not None:
        own = mirror.own_plane(origin)
        if own is not None and own[0] + ALIKE <= min(OWN_LIMIT, OWN_MARGIN * (best[0] + ALIKE)):
            trust = 1.0 / (1.0 + (own[0] / OWN_HALF_BELIEVED) ** 12)
            return SymmetryPlane(own[1].normal, own[1].offset, trust)
    z, x = (mirror.fitted(next(p for _, p in found if p.axis == axis), turn=False) for axis in ("z", "x"))
    across = z if z[0] + ALIKE <= Z_MARGIN * (x[0] + ALIKE) else x
    if across[0] + ALIKE <= AXIS_MARGIN * (best[0] + ALIKE):
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
        area = area_normals(mesh)
        self._normals = area / np.maximum(np.linalg.norm(area, axis=1), 1e-30)[:, None]

    def asymmetry(self, plane: SymmetryPlane) -> float:
        """Root mean square distance from the mirrored surface to the surface, in the mesh's units."""
        return _root_mean(self._held([plane], self._points))[0]

    def own_plane(self, origin: Sequence[float]) -> tuple[float, SymmetryPlane] | None:
        """The better of the planes across z and x through this point, with its asymmetry; None where that point is but
        the middle of the mesh."""
        middles = np.stack([np.zeros(3), self._points.mean(axis=0), self._vertices.mean(axis=0)])
        planes = []
        for axis in ("z", "x"):
            normal = np.asarray(AXES[axis])
            offset = float(np.dot(normal, origin))
            if np.abs(middles @ normal - offset).min() > CENTRED:
                planes.append(SymmetryPlane(AXES[axis], offset))
        found = [(self.asymmetry(plane), plane) for plane in planes]
        # x's must be the better one by far.
        return min(found, key=lambda one: (one[0] + ALIKE) / (Z_MARGIN if one[1].axis == "z" else 1.0), default=None)

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
        found = zip(_root_mean(self._held(planes, few)), planes, strict=True)
        return sorted(found, key=lambda one: one[0])

    def fitted(self, plane: SymmetryPlane, turn: bool = True) -> tuple[float, SymmetryPlane]:
        """The plane fitted to the mirrored points' distances to the surface, and the asymmetry there.

        `turn`: its direction is fitted, too.

        Steps of Gauss and Newton in angle and offset: where a mirrored point moves by v, its distance to the surface
        changes by v·d, d being the direction from the surface to it, or the face's normal where it lies on it.
        """
        best = (math.inf, math.inf, plane)
        for step in range(_STEPS + 1):
            mirrored = plane.reflect(self._points)
            face, nearest = self._surface.located(mirrored)
            away = mirrored - nearest
            distance = np.linalg.norm(away, axis=1)
            # By Geman and McClure: what has no image must not pull the plane towards itself.
            near = 1.0 / (1.0 + (distance / _REACH) ** 2)
            robust, plain = float((near * distance**2).mean()), _root_mean(distance[None] ** 2)[0]
            best = min(best, (robust, plain, plane), key=lambda found: found[0])
            if step == _STEPS:
                break
            off = (distance > _ON_SURFACE)[:, None]
            direction = np.where(off, away / np.where(off, distance[:, None], 1.0), self._normals[face])
            normal = np.asarray(plane.normal)
            along = np.array([normal[2], 0.0, -normal[0]])
            p = self._points
            by_offset = 2.0 * (direction @ normal)
            by_angle = -2.0 * ((p @ along) * (direction @ normal) + (p @ normal - plane.offset) * (direction @ along))
            slopes = np.stack([by_offset, by_angle] if turn else [by_offset], axis=1)
            change = np.linalg.lstsq(near[:, None] * slopes, -near * distance, rcond=None)[0]
            angle = math.atan2(normal[0], normal[2]) + (float(change[1]) if turn else 0.0)
            if turn:
                normal = np.array([math.sin(angle), 0.0, math.cos(angle)])
            plane = SymmetryPlane(tuple(normal.tolist()), plane.offset + float(change[0]))
        return best[1:]

    def _held(self, planes: Sequence[SymmetryPlane], points: np.ndarray) -> np.ndarray:
        """(P, N) squared distances of mirrored points to the surface."""
        mirrored = np.stack([plane.reflect(points) for plane in planes])
        nearest = self._surface.nearest(mirrored.reshape(-1, 3)).reshape(mirrored.shape)
        return ((mirrored - nearest) ** 2).sum(axis=2)


def _root_mean(squared: np.ndarray) -> list[float]:
    return np.sqrt(squared.mean(axis=1)).tolist()


def asymmetry(mesh: Mesh, plane: SymmetryPlane, seed: int = 0) -> float:
    """Root mean square distance from the surface mirrored in `plane` to the surface, in the mesh's units."""
    return Mirror(mesh, seed).asymmetry(plane)
