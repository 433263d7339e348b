"""Convolutions by Winograd's filtering against direct ones in float64, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from refine_batch.networks import winograd
from refine_batch.networks.stacked import channels_last, conv2d, patchwise_conv2d

# Of a value and its gradients, in standard deviations of each: 4 to 6 times a direct float32 convolution's.
LARGEST_ERROR = 3e-5


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def value_and_gradients(convolution, x, kernel, upstream) -> list[torch.Tensor]:
    x, kernel = x.clone().requires_grad_(), kernel.clone().requires_grad_()
    value = convolution(x, kernel)
    return [value.detach(), *torch.autograd.grad(value, (x, kernel), upstream)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("inputs", "outputs", "height", "width"),
    [(64, 64, 56, 56), (128, 128, 28, 28), (64, 128, 29, 30), (3, 5, 31, 4), (2, 7, 1, 1), (1, 1, 3, 6)],
)
def test_value_and_gradients(inputs, outputs, height, width, memory_format):
    x = drawn(1, inputs, height, width, seed=0).contiguous(memory_format=memory_format)
    kernel = drawn(outputs, inputs, 3, 3, seed=1).contiguous(memory_format=memory_format)
    upstream = drawn(1, outputs, height, width, seed=2).contiguous(memory_format=memory_format)
    found = value_and_gradients(winograd.conv2d, x, kernel, upstream)
    expected = value_and_gradients(
        lambda x, k: F.conv2d(x, k, padding=1), x.double(), kernel.double(), upstream.double()
    )
    for one, other in zip(found, expected, strict=True):
        scale = float(other.square().mean().sqrt())
        torch.testing.assert_close(one.double(), other, rtol=0, atol=LARGEST_ERROR * scale)


def test_each_instance_of_a_batch_has_its_own_kernel():
    x, kernels = drawn(3, 64, 26, 25, seed=0), drawn(3, 64, 64, 3, 3, seed=1)
    upstream = drawn(3, 64, 26, 25, seed=2)
    assert winograd.pays(x[:1], kernels[0], 1, 1)
    found = value_and_gradients(lambda x, k: conv2d(x, k, padding=1), x, kernels, upstream)
    for i in range(3):
        own = value_and_gradients(winograd.conv2d, x[i : i + 1], kernels[i], upstream[i : i + 1])
        for one, other in zip(found, own, strict=True):
            torch.testing.assert_close(one[i], other.squeeze(0), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "padding"),
    [(64, 56, 3, 2, 1), (64, 56, 1, 1, 0), (64, 56, 3, 1, 0), (64, 8, 3, 1, 1), (3, 56, 3, 1, 1)],
)
def test_others_are_left_to_torch(channels, size, kernel, stride, padding):
    x, weight = drawn(1, channels, size, size, seed=0), drawn(1, 64, channels, kernel, kernel, seed=1)
    assert not winograd.pays(x, weight[0], stride, padding)
    expected = F.conv2d(x, weight[0], stride=stride, padding=padding)
    torch.testing.assert_close(conv2d(x, weight, stride, padding), expected, rtol=0, atol=0)


def test_float64_is_left_to_torch():
    x, kernel = drawn(1, 64, 56, 56, seed=0), drawn(64, 64, 3, 3, seed=1)
    assert winograd.pays(x, kernel, 1, 1)
    assert not winograd.pays(x.double(), kernel.double(), 1, 1)


def test_a_second_derivative_is_refused():
    x = drawn(1, 2, 4, 4, seed=0).requires_grad_()
    (gradient,) = torch.autograd.grad(
        winograd.conv2d(x, drawn(2, 2, 3, 3, seed=1)).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(("stride", "padding", "size"), [(2, 3, 17), (1, 1, 12), (2, 0, 15)])
def test_patches_give_what_one_convolution_after_the_other_gives(stride, padding, size, device):
    """The first layer's way on a GPU, with kernels laid out as an optimiser has them."""
    x = drawn(3, 3, size, size, seed=1).to(device)
    kernels = channels_last(drawn(3, 8, 3, 7, 7, seed=2).to(device))
    down = (size + 2 * padding - 7) // stride + 1
    upstream = drawn(3, 8, down, down, seed=3).to(device)
    found = value_and_gradients(lambda x, k: patchwise_conv2d(x, k, stride, padding), x, kernels, upstream)
    for i in range(3):
        plain = value_and_gradients(
            lambda x, k: F.conv2d(x, k, stride=stride, padding=padding), x[i : i + 1], kernels[i], upstream[i : i + 1]
        )
        for value, expected in zip(found, plain, strict=True):
            slack = 1e-5 * float(expected.abs().max())
            torch.testing.assert_close(value[i], expected.view(value[i].shape), rtol=1e-4, atol=slack)
