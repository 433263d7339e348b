"""What changed since a moment, told from the parts of an output alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import START, put, result

from refine_batch.io.storage import Storage
from refine_batch.nightly.changes import Moved, Pairs, changes_since, relative_worsening

THEN = START + timedelta(seconds=100)


def counts(changes):
    return changes.new, changes.changed, changes.redone, changes.unchanged


def test_each_instance_is_counted_as_what_became_of_it(storage):
    put(storage, [result(name, 1, fingerprint="one") for name in ("same", "changed", "retried", "worse")])
    put(storage, [result("broken", 2, status="failed", error_kind="mesh_broken")])
    put(
        storage,
        [
            result("new", 101),
            result("changed", 101, fingerprint="two"),
            result("retried", 101, fingerprint="one"),
            result("worse", 101, fingerprint="two", status="failed", error_kind="timeout", error_message="too slow"),
            result("broken", 101),
        ],
    )
    changes = changes_since(storage, THEN)
    assert counts(changes) == (1, 2, 2, 1)
    assert changes.increment == 5
    assert (changes.failed, changes.newly_failed, changes.recovered) == (1, 1, 1)
    assert changes.failures == [("timeout", 1, [("worse", "too slow")])]
    assert changes.as_of == START + timedelta(seconds=101)


def test_a_first_night_finds_everything_new(tmp_path):
    storage = Storage(str(tmp_path))
    put(storage, [result("a", 1), result("b", 2, status="failed", error_kind="x")])
    changes = changes_since(storage, None)
    assert counts(changes) == (2, 0, 0, 0)
    assert (changes.failed, changes.newly_failed, changes.recovered) == (1, 1, 0)


def test_an_empty_output_has_no_changes(tmp_path):
    changes = changes_since(Storage(str(tmp_path)), None)
    assert counts(changes) == (0, 0, 0, 0)
    assert changes.as_of is None


def test_only_the_last_row_before_counts_as_what_was(tmp_path):
    storage = Storage(str(tmp_path))
    put(storage, [result("a", 1, fingerprint="one", iou_2d_after=0.1)])
    put(storage, [result("a", 2, fingerprint="two", iou_2d_after=0.8)])
    put(storage, [result("a", 101, fingerprint="one", iou_2d_after=0.7)])
    put(storage, [result("a", 102, fingerprint="two", iou_2d_after=0.9)])
    changes = changes_since(storage, THEN)
    # From "two" to "one" and back: as it was.
    assert counts(changes) == (0, 0, 1, 0)
    assert changes.pairs == {"iou_2d": Pairs(1, 0.8, 0.9)}


def test_figures_are_paired_by_instance_whatever_the_order_of_parts(tmp_path):
    storage = Storage(str(tmp_path))
    then, now = {"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8}, {"d": 0.4, "b": 0.66, "a": 0.45, "c": 0.7}
    for name, value in then.items():
        put(storage, [result(name, 1, fingerprint="one", iou_2d_after=value, chamfer_l2_after=10.0)])
    put(
        storage,
        [
            result(n, 101, fingerprint="two", iou_2d_after=v, chamfer_l2_after=11.0 if n == "b" else None)
            for n, v in now.items()
        ],
    )
    changes = changes_since(storage, THEN, worst=2)
    assert changes.pairs["iou_2d"].count == 4
    assert changes.pairs["iou_2d"].then == pytest.approx(0.65)
    assert changes.pairs["iou_2d"].now == pytest.approx(0.5525)
    assert changes.pairs["chamfer_l2"] == Pairs(1, 10.0, 11.0)
    # d fell by half, a and the distance of b by a tenth.
    assert changes.worst[0] == Moved("d", "iou_2d", 0.8, 0.4)
    assert len(changes.worst) == 2


@pytest.mark.parametrize(
    ("figure", "then", "now", "worse"),
    [
        ("iou_2d", 0.8, 0.6, 0.25),
        ("iou_2d", 0.8, 0.9, -0.125),
        ("chamfer_l2", 4.0, 5.0, 0.25),
        ("emd", 4.0, 3.0, -0.25),
    ],
)
def test_worse_is_less_for_some_figures_and_more_for_others(figure, then, now, worse):
    assert relative_worsening(figure, then, now) == pytest.approx(worse)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 200), st.sampled_from("xy"), st.booleans()),
        min_size=1,
        max_size=20,
        unique_by=lambda row: (row[0], row[1]),
    ),
    cut=st.integers(0, 200),
)
def test_it_agrees_with_a_plain_account(tmp_path_factory, rows, cut):
    storage = Storage(str(tmp_path_factory.mktemp("output")))
    for number, (name, at, fingerprint, fails) in enumerate(rows):
        row = result(name, at, fingerprint=fingerprint, status="failed" if fails else "refined")
        put(storage, [row], f"part-{number:03}.parquet")
    expected = {"new": 0, "changed": 0, "redone": 0, "unchanged": 0, "failed": 0, "newly_failed": 0, "recovered": 0}
    for name in {row[0] for row in rows}:
        mine = sorted((row for row in rows if row[0] == name), key=lambda row: row[1])
        old, last = [row for row in mine if row[1] <= cut], mine[-1]
        if last[1] <= cut:
            expected["unchanged"] += 1
            continue
        expected["new" if not old else "redone" if old[-1][2] == last[2] else "changed"] += 1
        expected["failed"] += last[3]
        expected["newly_failed"] += last[3] and not (old and old[-1][3])
        expected["recovered"] += bool(old) and old[-1][3] and not last[3]
    changes = changes_since(storage, START + timedelta(seconds=cut))
    assert {name: getattr(changes, name) for name in expected} == expected
