"""From an instance to what methods see: one surface about the origin, pictures padded and never stretched, cameras that
see the same; and refused with its reason where unusable."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapes import box, icosphere, joined

from refine_batch.cameras.camera import Camera, UnknownCamera, project, stack_cameras
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import CameraError, Depth, Instance, PictureView
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.refinement.prepare import about_source, prepare, resize_square
from refine_batch.render import hard_silhouettes


def disc(height: int, width: int) -> np.ndarray:
    """(H, W) bool: a disc of 0.3 of the longer side, in the middle."""
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) < 0.3 * max(height, width)


def instance(height: int = 40, width: int = 40, **changes) -> Instance:
    mask = disc(height, width)
    image = np.where(mask[..., None], np.array([200, 100, 50]), 0).astype(np.uint8)
    return replace(Instance("the thing", icosphere(), image, mask, Camera(30, 20, 1.2)), **changes)


def at(size: int, **options) -> RefineConfig:
    return RefineConfig(image_size=size, **options)


def test_at_its_own_size_nothing_changes():
    given_instance = instance()
    found = prepare(given_instance, at(40, symmetry_axis="z"))
    subject = found.subject
    np.testing.assert_array_equal(subject.mask, given_instance.mask)
    np.testing.assert_array_equal(subject.views[0].mask, given_instance.mask)
    np.testing.assert_allclose(subject.image, given_instance.image / 255, atol=1e-7)
    assert subject.image.dtype == subject.views[0].mask.dtype == np.float32
    assert found.instance_id == subject.instance_id == given_instance.instance_id
    assert found.given is given_instance.camera
    assert found.unknown is None
    assert found.working.source is given_instance.mesh
    assert subject.plane == SymmetryPlane((0.0, 0.0, 1.0), 0.0)
    assert found.record() is None


@pytest.mark.parametrize(("height", "width"), [(40, 40), (80, 80), (33, 33), (30, 60), (60, 30), (90, 61), (24, 200)])
@pytest.mark.parametrize("size", [16, 32, 57])
def test_a_disc_in_the_middle_stays_a_disc_in_the_middle(height, width, size):
    """Its size is a share of the longer side, which the working image spans."""
    found = prepare(instance(height, width), at(size)).subject
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
    "shares beyond one": ({"mask": disc(40, 40) * 1.5}, ErrorKind.IMAGE_BROKEN, "between 0 and 1"),
    "shares of NaN": ({"mask": disc(40, 40) * np.nan}, ErrorKind.IMAGE_BROKEN, "between 0 and 1"),
    "hardly covered": ({"mask": disc(40, 40) * 0.4}, ErrorKind.MASK_EMPTY, "mask is empty"),
    "known of another size": ({"known": disc(40, 41)}, ErrorKind.SIZE_MISMATCH, "what is known .*40×40"),
    "known as bytes": ({"known": disc(40, 40).astype(np.uint8)}, ErrorKind.SIZE_MISMATCH, "must be bool"),
    "depth of another size": ({"depth": Depth(np.ones((20, 40)))}, ErrorKind.SIZE_MISMATCH, "depth is 40×20.*40×40"),
    "normals of one channel": ({"normals": np.ones((40, 40))}, ErrorKind.SIZE_MISMATCH, "normals"),
    "a further view's mask": (
        {"views": (PictureView(disc(9, 9), Camera(0, 0, 1)), PictureView(np.zeros((9, 9), bool), Camera(0, 0, 1)))},
        ErrorKind.MASK_EMPTY,
        "view 2: the mask is empty",
    ),
    "a further view's camera": (
        {"views": (PictureView(disc(9, 9), Camera(0, 0, -1)),)},
        ErrorKind.CAMERA_INVALID,
        "view 1: the camera's distance is -1",
    ),
    "a mesh without area": (
        {"mesh": Mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]])},
        ErrorKind.MESH_BROKEN,
        "no face of the mesh has an area",
    ),
    "unknown axis": ({"symmetry_axis": "w"}, ErrorKind.ROW_INVALID, "'w'; it must be x, y, z, none or auto"),
    "axis in capitals": ({"symmetry_axis": "Z"}, ErrorKind.ROW_INVALID, "'Z'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_with_its_reason(name):
    changes, kind, told = BAD[name]
    with pytest.raises(InstanceError, match=told) as raised:
        prepare(instance(**changes), at(32))
    assert raised.value.kind is kind
    assert raised.value.message.startswith("instance 'the thing'")


def test_a_mask_too_small_for_the_working_size():
    mask = np.zeros((400, 400), bool)
    mask[200, 200] = True
    with pytest.raises(InstanceError, match="nothing is left of the mask at the working size of 32 pixels") as raised:
        prepare(instance(mask=mask, image=np.zeros((400, 400, 3), np.uint8)), at(32))
    assert raised.value.kind is ErrorKind.MASK_EMPTY


def test_arrays_that_are_not_ours_to_write_to():
    frozen = instance(60, 44)
    frozen.image.setflags(write=False)
    frozen.mask.setflags(write=False)
    assert prepare(frozen, at(32)).subject.mask.any()


# --- Where things are -----------------------------------------------------------------------------------------------

# Off its origin, in other units, and with a camera that does not look at it.
ASIDE = Mesh(box(600.0, 300.0, 450.0).vertices + np.array([150.0, -80.0, 90.0]), box().faces)
CAMERA = Camera(35, 20, 2000.0, fov=50, roll=12, offset_x=0.05, target=(20.0, 10.0, -30.0))


def seen(mesh: Mesh, camera: Camera, height: int = 96, width: int = 96) -> np.ndarray:
    """(height, width) bool of the square picture, cropped evenly."""
    [square] = hard_silhouettes(mesh, [camera], max(height, width))
    top, left = (len(square) - height) // 2, (len(square) - width) // 2
    return square[top : top + height, left : left + width]


def aside(**changes) -> Instance:
    mask = seen(ASIDE, CAMERA)
    return replace(Instance("aside", ASIDE, np.zeros((96, 96, 3), np.uint8), mask, CAMERA), **changes)


def test_a_mesh_off_its_origin_is_seen_where_it_was():
    """To the last pixel, and every vertex where the given camera sees it."""
    found = prepare(aside(), at(96))
    subject, working = found.subject, found.working
    low, high = subject.mesh.vertices.min(axis=0), subject.mesh.vertices.max(axis=0)
    np.testing.assert_allclose(low + high, 0.0, atol=1e-6)
    assert (high - low).max() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(working.centre, [150.0, -80.0, 90.0], rtol=1e-6)
    assert working.extent == pytest.approx(600.0)
    assert subject.camera.distance == pytest.approx(2000 / 600)
    np.testing.assert_allclose(subject.camera.target, (np.array(CAMERA.target) - working.centre) / 600, rtol=1e-6)
    own = project(to_tensor(ASIDE.vertices), stack_cameras([CAMERA]))[0]
    ours = project(to_tensor(subject.mesh.vertices), stack_cameras([subject.camera]))[0]
    np.testing.assert_allclose(ours[:, :2], own[:, :2], atol=1e-5)
    np.testing.assert_allclose(ours[:, 2] * 600, own[:, 2], rtol=1e-5)
    assert (seen(subject.mesh, subject.camera) != subject.mask).sum() <= 2
    back = about_source(subject.camera, working)
    assert back.distance == pytest.approx(2000.0)
    np.testing.assert_allclose(back.target, CAMERA.target, atol=1e-9)
    assert replace(back, distance=2000.0, target=CAMERA.target) == CAMERA


def to_tensor(vertices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(vertices)[None]


def test_further_views_are_about_the_same_object():
    """Of other sizes and shapes, each padded for itself; the camera of each sees what its mask shows."""
    cameras = [Camera(120, 30, 1800.0, target=(150.0, -80.0, 90.0)), Camera(-70, -10, 2500.0, fov=40)]
    masks = [seen(ASIDE, cameras[0], 80, 64), seen(ASIDE, cameras[1], 60, 96)]
    views = tuple(PictureView(m, c, weight=w) for m, c, w in zip(masks, cameras, (0.5, 2.0), strict=True))
    subject = prepare(aside(views=views), at(96)).subject
    assert [view.weight for view in subject.views] == [1.0, 0.5, 2.0]
    for view in subject.views:
        silhouette = seen(subject.mesh, view.camera)
        assert view.mask.shape == (96, 96)
        assert (silhouette & view.covered).sum() / (silhouette | view.covered).sum() > 0.95


@pytest.mark.parametrize(("axis", "normal", "offset"), [("x", (1, 0, 0), -0.25), ("z", (0, 0, 1), -0.15)])
def test_a_plane_that_was_named_goes_through_the_meshs_own_origin(axis, normal, offset):
    plane = prepare(aside(symmetry_axis=axis), at(32)).subject.plane
    assert plane.normal == normal
    assert plane.offset == pytest.approx(offset)
    assert plane.trust == 1.0


def test_a_plane_that_is_found_goes_through_the_mesh():
    plane = prepare(aside(), at(32)).subject.plane
    assert plane.axis in ("x", "z")
    assert plane.offset == pytest.approx(0.0, abs=1e-3)
    assert plane.trust > 0.95


CORNER = joined(box(0.8, 0.2, 0.2), box(0.2, 0.2, 0.8, centre=(-0.3, 0, 0.3)))


@pytest.mark.parametrize(
    ("said", "option", "used"),
    [(None, "z", "z"), (None, "none", None), ("x", "auto", "x"), ("none", "z", None), ("y", "none", "y")],
)
def test_what_an_instance_says_comes_before_the_option(said, option, used):
    camera = Camera(30, 20, 2)
    [mask] = hard_silhouettes(CORNER, [camera], 32)
    given_instance = Instance("corner", CORNER, np.zeros((32, 32, 3), np.uint8), mask, camera, said)
    plane = prepare(given_instance, at(32, symmetry_axis=option)).subject.plane
    assert (plane and plane.axis) == used


def test_how_far_a_camera_may_be_off():
    """The row's word comes before the configuration's; an unknown camera may be anywhere."""
    views = (PictureView(disc(32, 32), CAMERA), PictureView(disc(32, 32), CAMERA, camera_error=CameraError(0.0, 0.2)))
    given_instance = aside(camera_error=CameraError(2.0, 0.05), views=views)
    subject = prepare(given_instance, at(32, camera_error="7,0.3")).subject
    np.testing.assert_allclose(subject.views[0].spread, (math.radians(2), math.radians(2), 0.05))
    np.testing.assert_allclose(subject.views[1].spread, (math.radians(7), math.radians(7), 0.3))
    np.testing.assert_allclose(subject.views[2].spread, (0.0, 0.0, 0.2))
    unknown = prepare(replace(given_instance, camera=UnknownCamera(elevation=3.0)), at(32))
    assert unknown.unknown == UnknownCamera(elevation=3.0)
    assert unknown.subject.views[0].spread == (math.inf,) * 3
    assert unknown.subject.camera.elevation == 3.0
    exact = prepare(aside(), at(32, camera_error=0)).subject
    assert exact.views[0].spread == (0.0, 0.0, 0.0)


def test_the_papers_cameras_are_exact_and_its_plane_is_zs():
    """Whatever anybody says of the cameras; a plane that somebody named is another matter."""
    subject = prepare(aside(camera_error=CameraError(2.0, 0.05)), at(32, method="refine", paper_exact=True)).subject
    assert subject.views[0].spread == (0.0, 0.0, 0.0)
    assert subject.plane.axis == "z"
    assert prepare(aside(symmetry_axis="x"), at(32, method="refine", paper_exact=True)).subject.plane.axis == "x"
    assert prepare(aside(), at(32, method="refine", paper_exact=True, symmetry_axis="none")).subject.plane is None


# --- What pixels say ------------------------------------------------------------------------------------------------


def test_covered_shares_stay_what_they_are():
    """Of a half-plane whose edge runs through a pixel; half the size, half of the pixels' mean."""
    shares = np.zeros((32, 32), np.float32)
    shares[:, :10], shares[:, 10] = 1.0, 0.3
    found = prepare(aside(mask=shares, image=np.zeros((32, 32, 3), np.uint8)), at(32)).subject
    np.testing.assert_array_equal(found.views[0].mask, shares)
    np.testing.assert_array_equal(found.mask, shares >= 0.5)
    # The filter of an antialiased halving is a triangle over four pixels: weights 1, 3, 3, 1 of 8.
    [halved] = prepare(aside(mask=shares, image=np.zeros((32, 32, 3), np.uint8)), at(16)).subject.views
    expected = [1.0] * 4 + [(1 + 3 + 3 + 0.3) / 8, (1 + 3 * 0.3) / 8] + [0.0] * 10
    np.testing.assert_allclose(halved.mask[8], expected, atol=1e-6)


def test_what_is_not_known_stays_so_and_beyond_the_picture_nothing_of_the_object_is():
    known = np.ones((32, 60), bool)
    known[:, 48:] = False
    mask = np.zeros((32, 60), bool)
    mask[10:20, 20:40] = True
    given_instance = aside(mask=mask, image=np.zeros((32, 60, 3), np.uint8), known=known)
    for size in (60, 30):
        [view] = prepare(given_instance, at(size)).subject.views
        expected = np.ones((60, 60), bool)
        expected[14:46, 48:] = False
        np.testing.assert_array_equal(view.known, expected[:: 60 // size, :: 60 // size])
        np.testing.assert_array_equal(view.silhouette_known, view.known)
    [view] = prepare(replace(given_instance, known=np.ones((32, 60), bool)), at(60)).subject.views
    assert view.known is None
    assert view.silhouette_known.all()


def test_hints_are_picked_and_never_blended():
    """A metric depth is in working units; what is beyond the picture is not known."""
    values = np.where(np.arange(40) < 20, 1200.0, 3000.0)[None].repeat(20, axis=0).astype(np.float32)
    values[0, 0] = np.nan
    normals = np.zeros((20, 40, 3), np.float32)
    normals[..., 2] = 1.0
    mask = np.ones((20, 40), bool)
    given_instance = aside(
        mask=mask, image=np.zeros((20, 40, 3), np.uint8), depth=Depth(values, "metric"), normals=normals
    )
    [view] = prepare(given_instance, at(16)).subject.views
    assert view.depth.kind == "metric"
    np.testing.assert_array_equal(np.isnan(view.depth.values[:, 8]), [True] * 4 + [False] * 8 + [True] * 4)
    np.testing.assert_allclose(view.depth.values[8], [2.0] * 8 + [5.0] * 8)
    np.testing.assert_array_equal(view.normals[8, 3], [0, 0, 1])
    assert np.isnan(view.normals[0]).all()
    [relative] = prepare(replace(given_instance, depth=Depth(values, "relative")), at(40)).subject.views
    np.testing.assert_array_equal(relative.depth.values[10:30], values)


# --- What is done to the mesh ---------------------------------------------------------------------------------------


def test_too_many_faces_fail_and_say_which_option_allows_more():
    mesh = icosphere(2)
    with pytest.raises(InstanceError, match="320 faces; --max-faces allows 319") as raised:
        prepare(instance(mesh=mesh), at(32, preparation={"max_faces": 319}))
    assert raised.value.kind is ErrorKind.MESH_TOO_LARGE
    assert prepare(instance(mesh=mesh), at(32, preparation={"max_faces": 320})).record() is None


def test_more_than_the_working_faces_are_decimated_and_no_word_is_lost_on_it():
    """The result is the whole mesh all the same."""
    found = prepare(instance(mesh=icosphere(3)), at(32, preparation={"working_faces": 200}))
    assert len(found.subject.mesh.faces) <= 220
    assert len(found.working.source.faces) == 1280
    assert found.record() is None


@pytest.mark.parametrize("seed", range(5))
def test_a_camera_that_looks_at_the_origin_still_does_on_its_way_back(seed):
    """To the last bit, wherever the mesh stands: only then do angles say where it is."""
    random = np.random.default_rng(seed)
    moved = icosphere(2).vertices * random.uniform(0.1, 300.0) + random.normal(0.0, 3.0, 3)
    found = prepare(instance(mesh=Mesh(moved, icosphere(2).faces), camera=Camera(30, 20, 900.0, 5.0)), at(32))
    back = about_source(replace(found.subject.camera, azimuth=31.0), found.working)
    assert back.target == (0.0, 0.0, 0.0)
