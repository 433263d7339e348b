"""Summaries against plain Python over the same rows."""

import numpy as np
import pytest
from result_rows import put, result

from refine_batch.results import live, summary
from refine_batch.results.schema import HEAVY_COLUMNS
from refine_batch.results.summary import summarise


def figures(**values):
    return {f"{n}_{when}": v for n, pair in values.items() for when, v in zip(("before", "after"), pair, strict=True)}


def test_counts_figures_and_failures(storage):
    put(
        storage,
        [
            result(
                "a",
                1,
                category="chair",
                iou_2d_before=0.5,
                iou_2d_after=0.75,
                chamfer_l2_before=10.0,
                chamfer_l2_after=8.0,
            ),
            result(
                "b",
                1,
                category="chair",
                iou_2d_before=0.75,
                iou_2d_after=0.25,
                chamfer_l2_before=2.0,
                chamfer_l2_after=2.01,
            ),
            result("c", 1, status="kept", kept_reason="thinner", iou_2d_before=0.5, iou_2d_after=0.5, seconds=1.5),
            result("d", 1, status="failed", error_kind="timeout", error_message="slow", seconds=2.0),
        ],
    )
    put(storage, [result(f"f{n}", 2, status="failed", error_kind="mesh_empty", error_message=str(n)) for n in range(5)])
    put(storage, [result("d", 0, category="old")])
    found = summarise(storage, examples=2)
    assert found.overall.counts == {"refined": 2, "kept": 1, "failed": 6}
    assert list(found.categories) == ["chair", None]
    assert found.categories["chair"].counts == {"refined": 2, "kept": 0, "failed": 0}
    iou = found.overall.figures["iou_2d"]
    assert (iou.count, iou.before, iou.after) == (3, pytest.approx(1.75 / 3), 0.5)
    assert iou.relative_change == pytest.approx(-0.25 / 1.75)
    assert (iou.improved, iou.worsened) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (iou.mean_improvement, iou.mean_worsening) == (0.25, 0.5)
    chamfer = found.categories["chair"].figures["chamfer_l2"]
    assert (chamfer.count, chamfer.improved, chamfer.worsened, chamfer.worsened_over_1pct) == (2, 0.5, 0.5, 0.0)
    assert found.categories[None].figures["chamfer_l2"].before is None
    assert [(f.kind, f.count) for f in found.failures] == [("mesh_empty", 5), ("timeout", 1)]
    assert len(found.failures[0].examples) == 2
    assert found.failures[1].examples == [("d", "slow")]
    assert found.kept_reasons == {"thinner": 1}
    assert found.seconds == 3.5
    assert summarise(storage, run_id="run2").overall.counts == {"refined": 0, "kept": 0, "failed": 5}
    assert found.to_dict()["categories"][""]["counts"]["failed"] == 6


def test_against_numpy(storage, monkeypatch):
    monkeypatch.setattr(summary, "_ROWS_AT_ONCE", 50)
    random = np.random.default_rng(0)
    before, after = random.uniform(0.1, 1, (2, 200))
    categories = [None if n % 5 == 0 else f"c{n % 5}" for n in range(200)]
    for start in range(0, 200, 20):
        put(
            storage,
            [
                result(f"{n}", n, category=categories[n], f_score_before=before[n], f_score_after=after[n])
                for n in range(start, start + 20)
            ],
        )
    found = summarise(storage)
    for category in {None, "c1", "c2", "c3", "c4"}:
        chosen = np.array([c == category for c in categories])
        f = found.categories[category].figures["f_score"]
        b, a = before[chosen], after[chosen]
        assert f.count == 40
        np.testing.assert_allclose([f.before, f.after, f.worsened], [b.mean(), a.mean(), (a < b).mean()])
        np.testing.assert_allclose(f.worsened_over_1pct, (a < 0.99 * b).mean())
    np.testing.assert_allclose(found.overall.figures["f_score"].relative_change, after.mean() / before.mean() - 1)


def test_meshes_are_not_read(storage, monkeypatch):
    put(storage, [result("a")])
    asked = []
    original = live.read_row_groups
    monkeypatch.setattr(live, "read_row_groups", lambda f, g, c: asked.append(set(c)) or original(f, g, c))
    summarise(storage)
    assert asked
    assert not set.union(*asked) & set(HEAVY_COLUMNS)


def test_reasons_that_differ_in_numbers_only_are_one(storage):
    reasons = [
        "agrees less: 2D IoU 0.9157 → 0.8865",
        "agrees less: 2D IoU 1.0 → 0.9",
        "84% of the surface",
        "9% of the surface",
    ]
    put(storage, [result(f"{n}", 1, status="kept", kept_reason=reason) for n, reason in enumerate(reasons)])
    assert summarise(storage).kept_reasons == {"agrees less": 2, "… of the surface": 2}


def test_an_empty_output(storage):
    found = summarise(storage)
    assert found.overall.counts == {"refined": 0, "kept": 0, "failed": 0}
    assert found.overall.figures["iou_2d"].before is None
    assert found.failures == []
