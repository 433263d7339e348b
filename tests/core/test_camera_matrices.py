"""Cameras as matrices: closed forms, round trips for every pinhole, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from camera_writers import to_opengl
from hypothesis import assume, example, given
from hypothesis import strategies as st

from refine_batch.cameras.camera import Camera, cameras_from_parameters, parameters_of, project
from refine_batch.cameras.conversions import from_camera
from refine_batch.cameras.matrices import (
    about_z,
    camera_from_matrices,
    camera_of_pinhole,
    looking_near,
    matrices_of,
    pinhole_from_matrices,
)
from refine_batch.errors import ErrorKind, InstanceError

POINTS = np.random.default_rng(0).uniform(-0.4, 0.4, (20, 3))
IDENTITY = np.eye(4)
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
# Two units before the camera, its origin a float32's rounding beside the axis.
HARDLY_ASIDE = np.array([[1, 0, 0, 0], [0, 1, 0, 1.19e-7], [0, 0, 1, 2], [0, 0, 0, 1]])


def pixels_by_definition(intrinsics, extrinsics, points) -> np.ndarray:
    seen = points @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    return np.column_stack([(seen @ intrinsics.T)[:, :2] / seen[:, 2:], seen[:, 2]])


def pixels_of_camera(camera: Camera, width: int, height: int, points) -> np.ndarray:
    """Pixels of a picture that is padded to a square about its middle, by the projection that renders."""
    ndc = project(torch.tensor(points)[None], cameras_from_parameters(parameters_of([camera])))[0].numpy()
    side = max(width, height)
    padding = np.array([(side - width) // 2, (side - height) // 2])
    return np.column_stack([(1 - ndc[:, :2]) * side / 2 - padding, ndc[:, 2]])


@st.composite
def matrices(draw):
    """(intrinsics, extrinsics, width, height) of a camera that stands and looks anywhere, over square pixels."""
    quaternion = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)))
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    vector = np.array([x, y, z])
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = (w * w - vector @ vector) * np.eye(3) + 2 * np.outer(vector, vector) + 2 * w * cross
    extrinsics[:3, 3] = [draw(st.floats(-3, 3)), draw(st.floats(-3, 3)), draw(st.floats(-3, 10))]
    focal = draw(st.floats(30, 2000))
    cx, cy = draw(st.floats(-300, 900)), draw(st.floats(-300, 900))
    intrinsics = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
    return intrinsics, extrinsics, draw(st.integers(1, 800)), draw(st.integers(1, 800))


@given(matrices(), st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_any_pinhole_over_square_pixels_is_exactly_a_camera(given_, centre):
    intrinsics, extrinsics, width, height = given_
    # The object is where the camera sees it; its own origin may be anywhere, even behind.
    points = (POINTS - extrinsics[:3, 3] + [0, 0, 2]) @ extrinsics[:3, :3]
    middle = (np.array(centre) - extrinsics[:3, 3] + [0, 0, 2]) @ extrinsics[:3, :3]
    camera, size = camera_from_matrices(intrinsics, extrinsics, "opencv", width, height, middle)
    assert size == (width, height)
    assert camera.distance == pytest.approx(2 + centre[2])
    expected = pixels_by_definition(intrinsics, extrinsics, points)
    found = pixels_of_camera(camera, width, height, points)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-6 * max(width, height, intrinsics[0, 0]))
    again = matrices_of(camera, width, height)
    np.testing.assert_allclose(again[0], intrinsics, rtol=1e-9, atol=1e-7 * max(width, height, intrinsics[0, 0]))
    np.testing.assert_allclose(again[1], extrinsics, atol=as_near_as(camera))


def as_near_as(camera: Camera) -> float:
    """A target within 1e-7 of the distance from the origin, on each axis, is taken to be the origin."""
    return 1.8e-7 * max(1.0, camera.distance)


@example((np.diag([50.0, 50.0, 1.0]), HARDLY_ASIDE, 32, 32))
@given(matrices())
def test_without_a_centre_it_is_the_same_camera(given_):
    intrinsics, extrinsics, width, height = given_
    camera, _ = camera_from_matrices(intrinsics, extrinsics, "opencv", width, height)
    assert camera.distance == pytest.approx(extrinsics[2, 3] if extrinsics[2, 3] > 1e-9 else 1.0)
    np.testing.assert_allclose(matrices_of(camera, width, height)[1], extrinsics, atol=as_near_as(camera))
    # The target is the axis' nearest point to the origin, or a point of the axis at all.
    seen = extrinsics[:3, :3] @ camera.target + extrinsics[:3, 3]
    np.testing.assert_allclose(seen, [0, 0, camera.distance], atol=1e-6)


@given(matrices(), st.floats(0.01, 100))
def test_other_axes_and_a_scale_say_the_same(given_, scale):
    intrinsics, extrinsics, width, height = given_
    assume(extrinsics[2, 3] > 0.01)
    expected, _ = camera_from_matrices(intrinsics, extrinsics, "opencv", width, height)
    scaled = FLIP @ extrinsics
    scaled[:3] *= scale
    flat = [intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]]
    found, _ = camera_from_matrices(flat, scaled[:3].reshape(-1).tolist(), "opengl", width, height)
    for one, other in zip(matrices_of(found, 100, 100), matrices_of(expected, 100, 100), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_a_camera_by_hand():
    """At (0, 0, 2) looking along −z with y up: azimuth 0, elevation 0; f = 100 over 200 pixels is 90° of view."""
    extrinsics = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2, 0, 0, 0, 1]
    camera, _ = camera_from_matrices([100, 100, 120, 90], extrinsics, "opencv", 200, 200)
    expected = Camera(0, 0, 2, 90, 0, offset_x=-0.2, offset_y=0.1)
    numbers = ("azimuth", "elevation", "distance", "fov", "roll", "offset_x", "offset_y", "target")
    for name in numbers:
        assert getattr(camera, name) == pytest.approx(getattr(expected, name)), name
    assert camera.projection == "perspective"


def test_a_mesh_in_the_cameras_frame():
    """The camera stands at the origin, the object at (0.1, 0.2, −3) of OpenGL's axes; a picture of 640 × 480."""
    camera, _ = camera_from_matrices([500, 500, 320, 240], IDENTITY, "opengl", 640, 480, centre=(0.1, 0.2, -3.0))
    assert camera.distance == pytest.approx(3)
    assert camera.target == pytest.approx((0, 0, -3))
    found = pixels_of_camera(camera, 640, 480, np.array([[0.1, 0.2, -3.0]]))
    np.testing.assert_allclose(found, [[320 + 500 * 0.1 / 3, 240 - 500 * 0.2 / 3, 3]], atol=1e-9)


def test_the_same_camera_may_look_nearer():
    camera = Camera(30, 20, 5, 40, 10, 0.1, -0.2, (0.3, 0.2, 0.1))
    moved = looking_near(camera, (1, 1, 1))
    assert moved.distance != pytest.approx(5)
    for one, other in zip(matrices_of(moved, 64, 48), matrices_of(camera, 64, 48), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    with pytest.raises(InstanceError, match="behind the camera"):
        looking_near(camera, (100, 100, 100))


def test_straight_down():
    """From (0, 3, 0) with the picture's upper edge towards −z: x right, y down is +z."""
    extrinsics = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 3]]
    camera, _ = camera_from_matrices([50, 50, 50, 50], extrinsics, "opencv", 100, 100)
    assert camera.elevation == pytest.approx(90)
    np.testing.assert_allclose(matrices_of(camera, 100, 100)[1][:3], extrinsics, atol=1e-9)


@pytest.mark.parametrize(
    ("fx", "fy", "size"), [(200, 300, (450, 200)), (300, 200, (300, 300)), (200, 200.5, (300, 200))]
)
def test_pixels_that_are_not_square(fx, fy, size):
    """The picture is resized so that they are, and the camera is that picture's."""
    intrinsics = np.array([[fx, 0, 140.0], [0, fy, 110], [0, 0, 1]])
    extrinsics = matrices_of(Camera(40, -20, 2.5, roll=15, target=(0.1, 0, 0)), 10, 10)[1]
    camera, found = camera_from_matrices(intrinsics, extrinsics, "opencv", 300, 200)
    assert found == size
    expected = pixels_by_definition(intrinsics, extrinsics, POINTS)[:, :2] * [size[0] / 300, size[1] / 200]
    np.testing.assert_allclose(pixels_of_camera(camera, *size, POINTS)[:, :2], expected, atol=0.5)


def test_angles_meant_about_z():
    """From +x and a little above, z up: a point higher on z is higher in the picture, one further on y to the right."""
    camera = about_z(Camera(90, 30, 2, 60, 0, 0.1, 0.2, (0.2, 0.1, 0.3)))
    x, y, z = np.linalg.inv(matrices_of(camera, 2, 2)[1])[:3, 3] - (0.2, 0.1, 0.3)
    assert (x, y, z) == pytest.approx((2 * math.cos(math.radians(30)), 0, 1))
    base, up, along = pixels_of_camera(camera, 100, 100, np.array([[0.2, 0.1, 0.3], [0.2, 0.1, 0.4], [0.2, 0.2, 0.3]]))
    assert base[:2] == pytest.approx([45, 40])
    assert up[0] == pytest.approx(45)
    assert up[1] < 40
    assert along[0] > 45
    assert along[1] == pytest.approx(40)
    # Azimuth 0 looks from −y, as Blender's front view does.
    assert from_camera(about_z(Camera(0, 0, 2)), 2).centre == pytest.approx([0, -2, 0])
    assert from_camera(about_z(Camera(10, 90, 2)), 2).centre == pytest.approx([0, 0, 2])


def test_camera_to_world_is_the_inverse():
    camera = Camera(70, -15, 1.7, roll=40, target=(0.1, 0.2, -0.1))
    world_to_camera = FLIP @ matrices_of(camera, 2, 2)[1]
    np.testing.assert_allclose(to_opengl(from_camera(camera, 2))[0] @ world_to_camera, IDENTITY, atol=1e-12)


BEFORE = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"axes": "blender"}, "opencv or opengl"),
        ({"extrinsics": BEFORE.T}, "by columns"),
        ({"extrinsics": np.diag([1.0, 1, -1, 1])}, "mirror"),
        ({"extrinsics": np.zeros((3, 4))}, "flatten"),
        ({"extrinsics": BEFORE @ np.diag([1.0, 1, 1.1, 1])}, "shear"),
        ({"extrinsics": list(range(11))}, "16 or 12 numbers, not 11"),
        ({"extrinsics": BEFORE * math.nan}, "0, 0, 0, 1|NaN"),
        ({"extrinsics": [[1, 0, 0, math.nan], [0, 1, 0, 0], [0, 0, 1, 2]]}, "NaN"),
        ({"extrinsics": "eye"}, "numbers"),
        ({"intrinsics": [100, 100]}, "fx, fy, cx, cy"),
        ({"intrinsics": [0, 100, 5, 5]}, "> 0"),
        ({"intrinsics": [100, 1000, 5, 5]}, "times as wide"),
        ({"intrinsics": [[100, 9, 50], [0, 100, 50], [0, 0, 1]]}, "skewed"),
        ({"width": 0}, "0×100 pixels"),
        ({"centre": (0, 0, -5)}, "camera to world"),
    ],
)
def test_what_is_refused(changed, message):
    given = {"intrinsics": [100, 100, 50, 50], "extrinsics": BEFORE, "axes": "opencv", "width": 100, "height": 100}
    camera_from_matrices(**given)
    with pytest.raises(InstanceError, match=message) as refused:
        camera_from_matrices(**(given | changed))
    assert refused.value.kind is ErrorKind.CAMERA_INVALID


def test_a_pinhole_and_its_camera_agree_on_an_odd_square():
    """101 × 100 pixels: the padding is a whole pixel, on one side."""
    pinhole = pinhole_from_matrices([80, 80, 50.5, 50], BEFORE, "opencv", 101, 100)
    found = pixels_of_camera(camera_of_pinhole(pinhole), 101, 100, POINTS)
    np.testing.assert_allclose(found, pinhole.project(POINTS), atol=1e-9)
