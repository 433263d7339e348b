"""Points on meshes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from refine_batch.mesh.mesh import Mesh
from refine_batch.mesh.normals import area_normals
from refine_batch.mesh.padded import PaddedMeshes


def sample_surfaces(meshes: PaddedMeshes, count: int, seeds: Sequence[int]) -> Float64[Tensor, "b n 3"]:
    """`count` points spread uniformly over the area of each mesh; the same for the same seed, whatever the batch.

    A face is drawn in proportion to its area, then a point in it (Osada et al., "Shape distributions", 2002: with u, v
    uniform, (1 − √u)·a + √u·(1 − v)·b + √u·v·c). NaN for a mesh without any area.
    """
    reach = meshes.doubled_areas.cumsum(dim=1)
    # The numbers are the host's on every device.
    drawn = np.stack([np.random.default_rng(seed).random((3, count)) for seed in seeds])
    face, root, v = torch.from_numpy(drawn).to(meshes.device).unbind(dim=1)
    # right: a face without area is never drawn.
    chosen = torch.searchsorted(reach, face * reach[:, -1:], right=True).clamp_(max=reach.shape[1] - 1)
    a, b, c = meshes.corners.gather(1, chosen[..., None, None].expand(-1, -1, 3, 3)).unbind(dim=2)
    root = root.sqrt()[..., None]
    points = a + root * (1 - v[..., None]) * (b - a) + root * v[..., None] * (c - a)
    return torch.where((reach[:, -1] > 0)[:, None, None], points, torch.nan)


def sample_surface(mesh: Mesh, count: int, seed: int) -> np.ndarray:
    """(count, 3) float64 points spread uniformly over the area of `mesh`; the same for the same seed.

    Raises
    ------
    ValueError
        The mesh has no area.
    """
    points = sample_surfaces(PaddedMeshes.of([mesh]), count, [seed])[0].numpy()
    if np.isnan(points).any():
        raise ValueError("sample_surface: the mesh has no area")
    return points


def scaled_to_extent(points: Float64[Tensor, "b n 3"], extent: float = 2.0) -> Float64[Tensor, "b n 3"]:
    """Each cloud of a batch times the factor that makes its largest extent over the axes `extent`; the origin stays."""
    largest = (points.amax(dim=1) - points.amin(dim=1)).amax(dim=1)
    return points * (extent / largest)[:, None, None]


def has_area(mesh: Mesh) -> bool:
    """Whether there is any surface to draw points from."""
    return bool(len(mesh.faces)) and float(np.linalg.norm(area_normals(mesh), axis=1).sum()) > 0
