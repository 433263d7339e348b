"""Edges of a batch against dictionaries filled face by face."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shapes import watertight
from test_topology import edges_by_dictionary

from refine_batch.mesh.edges import Edges

# Few vertices, so that edges meet in threes and more and corners repeat within a face.
FACES = st.integers(1, 25).flatmap(lambda n: hnp.arrays(np.int32, (n, 3), elements=st.integers(0, 6)))


def assert_edges_are_right(edges: Edges, row: int, faces: np.ndarray) -> None:
    expected = edges_by_dictionary(faces)
    count = int(edges.count[row])
    assert [tuple(e) for e in edges.ends[row, :count].tolist()] == sorted(expected)
    assert (torch.diff(edges.first[row, count:]) == 0).all()
    for number, ends in enumerate(sorted(expected)):
        own = slice(int(edges.first[row, number]), int(edges.first[row, number + 1]))
        found = zip(edges.face[row, own].tolist(), edges.along[row, own].tolist(), strict=True)
        assert [(face, along > 0) for face, along in found] == expected[ends]


@given(FACES, FACES)
def test_edges_of_any_faces_with_the_faces_on_each(one, other):
    width = max(len(one), len(other))
    faces = torch.zeros((2, width, 3), dtype=torch.int32)
    faces[0, : len(one)], faces[1, : len(other)] = torch.from_numpy(one), torch.from_numpy(other)
    edges = Edges.of(faces, torch.tensor([len(one), len(other)], dtype=torch.int32))
    assert_edges_are_right(edges, 0, one)
    assert_edges_are_right(edges, 1, other)
    for row, mine in enumerate((one, other)):
        twice = {(1, True), (1, False)}
        closed = all(
            {(1, d) for _, d in users} == twice and len(users) == 2 for users in edges_by_dictionary(mine).values()
        )
        assert bool(edges.closed()[row]) == (closed and bool(edges_by_dictionary(mine)))


def test_vertex_numbers_that_do_not_fit_one_number_with_the_side():
    faces = np.array([[2_000_000_000, 0, 1], [0, 2_000_000_000, 7]], np.int32)
    edges = Edges.of(torch.from_numpy(faces)[None], torch.tensor([2], dtype=torch.int32))
    assert_edges_are_right(edges, 0, faces)


def test_apart_every_side_is_an_edge():
    faces = torch.tensor([[[5, 2, 9], [0, 0, 0]]], dtype=torch.int32)
    edges = Edges.apart(faces)
    assert edges.ends[0, :3].tolist() == [[2, 5], [2, 9], [5, 9]]
    assert edges.along[0, :3].tolist() == [-1, 1, -1]
    assert torch.diff(edges.first).tolist() == [[1] * 6]
    assert edges.face.tolist() == [[0, 0, 0, 1, 1, 1]]


def test_watertight_of_no_faces():
    assert not watertight(np.zeros((0, 3), np.int32))
