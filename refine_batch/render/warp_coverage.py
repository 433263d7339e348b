"""How many triangles cover each pixel, as Warp kernels that visit edges and not areas.

What a triangle covers of a row of pixels begins at one of its sides and ends at another. Added up over all triangles,
sides cancel where two faces that look the same way meet; what is left are the outlines, a few edges in a hundred, and a
running sum along each row is the number of triangles over each pixel. Whole numbers throughout: nothing depends on the
order in which threads run, and no pixel falls between two faces.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from refine_batch.devices.warp_runtime import launch
from refine_batch.mesh.edges import Edges
from refine_batch.render.warp_silhouette import drawn, first_pixel, last_pixel

# Views that one thread sees to, one after the other: what it reads of the mesh serves them all. A GPU has threads
# enough to do with few.
GROUP_ON_CPU, GROUP_ON_GPU = 64, 4


@wp.kernel(enable_backward=False)
def turns_kernel(
    points: wp.array2d[wp.vec3],
    faces: wp.array2d[wp.vec3i],
    face_count: wp.array[wp.int32],
    mesh_of_view: wp.array[wp.int32],
    group: wp.int32,
    turns: wp.array2d[wp.int8],
):
    """+1 where a projected face turns left, −1 where right, 0 where it is not drawn; by face and view."""
    which, f = wp.tid()
    for view in range(which * group, wp.min((which + 1) * group, mesh_of_view.shape[0])):
        mesh = mesh_of_view[view]
        if f < face_count[mesh]:
            corner = faces[mesh, f]
            a = points[view, corner[0]]
            b = points[view, corner[1]]
            c = points[view, corner[2]]
            area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
            if drawn(a, b, c, area):
                turns[f, view] = wp.where(area > 0.0, wp.int8(1), wp.int8(-1))


@wp.kernel(enable_backward=False)
def crossings_kernel(
    points: wp.array2d[wp.vec3],
    edge_count: wp.array[wp.int32],
    ends: wp.array2d[wp.vec2i],
    first: wp.array2d[wp.int32],
    face: wp.array2d[wp.int32],
    along: wp.array2d[wp.int32],
    mesh_of_view: wp.array[wp.int32],
    group: wp.int32,
    turns: wp.array2d[wp.int8],
    steps: wp.array3d[wp.int32],
):
    """Adds to each row, where an edge crosses it, by how much the number of triangles changes there."""
    which, e = wp.tid()
    size = steps.shape[1]
    pixel = 2.0 / wp.float32(size)
    mesh = wp.int32(-1)
    side = wp.int32(0)
    sides = wp.int32(0)
    one = wp.int32(0)
    other = wp.int32(0)
    for view in range(which * group, wp.min((which + 1) * group, mesh_of_view.shape[0])):
        if mesh_of_view[view] != mesh:
            mesh = mesh_of_view[view]
            sides = 0
            if e < edge_count[mesh]:
                side = first[mesh, e]
                sides = first[mesh, e + 1] - side
                if sides == 2:
                    one = face[mesh, side]
                    other = face[mesh, side + 1]
        change = wp.int32(0)
        if sides == 2:
            # Nearly all edges.
            change = wp.int32(turns[one, view]) * along[mesh, side]
            change += wp.int32(turns[other, view]) * along[mesh, side + 1]
        else:
            for s in range(side, side + sides):
                change += wp.int32(turns[face[mesh, s], view]) * along[mesh, s]
        if change != 0:
            a = points[view, ends[mesh, e][0]]
            b = points[view, ends[mesh, e][1]]
            # Of a triangle that turns left the sides that rise are its right ones, where its pixels begin: x falls
            # along a row.
            if a[1] > b[1]:
                change = -change
            slope = (b[0] - a[0]) / (b[1] - a[1])
            for i in range(first_pixel(wp.max(a[1], b[1]), size), last_pixel(wp.min(a[1], b[1]), size) + 1):
                y = 1.0 - pixel * (wp.float32(i) + 0.5)
                # A row through a vertex belongs to the sides above it.
                if (a[1] <= y) != (b[1] <= y):
                    j = first_pixel(a[0] + (y - a[1]) * slope, size)
                    if j < size:
                        wp.atomic_add(steps, view, i, j, change)


@wp.kernel(enable_backward=False)
def half_covered_kernel(steps: wp.array3d[wp.int32], covered: wp.array3d[wp.bool]):
    """Whether two of a pixel's four samples are covered, from the changes along two rows of samples."""
    view, i = wp.tid()
    upper = wp.int32(0)
    lower = wp.int32(0)
    for j in range(covered.shape[2]):
        samples = wp.int32(0)
        for k in range(2):
            upper += steps[view, 2 * i, 2 * j + k]
            lower += steps[view, 2 * i + 1, 2 * j + k]
            samples += wp.where(upper != 0, 1, 0) + wp.where(lower != 0, 1, 0)
        covered[view, i, j] = samples >= 2


def half_covered(
    points: Tensor, faces: Tensor, face_count: Tensor, edges: Edges, mesh_of_view: Tensor, image_size: int
) -> Tensor:
    """(N, H, H) bool: the pixels of which at least two of 2×2 samples lie in a triangle.

    points (N, V, 3) float32 NDC and depth, faces (M, F, 3) int32 padded, face_count (M,) int32, `edges` of these faces,
    mesh_of_view (N,) int32. A sample on a side lies in the triangle to its left or below it.
    """
    steps = coverage_steps(points, faces, face_count, edges, mesh_of_view, 2 * image_size)
    covered = torch.empty((points.shape[0], image_size, image_size), dtype=torch.bool, device=points.device)
    launch(half_covered_kernel, (points.shape[0], image_size), [steps, covered])
    return covered


def coverage_steps(
    points: Tensor, faces: Tensor, face_count: Tensor, edges: Edges, mesh_of_view: Tensor, size: int
) -> Tensor:
    """(N, size, size) int32 whose running sums along the last dimension count the triangles over each pixel centre."""
    points = points.detach().contiguous()
    views = points.shape[0]
    group = min(max(1, views), GROUP_ON_CPU if points.device.type == "cpu" else GROUP_ON_GPU)
    groups = -(-views // group)
    turns = torch.zeros((faces.shape[1], views), dtype=torch.int8, device=points.device)
    launch(turns_kernel, (groups, faces.shape[1]), [points, faces, face_count, mesh_of_view, group, turns])
    steps = torch.zeros((views, size, size), dtype=torch.int32, device=points.device)
    launch(
        crossings_kernel,
        (groups, edges.ends.shape[1]),
        [points, edges.count, edges.ends, edges.first, edges.face, edges.along, mesh_of_view, group, turns, steps],
    )
    return steps
