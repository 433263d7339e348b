"""The newest row of an instance is the truth."""

import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import put, result

from refine_batch.io.storage import Storage
from refine_batch.results import live
from refine_batch.results.live import live_rows
from refine_batch.results.schema import RESULT_SCHEMA


def rows(storage, *columns, **options):
    return [row for batch in live_rows(storage, columns or None, **options) for row in batch.to_pylist()]


def test_no_output_has_no_rows(storage):
    assert rows(storage) == []


def test_each_instance_once_and_newest(storage):
    put(storage, [result("a", 1), result("b", 1), result("c", 9)])
    put(storage, [result("a", 2, status="failed"), result("c", 3)])
    put(storage, [result("d", 4)])
    found = {row["instance_id"]: row for row in rows(storage)}
    assert len(rows(storage)) == 4
    assert {i: row["run_id"] for i, row in found.items()} == {"a": "run2", "b": "run1", "c": "run9", "d": "run4"}
    assert found["c"]["vertices"][0] == [9.0, 1.0, 0.0]
    assert found["a"]["vertices"] is None
    assert list(found["a"]) == RESULT_SCHEMA.names


def test_equal_times_leave_one(storage):
    put(storage, [result("a", 1)], "part-1.parquet")
    put(storage, [result("a", 1)], "part-2.parquet")
    assert len(rows(storage, "instance_id")) == 1


def test_filters_apply_to_the_newest_rows_only(storage):
    put(storage, [result("a", 1, status="failed"), result("b", 1, status="failed")])
    put(storage, [result("a", 2)])
    failed = rows(storage, "instance_id", "status", filter=pc.field("status") == "failed")
    assert failed == [{"instance_id": "b", "status": "failed"}]
    assert {r["run_id"] for r in rows(storage, "run_id", ids=["a", "nobody"])} == {"run2"}


def test_only_what_is_needed_is_read(storage, monkeypatch):
    monkeypatch.setattr("refine_batch.results.parts.ROW_GROUP_BYTES", 2000)
    put(storage, [result(f"{n}") for n in range(50)])
    put(storage, [result("other", 1)])
    asked = []
    original = live.read_row_groups
    monkeypatch.setattr(live, "read_row_groups", lambda f, g, c: asked.append((list(g), list(c))) or original(f, g, c))
    assert [r["vertices"][0] for r in rows(storage, "vertices", ids=["49"])] == [[0.0, 2.0, 0.0]]
    assert len(asked) == 1
    assert len(asked[0][0]) == 1


history = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), min_size=1, max_size=4, unique_by=lambda t: t[0]),
    max_size=5,
)


@given(history)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_history_has_one_truth_per_instance(tmp_path_factory, history):
    storage = Storage(str(tmp_path_factory.mktemp("history")))
    newest = {}
    for number, part in enumerate(history):
        put(storage, [result(i, at, run_id=f"{number}", batch=str(at)) for i, at in part], f"part-{number}.parquet")
        for i, at in part:
            newest[i] = max(newest.get(i, 0), at)
    assert sorted((r["instance_id"], int(r["batch"])) for r in rows(storage, "instance_id", "batch")) == sorted(
        newest.items()
    )


def test_parts_that_go_away_meanwhile_are_found_where_they_went(storage, monkeypatch):
    for name in ("READERS", "READERS_AFAR"):
        monkeypatch.setattr(live, name, 1)
    for n in range(4):
        put(storage, [result(f"{n}", n)], f"part-{n}.parquet")
    found = []
    for batch in live_rows(storage, ["instance_id"]):
        found += batch.column(0).to_pylist()
        if len(found) == 1:
            put(storage, [result(f"{n}", n) for n in range(4)], "stack-000001-x.parquet")
            storage.delete(*(f"results/part-{n}.parquet" for n in range(4)))
    assert sorted(found) == ["0", "1", "2", "3"]


def test_a_damaged_part_is_an_error_and_not_skipped(storage):
    put(storage, [result("a")])
    storage.write("results/part-x.parquet", b"torn")
    with pytest.raises(OSError, match="part-x"):
        rows(storage)
