"""Rows of different lengths as one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int32
from torch import Tensor


def padded(arrays: Sequence[np.ndarray]) -> Tensor:
    """Arrays (n_i, k) stacked to (B, max n_i, k), zero where padded; at least one row, so that indices stay valid."""
    stacked = np.zeros((len(arrays), max(1, *(len(a) for a in arrays)), arrays[0].shape[1]), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return torch.from_numpy(stacked)


def row_mask(count: Int32[Tensor, " b"], width: int) -> Bool[Tensor, "b n"]:
    """True in the first `count` columns of each row."""
    return torch.arange(width, device=count.device)[None] < count[:, None]
