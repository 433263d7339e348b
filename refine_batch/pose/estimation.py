"""A camera for an image that came without one: a search over directions and distances, then descent from the best."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import torch

from refine_batch.camera import Camera, UnknownCamera, angle_between, cameras_from_parameters
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh import Mesh
from refine_batch.pose.fit import MOVED, Fitted, fit_cameras, ious, reduced

# Directions searched, degrees. Pictures are rarely taken from below.
AZIMUTHS = np.arange(-180.0, 180.0, 15.0)
ELEVATIONS = np.arange(-30.0, 76.0, 15.0)
SEARCH_SIZE = 64
# Distances tried beside the one at which the object's outline has the mask's size.
DISTANCES = (0.9, 1.0, 1.12)
# How many of the search's best are descended from, and how far apart they stand at least.
STARTS = 10
FINALISTS = 4
APART = 20.0
# IoU that a camera must be better by to be believed outside the usual elevations (degrees), per 30 degrees: opposite
# directions have almost the same outline, and people look at things from above.
USUAL = (-12.0, 60.0)
UNUSUAL = 0.03


def estimate_camera(
    mesh: Mesh, mask: np.ndarray, unknown: UnknownCamera | None = None, device: torch.device | str = "cpu"
) -> Camera:
    """The camera from which the mesh's silhouette agrees best with the mask.

    What `unknown` does know (the field of view, say, or the elevation) is kept. A silhouette cannot tell a symmetric
    object's views apart; of cameras that agree alike the one at a usual elevation is taken.

    Parameters
    ----------
    mask : (H, H) bool
        True on the object.

    Raises
    ------
    InstanceError
        CAMERA_INVALID: from no direction does the mesh's silhouette overlap the mask.
    """
    unknown = unknown or UnknownCamera()
    free = [name for name in MOVED if getattr(unknown, name) is None]
    small = reduced(mask, SEARCH_SIZE).numpy() >= 0.5
    if not small.any():
        small = reduced(mask, SEARCH_SIZE).numpy() > 0.0
    candidates = _candidates(mesh, mask, unknown)
    scores = ious(mesh, small, candidates, device)
    if scores.max() <= 0.0:
        raise InstanceError(
            ErrorKind.CAMERA_INVALID,
            "no camera could be estimated: from no direction does the mesh's silhouette overlap the mask",
        )
    starts = _apart([Fitted(camera, float(score)) for camera, score in zip(candidates, scores, strict=True)])
    found = fit_cameras(mesh, mask, [s.camera for s in starts], moved=free, keep=FINALISTS, device=device)
    return max(found, key=_belief).camera


def _candidates(mesh: Mesh, mask: np.ndarray, unknown: UnknownCamera) -> list[Camera]:
    """Every direction at distances about the one that gives the silhouette the mask's size."""
    azimuths = AZIMUTHS if unknown.azimuth is None else [unknown.azimuth]
    elevations = ELEVATIONS if unknown.elevation is None else [unknown.elevation]
    directions = [unknown.known(float(a), float(e), 1.0) for a, e in itertools.product(azimuths, elevations)]
    if unknown.distance is not None:
        return [replace(camera, distance=unknown.distance) for camera in directions]
    distances = _fitting_distances(mesh, mask, directions)
    return [
        replace(camera, distance=float(distance * factor))
        for camera, distance in zip(directions, distances, strict=True)
        for factor in DISTANCES
    ]


def _fitting_distances(mesh: Mesh, mask: np.ndarray, directions: list[Camera]) -> np.ndarray:
    """(N,) distances at which the box round the projected vertices is as large (in diagonal) as the mask's."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    wanted = 2.0 * math.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1) / mask.shape[0]
    every = max(1, len(mesh.vertices) // 1000)
    vertices = torch.from_numpy(mesh.vertices[::every].astype(np.float64))
    table = torch.tensor([[getattr(c, n) for n in Camera.__dataclass_fields__] for c in directions]).double()
    cameras = cameras_from_parameters(table)
    # With the camera at the distance d a point at depth z about the origin is seen at x / (z + d).
    turned = vertices @ cameras.rotation
    reach = float(vertices.norm(dim=1).max())
    distance = torch.full((len(directions),), 2.0 * reach, dtype=torch.float64)
    for _ in range(8):
        depth = (turned[..., 2] + distance[:, None]).clamp_min(0.05 * reach)
        seen = turned[..., :2] * (cameras.focal[:, None] / depth)[..., None]
        extent = seen.amax(dim=1) - seen.amin(dim=1)
        distance = (distance * extent.norm(dim=1) / wanted).clamp_min(1.05 * reach)
    return distance.numpy()


def _belief(fitted: Fitted) -> float:
    low, high = USUAL
    beyond = max(low - fitted.camera.elevation, fitted.camera.elevation - high, 0.0)
    return fitted.iou - UNUSUAL * beyond / 30.0


def _apart(found: list[Fitted]) -> list[Fitted]:
    """The best, none nearer than `APART` degrees to a better one."""
    chosen: list[Fitted] = []
    for candidate in sorted(found, key=_belief, reverse=True):
        if all(angle_between(candidate.camera, other.camera) >= APART for other in chosen):
            chosen.append(candidate)
        if len(chosen) == STARTS:
            break
    return chosen
