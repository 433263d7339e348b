"""Nearest distances between clouds against a k-d tree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from refine_batch.mesh.points import nearest_distance


def by_tree(queries: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    return cKDTree(cloud).query(queries)[0]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3000),
    st.sampled_from([(1, 1, 1), (1, 0, 1), (1, 1e-3, 0), (0, 0, 0)]),
    st.floats(0, 3),
)
@settings(max_examples=40)
def test_queries_in_and_far_outside_of_clouds_of_any_size(seed, size, extents, far):
    random = np.random.default_rng(seed)
    clouds = random.normal(size=(2, size, 3)) * extents + random.normal(size=(2, 1, 3))
    queries = random.normal(size=(2, 50, 3)) * (1 + far) + far
    queries[:, 0] = clouds[:, 0]
    found = nearest_distance(torch.from_numpy(queries), torch.from_numpy(clouds))
    assert found.dtype == torch.float32
    for i in range(2):
        expected = by_tree(queries[i].astype(np.float32), clouds[i].astype(np.float32))
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-6)


def test_points_on_surfaces_far_apart_in_units_of_any_size(device):
    random = np.random.default_rng(0)
    sphere = random.normal(size=(4000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    for unit in (1e-3, 1.0, 1e4):
        queries, cloud = unit * (sphere * [0.3, 1.5, 1.0]), unit * sphere[::-1]
        queries_there, cloud_there = (torch.from_numpy(p)[None].to(device) for p in (queries, cloud))
        found = nearest_distance(queries_there, cloud_there)[0].cpu()
        np.testing.assert_allclose(found, by_tree(queries, cloud), rtol=1e-4, atol=1e-6 * unit)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_query_that_is_no_number_has_no_distance(value):
    cloud = torch.rand((1, 100, 3), generator=torch.Generator().manual_seed(0))
    queries = cloud[:, :3].clone()
    queries[0, 1, 2] = value
    assert nearest_distance(queries, cloud)[0].isnan().tolist() == [False, True, False]
