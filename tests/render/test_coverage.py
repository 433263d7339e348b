"""Counts of triangles over each pixel, found by visiting edges, against triangles tried one by one."""

import numpy as np
import pytest
import torch
from shapes import box, icosphere, soup, torus

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.mesh.edges import Edges
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.render.pixels import pixel_centres
from refine_batch.render.warp_coverage import coverage_steps, half_covered

SIZE = 53
# No pixel's centre lies on a side; the nearest camera stands among the triangles: some lie behind it.
CAMERAS = [Camera(7, 20, 3), Camera(101, -35, 1.1), Camera(253, 21, 0.4)]
MESHES = [soup(40, 30, 0), torus(), box(), icosphere(2)]


def one_by_one(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(SIZE, SIZE) how many triangles hold each pixel's centre, by the signs of three areas in double precision."""
    x, y = pixel_centres(SIZE, dtype=torch.float64).numpy().T
    count = np.zeros(SIZE * SIZE, int)
    for corners in points[faces].astype(np.float64):
        if corners[:, 2].min() <= 1e-5:
            continue
        side = [
            (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
            for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)
        ]
        count += (np.min(side, axis=0) > 0) | (np.max(side, axis=0) < 0)
    return count.reshape(SIZE, SIZE)


def counted(points: torch.Tensor, meshes: PaddedMeshes, edges: Edges, views: torch.Tensor) -> torch.Tensor:
    return coverage_steps(points, meshes.faces, meshes.face_count, edges, views, SIZE).cumsum(dim=-1)


@pytest.mark.parametrize("camera", CAMERAS)
def test_counts_of_several_meshes(camera, device):
    meshes = PaddedMeshes.of(MESHES, device)
    order = torch.tensor([2, 0, 3, 1, 0], dtype=torch.int32, device=device)
    points = project(meshes.vertices[order], stack_cameras([camera] * len(order), device))
    found = counted(points, meshes, meshes.edges, order)
    for view, mesh in enumerate(order.tolist()):
        expected = one_by_one(points[view].cpu().numpy(), MESHES[mesh].faces)
        np.testing.assert_array_equal(found[view].cpu(), expected)
    assert found.max() >= 4
    # Whether edges are known changes the work, not the counts.
    assert torch.equal(found, counted(points, meshes, Edges.apart(meshes.faces), order))


def test_a_pixel_is_set_where_two_of_its_samples_are():
    meshes = PaddedMeshes.of([soup(20, 6, 3)])
    points = project(meshes.vertices, stack_cameras([Camera(30, 20, 1.5)]))
    view = torch.zeros(1, dtype=torch.int32)
    covered = half_covered(points, meshes.faces, meshes.face_count, meshes.edges, view, SIZE)
    steps = coverage_steps(points, meshes.faces, meshes.face_count, meshes.edges, view, 2 * SIZE)
    samples = (steps.cumsum(dim=-1) > 0).unflatten(2, (SIZE, 2)).unflatten(1, (SIZE, 2)).sum(dim=(2, 4))
    assert set(samples.unique().tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(covered, samples >= 2)


def test_a_vertex_that_is_no_number_hides_its_triangles_alone():
    meshes = PaddedMeshes.of([icosphere(1)])
    points = project(meshes.vertices, stack_cameras([Camera(30, 20, 1.2)]))
    points[0, 7] = torch.nan
    view = torch.zeros(1, dtype=torch.int32)
    whole = icosphere(1).faces
    left = whole[(whole != 7).all(axis=1)]
    found = counted(points, meshes, meshes.edges, view)[0]
    np.testing.assert_array_equal(found, one_by_one(points[0].numpy(), left))
