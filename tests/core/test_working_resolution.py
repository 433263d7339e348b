"""From an instance to the working resolution: padded, never stretched, and refused with its reason where unusable."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import icosphere

from refine_batch.cameras.camera import Camera, UnknownCamera
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Instance
from refine_batch.mesh import Mesh
from refine_batch.refinement.prepare import prepare, resize_square


def disc(height: int, width: int) -> np.ndarray:
    """(H, W) bool: a disc of 0.3 of the longer side, in the middle."""
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) < 0.3 * max(height, width)


def instance(height: int = 40, width: int = 40, **changes) -> Instance:
    mask = disc(height, width)
    image = np.where(mask[..., None], np.array([200, 100, 50]), 0).astype(np.uint8)
    return replace(Instance("the thing", icosphere(), image, mask, Camera(30, 20, 1.2)), **changes)


def test_at_its_own_size_nothing_changes():
    given_instance = instance()
    found = prepare(given_instance, 40)
    np.testing.assert_array_equal(found.mask, given_instance.mask)
    np.testing.assert_allclose(found.image, given_instance.image / 255, atol=1e-7)
    assert found.image.dtype == np.float32
    assert found.mask.dtype == bool
    for name in ("instance_id", "mesh", "camera"):
        assert getattr(found, name) is getattr(given_instance, name)
    assert found.symmetry_axis == "z"
    assert found.camera_source == "given"


@pytest.mark.parametrize(("height", "width"), [(40, 40), (80, 80), (33, 33), (30, 60), (60, 30), (90, 61), (24, 200)])
@pytest.mark.parametrize("size", [16, 32, 57])
def test_a_disc_in_the_middle_stays_a_disc_in_the_middle(height, width, size):
    """Its size is a share of the longer side, which the working image spans."""
    found = prepare(instance(height, width), size)
    assert found.image.shape == (size, size, 3)
    assert found.mask.shape == (size, size)
    rows, columns = np.nonzero(found.mask)
    # One odd row of padding more on one side, at the size that the image had.
    slack = 0.5 * size / max(height, width) + 0.5
    if min(height, width) >= 0.6 * max(height, width):
        assert rows.mean() == pytest.approx((size - 1) / 2, abs=slack)
        assert columns.mean() == pytest.approx((size - 1) / 2, abs=slack)
        assert found.mask.mean() == pytest.approx(math.pi * 0.3**2, rel=0.15)
    else:
        # A band of the disc: the padding above and below it holds nothing.
        short = min(height, width) / max(height, width)
        across = rows if height < width else columns
        assert np.ptp(across) + 1 <= short * size + 2
    assert ((found.image >= 0) & (found.image <= 1)).all()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(16, 40))
def test_padding_is_on_both_sides_alike_and_holds_nothing(height, width, size):
    image = np.ones((height, width, 1), np.float32)
    side = max(height, width)
    found = resize_square(image, side)[..., 0]
    assert found.sum() == height * width
    rows, columns = np.nonzero(found)
    assert rows.min() == (side - height) // 2
    assert columns.min() == (side - width) // 2
    # A constant stays one wherever it fills the square.
    if height == width:
        np.testing.assert_allclose(resize_square(image, size), 1.0, atol=1e-6)


def test_shrinking_averages_instead_of_picking():
    """Of every eight rows one is white: an eighth of white everywhere."""
    stripes = np.zeros((128, 128, 1), np.float32)
    stripes[3::8] = 1
    np.testing.assert_allclose(resize_square(stripes, 16)[2:-2], 1 / 8, atol=0.02)


def test_left_stays_left_and_up_stays_up():
    image = np.zeros((64, 64, 1), np.float32)
    image[4:12, 40:56] = 1
    rows, columns = np.nonzero(resize_square(image, 32)[..., 0] > 0.5)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 5, 20, 27)


BAD = {
    "no faces": ({"mesh": Mesh(np.eye(3), np.zeros((0, 3), np.int32))}, ErrorKind.MESH_EMPTY, "0 faces"),
    "nan vertex": (
        {"mesh": Mesh(np.eye(3) * math.nan, np.array([[0, 1, 2]]))},
        ErrorKind.MESH_BROKEN,
        "3 vertices are NaN",
    ),
    "index out of range": (
        {"mesh": Mesh(np.eye(3), np.array([[0, 1, 9]]))},
        ErrorKind.MESH_BROKEN,
        "names vertex 9",
    ),
    "broken ground truth": (
        {"ground_truth": Mesh(np.eye(3), np.array([[0, 1, 9]]))},
        ErrorKind.MESH_BROKEN,
        "ground truth: a face names vertex 9",
    ),
    "grey image": ({"image": np.zeros((40, 40), np.uint8)}, ErrorKind.IMAGE_BROKEN, r"uint8 \(40, 40\)"),
    "image with alpha": ({"image": np.zeros((40, 40, 4), np.uint8)}, ErrorKind.IMAGE_BROKEN, r"\(40, 40, 4\)"),
    "image of shares": ({"image": np.zeros((40, 40, 3), np.float32)}, ErrorKind.IMAGE_BROKEN, "got float32"),
    "image of another size": ({"image": np.zeros((40, 50, 3), np.uint8)}, ErrorKind.SIZE_MISMATCH, "50×40.*40×40"),
    "image turned": ({"mask": disc(40, 41)}, ErrorKind.SIZE_MISMATCH, "40×40.*41×40"),
    "mask with a channel": ({"mask": disc(40, 40)[..., None]}, ErrorKind.SIZE_MISMATCH, r"mask .*1"),
    "mask in a row": ({"mask": disc(40, 40).ravel()}, ErrorKind.SIZE_MISMATCH, "1600"),
    "mask of bytes": ({"mask": disc(40, 40).astype(np.uint8) * 255}, ErrorKind.IMAGE_BROKEN, "got uint8"),
    "empty mask": ({"mask": np.zeros((40, 40), bool)}, ErrorKind.MASK_EMPTY, "mask is empty"),
    "no pixels": (
        {"mask": np.zeros((0, 0), bool), "image": np.zeros((0, 0, 3), np.uint8)},
        ErrorKind.MASK_EMPTY,
        "mask is empty",
    ),
    "unknown camera of no distance": (
        {"camera": UnknownCamera(distance=-1)},
        ErrorKind.CAMERA_INVALID,
        "distance is -1",
    ),
    "nan camera": ({"camera": Camera(math.nan, 0, 1)}, ErrorKind.CAMERA_INVALID, "azimuth is nan"),
    "camera at the origin": ({"camera": Camera(0, 0, 0)}, ErrorKind.CAMERA_INVALID, "distance is 0"),
    "unknown axis": ({"symmetry_axis": "w"}, ErrorKind.ROW_INVALID, "'w'; it must be x, y, z, none or auto"),
    "axis in capitals": ({"symmetry_axis": "Z"}, ErrorKind.ROW_INVALID, "'Z'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_with_its_reason(name):
    changes, kind, told = BAD[name]
    with pytest.raises(InstanceError, match=told) as raised:
        prepare(instance(**changes), 32)
    assert raised.value.kind is kind
    assert raised.value.message.startswith("instance 'the thing'")


def test_a_mask_too_small_for_the_working_size():
    mask = np.zeros((400, 400), bool)
    mask[200, 200] = True
    with pytest.raises(InstanceError, match="nothing is left of the mask at the working size of 32 pixels") as raised:
        prepare(instance(mask=mask, image=np.zeros((400, 400, 3), np.uint8)), 32)
    assert raised.value.kind is ErrorKind.MASK_EMPTY


def test_arrays_that_are_not_ours_to_write_to():
    frozen = instance(60, 44)
    frozen.image.setflags(write=False)
    frozen.mask.setflags(write=False)
    assert prepare(frozen, 32).mask.any()
