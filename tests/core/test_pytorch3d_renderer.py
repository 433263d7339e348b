"""The optional PyTorch3D renderer gives what the kernels give, behind the same interface."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from shapes import box, fan, icosphere, jittered, torus

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.errors import UsageError
from refine_batch.mesh.batch import MeshBatch
from refine_batch.render import alpha, load_renderer

INSTALLED = importlib.util.find_spec("pytorch3d") is not None
needs_pytorch3d = pytest.mark.skipif(
    not INSTALLED, reason="pytorch3d is not installed: it comes from conda-forge or from source, not from PyPI"
)


@pytest.mark.skipif(INSTALLED, reason="pytorch3d is installed here, so its absence cannot be seen")
def test_absence_is_told_with_a_way_out():
    with pytest.raises(
        UsageError, match="needs the package pytorch3d, which is not installed; get it from conda-forge"
    ):
        load_renderer("pytorch3d")


@needs_pytorch3d
@pytest.mark.parametrize(("image_size", "sigma"), [(33, 1e-4), (48, 1e-3)])
def test_silhouettes_and_gradients_of_ragged_meshes(image_size, sigma):
    meshes = [jittered(icosphere(1), 0.02), box(), torus(), fan(4)]
    views = [0, 2, 1, 3, 0, 2]
    batch = MeshBatch.of(meshes)
    cameras = stack_cameras([Camera(55 * i, 20 * i - 40, 1.2 + 0.1 * i, roll=10 * i) for i in range(len(views))])
    weights = torch.rand((len(views), image_size, image_size), generator=torch.Generator().manual_seed(0))
    found = []
    for name in ("warp", "pytorch3d"):
        vertices = batch.vertices.clone().requires_grad_()
        points = project(vertices[views], cameras)
        mesh_of_view = torch.tensor(views, dtype=torch.int32)
        depth = load_renderer(name)(points, batch.faces, batch.face_count, mesh_of_view, image_size, sigma)
        silhouette = alpha(depth)
        (silhouette * weights).sum().backward()
        found.append((silhouette.detach(), vertices.grad))
    (silhouette, gradient), (expected, expected_gradient) = found
    assert 0.05 < expected.mean() < 0.95
    torch.testing.assert_close(silhouette, expected, rtol=0, atol=5e-5)
    for i in range(len(meshes)):
        assert (gradient[i] - expected_gradient[i]).norm() <= 1e-4 * expected_gradient[i].norm()


@needs_pytorch3d
def test_triangles_behind_the_camera_are_left_out():
    batch = MeshBatch.of([box()])
    points = project(batch.vertices, stack_cameras([Camera(20, 10, 0.3)]))
    assert points[..., 2].min() < 0 < points[..., 2].max()
    arguments = (points, batch.faces, batch.face_count, torch.zeros(1, dtype=torch.int32), 32, 1e-4)
    silhouettes = [alpha(load_renderer(name)(*arguments)) for name in ("warp", "pytorch3d")]
    torch.testing.assert_close(*silhouettes, rtol=0, atol=5e-5)
