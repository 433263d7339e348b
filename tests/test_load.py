"""One row to one instance: every fault is an InstanceError of its kind that names the URI and no secret."""

import io
import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest
import trimesh
from PIL import Image

from refine_batch.cameras.camera import Camera, UnknownCamera
from refine_batch.config import PreparationOptions, RefineConfig
from refine_batch.dataset import load
from refine_batch.dataset.columns import MANIFEST_SCHEMA
from refine_batch.dataset.content import contents
from refine_batch.dataset.hashing import hash_high
from refine_batch.dataset.load import Limits, load_instance
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.meshes import MAX_FACES, write_mesh
from refine_batch.io.storage import Storage, StorageError
from refine_batch.mesh import Mesh

BOX = Mesh(trimesh.creation.box().vertices, trimesh.creation.box().faces)
BALL = Mesh(trimesh.creation.icosphere(subdivisions=1).vertices, trimesh.creation.icosphere(subdivisions=1).faces)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


RGBA = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
RGBA[..., 3] = 0
RGBA[5:12, 8:20, 3] = 200
MASK = np.zeros((20, 30), dtype=np.uint8)
MASK[3:6, 4:9] = 1


# The working size at which the pictures stay as they are, in the middle of a square.
CONFIG = RefineConfig(image_size=30)


def squared(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, [(5, 5), (0, 0), (0, 0)][: pixels.ndim])


def row_in(storage: Storage, **changes) -> ManifestRow:
    """A good row, its files in `storage`, with some columns changed."""
    files = {"mesh.obj": write_mesh(BOX, "obj"), "truth.glb": write_mesh(BALL, "glb"), "image.png": png(RGBA)}
    files |= {"photo.png": png(RGBA[..., :3]), "mask.png": png(MASK)}
    for name, data in files.items():
        storage.write(name, data)
    row = ManifestRow(
        "0146", storage.path_of("mesh.obj"), storage.path_of("image.png"), azimuth=30, elevation=10, distance=2
    )
    return replace(row, **{k: storage.path_of(v) if k.endswith("uri") and v else v for k, v in changes.items()})


@pytest.fixture
def folder(tmp_path) -> Storage:
    return Storage(str(tmp_path))


def refusal(row: ManifestRow, **options) -> InstanceError:
    with pytest.raises(InstanceError) as caught:
        load_instance(row, **options)
    return caught.value


def test_everything_a_row_names(storage):
    row = row_in(
        storage, ground_truth_uri="truth.glb", category="boxes", symmetry_axis="x", fov=50, roll=3, offset_x=0.1
    )
    instance = load_instance(row, CONFIG, s3_endpoint=storage.s3_endpoint)
    assert (instance.instance_id, instance.category, instance.symmetry_axis) == ("0146", "boxes", "x")
    assert instance.camera == Camera(30, 10, 2, fov=50, roll=3, offset_x=0.1, offset_y=0.0)
    for mesh, expected in ((instance.mesh, BOX), (instance.ground_truth, BALL)):
        np.testing.assert_array_equal(mesh.vertices, expected.vertices)
        np.testing.assert_array_equal(mesh.faces, expected.faces)
    np.testing.assert_array_equal(instance.image, squared(RGBA[..., :3]))
    np.testing.assert_array_equal(instance.mask, squared(RGBA[..., 3] > 0))
    assert instance.mask.dtype == np.float32
    assert instance.known.all()


def test_defaults(folder):
    instance = load_instance(row_in(folder))
    assert (instance.symmetry_axis, instance.ground_truth, instance.category) == (None, None, None)
    assert instance.camera == Camera(30, 10, 2)


@pytest.mark.parametrize("column", ["azimuth", "elevation", "distance"])
def test_a_camera_with_a_gap_is_to_be_estimated(folder, column):
    """What is known stays known."""
    known = {"azimuth": 30.0, "elevation": 10.0, "distance": 2.0} | {column: None}
    assert load_instance(row_in(folder, **{column: None}, fov=40)).camera == UnknownCamera(**known, fov=40)


def test_the_mask_image_wins(folder):
    for image in ("image.png", "photo.png"):
        row = row_in(folder, image_uri=image, mask_uri="mask.png")
        np.testing.assert_array_equal(load_instance(row, CONFIG).mask, squared(MASK > 0))


BROKEN = {
    "empty.obj": b"",
    "points.obj": b"v 0 0 0\nv 1 0 0\n",
    "nan.obj": b"v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n",
    "cut.glb": write_mesh(BOX, "glb")[:100],
    "text.png": b"not a picture",
    "cut.png": png(RGBA)[:400],
    "clear.png": png(RGBA * np.array([1, 1, 1, 0], dtype=np.uint8)),
    "solid.png": png(np.full((20, 30, 4), 255, dtype=np.uint8)),
    "black.png": png(MASK * 0),
    "small.png": png(MASK[:10]),
}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"mesh_uri": "absent.obj"}, ErrorKind.MISSING_FILE),
        ({"image_uri": "absent.png"}, ErrorKind.MISSING_FILE),
        ({"mask_uri": "absent.png"}, ErrorKind.MISSING_FILE),
        ({"ground_truth_uri": "absent.obj"}, ErrorKind.MISSING_FILE),
        ({"mesh_uri": "empty.obj"}, ErrorKind.MESH_EMPTY),
        ({"mesh_uri": "points.obj"}, ErrorKind.MESH_EMPTY),
        ({"mesh_uri": "nan.obj"}, ErrorKind.MESH_BROKEN),
        ({"mesh_uri": "cut.glb"}, ErrorKind.MESH_BROKEN),
        ({"mesh_uri": "image.png"}, ErrorKind.MESH_BROKEN),
        ({"ground_truth_uri": "cut.glb"}, ErrorKind.MESH_BROKEN),
        ({"image_uri": "text.png"}, ErrorKind.IMAGE_BROKEN),
        ({"image_uri": "cut.png"}, ErrorKind.IMAGE_BROKEN),
        ({"mask_uri": "cut.png"}, ErrorKind.IMAGE_BROKEN),
        ({"image_uri": "clear.png"}, ErrorKind.MASK_EMPTY),
        ({"mask_uri": "black.png"}, ErrorKind.MASK_EMPTY),
        ({"image_uri": "photo.png"}, ErrorKind.MASK_MISSING),
        ({"image_uri": "solid.png"}, ErrorKind.MASK_MISSING),
        ({"mask_uri": "small.png"}, ErrorKind.SIZE_MISMATCH),
    ],
)
def test_a_fault_names_its_kind_and_file(folder, changes, kind):
    row = row_in(folder, **changes)
    for name, data in BROKEN.items():
        folder.write(name, data)
    error = refusal(row)
    assert error.kind == kind
    assert all(folder.path_of(name) in error.message for name in changes.values())


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"azimuth": float("nan")}, ErrorKind.CAMERA_INVALID),
        ({"distance": 0.0}, ErrorKind.CAMERA_INVALID),
        ({"symmetry_axis": "w"}, ErrorKind.ROW_INVALID),
        ({"mesh_uri": None}, ErrorKind.ROW_INVALID),
    ],
)
def test_a_bad_row_is_refused_before_its_files_are_fetched(folder, monkeypatch, changes, kind):
    row = row_in(folder, **changes)
    monkeypatch.setattr(load, "fetch", lambda *a, **k: pytest.fail("a file was fetched"))
    assert refusal(row).kind == kind


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        (Limits(mesh_bytes=100), ErrorKind.MESH_TOO_LARGE),
        (Limits(faces=11), ErrorKind.MESH_TOO_LARGE),
        (Limits(image_bytes=100), ErrorKind.IMAGE_TOO_LARGE),
        (Limits(image_pixels=599), ErrorKind.IMAGE_TOO_LARGE),
    ],
)
def test_limits(folder, limits, kind):
    row = row_in(folder)
    error = refusal(row, limits=limits)
    assert error.kind == kind
    assert (row.mesh_uri if "mesh" in kind else row.image_uri) in error.message
    exact = Limits(mesh_bytes=len(write_mesh(BOX, "obj")), faces=12, image_bytes=len(png(RGBA)), image_pixels=600)
    assert load_instance(row, CONFIG, limits=exact).image.shape == (30, 30, 3)


def test_as_many_faces_are_read_as_the_configuration_allows(folder):
    assert RefineConfig().preparation.max_faces == MAX_FACES
    few = CONFIG.model_copy(update={"preparation": PreparationOptions(max_faces=11)})
    error = refusal(row_in(folder), config=few)
    assert error.kind == ErrorKind.MESH_TOO_LARGE


@pytest.mark.parametrize("fault", [FileNotFoundError("x"), StorageError("https://host/a.obj: refused"), b"v 0"])
def test_no_secret_of_a_uri_appears(folder, monkeypatch, fault):
    def fetch(uri, **options):
        if isinstance(fault, Exception):
            raise fault
        return fault

    monkeypatch.setattr(load, "fetch", fetch)
    row = replace(row_in(folder), mesh_uri="https://ann:hunter2@host/a.obj?X-Amz-Signature=c0ffee")
    error = refusal(row)
    assert "host/a.obj" in error.message
    assert "hunter2" not in error.message
    assert "c0ffee" not in error.message


def test_the_content_is_that_of_the_files(tmp_path, folder):
    """What a later run compares a touched file with."""
    views = [{"image_uri": "photo.png", "mask_uri": "mask.png", "azimuth": 40, "elevation": 10, "distance": 2}]
    folder.write("views.json", json.dumps(views).encode())
    row = row_in(folder, mask_uri="mask.png", ground_truth_uri="truth.glb", views_uri="views.json")
    batch = pa.RecordBatch.from_pylist([asdict(row)], schema=MANIFEST_SCHEMA)
    first = load_instance(row).content
    assert hash_high(pa.array([first])) == contents(batch) != 0
    folder.write("truth.glb", write_mesh(BOX, "glb"))
    assert load_instance(row).content != first


def test_files_that_are_not_local_have_no_content(s3_folder):
    assert load_instance(row_in(s3_folder), s3_endpoint=s3_folder.s3_endpoint).content is None
