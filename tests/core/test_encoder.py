"""The image encoder against the same stages put together from torch.nn modules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from refine_batch.networks.encoder import CHANNELS, encode, random_encoder


class Block(nn.Module):
    """A basic block (He et al., 2016), its parts named as in torchvision."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Stages(nn.Module):
    """ResNet-18's stem and its first two stages."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))

    def forward(self, x):
        stage1 = self.layer1(self.maxpool(self.bn1(self.conv1(x)).relu()))
        return stage1, self.layer2(stage1)


def weights_of(seed: int) -> dict[str, torch.Tensor]:
    """Random weights whose norms do more than pass their input on."""
    generator = torch.Generator().manual_seed(seed)
    weights = random_encoder(generator)
    for name, tensor in weights.items():
        if "bn" in name or "downsample.1" in name:
            tensor += torch.randn(tensor.shape, generator=generator) * 0.3
    return weights


def reference(weights: dict[str, torch.Tensor]) -> Stages:
    stages = Stages().train()
    missing, unexpected = stages.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all("running_" in name or "num_batches" in name for name in missing)
    return stages


def stacked(networks: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([n[name] for n in networks]).requires_grad_() for name in networks[0]}


@pytest.mark.parametrize("image_size", [16, 33, 64])
def test_features_and_gradients_of_each_instance(image_size):
    networks = [weights_of(seed) for seed in range(3)]
    images = torch.rand((3, 3, image_size, image_size), generator=torch.Generator().manual_seed(9))
    parameters = stacked(networks)
    found = encode(images, parameters)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.rand(stage.shape, generator=generator) for stage in found]
    sum((stage * u).sum() for stage, u in zip(found, upstream, strict=True)).backward()
    for i, weights in enumerate(networks):
        stages = reference(weights)
        # The statistics are those of one image.
        expected = stages(images[i : i + 1])
        for stage, value in zip(found, expected, strict=True):
            torch.testing.assert_close(stage[i : i + 1], value, rtol=1e-4, atol=1e-4)
        sum((value * u[i : i + 1]).sum() for value, u in zip(expected, upstream, strict=True)).backward()
        for name, parameter in stages.named_parameters():
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(parameters[name].grad[i], parameter.grad, rtol=1e-3, atol=1e-4 * scale)


def test_strides_and_channels():
    stage1, stage2 = encode(torch.rand(2, 3, 224, 224), stacked([weights_of(0), weights_of(1)]))
    assert stage1.shape == (2, 64, 56, 56)
    assert stage2.shape == (2, 128, 28, 28)
    assert CHANNELS == 64 + 128


def test_names_and_shapes_are_torchvisions():
    """Those of resnet18's state dict, so far as the encoder goes, running statistics aside."""
    expected = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "bn1.bias": (64,)}
    for stage, (inputs, outputs) in {"layer1": (64, 64), "layer2": (64, 128)}.items():
        for block in "01":
            first = inputs if block == "0" else outputs
            expected[f"{stage}.{block}.conv1.weight"] = (outputs, first, 3, 3)
            expected[f"{stage}.{block}.conv2.weight"] = (outputs, outputs, 3, 3)
            for norm in ("bn1", "bn2"):
                expected[f"{stage}.{block}.{norm}.weight"] = expected[f"{stage}.{block}.{norm}.bias"] = (outputs,)
    expected["layer2.0.downsample.0.weight"] = (128, 64, 1, 1)
    expected["layer2.0.downsample.1.weight"] = expected["layer2.0.downsample.1.bias"] = (128,)
    found = random_encoder(torch.Generator().manual_seed(0))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected
    assert {name for name, _ in Stages().named_parameters()} == set(expected)


def test_start_is_he_normal_over_the_fan_out():
    found = random_encoder(torch.Generator().manual_seed(0))
    for name, tensor in found.items():
        if tensor.dim() == 4:
            deviation = math.sqrt(2 / (tensor.shape[0] * tensor.shape[2] * tensor.shape[3]))
            assert float(tensor.std()) == pytest.approx(deviation, rel=4 / math.sqrt(tensor.numel()))
            assert float(tensor.mean()) == pytest.approx(0, abs=4 * deviation / math.sqrt(tensor.numel()))
        else:
            assert (tensor == (1 if name.endswith("weight") else 0)).all()


def test_a_broken_image_does_not_touch_the_others():
    images = torch.rand((3, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    parameters = stacked([weights_of(seed) for seed in range(3)])
    expected = encode(images, parameters)
    images[1] = math.nan
    found = encode(images, parameters)
    for stage, value in zip(found, expected, strict=True):
        torch.testing.assert_close(stage[[0, 2]], value[[0, 2]], rtol=0, atol=0)
    sum(stage[[0, 2]].sum() for stage in found).backward()
    for parameter in parameters.values():
        assert torch.isfinite(parameter.grad[[0, 2]]).all()
