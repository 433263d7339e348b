"""Products with sparse matrices against dense ones, and bilinear samples against torch's."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from refine_batch.mesh.sparse import csr_matrix, multiply, transpose
from refine_batch.networks import Sampler


def test_entries_in_any_order_and_twice():
    rows, columns = torch.tensor([2, 0, 2, 0]), torch.tensor([1, 3, 1, 0])
    matrix = csr_matrix(rows, columns, torch.tensor([1.0, 2.0, 3.0, 4.0]), (4, 5))
    expected = torch.zeros(4, 5)
    expected[2, 1], expected[0, 3], expected[0, 0] = 4, 2, 4
    torch.testing.assert_close(matrix.to_dense(), expected)
    torch.testing.assert_close(transpose(matrix).to_dense(), expected.T)


def test_product_and_gradient():
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn((30, 20), generator=generator)
    # Some rows and columns hold nothing.
    dense[torch.rand(dense.shape, generator=generator) > 0.1] = 0
    rows, columns = dense.nonzero().unbind(dim=1)
    matrix = csr_matrix(rows, columns, dense[rows, columns], (30, 20))
    values = torch.randn((20, 7), generator=generator).requires_grad_()
    upstream = torch.randn((30, 7), generator=generator)
    found = multiply(matrix, values, transpose(matrix))
    torch.testing.assert_close(found, dense @ values)
    (gradient,) = torch.autograd.grad(found, values, upstream)
    torch.testing.assert_close(gradient, dense.T @ upstream)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_samples_and_gradient_are_those_of_grid_sample(memory_format):
    generator = torch.Generator().manual_seed(0)
    # Some points lie outside the maps.
    points = torch.rand((2, 50, 2), generator=generator) * 2.6 - 1.3
    sampler = Sampler(points)
    for channels, height, width in [(3, 6, 9), (5, 7, 4), (3, 6, 9)]:
        maps = torch.randn((2, channels, height, width), generator=generator)
        maps = maps.contiguous(memory_format=memory_format).requires_grad_()
        upstream = torch.randn((2, 50, channels), generator=generator)
        expected = F.grid_sample(maps, -points[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
        found = sampler(maps)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        gradients = [torch.autograd.grad(samples, maps, upstream)[0] for samples in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_a_broken_point_is_nan_and_alone():
    points = torch.zeros(2, 3, 2)
    points[0, 1, 0] = math.nan
    found = Sampler(points)(torch.ones(2, 1, 4, 4))[..., 0]
    assert found[0, 1].isnan()
    assert found.isnan().sum() == 1
