"""A fingerprint changes exactly when something does that the result depends on."""

import json
import os
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refine_batch.dataset.columns import LATER, LISTS, MANIFEST_SCHEMA, NUMBERS, URIS
from refine_batch.dataset.content import contents
from refine_batch.dataset.fingerprint import fingerprints, key
from refine_batch.dataset.hashing import hash_high
from refine_batch.dataset.load import load_instance
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.stamps import InputStamper


class FixedStamps:
    """Every file has the stamp that its name is mapped to, or its name."""

    def __init__(self, stamps=None):
        self.known = stamps or {}

    def stamps(self, uris):
        return pa.array([None if u is None else self.known.get(u, "s" + u) for u in uris.to_pylist()], pa.string())

    def contents(self, uris):
        return [None] * len(uris)


def batch_of(*rows: ManifestRow) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([asdict(row) for row in rows], schema=MANIFEST_SCHEMA)


def one(row: ManifestRow, config: str = "c", stamps=None) -> str:
    return fingerprints(batch_of(row), config, FixedStamps(stamps))[0].as_py()


texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)
numbers = st.none() | st.floats(allow_nan=False)
rows = st.builds(
    ManifestRow,
    instance_id=st.text(st.characters(codec="utf-8"), max_size=5),
    **{n: texts.filter(lambda u: u is None or ("?" not in u and "@" not in u)) for n in URIS},
    **dict.fromkeys(NUMBERS, numbers),
    **{n: st.none() | st.lists(st.floats(allow_nan=False), min_size=1, max_size=3).map(tuple) for n in LISTS},
    **dict.fromkeys(
        ("symmetry_axis", "category", "camera_axes", "depth_kind", "normals_axes", "views", "up_axis", "projection"),
        texts,
    ),
)


def same(a: ManifestRow, b: ManifestRow) -> bool:
    return a == b  # 0.0 == -0.0, which is meant


@given(rows, rows)
@settings(max_examples=100, deadline=None)
def test_rows_share_a_fingerprint_only_if_equal(a, b):
    assert (one(a) == one(b)) == same(a, b)


@given(rows, st.sampled_from(MANIFEST_SCHEMA.names), rows)
@settings(max_examples=120, deadline=None)
def test_every_column_counts(row, column, other):
    changed = replace(row, **{column: getattr(other, column)})
    assert (one(row) == one(changed)) == same(row, changed)


@given(st.lists(rows, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_batch_is_its_rows(some):
    together = fingerprints(batch_of(*some), "c", FixedStamps()).to_pylist()
    assert together == [one(row) for row in some]
    assert all(len(f) == 32 and set(f) <= set("0123456789abcdef") for f in together)


ROW = ManifestRow("0146", "/m.obj", "/i.png", "/k.png", 1.0, 2.0, 3.0, ground_truth_uri="/g.obj")
MORE = replace(ROW, ignore_uri="/o.png", depth_uri="/d.npy", normals_uri="/n.png", views_uri="/v.json")


@pytest.mark.parametrize("column", URIS)
def test_files_count(column):
    assert one(MORE) != one(MORE, stamps={getattr(MORE, column): "another"})


@pytest.mark.parametrize("key", ["image_uri", "mask_uri", "ignore_uri", "depth_uri", "normals_uri"])
def test_files_of_further_views_count(key, tmp_path):
    views = [{"azimuth": 1}, {key: "/further.png"}]
    row = replace(ROW, views=json.dumps(views))
    assert one(row) != one(row, stamps={"/further.png": "another"})
    listed = tmp_path / "views.json"
    listed.write_text(json.dumps([{key: "further.png"}]))
    (tmp_path / "further.png").write_text("one")
    row = replace(ROW, views_uri=str(listed))
    before = fingerprints(batch_of(row), "c", InputStamper())
    assert fingerprints(batch_of(row), "c", InputStamper()) == before
    (tmp_path / "further.png").write_text("another")
    assert fingerprints(batch_of(row), "c", InputStamper()) != before


def test_columns_that_came_later_leave_rows_without_them_as_they_were():
    fuller = replace(ROW, instance_id="b", **{n: (1.0,) if n in LISTS else 1.0 if n in NUMBERS else "x" for n in LATER})
    assert fingerprints(batch_of(ROW, fuller), "c", FixedStamps())[0].as_py() == one(ROW)


def test_configuration_counts():
    assert one(ROW, "c1") != one(ROW, "c2")


def test_fields_do_not_run_into_each_other():
    a = ManifestRow("i", "ab", "c")
    assert one(a, stamps={"ab": "x", "c": "x"}) != one(ManifestRow("i", "a", "bc"), stamps={"a": "x", "bc": "x"})
    assert one(replace(ROW, category=None)) != one(replace(ROW, category="")) != one(replace(ROW, category="~"))


def test_signatures_and_passwords_of_addresses_do_not_count():
    for a, b in [
        ("https://h/a.obj?X-Amz-Signature=1", "https://h/a.obj?X-Amz-Signature=2"),
        ("https://ann:old@h/a.obj", "https://ann:new@h/a.obj"),
    ]:
        stamps = {a: "e", b: "e"}
        assert one(replace(ROW, mesh_uri=a), stamps=stamps) == one(replace(ROW, mesh_uri=b), stamps=stamps)
    assert one(replace(ROW, mesh_uri="s3://b/a?1=1")) != one(replace(ROW, mesh_uri="s3://b/a?1=2"))


def test_the_rule_does_not_drift():
    """A change here refines every row of every output again: it must be meant."""
    assert one(ROW) == "ce6b7e55476559c002e3acc3ebba2c61"


def test_local_files_by_size_and_time(tmp_path):
    mesh = tmp_path / "m.obj"
    mesh.write_text("v")
    row = replace(ROW, mesh_uri=str(mesh), image_uri=str(tmp_path / "none.png"))
    first = fingerprints(batch_of(row), "c", InputStamper())
    assert fingerprints(batch_of(row), "c", InputStamper()) == first
    mesh.write_text("changed")
    second = fingerprints(batch_of(row), "c", InputStamper())
    assert second != first
    (tmp_path / "none.png").write_text("now there")
    assert fingerprints(batch_of(row), "c", InputStamper()) != second


def test_key():
    assert len(key("a", "f")) == 16
    assert len({key("a", "f"), key("b", "f"), key("a", "g"), key("fa", "")}) == 4


def test_buffers_beside_a_gltf_file_count_and_textures_do_not(tmp_path):
    picture = Image.fromarray(np.full((4, 4, 3), 99, np.uint8))
    sphere = trimesh.creation.icosphere(subdivisions=1)
    uv = np.zeros((len(sphere.vertices), 2))
    sphere.visual = trimesh.visual.TextureVisuals(uv=uv, image=picture)
    for name, data in trimesh.exchange.gltf.export_gltf(sphere.scene(), merge_buffers=True).items():
        (tmp_path / name).write_bytes(data)
    [buffer] = tmp_path.glob("*.bin")
    mask = np.zeros((32, 32, 4), np.uint8)
    mask[8:24, 8:24] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    row = ManifestRow("a", str(tmp_path / "model.gltf"), str(tmp_path / "a.png"), azimuth=0, elevation=0, distance=2)

    def now() -> str:
        return fingerprints(batch_of(row), "c", InputStamper())[0].as_py()

    def content() -> int:
        return int(contents(batch_of(row))[0])

    first, first_content = now(), content()
    assert first_content == int(hash_high(pa.array([load_instance(row).content]))[0])
    (tmp_path / "beside.txt").write_text("of no file that is named")
    assert (now(), content()) == (first, first_content)
    os.utime(buffer, (1, 1))
    touched = now()
    assert touched != first
    assert content() == first_content
    data = bytearray(buffer.read_bytes())
    data[-1] ^= 1
    buffer.write_bytes(data)
    assert now() != touched
    assert content() != first_content
    buffer.unlink()
    assert now() not in (first, touched)
    (tmp_path / "model.gltf").write_bytes(b"{")
    now()
