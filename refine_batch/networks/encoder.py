"""The image encoder: ResNet-18 (He et al., CVPR 2016) up to its second stage, one per instance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refine_batch.networks.stacked import batch_norm, conv2d

# (name of the convolution, its batch norm, channels in, out, kernel), named as in torchvision's resnet18.
LAYERS = (
    ("conv1", "bn1", 3, 64, 7),
    ("layer1.0.conv1", "layer1.0.bn1", 64, 64, 3),
    ("layer1.0.conv2", "layer1.0.bn2", 64, 64, 3),
    ("layer1.1.conv1", "layer1.1.bn1", 64, 64, 3),
    ("layer1.1.conv2", "layer1.1.bn2", 64, 64, 3),
    ("layer2.0.conv1", "layer2.0.bn1", 64, 128, 3),
    ("layer2.0.conv2", "layer2.0.bn2", 128, 128, 3),
    ("layer2.0.downsample.0", "layer2.0.downsample.1", 64, 128, 1),
    ("layer2.1.conv1", "layer2.1.bn1", 128, 128, 3),
    ("layer2.1.conv2", "layer2.1.bn2", 128, 128, 3),
)
CHANNELS = 64 + 128


def random_encoder(generator: torch.Generator) -> dict[str, Tensor]:
    """One instance's weights, drawn as torchvision draws a ResNet's: He normal over fan-out, norms 1 and 0."""
    weights = {}
    for conv, norm, inputs, outputs, kernel in LAYERS:
        shape = (outputs, inputs, kernel, kernel)
        weights[f"{conv}.weight"] = torch.randn(shape, generator=generator) * math.sqrt(
            2.0 / (outputs * kernel * kernel)
        )
        weights[f"{norm}.weight"] = torch.ones(outputs)
        weights[f"{norm}.bias"] = torch.zeros(outputs)
    return weights


def encode(
    image: Float[Tensor, "b 3 h w"], weights: dict[str, Tensor]
) -> tuple[Float[Tensor, "b 64 h4 w4"], Float[Tensor, "b 128 h8 w8"]]:
    """Features after stage 1 (stride 4) and stage 2 (stride 8) of images in [0, 1]."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{conv}.weight"]
        y = conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return batch_norm(y, weights[f"{norm}.weight"], weights[f"{norm}.bias"])

    def block(x: Tensor, name: str, stride: int = 1) -> Tensor:
        y = F.relu(layer(x, f"{name}.conv1", f"{name}.bn1", stride))
        y = layer(y, f"{name}.conv2", f"{name}.bn2")
        if stride != 1:
            x = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
        return F.relu(x + y)

    x = layer(image.contiguous(memory_format=torch.channels_last), "conv1", "bn1", stride=2)
    # The other way round in a ResNet, to the same values and gradients from four times as many pixels.
    x = F.relu(F.max_pool2d(x, kernel_size=3, stride=2, padding=1))
    stage1 = block(block(x, "layer1.0"), "layer1.1")
    stage2 = block(block(stage1, "layer2.0", stride=2), "layer2.1")
    return stage1, stage2
