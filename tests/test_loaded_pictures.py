"""Pictures of rows: which mask counts, what cannot be meant, what is known, further views, and what it costs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from mask_files import blurred, encode, iou, silhouette

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.dataset.load import Limits, load_instance
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import CameraError
from refine_batch.io.ground import object_on_ground
from refine_batch.io.meshes import write_mesh
from refine_batch.io.resample import Frame, area_of
from refine_batch.mesh import Mesh

SIZE = 96
TRUE = silhouette(5, SIZE)  # a mug: one sees through its handle
BOX = trimesh.creation.box()
CONFIG = RefineConfig(image_size=SIZE)
BACKGROUND = RefineConfig(image_size=SIZE, picture={"mask_from": "background"})


@pytest.fixture
def put(tmp_path):
    """Write files by name; the row of image.png and mesh.obj among them, with some columns changed."""

    def write(files: dict[str, bytes], **changes) -> ManifestRow:
        files = {"mesh.obj": write_mesh(Mesh(BOX.vertices, BOX.faces), "obj")} | files
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        paths = {k: str(tmp_path / v) if k.endswith("_uri") and v else v for k, v in changes.items()}
        row = ManifestRow("a", str(tmp_path / "mesh.obj"), str(tmp_path / "image.png"), None, 30.0, 20.0, 1.5)
        return replace(row, **paths)

    return write


def refusal(row: ManifestRow, config: RefineConfig = CONFIG, **options) -> InstanceError:
    with pytest.raises(InstanceError) as caught:
        load_instance(row, config, **options)
    return caught.value


def object_colours(shape: tuple[int, int]) -> np.ndarray:
    """Shades of brown, as an object has them."""
    shade = np.linspace(0.4, 1.0, shape[1])[None, :] * np.linspace(1.0, 0.7, shape[0])[:, None]
    return (shade[..., None] * np.array([170, 110, 60])).astype(np.uint8)


def rgba_of(mask: np.ndarray) -> np.ndarray:
    return np.dstack([object_colours(mask.shape), mask.astype(np.uint8) * 255])


def on(ground: tuple[int, int, int], true: np.ndarray = TRUE) -> np.ndarray:
    return np.where(true[..., None], object_colours(true.shape), np.uint8(ground))


RGB = on((20, 60, 20))

# ---- which mask counts ---------------------------------------------------------------------------------------------


def test_the_mask_is_taken_from_where_one_says(put):
    other = np.roll(TRUE, 7, axis=1)
    files = {"image.png": encode(np.dstack([on((255, 255, 255)), other * np.uint8(255)]))}
    files["mask.png"] = encode(np.roll(TRUE, -7, axis=1).astype(np.uint8))
    row = put(files, mask_uri="mask.png")
    expected = {"auto": -7, "mask": -7, "alpha": 7, "background": 0}
    for source, shift in expected.items():
        config = RefineConfig(image_size=SIZE, picture={"mask_from": source})
        assert iou(load_instance(row, config).mask, np.roll(TRUE, shift, axis=1)) == pytest.approx(1.0, abs=0.01)
    assert (
        "--mask-from mask needs"
        in refusal(replace(row, mask_uri=None), RefineConfig(picture={"mask_from": "mask"})).message
    )


def test_the_threshold_is_an_option(put):
    row = put({"image.png": encode(np.dstack([RGB, blurred(TRUE, 2)]))})
    wide, narrow = (
        load_instance(row, RefineConfig(image_size=SIZE, picture={"mask_threshold": t})).mask.sum() for t in (0.1, 0.9)
    )
    assert wide > TRUE.sum() > narrow


GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "green": (90, 160, 90)}


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize(("file_format", "least"), [("PNG", 1.0), ("JPEG", 0.97)])
def test_the_object_on_a_ground_of_one_colour(put, ground, file_format, least):
    options = {"quality": 90} if file_format == "JPEG" else {}
    row = put({"image.png": encode(on(GROUNDS[ground]), file_format, **options)})
    assert refusal(row).kind == ErrorKind.MASK_MISSING
    assert "--mask-from background" in refusal(row).message
    assert iou(load_instance(row, BACKGROUND).mask, TRUE) >= least


def test_holes_are_ground_and_highlights_are_not():
    picture = on((255, 255, 255)).astype(np.float32)
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = np.argwhere(TRUE & np.roll(TRUE, 12, 0) & np.roll(TRUE, -12, 0) & np.roll(TRUE, 12, 1))
    y0, x0 = inside[len(inside) // 2]
    glow = np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 40.0)[..., None]
    picture = np.clip(picture + 500 * glow * TRUE[..., None], 0, 255).astype(np.uint8)
    assert (picture[y0 - 2 : y0 + 3, x0 - 2 : x0 + 3] == 255).all()
    share = object_on_ground(picture)
    assert share is not None
    assert iou(share, TRUE) > 0.99


def test_an_anti_aliased_object_on_a_ground_keeps_its_edge():
    fine = silhouette(5, 8 * SIZE)
    covered = fine.reshape(SIZE, 8, SIZE, 8).mean(axis=(1, 3))
    picture = covered[..., None] * object_colours(covered.shape) + (1 - covered[..., None]) * 255.0
    share = object_on_ground(np.round(picture).astype(np.uint8))
    assert share is not None
    edge = (covered > 0) & (covered < 1)
    assert np.abs(share - covered)[edge].mean() < 0.1
    assert abs((share - covered).sum()) < 0.08 * edge.sum()


def test_a_busy_ground_is_refused(put):
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    row = put({"image.png": encode(np.where(TRUE[..., None], RGB, noise))})
    error = refusal(row, BACKGROUND)
    assert error.kind == ErrorKind.MASK_MISSING
    assert "not of one colour" in error.message


# ---- what cannot be meant ------------------------------------------------------------------------------------------

WHITE = np.full((SIZE, SIZE), 255, np.uint8)
DOT = np.zeros((SIZE, SIZE), np.uint8)
DOT[40, 40:42] = 255
NOISY = np.clip(WHITE.astype(int) - np.random.default_rng(0).integers(0, 9, WHITE.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("mask", "kind", "says"),
    [
        (WHITE, ErrorKind.MASK_IMPLAUSIBLE, "white everywhere"),
        (WHITE - 20, ErrorKind.MASK_IMPLAUSIBLE, "white everywhere"),
        (NOISY, ErrorKind.MASK_IMPLAUSIBLE, "white everywhere"),
        (WHITE * 0 + 1, ErrorKind.MASK_IMPLAUSIBLE, "white everywhere"),
        (~TRUE * np.uint8(255), ErrorKind.MASK_IMPLAUSIBLE, "inverted?"),
        (~TRUE * np.uint8(1), ErrorKind.MASK_IMPLAUSIBLE, "inverted?"),
        (255 - blurred(TRUE, 2), ErrorKind.MASK_IMPLAUSIBLE, "inverted?"),
        (WHITE * 0, ErrorKind.MASK_EMPTY, "no pixel"),
        (DOT, ErrorKind.MASK_EMPTY, "less than 4 working pixels"),
    ],
)
def test_masks_that_cannot_be_meant_fail_with_their_likely_cause(put, mask, kind, says):
    row = put({"image.png": encode(RGB), "mask.png": encode(mask)}, mask_uri="mask.png")
    error = refusal(row)
    assert (error.kind, row.mask_uri in error.message) == (kind, True)
    assert says in error.message
    if kind == ErrorKind.MASK_IMPLAUSIBLE:
        error = refusal(put({"image.png": encode(np.dstack([RGB, mask]))}))
        assert error.kind in (kind, ErrorKind.MASK_MISSING)


def test_a_mask_that_is_dim_throughout_is_read_as_if_it_were_bright(put):
    found = []
    for share in (1, 3):
        row = put({"image.png": encode(RGB), "mask.png": encode(blurred(TRUE, 2) // share)}, mask_uri="mask.png")
        found.append(load_instance(row, CONFIG).mask >= 0.5)
    assert np.count_nonzero(found[0] != found[1]) < 0.03 * np.count_nonzero(found[0])


def test_close_crops_and_cut_objects_are_meant(put):
    """A box that fills nine tenths of the picture; an object that three edges cut."""
    box = np.zeros((SIZE, SIZE), bool)
    box[2:-2, 1:-1] = True
    cut = np.zeros((SIZE, SIZE), bool)
    cut[20:, :] = True
    for mask in (box, cut):
        instance = load_instance(put({"image.png": encode(rgba_of(mask))}), CONFIG)
        np.testing.assert_array_equal(instance.mask, mask)


# ---- what is known -------------------------------------------------------------------------------------------------


def test_an_edge_that_the_object_reaches_and_what_lies_beyond_is_not_known(put):
    """A wide picture, cut at its lower edge; the padding above it is background."""
    wide = np.zeros((48, SIZE), bool)
    wide[10:, 30:50] = True
    instance = load_instance(put({"image.png": encode(rgba_of(wide))}), CONFIG)
    expected = np.ones((SIZE, SIZE), bool)
    expected[72:] = False
    expected[71, 29:51] = False
    np.testing.assert_array_equal(instance.known, expected)
    assert instance.mask[72:].sum() == 0
    clear = np.zeros((48, SIZE), bool)
    clear[10:40, 30:50] = True
    assert load_instance(put({"image.png": encode(rgba_of(clear))}), CONFIG).known.all()


def test_what_is_ignored_is_not_known(put):
    ignore = np.zeros((SIZE, SIZE), np.uint8)
    ignore[:, :30] = 9
    row = put({"image.png": encode(rgba_of(TRUE)), "ignore.png": encode(ignore)}, ignore_uri="ignore.png")
    np.testing.assert_array_equal(load_instance(row, CONFIG).known, ignore == 0)
    small = put({"ignore.png": encode(ignore[:50])}, ignore_uri="ignore.png")
    assert refusal(small).kind == ErrorKind.SIZE_MISMATCH
    assert "the ignore mask is 96×50 pixels" in refusal(small).message
    everything = put({"ignore.png": encode(ignore * 0 + 1)}, ignore_uri="ignore.png")
    assert refusal(everything).kind == ErrorKind.MASK_EMPTY


# ---- further views and cameras -------------------------------------------------------------------------------------


def test_views_come_with_their_cameras_and_trust(put, tmp_path):
    files = {"image.png": encode(rgba_of(TRUE)), "1.png": encode(rgba_of(TRUE[:, ::-1]))}
    files["2.png"] = encode(TRUE[::-1].astype(np.uint8))
    files["views.json"] = b"""[
        {"image_uri": "1.png", "azimuth": 120, "elevation": 10, "distance": 1.5, "camera_error_degrees": 5,
         "weight": 0.5},
        {"mask_uri": "2.png", "intrinsics": [96, 96, 48, 48], "extrinsics": [1,0,0,0, 0,-1,0,0, 0,0,-1,2]}
    ]"""
    row = put(files, views_uri="views.json", camera_error_distance=0.1)
    instance = load_instance(row, CONFIG)
    assert instance.camera_error == CameraError(0.0, 0.1)
    first, second = instance.views
    assert first.camera == Camera(120, 10, 1.5)
    assert (first.camera_error, first.weight) == (CameraError(5.0, 0.0), 0.5)
    np.testing.assert_array_equal(first.mask, TRUE[:, ::-1])
    assert first.image is not None
    assert first.image.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(second.mask, TRUE[::-1])
    assert (second.image, second.camera_error, second.weight) == (None, None, 1.0)
    assert (second.camera.azimuth, second.camera.distance) == pytest.approx((0.0, 2.0))


@pytest.mark.parametrize(
    ("view", "kind", "says"),
    [
        ('{"image_uri": "gone.png"}', ErrorKind.MISSING_FILE, "(column views[1].image_uri)"),
        ('{"image_uri": "image.png", "mask_uri": "small.png"}', ErrorKind.SIZE_MISMATCH, "views[1]: "),
        ('{"mask_uri": "white.png"}', ErrorKind.MASK_IMPLAUSIBLE, "views[1]: "),
        ('{"ignore_uri": "image.png"}', ErrorKind.ROW_INVALID, "views[1]: image_uri and mask_uri are both empty"),
    ],
)
def test_a_fault_of_a_view_names_it(put, view, kind, says):
    camera = '"azimuth": 1, "elevation": 2, "distance": 3'
    listed = f'[{{"image_uri": "image.png", {camera}}}, {view[:-1]}, {camera}}}]'
    files = {"image.png": encode(rgba_of(TRUE)), "small.png": encode(TRUE[:50].astype(np.uint8))}
    row = put(files | {"white.png": encode(WHITE), "views.json": listed.encode()}, views_uri="views.json")
    error = refusal(row)
    assert error.kind == kind
    assert says in error.message


def test_pixels_that_are_not_square_are_made_so(put):
    """A picture squeezed to half its height, as its matrices say."""
    squeezed = TRUE[::2]
    row = put({"image.png": encode(rgba_of(squeezed))})
    row = replace(
        row,
        intrinsics=(96.0, 48.0, 48.0, 24.0),
        extrinsics=(1.0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, -1.0, 2.0),
        azimuth=None,
        elevation=None,
        distance=None,
    )
    instance = load_instance(row, CONFIG)
    # As many pixels, square ones.
    side = round(np.sqrt(squeezed.size))
    expected = area_of(squeezed, Frame(side, side, SIZE))
    assert iou(instance.mask, expected >= 0.5) > 0.97
    assert isinstance(instance.camera, Camera)
    assert instance.camera.fov == pytest.approx(53.13, abs=0.5)


# ---- what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_a_large_picture_is_read_at_the_working_size(put, file_format):
    true = silhouette(5, 12 * SIZE)[:, : 11 * SIZE]
    colours = np.repeat(np.repeat(object_colours((SIZE, 88)), 12, 0), 12, 1)
    image = encode(colours, file_format)
    row = put({"image.png": image, "mask.png": encode(true)}, mask_uri="mask.png")
    instance = load_instance(row, CONFIG)
    frame = Frame(11 * SIZE, 12 * SIZE, SIZE)
    np.testing.assert_allclose(instance.mask, area_of(true, frame), atol=1e-6)
    assert np.abs(instance.image - area_of(colours, frame)).max() < (2 if file_format == "PNG" else 12)
    error = refusal(row, limits=Limits(image_pixels=1_000_000))
    assert error.kind == ErrorKind.IMAGE_TOO_LARGE
    assert "--max-pixels" in error.message


COST = """
import resource, sys
from refine_batch.config import RefineConfig
from refine_batch.dataset.load import Limits, load_instance
from refine_batch.dataset.row import ManifestRow
folder = sys.argv[1]
config = RefineConfig()
small = ManifestRow("s", folder + "/mesh.obj", folder + "/small.png", None, 30.0, 20.0, 1.5)
load_instance(small, config)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
large = ManifestRow("l", folder + "/mesh.obj", folder + "/image.png", None, 30.0, 20.0, 1.5)
instance = load_instance(large, config, limits=Limits(image_pixels=100_000_000))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, instance.mask.sum())
"""


@pytest.mark.slow
def test_a_hundred_megapixels_are_read_within_500_megabytes(put, tmp_path: Path):
    rgba = np.zeros((10_000, 10_000, 4), np.uint8)
    rgba[2000:8000, 3000:7000] = (170, 110, 60, 255)
    put({"image.png": encode(rgba, compress_level=1), "small.png": encode(rgba_of(TRUE))})
    del rgba
    assert refusal(put({})).kind == ErrorKind.IMAGE_TOO_LARGE
    command = [sys.executable, "-c", COST, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    kilobytes, covered = done.stdout.split()
    assert int(kilobytes) < 500_000
    assert float(covered) == pytest.approx(0.24 * 224**2, rel=1e-3)
