"""Rows that wait: large meshes first, like with like, and no row lost."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_batch.job.batch import WORK_SCHEMA
from refine_batch.job.shelf import CLASS, USUAL, Shelf, weight_of


def rows(names):
    columns = [
        pa.array(names, pa.string()) if f.name == "instance_id" else pa.nulls(len(names), f.type) for f in WORK_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=WORK_SCHEMA)


def shelf_of(sizes):
    shelf = Shelf()
    shelf.add(rows([str(number) for number in range(len(sizes))]), np.asarray(sizes, float))
    return shelf


def ids(taken):
    return taken[0].column("instance_id").to_pylist()


def test_large_meshes_go_first_and_those_of_one_size_in_their_order():
    shelf = shelf_of([1e4, 1e6, 1e4, np.nan, 1e6, 0])
    assert ids(shelf.take(2)) == ["1", "4"]
    assert ids(shelf.take(3)) == ["3", "5", "0"], "what nobody knows the size of counts as usual"
    assert ids(shelf.take(9)) == ["2"]
    assert shelf.take(1) is None
    assert (shelf.rows, shelf.weight) == (0, 0.0)


@given(
    st.lists(st.floats(1.0, 1e9), min_size=1, max_size=200),
    st.lists(st.tuples(st.integers(1, 64), st.floats(0.01, 100)), min_size=1),
)
def test_every_row_is_taken_once_and_a_batch_is_never_empty_or_too_long(sizes, wishes):
    shelf, seen, number = shelf_of(sizes), [], 0
    while shelf.rows:
        most, weight = wishes[number % len(wishes)]
        number += 1
        taken = shelf.take(most, weight)
        assert 1 <= taken[0].num_rows <= most
        seen += ids(taken)
    assert sorted(seen) == sorted(map(str, range(len(sizes))))


def test_a_batch_weighs_what_was_asked_for():
    shelf = shelf_of([USUAL * 1.1] * 100)
    each = shelf.each
    assert shelf.weight == 100 * each
    taken, weight = shelf.take(64, 10 * each)
    assert (taken.num_rows, weight) == (10, 10 * each)
    assert weight_of(60) / weight_of(58) == pytest.approx(CLASS**2, rel=1e-3), "of large meshes the size is all"


def test_a_few_rows_of_many_travel_light():
    shelf = shelf_of(np.full(50_000, 1e5))
    assert len(pickle.dumps(shelf.take(4)[0], protocol=5)) < 20_000
