"""Cameras as variables of an optimiser."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch

from refine_batch.cameras.camera import Camera, camera_position, stack_cameras
from refine_batch.cameras.moving import MovingCameras

CAMERAS = [Camera(170.0, 20.0, 2.0, fov=45.0, roll=10.0, offset_x=0.1), Camera(-30.0, 88.5, 1.0)]


def test_they_begin_at_their_starts():
    moving = MovingCameras(CAMERAS)
    for now, start in zip(vars(moving.now()).values(), vars(stack_cameras(CAMERAS)).values(), strict=True):
        torch.testing.assert_close(now, start, rtol=0, atol=0)
    for end, start in zip(moving.ends(), CAMERAS, strict=True):
        np.testing.assert_allclose(np.hstack(astuple(end)), np.hstack(astuple(start)), rtol=0, atol=1e-12)


def test_the_change_is_in_radians_and_of_the_logarithm():
    moving = MovingCameras(CAMERAS)
    with torch.no_grad():
        moving.change[0] = torch.tensor([math.radians(20.0), math.radians(-5.0), math.log(1.5)])
    end = moving.ends()[0]
    assert (end.azimuth, end.elevation, end.distance) == pytest.approx((-170.0, 15.0, 3.0))
    assert (end.fov, end.roll, end.offset_x) == (45.0, 10.0, 0.1)
    now = moving.now()
    position = -(now.translation[0] @ now.rotation[0].T).detach().numpy()
    np.testing.assert_allclose(position, camera_position(end), atol=1e-5)


def test_what_may_not_change_stays_to_the_last_bit():
    starts = [*CAMERAS, Camera(300.0, 90.0, 0.7)]
    for name in ("azimuth", "elevation", "distance"):
        moving = MovingCameras(starts, [name])
        for _ in range(3):
            moving.step(torch.ones(3, 3, dtype=torch.float64), 0.1)
        for start, end in zip(starts, moving.ends(), strict=True):
            assert replace(end, **{name: getattr(start, name)}) == start
            assert getattr(end, name) != getattr(start, name)
    # Looking straight down is a place to start from too, where it is known.
    assert MovingCameras(starts[2:], ["distance"]).now().rotation[0, 1, 2].item() == pytest.approx(-1.0)


def test_steps_are_adams_and_go_against_the_gradient():
    """Its first step is as long as the learning rate, whatever the gradient's length."""
    moving = MovingCameras(CAMERAS)
    moving.step(torch.tensor([[5.0, -1e-3, 2.0], [math.nan, 1.0, math.inf]], dtype=torch.float64), 0.01)
    wanted = torch.tensor([[-0.01, 0.01, -0.01], [0.0, -0.01, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(moving.change.detach(), wanted, rtol=1e-4, atol=1e-9)


def test_none_passes_over_the_pole():
    moving = MovingCameras(CAMERAS)
    for _ in range(5):
        moving.step(-torch.ones(2, 3, dtype=torch.float64), 0.1)
    assert moving.ends()[1].elevation == 89.0
