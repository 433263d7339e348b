"""The soft silhouette as Warp kernels: one Python source, compiled for the CPU or the CUDA device at hand.

Work is laid out by triangle, not by pixel: each visits only the pixels that its blur reaches, row by row, so that the
cost follows the area covered and no list of the nearest triangles has to be kept. A row is taken `LANES` pixels at a
time in loops without branches, which the CPU compiler turns into vector instructions.
"""

from __future__ import annotations

import torch
import warp as wp

from refine_batch.devices.warp_runtime import launch

# Loops over lanes must stay loops to be vectorised.
wp.set_module_options({"max_unroll": 0})

LANES = wp.constant(8)
lanes = wp.types.vector(length=8, dtype=wp.float32)

# A triangle whose doubled NDC area is below this is a line to the rasteriser; PyTorch3D's threshold.
MIN_DOUBLED_AREA = wp.constant(1e-8)
# Nearer than this to the camera plane the projection means nothing.
MIN_DEPTH = wp.constant(1e-5)


@wp.struct
class Edge:
    """A directed edge of a projected triangle; `inverse` is 1/|along|²."""

    start: wp.vec2
    along: wp.vec2
    inverse: wp.float32


@wp.struct
class Triangle:
    """A projected triangle, the turn (±1) of its corners, and the NDC box that its blur reaches."""

    ab: Edge
    bc: Edge
    ca: Edge
    turn: wp.float32
    low: wp.vec2
    high: wp.vec2
    reach: wp.float32
    visible: wp.bool


@wp.func
def make_edge(start: wp.vec2, end: wp.vec2) -> Edge:
    edge = Edge()
    edge.start = start
    edge.along = end - start
    squared = wp.dot(edge.along, edge.along)
    # An edge of no length stands for its start.
    edge.inverse = wp.where(squared > 1e-16, 1.0 / wp.max(squared, 1e-16), 0.0)
    return edge


@wp.func
def drawn(a: wp.vec3, b: wp.vec3, c: wp.vec3, doubled_area: wp.float32) -> wp.bool:
    """Whether a projected triangle is wholly before the camera and has an area."""
    # NaN fails every comparison, which a minimum over the corners might lose: a broken vertex draws nothing.
    before = a[2] > MIN_DEPTH and b[2] > MIN_DEPTH and c[2] > MIN_DEPTH
    return before and wp.abs(doubled_area) > MIN_DOUBLED_AREA


@wp.func
def make_triangle(a3: wp.vec3, b3: wp.vec3, c3: wp.vec3, reach: wp.float32) -> Triangle:
    a = wp.vec2(a3[0], a3[1])
    b = wp.vec2(b3[0], b3[1])
    c = wp.vec2(c3[0], c3[1])
    triangle = Triangle()
    triangle.ab = make_edge(a, b)
    triangle.bc = make_edge(b, c)
    triangle.ca = make_edge(c, a)
    doubled_area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    triangle.turn = wp.sign(doubled_area)
    triangle.low = wp.min(a, wp.min(b, c)) - wp.vec2(reach, reach)
    triangle.high = wp.max(a, wp.max(b, c)) + wp.vec2(reach, reach)
    triangle.reach = reach
    triangle.visible = drawn(a3, b3, c3, doubled_area)
    return triangle


@wp.func
def first_pixel(coordinate: wp.float32, size: wp.int32) -> wp.int32:
    """Index of the first pixel centre at or below an NDC coordinate (NDC falls as the index grows), from 0."""
    return wp.max(0, wp.int32(wp.ceil(0.5 * (wp.float32(size) * (1.0 - wp.clamp(coordinate, -2.0, 2.0)) - 1.0))))


@wp.func
def last_pixel(coordinate: wp.float32, size: wp.int32) -> wp.int32:
    """Index of the last pixel centre at or above an NDC coordinate, to size − 1."""
    index = wp.floor(0.5 * (wp.float32(size) * (1.0 - wp.clamp(coordinate, -2.0, 2.0)) - 1.0))
    return wp.min(size - 1, wp.int32(index))


@wp.func
def widen(edge: Edge, y: wp.float32, reach: wp.float32, span: wp.vec2) -> wp.vec2:
    """`span` (low, high) widened by the x that an edge, blurred by `reach`, can touch in the row at y."""
    y0 = edge.start[1]
    dy = edge.along[1]
    if wp.max(y0, y0 + dy) < y - reach or wp.min(y0, y0 + dy) > y + reach:
        return span
    t0 = wp.float32(0.0)
    t1 = wp.float32(1.0)
    if wp.abs(dy) > 1e-12:
        s0 = (y - reach - y0) / dy
        s1 = (y + reach - y0) / dy
        t0 = wp.clamp(wp.min(s0, s1), 0.0, 1.0)
        t1 = wp.clamp(wp.max(s0, s1), 0.0, 1.0)
    x0 = edge.start[0] + t0 * edge.along[0]
    x1 = edge.start[0] + t1 * edge.along[0]
    return wp.vec2(wp.min(span[0], wp.min(x0, x1) - reach), wp.max(span[1], wp.max(x0, x1) + reach))


@wp.func
def row_span(triangle: Triangle, y: wp.float32, pixel: wp.float32) -> wp.vec2:
    """The x range (low, high) to visit in the row at y: the box where that is narrow, else what the edges reach."""
    if triangle.high[0] - triangle.low[0] <= pixel * wp.float32(LANES):
        return wp.vec2(triangle.low[0], triangle.high[0])
    span = widen(triangle.ab, y, triangle.reach, wp.vec2(4.0, -4.0))
    span = widen(triangle.bc, y, triangle.reach, span)
    return widen(triangle.ca, y, triangle.reach, span)


@wp.func
def along_edge(edge: Edge, x: wp.float32, y: wp.float32) -> wp.float32:
    """Where on the edge, from 0 to 1, its point nearest to (x, y) lies."""
    dot = (x - edge.start[0]) * edge.along[0] + (y - edge.start[1]) * edge.along[1]
    return wp.min(wp.max(dot * edge.inverse, 0.0), 1.0)


@wp.func
def gap_x(edge: Edge, x: wp.float32, t: wp.float32) -> wp.float32:
    return x - edge.start[0] - t * edge.along[0]


@wp.func
def gap_y(edge: Edge, y: wp.float32, t: wp.float32) -> wp.float32:
    return y - edge.start[1] - t * edge.along[1]


@wp.func
def side(edge: Edge, x: wp.float32, y: wp.float32) -> wp.float32:
    return edge.along[0] * (y - edge.start[1]) - edge.along[1] * (x - edge.start[0])


@wp.func
def inner(triangle: Triangle, x: wp.float32, y: wp.float32) -> wp.float32:
    """Above 0 inside the triangle."""
    nearest = wp.min(side(triangle.ab, x, y) * triangle.turn, side(triangle.bc, x, y) * triangle.turn)
    return wp.min(nearest, side(triangle.ca, x, y) * triangle.turn)


@wp.func
def exp_negative(u: wp.float32) -> wp.float32:
    """e⁻ᵘ for u ≥ 0, relative error below 1.2e-6 to u = 17 and constant beyond.

    A Chebyshev fit of e^(−u/16) to the 16th power: arithmetic alone, so that lanes vectorise.
    """
    v = wp.min(u, 17.0) * 0.0625
    e = -0.00758571007 + v * 0.000824751827
    e = 0.0411511488 + v * e
    e = -0.166480545 + v * e
    e = 0.499967681 + v * e
    e = -0.999997884 + v * e
    e = 0.999999977 + v * e
    e = e * e
    e = e * e
    e = e * e
    return e * e


@wp.func
def log1p_fraction(e: wp.float32) -> wp.float32:
    """ln(1 + e) for e in [0, 1], relative error below 2e-7; a Chebyshev fit of ln(1 + e)/e."""
    s = 0.0442141923 - e * 0.0085746762
    s = -0.1078536692 + e * s
    s = 0.1775702399 + e * s
    s = -0.2449961172 + e * s
    s = 0.3327617657 + e * s
    s = -0.4999744938 + e * s
    return e * (0.9999998102 + e * s)


@wp.kernel(enable_backward=False)
def optical_depth_kernel(
    points: wp.array2d[wp.vec3],
    faces: wp.array2d[wp.vec3i],
    face_count: wp.array[wp.int32],
    mesh_of_view: wp.array[wp.int32],
    softness: wp.array[wp.float32],
    depth: wp.array3d[wp.float32],
):
    """Adds −ln(1 − p) = softplus(x) of one triangle in one view to every pixel in its reach."""
    view, f = wp.tid()
    mesh = mesh_of_view[view]
    if f >= face_count[mesh]:
        return
    corner = faces[mesh, f]
    inverse_sigma = softness[0]
    radius = softness[1]
    triangle = make_triangle(points[view, corner[0]], points[view, corner[1]], points[view, corner[2]], wp.sqrt(radius))
    if not triangle.visible:
        return
    size = depth.shape[2]
    pixel = 2.0 / wp.float32(size)
    value = lanes()
    for i in range(first_pixel(triangle.high[1], size), last_pixel(triangle.low[1], size) + 1):
        y = 1.0 - pixel * (wp.float32(i) + 0.5)
        span = row_span(triangle, y, pixel)
        j = first_pixel(span[1], size)
        end = last_pixel(span[0], size) + 1
        while j < end:
            x0 = 1.0 - pixel * (wp.float32(j) + 0.5)
            for k in range(LANES):
                x = x0 - pixel * wp.float32(k)
                t = along_edge(triangle.ab, x, y)
                gx = gap_x(triangle.ab, x, t)
                gy = gap_y(triangle.ab, y, t)
                squared = gx * gx + gy * gy
                t = along_edge(triangle.bc, x, y)
                gx = gap_x(triangle.bc, x, t)
                gy = gap_y(triangle.bc, y, t)
                squared = wp.min(squared, gx * gx + gy * gy)
                t = along_edge(triangle.ca, x, y)
                gx = gap_x(triangle.ca, x, t)
                gy = gap_y(triangle.ca, y, t)
                squared = wp.min(squared, gx * gx + gy * gy)
                u = squared * inverse_sigma
                tail = log1p_fraction(exp_negative(u))
                outside = wp.where(squared < radius, tail, 0.0)
                value[k] = wp.where(inner(triangle, x, y) > 0.0, u + tail, outside)
            for k in range(wp.min(LANES, end - j)):
                wp.atomic_add(depth, view, i, j + k, value[k])
            j += LANES


@wp.kernel(enable_backward=False)
def optical_depth_gradient_kernel(
    points: wp.array2d[wp.vec3],
    faces: wp.array2d[wp.vec3i],
    face_count: wp.array[wp.int32],
    mesh_of_view: wp.array[wp.int32],
    softness: wp.array[wp.float32],
    depth_gradient: wp.array3d[wp.float32],
    points_gradient: wp.array2d[wp.vec3],
):
    """Adds to the three corners what the loss's gradient with respect to the optical depth asks of them.

    d softplus(x)/dx = sigmoid(x), x = ±d²/σ, and for the boundary point q = u + t·(v − u) nearest to the pixel p, by
    the envelope theorem, ∂d²/∂u = −2(1 − t)(p − q) and ∂d²/∂v = −2t(p − q).
    """
    view, f = wp.tid()
    mesh = mesh_of_view[view]
    if f >= face_count[mesh]:
        return
    corner = faces[mesh, f]
    inverse_sigma = softness[0]
    radius = softness[1]
    triangle = make_triangle(points[view, corner[0]], points[view, corner[1]], points[view, corner[2]], wp.sqrt(radius))
    if not triangle.visible:
        return
    size = depth_gradient.shape[2]
    pixel = 2.0 / wp.float32(size)
    upstream = lanes()
    ax = lanes()
    ay = lanes()
    bx = lanes()
    by = lanes()
    cx = lanes()
    cy = lanes()
    for i in range(first_pixel(triangle.high[1], size), last_pixel(triangle.low[1], size) + 1):
        y = 1.0 - pixel * (wp.float32(i) + 0.5)
        span = row_span(triangle, y, pixel)
        j = first_pixel(span[1], size)
        end = last_pixel(span[0], size) + 1
        while j < end:
            count = wp.min(LANES, end - j)
            largest = wp.float32(0.0)
            for k in range(LANES):
                upstream[k] = 0.0
            for k in range(count):
                value = depth_gradient[view, i, j + k]
                largest = wp.max(largest, wp.abs(value))
                upstream[k] = value
            if largest > 0.0:
                x0 = 1.0 - pixel * (wp.float32(j) + 0.5)
                for k in range(LANES):
                    x = x0 - pixel * wp.float32(k)
                    t_ab = along_edge(triangle.ab, x, y)
                    x_ab = gap_x(triangle.ab, x, t_ab)
                    y_ab = gap_y(triangle.ab, y, t_ab)
                    t_bc = along_edge(triangle.bc, x, y)
                    x_bc = gap_x(triangle.bc, x, t_bc)
                    y_bc = gap_y(triangle.bc, y, t_bc)
                    t_ca = along_edge(triangle.ca, x, y)
                    x_ca = gap_x(triangle.ca, x, t_ca)
                    y_ca = gap_y(triangle.ca, y, t_ca)
                    d_ab = x_ab * x_ab + y_ab * y_ab
                    d_bc = x_bc * x_bc + y_bc * y_bc
                    d_ca = x_ca * x_ca + y_ca * y_ca
                    squared = wp.min(d_ab, wp.min(d_bc, d_ca))
                    e = exp_negative(squared * inverse_sigma)
                    slope = wp.where(inner(triangle, x, y) > 0.0, 1.0, wp.where(squared < radius, -e, 0.0))
                    pull = -2.0 * inverse_sigma * upstream[k] * slope / (1.0 + e)
                    # The first of equally near edges takes the pull, once.
                    on_ab = wp.where(d_ab <= squared, pull, 0.0)
                    on_bc = wp.where(d_bc <= squared, pull - on_ab, 0.0)
                    on_ca = pull - on_ab - on_bc
                    ax[k] = ax[k] + on_ab * (1.0 - t_ab) * x_ab + on_ca * t_ca * x_ca
                    ay[k] = ay[k] + on_ab * (1.0 - t_ab) * y_ab + on_ca * t_ca * y_ca
                    bx[k] = bx[k] + on_bc * (1.0 - t_bc) * x_bc + on_ab * t_ab * x_ab
                    by[k] = by[k] + on_bc * (1.0 - t_bc) * y_bc + on_ab * t_ab * y_ab
                    cx[k] = cx[k] + on_ca * (1.0 - t_ca) * x_ca + on_bc * t_bc * x_bc
                    cy[k] = cy[k] + on_ca * (1.0 - t_ca) * y_ca + on_bc * t_bc * y_bc
            j += LANES
    one = lanes(1.0)
    wp.atomic_add(points_gradient, view, corner[0], wp.vec3(wp.dot(ax, one), wp.dot(ay, one), 0.0))
    wp.atomic_add(points_gradient, view, corner[1], wp.vec3(wp.dot(bx, one), wp.dot(by, one), 0.0))
    wp.atomic_add(points_gradient, view, corner[2], wp.vec3(wp.dot(cx, one), wp.dot(cy, one), 0.0))


class OpticalDepth(torch.autograd.Function):
    """S = −ln(1 − α) of every pixel, from projected points; differentiable in their x and y.

    points (N, V, 3) float32 NDC and depth, faces (M, F, 3) int32 padded, face_count (M,) int32, mesh_of_view (N,)
    int32; sigma and radius are numbers, or tensors of one on the device, which a CUDA graph then reads at every replay.
    """

    @staticmethod
    def forward(ctx, points, faces, face_count, mesh_of_view, image_size, sigma, radius):
        points = points.contiguous()
        softness = torch.empty(2, device=points.device)
        # Filled, not copied from the host, which would wait for the device.
        softness[0] = 1.0 / sigma
        softness[1] = radius
        depth = torch.zeros(points.shape[0], image_size, image_size, device=points.device)
        ctx.save_for_backward(points, faces, face_count, mesh_of_view, softness)
        launch(
            optical_depth_kernel,
            (points.shape[0], faces.shape[1]),
            [points, faces, face_count, mesh_of_view, softness, depth],
        )
        return depth

    @staticmethod
    def backward(ctx, depth_gradient):
        points, faces, face_count, mesh_of_view, softness = ctx.saved_tensors
        points_gradient = torch.zeros_like(points)
        # Far inside a silhouette the gradient is a rounding error of the rest of its image: not worth a visit.
        magnitude = depth_gradient.abs()
        largest = magnitude.amax(dim=(1, 2), keepdim=True)
        depth_gradient = torch.where(magnitude > 1e-7 * largest, depth_gradient, 0.0).contiguous()
        launch(
            optical_depth_gradient_kernel,
            (points.shape[0], faces.shape[1]),
            [points, faces, face_count, mesh_of_view, softness, depth_gradient, points_gradient],
        )
        return points_gradient, None, None, None, None, None, None
