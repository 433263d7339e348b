"""The guard: a refined mesh is returned only if checks that need no ground truth say that it is no worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.mesh.sampling import has_area
from refine_batch.mesh.stretch import largest_stretch
from refine_batch.mesh.symmetry import Mirror
from refine_batch.mesh.volume import enclosed_volume, signed_volume
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.methods.hints import disagreement
from refine_batch.refinement.risk import risk, signs

# Largest change of an axis' extent: refinement repairs a shape, it does not make another one.
MAX_EXTENT_RATIO = 2.0
# Largest change of a closed mesh's volume.
MAX_VOLUME_RATIO = 8.0
# Volume below which a working mesh encloses nothing, cubed extents.
LEAST_VOLUME = 1e-6
# Largest share of the surface that may turn its back on where it looked before.
MAX_FLIPPED_SHARE = 0.25
# Largest share of the surface whose faces may shrink to next to nothing: to this share of their area.
MAX_COLLAPSED_SHARE = 0.25
COLLAPSED = 0.02
# Largest share of the surface that may become longer by this factor: beyond it is spread over what the coarse mesh has
# not. Of 400 refinements of real shapes and 160 of synthetic ones nine came above, of three shapes: a sheet of which
# half was lost is the worse the more it is spread (1.73 times at worst, 1.15 at half of the way), a gear gains by it.
MAX_STRETCHED_SHARE = 0.08
STRETCHED = 2.0
# Share of the disagreement with hints below which it must fall for these to bear a refinement out, and by how much at
# least, either pair: a mesh that follows a hint's noise gains less. Of seven real shapes flattened by 20 to 40 % all
# did, of the same as they are none.
BORNE_OUT = ((0.75, 0.1), (0.5, 0.05))
# Share of it above which it may not rise, and what is too little to count.
LESS_AGREEMENT, LEAST_LOSS = 1.02, 0.05
# How far hints may move vertices, root mean square in extents: it takes that much to make a ball of one flattened by
# half, and a drill that followed another object's normals was moved by more.
MAX_MOVED = 0.15
# 2D IoU that may be given up for what hints bear out: a few pixels of the outline.
GIVEN_UP = 0.02
# A mesh nearer than this to its own mirror image, root mean square in extents, is symmetric, and what hints alone would
# make of it must not be farther from its mirror image than these times and more: noise that is smooth, or a like
# object's depth, makes one half another. Of 23 shapes (12 synthetic, 11 real ones of the development set) all 48 that
# had followed noise from pixel to pixel stayed below, 25 of 28 spoiled by smooth noise or another object's hints came
# above, and with them two of three that had gained all the same.
SYMMETRIC, LESS_SYMMETRIC = 0.01, (1.25, 0.004)
# What comes so much nearer, times and extents, and so much nearer to the hints as well, was wrong before: a shape that
# is flattened along the ray is so on a slant.
MORE_SYMMETRIC, MORE_AGREEMENT = (0.5, 0.01), 0.9
# Views from which on the risk is not asked: it was fitted to single pictures, of which none tells what the others do.
SEVERAL = 3
# How far to go along the path, and up to which share of the largest risk.
SHARES = ((1.0, 0.4), (0.75, 0.6), (0.5, 1.0))
# How the reason begins where only the estimate of the risk speaks against a mesh.
PROBABLY_WORSE = "the shape has probably gained nothing"


@dataclass(frozen=True)
class Choice:
    """How far to go from the coarse (0) to the refined mesh (1), and, where not at all, why.

    `risk` is the estimated probability that the refined mesh is worse; None where it was not estimated.
    """

    share: float
    reason: str | None = None
    risk: float | None = None


def along(coarse: np.ndarray, refined: np.ndarray, share: float) -> np.ndarray:
    """(V, 3) float32: vertices so far along the straight path from coarse to refined ones."""
    if share == 1.0:
        return np.asarray(refined, np.float32)
    return (coarse + share * (np.asarray(refined, np.float64) - coarse)).astype(np.float32)


def choose(
    subject: PreparedInstance,
    output: MethodOutput,
    config: RefineConfig,
    iou_2d: Callable[[np.ndarray, Sequence[Camera]], float],
    given: float,
    settled: str | None = None,
) -> Choice:
    """How far to go towards what a method found.

    Parameters
    ----------
    iou_2d
        Of the mesh with these vertices (of the working mesh) seen by these cameras; the mean over all views.
    given
        2D IoU of the coarse mesh at the cameras that were given; the mean over all views.
    settled
        Why nothing needs to be refined by what the masks say; hints can say otherwise.
    """
    coarse = subject.mesh
    cameras = output.cameras or tuple(view.camera for view in subject.views)
    moved = iou_2d(coarse.vertices, cameras)
    estimated = risk(signs(coarse, output.vertices, subject.camera, cameras[0], given, moved))
    doubted = len(subject.views) < SEVERAL
    if settled is None and doubted and estimated > config.guard_risk:
        text = f"{PROBABLY_WORSE}: the risk that it is worse is put at {estimated:.0%}, above --guard-risk "
        settled = f"{text}{config.guard_risk:g}"
    reason = None
    if subject.hinted:
        moved_by = float(np.sqrt(np.mean(np.sum((output.vertices - coarse.vertices) ** 2, axis=1))))
        if moved_by > MAX_MOVED:
            asked = (
                f"the hints of depth or normals ask for a shape {moved_by:.0%} of its extent away from the coarse one"
            )
            return Choice(0.0, f"{asked}; are they of this picture?", estimated)
    # Where hints alone ask for another shape.
    plane = subject.plane if settled is not None and subject.hinted else None
    before = math.inf if plane is None else _asymmetry(coarse, plane)
    for share, limit in SHARES:
        vertices = along(coarse.vertices, output.vertices, share)
        hints = disagreement(subject, vertices, cameras)
        # What a hint bears out no silhouette need say as well.
        borne_out = hints is not None and any(
            hints[1] < min(below * hints[0], hints[0] - by) for below, by in BORNE_OUT
        )
        if hints is not None and plane is not None:
            after = _asymmetry(Mesh(vertices, coarse.faces), plane)
            if before < SYMMETRIC and after > LESS_SYMMETRIC[0] * before + LESS_SYMMETRIC[1]:
                far = f"from its mirror image, {before:.1%} → {after:.1%} of its extent"
                return Choice(0.0, f"the hints of depth or normals draw the mesh away {far}", estimated)
            righted = after < min(MORE_SYMMETRIC[0] * before, before - MORE_SYMMETRIC[1])
            borne_out |= righted and hints[1] < MORE_AGREEMENT * hints[0]
        if not borne_out:
            if settled is not None:
                return Choice(0.0, reason or settled, estimated)
            if doubted and estimated > limit * config.guard_risk:
                continue
        reached = iou_2d(vertices, cameras)
        found: str | None = None
        if hints is not None and hints[1] > LESS_AGREEMENT * hints[0] + LEAST_LOSS:
            more = hints[1] / max(hints[0], 1e-12) - 1
            found = f"the mesh agrees less with the hints of depth or normals than before, by {more:.0%}"
        elif reached < given - (GIVEN_UP if borne_out else 0.0):
            fallen = f"2D IoU {given:.4f} → {reached:.4f}"
            found = f"the silhouette agrees less with the mask than before: {fallen}"
        else:
            found = implausible(coarse, Mesh(vertices, coarse.faces), borne_out or not doubted)
        if found is None:
            return Choice(share, risk=estimated)
        reason = reason or found
    return Choice(0.0, reason, estimated)


def _asymmetry(mesh: Mesh, plane: SymmetryPlane) -> float:
    """Root mean square distance from the mirror image in the plane that fits best about this one, extents; infinite
    where no surface is left."""
    if not has_area(mesh):
        return math.inf
    [(far, _)] = Mirror(mesh).fitted([plane])
    return far


def implausible(coarse: Mesh, refined: Mesh, told: bool = False) -> str | None:
    """What no repair does to a shape, as a sentence for `kept_reason`; None where all is well.

    `told`: whether more than one outline tells of the surface, hints that bear it out or several views. Then it may be
    stretched.
    """
    before, after = np.ptp(coarse.vertices, axis=0), np.ptp(refined.vertices, axis=0)
    # A flat side may grow a little; it is measured against the whole.
    floor = 0.05 * float(before.max())
    ratio = (after + floor) / (before + floor)
    worst = int(np.argmax(np.abs(np.log(ratio))))
    if not 1.0 / MAX_EXTENT_RATIO <= ratio[worst] <= MAX_EXTENT_RATIO:
        return f"the extent along {'xyz'[worst]} changed too much: times {after[worst] / max(before[worst], 1e-12):.3g}"
    volume = enclosed_volume(coarse)
    # What is flat, or stands there twice, turned round, encloses nothing that could change.
    if volume and volume > LEAST_VOLUME:
        times = abs(signed_volume(refined)) / volume
        if not 1 / MAX_VOLUME_RATIO <= times <= MAX_VOLUME_RATIO:
            return f"the volume changed too much: times {times:.3g}"
    normals = area_normals(coarse), area_normals(refined)
    flipped = flipped_share(*normals)
    if flipped > MAX_FLIPPED_SHARE:
        return f"{flipped:.0%} of the surface turned over"
    collapsed = collapsed_share(*normals)
    if collapsed > MAX_COLLAPSED_SHARE:
        return f"{collapsed:.0%} of the surface collapsed to next to nothing"
    stretched = 0.0 if told else stretched_share(coarse, refined.vertices)
    if stretched > MAX_STRETCHED_SHARE:
        return f"{stretched:.0%} of the surface was stretched to more than {STRETCHED:g} times its length"
    return None


def flipped_share(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the surface whose normal turned by more than 90°, of (F, 3) `area_normals` before and after."""
    area = np.linalg.norm(before, axis=1)
    return float(area[(before * after).sum(axis=1) < 0].sum() / max(area.sum(), 1e-30))


def collapsed_share(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the surface whose faces lost nearly all of their area, of (F, 3) `area_normals` before and after."""
    areas = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    return float(areas[0][areas[1] < COLLAPSED * areas[0]].sum() / max(areas[0].sum(), 1e-30))


def stretched_share(coarse: Mesh, vertices: np.ndarray) -> float:
    """Share of the coarse surface that becomes longer in some direction by more than `STRETCHED` times."""
    area = np.linalg.norm(area_normals(coarse), axis=1)
    longer = largest_stretch(coarse.vertices, vertices, coarse.faces) > STRETCHED
    return float(area[longer].sum() / max(area.sum(), 1e-30))
