"""The symmetry plane of a coarse mesh, found in its shape, and how far the shape bears it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

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
# How many times as far from its mirror image as in the other axis' plane a mesh is, in x's and in z's, before either is
# fitted, for the plane to be out of the question: of 138 shapes none of them was taken in the end.
HOPELESS = (1.5, 2.0)
# The plane through the file's own origin across one of its axes is that in which an object was made: it is taken
# where the mesh is at most so far from its mirror image in it, in extents, and at most so many times as far as in the
# best plane, and believed by half where it is as far as that, falling so steeply. The coarse mesh's own best plane has
# its errors in it.
OWN_LIMIT, OWN_MARGIN, OWN_HALF_BELIEVED, OWN_STEEPNESS = 0.05, 3.0, 0.045, 12
# An origin nearer than this, in extents, to the middle of the mesh's box, or to its mean point, was put there when the
# mesh was made, errors and all, and tells nothing of the object.
CENTRED = 0.004
# Added before they are compared: of two planes in which a mesh is its own mirror image, neither is the better one for
# the rounding of single numbers.
ALIKE = 1e-3
# Points by which planes are fitted, by which they are searched, and by which of those most drop out.
_SAMPLES, _FEW, _FIRST = 400, 133, 30
_DIRECTIONS = 24
_STARTS = 2
_STEPS = 6
# Steps shorter than this, in extents, are none.
_SETTLED = 1e-7
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
    best = min(mirror.fitted(found[:_STARTS]), key=lambda one: one[0])
    if origin is not None:
        own = mirror.own_plane(origin)
        if own is not None and own[0] + ALIKE <= min(OWN_LIMIT, OWN_MARGIN * (best[0] + ALIKE)):
            return replace(own[1], trust=trust_of(own[0], OWN_HALF_BELIEVED, OWN_STEEPNESS))
    across = mirror.across(*(next(p for p in found if p.axis == axis) for axis in ("z", "x")))
    if across[0] + ALIKE <= AXIS_MARGIN * (best[0] + ALIKE):
        best = across
    return believed(best[1], best[0])


def believed(plane: SymmetryPlane, asymmetry: float) -> SymmetryPlane | None:
    """The plane with the trust that a mesh so far from its mirror image bears out; None where that is next to none."""
    trust = trust_of(asymmetry)
    return None if trust < LEAST_TRUST else replace(plane, trust=trust, free=True)


def trust_of(asymmetry: float, half: float = HALF_BELIEVED, steepness: int = 4) -> float:
    """From 1 for a mesh that is its own mirror image, by half at `half`, to 0."""
    return 1.0 / (1.0 + (asymmetry / half) ** steepness)


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

    def searched(self) -> list[SymmetryPlane]:
        """The best of upright planes all round, through the middle of the box in each direction and through the mean
        point, by their asymmetries by few points, the best first: at least `_STARTS` and those of the axes."""
        planes = []
        mean = self._points.mean(axis=0)
        for angle in np.arange(_DIRECTIONS) * (math.pi / _DIRECTIONS):
            # Rounded, lest the plane across x be none of the axes'.
            normal = np.round([math.sin(angle), 0.0, math.cos(angle)], 12)
            along = self._vertices @ normal
            offsets = (float(along.min() + along.max()) / 2.0, float(mean @ normal))
            planes += [SymmetryPlane(tuple(normal.tolist()), offset) for offset in offsets]
        few = self._points[:: _SAMPLES // _FEW]
        first, rest = few[:_FIRST], few[_FIRST:]
        begun = self._held(planes, first)
        so_far = begun.sum(axis=1)
        squared: dict[int, np.ndarray] = {}

        def finish(wanted: np.ndarray) -> None:
            places = np.flatnonzero(wanted).tolist()
            squared.update(zip(places, self._held([planes[i] for i in places], rest), strict=True))

        wanted = np.array([plane.axis is not None for plane in planes])
        wanted[np.argsort(so_far)[:_STARTS]] = True
        finish(wanted)
        # What is farther from its image by some of the points than enough others by all of them is none of the best.
        enough = sorted(so_far[i] + held.sum() for i, held in squared.items())[_STARTS - 1]
        finish(~wanted & (so_far <= enough))
        order = sorted(squared)
        found = zip(_root_mean(np.stack([np.r_[begun[i], squared[i]] for i in order])), order, strict=True)
        return [planes[i] for _, i in sorted(found)]

    def fitted(self, planes: Sequence[SymmetryPlane], turn: bool = True) -> list[tuple[float, SymmetryPlane]]:
        """Each plane fitted to the mirrored points' distances to the surface, and the asymmetry there.

        `turn`: whether directions are fitted, too.

        Steps of Gauss and Newton in angle and offset: where a mirrored point moves by v, its distance to the surface
        changes by v·d, d being the direction from the surface to it, or the face's normal where it lies on it.
        """
        now = list(planes)
        best = [(math.inf, math.inf, plane) for plane in planes]
        nearest = None
        for step in range(_STEPS + 1):
            mirrored = _mirrored(now, self._points)
            # What was nearest to a point is no farther from where that has moved than it is.
            within = None if nearest is None else np.linalg.norm(mirrored - nearest, axis=2).ravel()
            face, nearest = self._surface.located(mirrored.reshape(-1, 3), within)
            nearest = nearest.reshape(mirrored.shape)
            away = mirrored - nearest
            distance = np.linalg.norm(away, axis=2)
            # By Geman and McClure: what has no image must not pull the plane towards itself.
            near = 1.0 / (1.0 + (distance / _REACH) ** 2)
            robust, plain = (near * distance**2).mean(axis=1).tolist(), _root_mean(distance**2)
            found = zip(robust, plain, now, strict=True)
            best = [min(one, other, key=lambda f: f[0]) for one, other in zip(best, found, strict=True)]
            if step == _STEPS:
                break
            off = (distance > _ON_SURFACE)[..., None]
            normals = self._normals[face].reshape(mirrored.shape)
            direction = np.where(off, away / np.where(off, distance[..., None], 1.0), normals)
            before, now = now, [self._stepped(*one, turn) for one in zip(now, direction, near, distance, strict=True)]
            if all(map(_alike, before, now)):
                break
        return [one[1:] for one in best]

    def across(self, z: SymmetryPlane, x: SymmetryPlane) -> tuple[float, SymmetryPlane]:
        """Of the planes across the axes z and x, each fitted in its offset, the one to be taken, with its asymmetry."""
        far = _root_mean(self._held([z, x], self._points))
        # No fit makes up for so much.
        if far[1] > HOPELESS[0] * far[0]:
            return self.fitted([z], turn=False)[0]
        if far[0] > HOPELESS[1] * far[1]:
            return self.fitted([x], turn=False)[0]
        of_z, of_x = self.fitted([z, x], turn=False)
        return of_z if of_z[0] + ALIKE <= Z_MARGIN * (of_x[0] + ALIKE) else of_x

    def _stepped(
        self, plane: SymmetryPlane, direction: np.ndarray, near: np.ndarray, distance: np.ndarray, turn: bool
    ) -> SymmetryPlane:
        """The plane one step on."""
        normal = np.asarray(plane.normal)
        p, across = self._points, direction @ normal
        slopes = np.empty((2 if turn else 1, len(p)))
        slopes[0] = 2.0 * across
        if turn:
            along = np.array([normal[2], 0.0, -normal[0]])
            slopes[1] = -2.0 * ((p @ along) * across + (p @ normal - plane.offset) * (direction @ along))
        slopes *= near
        change = np.linalg.lstsq(slopes @ slopes.T, -slopes @ (near * distance), rcond=None)[0]
        angle = math.atan2(normal[0], normal[2]) + (float(change[1]) if turn else 0.0)
        if turn:
            normal = np.array([math.sin(angle), 0.0, math.cos(angle)])
        return SymmetryPlane(tuple(normal.tolist()), plane.offset + float(change[0]))

    def _held(self, planes: Sequence[SymmetryPlane], points: np.ndarray) -> np.ndarray:
        """(P, N) squared distances of mirrored points to the surface."""
        if not planes:
            return np.zeros((0, len(points)))
        mirrored = _mirrored(planes, points)
        nearest = self._surface.nearest(mirrored.reshape(-1, 3)).reshape(mirrored.shape)
        return ((mirrored - nearest) ** 2).sum(axis=2)


def _mirrored(planes: Sequence[SymmetryPlane], points: np.ndarray) -> np.ndarray:
    """(P, N, 3) float64 mirror images of (N, 3) points in each plane."""
    normals = np.array([plane.normal for plane in planes])
    ahead = normals @ points.T - np.array([[plane.offset] for plane in planes])
    return points - 2.0 * ahead[..., None] * normals[:, None]


def _alike(one: SymmetryPlane, other: SymmetryPlane) -> bool:
    """Whether a fit has come to rest."""
    turned = np.abs(np.subtract(one.normal, other.normal)).max()
    return bool(max(turned, abs(one.offset - other.offset)) < _SETTLED)


def _root_mean(squared: np.ndarray) -> list[float]:
    return np.sqrt(squared.mean(axis=1)).tolist()


def asymmetry(mesh: Mesh, plane: SymmetryPlane, seed: int = 0) -> float:
    """Root mean square distance from the surface mirrored in `plane` to the surface, in the mesh's units."""
    return Mirror(mesh, seed).asymmetry(plane)
