"""What a camera's roll and principal point explain: a turn and a shift of the picture as a whole."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from refine_batch.cameras.camera import Camera
from refine_batch.figures.outlines import outline

_STEPS = 12
# Pixels of 224 from which on a point of the outline counts less: it is the shape that is wrong there.
_USUAL = 4.0
# What a turn and a shift cost, in squared standard deviations, beside squared pixels of 224.
_COST = 0.05
# How far off they may be found, in standard deviations.
MOST = 2.0
# A camera that may point anywhere has no larger deviation than this, degrees.
_ANYWHERE = 60.0


def aligned(
    camera: Camera, seen: np.ndarray, mask: np.ndarray, known: np.ndarray, degrees: float, given: Camera | None = None
) -> Camera | None:
    """The camera turned about its viewing axis, its principal point moved, so that its silhouette meets the mask.

    Gauss-Newton on the signed distances of the silhouette's outline from the mask's (Fitzgibbon, "Robust registration
    of 2D and 3D point sets", 2003).

    Parameters
    ----------
    seen, mask : (H, H) bool
        What the camera sees of the mesh, and should see.
    known : (H, H) bool
        Which pixels say anything.
    degrees
        One standard deviation of the turn, and of where the camera points.
    given
        From which it may not be farther off than `MOST`; default: `camera`.

    Returns
    -------
    Camera or None
        None where there is no outline, or it would have to be turned or shifted beyond that.
    """
    size = len(mask)
    edge = np.argwhere(outline(seen) & known).astype(np.float64)
    if not len(edge) or not mask.any() or mask.all():
        return None
    # Rows and columns; positive outside.
    distance = distance_transform_edt(~mask) - distance_transform_edt(mask)
    distance = distance + np.where(mask, 0.5, -0.5)
    slope = np.gradient(distance)
    focal = size / 2.0 / math.tan(math.radians(camera.fov) / 2.0)
    middle = (size - 1) / 2.0 - size / 2.0 * np.array([camera.offset_y, camera.offset_x])
    angle = math.radians(min(degrees, _ANYWHERE))
    spread = np.array([angle, *2 * [focal * math.tan(angle)]])
    usual, found = _USUAL * size / 224.0, np.zeros(3)
    for _ in range(_STEPS):
        sin, cos = math.sin(found[0]), math.cos(found[0])
        about = edge - middle
        turned = np.stack([cos * about[:, 0] - sin * about[:, 1], sin * about[:, 0] + cos * about[:, 1]], axis=1)
        place = (turned + middle + found[1:]).T
        residual, down, right = (map_coordinates(field, place, order=1, mode="nearest") for field in (distance, *slope))
        jacobian = np.stack([right * turned[:, 0] - down * turned[:, 1], down, right], axis=1)
        weight = 1.0 / (1.0 + (residual / usual) ** 2)
        weight /= weight.sum()
        cost = np.diag(_COST * (size / 224.0) ** 2 / spread**2)
        normal = jacobian.T @ (weight[:, None] * jacobian) + cost
        found = found - np.linalg.solve(normal, jacobian.T @ (weight * residual) + cost @ found)
    if not np.isfinite(found).all():
        return None
    turn, down, right = found.tolist()
    moved = replace(
        camera,
        roll=camera.roll + math.degrees(turn),
        # NDC's x points left, its y up, and the picture is 2 wide.
        offset_x=camera.offset_x - 2.0 * right / size,
        offset_y=camera.offset_y - 2.0 * down / size,
    )
    given = given or camera
    off = [math.radians(moved.roll - given.roll)]
    off += [size / 2.0 * (moved.offset_y - given.offset_y), size / 2.0 * (moved.offset_x - given.offset_x)]
    return moved if (np.abs(off) <= MOST * spread).all() else None
