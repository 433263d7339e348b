"""The image symmetry loss (Leung et al., CVPRW 2022): mirrored views of the mesh look alike, where trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from refine_batch.cameras.camera import Camera, Cameras, stack_cameras
from refine_batch.losses.vertex_symmetry import MIN_CONFIDENCE
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.render.silhouette import alpha

ELEVATIONS = (-45.0, 45.0)
DISTANCE = 1.9


def symmetry_directions(count: int) -> list[tuple[float, float]]:
    """(azimuth, elevation) of the 2·count views, degrees: azimuth 15 for one, else evenly from 15 to 75."""
    azimuths = [15.0] if count == 1 else np.linspace(15.0, 75.0, count).tolist()
    return [(azimuth, elevation) for azimuth in azimuths for elevation in ELEVATIONS]


@dataclass(frozen=True)
class SymmetryViews:
    """The N views of a batch and the same cameras mirrored in each instance's symmetry plane.

    Instances without a plane have no views. `mesh_of_view` (N,) names the instance of each view.
    """

    cameras: Cameras
    mirrored: Cameras
    mesh_of_view: Int32[Tensor, " n"]
    per_instance: int

    @classmethod
    def of(
        cls,
        planes: Sequence[SymmetryPlane | None],
        directions: Sequence[tuple[float, float]],
        device: torch.device | str = "cpu",
    ) -> SymmetryViews:
        """The views for one plane per instance; None means that it has none."""
        views = [Camera(azimuth, elevation, DISTANCE) for azimuth, elevation in directions]
        seen = [(i, plane) for i, plane in enumerate(planes) if plane is not None]
        return cls(
            cameras=stack_cameras([view for _ in seen for view in views], device),
            mirrored=stack_cameras([view.mirrored(p.normal, p.offset) for _, p in seen for view in views], device),
            mesh_of_view=torch.tensor([i for i, _ in seen for _ in views], dtype=torch.int32, device=device),
            per_instance=len(views),
        )


def image_symmetry_loss(
    depth: Float[Tensor, "n h h"],
    mirrored_depth: Float[Tensor, "n h h"],
    confidence: Float[Tensor, "n h h"],
    on_object: Bool[Tensor, "n h h"],
    views: SymmetryViews,
    batch_size: int,
    bias: float,
) -> Float[Tensor, " b"]:
    """Mean over pixels of b·ln(1/C) plus mean over pixels of (flip(S1) − S2)²·C on the object, averaged over the views.

    Parameters
    ----------
    depth, mirrored_depth
        Optical depths of the silhouettes S1, from the views, and S2, from the mirrored cameras.
    confidence
        C: per-vertex confidence rendered by the hard rasteriser from the mirrored cameras, 1 on the background.
    on_object
        Where that rasteriser found a triangle.
    """
    difference = (alpha(depth).flip(-1) - alpha(mirrored_depth)).square()
    cost = -bias * torch.log(confidence.clamp_min(MIN_CONFIDENCE))
    per_view = (cost + torch.where(on_object, difference * confidence, 0.0)).mean(dim=(1, 2))
    total = per_view.new_zeros(batch_size).index_add(0, views.mesh_of_view.long(), per_view)
    return total / views.per_instance
