"""Distances between clouds of points, as a Warp kernel over a grid.

A cloud is sorted into the cubes of a grid about it. A query looks at the cubes around its own, ring after ring, until
no farther ring can hold anything nearer. Along x the cubes of a ring lie one after the other in memory, so that a row
of them is one run of points. Exact, and for points on surfaces a query takes a constant time.
"""

from __future__ import annotations

import math

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from refine_batch.devices.warp_runtime import launch

# Along each axis, at most; the memory of a cloud's grid is its cube in int32.
MOST_CUBES = 64


@wp.func
def nearest_in_run(
    points: wp.array2d[wp.vec3], cloud: wp.int32, first: wp.int32, last: wp.int32, query: wp.vec3, best: wp.float32
) -> wp.float32:
    for k in range(first, last):
        offset = points[cloud, k] - query
        best = wp.min(best, wp.dot(offset, offset))
    return best


@wp.func
def beyond_slab(place: wp.float32, number: wp.int32) -> wp.float32:
    """How far a place lies from the slab [number, number + 1], in cubes."""
    return wp.max(0.0, wp.max(wp.float32(number) - place, place - wp.float32(number + 1)))


@wp.kernel(enable_backward=False)
def nearest_distance_kernel(
    points: wp.array2d[wp.vec3],
    starts: wp.array2d[wp.int32],
    low: wp.array[wp.vec3],
    inverse_side: wp.array[wp.float32],
    cubes: wp.int32,
    queries: wp.array2d[wp.vec3],
    distance: wp.array2d[wp.float32],
):
    """`starts` are the numbers of the first point of each cube, and at its end that of all points."""
    cloud, q = wp.tid()
    query = queries[cloud, q]
    if not (wp.isfinite(query[0]) and wp.isfinite(query[1]) and wp.isfinite(query[2])):
        distance[cloud, q] = wp.nan
        return
    side = 1.0 / inverse_side[cloud]
    most = wp.float32(cubes)
    place = (query - low[cloud]) * inverse_side[cloud]
    x = wp.clamp(place[0], 0.0, most)
    y = wp.clamp(place[1], 0.0, most)
    z = wp.clamp(place[2], 0.0, most)
    beyond = wp.vec3(place[0] - x, place[1] - y, place[2] - z) * side
    outside = wp.dot(beyond, beyond)
    i = wp.min(wp.int32(x), cubes - 1)
    j = wp.min(wp.int32(y), cubes - 1)
    k = wp.min(wp.int32(z), cubes - 1)
    # From the query (or where the grid is nearest to it) to the nearest wall of its own cube.
    wall = wp.min(x - wp.float32(i), wp.float32(i + 1) - x)
    wall = wp.min(wall, wp.min(y - wp.float32(j), wp.float32(j + 1) - y))
    wall = wp.min(wall, wp.min(z - wp.float32(k), wp.float32(k + 1) - z))
    best = wp.float32(1e30)
    ring = wp.int32(0)
    while ring < cubes:
        left = wp.max(i - ring, 0)
        right = wp.min(i + ring, cubes - 1)
        for c in range(wp.max(k - ring, 0), wp.min(k + ring, cubes - 1) + 1):
            above = beyond_slab(z, c) * side
            for b in range(wp.max(j - ring, 0), wp.min(j + ring, cubes - 1) + 1):
                aside = beyond_slab(y, b) * side
                if outside + above * above + aside * aside >= best:
                    continue
                row = (c * cubes + b) * cubes
                if wp.abs(c - k) == ring or wp.abs(b - j) == ring:
                    best = nearest_in_run(
                        points, cloud, starts[cloud, row + left], starts[cloud, row + right + 1], query, best
                    )
                else:
                    if i - ring >= 0:
                        at = row + i - ring
                        best = nearest_in_run(points, cloud, starts[cloud, at], starts[cloud, at + 1], query, best)
                    if i + ring < cubes:
                        at = row + i + ring
                        best = nearest_in_run(points, cloud, starts[cloud, at], starts[cloud, at + 1], query, best)
        reach = (wall + wp.float32(ring)) * side
        if best <= outside + reach * reach:
            break
        ring += 1
    distance[cloud, q] = wp.sqrt(best)


def nearest_distance(queries: Float[Tensor, "b q 3"], clouds: Float[Tensor, "b n 3"]) -> Float[Tensor, "b q"]:
    """Distance of each query to the nearest point of its own cloud, float32, on the tensors' device.

    NaN for a query that is not finite; the clouds must be finite and not empty.
    """
    queries, clouds = queries.float().contiguous(), clouds.float()
    count, size = clouds.shape[:2]
    # Surfaces fill about three times as many cubes as a side of the grid has squares: some five points to a cube.
    cubes = max(1, min(MOST_CUBES, math.isqrt(size) // 4))
    low = clouds.amin(dim=1)
    extent = (clouds.amax(dim=1) - low).amax(dim=1).clamp_min(1e-30)
    inverse_side = cubes / extent
    place = ((clouds - low[:, None]) * inverse_side[:, None, None]).long().clamp_(0, cubes - 1)
    cube = (place[..., 2] * cubes + place[..., 1]) * cubes + place[..., 0]
    cube, order = torch.sort(cube.int(), dim=1)
    points = torch.gather(clouds, 1, order[..., None].expand(-1, -1, 3))
    bounds = torch.arange(cubes**3 + 1, dtype=torch.int32, device=clouds.device).expand(count, -1).contiguous()
    starts = torch.searchsorted(cube, bounds, out_int32=True)
    distance = torch.empty(queries.shape[:2], device=queries.device)
    launch(
        nearest_distance_kernel,
        tuple(distance.shape),
        [points, starts, low.contiguous(), inverse_side, cubes, queries, distance],
    )
    return distance
