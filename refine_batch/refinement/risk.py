"""How likely a refined shape is to be worse than the coarse one, judged without a ground truth.

No single sign tells much; together they tell a good part. What they say was fitted by logistic regression to shapes
whose truth is known: real ones of nine origins, spoiled in eight ways, with exact and with wrong cameras, and synthetic
ones (`benchmarks/guard.py`; docs/algorithm.md has the figures).
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from scipy.special import expit

from refine_batch.cameras.camera import Camera, rays_to
from refine_batch.mesh import Mesh
from refine_batch.mesh.normals import areas_about


@dataclass(frozen=True)
class Signs:
    """What of a refinement goes with a better or a worse shape.

    Attributes
    ----------
    camera_share
        Share of the disagreement (1 − 2D IoU) that the camera's change alone took away. Where the camera explains much,
        the shape was less wrong than it seemed.
    distance_change
        By how much the camera's distance changed, the size of its logarithm: a size is told well.
    along_ray
        Share of the displacement (root mean square over the area) that lies along the viewing ray, of which a
        silhouette tells nothing.
    """

    camera_share: float
    distance_change: float
    along_ray: float


# The first and last hundredth of what was fitted; beyond nothing is known, and nothing is added.
LEAST = Signs(camera_share=-0.158, distance_change=0.0, along_ray=0.0947)
MOST = Signs(camera_share=0.594, distance_change=0.143, along_ray=0.576)
WEIGHTS = Signs(camera_share=6.05, distance_change=-24.1, along_ray=2.65)
BIAS = -3.46


def signs(
    coarse: Mesh, vertices: np.ndarray, given: Camera, camera: Camera, iou_given: float, iou_moved: float
) -> Signs:
    """The signs of one refinement.

    Parameters
    ----------
    coarse
        The working mesh.
    vertices : (V, 3)
        Refined.
    given, camera
        About the working mesh: before and after the refinement.
    iou_given, iou_moved
        2D IoU of the coarse mesh and the mask from each of them.
    """
    moved = np.asarray(vertices, np.float64) - coarse.vertices
    ray = rays_to(coarse.vertices.astype(np.float64), camera)
    ray /= np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-12)
    weight = areas_about(coarse)
    whole = float(weight @ (moved**2).sum(axis=1))
    return Signs(
        camera_share=(iou_moved - iou_given) / max(1.0 - iou_given, 1e-6),
        distance_change=abs(math.log(camera.distance / given.distance)),
        along_ray=math.sqrt(float(weight @ (moved * ray).sum(axis=1) ** 2) / max(whole, 1e-30)),
    )


def risk(signs: Signs) -> float:
    """The probability that the Chamfer distance to the true shape has grown by more than 1 %."""
    known = np.clip(astuple(signs), astuple(LEAST), astuple(MOST))
    return float(expit(BIAS + known @ np.array(astuple(WEIGHTS))))
