"""Cameras, silhouettes, their vertex gradients and the two mesh losses against PyTorch3D's own values."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.losses import laplacian_loss, normal_consistency_loss
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.render import alpha, load_renderer

ARCHIVE = Path(__file__).parents[1] / "data" / "pytorch3d_silhouettes.npz"
PYTORCH3D = pytest.param(
    "pytorch3d",
    marks=pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is None, reason="pytorch3d is not installed"),
)
CASES = ("icosphere_64", "icosphere_33_blurry", "box_64", "torus_64", "off_screen_48", "non_manifold_48")


class Case:
    """One case of the archive, as the project's own objects."""

    def __init__(self, name: str):
        with np.load(ARCHIVE) as archive:
            values = {key.partition("/")[2]: archive[key] for key in archive if key.startswith(f"{name}/")}
        distance, elevation, azimuth = values["camera"].tolist()
        self.camera = Camera(azimuth, elevation, distance)
        self.cameras = stack_cameras([self.camera])
        self.batch = MeshBatch.of([Mesh(values["vertices"], values["faces"])])
        self.image_size, self.sigma = int(values["image_size"]), float(values["sigma"])
        self.values = values

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.values[name])

    def silhouette(self, renderer: str, vertices: torch.Tensor) -> torch.Tensor:
        batch = self.batch
        points = project(vertices, self.cameras)
        view = torch.zeros(1, dtype=torch.int32)
        depth = load_renderer(renderer)(points, batch.faces, batch.face_count, view, self.image_size, self.sigma)
        return alpha(depth)[0]


@pytest.fixture(scope="module", params=CASES)
def case(request) -> Case:
    return Case(request.param)


def test_every_case_of_the_archive_is_tested():
    with np.load(ARCHIVE) as archive:
        assert {key.partition("/")[0] for key in archive} == set(CASES)


def test_rotation_and_translation(case):
    torch.testing.assert_close(case.cameras.rotation[0], case.tensor("R"), rtol=0, atol=1e-6)
    torch.testing.assert_close(case.cameras.translation[0], case.tensor("T"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("renderer", ["warp", "torch", PYTORCH3D])
def test_silhouette_and_vertex_gradient(case, renderer):
    vertices = case.batch.vertices.clone().requires_grad_()
    silhouette = case.silhouette(renderer, vertices)
    torch.testing.assert_close(silhouette, case.tensor("silhouette"), rtol=0, atol=5e-5)
    (silhouette * case.tensor("weights")).sum().backward()
    expected = case.tensor("vertex_gradient")
    error = (vertices.grad[0] - expected).norm() / expected.norm()
    assert error <= 1e-4


def test_laplacian_loss(case):
    found = laplacian_loss(case.batch.vertices, case.batch)
    torch.testing.assert_close(found, case.tensor("laplacian_loss").reshape(1), rtol=1e-5, atol=0)


def test_normal_consistency_loss(case):
    found = normal_consistency_loss(case.batch.vertices, case.batch)
    torch.testing.assert_close(found, case.tensor("normal_consistency_loss").reshape(1), rtol=1e-5, atol=0)
