"""The losses against hints of depth and normals: planes in closed form, and gradients by finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import finite_difference, icosphere

from refine_batch.cameras.camera import Camera, camera_axes, camera_position, cameras_from_parameters, parameters_of
from refine_batch.losses.hints import (
    DEPTH_SCALE,
    NORMAL_SCALE,
    Scaling,
    Seen,
    depth_hint_loss,
    fitted,
    normal_hint_loss,
    seen_surface,
)
from refine_batch.render.pixels import pixel_centres

SIZE = 12
CAMERA = Camera(azimuth=35, elevation=20, distance=2.0, fov=40, roll=10, offset_x=0.1, offset_y=-0.05)


def scaling(kind: str) -> Scaling:
    relative = torch.tensor([kind != "metric"])
    return Scaling(relative, relative & (kind != "scale"), torch.tensor([kind == "inverse"]))


def doubles(camera: Camera):
    return cameras_from_parameters(parameters_of([camera]))


def tilted_plane() -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """One large triangle whose plane fills the picture, with a point of it and its normal in object space."""
    right, up, forward = camera_axes(CAMERA).T
    normal = -forward + 0.4 * right - 0.3 * up
    normal /= np.linalg.norm(normal)
    across = np.cross(normal, up)
    across /= np.linalg.norm(across)
    along = np.cross(normal, across)
    corners = [20 * across, -10 * across + 17 * along, -10 * across - 17 * along]
    vertices = torch.tensor(np.stack(corners))[None]
    return vertices, torch.tensor([[[0, 1, 2]]], dtype=torch.int32), np.zeros(3), normal


def test_depth_and_normal_of_a_plane_at_every_pixel():
    vertices, faces, point, normal = tilted_plane()
    face = torch.zeros((1, SIZE, SIZE), dtype=torch.int32)
    seen = seen_surface(vertices, faces, doubles(CAMERA), face)
    eye, axes = camera_position(CAMERA), camera_axes(CAMERA)
    focal = 1.0 / math.tan(math.radians(CAMERA.fov / 2))
    ndc = pixel_centres(SIZE, "cpu").double().numpy() - [CAMERA.offset_x, CAMERA.offset_y]
    # Rays of depth 1 in object space: the point where they meet the plane lies as deep as they are long.
    rays = np.concatenate([ndc / focal, np.ones((len(ndc), 1))], axis=1) @ axes.T
    expected = ((point - eye) @ normal) / (rays @ normal)
    assert seen.hit.all()
    np.testing.assert_allclose(seen.depth[0], expected, rtol=1e-6)
    in_camera = normal @ axes * [-1.0, 1.0, -1.0]
    np.testing.assert_allclose(seen.normal[0], np.tile(in_camera, (SIZE * SIZE, 1)), atol=1e-9)
    assert in_camera[2] > 0


def test_a_triangle_s_winding_does_not_matter_and_chosen_pixels_are_those_of_all():
    vertices, faces, _, _ = tilted_plane()
    face = torch.zeros((1, SIZE, SIZE), dtype=torch.int32)
    both = [seen_surface(vertices, f, doubles(CAMERA), face) for f in (faces, faces.flip(-1))]
    torch.testing.assert_close(both[0].normal, both[1].normal)
    pixel = torch.tensor([[3, 50, 77]])
    some = seen_surface(vertices, faces, doubles(CAMERA), face, pixel)
    torch.testing.assert_close(some.depth, both[0].depth[:, pixel[0]])


def test_nothing_is_seen_where_no_triangle_is_and_along_a_grazing_ray():
    vertices, faces, _, _ = tilted_plane()
    face = torch.zeros((1, SIZE, SIZE), dtype=torch.int32)
    face[0, 0, 0] = -1
    assert not seen_surface(vertices, faces, doubles(CAMERA), face).hit[0, 0]
    # Seen from within the plane, nearly.
    _, _, _, normal = tilted_plane()
    x, y, z = np.cross(normal, [0.3, 1.0, 0.2]) / np.linalg.norm(np.cross(normal, [0.3, 1.0, 0.2])) + 0.01 * normal
    aside = replace(CAMERA, azimuth=math.degrees(math.atan2(x, z)), elevation=math.degrees(math.asin(y)), fov=1.0)
    aside = replace(aside, offset_x=0.0, offset_y=0.0)
    assert not seen_surface(vertices, faces, doubles(aside), torch.zeros_like(face)).hit.any()


def surface(depth: torch.Tensor) -> Seen:
    depth = depth[None]
    return Seen(depth, torch.zeros((*depth.shape, 3), dtype=depth.dtype), torch.ones_like(depth, dtype=torch.bool))


DEPTH = torch.linspace(1.6, 2.3, 40, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("metric", DEPTH),
        ("scale", 3.7 * DEPTH),
        ("relative", 0.4 * DEPTH - 0.3),
        ("inverse", 5.0 / DEPTH + 2.0),
    ],
)
def test_a_hint_that_is_right_up_to_what_is_not_known_costs_nothing(kind, hint):
    assert float(depth_hint_loss(surface(DEPTH), hint[None], scaling(kind))) == pytest.approx(0.0, abs=1e-12)


def test_depth_that_is_off_costs_a_pseudo_huber_square():
    off = 0.05
    found = depth_hint_loss(surface(DEPTH), DEPTH[None] + off, scaling("metric"))
    assert float(found) == pytest.approx(2 * DEPTH_SCALE**2 * (math.sqrt(1 + (off / DEPTH_SCALE) ** 2) - 1))
    # Small residuals count by their square.
    small = depth_hint_loss(surface(DEPTH), DEPTH[None] + 1e-4, scaling("metric"))
    assert float(small) == pytest.approx(1e-8, rel=1e-4)


def test_only_what_is_told_and_seen_counts_and_what_is_not_seen_is_no_gain_for_the_rest():
    hint = DEPTH[None] + 0.05
    whole = float(depth_hint_loss(surface(DEPTH), hint, scaling("metric")))
    half = hint.clone()
    half[:, ::2] = torch.nan
    assert float(depth_hint_loss(surface(DEPTH), half, scaling("metric"))) == pytest.approx(whole)
    seen = surface(DEPTH)
    seen.hit[:, ::4] = False
    assert float(depth_hint_loss(seen, hint, scaling("metric"))) == pytest.approx(0.75 * whole)


def test_a_hint_that_runs_the_other_way_tells_nothing():
    assert float(depth_hint_loss(surface(DEPTH), 3.0 - DEPTH[None], scaling("relative"))) == 0.0


def test_a_few_outliers_hardly_move_scale_and_shift():
    hint = (DEPTH - 0.5) / 2.0
    hint[15:18] += 0.3
    scale, shift = fitted(hint[None], DEPTH[None], torch.ones_like(DEPTH[None], dtype=torch.bool), scaling("relative"))
    plain = np.polyfit(hint.numpy(), DEPTH.numpy(), 1)
    assert abs(float(scale) - 2.0) < 0.5 * abs(plain[0] - 2.0)
    assert abs(float(shift) - 0.5) < 0.5 * abs(plain[1] - 0.5)


def test_normals_cost_by_their_angle():
    angle = math.radians(25)
    normal = torch.tensor([[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    hint = torch.tensor([[[math.sin(angle), 0.0, math.cos(angle)], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    seen = Seen(torch.ones(1, 2), normal, torch.ones((1, 2), dtype=torch.bool))
    one = NORMAL_SCALE * (math.sqrt(1 + 2 * (1 - math.cos(angle)) / NORMAL_SCALE) - 1)
    assert float(normal_hint_loss(seen, hint)) == pytest.approx(one / 2)
    hint[0, 1] = torch.nan
    assert float(normal_hint_loss(seen, hint)) == pytest.approx(one)


@pytest.mark.parametrize("what", ["depth", "normals"])
def test_gradients_are_those_of_finite_differences(what):
    mesh = icosphere(0)
    faces = torch.from_numpy(mesh.faces)[None]
    vertices = torch.from_numpy(mesh.vertices.astype(np.float64))[None].requires_grad_()
    random = np.random.default_rng(0)
    # Which triangle a pixel sees is given, so that it does not change.
    face = torch.from_numpy(random.integers(0, len(mesh.faces), (1, 5, 5)).astype(np.int32))
    depth = torch.from_numpy(random.uniform(1.6, 2.4, (1, 25)))
    normals = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(1, 25, 3))), dim=-1)

    def loss(x: torch.Tensor) -> torch.Tensor:
        seen = seen_surface(x, faces, doubles(CAMERA), face)
        if what == "depth":
            return depth_hint_loss(seen, depth, scaling("metric")).sum()
        return normal_hint_loss(seen, normals).sum()

    [gradient] = torch.autograd.grad(loss(vertices), [vertices])
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(gradient, finite_difference(loss, vertices.detach()), rtol=1e-4, atol=1e-7)
