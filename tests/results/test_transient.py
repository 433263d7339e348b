"""Failures that may pass: which kinds, how the runs that met them are counted, and when a row is left be."""

import numpy as np
import pyarrow as pa
import pytest
from result_rows import put, result

from refine_batch.dataset.row import ManifestRow
from refine_batch.errors import ErrorKind
from refine_batch.instance import RefinedInstance
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.parts import RESULTS, list_parts, read_part
from refine_batch.results.rows import RowContext, failed_row, row_of
from refine_batch.results.schema import RESULT_SCHEMA
from refine_batch.results.transient import runs_failed, wants_retry

ROW = ManifestRow("it", "m.obj", "i.png")


def context(runs: int = 0) -> RowContext:
    return RowContext("run", "refine", "c", "0.1.0", "f", transient_runs=runs)


def test_kinds_that_speak_of_what_is_around_a_row_may_pass():
    assert {kind for kind in ErrorKind if kind.transient} == {
        ErrorKind.STORAGE,
        ErrorKind.ACCESS_DENIED,
        ErrorKind.OUT_OF_MEMORY,
    }


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [(None, 2, 0), ("storage", 0, 1), (ErrorKind.STORAGE, 2, 3), ("mesh_broken", 2, 0), ("of another version", 1, 0)],
)
def test_runs_in_a_row_are_counted(kind, before, after):
    assert runs_failed(kind, before) == after


def test_a_row_is_taken_up_until_so_many_runs_have_tried_it():
    assert [wants_retry(runs, 3) for runs in range(5)] == [False, True, True, False, False]
    assert wants_retry(np.array([0, 1, 2, 3], np.uint8), 2).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("kind", "retry", "runs"), [("storage", True, 3), ("mesh_broken", False, None), (None, None, None)]
)
def test_the_row_says_it(kind, retry, runs):
    outcome = RefinedInstance("it", "failed" if kind else "kept", error_kind=kind, error_message=kind and "why")
    row = row_of(outcome, ROW, context(2))
    assert (row["retry"], row["transient_runs"]) == (retry, runs)
    if kind:
        row = failed_row(ROW, ErrorKind(kind), "why", context(2))
        assert (row["retry"], row["transient_runs"]) == (retry, runs)


def missing(storage, rows, **options) -> list[bool]:
    ids, marks = zip(*rows, strict=True)
    return CommittedIndex.load(storage).look(pa.array(ids), pa.array(marks)).missing(**options).tolist()


def test_the_next_run_takes_it_up_and_the_one_after_its_last_does_not(storage):
    away = {"status": "failed", "error_kind": "storage", "retry": True}
    put(storage, [result("a", **away, transient_runs=1), result("b", **away, transient_runs=3)])
    put(storage, [result("c", status="failed", error_kind="mesh_broken", retry=False), result("d", 1)])
    rows = [("a", "f"), ("b", "f"), ("c", "f"), ("d", "f")]
    assert missing(storage, rows) == [False] * 4
    assert missing(storage, rows, transient_attempts=3) == [True, False, False, False]
    assert missing(storage, rows, transient_attempts=4) == [True, True, False, False]
    assert missing(storage, rows, transient_attempts=1) == [False] * 4
    assert missing(storage, rows, transient_attempts=3, retry_failed=True) == [True, True, True, False]


def test_the_count_belongs_to_the_fingerprint(storage):
    put(storage, [result("a", status="failed", error_kind="storage", retry=True, transient_runs=2), result("b")])
    index = CommittedIndex.load(storage)
    assert index.look(["a", "a", "b", "new"], ["f", "changed", "f", "f"]).transient_runs.tolist() == [2, 0, 0, 0]


def test_rows_of_before_these_columns_were_are_as_they_were(storage):
    put(storage, [result("a", status="failed", error_kind="storage")])
    [part] = list_parts(storage)
    older = read_part(storage, part).drop_columns(["retry", "transient_runs"])
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(older.replace_schema_metadata(RESULT_SCHEMA.metadata), sink)
    storage.write(f"{RESULTS}/{part.path.rpartition('/')[2]}", sink.getvalue().to_pybytes())
    assert missing(storage, [("a", "f")], transient_attempts=3) == [False]
