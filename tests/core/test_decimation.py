"""Meshes of fewer triangles keep their shape, or are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trimesh
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from shapes import flat_shaded, icosphere, soup

from refine_batch.errors import InstanceError
from refine_batch.mesh.decimation import decimated
from refine_batch.mesh.welding import weld


@pytest.mark.parametrize("shared", [True, False], ids=["shared vertices", "flat shading"])
def test_decimation_keeps_the_shape(shared):
    sphere = icosphere(4, radius=0.5)
    if not shared:
        sphere = weld(flat_shaded(sphere))[0]
    small = decimated(sphere, 500)
    assert 400 <= len(small.faces) <= 500
    solid = trimesh.Trimesh(small.vertices, small.faces, process=False)
    assert solid.is_watertight
    assert solid.volume == pytest.approx(math.pi / 6, rel=0.03)
    assert np.abs(np.linalg.norm(small.vertices, axis=1) - 0.5).max() < 0.02
    again = decimated(sphere, 500)
    assert np.array_equal(again.vertices, small.vertices)
    assert np.array_equal(again.faces, small.faces)


@settings(max_examples=30)
@given(st.integers(5, 60), st.integers(10, 200), st.integers(0, 1000))
def test_any_triangles_decimate_to_a_usable_mesh_or_an_error(vertices, faces, seed):
    mesh = weld(soup(vertices, faces, seed))[0]
    assume(len(mesh.faces) > 8)
    try:
        small = decimated(mesh, 8)
    except InstanceError as error:
        note(f"refused: {error}")
        return
    small.check("it")
    assert len(small.faces) <= faces
    assert sorted(np.unique(small.faces)) == list(range(len(small.vertices)))
    assert (np.diff(np.sort(small.faces, axis=1)) > 0).all()
