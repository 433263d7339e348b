"""A camera for an image that came without one: a search over directions and distances, then short refinements in which
the camera moves with the shape.

A camera fitted to the coarse mesh as it is absorbs what is wrong with the mesh. Fitted together with the shape it is
where the least of both has to change: the losses that hold a shape in place say what a change is worth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from refine_batch.cameras.camera import (
    Camera,
    LikelyCamera,
    UnknownCamera,
    angle_between,
    camera_axes,
    cameras_from_parameters,
    parameters_of,
)
from refine_batch.cameras.moving import MOVED
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh import Mesh
from refine_batch.mesh.decimation import decimated
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.method_options import LargeStepsOptions, LargeStepsWeights
from refine_batch.methods.base import MethodOutput, PreparedInstance, View
from refine_batch.methods.large_steps import large_steps
from refine_batch.refinement.camera_fit import ious_of, reduced
from refine_batch.render import hard_silhouettes

# Directions searched, degrees. Pictures are rarely taken from below.
AZIMUTHS = np.arange(-180.0, 180.0, 15.0)
ELEVATIONS = np.arange(-30.0, 76.0, 15.0)
SEARCH_SIZE = 64
# Distances tried beside the one at which the object's outline has the mask's size.
DISTANCES = (0.9, 1.0, 1.12)
# How far the middles of mesh and object may lie apart in the picture, as a share of half its diagonal, without the mesh
# being beside it: coarse meshes of 80 synthetic objects came to 0.19, nineteen in twenty to 0.09.
BESIDE = 0.25
# How many of the search's best are refined, and how far apart they stand at least, degrees.
STARTS = 12
APART = 15.0
# Of a refinement with a moving camera: the image's size and the number of steps; first of all starts, then of the best.
ROUGH = (56, 40)
FINE = (112, 100)
FINALISTS = 5
# More faces than this add nothing to what an outline says of its camera.
ENOUGH_FACES = 3000
# Nothing of a coarse mesh is certain enough to meet the mask at any price, as it is where the camera is known. Its size
# held back brought distances no nearer, and one of two opposite directions the wrong one; its place held back, a mesh
# beside the point that the camera looks at was seen from elsewhere.
WEIGHTS = LargeStepsWeights().model_copy(
    update={"silhouette": 0.3 * LargeStepsWeights().silhouette, "size": 0.0, "shift": 0.0}
)
# What is believed less: directions outside the usual elevations (degrees), by this share of the loss per 30 degrees
# beyond. Opposite directions have almost the same outline, and people look at things from above.
USUAL = (-12.0, 60.0)
UNUSUAL = 0.5
# Cameras within so many degrees of the best are one answer, found with some error: their mean is taken. A loss that is
# greater by this share of the best makes a camera a third as credible.
SAME_ANSWER = 15.0
TOLERANCE = 0.1
# Other answers are told where they are so credible beside the best, so many in all. For 31 of 80 synthetic objects
# there were any; with those a third as credible, and up to five, shapes came out as good.
CREDIBLE, ANSWERS = 0.15, 3


@dataclass(frozen=True)
class Found:
    """A camera and the loss of the mesh that was refined with it; in the search 1 − the 2D IoU instead."""

    camera: Camera
    loss: float

    @property
    def doubt(self) -> float:
        """The loss, more for a direction that is unusual."""
        return self.loss * (1.0 + UNUSUAL * _beyond_usual(self.camera) / 30.0)


def estimate_cameras(
    mesh: Mesh,
    mask: np.ndarray,
    unknown: UnknownCamera | None = None,
    plane: SymmetryPlane | None = None,
    device: torch.device | str = "cpu",
    *,
    target: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> list[LikelyCamera]:
    """The cameras from which the mask is met with the least change of the mesh, the best first.

    What `unknown` does know (the field of view, say, or the elevation) is kept. A silhouette cannot tell a symmetric
    object's views apart: of cameras that agree alike the one at a usual elevation comes first, and the others stand
    beside it.

    Parameters
    ----------
    mesh
        A working mesh: one surface about the origin, its largest extent 1. A distance that is known is in its units.
    mask : (H, H) bool
        True on the object.
    plane
        In which the object should be its own mirror image.
    target
        What the camera looks at, and moves about.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: from no direction does the mesh's silhouette overlap the mask.
    """
    unknown = unknown or UnknownCamera()
    turn, rise, farther = (math.inf if getattr(unknown, name) is None else 0.0 for name in MOVED)
    spread = turn, rise, farther
    small = _simplified(mesh)
    starts = _search(small, mask, unknown, target, device)
    rough = _refined(small, mask, starts, ROUGH, spread, target, plane, device)
    fine = _refined(small, mask, [f.camera for f in rough[:FINALISTS]], FINE, spread, target, plane, device)
    # Where nothing could be refined, what was searched is the best there is.
    return _answers(fine or rough) if rough else [LikelyCamera(starts[0])]


def _simplified(mesh: Mesh) -> Mesh:
    if len(mesh.faces) > ENOUGH_FACES:
        try:
            return decimated(mesh, ENOUGH_FACES)
        except InstanceError:
            pass  # It falls apart with fewer: all of them, then.
    return mesh


def _search(
    mesh: Mesh,
    mask: np.ndarray,
    unknown: UnknownCamera,
    target: tuple[float, float, float],
    device: torch.device | str,
) -> list[Camera]:
    """The cameras whose silhouettes agree best with the mask, none nearer than `APART` degrees to a better one."""
    seen = _mask_at(mask, SEARCH_SIZE)
    candidates, silhouettes = _aimed(mesh, seen, _candidates(mesh, mask, unknown, target), device)
    scores = ious_of(silhouettes, seen)
    if scores.max() <= 0.0:
        raise InstanceError(
            ErrorKind.CAMERA_INVALID,
            "no camera could be estimated: from no direction does the mesh's silhouette overlap the mask",
        )
    found = [Found(camera, 1.0 - float(score)) for camera, score in zip(candidates, scores, strict=True)]
    chosen: list[Camera] = []
    for candidate in sorted(found, key=lambda f: f.doubt):
        if all(angle_between(candidate.camera, other) >= APART for other in chosen):
            chosen.append(candidate.camera)
        if len(chosen) == STARTS:
            break
    return chosen


def _candidates(
    mesh: Mesh, mask: np.ndarray, unknown: UnknownCamera, target: tuple[float, float, float]
) -> list[Camera]:
    """Every direction at distances about the one that gives the silhouette the mask's size."""
    azimuths = AZIMUTHS if unknown.azimuth is None else [unknown.azimuth]
    elevations = ELEVATIONS if unknown.elevation is None else [unknown.elevation]
    directions = [
        replace(unknown.known(float(a), float(e), 1.0), target=target)
        for a, e in itertools.product(azimuths, elevations)
    ]
    if unknown.distance is not None:
        return [replace(camera, distance=unknown.distance) for camera in directions]
    distances = _fitting_distances(mesh, mask, directions)
    return [
        replace(camera, distance=float(distance * factor))
        for camera, distance in zip(directions, distances, strict=True)
        for factor in DISTANCES
    ]


def _aimed(
    mesh: Mesh, mask: np.ndarray, cameras: list[Camera], device: torch.device | str
) -> tuple[list[Camera], np.ndarray]:
    """The cameras, looking past their targets where else the mesh would be seen beside the object, and its silhouettes
    from them."""
    silhouettes = hard_silhouettes(mesh, cameras, len(mask), device)
    focal = cameras_from_parameters(parameters_of(cameras)).focal.numpy()
    aside = 2.0 * (_middle(silhouettes) - _middle(mask[None])) / len(mask)
    aimed = list(cameras)
    beside = np.flatnonzero(np.hypot(*aside.T) > BESIDE * _diagonal(mask) / 2.0)
    for i in beside.tolist():
        aimed[i] = _looking_past(cameras[i], *(cameras[i].distance / focal[i] * aside[i]).tolist())
    if len(beside):
        silhouettes[beside] = hard_silhouettes(mesh, [aimed[i] for i in beside], len(mask), device)
    return aimed, silhouettes


def _diagonal(mask: np.ndarray) -> float:
    """Of the box round a mask, in NDC: the picture's side is 2."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return 2.0 * math.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1) / len(mask)


def _middle(silhouettes: np.ndarray) -> np.ndarray:
    """(N, 2) mean column and row of (N, h, h) bool silhouettes; the picture's middle where one is empty."""
    size = silhouettes.shape[-1]
    count = silhouettes.sum(axis=(1, 2))
    where = np.arange(size)
    sums = np.stack([silhouettes.sum(axis=1) @ where, silhouettes.sum(axis=2) @ where], axis=1)
    return np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], (size - 1) / 2)


def _looking_past(camera: Camera, right: float, down: float) -> Camera:
    """The camera moved in its picture's plane; what it saw appears as much farther left and up."""
    axes = camera_axes(camera)
    target = np.asarray(camera.target) - axes[:, 0] * right - axes[:, 1] * down
    return replace(camera, target=tuple(target.tolist()))


def _fitting_distances(mesh: Mesh, mask: np.ndarray, directions: list[Camera]) -> np.ndarray:
    """(N,) distances at which the box round the projected vertices is as large (in diagonal) as the mask's."""
    wanted = _diagonal(mask)
    every = max(1, len(mesh.vertices) // 1000)
    # About the target.
    vertices = torch.from_numpy(mesh.vertices[::every].astype(np.float64) - directions[0].target)
    cameras = cameras_from_parameters(parameters_of(directions))
    # With the camera at the distance d a point at depth z about the origin is seen at x / (z + d).
    turned = vertices @ cameras.rotation
    reach = float(vertices.norm(dim=1).max())
    distance = torch.full((len(directions),), 2.0 * reach, dtype=torch.float64)
    parallel = directions[0].projection == "orthographic"
    for _ in range(8):
        depth = (turned[..., 2] + distance[:, None]).clamp_min(0.05 * reach)
        if parallel:
            depth = distance[:, None]
        seen = turned[..., :2] * (cameras.focal[:, None] / depth)[..., None]
        extent = seen.amax(dim=1) - seen.amin(dim=1)
        distance = distance * extent.norm(dim=1) / wanted
        if not parallel:
            distance = distance.clamp_min(1.05 * reach)
    return distance.numpy()


def _refined(
    mesh: Mesh,
    mask: np.ndarray,
    starts: Sequence[Camera],
    effort: tuple[int, int],
    spread: tuple[float, float, float],
    pivot: tuple[float, float, float],
    plane: SymmetryPlane | None,
    device: torch.device | str,
) -> list[Found]:
    """Where cameras end that move while the mesh is refined from each, the most credible first."""
    if not starts:
        return []
    size, steps = min(effort[0], len(mask)), effort[1]
    seen = _mask_at(mask, size).astype(np.float32)
    blank = np.zeros((size, size, 3), np.float32)
    views = [View(seen, camera, spread=spread, pivot=pivot) for camera in starts]
    batch = [PreparedInstance("", mesh, blank, (view,), plane) for view in views]
    config = RefineConfig(method="large-steps", steps=steps, large_steps=LargeStepsOptions(weights=WEIGHTS))
    outcomes = large_steps(batch, config, torch.device(device))
    found = [
        Found(outcome.cameras[0], sum(outcome.losses.values()))
        for outcome in outcomes
        if isinstance(outcome, MethodOutput) and outcome.cameras
    ]
    return sorted(found, key=lambda f: f.doubt)


def _answers(found: Sequence[Found]) -> list[LikelyCamera]:
    """The best answer, and those that are another and hardly less credible."""
    best = found[0]
    answers = [LikelyCamera(_mean(found))]
    for other in found[1:]:
        credibility = _credibility(other, best)
        told = (best.camera, *(answer.camera for answer in answers))
        if credibility > CREDIBLE and not any(_same_answer(camera, other.camera) for camera in told):
            answers.append(LikelyCamera(other.camera, credibility))
    return answers[:ANSWERS]


def _credibility(found: Found, best: Found) -> float:
    return math.exp((best.doubt - found.doubt) / max(TOLERANCE * best.doubt, 1e-12))


def _mean(found: Sequence[Found]) -> Camera:
    """The mean of the cameras about the first, which is the best, by how credible each is."""
    best = found[0]
    near = [f for f in found if _same_answer(best.camera, f.camera)]
    weights = np.array([_credibility(f, best) for f in near])
    weights /= weights.sum()
    # Changes from the best, so that what none changed stays to the last bit.
    changes = [_change(best.camera, f.camera) for f in near]
    turn, rise, farther = (float(weights @ column) for column in zip(*changes, strict=True))
    azimuth = best.camera.azimuth
    if turn:
        azimuth = (azimuth + turn + 180.0) % 360.0 - 180.0
    return replace(
        best.camera,
        azimuth=azimuth,
        elevation=best.camera.elevation + rise,
        distance=best.camera.distance * math.exp(farther),
    )


def _same_answer(one: Camera, other: Camera) -> bool:
    # Near the pole all azimuths are one direction, but not one picture.
    turn = abs(_change(one, other)[0])
    return angle_between(one, other) < SAME_ANSWER and turn < 2.0 * SAME_ANSWER


def _change(camera: Camera, other: Camera) -> tuple[float, float, float]:
    """Degrees of azimuth and elevation and the logarithm of the distance from one camera to another."""
    turn = (other.azimuth - camera.azimuth + 180.0) % 360.0 - 180.0
    return turn, other.elevation - camera.elevation, math.log(other.distance / camera.distance)


def _mask_at(mask: np.ndarray, size: int) -> np.ndarray:
    """(size, size) bool: where the mask covers half of a pixel; any of it where nothing else would be left."""
    share = reduced(mask, size).numpy()
    half = share >= 0.5
    return half if half.any() else share > 0.0


def _beyond_usual(camera: Camera) -> float:
    """Degrees outside the usual elevations."""
    low, high = USUAL
    return max(low - camera.elevation, camera.elevation - high, 0.0)
