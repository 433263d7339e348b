"""The mesh's own checks: arrays of the right shape, and what cannot be refined refused with its reason."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import box, fan, icosphere, soup

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh import Mesh

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def test_arrays_become_float32_and_int32_in_one_piece():
    mesh = Mesh(np.asfortranarray(SQUARE.astype(np.float64)), FACES[::-1].astype(np.int64))
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.dtype == np.int32
    assert mesh.vertices.flags.c_contiguous
    assert mesh.faces.flags.c_contiguous
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    np.testing.assert_array_equal(mesh.faces, FACES[::-1])


@pytest.mark.parametrize("shape", [(4,), (4, 2), (3, 4), (1, 4, 3), ()])
def test_shapes_of_other_things_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected vertices of shape \(V, 3\)"):
        Mesh(np.zeros(shape), FACES)
    with pytest.raises(ValueError, match=r"expected faces of shape \(F, 3\)"):
        Mesh(SQUARE, np.zeros(shape, np.int32))


@pytest.mark.parametrize(("index", "dtype"), [(2**32, np.int64), (2 - 2**33, np.int64), (2**63, np.uint64)])
def test_indices_never_wrap_round_into_range(index, dtype):
    with pytest.raises(ValueError, match="do not fit int32"):
        Mesh(SQUARE, np.array([[0, 1, index]], dtype))


@pytest.mark.parametrize("faces", [FACES + 0.5, FACES.astype(float), FACES > 1, FACES.astype(str)])
def test_faces_are_whole_numbers(faces):
    with pytest.raises(ValueError, match="expected faces of an integer type"):
        Mesh(SQUARE, faces)


@pytest.mark.parametrize("mesh", [icosphere(), box(), fan(), soup(20, 40, 0), Mesh(SQUARE, FACES)])
def test_usable_meshes_pass(mesh):
    mesh.check("the thing")


def refusal(mesh: Mesh) -> InstanceError:
    with pytest.raises(InstanceError, match=r"^the thing: ") as raised:
        mesh.check("the thing")
    return raised.value


@pytest.mark.parametrize(("vertices", "faces"), [(0, 0), (4, 0), (0, 2)])
def test_nothing_to_refine(vertices, faces):
    error = refusal(Mesh(SQUARE[:vertices], FACES[:faces]))
    assert error.kind is ErrorKind.MESH_EMPTY
    assert f"{vertices} vertices and {faces} faces" in error.message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vertices_that_are_no_numbers(value):
    vertices = SQUARE.copy()
    vertices[1, 2] = vertices[3] = value
    error = refusal(Mesh(vertices, FACES))
    assert error.kind is ErrorKind.MESH_BROKEN
    assert "2 vertices" in error.message


@pytest.mark.parametrize("index", [-1, 4, 2**31 - 1, -(2**31)])
def test_faces_out_of_range(index):
    faces = FACES.copy()
    faces[1, 1] = index
    error = refusal(Mesh(SQUARE, faces))
    assert error.kind is ErrorKind.MESH_BROKEN
    assert f"names vertex {index}," in error.message
    assert "0 to 3" in error.message


def test_all_vertices_at_one_point():
    assert refusal(Mesh(np.full((4, 3), 0.7), FACES)).kind is ErrorKind.MESH_BROKEN


def test_an_extent_beyond_float32_is_no_fault_of_the_check():
    Mesh(np.array([[-3e38, 0, 0], [3e38, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])).check("the thing")
