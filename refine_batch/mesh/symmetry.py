"""The symmetry plane of a coarse mesh, found in its shape, and how far the shape bears it out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.mirrored import fitted, held
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
# How far off what few points say of a mesh's asymmetry may be, as a factor: no more points are asked where no more than
# that is to be known.
ROUGHLY = 1.3
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
# Points by which planes are fitted, by which they are searched and fitted first, and after how many of those what is
# not among the best drops out.
_SAMPLES, _FEW, _DROP = 400, 133, (16, 48)
_DIRECTIONS = 24
_STARTS = 2
# Steps of a fit from anywhere, of one by few points, and of one that takes up where that ended.
_STEPS, _ROUGH_STEPS, _LAST_STEPS = 6, 4, 4
# Planes so near each other after the first, in radians and extents, are on their way to the same.
_SAME = 0.01


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
    own = None if origin is None else mirror.own_plane(origin)

    def is_own(best: float) -> bool:
        """Whether it is taken where the best plane is one of this asymmetry."""
        return own is not None and own[0] + ALIKE <= min(OWN_LIMIT, OWN_MARGIN * (best + ALIKE))

    found = mirror.searched()
    rough = mirror.fitted([plane for _, plane in found[:_STARTS]], True, _FEW, _ROUGH_STEPS)
    # All points are asked only where few leave it open.
    if not is_own(min(asymmetry for asymmetry, _ in rough) / ROUGHLY):
        best = min(mirror.fitted(_worth_fitting(rough), steps=_LAST_STEPS), key=lambda one: one[0])
        if not is_own(best[0]):
            z, x = (next(one for one in found if one[1].axis == axis) for axis in ("z", "x"))
            across = mirror.across(z, x, AXIS_MARGIN * (best[0] + ALIKE))
            asymmetry, plane = best if across is None else across
            return believed(plane, asymmetry)
    assert own is not None
    return replace(own[1], trust=trust_of(own[0], OWN_HALF_BELIEVED, OWN_STEEPNESS))


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

    def asymmetry(self, plane: SymmetryPlane) -> float:
        """Root mean square distance from the mirrored surface to the surface, in the mesh's units."""
        return math.sqrt(self._held([plane], 0, _SAMPLES)[0] / _SAMPLES)

    def own_plane(self, origin: Sequence[float]) -> tuple[float, SymmetryPlane] | None:
        """The better of the planes across z and x through this point, with its asymmetry; None where that point is but
        the middle of the mesh, or the mesh far from its mirror image in either."""
        middles = np.stack([np.zeros(3), self._points.mean(axis=0), self._vertices.mean(axis=0)])
        found = []
        for axis in ("z", "x"):
            normal = np.asarray(AXES[axis])
            offset = float(np.dot(normal, origin))
            if np.abs(middles @ normal - offset).min() > CENTRED:
                plane = SymmetryPlane(AXES[axis], offset)
                found.append((math.sqrt(self._held([plane], 0, _FEW)[0] / _FEW), plane))
        # Of what is out of the question by few points, no more is asked.
        least = min(map(_as_axis, found), default=0.0)
        close = [one for one in found if _as_axis(one) <= ROUGHLY * least and one[0] <= ROUGHLY * OWN_LIMIT]
        return min(((self.asymmetry(plane), plane) for _, plane in close), key=_as_axis, default=None)

    def searched(self) -> list[tuple[float, SymmetryPlane]]:
        """The best of upright planes all round, through the middle of the box in each direction and through the mean
        point, with their asymmetries by few points, the best first: at least `_STARTS` and those of the axes."""
        angles = np.arange(_DIRECTIONS) * (math.pi / _DIRECTIONS)
        # Rounded, lest the plane across x be none of the axes'.
        normals = np.round(np.stack([np.sin(angles), np.zeros(_DIRECTIONS), np.cos(angles)], axis=1), 12)
        along = normals @ self._vertices.T
        offsets = (along.min(axis=1) + along.max(axis=1)) / 2.0, normals @ self._points.mean(axis=0)
        planes = [
            SymmetryPlane((x, y, z), offset)
            for (x, y, z), both in zip(normals.tolist(), np.stack(offsets, axis=1).tolist(), strict=True)
            for offset in both
        ]
        squared = np.zeros(len(planes))

        def hold(wanted: np.ndarray, first: int, last: int) -> None:
            some = [plane for plane, is_wanted in zip(planes, wanted, strict=True) if is_wanted]
            squared[wanted] += self._held(some, first, last)

        whole = np.array([plane.axis is not None for plane in planes])
        hold(np.ones(len(planes), bool), 0, _DROP[0])
        whole[np.argsort(squared)[:_STARTS]] = True
        hold(whole, _DROP[0], _FEW)
        # What is farther from its image by some of the points than enough others by all of them is none of the best.
        enough = np.sort(squared[whole])[_STARTS - 1]
        left = ~whole
        for first, last in itertools.pairwise((*_DROP, _FEW)):
            left &= squared <= enough
            hold(left, first, last)
        asymmetry = np.sqrt(squared / _FEW)
        return [(float(asymmetry[i]), planes[i]) for i in np.argsort(squared, kind="stable") if whole[i] or left[i]]

    def fitted(
        self, planes: Sequence[SymmetryPlane], turn: bool = True, count: int = _SAMPLES, steps: int = _STEPS
    ) -> list[tuple[float, SymmetryPlane]]:
        """Each plane fitted to the distances of `count` mirrored points to the surface, and the asymmetry there.

        `turn`: whether directions are fitted, too.
        """
        found, squared = fitted(self._surface, self._points, _numbers(planes), count, steps, turn)
        planes = [SymmetryPlane((x, y, z), offset) for x, y, z, offset in found.tolist()]
        return list(zip(np.sqrt(squared / count).tolist(), planes, strict=True))

    def across(
        self, z: tuple[float, SymmetryPlane], x: tuple[float, SymmetryPlane], limit: float
    ) -> tuple[float, SymmetryPlane] | None:
        """Of planes across the axes z and x, with their asymmetries by few points, each fitted in its offset, the one
        to be taken, with its asymmetry; None where that, `ALIKE` added, is above `limit`."""
        # No fit makes up for so much.
        if x[0] > HOPELESS[0] * z[0]:
            tried = [z[1]]
        elif z[0] > HOPELESS[1] * x[0]:
            tried = [x[1]]
        else:
            tried = [z[1], x[1]]
        rough = self.fitted(tried, False, _FEW, _ROUGH_STEPS)
        least = min(map(_as_axis, rough))
        close = [one for one in rough if _as_axis(one) <= ROUGHLY * least and one[0] + ALIKE <= ROUGHLY * limit]
        if not close:
            return None
        taken = min(self.fitted([plane for _, plane in close], False, steps=_LAST_STEPS), key=_as_axis)
        return taken if taken[0] + ALIKE <= limit else None

    def _held(self, planes: Sequence[SymmetryPlane], first: int, last: int) -> np.ndarray:
        """(P,) sums of the squared distances of some of the mirrored points to the surface."""
        return held(self._surface, self._points, _numbers(planes), first, last)


def _numbers(planes: Sequence[SymmetryPlane]) -> np.ndarray:
    """(P, 4) float64 normals and offsets."""
    return np.array([[*plane.normal, plane.offset] for plane in planes]).reshape(-1, 4)


def _as_axis(one: tuple[float, SymmetryPlane]) -> float:
    """By which of the planes across z and x, given with their asymmetries, is taken: x's must be better by far."""
    return (one[0] + ALIKE) / (Z_MARGIN if one[1].axis == "z" else 1.0)


def _worth_fitting(rough: Sequence[tuple[float, SymmetryPlane]]) -> list[SymmetryPlane]:
    """Of planes with their asymmetries by few points those that may be the best by all of them, each once."""
    best, *others = sorted(rough, key=lambda one: one[0])
    kept = [best[1]]
    for asymmetry, plane in others:
        if asymmetry <= ROUGHLY * best[0] and not any(_apart(plane, other) < _SAME for other in kept):
            kept.append(plane)
    return kept


def _apart(one: SymmetryPlane, other: SymmetryPlane) -> float:
    """How far apart planes are, by their normals or offsets."""
    way = 1.0 if np.dot(one.normal, other.normal) >= 0.0 else -1.0
    turned = np.abs(np.subtract(one.normal, np.multiply(way, other.normal))).max()
    return float(max(turned, abs(one.offset - way * other.offset)))


def asymmetry(mesh: Mesh, plane: SymmetryPlane, seed: int = 0) -> float:
    """Root mean square distance from the surface mirrored in `plane` to the surface, in the mesh's units."""
    return Mirror(mesh, seed).asymmetry(plane)
