"""The ragged batch: every instance's own rows, and nothing of the padding or of a neighbour in them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapes import box, fan, icosphere, soup

from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch, masked_sum
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.padding import row_mask
from refine_batch.mesh.topology import face_pairs

# A mesh with unused vertices and a corner used twice; a lone triangle, which has no pair of faces.
ODD = Mesh(np.random.default_rng(3).uniform(-1, 1, (6, 3)), np.array([[0, 1, 2], [2, 1, 4], [4, 4, 2]]))
LONE = Mesh(np.eye(3), np.array([[0, 1, 2]]))
MESHES = [icosphere(1), ODD, box(), LONE, fan(4), soup(9, 40, 1)]


def neighbours(mesh: Mesh) -> np.ndarray:
    """(V, V) 1 where an edge of a face joins two vertices."""
    joined = np.zeros((len(mesh.vertices),) * 2, np.float32)
    for a, b, c in mesh.faces:
        for one, other in ((a, b), (b, c), (c, a)):
            joined[one, other] = joined[other, one] = one != other
    return joined


def test_rows_hold_each_mesh_and_are_padded_as_documented():
    batch = MeshBatch.of(MESHES)
    assert len(batch) == len(MESHES)
    for i, mesh in enumerate(MESHES):
        v, f = len(mesh.vertices), len(mesh.faces)
        [count], [pairs], [signs] = face_pairs(PaddedMeshes.of([mesh]).edges)
        pairs, signs = pairs[:count], signs[:count]
        assert (batch.vertex_count[i], batch.face_count[i], batch.pair_count[i]) == (v, f, len(pairs))
        np.testing.assert_array_equal(batch.vertices[i, :v], mesh.vertices)
        np.testing.assert_array_equal(batch.faces[i, :f], mesh.faces)
        np.testing.assert_array_equal(batch.pairs[i, : len(pairs)], pairs)
        np.testing.assert_array_equal(batch.pair_sign[i, : len(pairs)], signs)
        np.testing.assert_array_equal(batch.faces_of()[i, : 3 * f], mesh.faces.ravel())
        assert batch.vertex_mask[i].tolist() == [True] * v + [False] * (batch.vertices.shape[1] - v)
        for padding in (
            batch.vertices[i, v:],
            batch.faces[i, f:],
            batch.pairs[i, len(pairs) :],
            batch.pair_sign[i, len(pairs) :],
            batch.degree[i, v:],
        ):
            assert (padding == 0).all()


def test_adjacency_is_block_diagonal_and_symmetric():
    batch = MeshBatch.of(MESHES)
    width = batch.vertices.shape[1]
    expected = np.zeros((len(MESHES) * width,) * 2, np.float32)
    for i, mesh in enumerate(MESHES):
        v = len(mesh.vertices)
        expected[i * width : i * width + v, i * width : i * width + v] = neighbours(mesh)
        np.testing.assert_array_equal(batch.degree[i, :v], neighbours(mesh).sum(axis=1))
    dense = batch.adjacency.to_dense().numpy()
    np.testing.assert_array_equal(dense, expected)
    np.testing.assert_array_equal(dense, dense.T)


def test_neighbours_are_summed_forwards_and_backwards():
    batch = MeshBatch.of(MESHES)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((*batch.vertex_mask.shape, 5), generator=generator, requires_grad=True)
    upstream = torch.randn(values.shape, generator=generator)
    summed = batch.sum_neighbours(values)
    summed.backward(upstream)
    for i, mesh in enumerate(MESHES):
        v, joined = len(mesh.vertices), torch.from_numpy(neighbours(mesh))
        torch.testing.assert_close(summed[i, :v], joined @ values[i, :v].detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(values.grad[i, :v], joined.T @ upstream[i, :v], rtol=1e-5, atol=1e-5)
        assert (values.grad[i, v:] == 0).all()


def test_a_broken_instance_and_the_padding_stay_among_themselves():
    batch = MeshBatch.of(MESHES)
    clean = torch.randn((*batch.vertex_mask.shape, 2), generator=torch.Generator().manual_seed(1))
    broken = torch.where(batch.vertex_mask[..., None], clean, torch.nan)
    broken[0] = torch.nan
    broken.requires_grad_()
    summed, mean = batch.sum_neighbours(broken), batch.vertex_mean(broken[..., 0])
    mean.sum().backward()
    for i, mesh in list(enumerate(MESHES))[1:]:
        v = len(mesh.vertices)
        torch.testing.assert_close(summed[i, :v], batch.sum_neighbours(clean)[i, :v], rtol=0, atol=0)
        torch.testing.assert_close(mean[i], clean[i, :v, 0].mean(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(broken.grad[i, :v, 0], torch.full((v,), 1 / v))
        assert (broken.grad[i, v:] == 0).all()
    assert summed[0].isnan().all()
    assert mean[0].isnan()


def test_a_batch_of_one_is_its_mesh():
    batch = MeshBatch.of([LONE])
    assert batch.vertices.shape == (1, 3, 3)
    assert batch.pair_count.tolist() == [0]
    # One row of padding, so that indices stay valid.
    assert batch.pairs.shape == (1, 1, 2)
    np.testing.assert_array_equal(batch.adjacency.to_dense(), neighbours(LONE))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_sums_over_the_first_entries_of_each_row(counts, seed):
    width = max(*counts, 1)
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(counts), width)))
    mask = row_mask(torch.tensor(counts, dtype=torch.int32), width)
    filled = torch.where(mask, values, torch.nan)
    expected = [float(row[:count].sum()) for row, count in zip(values, counts, strict=True)]
    np.testing.assert_allclose(masked_sum(filled, mask), expected, atol=1e-12)


def test_topology_of_the_last_batch_is_kept_for_the_very_same_meshes_alone():
    one, other = box(), fan(5)
    first = MeshBatch.of([one, other])
    first.vertices.fill_(torch.nan)
    second = MeshBatch.of([one, other])
    assert second.pairs is first.pairs
    assert torch.equal(second.vertices[0, : len(one.vertices)], torch.from_numpy(one.vertices))
    twin = Mesh(one.vertices + 1, one.faces)
    third = MeshBatch.of([twin, other])
    assert third.pairs is not first.pairs
    assert torch.equal(third.vertices[0, : len(twin.vertices)], torch.from_numpy(twin.vertices))
    assert len(MeshBatch.of([one])) == 1
    assert MeshBatch.of([one, other]).pairs is not first.pairs
