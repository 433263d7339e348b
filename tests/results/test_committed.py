"""The anti-join: the manifest's rows minus what is done."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import START, put, result

from refine_batch.dataset.hashing import HASH
from refine_batch.io.storage import Storage
from refine_batch.results.committed import CommittedIndex
from refine_batch.results.index import IdSet


def missing(index, rows, **options):
    ids, prints = zip(*rows, strict=True)
    return index.look(pa.array(ids), pa.array(prints)).missing(**options).tolist()


def test_nothing_is_done_at_first(storage):
    index = CommittedIndex.load(storage)
    assert len(index) == 0
    assert index.newest is None
    assert missing(index, [("a", "f")]) == [True]
    assert index.not_in_manifest() == 0


def test_new_and_changed_rows_are_work(storage):
    put(storage, [result("a"), result("b", status="failed"), result("c", status="kept"), result("gone")])
    index = CommittedIndex.load(storage)
    manifest = [("a", "f"), ("b", "f"), ("c", "f"), ("a2", "f")]
    assert missing(index, manifest) == [False, False, False, True]
    assert missing(index, manifest, retry_failed=True) == [False, True, False, True]
    assert missing(index, manifest, force=True) == [True] * 4
    assert missing(index, [("a", "g")]) == [True]
    assert index.not_in_manifest() == 1
    assert len(index) == 4
    assert index.newest == START


def test_only_the_newest_row_counts(storage):
    put(storage, [result("a", 1, fingerprint="one")])
    put(storage, [result("a", 2, fingerprint="two", status="failed")])
    index = CommittedIndex.load(storage)
    assert missing(index, [("a", "one"), ("a", "two")]) == [True, False]
    assert missing(index, [("a", "two")], retry_failed=True) == [True]
    assert index.newest == START + timedelta(seconds=2)
    put(storage, [result("a", 3, fingerprint="one")])
    assert missing(CommittedIndex.load(storage), [("a", "one"), ("a", "two")]) == [False, True]


names = st.sampled_from("abcdefgh")
statuses = st.sampled_from(["refined", "kept", "failed"])
parts = st.lists(st.tuples(names, st.sampled_from("12"), statuses), max_size=4, unique_by=lambda t: t[0])


@given(
    st.lists(parts, max_size=4),
    st.lists(st.tuples(names, st.sampled_from("12")), min_size=1, unique_by=lambda t: t[0]),
    st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_anti_join_is_that_of_dictionaries(tmp_path_factory, done, manifest, retry):
    storage = Storage(str(tmp_path_factory.mktemp("join")))
    truth = {}
    for at, part in enumerate(done):
        if part:
            put(storage, [result(i, at, fingerprint=f, status=s) for i, f, s in part])
        truth |= {i: (f, s) for i, f, s in part}
    index = CommittedIndex.load(storage)
    expected = [i not in truth or truth[i][0] != f or (retry and truth[i][1] == "failed") for i, f in manifest]
    assert missing(index, manifest, retry_failed=retry) == expected
    assert index.not_in_manifest() == len(truth.keys() - {i for i, _ in manifest})


def test_ids_whose_first_half_agrees_are_told_apart():
    ids = np.array([(7, 3), (7, 1), (5, 9), (7, 2)], HASH)
    found = IdSet(ids).find(np.array([(7, 2), (7, 4), (5, 9), (8, 1), (7, 1), (4, 0)], HASH))
    order = IdSet(ids).order
    assert [tuple(ids[order[i]]) if i >= 0 else None for i in found] == [(7, 2), None, (5, 9), None, (7, 1), None]
