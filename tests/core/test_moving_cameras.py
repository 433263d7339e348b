"""Cameras as variables of an optimiser: what a change does to the picture, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from refine_batch.cameras.camera import Camera, Cameras, camera_position, project, stack_cameras
from refine_batch.cameras.moving import MovingCameras

AT_ORIGIN = [
    Camera(170.0, 20.0, 2.0, fov=45.0, roll=10.0, offset_x=0.1),
    Camera(-30.0, 80.0, 1.0),
    Camera(300.0, -35.0, 3.0, roll=-95.0, offset_y=-0.2),
]
PAST_IT = Camera(75.0, 15.0, 2.5, fov=50.0, roll=30.0, offset_x=0.1, target=(0.2, -0.1, 0.15))
CAMERAS = [*AT_ORIGIN, PAST_IT]
CHANGES = np.array([[20.0, -5.0, 1.5], [-7.0, 3.0, 0.9], [200.0, 10.0, 1.1], [9.0, -6.0, 1.2]])
POINTS = np.random.default_rng(0).uniform(-0.4, 0.4, (1, 20, 3))


def change_of(rows: np.ndarray) -> torch.Tensor:
    """(N, 3) from degrees, degrees and factors."""
    rows = np.asarray(rows, np.float64).reshape(-1, 3)
    return torch.from_numpy(np.column_stack([np.radians(rows[:, :2]), np.log(rows[:, 2])]))


def seen(cameras: Cameras, points: np.ndarray = POINTS) -> np.ndarray:
    return project(torch.from_numpy(points).float().expand(len(cameras), -1, -1), cameras).numpy()


@pytest.mark.parametrize("spread", [0.0, 0.1, math.inf])
def test_they_begin_at_their_starts(spread):
    """To the last bit, where they may not move."""
    moving = MovingCameras(CAMERAS, np.full((4, 3), spread))
    for now, start in zip(vars(moving.now()).values(), vars(stack_cameras(CAMERAS)).values(), strict=True):
        torch.testing.assert_close(now, start, rtol=0, atol=2e-7 if spread else 0)
    assert moving.ends() == CAMERAS
    assert moving.free == bool(spread)
    assert len(moving) == 4


def test_about_the_origin_a_change_is_of_the_cameras_own_numbers():
    """In radians, and of the logarithm of the distance."""
    moving = MovingCameras(AT_ORIGIN)
    change = change_of(CHANGES[:3])
    expected = [
        replace(c, azimuth=c.azimuth + turn, elevation=c.elevation + rise, distance=c.distance * factor)
        for c, (turn, rise, factor) in zip(AT_ORIGIN, CHANGES, strict=False)
    ]
    now = moving.now(change)
    for found, wanted in zip(vars(now).values(), vars(stack_cameras(expected)).values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    moving.change = change
    for end, wanted in zip(moving.ends(), expected, strict=True):
        assert (end.elevation, end.distance) == pytest.approx((wanted.elevation, wanted.distance))
        assert (end.azimuth - wanted.azimuth + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=1e-9)
        assert -180.0 <= end.azimuth < 180.0
        assert replace(end, azimuth=0, elevation=0, distance=1) == replace(wanted, azimuth=0, elevation=0, distance=1)


def test_past_the_origin_it_is_as_if_the_object_turned_in_the_picture():
    """About the upright axis, then about the picture's level one through the origin; then farther, in one place."""
    moving = MovingCameras([PAST_IT])
    [start] = stack_cameras([PAST_IT]).translation.double().numpy()
    turn, rise, factor = math.radians(25.0), math.radians(-12.0), 1.3
    rolled = stack_cameras([PAST_IT]).rotation[0].double().numpy()
    # A camera that rises sees what one at rest does of an object whose top comes nearer; that turns about the level
    # axis to the viewer's left (PyTorch3D's x before the roll) the other way round.
    left = np.cross([0.0, 1.0, 0.0], rolled[:, 2])
    about_y = Rotation.from_rotvec([0.0, -turn, 0.0])
    about_side = Rotation.from_rotvec(-rise * left / np.linalg.norm(left))
    turned = about_side.apply(about_y.apply(POINTS[0])) @ rolled
    expected = turned + factor * start
    found = moving.now(change_of([25.0, -12.0, 1.3]))
    np.testing.assert_allclose(
        POINTS[0] @ found.rotation[0].numpy() + found.translation[0].numpy(), expected, atol=1e-6
    )
    # The origin does not leave its place.
    origin = np.zeros((1, 1, 3))
    np.testing.assert_allclose(seen(found, origin)[..., :2], seen(stack_cameras([PAST_IT]), origin)[..., :2], atol=1e-6)


def test_about_its_target_a_camera_goes_on_looking_at_it():
    """And changes in nothing but its own numbers; another pivot is as if the world were moved there."""
    targets = np.array([camera.target for camera in CAMERAS])
    about = MovingCameras(CAMERAS, pivots=targets)
    about.change = change_of(CHANGES)
    for start, end, (_, rise, factor) in zip(CAMERAS, about.ends(), CHANGES, strict=True):
        assert end.target == start.target
        assert (end.elevation, end.distance) == pytest.approx((start.elevation + rise, start.distance * factor))
    np.testing.assert_allclose(seen(stack_cameras(about.ends())), seen(about.now()), atol=1e-5)
    shift = np.array([0.3, -0.2, 0.1])
    moved = [replace(c, target=tuple((np.array(c.target) + shift).tolist())) for c in CAMERAS]
    here, there = MovingCameras(CAMERAS), MovingCameras(moved, pivots=np.tile(shift, (4, 1)))
    here.change = there.change = change_of(CHANGES)
    np.testing.assert_allclose(seen(there.now(), POINTS + shift), seen(here.now()), atol=1e-5)
    np.testing.assert_allclose(seen(stack_cameras(there.ends()), POINTS + shift), seen(here.now()), atol=1e-5)


def test_where_they_end_is_where_they_are():
    """In the numbers of a camera, whatever it looks at."""
    moving = MovingCameras(CAMERAS, np.full((4, 3), 0.5))
    moving.change = change_of(CHANGES)
    np.testing.assert_allclose(seen(stack_cameras(moving.ends())), seen(moving.now()), atol=1e-5)
    assert [any(end.target) for end in moving.ends()] == [False, False, False, True]
    for end, now in zip(moving.ends(), range(4), strict=True):
        place = -(moving.now().translation[now] @ moving.now().rotation[now].T).numpy()
        np.testing.assert_allclose(place, camera_position(end), atol=1e-5)


@pytest.mark.parametrize("exact", [0, 1, 2])
def test_what_is_exact_stays_to_the_last_bit(exact):
    names = ("azimuth", "elevation", "distance")
    spread = np.full((4, 3), 0.2)
    spread[:, exact] = 0.0
    moving = MovingCameras(CAMERAS, spread)
    moving.change = change_of(CHANGES)
    for start, end in zip(CAMERAS, moving.ends(), strict=True):
        for i, name in enumerate(names):
            assert (getattr(end, name) == getattr(start, name)) == (i == exact)
        assert (end.fov, end.roll, end.offset_x, end.offset_y) == (
            start.fov,
            start.roll,
            start.offset_x,
            start.offset_y,
        )


def test_exact_cameras_stand_still_beside_others_that_move():
    spread = np.zeros((4, 3))
    spread[1] = 0.1
    moving = MovingCameras(CAMERAS, spread)
    moving.change = change_of(CHANGES)
    now, start, ends = moving.now(), stack_cameras(CAMERAS), moving.ends()
    for i in (0, 2, 3):
        assert torch.equal(now.rotation[i], start.rotation[i])
        assert torch.equal(now.translation[i], start.translation[i])
        assert ends[i] is CAMERAS[i]
    assert not torch.allclose(now.translation[1], start.translation[1])
    # Looking straight down is a place to start from, too, where it is known.
    down = MovingCameras([Camera(10.0, 90.0, 0.7)], np.array([[0.0, 0.0, 0.3]]))
    assert down.now().rotation[0, 1, 2].item() == pytest.approx(-1.0)


def test_cost_is_in_squared_standard_deviations():
    """What is exact costs nothing, for it does not move; nor does what is free."""
    spread = np.array([[0.1, 0.2, 0.05], [math.inf, 0.1, 0.0], [math.inf] * 3, [0.0] * 3])
    change = torch.tensor([[0.1, -0.1, 0.1], [5.0, 0.05, 9.0], [1.0, -0.1, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    moving = MovingCameras(CAMERAS, spread)
    variable = change.clone().requires_grad_()
    cost = moving.cost(variable)
    np.testing.assert_allclose(cost.detach(), [1 + 0.25 + 4, 0.25, 0.0, 0.0], rtol=1e-12)
    cost.sum().backward()
    expected = np.zeros((4, 3))
    expected[0] = 2 * change[0].numpy() / spread[0] ** 2
    expected[1, 1] = 2 * 0.05 / 0.1**2
    np.testing.assert_allclose(variable.grad, expected, rtol=1e-12)


def test_gradients_of_what_is_seen_are_finite_differences():
    moving = MovingCameras(CAMERAS)
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 20, 3)))
    points = torch.from_numpy(POINTS).float().expand(4, -1, -1)

    def loss(change: torch.Tensor) -> torch.Tensor:
        return (project(points, moving.now(change)).double() * weight).sum()

    variable = change_of(CHANGES).requires_grad_()
    loss(variable).backward()
    for i in range(12):
        step = torch.zeros(12, dtype=torch.float64)
        step[i] = 1e-3
        with torch.no_grad():
            ahead, behind = (loss(variable + sign * step.reshape(4, 3)) for sign in (1, -1))
        assert variable.grad.ravel()[i].item() == pytest.approx(float(ahead - behind) / 2e-3, rel=1e-2, abs=2e-2)


def test_none_passes_over_the_pole():
    moving = MovingCameras(CAMERAS)
    for rise, elevation in ((4.0, 89.0), (-4.0, -89.0)):
        moving.change = torch.tensor([[0.0, rise, 0.0]] * 4, dtype=torch.float64)
        assert [end.elevation for end in moving.ends()] == pytest.approx([elevation] * 4)
        np.testing.assert_allclose(seen(stack_cameras(moving.ends())), seen(moving.now()), atol=1e-5)
    # One that begins beyond may stay there.
    steep = MovingCameras([Camera(0.0, 89.7, 1.0)])
    steep.change = torch.tensor([[0.3, 0.0, 0.1]], dtype=torch.float64)
    assert steep.ends()[0].elevation == 89.7
