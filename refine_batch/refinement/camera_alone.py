"""What a camera's roll and principal point explain together with its place, where the place alone does not.

They are no variables of the refinement: a shape that is wrong comes out as good without them (docs/algorithm.md). But a
mesh that is right is spoiled for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.methods.camera_only import fit_cameras
from refine_batch.refinement.overlap import drawn, outlines_apart, silhouette_iou
from refine_batch.refinement.picture_plane import aligned
from refine_batch.refinement.prepare import Prepared

# Mean distance of the outlines of coarse mesh and mask, as a share of the image's side, below which a camera alone
# explains the picture: of true shapes 25 of 26 came below it, of coarse ones none of 52 (real shapes of the development
# set).
EXPLAINED = 0.0045
# 2D IoU below which near outlines say nothing: those of what is thin lie near each other wherever it is. The least of
# true shapes was 0.934, of 78 with exact and with wrong cameras.
ALIKE = 0.8
# Where it is farther roll and principal point are not asked for. By them alone it must come below this, and fall by
# this factor, before they are fitted in turn with the rest, so often.
NEAR, NEARLY_EXPLAINED, ON_THE_WAY, ROUNDS = 0.02, 0.011, 0.8, 2
# By what factor it must fall in the end, for a coarse mesh comes a little nearer by anything: of 77 true shapes whose
# camera was turned by 3° or 5° or shifted by 0.05 71 did, of 68 coarse ones two.
BY_THE_PLANE = 0.55


def turned_and_shifted(
    instances: Mapping[int, Prepared],
    nearest: Mapping[int, tuple[Camera, ...]],
    config: RefineConfig,
    device: torch.device,
) -> dict[int, Camera]:
    """Of instances, by place, those that a camera explains whose roll and principal point are fitted as well, with it.

    Parameters
    ----------
    nearest
        The cameras that come nearest by their place alone.
    """
    before: dict[int, float] = {}
    found: dict[int, Camera] = {}

    def comes_within(i: int, camera: Camera, limit: float, factor: float) -> bool:
        return outlines_apart(instances[i].subject, (camera,)) < min(limit, factor * before[i])

    for i, cameras in nearest.items():
        subject = instances[i].subject
        # Views tell each other's cameras; and of one that is estimated roll and principal point are what they are.
        if len(cameras) > 1 or instances[i].unknown is not None or silhouette_iou(subject, cameras[0]) < ALIKE:
            continue
        before[i] = outlines_apart(subject, cameras)
        camera = _aligned(subject, cameras[0]) if before[i] < NEAR else None
        if camera is not None and comes_within(i, camera, NEARLY_EXPLAINED, ON_THE_WAY):
            found[i] = camera
    for _ in range(ROUNDS):
        again = _in_turn({i: instances[i].subject for i in found}, found, config, device)
        found = {i: camera for i, camera in again.items() if comes_within(i, camera, NEARLY_EXPLAINED, ON_THE_WAY)}
    return {
        i: camera
        for i, camera in found.items()
        if silhouette_iou(instances[i].subject, camera) >= ALIKE and comes_within(i, camera, EXPLAINED, BY_THE_PLANE)
    }


def _in_turn(
    subjects: Mapping[int, PreparedInstance], found: Mapping[int, Camera], config: RefineConfig, device: torch.device
) -> dict[int, Camera]:
    """The cameras' places fitted with the roll and principal point that were found, and those again; without what is
    beyond its trust."""
    # From the given camera, so that what its trust allows stays what it was.
    starts = [subject.seen_by((_in_the_plane_of(found[i], subject.camera),)) for i, subject in subjects.items()]
    outcomes = fit_cameras(starts, config, device) if starts else []
    again = {}
    for (i, subject), outcome in zip(subjects.items(), outcomes, strict=True):
        cameras = outcome.cameras if isinstance(outcome, MethodOutput) else None
        camera = None if cameras is None else _aligned(subject, cameras[0])
        if camera is not None:
            again[i] = camera
    return again


def _in_the_plane_of(other: Camera, camera: Camera) -> Camera:
    """`camera` with the roll and the principal point of another."""
    return replace(camera, roll=other.roll, offset_x=other.offset_x, offset_y=other.offset_y)


def _aligned(subject: PreparedInstance, camera: Camera) -> Camera | None:
    """The camera turned and shifted in its picture's plane, as far as the given one may be off."""
    view = subject.views[0]
    spread = view.spread[0]
    if not 0.0 < spread < math.inf:
        return None
    seen = drawn(subject, view, camera)
    return aligned(camera, seen, view.covered, view.silhouette_known, math.degrees(spread), given=view.camera)
