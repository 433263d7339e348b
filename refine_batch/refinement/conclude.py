"""From what a method found to an instance's outcome: figures before and after, the guard, the way back to the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.cameras.matrices import matrices_of
from refine_batch.config import RefineConfig
from refine_batch.errors import InstanceError
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.figures.measure import Evaluator
from refine_batch.instance import CameraSource, Figures, RefinedInstance
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.methods.base import View
from refine_batch.refinement.guard import Choice, along, choose
from refine_batch.refinement.optimise import Optimised
from refine_batch.refinement.prepare import Prepared, about_source
from refine_batch.render import hard_silhouettes
from refine_batch.seeding import instance_seed


def conclude(optimised: Optimised, config: RefineConfig) -> RefinedInstance:
    """Measure what was found, judge it, and bring it back to the instance's own coordinates.

    Figures before and after are of the coarse and the returned mesh, both at the camera that is returned.
    """
    prepared, output, verdict = optimised.prepared, optimised.output, optimised.verdict
    working, subject = prepared.working, prepared.subject
    ruler = Ruler(prepared, config)
    start = subject.camera
    starts = tuple(view.camera for view in subject.views)
    given = ruler.iou_2d(working.source, start)
    if output is None:
        cameras = verdict.cameras or starts
        [held] = ruler.measure([working.source], cameras)
        kept = _returned(prepared, ruler, working.source, cameras[0], held, held, given, reason=verdict.reason)
        return replace(kept, doubtful=verdict.doubtful)
    cameras = output.cameras or starts
    camera = cameras[0]
    chosen = Choice(1.0)
    if config.guard:
        before = ruler.covered_by(subject.mesh.vertices, starts)
        chosen = choose(subject, output, config, ruler.covered_by, before, verdict.reason)
    if chosen.reason is not None:
        [held] = ruler.measure([working.source], starts)
        kept = _returned(prepared, ruler, working.source, start, held, held, given, reason=chosen.reason)
        refined = Mesh(working.carry(output.vertices), working.source.faces)
        return replace(
            kept,
            steps=output.steps,
            loss_curve=output.loss_curve,
            iou_2d_refused=ruler.iou_2d(refined, camera),
            risk=chosen.risk,
        )
    vertices = along(subject.mesh.vertices, output.vertices, chosen.share)
    mesh = Mesh(working.carry(vertices), working.source.faces)
    held, after = ruler.measure([working.source, mesh], cameras)
    result = _returned(prepared, ruler, mesh, camera, held, after, given)
    confidence = output.symmetry_confidence
    return replace(
        result,
        symmetry_confidence=None if confidence is None else working.values(confidence),
        losses=output.losses,
        loss_curve=output.loss_curve,
        steps=output.steps,
        share=chosen.share,
        risk=chosen.risk,
    )


def _returned(
    prepared: Prepared,
    ruler: Ruler,
    mesh: Mesh,
    camera: Camera,
    before: Figures,
    after: Figures,
    given: float,
    *,
    reason: str | None = None,
) -> RefinedInstance:
    """The row's common part; `camera` is about the working mesh."""
    source: CameraSource = "estimated" if prepared.unknown is not None else "corrected"
    if prepared.unknown is None and camera == prepared.subject.camera:
        source = "given"
    plane = prepared.subject.plane
    used = about_source(camera, prepared.working) if source != "given" else _given(prepared)
    intrinsics, extrinsics = _matrices(used or camera, len(prepared.subject.views[0].mask))
    return RefinedInstance(
        instance_id=prepared.instance_id,
        status="refined" if reason is None else "kept",
        mesh=mesh,
        camera=used,
        intrinsics=intrinsics,
        extrinsics=extrinsics,
        camera_source=source,
        symmetry_axis="none" if plane is None else plane.axis,
        symmetry_plane=None if plane is None else _plane_about_source(prepared, plane),
        before=before,
        after=after,
        iou_2d_given=given,
        known_share=ruler.known_share(),
        preparation=prepared.record(),
        kept_reason=reason,
        notes=prepared.notes,
        share=0.0,
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
        self._views: tuple[View, ...] = prepared.subject.views
        self._working = prepared.working
        self._truth = Evaluator(
            None, prepared.ground_truth, samples=config.figure_samples, seed=seed, which=config.figures
        )

    def measure(self, meshes: Sequence[Mesh], cameras: Sequence[Camera]) -> list[Figures]:
        """Of meshes in their own coordinates, each view seen by its camera about the working mesh."""
        found = self._truth.measure_all(meshes, [None] * len(meshes))
        covered = [[self._covered(mesh, c, v) for c, v in zip(cameras, self._views, strict=True)] for mesh in meshes]
        several = len(self._views) > 1
        return [
            replace(figures, iou_2d=ious[0], iou_2d_views=float(np.mean(ious)) if several else None)
            for figures, ious in zip(found, covered, strict=True)
        ]

    def iou_2d(self, mesh: Mesh, camera: Camera) -> float:
        """Of hard silhouette and mask, where anything is known."""
        return self._covered(mesh, camera, self._views[0])

    def covered_by(self, vertices: np.ndarray, cameras: Sequence[Camera]) -> float:
        """2D IoU of the source's mesh as it would be with the working mesh's `vertices`; the mean over all views."""
        mesh = Mesh(self._working.carry(vertices), self._working.source.faces)
        return float(np.mean([self._covered(mesh, c, view) for c, view in zip(cameras, self._views, strict=True)]))

    def known_share(self) -> float:
        """Of the pixels that the coarse mesh covers at the cameras given, or the object, those that are known."""
        if all(view.silhouette_known.all() for view in self._views):
            return 1.0
        told = there = 0
        for view in self._views:
            covered = self._seen(self._working.source, view.camera) | view.covered
            told += int(np.count_nonzero(covered & view.silhouette_known))
            there += int(np.count_nonzero(covered))
        return told / max(there, 1)

    def _covered(self, mesh: Mesh, camera: Camera, view: View) -> float:
        known = view.silhouette_known
        return float(mask_iou(self._seen(mesh, camera) & known, view.covered & known))

    def _seen(self, mesh: Mesh, camera: Camera) -> np.ndarray:
        placed = Mesh(self._working.placed(mesh.vertices), mesh.faces)
        return hard_silhouettes(placed, [camera], len(self._views[0].mask))[0]


def _matrices(camera: Camera, size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """fx, fy, cx, cy in pixels of the working picture, and the 4 × 4 extrinsics by rows, in OpenCV's axes."""
    k, extrinsics = matrices_of(camera, size, size)
    return (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])), tuple(extrinsics.ravel().tolist())


def _given(prepared: Prepared) -> Camera | None:
    """The camera that came with the instance, to the last bit."""
    return prepared.given if isinstance(prepared.given, Camera) else None


def _plane_about_source(prepared: Prepared, plane: SymmetryPlane) -> tuple[float, float, float, float]:
    """Normal and offset of a plane in the mesh's own coordinates: the points p with p·normal = offset."""
    working = prepared.working
    offset = plane.offset * working.extent + float(np.dot(plane.normal, working.centre))
    x, y, z = plane.normal
    return x, y, z, offset
