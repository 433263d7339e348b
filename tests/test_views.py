"""Further views, and columns of more than one value: read alike from every format, refused with their place."""

import io
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refine_batch.cameras.camera import Camera
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.dataset.picture_row import picture_camera, picture_camera_error
from refine_batch.dataset.views import ViewRow, parse_views
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.instance import CameraError
from refine_batch.io.storage import Storage

# Nothing but a camera 2 before the origin: x right, y down, z forward.
EXTRINSICS = [1.0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, -1.0, 2.0]
INTRINSICS = [100.0, 100.0, 50.0, 50.0]
VIEWS = [
    {"image_uri": "v/1.png", "azimuth": 90, "elevation": 0, "distance": 2.0, "camera_error_degrees": 5, "weight": 0.5},
    {"mask_uri": "v/2.png", "ignore_uri": "v/o.png", "intrinsics": INTRINSICS, "extrinsics": EXTRINSICS},
]
ROW = {
    "instance_id": "a",
    "mesh_uri": "a.obj",
    "image_uri": "a.png",
    "azimuth": None,
    "elevation": None,
    "distance": None,
    "intrinsics": INTRINSICS,
    "extrinsics": EXTRINSICS,
    "camera_axes": "opencv",
    "camera_error_degrees": 3.0,
    "depth_uri": "d.png",
    "depth_kind": "metric",
    "depth_scale": 0.001,
    "normals_uri": "n.png",
    "views": VIEWS,
}
PLAIN = ManifestRow("a", "/a.obj", "/a.png", azimuth=0.0, elevation=0.0, distance=2.0)


def parquet(rows: list[dict]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_csv(rows: list[dict]) -> bytes:
    def cell(value: object) -> str:
        text = "" if value is None else json.dumps(value) if isinstance(value, list) else str(value)
        return '"' + text.replace('"', '""') + '"'

    lines = [",".join(rows[0]), *(",".join(map(cell, row.values())) for row in rows)]
    return "\n".join(lines).encode()


def as_jsonl(rows: list[dict]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.fixture
def folder(tmp_path) -> Storage:
    return Storage(str(tmp_path))


def read(folder: Storage, name: str, data: bytes) -> list[ManifestRow]:
    folder.write(name, data)
    manifest = Manifest.open(folder.path_of(name))
    manifest.check_ids()
    return [ManifestRow.from_batch(batch, i) for batch in manifest.batches() for i in range(batch.num_rows)]


@pytest.mark.parametrize(
    ("name", "write"), [("m.parquet", parquet), ("m.csv", as_csv), ("m.jsonl", as_jsonl)], ids=lambda x: str(x)[:5]
)
def test_every_format_says_the_same(folder, name, write):
    plain = dict.fromkeys(ROW) | {"instance_id": "b", "mesh_uri": "b.obj", "image_uri": "b.png"}
    row, other = read(folder, name, write([ROW, plain]))
    assert (row.problem(), other.problem()) == (None, None)
    assert (row.intrinsics, row.extrinsics) == (tuple(INTRINSICS), tuple(EXTRINSICS))
    assert (row.depth_kind, row.depth_scale, row.depth_uri) == ("metric", 0.001, folder.path_of("d.png"))
    assert picture_camera_error(row) == CameraError(3.0, 0.0)
    assert parse_views(row.views, "views") == (
        ViewRow(
            image_uri=folder.path_of("v/1.png"),
            azimuth=90.0,
            elevation=0.0,
            distance=2.0,
            camera_error_degrees=5.0,
            weight=0.5,
        ),
        ViewRow(
            mask_uri=folder.path_of("v/2.png"),
            ignore_uri=folder.path_of("v/o.png"),
            intrinsics=tuple(INTRINSICS),
            extrinsics=tuple(EXTRINSICS),
        ),
    )
    assert (other.views, other.intrinsics, picture_camera_error(other)) == (None, None, None)


def test_matrices_may_be_nested_or_numbers_in_text(folder):
    square = [[100.0, 0, 50], [0, 100, 50], [0, 0, 1]]
    nested = ROW | {"intrinsics": square, "extrinsics": [EXTRINSICS[i : i + 4] for i in (0, 4, 8)], "views": None}
    flat = tuple(float(x) for row in square for x in row)
    for name, write in (("m.parquet", parquet), ("m.csv", as_csv), ("m.jsonl", as_jsonl)):
        [row] = read(folder, name, write([nested]))
        assert (row.intrinsics, row.extrinsics) == (flat, tuple(EXTRINSICS))
    [row] = read(folder, "t.csv", as_csv([ROW | {"intrinsics": "100 100; 50,50"}]))
    assert row.intrinsics == tuple(INTRINSICS)


def test_with_matrices_the_columns_of_angles_may_be_missing(folder):
    some = {k: v for k, v in ROW.items() if k not in ("azimuth", "elevation", "distance")}
    [row] = read(folder, "m.jsonl", as_jsonl([some]))
    camera, size = picture_camera(row, 100, 100)
    assert size == (100, 100)
    assert isinstance(camera, Camera)
    assert camera.distance == pytest.approx(2.0)
    assert (camera.azimuth, camera.elevation) == pytest.approx((0.0, 0.0))
    assert camera.fov == pytest.approx(53.130102)


def test_a_list_that_is_none_names_column_and_row(folder):
    for value in ("[1, 2", "[1, null]", "one two", "[true]"):
        with pytest.raises(UsageError, match="column intrinsics, row 2"):
            read(folder, "m.csv", as_csv([ROW, ROW | {"instance_id": "b", "intrinsics": value}]))
    with pytest.raises(UsageError, match="column intrinsics must hold lists of numbers"):
        read(folder, "m.parquet", parquet([ROW | {"intrinsics": 3.0}]))
    with pytest.raises(UsageError, match="column views must hold lists of structs"):
        read(folder, "m.parquet", parquet([ROW | {"views": [1.0]}]))


GOOD = {"image_uri": "/1.png", "azimuth": 1, "elevation": 2, "distance": 3}


@pytest.mark.parametrize(
    ("views", "kind", "says"),
    [
        ("[", ErrorKind.ROW_INVALID, "views: not JSON"),
        ({"views": 3}, ErrorKind.ROW_INVALID, "views: a list of objects"),
        ([GOOD, 3], ErrorKind.ROW_INVALID, "views: a list of objects"),
        ([GOOD] * 257, ErrorKind.ROW_INVALID, "257 views; the limit is 256"),
        ([GOOD, GOOD | {"azimut": 3}], ErrorKind.ROW_INVALID, "views[1]: there is no 'azimut'; did you mean 'azimuth'"),
        ([GOOD, GOOD | {"azimuth": None}], ErrorKind.CAMERA_INVALID, "views[1]: azimuth is empty"),
        ([GOOD, GOOD | {"azimuth": "east"}], ErrorKind.ROW_INVALID, "views[1].azimuth: 'east' is not a number"),
        ([GOOD | {"image_uri": 7}], ErrorKind.ROW_INVALID, "views[0].image_uri: 7 is not text"),
        ([GOOD | {"image_uri": None}], ErrorKind.ROW_INVALID, "views[0]: image_uri and mask_uri are both empty"),
        ([GOOD | {"distance": -1}], ErrorKind.CAMERA_INVALID, "views[0]: distance is -1"),
        ([GOOD | {"weight": -1}], ErrorKind.ROW_INVALID, "views[0]: weight is -1"),
        ([GOOD | {"intrinsics": INTRINSICS}], ErrorKind.CAMERA_INVALID, "views[0]: extrinsics is empty"),
        (
            [GOOD | {"intrinsics": [1, 2], "extrinsics": EXTRINSICS}],
            ErrorKind.CAMERA_INVALID,
            "views[0]: intrinsics has 2 numbers; it must have 4 or 9",
        ),
        ([GOOD | {"depth_kind": "far"}], ErrorKind.ROW_INVALID, "views[0]: depth_kind is 'far'"),
        ([GOOD | {"camera_error_degrees": -2}], ErrorKind.CAMERA_INVALID, "views[0]: camera_error_degrees is -2"),
        ([GOOD | {"mask_uri": "a\0b"}], ErrorKind.ROW_INVALID, "views[0]: mask_uri"),
    ],
)
def test_a_bad_view_fails_its_row_with_its_place(views, kind, says):
    text = views if isinstance(views, str) else json.dumps(views)
    problem = replace(PLAIN, views=text).problem()
    assert isinstance(problem, InstanceError)
    assert problem.kind == kind
    assert says in problem.message
    assert "instance 'a'" in problem.message


def test_the_rows_own_columns_are_checked_alike():
    for changes, says in (
        ({"depth_scale": 0.0}, "depth_scale is 0"),
        ({"camera_axes": "blender"}, "camera_axes is 'blender'; it must be opencv or opengl"),
        ({"extrinsics": (float("nan"),) * 12, "intrinsics": (1.0,) * 4}, "extrinsics holds what is not a number"),
        ({"views": "[]", "views_uri": "/v.json"}, "views and views_uri are both given"),
        ({"views_uri": "a\0b"}, "views_uri"),
    ):
        problem = replace(PLAIN, **changes).problem()
        assert problem is not None, changes
        assert says in problem.message
