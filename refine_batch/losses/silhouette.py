"""The silhouette loss: binary cross-entropy between the soft silhouette and the mask."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refine_batch.render.silhouette import MIN_ALPHA, alpha


def silhouette_loss(
    depth: Float[Tensor, "n h h"],
    mask: Float[Tensor, "n h h"],
    log_space: bool = True,
    known: Float[Tensor, "n h h"] | None = None,
) -> Float[Tensor, " n"]:
    """Mean over pixels of −mask·ln α − (1 − mask)·ln(1 − α), with α = 1 − e^(−S) from the optical depth S.

    In log space −ln(1 − α) is S itself, exact and with a gradient wherever the object covers a background pixel, and
    ln α is clamped at ln 1e-4, below which no triangle is in reach. Otherwise the formula is taken literally, on a
    float32 α and with logs clamped at −100, as the paper's code computes it: past S ≈ 17 a covered background pixel
    jumps to a loss of 100 and pulls on nothing.

    `known` is the share of each pixel that says anything (default: all); what is not known costs nothing.
    """
    if log_space:
        outside = torch.log(alpha(depth).clamp_min(MIN_ALPHA))
        loss = (1.0 - mask) * depth - mask * outside
    else:
        loss = F.binary_cross_entropy(alpha(depth), mask, reduction="none")
    return (loss if known is None else loss * known).mean(dim=(1, 2))


def silhouette_error(
    depth: Float[Tensor, "n h h"], mask: Float[Tensor, "n h h"], known: Float[Tensor, "n h h"] | None = None
) -> Float[Tensor, " n"]:
    """Mean over pixels of (α − mask)²; of what is not `known` none."""
    loss = (alpha(depth) - mask).square()
    return (loss if known is None else loss * known).mean(dim=(1, 2))
