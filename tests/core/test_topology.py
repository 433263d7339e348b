"""Edges and pairs of faces against dictionaries filled face by face."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shapes import box, fan, icosphere, soup, torus

from refine_batch.mesh import topology
from refine_batch.mesh.edges import Edges

# Few vertices, so that edges meet in threes and more and corners repeat within a face.
FACES = st.integers(0, 25).flatmap(lambda n: hnp.arrays(np.int32, (n, 3), elements=st.integers(0, 6)))


def edges_of(faces: np.ndarray) -> Edges:
    padded = torch.from_numpy(faces.reshape(-1, 3)) if len(faces) else torch.zeros((1, 3), dtype=torch.int32)
    return Edges.of(padded[None], torch.tensor([len(faces)], dtype=torch.int32))


def face_pairs(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    [count], [pairs], [signs] = topology.face_pairs(edges_of(faces))
    assert not pairs[count:].any()
    assert not signs[count:].any()
    return pairs[:count].numpy(), signs[:count].numpy()


def unique_edges(faces: np.ndarray) -> np.ndarray:
    edges = edges_of(faces)
    return edges.ends[0, : int(edges.count)].numpy()


def edges_by_dictionary(faces: np.ndarray) -> dict[tuple[int, int], list[tuple[int, bool]]]:
    """Undirected edge → (face, whether it runs from the smaller vertex to the larger) of each face on it."""
    found = defaultdict(list)
    for number, (a, b, c) in enumerate(faces.tolist()):
        for start, end in ((a, b), (b, c), (c, a)):
            if start != end:
                found[min(start, end), max(start, end)].append((number, start < end))
    return found


def pairs_by_dictionary(faces: np.ndarray) -> Counter:
    """How often each (face, later face, sign) is joined by an edge."""
    found = Counter()
    for users in edges_by_dictionary(faces).values():
        for (one, forward), (other, onward) in combinations(users, 2):
            if one != other:
                found[min(one, other), max(one, other), -1 if forward == onward else 1] += 1
    return found


def assert_pairs_are_right(faces: np.ndarray) -> None:
    pairs, signs = face_pairs(faces)
    assert pairs.dtype == np.int32
    assert signs.dtype == np.float32
    assert pairs.shape == (len(signs), 2)
    low, high = pairs.min(axis=1, initial=len(faces)), pairs.max(axis=1, initial=0)
    assert Counter(zip(low.tolist(), high.tolist(), signs.astype(int).tolist(), strict=True)) == pairs_by_dictionary(
        faces
    )


@given(FACES)
def test_pairs_of_any_faces(faces):
    assert_pairs_are_right(faces)


@given(FACES)
def test_edges_of_any_faces(faces):
    expected = sorted(edges_by_dictionary(faces))
    found = unique_edges(faces)
    assert found.dtype == np.int32
    assert [tuple(edge) for edge in found.tolist()] == expected


@pytest.mark.parametrize("mesh", [icosphere(2), torus(), box()], ids=["sphere", "torus", "box"])
def test_closed_surface_has_half_as_many_pairs_again_as_faces_all_wound_alike(mesh):
    pairs, signs = face_pairs(mesh.faces)
    assert len(pairs) == 3 * len(mesh.faces) // 2 == len(unique_edges(mesh.faces))
    assert (signs == 1).all()
    # Every face has three neighbours.
    assert (np.bincount(pairs.ravel()) == 3).all()


@pytest.mark.parametrize("blades", [1, 2, 3, 5])
def test_k_faces_on_an_edge_make_k_over_2_pairs(blades):
    pairs, signs = face_pairs(fan(blades).faces)
    assert sorted(map(tuple, pairs.tolist())) == list(combinations(range(blades), 2))
    # All of them run along the shared edge the same way.
    assert (signs == -1).all()


def test_turning_one_face_over_changes_the_sign_of_its_pairs_alone():
    faces = icosphere(1).faces
    pairs, _ = face_pairs(faces)
    turned = faces.copy()
    turned[7] = turned[7, ::-1]
    found, signs = face_pairs(turned)
    np.testing.assert_array_equal(found, pairs)
    np.testing.assert_array_equal(signs == -1, (pairs == 7).any(axis=1))


def test_the_same_triangle_twice_meets_itself_along_all_three_edges():
    pairs, signs = face_pairs(np.array([[0, 1, 2], [1, 2, 0]], np.int32))
    assert pairs.tolist() == [[0, 1]] * 3
    assert (signs == -1).all()


def test_pairs_of_a_large_soup():
    assert_pairs_are_right(soup(60, 800, seed=0).faces)


def test_vertex_numbers_beyond_16_bits():
    faces = np.array([[2_000_000_000, 0, 1], [0, 2_000_000_000, 7]], np.int32)
    assert_pairs_are_right(faces)
    assert unique_edges(faces).max() == 2_000_000_000
