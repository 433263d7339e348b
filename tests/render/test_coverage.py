"""The rasteriser without depths covers exactly the pixels that the one with depths finds a triangle at."""

import numpy as np
import torch

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.render.warp_coverage import coverage
from refine_batch.render.warp_rasterise import rasterise


def test_coverage_is_where_the_rasteriser_finds_a_triangle():
    random = np.random.default_rng(0)
    vertices = torch.from_numpy(random.uniform(-1, 1, (40, 3)).astype(np.float32))
    faces = torch.from_numpy(random.integers(0, 40, (1, 30, 3), dtype=np.int32))
    # The nearest camera stands among the triangles: some lie behind it.
    cameras = stack_cameras([Camera(a, 20, d) for a, d in ((0, 3), (100, 1.5), (250, 0.5))])
    points = project(vertices.expand(3, -1, -1), cameras)
    count, views = torch.tensor([29], dtype=torch.int32), torch.zeros(3, dtype=torch.int32)
    covered = coverage(points, faces, count, views, 97)
    assert 0.1 < covered.float().mean() < 0.9
    torch.testing.assert_close(covered > 0, rasterise(points, faces, count, views, 97) >= 0, rtol=0, atol=0)
