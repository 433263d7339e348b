"""The hard rasteriser as Warp kernels: the nearest triangle of every pixel, and per-vertex values rendered through it.

Depth first, then the lowest-numbered triangle at that depth, so that the answer does not depend on the order in which
threads run.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from refine_batch.devices.warp_runtime import launch
from refine_batch.render.warp_silhouette import drawn, first_pixel, last_pixel

FAR = wp.constant(1e30)
# Past any triangle's depth and number.
NOTHING = 2**63 - 1
SHIFT = wp.constant(wp.int64(2**32))


@wp.func
def doubled_area(a: wp.vec3, b: wp.vec3, c: wp.vec3) -> wp.float32:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@wp.func
def parts_of_area(a: wp.vec3, b: wp.vec3, c: wp.vec3, x: wp.float32, y: wp.float32) -> wp.vec3:
    """The doubled areas of (x, y) with each edge, which add up to the triangle's."""
    u = (b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)
    v = (c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)
    w = (a[0] - x) * (b[1] - y) - (a[1] - y) * (b[0] - x)
    return wp.vec3(u, v, w)


@wp.func
def depth_at(
    a: wp.vec3, b: wp.vec3, c: wp.vec3, area: wp.float32, turn: wp.float32, x: wp.float32, y: wp.float32
) -> wp.float32:
    """Depth of the triangle at (x, y), perspective-correct, or FAR outside it; `turn` is its area's sign."""
    parts = parts_of_area(a, b, c, x, y)
    if wp.min(parts[0] * turn, wp.min(parts[1] * turn, parts[2] * turn)) < 0.0:
        return FAR
    bary = parts / area
    return 1.0 / (bary[0] / a[2] + bary[1] / b[2] + bary[2] / c[2])


@wp.kernel(enable_backward=False)
def nearest_kernel(
    points: wp.array2d[wp.vec3],
    faces: wp.array2d[wp.vec3i],
    face_count: wp.array[wp.int32],
    mesh_of_view: wp.array[wp.int32],
    nearest: wp.array3d[wp.int64],
):
    """Lowers every pixel of a triangle to its depth and number, the depth in the upper half."""
    view, f = wp.tid()
    mesh = mesh_of_view[view]
    if f >= face_count[mesh]:
        return
    corner = faces[mesh, f]
    a = points[view, corner[0]]
    b = points[view, corner[1]]
    c = points[view, corner[2]]
    area = doubled_area(a, b, c)
    if not drawn(a, b, c, area):
        return
    turn = wp.sign(area)
    size = nearest.shape[2]
    pixel = 2.0 / wp.float32(size)
    low = wp.min(a, wp.min(b, c))
    high = wp.max(a, wp.max(b, c))
    for i in range(first_pixel(high[1], size), last_pixel(low[1], size) + 1):
        for j in range(first_pixel(high[0], size), last_pixel(low[0], size) + 1):
            z = depth_at(a, b, c, area, turn, 1.0 - pixel * (wp.float32(j) + 0.5), 1.0 - pixel * (wp.float32(i) + 0.5))
            if z < FAR:
                # The bits of floats above 0 are in the order of the floats.
                wp.atomic_min(nearest, view, i, j, wp.int64(wp.cast(z, wp.int32)) * SHIFT + wp.int64(f))


@wp.func
def weights_at(
    points: wp.array2d[wp.vec3], corner: wp.vec3i, view: wp.int32, i: wp.int32, j: wp.int32, size: wp.int32
) -> wp.vec3:
    """Perspective-correct barycentric coordinates of a pixel centre."""
    a = points[view, corner[0]]
    b = points[view, corner[1]]
    c = points[view, corner[2]]
    pixel = 2.0 / wp.float32(size)
    parts = parts_of_area(a, b, c, 1.0 - pixel * (wp.float32(j) + 0.5), 1.0 - pixel * (wp.float32(i) + 0.5))
    bary = parts / doubled_area(a, b, c)
    weight = wp.vec3(bary[0] / a[2], bary[1] / b[2], bary[2] / c[2])
    return weight / (weight[0] + weight[1] + weight[2])


@wp.kernel(enable_backward=False)
def shade_kernel(
    points: wp.array2d[wp.vec3],
    faces: wp.array2d[wp.vec3i],
    mesh_of_view: wp.array[wp.int32],
    face: wp.array3d[wp.int32],
    values: wp.array2d[wp.float32],
    background: wp.float32,
    image: wp.array3d[wp.float32],
):
    view, i, j = wp.tid()
    f = face[view, i, j]
    if f < 0:
        image[view, i, j] = background
        return
    mesh = mesh_of_view[view]
    corner = faces[mesh, f]
    weight = weights_at(points, corner, view, i, j, face.shape[2])
    image[view, i, j] = (
        weight[0] * values[mesh, corner[0]] + weight[1] * values[mesh, corner[1]] + weight[2] * values[mesh, corner[2]]
    )


@wp.kernel(enable_backward=False)
def shade_gradient_kernel(
    points: wp.array2d[wp.vec3],
    faces: wp.array2d[wp.vec3i],
    mesh_of_view: wp.array[wp.int32],
    face: wp.array3d[wp.int32],
    image_gradient: wp.array3d[wp.float32],
    values_gradient: wp.array2d[wp.float32],
):
    view, i, j = wp.tid()
    f = face[view, i, j]
    upstream = image_gradient[view, i, j]
    if f < 0 or upstream == 0.0:
        return
    mesh = mesh_of_view[view]
    corner = faces[mesh, f]
    weight = weights_at(points, corner, view, i, j, face.shape[2])
    wp.atomic_add(values_gradient, mesh, corner[0], upstream * weight[0])
    wp.atomic_add(values_gradient, mesh, corner[1], upstream * weight[1])
    wp.atomic_add(values_gradient, mesh, corner[2], upstream * weight[2])


def rasterise(points: Tensor, faces: Tensor, face_count: Tensor, mesh_of_view: Tensor, image_size: int) -> Tensor:
    """(N, H, H) int32 number of the nearest triangle at each pixel centre, −1 on the background.

    points (N, V, 3) float32 NDC and depth, faces (M, F, 3) int32 padded, face_count (M,) int32, mesh_of_view (N,)
    int32.
    """
    points = points.detach().contiguous()
    shape = (points.shape[0], image_size, image_size)
    nearest = torch.full(shape, NOTHING, dtype=torch.int64, device=points.device)
    launch(nearest_kernel, (points.shape[0], faces.shape[1]), [points, faces, face_count, mesh_of_view, nearest])
    return torch.where(nearest == NOTHING, -1, nearest & 0xFFFFFFFF).to(torch.int32)


class Shade(torch.autograd.Function):
    """Per-vertex values (M, V) seen through the triangles of `rasterise`; differentiable in the values only.

    Where a triangle lies is settled by a hard rasteriser, which has no useful gradient; the soft silhouette moves
    vertices.
    """

    @staticmethod
    def forward(ctx, values, points, faces, mesh_of_view, face, background):
        points = points.detach().contiguous()
        image = torch.empty(face.shape, device=points.device)
        launch(
            shade_kernel, tuple(face.shape), [points, faces, mesh_of_view, face, values.contiguous(), background, image]
        )
        ctx.save_for_backward(points, faces, mesh_of_view, face)
        ctx.shape = values.shape
        return image

    @staticmethod
    def backward(ctx, image_gradient):
        points, faces, mesh_of_view, face = ctx.saved_tensors
        gradient = torch.zeros(ctx.shape, device=points.device)
        launch(
            shade_gradient_kernel,
            tuple(face.shape),
            [points, faces, mesh_of_view, face, image_gradient.contiguous(), gradient],
        )
        return gradient, None, None, None, None, None
