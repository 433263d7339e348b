"""Orthographic cameras: against the formula, against a perspective camera from afar, and through a refinement."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapes import armchair
from subjects import subject

from refine_batch import Camera, Instance, RefineConfig, refine
from refine_batch.cameras.camera import (
    UnknownCamera,
    angle_between,
    camera_axes,
    cameras_from_parameters,
    parameters_of,
    project,
    rays_to,
)
from refine_batch.cameras.conversions import from_camera, to_camera
from refine_batch.cameras.matrices import about_z, camera_from_matrices, camera_of_pinhole, looking_near, matrices_of
from refine_batch.cameras.moving import MovingCameras
from refine_batch.cameras.pinhole import Placement
from refine_batch.errors import InstanceError
from refine_batch.instance import CameraError
from refine_batch.losses.hints import seen_surface
from refine_batch.mesh import Mesh
from refine_batch.methods.large_steps import large_steps
from refine_batch.refinement.camera_estimation import estimate_cameras
from refine_batch.render import hard_silhouettes
from refine_batch.render.pixels import pixel_centres

SIZE = 96
CHAIR = armchair()
ANGLES, SMALL = st.floats(-80, 80), st.floats(-0.4, 0.4)
CAMERAS = st.builds(
    Camera,
    *(st.floats(-180, 180), ANGLES, st.floats(0.3, 8), st.floats(10, 120), ANGLES, SMALL, SMALL),
    st.tuples(SMALL, SMALL, SMALL),
    st.just("orthographic"),
)
CAMERA = Camera(50.0, 25.0, 2.0, 40.0, 12.0, 0.1, -0.05, projection="orthographic")
POINTS = np.random.default_rng(3).uniform(-0.6, 0.6, (40, 3))


def seen(camera: Camera, points: np.ndarray = POINTS) -> np.ndarray:
    """(N, 2) NDC, float64 throughout."""
    cameras = cameras_from_parameters(parameters_of([camera]))
    return project(torch.tensor(points)[None], cameras)[0, :, :2].numpy()


@given(CAMERAS)
def test_a_point_is_seen_where_it_lies_across_the_axis(camera):
    left, up, _ = camera_axes(camera).T
    half = camera.distance * math.tan(math.radians(camera.fov) / 2)
    about = POINTS - camera.target
    expected = np.stack([about @ left, about @ up], axis=1) / half + [camera.offset_x, camera.offset_y]
    np.testing.assert_allclose(seen(camera), expected, atol=1e-9)


def test_a_perspective_camera_from_afar_sees_the_same():
    """To 1e-4 of the picture's width at ten thousand widths, and nearer the farther it is."""
    apart = []
    for distance in (1e3, 1e4, 1e5):
        fov = math.degrees(2 * math.atan(CAMERA.width / 2 / distance))
        far = replace(CAMERA, distance=distance, fov=fov, projection="perspective")
        apart.append(np.abs(seen(far) - seen(CAMERA)).max() / 2)
    assert apart[1] < 1e-4
    assert apart[0] / apart[1] == pytest.approx(10, rel=0.1)
    assert apart[1] / apart[2] == pytest.approx(10, rel=0.1)


@given(CAMERAS)
def test_pinholes_and_matrices_see_the_same_and_lead_back(camera):
    pinhole = from_camera(camera, 200)
    pixels = (1.0 - seen(camera)) * 100
    np.testing.assert_allclose(pinhole.project(POINTS)[:, :2], pixels, atol=1e-6)
    for again in (to_camera(pinhole), camera_of_pinhole(pinhole), camera_of_pinhole(pinhole, (0.3, 5.0, -0.2))):
        assert again.projection == "orthographic"
        np.testing.assert_allclose(seen(again), seen(camera), atol=1e-6)
    k, extrinsics = matrices_of(camera, 200, 120)
    again, size = camera_from_matrices(k.ravel(), extrinsics.ravel(), "opencv", 200, 120, projection="orthographic")
    assert size == (200, 120)
    np.testing.assert_allclose(seen(again), seen(camera), atol=1e-6)
    np.testing.assert_allclose(seen(looking_near(camera, (0.2, 0.1, 0.3))), seen(camera), atol=1e-6)


def test_scaled_extrinsics_and_placed_objects_are_as_large_as_they_say():
    k, extrinsics = matrices_of(CAMERA, 200, 200)
    extrinsics[:3] *= 2.5
    k[:2, :2] /= 2.5
    again, _ = camera_from_matrices(k.ravel(), extrinsics.ravel(), "opencv", 200, 200, projection="orthographic")
    np.testing.assert_allclose(seen(again), seen(CAMERA), atol=1e-9)
    placement = Placement(scale=3.0, translation=np.array([0.1, -0.2, 0.3]))
    pinhole = from_camera(CAMERA, 200)
    moved = pinhole.about(placement)
    np.testing.assert_allclose(moved.project(POINTS)[:, :2], pinhole.project(placement.apply(POINTS))[:, :2])
    # About z the same object, turned as Blender's importer turns it.
    upright = np.stack([POINTS[:, 0], -POINTS[:, 2], POINTS[:, 1]], axis=1)
    np.testing.assert_allclose(seen(about_z(CAMERA), upright), seen(CAMERA), atol=1e-9)


def test_nothing_lies_behind_it():
    near = replace(CAMERA, distance=0.02, fov=2 * math.degrees(math.atan(CAMERA.width / 2 / 0.02)))
    far = replace(CAMERA, distance=50.0, fov=2 * math.degrees(math.atan(CAMERA.width / 2 / 50.0)))
    one, other = (hard_silhouettes(CHAIR, [camera], SIZE)[0] for camera in (near, far))
    assert one.sum() > 500
    assert (one != other).sum() <= 2


def test_mirrored_cameras_see_mirrored_objects_with_sides_swapped():
    normal = np.array([0.6, 0.0, 0.8])
    reflected = POINTS - 2 * np.outer(POINTS @ normal - 0.1, normal)
    mirrored = seen(CAMERA.mirrored(tuple(normal), 0.1), reflected)
    np.testing.assert_allclose(mirrored * [-1, 1], seen(CAMERA), atol=1e-9)


def test_where_it_moves_is_where_it_ends():
    moving = MovingCameras([CAMERA, replace(CAMERA, target=(0.2, -0.1, 0.3))])
    moving.change = torch.tensor([[0.2, -0.1, 0.15], [-0.3, 0.1, -0.2]], dtype=torch.float64)
    points = torch.tensor(POINTS, dtype=torch.float32).expand(2, -1, -1)
    inside = project(points, moving.now())[..., :2].numpy()
    for end, now in zip(moving.ends(), inside, strict=True):
        np.testing.assert_allclose(seen(end), now, atol=1e-5)
    # Farther is smaller: the distance is the scale.
    assert moving.ends()[0].width == pytest.approx(CAMERA.width * math.exp(0.15))


def test_its_rays_are_parallel_and_meet_a_plane_where_it_is():
    rays = rays_to(POINTS, CAMERA)
    np.testing.assert_allclose(rays, np.broadcast_to(camera_axes(CAMERA)[:, 2], rays.shape), atol=1e-12)
    left, up, forward = camera_axes(CAMERA).T
    normal = -forward + 0.4 * left - 0.3 * up
    across = np.cross(normal, up)
    along = np.cross(normal, across)
    corners = np.stack([9 * across, -9 * across + 9 * along, -9 * across - 9 * along])
    cameras = cameras_from_parameters(parameters_of([CAMERA]))
    face = torch.zeros((1, 8, 8), dtype=torch.int32)
    found = seen_surface(torch.tensor(corners)[None], torch.tensor([[[0, 1, 2]]], dtype=torch.int32), cameras, face)
    x, y = ((pixel_centres(8, "cpu").double().numpy() - [CAMERA.offset_x, CAMERA.offset_y]) * CAMERA.width / 2).T
    # (x, y, z)·(0.4, −0.3, −1) = 0 about the origin, which lies at the distance.
    np.testing.assert_allclose(found.depth[0], CAMERA.distance + 0.4 * x - 0.3 * y, atol=1e-5)
    assert found.hit.all()


def test_a_projection_that_there_is_not():
    camera = replace(CAMERA)
    object.__setattr__(camera, "projection", "fisheye")  # as a caller without a type checker may
    with pytest.raises(InstanceError, match="'fisheye'; it must be perspective or orthographic"):
        camera.check("a")


def test_it_is_estimated():
    true = Camera(50.0, 25.0, 2.0, 40.0, projection="orthographic")
    mask = hard_silhouettes(CHAIR, [true], SIZE)[0]
    found = estimate_cameras(CHAIR, mask, UnknownCamera(fov=40.0, projection="orthographic"))[0].camera
    assert found.projection == "orthographic"
    assert angle_between(found, true) < 5
    assert found.width == pytest.approx(true.width, rel=0.03)


def test_shape_and_camera_are_refined_by_it():
    """An orthographic picture of a wider chair, by a camera that is 6° and 5 % off."""
    true = Camera(50.0, 25.0, 2.0, 40.0, projection="orthographic")
    coarse = Mesh(CHAIR.vertices * np.float32([0.8, 1, 1]), CHAIR.faces)
    told = replace(true, azimuth=56.0, distance=2.1)
    mask = hard_silhouettes(CHAIR, [true], SIZE)[0]
    image = np.repeat(mask[..., None] * np.uint8(160), 3, axis=2)
    config = RefineConfig(method="large-steps", steps=120, image_size=SIZE, figures="fast", figure_samples=500)
    instance = Instance("chair", coarse, image, mask, told, camera_error=CameraError(5.0, 0.1), ground_truth=CHAIR)
    [result] = refine([instance], config)
    assert (result.status, result.camera_source) == ("refined", "corrected")
    assert result.camera is not None
    assert result.camera.projection == "orthographic"
    assert result.after.iou_2d > max(0.95, result.before.iou_2d)
    assert result.after.chamfer_l2 < result.before.chamfer_l2
    # The row's matrices see what its camera sees.
    side = round(2 * result.intrinsics[2])
    again, _ = camera_from_matrices(
        result.intrinsics, result.extrinsics, "opencv", side, side, projection="orthographic"
    )
    np.testing.assert_allclose(seen(again), seen(result.camera), atol=1e-6)


def test_perspective_neighbours_of_a_batch_are_as_they_were():
    true = Camera(30.0, 20.0, 2.0, 40.0)
    coarse = Mesh(CHAIR.vertices * np.float32([0.8, 1, 1]), CHAIR.faces)
    config = RefineConfig(method="large-steps", steps=8, image_size=48)
    alone = subject("a", coarse, CHAIR, true, 48, "none")
    beside = subject("b", coarse, CHAIR, replace(true, projection="orthographic"), 48, "none")
    cpu = torch.device("cpu")
    [one], [again, _] = large_steps([alone], config, cpu), large_steps([alone, beside], config, cpu)
    np.testing.assert_allclose(one.vertices, again.vertices, atol=2e-6)
