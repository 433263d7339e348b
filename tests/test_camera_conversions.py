"""Conversions of cameras: each convention on a known point by hand, round trips, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from camera_writers import to_colmap, to_opencv, to_opengl, to_pytorch3d
from hypothesis import assume, given
from hypothesis import strategies as st

from refine_batch.cameras.camera import Camera, camera_position, project, stack_cameras
from refine_batch.cameras.conversions import (
    BLENDER_FROM_Y_UP,
    from_camera,
    from_colmap,
    from_opencv,
    from_opengl,
    from_pytorch3d,
    to_camera,
)
from refine_batch.cameras.pinhole import (
    Pinhole,
    Placement,
    moved_pixels,
    nearest_on_axis,
    rotation_matrix,
    turned_to_origin,
)
from refine_batch.errors import ErrorKind, InstanceError

POINTS = np.random.default_rng(0).uniform(-0.4, 0.4, (20, 3))
K = [[100.0, 0.0, 40.0], [0.0, 100.0, 60.0], [0.0, 0.0, 1.0]]

cameras = st.builds(
    Camera,
    azimuth=st.floats(-360, 360),
    elevation=st.floats(-89.9, 89.9),
    distance=st.floats(0.8, 20),
    fov=st.floats(5, 120),
    roll=st.floats(-180, 180),
    offset_x=st.floats(-3, 3),
    offset_y=st.floats(-3, 3),
)
unit_quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)
vectors = st.tuples(*[st.floats(-2, 2)] * 3).map(np.array)


def rotation_of(quaternion) -> np.ndarray:
    return from_colmap(quaternion, [0, 0, 1], "SIMPLE_PINHOLE", [1, 0, 0], (1, 1)).rotation


@st.composite
def pinholes(draw) -> Pinhole:
    """Cameras that look anywhere, with pixels of any shape, the origin before them and at most 50° off the axis."""
    depth = draw(st.floats(1, 10))
    sideways = draw(st.floats(0, math.tan(math.radians(50)))) * depth
    around = draw(st.floats(0, 2 * math.pi))
    translation = [sideways * math.cos(around), sideways * math.sin(around), depth]
    intrinsics = [
        [draw(st.floats(50, 500)), draw(st.floats(-5, 5)), draw(st.floats(-100, 300))],
        [0, draw(st.floats(50, 500)), draw(st.floats(-100, 300))],
        [0, 0, 1],
    ]
    size = draw(st.integers(10, 300)), draw(st.integers(10, 300))
    return from_opencv(rotation_of(draw(unit_quaternions)), translation, intrinsics, size)


def ndc_of(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixels to NDC by the definition of the padded square: +x left, +y up, its centre at 0."""
    side = max(width, height)
    padded = pixels + np.array([(side - width) // 2, (side - height) // 2])
    return 1.0 - 2.0 * padded / side


def same_camera(a: Camera, b: Camera) -> bool:
    straight = [math.isclose(getattr(a, n), getattr(b, n), rel_tol=1e-9, abs_tol=1e-7) for n in ("distance", "fov")]
    offsets = [abs(getattr(a, n) - getattr(b, n)) < 1e-7 for n in ("offset_x", "offset_y")]
    angles = [abs(math.remainder(getattr(a, n) - getattr(b, n), 360)) < 1e-6 for n in ("azimuth", "elevation", "roll")]
    return all(straight + offsets + angles)


@given(cameras, st.integers(1, 2000))
def test_a_camera_comes_back_from_its_pinhole(camera, size):
    assert same_camera(to_camera(from_camera(camera, size)), camera)


@given(cameras)
def test_a_pinhole_sees_each_point_where_the_camera_does(camera):
    seen = project(torch.tensor(POINTS)[None].float(), stack_cameras([camera]))[0].double().numpy()
    assume(seen[:, 2].min() > 0.05)
    pinhole = from_camera(camera, 100)
    found = pinhole.project(POINTS)
    np.testing.assert_allclose(ndc_of(found[:, :2], 100, 100), seen[:, :2], atol=2e-3, rtol=1e-3)
    np.testing.assert_allclose(found[:, 2], seen[:, 2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pinhole.centre, camera_position(camera), atol=1e-9)


@given(pinholes())
def test_every_convention_gives_back_what_it_took(pinhole):
    size = pinhole.width, pinhole.height
    rotation, translation, intrinsics = to_opencv(pinhole, first_pixel=0.0)
    back = [from_opencv(rotation, translation, intrinsics, size, first_pixel=0.0)]
    back.append(from_opengl(*to_opengl(pinhole), size))
    if pinhole.intrinsics[0, 1] == 0:
        back.append(from_colmap(*to_colmap(pinhole)[:2], "PINHOLE", to_colmap(pinhole)[2], size))
        r, t, focal, principal = to_pytorch3d(pinhole)
        back.append(from_pytorch3d(r, t, focal, size, principal_point=principal))
    for other in back:
        np.testing.assert_allclose(other.project(POINTS), pinhole.project(POINTS), rtol=1e-9, atol=1e-6)


@given(unit_quaternions)
def test_quaternions_come_back_whichever_way_round(quaternion):
    q = np.array(quaternion) / np.linalg.norm(quaternion)
    found, _, _ = to_colmap(from_colmap(quaternion, [0, 0, 1], "SIMPLE_PINHOLE", [1, 0, 0], (1, 1)))
    assert abs(abs(found @ q) - 1) < 1e-9


def test_opencv_on_a_point_by_hand():
    # Half a unit to the right and a quarter down at depth 2: 100·0.5/2 + 40 = 65, 100·0.25/2 + 60 = 72.5.
    pinhole = from_opencv(np.eye(3), [0, 0, 2], K, (80, 120))
    np.testing.assert_allclose(pinhole.project([[0.5, 0.25, 0.0]]), [[65.0, 72.5, 2.0]])
    centred = from_opencv(np.eye(3), [0, 0, 2], K, (80, 120), first_pixel=0.0)
    np.testing.assert_allclose(centred.project([[0.5, 0.25, 0.0]]), [[65.5, 73.0, 2.0]])


def test_colmap_on_a_point_by_hand():
    # A quarter turn about the viewing axis, (w, x, y, z) = (√½, 0, 0, √½): x to y, y to −x.
    half = math.sqrt(0.5)
    pinhole = from_colmap([half, 0, 0, half], [0, 0, 2], "PINHOLE", [100, 200, 40, 60], (80, 120))
    np.testing.assert_allclose(pinhole.project([[0.5, 0.25, 0.0]]), [[40 - 12.5, 60 + 50, 2.0]], atol=1e-12)


def test_opengl_on_a_point_by_hand():
    # At (1, 0, 5) looking along −z: the point is 0.5 to the left and 0.25 up, at depth 5.
    matrix = np.eye(4)
    matrix[:3, 3] = 1, 0, 5
    pinhole = from_opengl(matrix, K, (80, 120))
    np.testing.assert_allclose(pinhole.project([[0.5, 0.25, 0.0]]), [[40 - 10, 60 - 5, 5.0]], atol=1e-12)


def test_blender_on_a_point_by_hand():
    # Blender's camera looks along its −z; at (0, −3, 0) turned a quarter about x it looks along +y, z up. The y-up
    # object's point (0.3, 0.6, 0) stands at (0.3, 0, 0.6) of Blender's world.
    turn = np.array([[1, 0, 0, 0], [0, 0, -1, -3], [0, 1, 0, 0], [0, 0, 0, 1]], float)
    pinhole = from_opengl(turn, [[70.0, 0.0, 16.0], [0.0, 70.0, 32.0], [0.0, 0.0, 1.0]], (64, 48))
    about = pinhole.about(Placement(BLENDER_FROM_Y_UP))
    expected = [[16 + 70 * 0.3 / 3, 32 - 70 * 0.6 / 3, 3.0]]
    np.testing.assert_allclose(about.project([[0.3, 0.6, 0.0]]), expected, atol=1e-12)


def test_pytorch3d_on_a_point_by_hand():
    # Row vectors, x left: x_view = (0.5, 0.25, 2). NDC of the shorter side: 3·0.25 + 0.1 left of the centre.
    pinhole = from_pytorch3d(np.eye(3), [0, 0, 2], 3.0, (200, 100), principal_point=(0.1, -0.2))
    expected = [[100 - 50 * (0.75 + 0.1), 50 - 50 * (0.375 - 0.2), 2.0]]
    np.testing.assert_allclose(pinhole.project([[0.5, 0.25, 0.0]]), expected)


def test_the_look_at_camera_on_a_point_by_hand():
    # From +z, 2 away, 60° of view: +x of the object is right in the image, f = 100/(2·tan 30°).
    pinhole = from_camera(Camera(0, 0, 2.0, offset_x=0.5), 100)
    focal = 50 / math.tan(math.radians(30))
    np.testing.assert_allclose(pinhole.project([[0.5, 0.25, 0]]), [[25 + focal / 4, 50 - focal / 8, 2]], atol=1e-9)


@given(pinholes(), unit_quaternions, st.floats(0.1, 10), vectors)
def test_a_camera_about_a_placed_object_sees_it_in_the_same_pixels(pinhole, quaternion, scale, translation):
    placement = Placement(rotation_of(quaternion), scale, translation)
    seen, world = pinhole.about(placement).project(POINTS), pinhole.project(placement.apply(POINTS))
    front = world[:, 2] > 1e-3
    np.testing.assert_allclose(seen[front, :2], world[front, :2], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(seen[:, 2] * scale, world[:, 2], atol=1e-9)
    np.testing.assert_allclose(placement.inverse().apply(placement.apply(POINTS)), POINTS, atol=1e-9)


@given(pinholes())
def test_turning_to_the_origin_keeps_every_ray(pinhole):
    turned, homography = turned_to_origin(pinhole)
    assert turned.off_axis == 0
    np.testing.assert_allclose(turned.centre, pinhole.centre, atol=1e-9)
    small = POINTS * 0.1
    before, after = pinhole.project(small), turned.project(small)
    mapped = np.column_stack([before[:, :2], np.ones(len(small))]) @ homography.T
    np.testing.assert_allclose(mapped[:, :2] / mapped[:, 2:], after[:, :2], rtol=1e-6, atol=1e-4)
    # What comes out is what the narrower camera can hold, to the pixel.
    camera = to_camera(turned)
    ndc = project(torch.tensor(small)[None].float(), stack_cameras([camera]))[0, :, :2].double().numpy()
    np.testing.assert_allclose(ndc, ndc_of(after[:, :2], turned.width, turned.height), atol=1e-3, rtol=1e-3)


@given(pinholes(), st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 100), st.integers(1, 100))
def test_a_crop_moves_pixels_and_a_resize_scales_them(pinhole, left, top, width, height):
    seen = pinhole.project(POINTS * 0.1)[:, :2]
    cropped = pinhole.window(left, top, width, height)
    np.testing.assert_allclose(cropped.project(POINTS * 0.1)[:, :2], seen - [left, top], atol=1e-9)
    halved = cropped.resized(2 * width, 3 * height).project(POINTS * 0.1)[:, :2]
    np.testing.assert_allclose(halved, (seen - [left, top]) * [2, 3], atol=1e-9)


def test_a_crop_is_an_offset_and_a_narrower_view():
    camera = Camera(30, 20, 2.0, roll=10)
    crop = to_camera(from_camera(camera, 400).window(200, 0, 200, 200))
    assert crop.fov == pytest.approx(2 * math.degrees(math.atan(math.tan(math.radians(30)) / 2)))
    # The middle of the old image is at the left edge, lower corner: +x is left, +y up.
    assert (crop.offset_x, crop.offset_y) == pytest.approx((1.0, -1.0))
    assert (crop.azimuth, crop.elevation, crop.distance, crop.roll) == pytest.approx((30, 20, 2.0, 10))


@given(pinholes())
def test_moving_the_object_onto_the_axis_needs_no_turn(pinhole):
    k = pinhole.intrinsics.copy()
    k[0, 1], k[1, 1] = 0, k[0, 0]
    pinhole = Pinhole(pinhole.rotation, pinhole.translation, k, pinhole.width, pinhole.height)
    moved = Placement(translation=nearest_on_axis(pinhole))
    about = pinhole.about(moved)
    camera = to_camera(about)
    world = pinhole.project(moved.apply(POINTS * 0.1))
    ndc = project(torch.tensor(POINTS * 0.1)[None].float(), stack_cameras([camera]))[0, :, :2].double().numpy()
    np.testing.assert_allclose(ndc, ndc_of(world[:, :2], about.width, about.height), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("elevation", [90.0, -90.0])
@pytest.mark.parametrize("roll", [0.0, 77.0])
def test_looking_straight_down_or_up(elevation, roll):
    pinhole = from_camera(Camera(40.0, elevation, 2.0, roll=roll), 100)
    again = from_camera(to_camera(pinhole), 100)
    np.testing.assert_allclose(again.project(POINTS), pinhole.project(POINTS), atol=1e-5)


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(InstanceError) as caught:
        function(*arguments, **options)
    assert caught.value.kind is ErrorKind.CAMERA_INVALID
    return caught.value.message


def test_what_cannot_be_expressed_is_refused_with_its_reason():
    straight = from_opencv(np.eye(3), [0, 0, 2], K, (80, 120))
    aside = from_opencv(np.eye(3), [1, 0, 2], K, (80, 120))
    assert "26.6° past the origin" in refusal(to_camera, aside)
    assert "square" in refusal(to_camera, from_opencv(np.eye(3), [0, 0, 2], np.diag([100, 101, 1]), (80, 120)))
    assert "behind the camera" in refusal(to_camera, from_opencv(np.eye(3), [0, 0, -2], K, (80, 120)))
    assert "72° past the object" in refusal(turned_to_origin, from_opencv(np.eye(3), [3, 0, 1], K, (80, 120)))
    assert "mirrors" in refusal(rotation_matrix, np.diag([-1, 1, 1]))
    assert "not orthonormal" in refusal(rotation_matrix, np.diag([1.0, 1.0, 1.1]))
    assert "3×3 numbers, not 4×4" in refusal(rotation_matrix, np.eye(4))
    assert "NaN" in refusal(from_opencv, np.eye(3), [0, math.nan, 2], K, (80, 120))
    assert "undistort" in refusal(from_colmap, [1, 0, 0, 0], [0, 0, 1], "OPENCV", [1] * 8, (8, 8))
    assert "above 0" in refusal(Placement, scale=0.0)
    assert "fx, fy > 0" in refusal(from_opencv, np.eye(3), [0, 0, 2], np.diag([-1, 1, 1]), (80, 120))
    assert moved_pixels(straight, turned_to_origin(straight)[1]) == 0
    assert moved_pixels(aside, turned_to_origin(aside)[1]) > 10


def test_rounding_of_a_rotation_is_mended_and_the_input_left_alone():
    exact = rotation_of((0.3, -0.2, 0.8, 0.1))
    rounded = exact.round(5)
    mended = rotation_matrix(rounded)
    assert np.abs(mended @ mended.T - np.eye(3)).max() < 1e-12
    assert np.abs(mended - exact).max() < 1e-4
    assert np.array_equal(rounded, exact.round(5))
