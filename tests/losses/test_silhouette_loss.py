"""The silhouette loss against the cross-entropy written out, and where a float32 silhouette saturates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapes import finite_difference

from refine_batch.losses import silhouette_error, silhouette_loss
from refine_batch.render import alpha


def random_pair(seed: int, low: float, high: float, batch: int = 2, size: int = 7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.uniform(low, high, (batch, size, size)), random.uniform(size=(batch, size, size)) < 0.4


def cross_entropy(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    covered = 1 - np.exp(-depth)
    return -np.where(mask, np.log(covered), np.log(1 - covered)).mean(axis=(1, 2))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_both_forms_are_the_cross_entropy_where_nothing_saturates(seed, log_space):
    depth, mask = random_pair(seed, 1e-3, 6.0)
    arguments = torch.tensor(depth, dtype=torch.float32), torch.tensor(mask, dtype=torch.float32)
    found = silhouette_loss(*arguments, log_space=log_space)
    np.testing.assert_allclose(found, cross_entropy(depth, mask), rtol=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_both_forms_pull_alike_where_nothing_saturates(seed):
    depth, mask = random_pair(seed, 1e-2, 4.0)
    gradients = []
    for log_space in (True, False):
        variable = torch.tensor(depth, dtype=torch.float32, requires_grad=True)
        silhouette_loss(variable, torch.tensor(mask, dtype=torch.float32), log_space=log_space).sum().backward()
        gradients.append(variable.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("log_space", [True, False])
def test_gradient_is_the_finite_difference(log_space):
    depth, mask = random_pair(0, 0.05, 5.0)
    variable, mask = torch.tensor(depth, requires_grad=True), torch.tensor(mask, dtype=torch.float64)

    def loss(d):
        return silhouette_loss(d, mask, log_space=log_space).sum()

    (found,) = torch.autograd.grad(loss(variable), variable)
    torch.testing.assert_close(found, finite_difference(loss, variable), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("depth", [17.5, 80.0, 5000.0])
def test_deep_inside_the_background(depth):
    """−ln(1 − α) is S, however deep; the literal form ends at 100 and pulls on nothing."""
    covered = torch.full((1, 2, 2), depth, requires_grad=True)
    assert alpha(covered.detach()).min() == 1
    background = torch.zeros(1, 2, 2)
    exact = silhouette_loss(covered, background)
    assert exact.item() == pytest.approx(depth, rel=1e-6)
    (pull,) = torch.autograd.grad(exact.sum(), covered)
    torch.testing.assert_close(pull, torch.full((1, 2, 2), 0.25))
    literal = silhouette_loss(covered, background, log_space=False)
    assert literal.item() == 100
    (pull,) = torch.autograd.grad(literal.sum(), covered)
    assert (pull == 0).all()


def test_object_that_nothing_reaches():
    nothing = torch.zeros((1, 2, 2), requires_grad=True)
    mask = torch.ones(1, 2, 2)
    floor = silhouette_loss(nothing, mask)
    assert floor.item() == pytest.approx(-math.log(1e-4), rel=1e-6)
    (pull,) = torch.autograd.grad(floor.sum(), nothing)
    assert torch.isfinite(pull).all()
    assert silhouette_loss(nothing, mask, log_space=False).item() == 100


def test_object_that_is_covered_and_background_that_is_not_cost_nothing():
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    for log_space in (True, False):
        assert silhouette_loss(mask * 1000, mask, log_space=log_space).item() == 0


def test_each_instance_its_own():
    depth, mask = (torch.tensor(a, dtype=torch.float32) for a in random_pair(3, 0, 30, batch=3))
    spoilt = depth.clone()
    spoilt[1] = math.nan
    for log_space in (True, False):
        alone = torch.cat([silhouette_loss(depth[i : i + 1], mask[i : i + 1], log_space=log_space) for i in range(3)])
        torch.testing.assert_close(silhouette_loss(depth, mask, log_space=log_space), alone, rtol=1e-6, atol=0)
    found = silhouette_loss(spoilt, mask)
    torch.testing.assert_close(found[[0, 2]], silhouette_loss(depth, mask)[[0, 2]], rtol=0, atol=0)


def random_shares(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depths, covered shares and shares that are known, of three pictures."""
    random = np.random.default_rng(seed)
    return random.uniform(0.01, 5.0, (3, 6, 6)), random.uniform(size=(3, 6, 6)), random.uniform(size=(3, 6, 6))


@pytest.mark.parametrize("log_space", [True, False])
def test_covered_shares_and_what_is_known_of_a_pixel(log_space):
    """The mean over all pixels of the cross-entropy of shares, each by how much of it is known."""
    depth, mask, known = random_shares(0)
    covered = 1 - np.exp(-depth)
    entropy = -mask * np.log(covered) - (1 - mask) * np.log(1 - covered)
    found = silhouette_loss(*(torch.from_numpy(a) for a in (depth, mask)), log_space, torch.from_numpy(known))
    np.testing.assert_allclose(found, (known * entropy).mean(axis=(1, 2)), rtol=1e-9)
    whole = silhouette_loss(*(torch.from_numpy(a) for a in (depth, mask)), log_space)
    np.testing.assert_allclose(whole, entropy.mean(axis=(1, 2)), rtol=1e-9)


def test_squared_error_of_shares():
    depth, mask, known = random_shares(1)
    squared = (1 - np.exp(-depth) - mask) ** 2
    tensors = [torch.from_numpy(a) for a in (depth, mask, known)]
    np.testing.assert_allclose(silhouette_error(*tensors[:2]), squared.mean(axis=(1, 2)), rtol=1e-9)
    np.testing.assert_allclose(silhouette_error(*tensors), (known * squared).mean(axis=(1, 2)), rtol=1e-9)


def test_what_is_not_known_pulls_on_nothing():
    """However far the object reaches into it."""
    depth, mask, _ = random_shares(2)
    known = torch.ones(3, 6, 6, dtype=torch.float64)
    known[:, 2:5] = 0.0
    for loss in (
        lambda d: silhouette_loss(d, torch.from_numpy(mask), known=known),
        lambda d: silhouette_loss(d, torch.from_numpy(mask), log_space=False, known=known),
        lambda d: silhouette_error(d, torch.from_numpy(mask), known),
    ):
        variable = torch.from_numpy(depth * 50).requires_grad_()
        (pull,) = torch.autograd.grad(loss(variable).sum(), variable)
        assert (pull[:, 2:5] == 0).all()
        variable = torch.from_numpy(depth).requires_grad_()
        (pull,) = torch.autograd.grad(loss(variable).sum(), variable)
        torch.testing.assert_close(pull, finite_difference(lambda d: loss(d).sum(), variable), rtol=1e-5, atol=1e-8)  # noqa: B023


@given(st.floats(0, 50))
def test_alpha_is_exact_where_it_is_small(depth):
    expected = -math.expm1(-float(np.float32(depth)))
    assert alpha(torch.tensor(depth, dtype=torch.float32)).item() == pytest.approx(expected, rel=1e-6, abs=1e-40)
