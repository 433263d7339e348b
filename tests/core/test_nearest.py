"""Nearest vertices of a ragged batch against scipy's k-d tree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from refine_batch.mesh.nearest import nearest_vertices


def padded(clouds: list[np.ndarray], fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(cloud) for cloud in clouds)
    points = np.full((len(clouds), width, 3), fill, np.float32)
    mask = np.zeros((len(clouds), width), bool)
    for i, cloud in enumerate(clouds):
        points[i, : len(cloud)] = cloud
        mask[i, : len(cloud)] = True
    return torch.from_numpy(points), torch.from_numpy(mask)


def assert_nearest(clouds: list[np.ndarray], queries: list[np.ndarray], fill: float = 0.0) -> None:
    """The vertex found is as near as the nearest; of equally near ones any may be found."""
    points, mask = padded(clouds, fill)
    asked, _ = padded(queries, fill)
    found = nearest_vertices(points, mask, asked)
    assert found.dtype == torch.int64
    # Padded queries too name a vertex of their own mesh, so that gathering through them is harmless.
    assert (found >= 0).all()
    assert (found < mask.sum(dim=1, keepdim=True)).all()
    for i, (cloud, query) in enumerate(zip(clouds, queries, strict=True)):
        chosen = cloud[found[i, : len(query)]].astype(np.float64)
        distance = np.linalg.norm(chosen - query.astype(np.float64), axis=1)
        expected, _ = cKDTree(cloud.astype(np.float64)).query(query.astype(np.float64))
        np.testing.assert_allclose(distance, expected, rtol=1e-5, atol=1e-7)


def cloud(count: int, seed: int, scale=(1.0, 1.0, 1.0)) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(-1, 1, (count, 3)) * scale).astype(np.float32)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(0, 2**32 - 9),
    st.sampled_from([0.0, 1e6, math.nan]),
)
def test_ragged_clouds(counts, seed, fill):
    clouds = [cloud(count, seed + i) for i, count in enumerate(counts)]
    queries = [cloud(count, seed + i + 5) for i, count in enumerate(counts)]
    assert_nearest(clouds, queries, fill)


SHAPES = {
    "one vertex": cloud(1, 0),
    "three vertices": cloud(3, 0),
    "all along x": cloud(50, 1, (1, 0, 0)),
    "all along y": cloud(50, 2, (0, 1, 0)),
    "all in the plane z = 0": cloud(200, 3, (1, 1, 0)),
    "all at one height": cloud(200, 4, (1, 0, 1)) + np.float32([0, 5, 0]),
    "all at one place": np.repeat(cloud(1, 5), 40, axis=0),
    "every vertex three times": np.repeat(cloud(40, 6), 3, axis=0),
    "on a lattice": np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3).astype(np.float32),
    "far from the origin": cloud(300, 7) + np.float32([1000, -2000, 500]),
    "very small": cloud(300, 8) * np.float32(1e-6),
    "very large": cloud(300, 9) * np.float32(1e6),
    "many": cloud(3000, 10),
}


@pytest.mark.parametrize("name", SHAPES)
def test_awkward_clouds(name):
    points = SHAPES[name]
    mirrored = points * np.float32([1, 1, -1])
    assert_nearest([points, cloud(7, 0)], [mirrored, cloud(7, 1)])


@pytest.mark.parametrize("name", SHAPES)
def test_a_vertex_is_nearest_to_itself(name):
    assert_nearest([SHAPES[name]], [SHAPES[name]])


def test_queries_far_from_every_vertex():
    points = cloud(100, 0)
    assert_nearest([points], [cloud(100, 1) * np.float32(100) + np.float32([500, 0, -700])])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_mesh_does_not_touch_the_others(value):
    clouds = [cloud(20, 0), cloud(30, 1), cloud(25, 2)]
    points, mask = padded(clouds)
    expected = nearest_vertices(points, mask, points.flip(2))
    spoilt = points.clone()
    spoilt[1, 3:17] = value
    found = nearest_vertices(spoilt, mask, spoilt.flip(2))
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=0, atol=0)
    assert ((found[1] >= 0) & (found[1] < 30)).all()


def test_no_gradient_passes():
    points, mask = padded([cloud(9, 0)])
    found = nearest_vertices(points.requires_grad_(), mask, (points * 2).detach().requires_grad_())
    assert not found.requires_grad


@pytest.mark.parametrize("name", ["every vertex three times", "all at one place", "on a lattice", "all at one height"])
def test_of_equally_near_vertices_the_same_is_found_in_any_batch(name):
    """However much padding follows, or two runs of one mesh would part at the first tie."""
    points = SHAPES[name]
    mirrored = points * np.float32([1, 1, -1])
    alone = nearest_vertices(*padded([points]), padded([mirrored])[0])
    for width in (len(points) + 1, 500, 4096):
        clouds = [points, cloud(width, 3)]
        together = nearest_vertices(*padded(clouds), padded([mirrored, clouds[1]])[0])
        torch.testing.assert_close(together[:1, : len(points)], alone, rtol=0, atol=0)
