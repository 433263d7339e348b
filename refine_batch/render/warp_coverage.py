"""Which pixels any triangle covers, as a Warp kernel: the hard rasteriser without its depths.

A silhouette needs neither the order of the triangles nor their numbers, which makes it many times cheaper than
`warp_rasterise`; both decide on a pixel by the same three signs.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from refine_batch.devices.warp_runtime import launch
from refine_batch.render.warp_silhouette import drawn, first_pixel, last_pixel


@wp.kernel(enable_backward=False)
def coverage_kernel(
    points: wp.array2d[wp.vec3],
    faces: wp.array2d[wp.vec3i],
    face_count: wp.array[wp.int32],
    mesh_of_view: wp.array[wp.int32],
    covered: wp.array3d[wp.int32],
):
    view, f = wp.tid()
    mesh = mesh_of_view[view]
    if f >= face_count[mesh]:
        return
    corner = faces[mesh, f]
    a = points[view, corner[0]]
    b = points[view, corner[1]]
    c = points[view, corner[2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if not drawn(a, b, c, area):
        return
    turn = wp.sign(area)
    size = covered.shape[2]
    pixel = 2.0 / wp.float32(size)
    low = wp.min(a, wp.min(b, c))
    high = wp.max(a, wp.max(b, c))
    first = first_pixel(high[0], size)
    last = last_pixel(low[0], size)
    for i in range(first_pixel(high[1], size), last_pixel(low[1], size) + 1):
        y = 1.0 - pixel * (wp.float32(i) + 0.5)
        for j in range(first, last + 1):
            x = 1.0 - pixel * (wp.float32(j) + 0.5)
            u = turn * ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x))
            v = turn * ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x))
            w = turn * ((a[0] - x) * (b[1] - y) - (a[1] - y) * (b[0] - x))
            if u >= 0.0 and v >= 0.0 and w >= 0.0:
                covered[view, i, j] = 1


def coverage(points: Tensor, faces: Tensor, face_count: Tensor, mesh_of_view: Tensor, image_size: int) -> Tensor:
    """(N, H, H) int32, 1 where a triangle covers the pixel's centre.

    points (N, V, 3) float32 NDC and depth, faces (M, F, 3) int32 padded, face_count (M,) int32, mesh_of_view (N,)
    int32.
    """
    points = points.detach().contiguous()
    covered = torch.zeros((points.shape[0], image_size, image_size), dtype=torch.int32, device=points.device)
    dim = (points.shape[0], faces.shape[1])
    launch(coverage_kernel, dim, [points, faces, face_count, mesh_of_view, covered])
    return covered
