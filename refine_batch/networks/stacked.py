"""Layers for a batch of networks: every parameter has a first dimension B, one slice per instance.

Each function applies slice i of the parameters to slice i of the input and to nothing else.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def linear(x: Float[Tensor, "b n i"], weight: Float[Tensor, "b i o"], bias: Float[Tensor, "b o"]) -> Float[Tensor, "b n o"]:
    """x·W + bias per instance; `weight` is stored input first."""
    return torch.baddbmm(bias[:, None], x, weight)


def conv2d(
    x: Float[Tensor, "b i h w"], weight: Float[Tensor, "b o i k k"], stride: int = 1, padding: int = 0
) -> Float[Tensor, "b o h2 w2"]:
    """Convolution per instance, no bias.

    A CPU is fastest with one plain convolution after the other, in channels-last order; a GPU with one grouped one.
    """
    if x.device.type == "cpu":
        return torch.cat([F.conv2d(x[i : i + 1], weight[i], stride=stride, padding=padding) for i in range(len(x))])
    size, channels = weight.shape[:2]
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), stride=stride, padding=padding, groups=size)
    return y.reshape(size, channels, *y.shape[2:])


def batch_norm(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "b c"], bias: Float[Tensor, "b c"]
) -> Float[Tensor, "b c h w"]:
    """Batch normalisation (Ioffe and Szegedy, 2015) with the statistics of each instance's own image."""
    if x.device.type == "cpu":
        return torch.cat(
            [F.batch_norm(x[i : i + 1], None, None, weight[i], bias[i], training=True) for i in range(len(x))]
        )
    size, channels = x.shape[:2]
    y = F.batch_norm(x.reshape(1, size * channels, *x.shape[2:]), None, None, weight.flatten(), bias.flatten(), training=True)
    return y.reshape(x.shape)
