"""The Warp kernels of the soft silhouette against the plain torch version in float64, on every awkward scene."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import box, finite_difference, icosphere, soup, torus

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.errors import UsageError
from refine_batch.mesh.batch import MeshBatch
from refine_batch.render import alpha, load_renderer
from refine_batch.render.pixels import pixel_centres
from refine_batch.render.silhouette import MIN_ALPHA, blur_radius
from refine_batch.render.torch_silhouette import optical_depth

SIGMA = 1e-4
WARP = load_renderer("warp")


class Scene:
    """Projected points of several views of several meshes."""

    def __init__(self, points, faces, face_count, mesh_of_view, image_size: int, sigma: float = SIGMA):
        self.points = torch.as_tensor(points, dtype=torch.float32)
        self.faces = torch.as_tensor(faces, dtype=torch.int32)
        self.face_count = torch.as_tensor(face_count, dtype=torch.int32)
        self.mesh_of_view = torch.as_tensor(mesh_of_view, dtype=torch.int32)
        self.image_size, self.sigma = image_size, sigma
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.rand((len(self.points), image_size, image_size), generator=generator)

    @classmethod
    def of(cls, triangles, image_size: int = 24, sigma: float = SIGMA) -> Scene:
        """One view of separate triangles, given as (F, 3, 3) projected corners."""
        triangles = torch.as_tensor(triangles, dtype=torch.float32)
        count = len(triangles)
        faces = torch.arange(3 * count).reshape(1, count, 3)
        return cls(triangles.reshape(1, -1, 3), faces, [count], [0], image_size, sigma)

    def run(self, render, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        """Optical depth, and the gradient of a weighted sum of the silhouette."""
        points = self.points.detach().clone().to(dtype).requires_grad_()
        depth = render(points, self.faces, self.face_count, self.mesh_of_view, self.image_size, self.sigma)
        (alpha(depth) * self.weights).sum().backward()
        return depth.detach(), points.grad

    def open_to_rounding(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Per pixel: how many triangles end their reach there, and whether two edges of one are equally near."""
        reach = math.sqrt(blur_radius(self.sigma))
        centres = pixel_centres(self.image_size, dtype=torch.float64)
        ends, tied = [], []
        for view, mesh in enumerate(self.mesh_of_view.tolist()):
            triangles = self.points[view, self.faces[mesh, : self.face_count[mesh]].long(), :2].double()
            along = triangles.roll(-1, dims=1) - triangles
            offset = centres[None, :, None] - triangles[:, None]
            t = (offset * along[:, None]).sum(-1) / along.square().sum(-1)[:, None].clamp_min(1e-30)
            gap = offset - t.clamp(0, 1)[..., None] * along[:, None]
            distance, order = gap.norm(dim=-1).sort(dim=-1)
            near = gap.gather(2, order[..., None].expand(-1, -1, -1, 2))
            slack = 2e-6 * triangles.abs().amax(dim=(1, 2)).clamp_min(1.0)[:, None]
            ends.append(((distance[..., 0] - reach).abs() < slack).sum(dim=0))
            # Two edges that meet in the nearest corner pull alike.
            alike = (near[..., 0, :] - near[..., 1, :]).norm(dim=-1) < slack
            tied.append(((distance[..., 1] - distance[..., 0] < slack) & ~alike).any(dim=0))
        return torch.stack(ends).reshape(self.weights.shape), torch.stack(tied).reshape(self.weights.shape)

    def assert_kernel_agrees(self) -> torch.Tensor:
        """Compare values and gradients of kernel and specification; returns the depth."""
        ends, tied = self.open_to_rounding()
        # There the gradient may be taken on either side.
        self.weights = torch.where((ends > 0) | tied, 0.0, self.weights)
        depth, gradient = self.run(WARP)
        expected, expected_gradient = self.run(load_renderer("torch"), torch.float64)
        # Rounding of the coordinates, which d²/σ doubles and enlarges; a share of 1e-4 for every reach that ends.
        size = max(1.0, float(self.points[..., :2].abs().max()))
        rounding = 1e-6 * size * (expected / self.sigma).sqrt() + 2e-5 * expected
        assert ((depth - expected).abs() <= 1e-6 + rounding + 1.1 * MIN_ALPHA * ends).all()
        assert (gradient[..., 2] == 0).all()
        largest = expected_gradient.abs().amax(dim=(1, 2), keepdim=True)
        assert ((gradient - expected_gradient).abs() <= 2e-8 * size / self.sigma + 2e-4 * size * largest).all()
        return depth


def random_triangles(count: int, seed: int, low: float = -1.2, high: float = 1.2) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([random.uniform(low, high, (count, 3, 2)), random.uniform(0.5, 2, (count, 3, 1))], axis=2)


# Sizes below, at and beside whole blocks of lanes, odd and even.
@pytest.mark.parametrize("image_size", [1, 2, 15, 16, 17, 33, 64])
@pytest.mark.parametrize("sigma", [1e-5, 1e-4, 1e-2])
def test_random_triangles(image_size, sigma):
    depth = Scene.of(random_triangles(12, image_size), image_size, sigma).assert_kernel_agrees()
    assert depth.max() > 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(-5, -1.5), st.floats(0.05, 3.0))
@settings(max_examples=25)
def test_soups_of_every_scale(seed, image_size, sigma_exponent, scale):
    triangles = random_triangles(8, seed, -scale, scale)
    Scene.of(triangles, image_size, 10.0**sigma_exponent).assert_kernel_agrees()


def test_ragged_meshes_in_several_views_each():
    meshes = [icosphere(1), soup(10, 17, 0), box(), torus()]
    batch = MeshBatch.of(meshes)
    views = [2, 0, 0, 3, 1, 2]
    cameras = stack_cameras([Camera(40 * i, 10 * i - 20, 1.3 + 0.1 * i) for i in range(len(views))])
    points = project(batch.vertices[views], cameras)
    scene = Scene(points, batch.faces, batch.face_count, views, 35)
    depth = scene.assert_kernel_agrees()
    for i, mesh in enumerate(views):
        alone = Scene(points[i : i + 1, : len(meshes[mesh].vertices)], meshes[mesh].faces[None], [1000], [0], 35)
        alone.face_count[0] = len(meshes[mesh].faces)
        # To the last bit: neither the neighbours nor the padding take part.
        torch.testing.assert_close(alone.run(WARP)[0][0], depth[i], rtol=0, atol=0)


SQUARE = np.array([[[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1]], [[-0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1]]])


def moved(triangles: np.ndarray, x: float, y: float) -> np.ndarray:
    return triangles + np.array([x, y, 0.0])


AWKWARD = {
    "huge": np.array([[[-40.0, -30, 1], [50, -20, 1], [3, 60, 1]]]),
    "a huge edge across the image": np.array([[[-30.0, -20, 1], [30, 20, 1], [-30, 20.5, 1]]]),
    "partly off screen": moved(SQUARE, 0.8, -0.9),
    "wholly off screen": moved(SQUARE, 9, 0),
    "just out of reach of the border": moved(SQUARE, 1.55, 0),
    "far off screen": moved(SQUARE, 1e6, -1e6),
    "a needle": np.array([[[-0.9, -0.8, 1], [0.9, 0.85, 1], [0.9, 0.8501, 1]]]),
    "flat above": np.array([[[-0.6, 0.4, 1], [0.6, 0.4, 1], [0.1, -0.5, 1]]]),
    "edges through pixel centres": (np.array(SQUARE) * [1 / 12, 1 / 12, 1] * 6.5).astype(np.float32),
    "smaller than a pixel": moved(random_triangles(30, 4, -0.02, 0.02), 0.04, 0.04),
    "wound both ways": np.concatenate([SQUARE, SQUARE[:, ::-1] * [0.8, 0.8, 1]]),
    "many layers": np.repeat(SQUARE, 40, axis=0),
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("sigma", [1e-5, 1e-3])
def test_awkward_triangles(name, sigma):
    depth = Scene.of(AWKWARD[name], 24, sigma).assert_kernel_agrees()
    if "off screen" not in name and "border" not in name:
        assert depth.max() > 0
    if name == "huge":
        assert depth.min() > 1e4
    if name == "wholly off screen" or name == "far off screen":
        assert depth.max() == 0


UNSEEN = {
    "behind the camera": [[-0.5, -0.5, -1.0], [0.5, -0.5, -1.0], [0, 0.5, -1.0]],
    "partly behind the camera": [[-0.5, -0.5, 1.0], [0.5, -0.5, -0.1], [0, 0.5, 1.0]],
    "in the camera's plane": [[-0.5, -0.5, 1.0], [0.5, -0.5, 0.0], [0, 0.5, 1.0]],
    "a point": [[0.1, 0.2, 1.0]] * 3,
    "a line": [[-0.5, -0.5, 1.0], [0.5, 0.5, 1.0], [0.0, 0.0, 1.0]],
    "an edge twice": [[-0.5, -0.5, 1.0], [0.5, 0.3, 1.0], [0.5, 0.3, 1.0]],
    "not a number": [[math.nan, -0.5, 1.0], [0.5, -0.5, 1.0], [0, 0.5, 1.0]],
    "a depth that is not a number": [[-0.5, -0.5, 1.0], [0.5, -0.5, math.nan], [0, 0.5, 1.0]],
}


@pytest.mark.parametrize("renderer", ["warp", "torch"])
@pytest.mark.parametrize("name", UNSEEN)
def test_triangles_that_are_left_out(renderer, name):
    """They leave no trace, and what stands beside them is as it was without them."""
    both = np.concatenate([[UNSEEN[name]], SQUARE, [UNSEEN[name]]])
    depth, gradient = Scene.of(both).run(load_renderer(renderer))
    expected, expected_gradient = Scene.of(SQUARE).run(load_renderer(renderer))
    torch.testing.assert_close(depth, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient[:, 3:9], expected_gradient, rtol=0, atol=0)
    own = torch.cat([gradient[:, :3], gradient[:, 9:]])
    # The specification's gradient of a broken vertex may itself be broken.
    assert ((own == 0) | ((renderer == "torch") & own.isnan())).all()


def test_infinite_corners_neither_hang_nor_reach_other_views():
    spoilt = SQUARE.copy()
    spoilt[0, 1, 0] = math.inf
    spoilt[1, 2, 1] = -math.inf
    points = torch.as_tensor(np.stack([spoilt.reshape(6, 3), SQUARE.reshape(6, 3)]), dtype=torch.float32)
    scene = Scene(points, np.arange(6).reshape(1, 2, 3), [2], [0, 0], 24)
    depth, gradient = scene.run(WARP)
    alone = Scene(points[1:], scene.faces, [2], [0], 24)
    alone.weights = scene.weights[1:]
    expected, expected_gradient = alone.run(WARP)
    torch.testing.assert_close(depth[1:], expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient[1:], expected_gradient, rtol=0, atol=0)


def test_one_broken_mesh_does_not_touch_the_others():
    meshes = [icosphere(1), box(), torus()]
    batch = MeshBatch.of(meshes)
    cameras = stack_cameras([Camera(30, 20, 1.2)] * 3)
    points = project(batch.vertices, cameras)
    views = [0, 1, 2]
    expected, expected_gradient = Scene(points, batch.faces, batch.face_count, views, 32).run(WARP)
    points[1] = math.nan
    depth, gradient = Scene(points, batch.faces, batch.face_count, views, 32).run(WARP)
    for i in (0, 2):
        torch.testing.assert_close(depth[i], expected[i], rtol=0, atol=0)
        torch.testing.assert_close(gradient[i], expected_gradient[i], rtol=0, atol=0)
    assert (depth[1] == 0).all()


@pytest.mark.parametrize("renderer", ["warp", "torch"])
def test_closed_forms_of_one_triangle(renderer):
    """A right triangle with legs on pixel boundaries: x = ±d²/σ where d is known by sight."""
    corners = np.array([[[-0.5, -0.5, 1.0], [0.75, -0.5, 1.0], [-0.5, 0.75, 1.0]]])
    size, sigma = 16, 1e-3
    depth, _ = Scene.of(corners, size, sigma).run(load_renderer(renderer))

    def at(i: int, j: int) -> float:
        return float(depth[0, i, j])

    def softplus(x: float) -> float:
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))

    # NDC of pixel (row 10, column 10): x = y = 1 − 21/16 = −0.3125, so 0.1875 from both legs.
    assert at(10, 10) == pytest.approx(softplus(0.1875**2 / sigma), rel=1e-5)
    # (row 12, column 9): y = −0.5625, 0.0625 below the leg; x = −0.1875 along it.
    assert at(12, 9) == pytest.approx(softplus(-(0.0625**2) / sigma), rel=1e-5)
    # (row 12, column 12) is off the corner by 0.0625 in both.
    assert at(12, 12) == pytest.approx(softplus(-2 * 0.0625**2 / sigma), rel=1e-5)
    # (row 13, column 9): y = −0.6875 is 0.1875 below: d² = 0.0352 ≥ r = 0.0092.
    assert at(13, 9) == 0
    # (row 5, column 7): x = 0.0625, y = 0.3125, 0.0625·√2 beyond the slanted side x + y = 0.25.
    assert at(5, 7) == pytest.approx(softplus(-(0.125**2) / 2 / sigma), rel=1e-5)


@pytest.mark.parametrize("renderer", ["warp", "torch"])
def test_triangles_multiply_their_transparencies(renderer):
    """1 − α = Π(1 − p): the depths of triangles add, in any order."""
    triangles = random_triangles(5, 9)
    together, _ = Scene.of(triangles).run(load_renderer(renderer))
    alone = sum(Scene.of(triangles[i : i + 1]).run(load_renderer(renderer))[0] for i in range(5))
    backwards, _ = Scene.of(triangles[::-1].copy()).run(load_renderer(renderer))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together, backwards, rtol=1e-5, atol=1e-6)


def test_specification_gradient_is_the_finite_difference():
    triangles = torch.as_tensor(random_triangles(3, 2, -0.7, 0.7))
    faces, count, view = torch.arange(9).reshape(1, 3, 3).int(), torch.tensor([3]).int(), torch.tensor([0]).int()
    weights = torch.rand((1, 13, 13), generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(points):
        # No reach is ended here, where the value has a step that no gradient tells of.
        return (alpha(optical_depth(points, faces, count, view, 13, 1e-2, 1e9)) * weights).sum()

    points = triangles.reshape(1, 9, 3).clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(points), points)
    expected = finite_difference(loss, points)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert expected.abs().max() > 1


def test_saturated_pixels_keep_an_exact_depth():
    """α is 1 in float32 past S ≈ 17; S itself goes on."""
    depth = Scene.of(SQUARE, 16, 1e-5).assert_kernel_agrees()
    # (7, 7) is 0.0625·√2/2 or 0.4375 from the two triangles' boundaries.
    assert depth.max() > 1000
    assert alpha(depth).max() == 1


@pytest.mark.parametrize("layout", [lambda d: d.transpose(1, 2), lambda d: d.flip(-1), lambda d: d[:, ::2, 1:]])
def test_gradients_in_any_memory_layout(layout):
    scene = Scene.of(random_triangles(4, 1), 24)

    def gradient(render, dtype):
        points = scene.points.clone().to(dtype).requires_grad_()
        depth = render(points, scene.faces, scene.face_count, scene.mesh_of_view, scene.image_size, scene.sigma)
        shown = layout(depth)
        (alpha(shown) * torch.arange(shown.numel()).reshape(shown.shape)).sum().backward()
        return points.grad

    found, expected = gradient(WARP, torch.float32), gradient(load_renderer("torch"), torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_points_in_any_memory_layout():
    scene = Scene.of(random_triangles(4, 1), 24)
    strided = scene.points.transpose(0, 2).contiguous().transpose(0, 2)
    assert not strided.is_contiguous()
    expected, _ = scene.run(WARP)
    scene.points = strided
    torch.testing.assert_close(scene.run(WARP)[0], expected, rtol=0, atol=0)


def test_softness_may_lie_on_the_device_and_change_there(device):
    batch = MeshBatch.of([icosphere(1)], device)
    points = project(batch.vertices, stack_cameras([Camera(20, 10, 1.2)], device)).requires_grad_()
    views = torch.zeros(1, dtype=torch.int32, device=device)
    there = torch.zeros((), device=device)
    for sigma in (1e-4, 2e-5):
        there.fill_(sigma)
        results = []
        for softness in (sigma, there):
            depth = WARP(points, batch.faces, batch.face_count, views, 32, softness)
            (gradient,) = torch.autograd.grad(alpha(depth).square().sum(), points)
            results.append((depth.detach(), gradient))
        torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
        assert results[0][1].abs().max() > 0


def test_no_views_give_no_images():
    scene = Scene(torch.zeros((0, 3, 3)), [[[0, 1, 2]]], [1], torch.zeros(0, dtype=torch.int32), 16)
    depth, gradient = scene.run(WARP)
    assert depth.shape == (0, 16, 16)
    assert gradient.shape == (0, 3, 3)


def test_repeats_are_the_same():
    """One triangle after another on a CPU: the same bits every time."""
    scene = Scene.of(random_triangles(40, 8), 33)
    for one, other in zip(scene.run(WARP), scene.run(WARP), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_blur_radius_is_where_a_triangle_adds_a_ten_thousandth():
    assert blur_radius(1e-4) == pytest.approx(1e-4 * math.log(9999), rel=1e-12)
    assert 1 / (1 + math.exp(blur_radius(1e-3) / 1e-3)) == pytest.approx(1e-4, rel=1e-9)


def test_pixel_centres_are_the_formula():
    centres = pixel_centres(5).reshape(5, 5, 2)
    for i in range(5):
        for j in range(5):
            np.testing.assert_allclose(centres[i, j], [1 - (2 * j + 1) / 5, 1 - (2 * i + 1) / 5], atol=1e-7)


def test_an_unknown_renderer_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match="'opengl' is unknown; choose warp, torch, pytorch3d"):
        load_renderer("opengl")
