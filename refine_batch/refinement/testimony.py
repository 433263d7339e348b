"""What hints of depth and normals say of a refined mesh: whether they bear it out, or draw it away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.sampling import has_area
from refine_batch.mesh.symmetry import Mirror
from refine_batch.methods.base import PreparedInstance
from refine_batch.methods.hints import disagreement

# Share of the disagreement with hints below which it must fall for these to bear a refinement out, and by how much at
# least, either pair: a mesh that follows a hint's noise gains less. Of seven real shapes flattened by 20 to 40 % all
# did, of the same as they are none.
BORNE_OUT = ((0.75, 0.1), (0.5, 0.05))
# Share of it above which it may not rise, and what is too little to count.
LESS_AGREEMENT, LEAST_LOSS = 1.02, 0.05
# How far hints may move vertices, root mean square in extents: it takes that much to make a ball of one flattened by
# half, and a drill that followed another object's normals was moved by more.
MAX_MOVED = 0.15
# A mesh nearer than this to its own mirror image, root mean square in extents, is symmetric, and what hints alone would
# make of it must not be farther from its mirror image than these times and more: noise that is smooth, or a like
# object's depth, makes one half another. Of 23 shapes (12 synthetic, 11 real ones of the development set) all 48 that
# had followed noise from pixel to pixel stayed below, 25 of 28 spoiled by smooth noise or another object's hints came
# above, and with them two of three that had gained all the same.
SYMMETRIC, LESS_SYMMETRIC = 0.01, (1.25, 0.004)
# What comes so much nearer, times and extents, and so much nearer to the hints as well, was wrong before: a shape that
# is flattened along the ray is so on a slant.
MORE_SYMMETRIC, MORE_AGREEMENT = (0.5, 0.01), 0.9


@dataclass(frozen=True)
class Testimony:
    """What hints say of one mesh.

    Attributes
    ----------
    borne_out
        They ask for this mesh, clearly: no silhouette need say so as well.
    lopsided
        Why neither this mesh nor one nearer the coarse one is to be had by hints alone; None where nothing speaks
        against it.
    less
        That the mesh agrees less with them than the coarse one did; None where it does not.
    """

    borne_out: bool
    lopsided: str | None = None
    less: str | None = None


class Witness:
    """The hints of one instance, asked about meshes on the way to a refined one.

    Parameters
    ----------
    cameras
        That the refinement ended with.
    alone
        Whether nothing but hints asks for another shape.
    """

    def __init__(self, subject: PreparedInstance, cameras: Sequence[Camera], alone: bool):
        self._subject, self._cameras = subject, cameras
        self._plane = subject.plane if alone else None
        self._asymmetry = math.inf if self._plane is None else _asymmetry(subject.mesh, self._plane)

    def too_far(self, vertices: np.ndarray) -> str | None:
        """Why what was refined by these hints is not believed at all; None where it may be."""
        moved = float(np.sqrt(np.mean(np.sum((vertices - self._subject.mesh.vertices) ** 2, axis=1))))
        if moved <= MAX_MOVED:
            return None
        asked = f"the hints of depth or normals ask for a shape {moved:.0%} of its extent away from the coarse one"
        return f"{asked}; are they of this picture?"

    def of(self, vertices: np.ndarray) -> Testimony | None:
        """What they say of the working mesh with these vertices; None where they say nothing."""
        found = disagreement(self._subject, vertices, self._cameras)
        if found is None:
            return None
        before, after = found
        borne_out = any(after < min(below * before, before - by) for below, by in BORNE_OUT)
        if self._plane is not None:
            asymmetry = _asymmetry(Mesh(vertices, self._subject.mesh.faces), self._plane)
            if self._asymmetry < SYMMETRIC and asymmetry > LESS_SYMMETRIC[0] * self._asymmetry + LESS_SYMMETRIC[1]:
                far = f"from its mirror image, {self._asymmetry:.1%} → {asymmetry:.1%} of its extent"
                return Testimony(borne_out, lopsided=f"the hints of depth or normals draw the mesh away {far}")
            righted = asymmetry < min(MORE_SYMMETRIC[0] * self._asymmetry, self._asymmetry - MORE_SYMMETRIC[1])
            borne_out |= righted and after < MORE_AGREEMENT * before
        less = None
        if after > LESS_AGREEMENT * before + LEAST_LOSS:
            more = after / max(before, 1e-12) - 1
            less = f"the mesh agrees less with the hints of depth or normals than before, by {more:.0%}"
        return Testimony(borne_out, less=less)


def _asymmetry(mesh: Mesh, plane: SymmetryPlane) -> float:
    """Root mean square distance from the mirror image in the plane that fits best about this one, extents; infinite
    where no surface is left."""
    if not has_area(mesh):
        return math.inf
    [(far, _)] = Mirror(mesh).fitted([plane])
    return far
