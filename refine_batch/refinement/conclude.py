"""From what a method found to an instance's outcome: figures before and after, the guard, the way back to the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from refine_batch.cameras.camera import Camera, stack_cameras
from refine_batch.cameras.matrices import matrices_of
from refine_batch.config import RefineConfig
from refine_batch.errors import InstanceError
from refine_batch.figures.compare import Comparison, Pool, compare
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.instance import CameraSource, Figures, RefinedInstance
from refine_batch.mesh import Mesh
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.methods.base import View
from refine_batch.refinement.guard import Choice, along, choose
from refine_batch.refinement.optimise import Optimised
from refine_batch.refinement.prepare import Prepared, about_source
from refine_batch.render.hard import silhouettes
from refine_batch.seeding import instance_seed


def conclude(optimised: Optimised, config: RefineConfig, device: torch.device | str = "cpu") -> RefinedInstance:
    """Judge what was found, bring it back to the instance's own coordinates, and measure it.

    Figures before and after are of the coarse and the returned mesh, both at the camera that is returned.
    """
    [result] = measured([returned(optimised, config)], [optimised.prepared], config, device)
    return result


def returned(optimised: Optimised, config: RefineConfig) -> RefinedInstance:
    """What comes back of an instance, with the figures that its own pictures give: the host's part."""
    return _settled(optimised, config).result()


def measured(
    results: Sequence[RefinedInstance],
    prepared: Sequence[Prepared],
    config: RefineConfig,
    device: torch.device | str = "cpu",
    pool: Pool | None = None,
) -> list[RefinedInstance]:
    """What came `returned`, with the figures that need a ground truth: of all together, on the device.

    Parameters
    ----------
    pool
        Works out the earth mover's distances, which are a CPU's work on every device; None: the caller's thread does.
    """
    comparisons = []
    for result, one in zip(results, prepared, strict=True):
        meshes = [one.working.source]
        if result.status == "refined" and result.mesh is not None:
            meshes.append(result.mesh)
        seed = instance_seed(config.seed, one.instance_id, "figures")
        comparisons.append(Comparison(one.ground_truth, meshes, seed))
    found = compare(comparisons, config.figures, samples=config.figure_samples, device=device, pool=pool)
    return [
        replace(result, before=_seen_too(of[0], result.before), after=_seen_too(of[-1], result.after))
        for result, of in zip(results, found, strict=True)
    ]


def _seen_too(figures: Figures, in_views: Figures) -> Figures:
    return replace(figures, iou_2d=in_views.iou_2d, iou_2d_views=in_views.iou_2d_views)


@dataclass(frozen=True, eq=False)
class _Settled:
    """What comes back of an instance, not yet held against its pictures.

    Attributes
    ----------
    mesh, cameras
        In the mesh's own coordinates, and of all views about the working mesh.
    rest
        Fields of the result by name.
    """

    ruler: Ruler
    mesh: Mesh
    cameras: tuple[Camera, ...]
    reason: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)

    def result(self) -> RefinedInstance:
        """With the figures of the instance's own views."""
        ruler, prepared = self.ruler, self.ruler.prepared
        source = prepared.working.source
        before = ruler.in_views(source, self.cameras)
        after = before if self.mesh is source else ruler.in_views(self.mesh, self.cameras)
        given = ruler.iou_2d(source, prepared.subject.camera)
        row = _returned(ruler, self.mesh, self.cameras[0], before, after, given, reason=self.reason)
        return replace(row, **self.rest)


def _settled(optimised: Optimised, config: RefineConfig) -> _Settled:
    """The guard's part."""
    prepared, output, verdict = optimised.prepared, optimised.output, optimised.verdict
    working, subject = prepared.working, prepared.subject
    ruler = Ruler(prepared)
    starts = tuple(view.camera for view in subject.views)
    if output is None:
        rest: dict[str, Any] = {"doubtful": verdict.doubtful}
        return _Settled(ruler, working.source, verdict.cameras or starts, verdict.reason, rest)
    cameras = output.cameras or starts
    chosen = Choice(1.0)
    if config.guard:
        before = ruler.covered_by(subject.mesh.vertices, starts)
        chosen = choose(subject, output, config, ruler.covered_by, before, verdict.reason)
    rest = {"steps": output.steps, "loss_curve": output.loss_curve, "risk": chosen.risk}
    if chosen.reason is not None:
        refined = Mesh(working.carry(output.vertices), working.source.faces)
        rest["iou_2d_refused"] = ruler.iou_2d(refined, cameras[0])
        return _Settled(ruler, working.source, starts, chosen.reason, rest)
    vertices = along(subject.mesh.vertices, output.vertices, chosen.share)
    mesh = Mesh(working.carry(vertices), working.source.faces)
    confidence = output.symmetry_confidence
    rest["symmetry_confidence"] = None if confidence is None else working.values(confidence)
    rest |= {"losses": output.losses, "share": chosen.share}
    return _Settled(ruler, mesh, cameras, None, rest)


def _returned(
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
    prepared = ruler.prepared
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
    """How an instance's meshes, in the mesh's own coordinates, meet its masks in the pictures that were fitted."""

    def __init__(self, prepared: Prepared):
        self.prepared = prepared
        self._views: tuple[View, ...] = prepared.subject.views
        self._working = prepared.working
        # The guard and the figures ask of the same few shapes and cameras again and again.
        self._known: dict[tuple[bytes, Camera, int], float] = {}

    def in_views(self, mesh: Mesh, cameras: Sequence[Camera]) -> Figures:
        """A mesh's figures in the instance's own views, each seen by its camera about the working mesh."""
        ious = [self._covered(mesh, camera, number) for number, camera in enumerate(cameras)]
        return Figures(iou_2d=ious[0], iou_2d_views=float(np.mean(ious)) if len(ious) > 1 else None)

    def iou_2d(self, mesh: Mesh, camera: Camera) -> float:
        """Of hard silhouette and mask, where anything is known."""
        return self._covered(mesh, camera, 0)

    def covered_by(self, vertices: np.ndarray, cameras: Sequence[Camera]) -> float:
        """2D IoU of the source's mesh as it would be with the working mesh's `vertices`; the mean over all views."""
        mesh = Mesh(self._working.carry(vertices), self._working.source.faces)
        return float(np.mean([self._covered(mesh, camera, number) for number, camera in enumerate(cameras)]))

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

    def _covered(self, mesh: Mesh, camera: Camera, number: int) -> float:
        key = mesh.vertices.tobytes(), camera, number
        if key not in self._known:
            view = self._views[number]
            known = view.silhouette_known
            self._known[key] = float(mask_iou(self._seen(mesh, camera) & known, view.covered & known))
        return self._known[key]

    def _seen(self, mesh: Mesh, camera: Camera) -> np.ndarray:
        placed = torch.from_numpy(self._working.placed(mesh.vertices))[None]
        view = torch.zeros(1, dtype=torch.int32)
        cameras, size = stack_cameras([camera]), len(self._views[0].mask)
        return silhouettes(self._source.moved(placed), cameras, view, size)[0].numpy()

    @cached_property
    def _source(self) -> PaddedMeshes:
        return PaddedMeshes.of([self._working.source])


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
