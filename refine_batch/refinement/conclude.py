"""From what a method found to an instance's outcome: figures before and after, the guard, the way back to the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.errors import InstanceError
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.figures.measure import Evaluator
from refine_batch.figures.outlines import outline_distance
from refine_batch.instance import CameraSource, Figures, RefinedInstance
from refine_batch.mesh import Mesh
from refine_batch.methods.base import View
from refine_batch.refinement.guard import objection
from refine_batch.refinement.optimise import Optimised
from refine_batch.refinement.prepare import Prepared, about_source
from refine_batch.render import hard_silhouettes
from refine_batch.seeding import instance_seed


def conclude(optimised: Optimised, config: RefineConfig) -> RefinedInstance:
    """Measure what was found, judge it, and bring it back to the instance's own coordinates."""
    prepared, output = optimised.prepared, optimised.output
    working, subject = prepared.working, prepared.subject
    refined = Mesh(output.vertices, subject.mesh.faces)
    start = subject.camera
    camera = output.cameras[0] if output.cameras else start
    ruler = Ruler(prepared, config)
    mesh = Mesh(working.carry(output.vertices), working.source.faces)
    held = ruler.measure(working.source, start)
    after = ruler.measure(mesh, camera)
    reason = None
    if config.guard:
        reason = objection(
            subject.mesh,
            refined,
            held.iou_2d,
            after.iou_2d,
            ruler.outlines_apart(working.source, start),
            plane=subject.plane,
            largest_risk=config.guard_risk,
        )
    if reason is not None:
        mesh, camera, after = working.source, start, held
    source: CameraSource = "estimated" if prepared.unknown is not None else "corrected"
    if prepared.unknown is None and camera == start:
        source = "given"
    confidence = output.symmetry_confidence
    return RefinedInstance(
        instance_id=prepared.instance_id,
        status="refined" if reason is None else "kept",
        mesh=mesh,
        symmetry_confidence=None if reason is not None or confidence is None else working.values(confidence),
        camera=about_source(camera, working) if source != "given" else _given(prepared),
        camera_source=source,
        symmetry_axis=_axis(prepared),
        before=held,
        after=after,
        losses=output.losses if reason is None else {},
        loss_curve=output.loss_curve,
        preparation=prepared.record(),
        steps=output.steps,
        kept_reason=reason,
    )


def failed(instance_id: str, error: InstanceError, device: str = "cpu") -> RefinedInstance:
    """The outcome of an instance that cannot be refined."""
    return RefinedInstance(
        instance_id, "failed", device=device, error_kind=error.kind.value, error_message=error.message
    )


class Ruler:
    """Figures of an instance's meshes, in the mesh's own coordinates; the 2D IoU in the picture that was fitted."""

    def __init__(self, prepared: Prepared, config: RefineConfig):
        seed = instance_seed(config.seed, prepared.instance_id, "figures")
        self._view: View = prepared.subject.views[0]
        self._working = prepared.working
        self._truth = Evaluator(None, prepared.ground_truth, samples=config.figure_samples, seed=seed)

    def measure(self, mesh: Mesh, camera: Camera) -> Figures:
        """Of a mesh in its own coordinates, seen by a camera about the working mesh."""
        return replace(self._truth.measure(mesh, None), iou_2d=self.iou_2d(mesh, camera))

    def iou_2d(self, mesh: Mesh, camera: Camera) -> float:
        """Of hard silhouette and mask, where anything is known."""
        known = self._view.silhouette_known
        return float(mask_iou(self._seen(mesh, camera) & known, self._view.covered & known))

    def outlines_apart(self, mesh: Mesh, camera: Camera) -> float:
        """Mean distance of the mesh's outline and the mask's, as a share of the picture's side."""
        known = self._view.silhouette_known
        covered = self._view.covered & known
        return outline_distance(self._seen(mesh, camera) & known, covered) / len(covered)

    def _seen(self, mesh: Mesh, camera: Camera) -> np.ndarray:
        placed = Mesh(self._working.placed(mesh.vertices), mesh.faces)
        return hard_silhouettes(placed, [camera], len(self._view.mask))[0]


def _given(prepared: Prepared) -> Camera | None:
    """The camera that came with the instance, to the last bit."""
    return prepared.given if isinstance(prepared.given, Camera) else None


def _axis(prepared: Prepared):
    plane = prepared.subject.plane
    return "none" if plane is None else plane.axis
