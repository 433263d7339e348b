"""Parts: deterministic, whole, and readable by others."""

import io

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import put, result

from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage, StorageError
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.live import live_rows
from refine_batch.results.parts import compacted_name, generation, list_parts, part_name, read_part, write_part
from refine_batch.results.rows import table_of
from refine_batch.results.schema import RESULT_SCHEMA


def test_a_repeated_attempt_overwrites_itself(storage):
    first = put(storage, [result("a"), result("b")])
    again = put(storage, [result("b", seconds=2.0), result("a", run_id="run0")])
    assert first == again
    assert [part.path for part in list_parts(storage)] == [first]
    assert sorted(read_part(storage, first, ["instance_id"])["instance_id"].to_pylist()) == ["a", "b"]


def test_names_tell_runs_and_rows_apart():
    names = {part_name("r1", ["a", "b"]), part_name("r2", ["a", "b"]), part_name("r1", ["ab"]), part_name("r1", [b"a"])}
    assert len(names) == 4
    assert part_name("r", [b"1", b"2"]) == part_name("r", [b"2", b"1"])


def test_compacted_names_sort_after_their_sources():
    parts = [part_name(f"run{n}", ["x"]) for n in range(5)]
    first = compacted_name(parts[:3])
    second = compacted_name([first, *parts[3:]])
    assert max(parts) < first < second
    assert [generation(n) for n in (parts[0], first, f"results/{second}")] == [0, 1, 2]


def test_column_pruning_and_older_files(storage):
    table = table_of([result("a", 1)])
    older = table.drop_columns(["kept_reason", "other_losses"]).replace_schema_metadata(RESULT_SCHEMA.metadata)
    sink = io.BytesIO()
    pq.write_table(older, sink)
    storage.write("results/part-old.parquet", sink.getvalue())
    (part,) = list_parts(storage)
    assert read_part(storage, part, ["run_id", "kept_reason"]).to_pylist() == [{"run_id": "run1", "kept_reason": None}]
    assert read_part(storage, part).schema.equals(RESULT_SCHEMA)


def test_maps_of_losses_as_the_first_version_wrote_them(storage):
    table = table_of([result("a", 1), result("b", 2)])
    maps = pa.array([[("volume", 0.5)], None], pa.map_(pa.string(), pa.float64()))
    old = table.set_column(table.schema.get_field_index("other_losses"), "other_losses", maps)
    sink = io.BytesIO()
    pq.write_table(old.replace_schema_metadata({b"refine_batch.schema_version": b"1"}), sink)
    storage.write("results/part-old.parquet", sink.getvalue())
    (part,) = list_parts(storage)
    read = read_part(storage, part)
    assert read.schema.equals(RESULT_SCHEMA)
    assert read.column("other_losses").to_pylist() == [[{"name": "volume", "value": 0.5}], None]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3), st.none() | st.integers(0, 10**6))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_damaged_part_is_named_whatever_the_damage(tmp_path_factory, changes, length):
    """Some bytes are others, or the end is missing: it is read, or it is an error that says which file it is."""
    storage = Storage(str(tmp_path_factory.mktemp("damaged")))
    path = put(storage, [result("a"), result("b")])
    content = bytearray(storage.read(path))
    for at, value in changes:
        content[at % len(content)] = value
    storage.write(path, bytes(content[: None if length is None else length % len(content)]))
    for read in (lambda: CommittedIndex.load(storage), lambda: [b.to_pylist() for b in live_rows(storage)]):
        said = path
        try:
            read()
        except (StorageError, UsageError) as error:
            said = str(error)
        assert path in said
        assert "\n" not in said


def test_text_that_is_none_is_damage(storage):
    """A Parquet file that is whole, in which bytes of an id have become others."""
    table = table_of([result("a"), result("b")])
    broken = pa.StringArray.from_buffers(2, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\x80"))
    sink = io.BytesIO()
    pq.write_table(table.set_column(0, table.schema.field(0), broken), sink)
    assert table.schema.field(0).name == "instance_id"
    storage.write("results/part-text.parquet", sink.getvalue())
    with pytest.raises(StorageError, match=r"results/part-text\.parquet is not a Parquet file, or is damaged.*UTF8"):
        read_part(storage, "results/part-text.parquet")


def test_a_newer_schema_is_refused(storage):
    sink = io.BytesIO()
    metadata = {b"refine_batch.schema_version": b"3"}
    pq.write_table(table_of([result("a")]).replace_schema_metadata(metadata), sink)
    storage.write("results/part-new.parquet", sink.getvalue())
    with pytest.raises(UsageError, match="schema version 3"):
        read_part(storage, "results/part-new.parquet")


def test_a_damaged_part_is_named(storage):
    storage.write("results/part-x.parquet", b"not parquet")
    with pytest.raises(StorageError, match=r"part-x\.parquet is not a Parquet file"):
        read_part(storage, "results/part-x.parquet")


def test_only_parts_are_listed(storage):
    put(storage, [result("a")])
    storage.write("results/notes.txt", b"")
    storage.write("results/sub/part-1.parquet", b"")
    assert len(list_parts(storage)) == 1


@pytest.fixture
def output(tmp_path) -> Storage:
    storage = Storage(str(tmp_path / "out put"))
    put(
        storage,
        [result("0146", category="chair", iou_2d_after=0.5), result("b", status="failed", error_kind="timeout")],
    )
    put(storage, [result("0146", 5, category="chair", iou_2d_after=0.75)])
    put(storage, [result("c", 6, loss_curve=[1.0], symmetry_confidence=[0.5, 0.5, 0.5])])
    return storage


def test_duckdb_reads_it_as_it_stands(output):
    parts = f"read_parquet('{output.path_of('results/*.parquet')}')"
    with duckdb.connect() as db:
        assert db.execute(f"SELECT count(*) FROM {parts}").fetchall() == [(4,)]
        newest = "QUALIFY row_number() OVER (PARTITION BY instance_id ORDER BY refined_at DESC) = 1"
        rows = db.execute(f"SELECT instance_id, iou_2d_after, status FROM {parts} {newest} ORDER BY 1").fetchall()
        assert rows == [("0146", 0.75, "refined"), ("b", None, "failed"), ("c", None, "refined")]
        ((vertices, faces),) = db.execute(f"SELECT vertices, faces FROM {parts} WHERE run_id = 'run6'").fetchall()
        assert [list(map(float, v)) for v in vertices] == [[6, 1, 0], [0, 1, 0], [0, 0, 1]]
        assert [list(f) for f in faces] == [[0, 1, 2]]
        footers = f"parquet_kv_metadata('{output.path_of('results/*.parquet')}')"
        version = "SELECT DISTINCT decode(value) FROM {} WHERE decode(key) = 'refine_batch.schema_version'"
        assert db.execute(version.format(footers)).fetchall() == [("2",)]


def test_pyarrow_reads_it_as_it_stands(output):
    table = pq.read_table(output.path_of("results"))
    assert table.num_rows == 4
    assert table.schema.equals(RESULT_SCHEMA)
    assert ds.dataset(output.path_of("results")).schema.metadata[b"refine_batch.schema_version"] == b"2"


def test_heavy_rows_are_cut_into_row_groups(storage, monkeypatch):
    monkeypatch.setattr("refine_batch.results.parts.ROW_GROUP_BYTES", 2000)
    path = write_part(storage, table_of([result(f"{n}") for n in range(100)]), "part-x.parquet")
    file = pq.ParquetFile(pa.BufferReader(storage.read(path)))
    assert file.num_row_groups > 5
    assert read_part(storage, path, ["instance_id"])["instance_id"].to_pylist() == [f"{n}" for n in range(100)]
