"""What is chosen and counted, against plain Python over the same rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_rows import put, result

from refine_batch.io.storage import Storage
from refine_batch.report.survey import GROUPS, histogram, survey
from refine_batch.results import live
from refine_batch.results.schema import HEAVY_COLUMNS


def output(tmp_path, rows):
    storage = Storage(str(tmp_path))
    for start in range(0, len(rows), 7):
        put(storage, rows[start : start + 7])
    return storage


def moved(name, gain, **values):
    return result(name, iou_2d_before=0.5, iou_2d_after=0.5 + gain, **values)


def test_best_median_and_worst_are_those(tmp_path):
    rows = [moved(f"i{n:02}", n / 100) for n in np.random.default_rng(0).permutation(41)]
    found = survey(output(tmp_path, rows), sample=16, seed=0)
    chosen = {group: [name for name, of in found.choices if of == group] for group in GROUPS}
    assert chosen["best"] == ["i40", "i39", "i38", "i37"]
    assert chosen["worst"] == ["i00", "i01", "i02", "i03"]
    assert sorted(chosen["median"]) == [f"i{n:02}" for n in range(16, 24)] or len(chosen["median"]) == 8
    assert "i20" in chosen["median"]
    assert found.ranked_by == "iou_2d"
    assert len({name for name, _ in found.choices}) == 16


def test_the_shape_ranks_where_it_is_known(tmp_path):
    rows = [moved(f"i{n}", n / 100, chamfer_l2_before=5.0, chamfer_l2_after=float(n)) for n in range(6)]
    found = survey(output(tmp_path, rows), sample=6, seed=0)
    assert found.ranked_by == "chamfer_l2"
    assert next(name for name, group in found.choices if group == "worst") == "i5"


def test_kept_and_failed_have_a_place_and_each_kind_comes_first(tmp_path):
    rows = [moved(f"i{n}", 0.1) for n in range(60)]
    rows += [result(f"k{n}", status="kept") for n in range(9)]
    rows += [result(f"t{n}", status="failed", error_kind="timeout") for n in range(30)]
    rows += [result(f"m{n}", status="failed", error_kind=kind) for n, kind in enumerate(["mesh_empty", "storage"])]
    found = survey(output(tmp_path, rows), sample=24, seed=3)
    groups = [group for _, group in found.choices]
    assert [groups.count(group) for group in GROUPS] == [6, 6, 6, 3, 3]
    failed = {name for name, group in found.choices if group == "failed"}
    assert {"m0", "m1"} < failed
    assert found.choices == survey(output(tmp_path, []), sample=24, seed=3).choices
    assert found.choices != survey(output(tmp_path, []), sample=24, seed=4).choices


@pytest.mark.parametrize("rows", [[], [result("a", status="failed")], [result("a")]])
def test_few_rows_and_no_figures(tmp_path, rows):
    found = survey(output(tmp_path, rows), sample=24, seed=0)
    assert [name for name, _ in found.choices] == [row["instance_id"] for row in rows]
    assert found.ranked_by is None
    assert found.histograms == {}


@given(st.lists(st.floats(-1e3, 1e3, width=32), max_size=400))
def test_a_histogram_counts_every_instance_on_its_side_of_zero(gains):
    found = histogram(np.array(gains, np.float32))
    if not gains:
        assert found is None
        return
    assert sum(found.counts) + found.unchanged == len(gains)
    assert found.unchanged == sum(gain == 0 for gain in gains)
    edges = np.array(found.edges)
    if len(edges):
        width = edges[1] - edges[0]
        better = sum(count for edge, count in zip(edges[:-1], found.counts, strict=True) if edge > -width / 2)
        assert better == sum(gain > 0 for gain in gains)
        assert np.allclose(np.diff(edges), width)
        assert len(found.counts) <= 90


def test_only_small_columns_are_read_for_it(tmp_path, monkeypatch):
    storage = output(tmp_path, [moved("a", 0.1)])
    asked = []
    original = live.read_row_groups
    monkeypatch.setattr(live, "read_row_groups", lambda f, g, c: asked.append(set(c)) or original(f, g, c))
    survey(storage, sample=4, seed=0)
    assert asked
    assert not set.union(*asked) & set(HEAVY_COLUMNS)
