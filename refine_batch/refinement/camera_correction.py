"""A given camera that is a little wrong, told from a mesh that is.

A silhouette that disagrees with the mask may be the camera's fault or the mesh's. A camera fitted freely absorbs what
the mesh should: it ends degrees away from the truth and the mask still is not met. Only where the fitted camera alone
makes the mesh meet the mask is it the better explanation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from refine_batch.cameras.camera import Camera, angle_between
from refine_batch.mesh import Mesh
from refine_batch.refinement.camera_fit import Fitted, fit_cameras, ious

# 2D IoU from which the camera alone explains the picture, and by how much it has to be better than the given one.
EXPLAINED = 0.94
GAIN = 0.02
# A fit that comes this near is tried again from cameras beside it, in degrees: thin objects have local minima.
PROMISING = 0.85
BESIDE = 8.0
# A camera further off is not a little wrong: degrees, and ratio of distances.
FARTHEST = 25.0
FARTHEST_RATIO = 1.5


def correct_camera(mesh: Mesh, mask: np.ndarray, camera: Camera, device: torch.device | str = "cpu") -> Camera | None:
    """A camera near the given one from which the mesh as it is meets the mask; None where there is none.

    Parameters
    ----------
    mask : (H, H) bool
        True on the object.
    """
    given = float(ious(mesh, mask, [camera], device)[0])
    if given + GAIN > 1.0:
        return None
    best = _near(camera, fit_cameras(mesh, mask, [camera], keep=1, device=device))
    if PROMISING <= best.iou < EXPLAINED:
        best = max(best, _near(camera, fit_cameras(mesh, mask, _beside(best.camera), device=device)), key=_iou)
    if best.iou < max(EXPLAINED, given + GAIN):
        return None
    return best.camera


def _beside(camera: Camera) -> list[Camera]:
    changes = [(BESIDE, 0.0), (-BESIDE, 0.0), (0.0, BESIDE), (0.0, -BESIDE)]
    return [replace(camera, azimuth=camera.azimuth + a, elevation=camera.elevation + e) for a, e in changes]


def _near(camera: Camera, found: list[Fitted]) -> Fitted:
    def near(fitted: Fitted) -> bool:
        ratio = fitted.camera.distance / camera.distance
        return angle_between(camera, fitted.camera) <= FARTHEST and 1 / FARTHEST_RATIO <= ratio <= FARTHEST_RATIO

    return next((fitted for fitted in found if near(fitted)), Fitted(camera, 0.0))


def _iou(fitted: Fitted) -> float:
    return fitted.iou
