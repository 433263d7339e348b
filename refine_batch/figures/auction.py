"""Prices that make an assignment easy, from an auction (Bertsekas, "The auction algorithm", 1988), as a Warp kernel.

Rows bid for columns; a bid raises its column's price by as much as the bidder can bear and a little more. The smaller
that little is, the nearer the prices come to the dual variables of the optimal assignment, and the longer it takes:
it falls from round to round. The prices of all bids are those of a CPU's one thread, whatever the device.
"""

from __future__ import annotations

import numpy as np
import torch
import warp as wp

from refine_batch.devices.warp_runtime import launch

# Loops over lanes must stay loops to be vectorised.
wp.set_module_options({"max_unroll": 0})

LANES = wp.constant(16)
lanes = wp.types.vector(length=16, dtype=wp.float32)
lane_numbers = wp.types.vector(length=16, dtype=wp.int32)

# What a bid adds, as shares of the largest cost, from one round of the auction to the next.
RAISES = (0.05, 0.01, 0.002, 0.0004)
# Bids per point after which a round is broken off: the prices are then only less good.
MOST_BIDS = 100


@wp.kernel(enable_backward=False)
def auction_kernel(
    cost: wp.array2d[wp.float32],
    raises: wp.array[wp.float32],
    price: wp.array[wp.float32],
    owner: wp.array[wp.int32],
    waiting: wp.array[wp.int32],
):
    """cost (N, N), N a multiple of `LANES`; one thread does it all."""
    n = cost.shape[1]
    value = lanes()
    best = lanes()
    second = lanes()
    at = lane_numbers()
    for round in range(raises.shape[0]):
        for k in range(n):
            owner[k] = -1
            waiting[k] = n - 1 - k
        count = wp.int32(n)
        left = wp.int32(MOST_BIDS) * n
        while count > 0 and left > 0:
            left -= 1
            count -= 1
            i = waiting[count]
            for k in range(LANES):
                best[k] = 1e30
                second[k] = 1e30
                at[k] = 0
            j = wp.int32(0)
            while j < n:
                for k in range(LANES):
                    value[k] = cost[i, j + k] + price[j + k]
                for k in range(LANES):
                    second[k] = wp.min(second[k], wp.max(best[k], value[k]))
                for k in range(LANES):
                    at[k] = wp.where(value[k] < best[k], j, at[k])
                for k in range(LANES):
                    best[k] = wp.min(best[k], value[k])
                j += LANES
            lowest = best[0]
            chosen = at[0]
            next = second[0]
            for k in range(1, LANES):
                if best[k] < lowest:
                    next = wp.min(lowest, second[k])
                    lowest = best[k]
                    chosen = at[k] + k
                else:
                    next = wp.min(next, best[k])
            price[chosen] = price[chosen] + (next - lowest) + raises[round]
            if owner[chosen] >= 0:
                waiting[count] = owner[chosen]
                count += 1
            owner[chosen] = i


def prices(cost: np.ndarray) -> np.ndarray:
    """(N,) float64 what each column of (N, N) `cost` is worth when the rows have bid; N a multiple of `LANES`."""
    price = torch.zeros(len(cost))
    state = torch.empty((2, len(cost)), dtype=torch.int32)
    raises = torch.tensor(RAISES) * float(cost.max())
    launch(auction_kernel, 1, [torch.from_numpy(cost.astype(np.float32)), raises, price, *state])
    return price.double().numpy()
