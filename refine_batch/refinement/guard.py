"""The guard: a refined mesh is returned only if checks that need no ground truth say that it is no worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.mesh import Mesh
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.refinement.deformation import implausible
from refine_batch.refinement.risk import risk, signs
from refine_batch.refinement.testimony import Witness

# 2D IoU that may be given up for what hints bear out: a few pixels of the outline.
GIVEN_UP = 0.02
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
    witness = Witness(subject, cameras, alone=settled is not None) if subject.hinted else None
    too_far = witness.too_far(output.vertices) if witness else None
    if too_far:
        return Choice(0.0, too_far, estimated)
    reason = None
    for share, limit in SHARES:
        vertices = along(coarse.vertices, output.vertices, share)
        said = witness.of(vertices) if witness else None
        if said and said.lopsided:
            return Choice(0.0, said.lopsided, estimated)
        # What a hint bears out no silhouette need say as well.
        borne_out = said is not None and said.borne_out
        if not borne_out:
            if settled is not None:
                return Choice(0.0, reason or settled, estimated)
            if doubted and estimated > limit * config.guard_risk:
                continue
        found = said.less if said else None
        if found is None:
            found = _seen_less(given, iou_2d(vertices, cameras), GIVEN_UP if borne_out else 0.0)
        if found is None:
            found = implausible(coarse, Mesh(vertices, coarse.faces), told=borne_out or not doubted)
        if found is None:
            return Choice(share, risk=estimated)
        reason = reason or found
    return Choice(0.0, reason, estimated)


def _seen_less(given: float, reached: float, allowed: float) -> str | None:
    """That the 2D IoU has fallen by more than is allowed; None where it has not."""
    if reached >= given - allowed:
        return None
    return f"the silhouette agrees less with the mask than before: 2D IoU {given:.4f} → {reached:.4f}"
