"""Instances as methods see them, for tests of methods."""

from __future__ import annotations

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import AXES, SymmetryPlane
from refine_batch.methods import PreparedInstance, View
from refine_batch.render import hard_silhouettes

PLANES = {"none": None} | {axis: SymmetryPlane(normal) for axis, normal in AXES.items()}


def view(shape: Mesh, camera: Camera, size: int, **values) -> View:
    """What `camera` sees of `shape`."""
    [mask] = hard_silhouettes(shape, [camera], size)
    return View(mask.astype(np.float32), camera, **values)


def subject(name: str, mesh: Mesh, true: Mesh, camera: Camera, size: int, axis: str = "z") -> PreparedInstance:
    """An instance whose one mask is that of `true`, in a picture of noise."""
    seen = view(true, camera, size)
    random = np.random.default_rng(len(name))
    image = np.where(seen.covered[..., None], random.uniform(0.2, 0.9, (size, size, 3)), 0).astype(np.float32)
    return PreparedInstance(name, mesh, image, (seen,), PLANES[axis])


def iou(vertices: np.ndarray, instance: PreparedInstance, number: int = 0) -> float:
    """2D IoU of moved vertices with the mask of one of the instance's views, from its camera."""
    seen = instance.views[number]
    [silhouette] = hard_silhouettes(Mesh(vertices, instance.mesh.faces), [seen.camera], len(seen.mask))
    return float((silhouette & seen.covered).sum() / (silhouette | seen.covered).sum())
