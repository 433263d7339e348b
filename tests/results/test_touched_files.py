"""What of a manifest is work where files were touched, or their store does not answer."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from result_rows import put, result

from refine_batch.dataset import content as content_module
from refine_batch.dataset.columns import MANIFEST_SCHEMA, URIS
from refine_batch.dataset.content import content_of, contents, digest_of
from refine_batch.dataset.fingerprint import fingerprints
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.stamps import AWAY, InputStamper
from refine_batch.results import touched as touched_module
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.increment import Increment, Work


class SomeAway:
    """Files whose names begin so are in a store that is away; of the others the name is the stamp."""

    def __init__(self, *stores: str):
        self.stores = stores

    def stamps(self, uris):
        found = [None if u is None else AWAY if u.startswith(self.stores) else f"s:{u}" for u in uris.to_pylist()]
        return pa.array(found, pa.string())

    def contents(self, uris):
        return [None if u is None else AWAY if u.startswith(self.stores) else b"[]" for u in uris]


def batch_of(*rows: ManifestRow) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([asdict(row) for row in rows], schema=MANIFEST_SCHEMA)


def work_of(storage, rows, stamper, config="c", **options) -> Work:
    options = {"transient_attempts": 3} | options
    return Increment(CommittedIndex.load(storage), config, stamper, **options).of(batch_of(*rows))


A, B = (ManifestRow(name, f"s3://{name}/m.obj", f"/{name}.png") for name in "ab")


@pytest.mark.parametrize("column", [*URIS, "views"])
def test_rows_whose_store_is_away_are_told_from_the_others(storage, column):
    value = json.dumps([{"image_uri": "http://away/x"}]) if column == "views" else "http://away/x"
    work = work_of(storage, [replace(A, **{column: value}), B], SomeAway("http://away"))
    assert work.missing.tolist() == [True, True]
    assert work.unseen.tolist() == [True, False]
    assert len(set(work.fingerprints.to_pylist())) == 2


def test_what_is_done_stays_done_while_the_store_is_away(storage):
    marks = fingerprints(batch_of(A, B), "c", SomeAway("nothing")).to_pylist()
    put(storage, [result("a", fingerprint=marks[0]), result("b", status="failed", fingerprint=marks[1])])
    away = SomeAway("s3://")
    work = work_of(storage, [A, B], away)
    assert not work.missing.any()
    assert not work.unseen.any()
    assert work.failed.tolist() == [False, True]
    assert work_of(storage, [A, B], away, force=True).missing.tolist() == [True, True]
    assert work_of(storage, [A, B], away, config="another").missing.tolist() == [True, True], "that much is known"
    assert work_of(storage, [replace(A, azimuth=1.0), B], away).missing.tolist() == [True, False]


def test_runs_that_met_the_outage_are_counted_whether_or_not_it_was_seen_while_planning(storage):
    known, away = SomeAway("nothing"), SomeAway("s3://a")
    for runs, stamper in enumerate((known, away, away)):
        work = work_of(storage, [A], stamper)
        assert (work.missing.tolist(), work.transient_runs.tolist()) == ([True], [runs])
        failure = {"status": "failed", "error_kind": "storage", "retry": True, "transient_runs": runs + 1}
        put(storage, [result("a", runs, fingerprint=work.fingerprints[0].as_py(), **failure)])
    assert work_of(storage, [A], away).missing.tolist() == [False]


def test_what_is_done_stays_done_while_its_file_system_is_not_mounted(storage, tmp_path):
    mounted, away = tmp_path / "point" / "data", tmp_path / "elsewhere"
    mounted.mkdir(parents=True)
    for name in ("m.obj", "i.png", "v.json"):
        (mounted / name).write_text("[]")
    rows = [
        ManifestRow("plain", str(mounted / "m.obj"), str(mounted / "i.png")),
        ManifestRow("views", str(mounted / "m.obj"), str(mounted / "i.png"), views_uri=str(mounted / "v.json")),
        ManifestRow("typo", str(tmp_path / "pont" / "m.obj"), str(mounted / "i.png")),
    ]
    marks = work_of(storage, rows, InputStamper()).fingerprints.to_pylist()
    put(storage, [result(row.instance_id, fingerprint=mark) for row, mark in zip(rows, marks, strict=True)])
    mounted.rename(away)
    work = work_of(storage, rows, InputStamper())
    assert work.missing.tolist() == [False] * 3
    work = work_of(storage, [replace(row, instance_id=f"new {row.instance_id}") for row in rows], InputStamper())
    assert (work.missing.tolist(), work.unseen.tolist()) == ([True] * 3, [True] * 3)
    away.rename(mounted)
    work = work_of(storage, rows, InputStamper())
    assert (work.missing.tolist(), work.fingerprints.to_pylist()) == ([False] * 3, marks)


def test_an_outage_that_lasts_is_left_be_and_its_end_is_noticed(storage):
    away = SomeAway("s3://a")
    for runs in range(3):
        work = work_of(storage, [A], away)
        assert (work.missing.tolist(), work.transient_runs.tolist()) == ([True], [runs])
        failure = {"status": "failed", "error_kind": "storage", "retry": True, "transient_runs": runs + 1}
        put(storage, [result("a", runs, fingerprint=work.fingerprints[0].as_py(), **failure)])
    assert work_of(storage, [A], away).missing.tolist() == [False]
    assert work_of(storage, [A], SomeAway("nothing")).missing.tolist() == [True]


@pytest.fixture
def local_row(tmp_path):
    for name in ("m.obj", "i.png", "further.png"):
        (tmp_path / name).write_text(name)
    (tmp_path / "v.json").write_text(json.dumps([{"image_uri": "further.png"}]))
    return ManifestRow("a", str(tmp_path / "m.obj"), str(tmp_path / "i.png"), views_uri=str(tmp_path / "v.json"))


FILES = ("m.obj", "i.png", "further.png", "v.json")


def content_known(row) -> str:
    paths = [Path(row.mesh_uri).with_name(name) for name in FILES]
    return content_of({str(path): digest_of(path.read_bytes()) for path in paths})


def touch(path) -> None:
    later = os.stat(path).st_mtime + 100
    os.utime(path, (later, later))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_touched_is_the_same_and_one_that_was_changed_is_not(storage, tmp_path, local_row, name):
    mark = work_of(storage, [local_row], InputStamper()).fingerprints[0].as_py()
    put(storage, [result("a", fingerprint=mark, content=content_known(local_row))])
    assert work_of(storage, [local_row], InputStamper()).missing.tolist() == [False]
    touch(tmp_path / name)
    work = work_of(storage, [local_row], InputStamper())
    assert work.fingerprints[0].as_py() != mark
    assert work.missing.tolist() == [False]
    assert work_of(storage, [local_row], InputStamper(), force=True).missing.tolist() == [True]
    assert work_of(storage, [local_row], InputStamper(), config="another").missing.tolist() == [True]
    (tmp_path / name).write_text(json.dumps([{"image_uri": "further.png", "fov": 1}]))
    assert work_of(storage, [local_row], InputStamper()).missing.tolist() == [True]


def test_a_touched_file_does_not_end_the_trying(storage, tmp_path, local_row):
    mark = work_of(storage, [local_row], InputStamper()).fingerprints[0].as_py()
    failure = {"status": "failed", "error_kind": "out_of_memory", "retry": True, "transient_runs": 1}
    put(storage, [result("a", fingerprint=mark, content=content_known(local_row), **failure)])
    touch(tmp_path / "m.obj")
    work = work_of(storage, [local_row], InputStamper())
    assert (work.missing.tolist(), work.transient_runs.tolist()) == ([True], [1])


def test_files_are_read_only_where_their_stamps_changed(storage, tmp_path, local_row, monkeypatch):
    other = replace(local_row, instance_id="b", views_uri=None)
    marks = work_of(storage, [local_row, other], InputStamper()).fingerprints.to_pylist()
    put(storage, [result("a", fingerprint=marks[0], content=content_known(local_row))])
    put(storage, [result("b", 1, fingerprint=marks[1])])
    read = []
    monkeypatch.setattr(content_module, "_digest", lambda path: read.append(path))
    assert not work_of(storage, [local_row, other], InputStamper()).missing.any()
    assert read == []
    touch(tmp_path / "further.png")
    work_of(storage, [local_row, other], InputStamper())
    assert sorted(map(os.path.basename, read)) == sorted(FILES)


@pytest.fixture
def read(monkeypatch):
    """Names of the files whose bytes are asked for."""
    names = []
    digest = content_module._digest
    monkeypatch.setattr(content_module, "_digest", lambda path: names.append(os.path.basename(path)) or digest(path))
    return names


def plan_and_keep(storage, *rows, **options):
    """(missing, what is remembered) of a plan that a run makes and brings to its end."""
    index = CommittedIndex.load(storage)
    work = Increment(index, "c", InputStamper(), transient_attempts=3, **options).of(batch_of(*rows))
    index.keep(storage)
    return work.missing.tolist()


def test_what_the_bytes_of_touched_files_told_is_remembered(storage, tmp_path, local_row, read):
    other = replace(local_row, instance_id="b", views_uri=None)
    marks = work_of(storage, [local_row, other], InputStamper()).fingerprints.to_pylist()
    put(storage, [result("a", fingerprint=marks[0], content=content_known(local_row)), result("b", 1)])
    touch(tmp_path / "m.obj")
    assert plan_and_keep(storage, local_row) == [False]
    assert sorted(read) == sorted(FILES)
    for _ in range(2):
        read.clear()
        assert plan_and_keep(storage, local_row) == [False]
        assert read == []
    assert work_of(storage, [local_row], InputStamper(), force=True).missing.tolist() == [True]
    assert work_of(storage, [local_row], InputStamper(), config="another").missing.tolist() == [True]
    assert work_of(storage, [replace(local_row, fov=20.0)], InputStamper()).missing.tolist() == [True]
    touch(tmp_path / "i.png")  # and once more: what is remembered follows
    assert plan_and_keep(storage, local_row) == [False]
    read.clear()
    assert plan_and_keep(storage, local_row) == [False]
    assert read == []
    (tmp_path / "m.obj").write_text("changed")
    assert plan_and_keep(storage, local_row) == [True]
    assert read, "of new stamps the bytes are read"


def test_what_is_remembered_is_of_one_result(storage, tmp_path, local_row, read):
    mark = work_of(storage, [local_row], InputStamper()).fingerprints[0].as_py()
    put(storage, [result("a", fingerprint=mark, content=content_known(local_row))])
    touch(tmp_path / "m.obj")
    assert plan_and_keep(storage, local_row) == [False]
    put(storage, [result("a", 1, fingerprint="of other work")])
    assert plan_and_keep(storage, local_row) == [True]
    # A failure that may pass is tried again, remembered or not.
    now = work_of(storage, [local_row], InputStamper()).fingerprints[0].as_py()
    failure = {"status": "failed", "error_kind": "out_of_memory", "retry": True, "transient_runs": 1}
    put(storage, [result("a", 2, fingerprint=now, content=content_known(local_row), **failure)])
    touch(tmp_path / "m.obj")
    assert [plan_and_keep(storage, local_row) for _ in range(2)] == [[True]] * 2


@pytest.mark.parametrize("damage", [b"", b"no such format", b"\x93NUMPY\x01\x00"])
def test_where_what_was_remembered_is_lost_the_files_are_read_again(storage, tmp_path, local_row, read, damage):
    mark = work_of(storage, [local_row], InputStamper()).fingerprints[0].as_py()
    put(storage, [result("a", fingerprint=mark, content=content_known(local_row))])
    touch(tmp_path / "m.obj")
    assert plan_and_keep(storage, local_row) == [False]
    read.clear()
    storage.write(touched_module.FILE, damage)
    assert plan_and_keep(storage, local_row) == [False]
    assert read
    read.clear()
    assert plan_and_keep(storage, local_row) == [False]
    assert read == []


def test_nothing_is_written_where_nothing_was_touched(storage, local_row):
    mark = work_of(storage, [local_row], InputStamper()).fingerprints[0].as_py()
    put(storage, [result("a", fingerprint=mark, content=content_known(local_row))])
    assert plan_and_keep(storage, local_row) == [False]
    assert [file.path for file in storage.list() if not file.path.startswith("results/")] == []


@pytest.mark.parametrize("beside", [True, False])
def test_a_large_gltf_that_was_touched_is_the_same(storage, tmp_path, beside):
    """Its JSON may hold the buffers, or name many things besides those that lie beside it."""
    gltf, buffer = tmp_path / "m.gltf", tmp_path / "m.bin"
    (tmp_path / "i.png").write_text("image")
    buffer.write_bytes(b"vertices")
    gltf.write_text(json.dumps({"buffers": [{"uri": "m.bin"}] if beside else [], "extras": "x" * (3 << 20)}))
    row = ManifestRow("a", str(gltf), str(tmp_path / "i.png"))
    files = [gltf, tmp_path / "i.png"] + [buffer] * beside
    content = content_of({str(path): digest_of(path.read_bytes()) for path in files})
    mark = work_of(storage, [row], InputStamper()).fingerprints[0].as_py()
    put(storage, [result("a", fingerprint=mark, content=content)])
    touch(gltf)
    assert work_of(storage, [row], InputStamper()).missing.tolist() == [False]
    buffer.write_bytes(b"other vertices")
    assert work_of(storage, [row], InputStamper()).missing.tolist() == [beside]


def test_rows_that_are_not_all_local_have_no_content(tmp_path, local_row):
    rows = [
        local_row,
        replace(local_row, mask_uri="s3://b/k.png"),
        replace(local_row, ground_truth_uri=str(tmp_path / "none.obj")),
        replace(local_row, views_uri=str(tmp_path / "none.json")),
        replace(local_row, views_uri="http://host/v.json"),
        replace(local_row, views_uri=None, views=json.dumps([{"image_uri": "s3://b/i.png"}])),
    ]
    found = contents(batch_of(*rows))
    assert found[0] != 0
    assert found[1:].tolist() == [0] * 5
    assert content_of({}) is None
    assert content_of({"/a": None}) is None
    assert content_of({"/a": "1", "/b": "2"}) != content_of({"/a": "2", "/b": "1"})
    assert found.dtype == np.uint64
