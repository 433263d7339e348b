"""Manifests that hold meshes and pictures as bytes in columns of their own."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from refine_batch.dataset.load import load_instance
from refine_batch.dataset.manifest import Manifest, ManifestRow
from refine_batch.errors import UsageError
from refine_batch.io.meshes import mesh_format, parse_mesh, write_mesh
from refine_batch.io.storage import Storage
from refine_batch.mesh import Mesh

BOX = Mesh(
    np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32) - np.float32(0.5),
    np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]], np.int32),
)


def png(values: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(values).save(sink, "png")
    return sink.getvalue()


DISC = np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 9
PICTURE = png(np.full((32, 32, 3), 90, np.uint8))
MASK = png(np.where(DISC, 255, 0).astype(np.uint8))


def write(storage: Storage, columns: dict, group: int = 2) -> str:
    count = len(next(iter(columns.values())))
    camera = {name: [1.0] * count for name in ("azimuth", "elevation", "distance")}
    sink = io.BytesIO()
    table = pa.table({"instance_id": [f"row{i}" for i in range(count)]} | camera | columns)
    pq.write_table(table, sink, row_group_size=group)
    storage.write("manifest.parquet", sink.getvalue())
    return storage.path_of("manifest.parquet")


def rows_of(storage: Storage, uri: str) -> list[ManifestRow]:
    manifest = Manifest.open(uri, storage.s3_endpoint)
    assert manifest.ignored_columns == ()
    rows = [ManifestRow.from_batch(batch, i) for batch in manifest.batches() for i in range(batch.num_rows)]
    assert manifest.check_ids() == len(rows)
    return rows


def test_bytes_in_place_of_uris(storage):
    """Plain bytes, and structs as Hugging Face's Image; over several row groups, whose cells are found again."""
    shifted = [Mesh(BOX.vertices + np.float32(i), BOX.faces) for i in range(5)]
    image = [{"bytes": PICTURE, "path": f"{i}.png"} for i in range(5)]
    meshes = [write_mesh(mesh, "obj" if i % 2 else "glb") for i, mesh in enumerate(shifted)]
    uri = write(storage, {"mesh_bytes": meshes, "image_bytes": image, "mask_bytes": [MASK] * 5})
    rows = rows_of(storage, uri)
    assert rows[3].mesh_uri == f"parquet://1.1/{uri}#mesh_bytes"
    assert rows[4].image_uri == f"parquet://2.0/{uri}#image_bytes.bytes/4.png"
    for row, mesh in zip(rows, shifted, strict=True):
        instance = load_instance(row, s3_endpoint=storage.s3_endpoint)
        np.testing.assert_array_equal(instance.mesh.vertices, mesh.vertices)
        assert (instance.mask > 0.5).mean() == pytest.approx(DISC.mean(), rel=0.1)
    # Of some columns alone, as a plan reads them.
    [batch] = Manifest.open(uri, storage.s3_endpoint).batches(["mesh_uri"])
    assert batch.column(0).to_pylist() == [row.mesh_uri for row in rows]


def test_a_uri_counts_before_bytes_and_bytes_where_it_is_empty(storage):
    storage.write("a.obj", write_mesh(BOX, "obj"))
    obj = write_mesh(BOX, "obj")
    columns = {"mesh_uri": ["a.obj", None, ""], "mesh_bytes": [obj, obj, None], "image_bytes": [PICTURE] * 3}
    uri = write(storage, columns)
    rows = rows_of(storage, uri)
    assert [row.mesh_uri for row in rows] == [storage.path_of("a.obj"), f"parquet://0.1/{uri}#mesh_bytes", None]
    assert "mesh_uri is empty" in rows[2].problem().message


def test_text_holds_no_bytes(storage):
    for name, data in (
        ("manifest.csv", b"instance_id,mesh_bytes,image_uri,azimuth,elevation,distance\na,AAAA,b.png,,,\n"),
        ("manifest.jsonl", b'{"instance_id": "a", "mesh_bytes": "AAAA", "image_uri": "b.png", "azimuth": null}\n'),
    ):
        storage.write(name, data)
        with pytest.raises(UsageError, match="no column mesh_uri; mesh_bytes needs Parquet, and a column of bytes"):
            Manifest.open(storage.path_of(name), storage.s3_endpoint)
    uri = write(storage, {"mesh_bytes": ["text"], "image_uri": ["b.png"]})
    with pytest.raises(UsageError, match="mesh_bytes needs Parquet, and a column of bytes there"):
        Manifest.open(uri, storage.s3_endpoint)


@pytest.mark.parametrize("kind", ["obj", "stl", "stl_ascii", "ply", "off", "glb"])
def test_meshes_without_a_name_are_told_by_their_bytes(kind):
    import trimesh

    data = trimesh.Trimesh(BOX.vertices, BOX.faces, process=False).export(file_type=kind)
    data = data.encode() if isinstance(data, str) else data
    assert mesh_format(data, "parquet://0.0/m.parquet#mesh_bytes") == kind.partition("_")[0]
    assert len(parse_mesh(data, "parquet://0.0/m.parquet#mesh_bytes").faces) == len(BOX.faces)


@pytest.mark.parametrize("data", [b"v as in victory", b"\0" * 134, b"solid ground", b"v 1 2 3\nno faces"])
def test_what_is_no_mesh_is_not_taken_for_one(data):
    assert mesh_format(data, "a") is None
