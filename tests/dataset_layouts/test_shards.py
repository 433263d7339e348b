"""Samples in tar shards and in Parquet, read in place: the same pictures and meshes as if each were a file."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layout_fixtures import encoded, look_at_mask, lopsided, mesh_bytes, photograph, rgba
from manifest_checks import instances, left_out, rows_of
from view_checks import manifest_rows, view_ious

from refine_batch.dataset.fingerprint import fingerprints
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.stamps import InputStamper
from refine_batch.errors import UsageError
from refine_batch.io.inside import cell_uri, tar_uri
from refine_batch.io.storage import FileTooLargeError, Storage, StorageError, fetch
from refine_batch.io.uri import normalise, resolve

CAMERA = {"azimuth": 40.0, "elevation": 15.0, "distance": 1.7}


def sample(number: int, *, masked: bool = False) -> dict[str, bytes]:
    model = lopsided(number)
    mask = look_at_mask(CAMERA, model)
    files = {"glb": mesh_bytes(model.vertices, model.faces, "glb")}
    if masked:
        files |= {"jpg": encoded(photograph(mask), "jpg"), "mask.png": encoded(mask.astype(np.uint8) * 255, "png")}
    else:
        files |= {"png": encoded(rgba(mask), "png"), "truth.ply": mesh_bytes(model.vertices, model.faces, "ply")}
    return files | {"json": json.dumps(CAMERA | {"category": "thing", "caption": "a thing"}).encode()}


def shard(samples: dict[str, dict[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        for key, files in samples.items():
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_shards(storage, build, form):
    long = "ein sehr langer Name " * 8 + "#ü"
    storage.write("data/000.tar", shard({"a": sample(0), "folder/b": sample(1, masked=True)}, form))
    storage.write("data/001.tar", shard({"c" if form == tarfile.USTAR_FORMAT else long: sample(2)}, form))
    built = build("webdataset", symmetry_axis="x")
    assert (built.rows, dict(built.left_out)) == (3, {})
    found = manifest_rows(built, storage)
    assert [row.instance_id for row in found][:2] == ["a", "folder/b"]
    for row in found:
        assert view_ious(row, storage)[0] >= 0.97
        assert (row.category, row.symmetry_axis) == ("thing", "x")
    assert instances(built, storage)[0].ground_truth is not None
    # The whole can be moved: what lies below the manifest's folder would be named relative to it.
    assert all(row["mesh_uri"].startswith("tar://") for row in rows_of(built, storage))


def test_shards_beside_the_manifest_are_named_relative_to_it(storage, build):
    storage.write("out/shards/000.tar", shard({"a": sample(0)}))
    built = build("webdataset", source=storage.path_of("out/shards"))
    [row] = rows_of(built, storage)
    assert row["mesh_uri"].endswith("/shards/000.tar#a.glb")
    assert storage.uri not in row["mesh_uri"]
    [loaded] = instances(built, storage)
    assert loaded.instance_id == "a"


def test_what_is_wrong_with_shards_is_named(storage, build):
    good = sample(0)
    bad = {
        "a": good,
        "no-mesh": {"png": good["png"]},
        "no-image": {"glb": good["glb"]},
        "torn": good | {"json": b'{"azimuth": '},
        "words": good | {"json": b'{"azimuth": "north"}'},
        "listed": good | {"json": b"[1]"},
        "twice": good | {"obj": b"v 0 0 0"},
    }
    storage.write("data/0.tar", shard(bad))
    storage.write("data/1.tar", shard({"a": good, "z": sample(1)})[:-9000])
    storage.write("data/2.tar", b"no tar at all" * 100)
    storage.write("data/3.txt", b"")
    built = build("webdataset")
    assert built.rows == 1
    assert left_out(built, storage) == {
        "no-mesh": "mesh_missing",
        "no-image": "image_missing",
        "torn": "entry_broken",
        "words": "entry_broken",
        "listed": "entry_broken",
        "twice": "ambiguous",
        "a": "ambiguous",
        "z": "cut_short",
        "1.tar": "cut_short",
        "2.tar": "cut_short",
    }


def test_no_shards(storage, build):
    storage.write("data/0.tar.gz", b"")
    with pytest.raises(UsageError, match="is compressed"):
        build("webdataset")
    with pytest.raises(UsageError, match=r"no \.parquet files"):
        build("huggingface")


# --- Parquet --------------------------------------------------------------------------------------------------------


def parquet(samples: dict[str, dict[str, bytes]], *, struct: bool, named: bool = True) -> bytes:
    def cell(data: bytes | None, name: str):
        return data if not struct else {"bytes": data, "path": name if named else None} if data else None

    records = [
        {
            "id": key,
            "mesh" if struct else "mesh_bytes": cell(files.get("glb"), f"{key}.glb"),
            "image": cell(files.get("png") or files.get("jpg"), f"{key}.png"),
            "mask": cell(files.get("mask.png"), f"{key}.png"),
            "caption": "a thing",
            **CAMERA,
        }
        for key, files in samples.items()
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), sink, row_group_size=2)
    return sink.getvalue()


@pytest.mark.parametrize(("struct", "named"), [(False, True), (True, True), (True, False)])
def test_parquet_with_bytes(storage, build, struct, named):
    samples = {key: sample(n, masked=n == 1) for n, key in enumerate("abc")}
    storage.write("data/train-00000-of-00001.parquet", parquet(samples, struct=struct, named=named))
    built = build("huggingface")
    assert (built.rows, dict(built.left_out)) == (3, {})
    found = manifest_rows(built, storage)
    assert [bool(row.mask_uri) for row in found] == [False, True, False]
    assert found[2].mesh_uri.startswith("parquet://1.0/")
    for row in found:
        assert view_ious(row, storage)[0] >= 0.97


def test_what_is_wrong_with_parquet_is_named(storage, build):
    samples = {"a": sample(0), "no-mesh": {"png": sample(0)["png"]}, "": sample(0)}
    storage.write("data/0.parquet", parquet(samples, struct=True))
    storage.write("data/1.parquet", parquet({"z": sample(1)}, struct=True)[:-100])
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ["q"], "image": ["a.png"]}), sink)
    storage.write("data/2.parquet", sink.getvalue())
    built = build("huggingface")
    assert built.rows == 1
    assert left_out(built, storage) == {
        "no-mesh": "mesh_missing",
        "0.parquet, row group 1, row 0": "entry_broken",
        "1.parquet": "cut_short",
        "2.parquet": "entry_broken",
    }


# --- URIs that point into files --------------------------------------------------------------------------------------


def test_members_and_cells_are_read_as_files_are(storage):
    storage.write("x/s.tar", b"0123456789")
    inside = tar_uri(2, 5, storage.path_of("x/s.tar"), "a b#c.png")
    assert fetch(inside, s3_endpoint=storage.s3_endpoint) == b"234"
    assert fetch(inside, s3_endpoint=storage.s3_endpoint, max_bytes=3) == b"234"
    with pytest.raises(FileTooLargeError):
        fetch(inside, s3_endpoint=storage.s3_endpoint, max_bytes=2)
    with pytest.raises(StorageError, match=r"ends before byte 11|2 bytes came of 3"):
        fetch(tar_uri(8, 11, storage.path_of("x/s.tar"), "a"), s3_endpoint=storage.s3_endpoint)
    with pytest.raises(FileNotFoundError):
        fetch(tar_uri(0, 1, storage.path_of("x/none.tar"), "a"), s3_endpoint=storage.s3_endpoint)
    with pytest.raises(StorageError, match="does not say where"):
        fetch(f"tar://x/{storage.path_of('x/s.tar')}#a", s3_endpoint=storage.s3_endpoint)
    storage.write("x/p.parquet", parquet({"a": {"glb": b"mesh"}, "b": {"png": b"png"}}, struct=True))
    file = storage.path_of("x/p.parquet")
    assert fetch(cell_uri(0, 0, file, "mesh.bytes", "a.glb"), s3_endpoint=storage.s3_endpoint) == b"mesh"
    with pytest.raises(FileNotFoundError):
        fetch(cell_uri(0, 0, file, "image.bytes"), s3_endpoint=storage.s3_endpoint)
    for wrong in (cell_uri(0, 7, file, "mesh.bytes"), cell_uri(5, 0, file, "mesh.bytes"), cell_uri(0, 0, file, "no")):
        with pytest.raises(StorageError):
            fetch(wrong, s3_endpoint=storage.s3_endpoint)


def test_where_they_are_relative_to():
    assert resolve("/data", "tar://0-5/shards/../s/0.tar#a.png") == "tar://0-5//data/s/0.tar#a.png"
    assert resolve("/data", "tar://0-5/s3://b/k.tar#a.png") == "tar://0-5/s3://b/k.tar#a.png"
    assert resolve("s3://b/d", "parquet://0.1/p.parquet#m") == "parquet://0.1/s3://b/d/p.parquet#m"
    assert normalise("tar://0-5//x/./y.tar#k") == "tar://0-5//x/y.tar#k"
    with pytest.raises(UsageError):
        normalise("tar://nothing")


def test_a_shard_that_changes_changes_its_rows(storage, build):
    storage.write("data/0.tar", shard({"a": sample(0), "b": sample(1)}))
    built = build("webdataset")

    def prints(s: Storage) -> list[str]:
        manifest = Manifest.open(built.manifest, s.s3_endpoint)
        return [p for b in manifest.batches() for p in fingerprints(b, "c", InputStamper(s.s3_endpoint)).to_pylist()]

    before = prints(storage)
    assert before == prints(storage)
    assert len(set(before)) == 2
    storage.write("data/0.tar", shard({"a": sample(0), "b": sample(2)}))
    assert not set(before) & set(prints(storage))
