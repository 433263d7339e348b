"""Outcomes as rows: every column, nothing secret, and a round trip through Parquet."""

import io
from dataclasses import asdict, astuple
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_batch.cameras.camera import Camera
from refine_batch.cameras.matrices import camera_from_matrices, matrices_of
from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind
from refine_batch.instance import Figures, RefinedInstance
from refine_batch.mesh import Mesh
from refine_batch.results.parts import add_rows, part_writer
from refine_batch.results.rows import RowContext, failed_row, mesh_of, row_of, table_of
from refine_batch.results.schema import FIGURES, HEAVY_COLUMNS, RESULT_SCHEMA, version_of

CONTEXT = RowContext("run", "refine", "abc", "0.1.0", "f" * 32, attempts=2, node="n1", batch="b7")
ROW = ManifestRow(
    "0146", "https://u:pw@h/m.obj?sig=s3cr3t", "/i.png", azimuth=1.0, elevation=2.0, distance=3.0, category="c"
)
MESH = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])


def test_figures_are_the_schema_s():
    assert Figures.names() == FIGURES


def test_schema_has_the_columns_of_the_interface():
    types = {field.name: str(field.type) for field in RESULT_SCHEMA}
    assert types["vertices"] == "list<element: fixed_size_list<element: float>[3]>"
    assert types["faces"] == "list<element: fixed_size_list<element: int32>[3]>"
    assert types["symmetry_confidence"] == "list<element: float>"
    assert types["attempts"] == "int32"
    assert types["refined_at"] == "timestamp[us, tz=UTC]"
    for name in ("instance_id", "category", "run_id", "method", "fingerprint", "config_hash", "code_version", "status"):
        assert types[name] == "string"
    for figure in FIGURES:
        assert types[f"{figure}_before"] == types[f"{figure}_after"] == "double"
    for loss in ("total", "silhouette", "displacement", "laplacian", "normal_consistency", "vertex_symmetry"):
        assert types[f"loss_{loss}"] == "double"
    assert version_of(RESULT_SCHEMA.metadata) == 2
    assert tuple(RESULT_SCHEMA.names[-4:]) == HEAVY_COLUMNS
    assert all(field.metadata[b"description"] for field in RESULT_SCHEMA)
    assert RESULT_SCHEMA.field("azimuth").metadata[b"unit"] == b"degrees"


def test_a_refined_instance():
    refined = RefinedInstance(
        "0146",
        "refined",
        MESH,
        np.array([0.1, 0.2, 0.3], np.float32),
        Camera(1, 2, 3),
        "given",
        Figures(iou_2d=0.5),
        Figures(iou_2d=0.75, chamfer_l2=float("nan")),
        {"silhouette": 1.0, "laplacian": 2.0, "volume": 0.5},
        np.array([4.0, 3.5]),
        400,
        1.25,
        "cuda:0",
        symmetry_axis="x",
        notes=("depth_uri left out: https://ann:pw@h/d.npy: it is the same everywhere", "two"),
    )
    before = datetime.now(UTC)
    row = table_of([row_of(refined, ROW, CONTEXT)]).to_pylist()[0]
    assert before <= row.pop("refined_at") <= datetime.now(UTC)
    expected = dict.fromkeys(RESULT_SCHEMA.names) | {
        "instance_id": "0146",
        "category": "c",
        "status": "refined",
        "attempts": 2,
        "run_id": "run",
        "batch": "b7",
        "method": "refine",
        "fingerprint": "f" * 32,
        "config_hash": "abc",
        "code_version": "0.1.0",
        "seconds": 1.25,
        "steps": 400,
        "device": "cuda:0",
        "node": "n1",
        "mesh_uri": "https://***@h/m.obj?***",
        "image_uri": "/i.png",
        "symmetry_axis": "x",
        "azimuth": 1.0,
        "elevation": 2.0,
        "distance": 3.0,
        "fov": 60.0,
        "roll": 0.0,
        "offset_x": 0.0,
        "offset_y": 0.0,
        "projection": "perspective",
        "camera_source": "given",
        "notes": ["depth_uri left out: https://***@h/d.npy: it is the same everywhere", "two"],
        "iou_2d_before": 0.5,
        "iou_2d_after": 0.75,
        "loss_total": 3.5,
        "loss_silhouette": 1.0,
        "loss_laplacian": 2.0,
        "other_losses": [{"name": "volume", "value": 0.5}],
        "symmetry_confidence": pytest.approx([0.1, 0.2, 0.3]),
        "loss_curve": [4.0, 3.5],
        "vertices": MESH.vertices.tolist(),
        "faces": MESH.faces.tolist(),
    }
    del expected["refined_at"]
    assert row == expected


def test_a_failed_instance_keeps_its_message_without_secrets(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    row = failed_row(ROW, ErrorKind.TIMEOUT, "no topsecret \ud800 " + "x" * 5000, CONTEXT, seconds=3.0)
    values = table_of([row]).to_pylist()[0]
    assert (values["status"], values["error_kind"], values["seconds"]) == ("failed", "timeout", 3.0)
    assert values["error_message"].startswith("no *** ? xx")
    assert len(values["error_message"]) == 2000
    assert values["vertices"] is None
    assert values["azimuth"] == 1.0


def test_a_nan_camera_becomes_null_in_the_failed_row():
    row = ManifestRow("a", "/m", "/i", azimuth=float("nan"), elevation=1.0, distance=2.0)
    values = table_of([failed_row(row, ErrorKind.CAMERA_INVALID, "azimuth is nan", CONTEXT)]).to_pylist()[0]
    assert (values["azimuth"], values["elevation"]) == (None, 1.0)


def test_a_clock_that_is_behind_cannot_make_an_old_row():
    ahead = datetime.now(UTC) + timedelta(hours=1)
    context = RowContext(**{**asdict(CONTEXT), "not_before": ahead})
    assert failed_row(ROW, ErrorKind.INTERNAL, "", context)["refined_at"] > ahead


def test_the_mesh_of_a_row_comes_back():
    mesh = Mesh(np.arange(12.0).reshape(4, 3), np.array([[0, 1, 2], [1, 2, 3]]))
    rows = [{"instance_id": "a", "vertices": mesh.vertices, "faces": mesh.faces}, {"instance_id": "b"}]
    [batch] = table_of(rows).to_batches()
    found = mesh_of(batch, 0)
    assert np.array_equal(found.vertices, mesh.vertices)
    assert np.array_equal(found.faces, mesh.faces)
    assert mesh_of(batch, 1) is None


def test_odd_arrays_are_refused():
    base = {"instance_id": "a", "status": "refined"}
    for wrong in ({"vertices": np.zeros((2, 2))}, {"vertices": np.zeros(3)}, {"loss_curve": np.zeros((1, 2))}):
        with pytest.raises(ValueError, match="expected shape"):
            table_of([base | wrong])
    with pytest.raises(ValueError, match="no such columns: vertexes"):
        table_of([base | {"vertexes": 1}])


def test_no_rows_are_an_empty_table():
    assert table_of([]).schema.equals(RESULT_SCHEMA, check_metadata=True)
    assert table_of([]).num_rows == 0


texts = st.text(st.characters(codec="utf-8"), max_size=10)
floats = st.none() | st.floats(allow_nan=False)
doubles = st.floats(allow_nan=False)
singles = st.floats(width=32, allow_nan=False)
triples = st.lists(st.tuples(singles, singles, singles), max_size=4)
times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
losses = st.lists(st.fixed_dictionaries({"name": texts, "value": doubles}), max_size=3)
corners = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=4)
VALUES = {
    pa.string(): st.none() | texts,
    pa.bool_(): st.none() | st.booleans(),
    pa.int32(): st.none() | st.integers(-(2**31), 2**31 - 1),
    pa.float64(): floats,
    RESULT_SCHEMA.field("refined_at").type: st.none() | times,
    RESULT_SCHEMA.field("other_losses").type: st.none() | losses,
    RESULT_SCHEMA.field("notes").type: st.none() | st.lists(texts, max_size=3),
    RESULT_SCHEMA.field("symmetry_plane").type: st.none() | st.lists(doubles, min_size=4, max_size=4),
    RESULT_SCHEMA.field("extrinsics").type: st.none() | st.lists(doubles, min_size=16, max_size=16),
    RESULT_SCHEMA.field("loss_curve").type: st.none() | st.lists(singles, max_size=5),
    RESULT_SCHEMA.field("vertices").type: st.none() | triples,
    RESULT_SCHEMA.field("faces").type: st.none() | corners,
}
rows = st.fixed_dictionaries(
    {f.name: VALUES[f.type] if f.nullable else texts for f in RESULT_SCHEMA if not f.nullable},
    optional={f.name: VALUES[f.type] for f in RESULT_SCHEMA if f.nullable},
)


@given(st.lists(rows, max_size=4))
@settings(max_examples=50, deadline=None)
def test_every_row_survives_parquet(some):
    arrays = [
        {n: _array(v) if n in ("vertices", "faces") and v is not None else v for n, v in row.items()} for row in some
    ]
    sink = io.BytesIO()
    with part_writer(sink) as writer:
        add_rows(writer, table_of(arrays))
    back = pq.read_table(io.BytesIO(sink.getvalue()))
    assert back.schema.equals(RESULT_SCHEMA)
    assert back.schema.metadata == RESULT_SCHEMA.metadata
    assert [f.metadata for f in back.schema] == [f.metadata for f in RESULT_SCHEMA]
    read = back.to_pylist()
    for expected, found in zip(some, read, strict=True):
        for name, value in found.items():
            wanted = expected.get(name)
            if name in ("vertices", "faces") and wanted is not None:
                wanted = [list(v) for v in wanted]
            assert value == wanted, name


def _array(values):
    return np.array(values).reshape(-1, 3)


def test_a_camera_that_looks_past_the_origin_is_said_as_matrices_alone():
    """Its angles about another point would be taken for angles about the origin."""
    off = Camera(30.0, 20.0, 2.0, target=(0.1, 0.0, -0.2))
    intrinsics, extrinsics = matrices_of(off, 224, 224)
    k = (intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2])
    refined = RefinedInstance(
        "a",
        "kept",
        camera=off,
        camera_source="corrected",
        intrinsics=tuple(map(float, k)),
        extrinsics=tuple(extrinsics.ravel().tolist()),
        symmetry_plane=(0.6, 0.0, 0.8, 0.1),
        iou_2d_given=0.7,
        known_share=0.8,
        share=0.0,
    )
    row = row_of(refined, ManifestRow("a", "/a.obj", "/a.png"), CONTEXT)
    assert (row["azimuth"], row["elevation"], row["distance"], row["fov"]) == (None, None, None, 60.0)
    [back] = table_of([row]).to_pylist()
    found, _ = camera_from_matrices(back["intrinsics"], back["extrinsics"], "opencv", 224, 224, off.target)
    assert back["projection"] == found.projection == "perspective"
    numbers = [np.hstack(astuple(camera)[:-1]) for camera in (found, off)]
    np.testing.assert_allclose(*numbers, atol=1e-6)
    assert back["symmetry_plane"] == [0.6, 0.0, 0.8, 0.1]
    assert (back["iou_2d_given"], back["iou_2d_refused"], back["share"]) == (0.7, None, 0.0)
    assert back["known_share"] == 0.8


def test_views_are_kept_without_credentials():
    listed = '[{"image_uri":"https://ann:pw@h/v.png","azimuth":90.0,"weight":0.5}]'
    manifest = ManifestRow("a", "/a.obj", "/a.png", depth_uri="https://ann:pw@h/d.npy", views=listed)
    row = row_of(RefinedInstance("a", "kept"), manifest, CONTEXT)
    assert row["views"] == '[{"image_uri":"https://***@h/v.png","azimuth":90.0,"weight":0.5}]'
    assert row["depth_uri"] == "https://***@h/d.npy"
    broken = row_of(RefinedInstance("a", "failed"), ManifestRow("a", "/a.obj", "/a.png", views="pw"), CONTEXT)
    assert broken["views"] is None
