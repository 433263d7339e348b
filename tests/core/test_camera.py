"""The camera's conventions against the formulas written out in numpy, and against points whose image is known."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from shapes import box

from refine_batch.cameras.camera import (
    Camera,
    camera_position,
    cameras_from_parameters,
    parameters_of,
    project,
    stack_cameras,
)
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.mesh import Mesh
from refine_batch.render import hard_silhouettes

AZIMUTHS = st.floats(-360, 360)
# Straight up and down have tests of their own.
ELEVATIONS = st.floats(-89, 89)
DISTANCES = st.floats(0.5, 10)
OFFSETS = st.floats(-0.5, 0.5)
# Beyond straight up the camera hangs upside down on the other side.
ANY_ELEVATIONS = ELEVATIONS | st.floats(91, 269)
FOVS, ROLLS = st.floats(20, 120), st.floats(-180, 180)
CAMERAS = st.builds(Camera, AZIMUTHS, ANY_ELEVATIONS, DISTANCES, FOVS, ROLLS, OFFSETS, OFFSETS)
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def projected(camera: Camera, points) -> np.ndarray:
    """The project's answer for one camera, float64 throughout."""
    cameras = cameras_from_parameters(parameters_of([camera]))
    return project(torch.as_tensor(np.asarray(points, dtype=np.float64))[None], cameras)[0].numpy()


def look_at(azimuth: float, elevation: float, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """R and T as written: z = −C/|C|, x = normalise(up × z), y = z × x, T = −C·R."""
    a, e = math.radians(azimuth), math.radians(elevation)
    position = distance * np.array([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])
    z = -position / np.linalg.norm(position)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z], axis=1)
    return rotation, -position @ rotation


@given(CAMERAS, st.integers(0, 2**32 - 1))
def test_projection_is_the_formula(camera, seed):
    points = np.random.default_rng(seed).uniform(-0.3, 0.3, (5, 3))
    rotation, translation = look_at(camera.azimuth, camera.elevation, camera.distance)
    x, y, z = (points @ rotation + translation).T
    r = math.radians(camera.roll)
    x, y = x * math.cos(r) + y * math.sin(r), -x * math.sin(r) + y * math.cos(r)
    scale = z * math.tan(math.radians(camera.fov) / 2)
    # A camera at distance 0.5 may have a point of this cube's corner beside it; behind is another test's.
    assume(z.min() > 0.01)
    expected = np.stack([x / scale + camera.offset_x, y / scale + camera.offset_y, z], axis=1)
    np.testing.assert_allclose(projected(camera, points), expected, rtol=1e-9, atol=1e-9)


def test_image_of_known_points():
    """From +z with a right angle of view, the point one unit before the camera has its own x and y for coordinates."""
    camera = Camera(azimuth=0, elevation=0, distance=2, fov=90)
    points = [[0.5, 0.25, 1.0], [0.0, 0.0, 0.0], [0.5, 0.25, 0.0]]
    # Object +x lies to the right of a viewer at +z, where NDC x falls; +y is up in both.
    np.testing.assert_allclose(projected(camera, points), [[-0.5, 0.25, 1], [0, 0, 2], [-0.25, 0.125, 2]], atol=1e-12)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "place"),
    [(0, 0, (0, 0, 2)), (90, 0, (2, 0, 0)), (180, 0, (0, 0, -2)), (0, 90, (0, 2, 0)), (45, 0, (2**0.5, 0, 2**0.5))],
)
def test_position_of_known_directions(azimuth, elevation, place):
    np.testing.assert_allclose(camera_position(Camera(azimuth, elevation, 2)), place, atol=1e-12)


@given(st.floats(-179, 179), ELEVATIONS, DISTANCES)
def test_position_gives_the_direction_back(azimuth, elevation, distance):
    x, y, z = camera_position(Camera(azimuth, elevation, distance))
    found = math.hypot(x, y, z)
    assert found == pytest.approx(distance, rel=1e-12)
    assert math.degrees(math.atan2(x, z)) == pytest.approx(azimuth, abs=1e-7)
    assert math.degrees(math.asin(y / found)) == pytest.approx(elevation, abs=1e-6)


@given(CAMERAS)
def test_origin_lies_at_the_principal_point_at_the_distance(camera):
    expected = [camera.offset_x, camera.offset_y, camera.distance]
    np.testing.assert_allclose(projected(camera, [[0, 0, 0]])[0], expected, atol=1e-9)


def test_roll_turns_the_axes():
    """x' = x·cos r + y·sin r: a quarter turn shows on +x what lay on +y, and on +y what lay on −x."""
    upright = Camera(azimuth=0, elevation=0, distance=2, fov=90)
    x, y, z = projected(upright, [[0.5, 0.25, 1.0]])[0]
    np.testing.assert_allclose(projected(replace(upright, roll=90), [[0.5, 0.25, 1.0]])[0], [y, -x, z], atol=1e-12)


@given(CAMERAS)
def test_roll_is_about_the_principal_point_and_the_offset_is_added_last(camera):
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (4, 3))
    plain = projected(replace(camera, roll=0, offset_x=0, offset_y=0), points)
    r = math.radians(camera.roll)
    turned = plain[:, :2] @ np.array([[math.cos(r), -math.sin(r)], [math.sin(r), math.cos(r)]])
    expected = turned + np.array([camera.offset_x, camera.offset_y])
    np.testing.assert_allclose(projected(camera, points)[:, :2], expected, atol=1e-9)


@given(st.floats(-360, 360), st.floats(-1000, 1000), DISTANCES)
def test_rotation_is_a_rotation_whatever_the_angles(azimuth, elevation, distance):
    rotation = stack_cameras([Camera(azimuth, elevation, distance, roll=azimuth)]).rotation[0].double().numpy()
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("elevation", [90.0, -90.0])
@pytest.mark.parametrize("azimuth", [0.0, 37.0, 200.0])
def test_straight_up_and_down_are_the_limit(azimuth, elevation):
    near, _ = look_at(azimuth, elevation * (1 - 1e-7), 2.0)
    found = stack_cameras([Camera(azimuth, elevation, 2.0)]).rotation[0]
    np.testing.assert_allclose(found, near, atol=1e-6)


@given(CAMERAS, st.sampled_from(sorted(AXES)) | st.integers(0, 2**32 - 1), st.just(0.0) | st.floats(-0.3, 0.3))
def test_mirrored_camera_sees_the_mirrored_object_flipped(camera, plane, offset):
    """In the plane p·normal = offset, whichever it is."""
    if isinstance(plane, str):
        normal = np.array(AXES[plane])
    else:
        normal = np.random.default_rng(plane).normal(size=3)
        normal /= np.linalg.norm(normal)
    points = np.random.default_rng(1).uniform(-0.25, 0.25, (6, 3))
    reflected = points - 2 * (points @ normal - offset)[:, None] * normal
    expected = projected(camera, points) * [-1, 1, 1]
    np.testing.assert_allclose(projected(camera.mirrored(tuple(normal), offset), reflected), expected, atol=1e-5)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("camera", [Camera(15, 45, 1.9), Camera(200, -30, 1.5, fov=50, roll=25, offset_x=0.2)])
def test_mirrored_camera_of_a_symmetric_object_gives_the_flipped_image(camera, axis):
    """A box has all three planes of symmetry, so its image from the mirrored camera is its image, flipped."""
    mesh = box(0.7, 0.4, 0.5)
    size = 65
    [straight], [mirrored] = (hard_silhouettes(mesh, [c], size) for c in (camera, camera.mirrored(AXES[axis])))
    assert 0.05 < straight.mean() < 0.5
    # Rounding may settle a pixel centre that lies on an outline either way.
    assert (straight[:, ::-1] != mirrored).sum() <= 3
    assert (straight != mirrored).sum() > 50


def test_pixel_of_a_known_point():
    """A small triangle about (0.5, 0.25, 1), at NDC (−0.5, 0.25), is seen right of the middle and above it."""
    size = 32
    corners = np.array([0.5, 0.25, 1.0]) + 0.12 * np.array([[-1, -1, 0], [1, -1, 0], [0, 2, 0]])
    [image] = hard_silhouettes(Mesh(corners, np.array([[0, 1, 2]])), [Camera(0, 0, 2, fov=90)], size)
    rows, columns = np.nonzero(image)
    # 1 − (2j + 1)/H = −0.5 and 1 − (2i + 1)/H = 0.25 between the centres of two pixels.
    assert columns.mean() == pytest.approx((1.5 * size - 1) / 2, abs=0.5)
    assert rows.mean() == pytest.approx((0.75 * size - 1) / 2, abs=0.5)


def test_points_at_and_behind_the_camera_stay_finite_and_say_so():
    camera = stack_cameras([Camera(0, 0, 1)])
    found = project(torch.tensor([[[0.3, 0.1, 1.0], [0.3, 0.1, 4.0], [0.3, 0.1, 0.5]]]), camera)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[0, :, 2], torch.tensor([0.0, -3.0, 0.5]))


def test_differentiable_in_every_number():
    parameters = torch.tensor(
        [
            [30.0, 20.0, 1.5, 60.0, 5.0, 0.1, -0.2, 0.0, 0.0, 0.0],
            [200.0, -70.0, 2.0, 40.0, 0.0, 0.0, 0.0, 0.1, -0.2, 0.3],
        ],
        dtype=torch.float64,
    ).requires_grad_()
    orthographic = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    points = torch.rand((2, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    assert torch.autograd.gradcheck(
        lambda p: project(points, cameras_from_parameters(torch.cat([p, orthographic], dim=1))), parameters
    )


def test_stack_keeps_each_camera_its_own():
    cameras = [Camera(10, 20, 1.1), Camera(-50, 5, 3.0, fov=35, roll=12, offset_x=0.1, offset_y=-0.3)]
    both = stack_cameras(cameras)
    assert len(both) == 2
    for i, camera in enumerate(cameras):
        alone = stack_cameras([camera])
        for name, value in vars(alone).items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(getattr(both, name)[i : i + 1], value, rtol=0, atol=0)
        torch.testing.assert_close(both[[i]].rotation, alone.rotation, rtol=0, atol=0)
    assert len(stack_cameras([])) == 0


GOOD = Camera(10, 20, 1.5)


@pytest.mark.parametrize("field", [f.name for f in fields(Camera) if f.name not in ("target", "projection")])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_check_refuses_what_is_no_number(field, value):
    with pytest.raises(InstanceError, match=f"the thing: the camera's {field} is -?(nan|inf)") as raised:
        replace(GOOD, **{field: value}).check("the thing")
    assert raised.value.kind is ErrorKind.CAMERA_INVALID


def test_check_refuses_a_target_that_is_no_point():
    with pytest.raises(InstanceError, match="the thing: the camera's target is") as raised:
        replace(GOOD, target=(0.0, math.nan, 0.0)).check("the thing")
    assert raised.value.kind is ErrorKind.CAMERA_INVALID


@given(CAMERAS, st.tuples(*[st.floats(-2, 2)] * 3))
def test_a_target_moves_the_camera_and_nothing_else(camera, target):
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (5, 3))
    moved = replace(camera, target=target)
    np.testing.assert_allclose(projected(moved, points + target), projected(camera, points), atol=1e-9)
    np.testing.assert_allclose(camera_position(moved), camera_position(camera) + target, atol=1e-12)


@pytest.mark.parametrize(("field", "value"), [("distance", 0.0), ("distance", -1.0), ("fov", 0.0), ("fov", 180.0)])
def test_check_refuses_what_is_out_of_range(field, value):
    with pytest.raises(InstanceError, match=f"the thing: the camera's {field} is {value:g}") as raised:
        replace(GOOD, **{field: value}).check("the thing")
    assert raised.value.kind is ErrorKind.CAMERA_INVALID


def test_check_takes_every_usual_camera():
    for camera in (GOOD, Camera(400, -90, 1e-3, fov=179, roll=-720, offset_x=3)):
        camera.check("the thing")
