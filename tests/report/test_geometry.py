import base64

import numpy as np
import pytest
import trimesh

from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.report import pictures
from refine_batch.report.geometry import MAX_BYTES, MAX_FACES, encode
from refine_batch.report.page import SCRIPTS, _asset


def decoded(made):
    steps = np.frombuffer(base64.b64decode(made["vertices"]), "<u2").reshape(-1, 3)
    faces = np.frombuffer(base64.b64decode(made["faces"]), "<u4" if made["wide"] else "<u2").reshape(-1, 3)
    return np.array(made["low"]) + np.array(made["size"]) * steps / 65_535, faces


def mesh_of(shape):
    return Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32))


def test_a_mesh_comes_back_to_a_step_of_its_box():
    mesh = mesh_of(trimesh.creation.icosphere(3))
    vertices, faces = decoded(encode(mesh))
    assert np.abs(vertices[faces] - mesh.vertices[mesh.faces]).max() <= 2 / 131_070 * 1.001
    assert encode(mesh)["of"] is None


def test_a_large_mesh_is_simplified_and_says_so():
    mesh = mesh_of(trimesh.creation.icosphere(6))
    made = encode(mesh)
    vertices, faces = decoded(made)
    assert made["of"] == len(mesh.faces) == 81_920
    assert 0.5 * MAX_FACES < len(faces) <= 1.2 * MAX_FACES
    assert np.abs(np.linalg.norm(vertices, axis=1) - 1).max() < 0.02
    assert len(made["vertices"]) + len(made["faces"]) < 150_000


@pytest.mark.parametrize("vertices", [np.zeros((3, 3)), np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]])])
def test_flat_and_degenerate_meshes(vertices):
    mesh = Mesh(vertices.astype(np.float32), np.array([[0, 1, 2]], np.int32))
    shown, faces = decoded(encode(mesh))
    assert np.allclose(shown[faces[0]], vertices, atol=2 / 65_535)


@pytest.mark.parametrize("triangles", [11_000, 100_000])
def test_loose_triangles_stay_within_bounds(triangles):
    random = np.random.default_rng(0)
    vertices = random.normal(size=(3 * triangles, 3)).astype(np.float32)
    made = encode(Mesh(vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)))
    assert made["of"] == triangles
    assert len(decoded(made)[1]) > 4000
    assert len(made["vertices"]) + len(made["faces"]) <= MAX_BYTES * 4 / 3 * 1.02


def test_24_instances_stay_below_15_mb():
    """Whatever the meshes: three of each, and pictures as large as noise makes them."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (600, 600, 3), dtype=np.uint8)
    mask = random.random((600, 600)) < 0.5
    vertices, faces = (random.uniform(-0.5, 0.5, (600, 3)), random.integers(0, 600, (400, 3)))
    mesh = Mesh(vertices.astype(np.float32), faces.astype(np.int32))
    silhouettes = 2 * len(pictures.overlay(mesh, Camera(30, 20, 2.0), mask, pictures.COARSE))
    shown = len(pictures.photo(noise, mask)) + silhouettes + 3 * MAX_BYTES * 4 / 3
    libraries = sum(len(_asset(name)) for name in SCRIPTS)
    assert 24 * (shown + 20_000) + libraries < 15e6
