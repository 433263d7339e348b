"""Nearest neighbours within each mesh of a batch, as a Warp kernel.

Points are sorted along one axis; a query walks outwards from its own place in that order and stops in each direction
once the axis alone separates it by more than the best distance so far. Exact, and close to linear for points on a
surface.
"""

from __future__ import annotations

import torch
import warp as wp
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from refine_batch.devices.warp_runtime import launch


@wp.kernel(enable_backward=False)
def nearest_kernel(
    points: wp.array2d[wp.vec3],
    keys: wp.array2d[wp.float32],
    count: wp.array[wp.int32],
    queries: wp.array2d[wp.vec3],
    query_keys: wp.array2d[wp.float32],
    nearest: wp.array2d[wp.int32],
):
    """Place in the sorted order of the point nearest to each query."""
    mesh, q = wp.tid()
    n = count[mesh]
    if q >= n:
        return
    query = queries[mesh, q]
    key = query_keys[mesh, q]
    low = wp.int32(0)
    high = wp.int32(n)
    while low < high:
        middle = (low + high) // 2
        if keys[mesh, middle] < key:
            low = middle + 1
        else:
            high = middle
    best = wp.float32(1e30)
    best_at = wp.int32(0)
    right = low
    while right < n:
        gap = keys[mesh, right] - key
        # NaN ends the walk too.
        if not (gap * gap < best):
            break
        offset = points[mesh, right] - query
        squared = wp.dot(offset, offset)
        if squared < best:
            best = squared
            best_at = right
        right += 1
    left = low - 1
    while left >= 0:
        gap = keys[mesh, left] - key
        if not (gap * gap < best):
            break
        offset = points[mesh, left] - query
        squared = wp.dot(offset, offset)
        if squared < best:
            best = squared
            best_at = left
        left -= 1
    nearest[mesh, q] = best_at


def nearest_vertices(
    vertices: Float[Tensor, "b v 3"], mask: Bool[Tensor, "b v"], queries: Float[Tensor, "b v 3"]
) -> Int64[Tensor, "b v"]:
    """For each query the index of the nearest vertex of the same instance; some vertex of it for padded queries."""
    vertices, queries = vertices.detach(), queries.detach().contiguous()
    own = mask[..., None]
    # Extents are exact, where a sum would round by how much padding it runs over and settle near ties by it.
    extent = torch.where(own, vertices, -torch.inf).amax(dim=1) - torch.where(own, vertices, torch.inf).amin(dim=1)
    axis = extent.argmax(dim=1)[:, None, None]
    pick = axis.expand(-1, vertices.shape[1], 1)
    keys = torch.where(mask, vertices.gather(2, pick)[..., 0], torch.inf)
    # Stable: which of several vertices at one place is found must not depend on how much padding follows them.
    keys, order = torch.sort(keys, dim=1, stable=True)
    points = torch.gather(vertices, 1, order[..., None].expand(-1, -1, 3)).contiguous()
    nearest = torch.zeros(mask.shape, dtype=torch.int32, device=vertices.device)
    query_keys = queries.gather(2, pick)[..., 0].contiguous()
    launch(
        nearest_kernel,
        tuple(mask.shape),
        [points, keys.contiguous(), mask.sum(dim=1, dtype=torch.int32), queries, query_keys, nearest],
    )
    return order.gather(1, nearest.long())
