"""How the coarse meshes stand in the dataset's own object coordinates.

A network trained on one dataset gives its meshes in that dataset's coordinates, whatever dataset its picture is from.
All frames are y-up; they differ in where the front of an object faces, and in scale.
"""

from __future__ import annotations

import math

import numpy as np

from refine_batch.cameras.pinhole import Placement
from refine_batch.dataset.layouts.entry import LeftOutError, Reason
from refine_batch.mesh import Mesh

# Azimuth of the front, degrees (0 is +z, 90 is +x), and normal of the plane of symmetry that most objects have.
# ShapeNetCore v1: front +x; v2: front −z (their READMEs). Pix3D: +x leftward, +z inward, so front −z.
FRAMES: dict[str, tuple[float, str]] = {
    "shapenet-v1": (90.0, "z"),
    "shapenet-v2": (180.0, "x"),
    "pix3d": (180.0, "x"),
}
# `y-up` is of layouts whose cameras live in a z-up world: see `viewed.placement_of`.
MESH_FRAMES = ("same", *FRAMES, "y-up")


def turn(mesh_frame: str, dataset_frame: str) -> np.ndarray:
    """(3, 3) rotation about y from the meshes' frame to the dataset's; `same` is the identity."""
    if mesh_frame == "same":
        return np.eye(3)
    angle = math.radians(FRAMES[dataset_frame][0] - FRAMES[mesh_frame][0])
    c, s = round(math.cos(angle)), round(math.sin(angle))  # quarter turns, exactly
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def symmetry_axis(mesh_frame: str, dataset_frame: str) -> str:
    return FRAMES[dataset_frame if mesh_frame == "same" else mesh_frame][1]


def placement(mesh_frame: str, dataset_frame: str, model: Mesh | None) -> Placement:
    """Where the coarse meshes' coordinates stand in the dataset's.

    With a `model`, the object's own in the dataset's coordinates, the meshes live where its box is centred on the
    origin and has a largest extent of 1, as the training data of most single-view methods do.
    """
    rotation = turn(mesh_frame, dataset_frame)
    if model is None:
        return Placement(rotation)
    # Vertices that no face uses would widen the box.
    used = model.vertices[np.unique(model.faces)].astype(np.float64)
    low, high = used.min(axis=0), used.max(axis=0)
    extent = float((high - low).max())
    if not extent > 0:
        raise LeftOutError(Reason.GROUND_TRUTH_BROKEN, "the ground-truth model has no extent")
    return Placement(rotation, extent, (low + high) / 2)


def in_mesh_frame(model: Mesh, placed: Placement) -> Mesh:
    """The dataset's model in the coarse meshes' coordinates."""
    return Mesh(placed.inverse().apply(model.vertices).astype(np.float32), model.faces)
