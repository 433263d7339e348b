import base64

import numpy as np
import pytest
import trimesh

from refine_batch.mesh import Mesh
from refine_batch.report.geometry import MAX_FACES, encode


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


def test_loose_triangles_stay_within_bounds():
    random = np.random.default_rng(0)
    vertices = random.normal(size=(3 * 200_000, 3)).astype(np.float32)
    made = encode(Mesh(vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)))
    assert len(made["vertices"]) + len(made["faces"]) < 400_000
