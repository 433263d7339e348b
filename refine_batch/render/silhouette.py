"""The soft silhouette behind one small interface, whoever computes it.

For each pixel and projected triangle, with d² the squared NDC distance from the pixel centre to the triangle's
boundary: x = d²/σ inside, −d²/σ outside and left out where d² ≥ r = σ·ln(1/1e-4 − 1). p = sigmoid(x) and α = 1 − Π(1
− p), the SoftRas silhouette (Liu et al., ICCV 2019, https://arxiv.org/abs/1904.01786) as PyTorch3D's
SoftSilhouetteShader has it.

Renderers return the optical depth S = −ln(1 − α) = Σ softplus(x), which stays exact where α is 1 in float32.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from refine_batch.errors import UsageError

# What a triangle must add to α to be counted; PyTorch3D's blur radius follows from it.
MIN_ALPHA = 1e-4


@runtime_checkable
class SilhouetteRenderer(Protocol):
    """Optical depth of N views of M meshes, differentiable in the x and y of the points.

    Parameters
    ----------
    points : (N, V, 3) float32
        Projected vertices per view: NDC x and y, depth z. Triangles that are not wholly before the camera are left out.
    faces : (M, F, 3) int32
        Padded to the largest mesh.
    face_count : (M,) int32
    mesh_of_view : (N,) int32
        Which mesh each view shows.
    sigma
        A tensor is read where it lies, on the device.
    """

    def __call__(
        self,
        points: Float[Tensor, "n v 3"],
        faces: Int32[Tensor, "m f 3"],
        face_count: Int32[Tensor, " m"],
        mesh_of_view: Int32[Tensor, " n"],
        image_size: int,
        sigma: float | Float[Tensor, ""],
    ) -> Float[Tensor, "n h h"]: ...


def blur_radius(sigma):
    """r, a number or a tensor as sigma is: the squared NDC distance beyond which a triangle is left out."""
    return sigma * math.log(1.0 / MIN_ALPHA - 1.0)


def warp_renderer(points, faces, face_count, mesh_of_view, image_size, sigma):
    """The fused Warp kernels, for CPU and CUDA."""
    from refine_batch.render.warp_silhouette import OpticalDepth

    return OpticalDepth.apply(points, faces, face_count, mesh_of_view, image_size, sigma, blur_radius(sigma))


def torch_renderer(points, faces, face_count, mesh_of_view, image_size, sigma):
    """Plain torch: every triangle at every pixel. Slow and obvious; the kernels are tested against it."""
    from refine_batch.render.torch_silhouette import optical_depth

    return optical_depth(points, faces, face_count, mesh_of_view, image_size, sigma, blur_radius(sigma))


def pytorch3d_renderer(points, faces, face_count, mesh_of_view, image_size, sigma):
    """PyTorch3D's rasteriser, where it is installed: the 100 nearest triangles per pixel."""
    from refine_batch.render.pytorch3d_silhouette import optical_depth

    return optical_depth(points, faces, face_count, mesh_of_view, image_size, sigma, blur_radius(sigma))


RENDERERS: dict[str, SilhouetteRenderer] = {
    "warp": warp_renderer,
    "torch": torch_renderer,
    "pytorch3d": pytorch3d_renderer,
}


def load_renderer(name: str) -> SilhouetteRenderer:
    """The renderer called `name`.

    Raises
    ------
    UsageError
        There is none of that name, or it needs a package that is not installed.
    """
    if name not in RENDERERS:
        raise UsageError(f"renderer {name!r} is unknown; choose {', '.join(RENDERERS)}")
    if name == "pytorch3d":
        try:
            import pytorch3d  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "renderer 'pytorch3d' needs the package pytorch3d, which is not installed; get it from conda-forge "
                "(conda install -c conda-forge pytorch3d) or use the default, warp"
            ) from error
    return RENDERERS[name]


def alpha(optical_depth: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The silhouette α = 1 − e^(−S), in [0, 1]."""
    return -torch.expm1(-optical_depth)
