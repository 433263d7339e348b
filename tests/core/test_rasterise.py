"""The hard rasteriser and what is shown through it, against rays cast through every pixel in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import box, icosphere, soup, torus

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.edges import Edges
from refine_batch.render import hard_silhouettes
from refine_batch.render.pixels import pixel_centres
from refine_batch.render.warp_coverage import coverage_steps
from refine_batch.render.warp_rasterise import Shade, rasterise


def cast(points: np.ndarray, faces: np.ndarray, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the ray through each pixel meets each triangle, by Möller and Trumbore's formula.

    `points` (V, 3) are NDC and depth. Returns (F, P) depths, infinite where a ray misses, and (F, P, 3) the weights of
    the three corners at the point that is hit.
    """
    z = points[:, 2:].astype(np.float64)
    corners = np.concatenate([points[:, :2] * z, z], axis=1)[faces]
    rays = np.concatenate([pixel_centres(image_size, dtype=torch.float64).numpy(), np.ones((image_size**2, 1))], axis=1)
    a, along_ab, along_ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(rays[None], along_ac[:, None])
    determinant = (across * along_ab[:, None]).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = -(across * a[:, None]).sum(-1) / determinant
        turned = np.cross(-a, along_ab)
        w = (turned[:, None] * rays[None]).sum(-1) / determinant
        depth = (turned * along_ac).sum(-1)[:, None] / determinant
    weights = np.stack([1 - v - w, v, w], axis=-1)
    before = (corners[:, :, 2] > 1e-5).all(axis=1)[:, None]
    return np.where((weights.min(axis=-1) >= 0) & before, depth, np.inf), weights


def undecided(depths: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(P,) where rounding may settle whether or which triangle is hit."""
    edge = (np.abs(np.nan_to_num(weights, nan=9.0)).min(axis=-1) < 1e-4).any(axis=0)
    if len(depths) < 2:
        return edge
    first, second = np.partition(depths, 1, axis=0)[:2]
    with np.errstate(invalid="ignore"):
        return edge | (np.isfinite(second) & (second - first < 1e-5 * first))


def views_of(meshes: list[Mesh], views: list[int], cameras: list[Camera]):
    batch = MeshBatch.of(meshes)
    points = project(batch.vertices[views], stack_cameras(cameras))
    return batch, points, torch.tensor(views, dtype=torch.int32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.2, 4.0))
@settings(max_examples=30)
def test_nearest_triangle_of_random_soups(seed, image_size, distance):
    """Also from among the triangles, where some lie wholly or partly behind the camera."""
    mesh = soup(14, 20, seed)
    batch, points, views = views_of([mesh], [0], [Camera(seed % 360, 25, distance)])
    found = rasterise(points, batch.faces, batch.face_count, views, image_size)[0].numpy().ravel()
    depths, weights = cast(points[0].numpy(), mesh.faces, image_size)
    expected = np.where(np.isfinite(depths.min(axis=0)), depths.argmin(axis=0), -1)
    settled = ~undecided(depths, weights)
    np.testing.assert_array_equal(found[settled], expected[settled])


def test_ragged_meshes_in_several_views_each():
    meshes = [icosphere(1), soup(10, 17, 0), box(), torus()]
    order = [2, 0, 0, 3, 1]
    batch, points, views = views_of(meshes, order, [Camera(70 * i, 10 * i - 20, 1.3) for i in range(5)])
    found = rasterise(points, batch.faces, batch.face_count, views, 33)
    assert found.dtype == torch.int32
    for i, mesh in enumerate(order):
        depths, weights = cast(points[i].numpy(), meshes[mesh].faces, 33)
        expected = np.where(np.isfinite(depths.min(axis=0)), depths.argmin(axis=0), -1)
        settled = ~undecided(depths, weights)
        assert settled.mean() > 0.9
        assert 0.05 < (expected >= 0).mean() < 0.95
        np.testing.assert_array_equal(found[i].numpy().ravel()[settled], expected[settled])


QUAD = np.array([[-0.6, -0.6], [0.6, -0.6], [0.6, 0.6], [-0.6, 0.6]])


def flat(depth: float) -> np.ndarray:
    return np.concatenate([QUAD, np.full((4, 1), depth)], axis=1)


def rasterised(points: np.ndarray, faces, image_size: int = 16) -> np.ndarray:
    faces = torch.as_tensor(np.asarray(faces), dtype=torch.int32)[None]
    count = torch.tensor([faces.shape[1]], dtype=torch.int32)
    points = torch.as_tensor(points, dtype=torch.float32)[None]
    return rasterise(points, faces, count, torch.zeros(1, dtype=torch.int32), image_size)[0].numpy()


def test_the_nearer_wins_whatever_the_order():
    points = np.concatenate([flat(2.0), flat(1.0), flat(3.0)])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    near_first = rasterised(points, np.concatenate([faces + 4, faces, faces + 8]))
    near_last = rasterised(points, np.concatenate([faces + 8, faces, faces + 4]))
    assert set(near_first[near_first >= 0]) == {0, 1}
    assert set(near_last[near_last >= 0]) == {4, 5}
    assert ((near_first >= 0) == (near_last >= 0)).all()


def test_of_equally_near_triangles_the_first_wins():
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    found = rasterised(flat(1.5), np.concatenate([faces] * 4))
    assert set(found[found >= 0]) == {0, 1}


def test_no_pixel_falls_between_triangles_that_share_an_edge():
    """A sheet whose edges and corners lie on pixel centres, then a jittered one: no hole, no seam."""
    size = 32
    line = np.linspace(-1.0625, 1.0625, 35)
    x, y = np.meshgrid(line, line, indexing="ij")
    number = np.arange(35 * 35).reshape(35, 35)
    corner = [number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]]
    faces = np.concatenate([np.stack([corner[i].ravel() for i in t], axis=1) for t in ((0, 1, 2), (0, 2, 3))])
    points = np.stack([x.ravel(), y.ravel(), np.ones(35 * 35)], axis=1)
    shift = np.random.default_rng(0).uniform(-0.01, 0.01, points.shape) * [1, 1, 0]
    for sheet in (points, points + shift, (points + shift) * [3, 3, 1]):
        assert (rasterised(sheet, faces, size) >= 0).all()


def test_a_convex_outline_has_no_holes():
    [image] = hard_silhouettes(icosphere(3), [Camera(20, 30, 1.1)], 97)
    for row in image[image.any(axis=1)]:
        assert np.count_nonzero(np.diff(row.astype(int))) <= 2


@pytest.mark.parametrize("break_it", [math.nan, math.inf])
def test_one_broken_mesh_does_not_touch_the_others(break_it):
    meshes = [icosphere(1), box(), torus()]
    batch, points, views = views_of(meshes, [0, 1, 2], [Camera(30, 20, 1.2)] * 3)
    expected = rasterise(points, batch.faces, batch.face_count, views, 32)
    spoilt = points.clone()
    spoilt[1] = break_it
    found = rasterise(spoilt, batch.faces, batch.face_count, views, 32)
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=0, atol=0)
    assert (found[1] == -1).all()


def test_a_corner_that_is_no_number_hides_its_triangle_alone():
    """Whichever corner and coordinate it is."""
    for corner in range(3):
        for axis in range(3):
            points = np.concatenate([flat(2.0), flat(1.0)])
            points[4 + corner, axis] = math.nan
            found = rasterised(points, [[0, 1, 2], [4, 5, 6], [0, 2, 3]])
            assert set(found[found >= 0]) == {0, 2}


def linear(weight: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A linear function of the point in camera space, from NDC and depth."""
    z = points[:, 2:]
    return np.concatenate([points[:, :2] * z, z], axis=1) @ weight + 0.3


def test_values_are_those_of_the_point_in_space():
    """A linear function in space, known at the vertices, is shown at the point that the ray hits."""
    meshes, order, size = [icosphere(1), torus(), box()], [1, 0, 2, 0], 37
    batch, points, views = views_of(meshes, order, [Camera(50 * i, 30 - 20 * i, 0.9 + 0.1 * i) for i in range(4)])
    face = rasterise(points, batch.faces, batch.face_count, views, size)
    weight = np.array([0.7, -0.4, 1.1])
    for i in range(len(order)):
        values = np.zeros((len(meshes), points.shape[1]), np.float32)
        values[order[i]] = linear(weight, points[i].numpy().astype(np.float64))
        image = Shade.apply(torch.from_numpy(values), points, batch.faces, views, face, 9.0)[i].numpy().ravel()
        depths, _ = cast(points[i].numpy(), meshes[order[i]].faces, size)
        depth = depths.min(axis=0)
        hit = face[i].numpy().ravel() >= 0
        assert (image[~hit] == 9.0).all()
        hit &= np.isfinite(depth)
        rays = np.concatenate([pixel_centres(size).double().numpy(), np.ones((size**2, 1))], axis=1)
        expected = (rays * np.where(hit, depth, 0)[:, None]) @ weight + 0.3
        # A pixel on the outline may be a hit to one and a miss, or a hit of the far side, to the other.
        wrong = np.abs(image - expected)[hit] > 1e-4
        assert wrong.mean() < 0.01
        assert hit.sum() > 100


def test_value_gradient_is_the_transpose_of_the_image():
    """The image is linear in the values: what each adds, vertex by vertex, is its gradient."""
    meshes, order, size = [box(), icosphere(0)], [1, 0, 1], 12
    batch, points, views = views_of(meshes, order, [Camera(35 + 60 * i, 25, 1.3) for i in range(3)])
    face = rasterise(points, batch.faces, batch.face_count, views, size)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(batch.vertex_mask.shape, generator=generator, requires_grad=True)
    upstream = torch.rand(face.shape, generator=generator)

    def image(v):
        return Shade.apply(v, points, batch.faces, views, face, 1.0)

    image(values).backward(upstream)
    base = image(torch.zeros_like(values))
    expected = torch.zeros_like(values)
    for m, v in np.ndindex(*values.shape):
        one = torch.zeros_like(values)
        one[m, v] = 1.0
        expected[m, v] = ((image(one) - base).double() * upstream).sum()
    torch.testing.assert_close(values.grad, expected, rtol=1e-4, atol=1e-5)
    assert (expected > 0.1).sum() > 6
    # Each pixel on the object hands its whole share to its triangle's corners.
    total = upstream[face >= 0].sum()
    torch.testing.assert_close(values.grad.sum(), total, rtol=1e-5, atol=0)


@pytest.mark.parametrize("layout", ["transposed", "expanded"])
def test_value_gradient_in_any_memory_layout(layout):
    batch, points, views = views_of([box()], [0], [Camera(35, 25, 1.3)])
    face = rasterise(points, batch.faces, batch.face_count, views, 12)
    upstream = torch.rand((1, 12, 12), generator=torch.Generator().manual_seed(0))
    upstream = upstream.transpose(1, 2) if layout == "transposed" else torch.tensor(0.5).expand(1, 12, 12)
    gradients = []
    for g in (upstream, upstream.contiguous()):
        values = torch.ones(batch.vertex_mask.shape, requires_grad=True)
        Shade.apply(values, points, batch.faces, views, face, 1.0).backward(g)
        gradients.append(values.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_a_mesh_of_three_vertices():
    """Three values are not one vector."""
    batch, points, views = views_of([Mesh(np.eye(3), np.array([[0, 1, 2]]))], [0], [Camera(45, 35, 2)])
    face = rasterise(points, batch.faces, batch.face_count, views, 3)
    image = Shade.apply(torch.tensor([[0.25, 0.25, 0.25]]), points, batch.faces, views, face, 1.0)
    assert face[0, 1, 1] == 0
    assert image[0, 1, 1] == pytest.approx(0.25)


def test_no_views():
    batch, _, _ = views_of([box()], [0], [Camera(0, 0, 2)])
    none = torch.zeros(0, dtype=torch.int32)
    face = rasterise(torch.zeros((0, 8, 3)), batch.faces, batch.face_count, none, 16)
    assert face.shape == (0, 16, 16)
    values = torch.ones((1, 8), requires_grad=True)
    image = Shade.apply(values, torch.zeros((0, 8, 3)), batch.faces, none, face, 1.0)
    assert image.shape == (0, 16, 16)
    image.sum().backward()
    assert (values.grad == 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.2, 4.0))
@settings(max_examples=20)
def test_coverage_of_random_soups(seed, image_size, distance):
    mesh = soup(14, 12, seed)
    batch, points, views = views_of([mesh], [0], [Camera(seed % 360, -15, distance)])
    edges = Edges.of(batch.faces, batch.face_count)
    steps = coverage_steps(points, batch.faces, batch.face_count, edges, views, image_size)
    found = steps[0].cumsum(dim=-1).numpy().ravel()
    depths, weights = cast(points[0].numpy(), mesh.faces, image_size)
    settled = ~undecided(depths, weights)
    np.testing.assert_array_equal(found[settled] > 0, np.isfinite(depths.min(axis=0))[settled])


def test_hard_silhouette_is_set_where_half_of_its_samples_are():
    mesh, camera, size = torus(), Camera(25, 40, 1.2), 31
    [found] = hard_silhouettes(mesh, [camera], size)
    points = project(torch.from_numpy(mesh.vertices)[None], stack_cameras([camera]))[0].numpy()
    depths, weights = cast(points, mesh.faces, 2 * size)
    hit = np.isfinite(depths.min(axis=0)).reshape(size, 2, size, 2)
    unsure = undecided(depths, weights).reshape(size, 2, size, 2).any(axis=(1, 3))
    expected = hit.sum(axis=(1, 3)) >= 2
    np.testing.assert_array_equal(found[~unsure], expected[~unsure])
    assert found.dtype == bool
    assert 0.1 < found.mean() < 0.9


@pytest.mark.parametrize("distance", [0.8, 1.5])
@pytest.mark.parametrize("fov", [50.0, 60.0])
def test_silhouette_of_a_sphere_is_a_disc_of_known_area(distance, fov):
    radius = 0.3
    tangent = radius / math.sqrt(distance**2 - radius**2) / math.tan(math.radians(fov) / 2)
    [image] = hard_silhouettes(icosphere(4, radius), [Camera(70, -20, distance, fov)], 256)
    assert 0.3 < tangent < 1
    assert image.mean() == pytest.approx(math.pi * tangent**2 / 4, rel=5e-3)


def test_hard_silhouettes_of_many_cameras_and_of_read_only_arrays():
    mesh = box()
    for array in (mesh.vertices, mesh.faces):
        array.setflags(write=False)
    cameras = [Camera(a, e, 1.4) for a in (0, 90, 200) for e in (-30, 20)]
    together = hard_silhouettes(mesh, cameras, 24)
    assert together.shape == (6, 24, 24)
    for image, camera in zip(together, cameras, strict=True):
        np.testing.assert_array_equal(image, hard_silhouettes(mesh, [camera], 24)[0])
    assert hard_silhouettes(mesh, [], 24).shape == (0, 24, 24)
