"""The benchmark of further pictures and hints: its cases, its aims, and one run of it on a tiny shape."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from refine_batch import Mesh
from refine_batch.io.meshes import write_mesh
from tests.shapes import icosphere

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ("shapes", "spoil", "hint_aims", "hints")
SIZE = 48
CASES = ("one", "one-off", "blur2", "views", "occluded", "occluded-blind", "frame", "depth-scale", "inverse", "normals")


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        # Other modules of these names may be there, and come back afterwards.
        for name in NAMES:
            patch.setitem(sys.modules, name, None)
            del sys.modules[name]
        module = importlib.import_module("hints")
        patch.setattr(module, "SIZE", SIZE)
        yield module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An egg with an ear: something to see from each side."""
    ball, ear = icosphere(3, 0.4), icosphere(2, 0.15)
    vertices = [ball.vertices * np.float32([1.0, 1.2, 0.7]), ear.vertices + np.float32([0.4, 0.1, 0.1])]
    mesh = Mesh(np.concatenate(vertices), np.concatenate([ball.faces, ear.faces + len(ball.vertices)]))
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "egg.ply").write_bytes(write_mesh(mesh, "ply"))
    return folder


@pytest.fixture(scope="module")
def scenery(benchmark, folder):
    truth = benchmark.true_mesh(folder / "egg.ply")
    return benchmark.Scenery("egg", truth, "warp", icosphere(2, 0.5), 0)


def test_pictures_are_what_their_case_says(benchmark, scenery):
    made = {case: benchmark.CASES[case][0](scenery, case) for case in CASES}
    true = scenery.mask
    assert made["one"].mask is true
    assert 0.0 < np.abs(made["blur2"].mask - true).mean() < 0.1
    assert ((made["blur2"].mask >= 0.5) == true).mean() > 0.98
    known = made["occluded"].known
    assert (true & ~known).sum() == pytest.approx(0.25 * true.sum(), rel=0.1)
    np.testing.assert_array_equal(made["occluded"].mask, true & known)
    assert made["occluded-blind"].known is None
    np.testing.assert_array_equal(made["occluded-blind"].mask, true & known)
    assert made["frame"].mask.sum() == pytest.approx(0.75 * true.sum(), rel=0.1)
    assert len(made["views"].views) == 3
    assert made["one"].camera == scenery.camera != made["one-off"].camera


def test_hints_are_the_true_surface_with_noise(benchmark, scenery):
    depth, normals = scenery.seen()
    found = {case: benchmark.CASES[case][0](scenery, case) for case in ("depth-scale", "inverse", "normals")}
    there = np.isfinite(depth)
    np.testing.assert_allclose(np.median((found["depth-scale"].depth.values / depth)[there]), 3.7, rtol=0.02)
    np.testing.assert_allclose(np.median((found["inverse"].depth.values * depth)[there]), 3.7, rtol=0.02)
    cosine = (found["normals"].normals * normals).sum(axis=2)[there]
    assert np.degrees(np.median(np.arccos(cosine.clip(-1, 1)))) == pytest.approx(12.0, abs=3.0)


def test_another_objects_hints_are_its_own_cut_or_before_a_wall(benchmark, scenery):
    own, cut, whole = (
        benchmark.CASES[case][0](scenery, case).depth.values
        for case in ("depth-foreign", "depth-foreign-cut", "depth-foreign-whole")
    )
    there = np.isfinite(own)
    assert (there & ~scenery.mask).any()
    np.testing.assert_array_equal(np.isfinite(cut), there & scenery.mask)
    np.testing.assert_array_equal(whole[there], own[there])
    assert np.isfinite(whole).all()
    assert np.median(whole[~there]) > np.nanmedian(own)
    wall = benchmark.CASES["normals-foreign-whole"][0](scenery, "normals-foreign-whole").normals
    assert np.median(wall[~there][:, 2]) > 0.9
    # Neighbours are wrong alike.
    smooth, rough = (benchmark.CASES[case][0](scenery, case).normals for case in ("normals-smooth", "normals"))
    steps = [np.nanmedian(np.linalg.norm(np.diff(normals, axis=0), axis=2)) for normals in (smooth, rough)]
    assert steps[0] < 0.5 * steps[1]


def test_a_run_prints_what_was_aimed_at_and_goes_on_where_it_was(benchmark, folder, tmp_path, capsys):
    out = tmp_path / "lines.jsonl"
    words = [str(folder), "--out", str(out), "--kinds", "warp", "--options", "steps=4", f"image_size={SIZE}"]
    words += ["figures=none", "--guard", "off"]
    benchmark.main([*words, "--cases", "one", "views"])
    first = out.read_text()
    benchmark.main([*words, "--cases", "one", "views", "depth-scale"])
    assert out.read_text().startswith(first)
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert [line["case"] for line in lines] == ["one", "views", "depth-scale"]
    assert all(line["ran"] and 0.0 < line["outline"] <= 1.0 for line in lines)
    capsys.readouterr()
    benchmark.main(["--summary", "--out", str(out)])
    printed = capsys.readouterr().out
    ratio = lines[1]["chamfer"][1] / lines[0]["chamfer"][1]
    assert f"| four views, to one: mean Chamfer | 1 | ≤ 0.6 | {ratio:.3f} |" in printed


def test_synthetic_objects_are_shapes_too(benchmark):
    [(name, mesh), _] = benchmark.shapes_of(benchmark.parser().parse_args(["--synthetic", "2"]))
    assert name.endswith("_000000")
    assert np.ptp(mesh.vertices, axis=0).max() == pytest.approx(1.0)


def line(case: str, kind: str, before: float, after: float, **more) -> dict:
    made = {"case": case, "shape": "a", "kind": kind, "seed": 0, "status": "refined", "cpu": 1.0, "ran": True}
    made |= {
        "chamfer": [before, after],
        "f_score": [0.5, 0.5],
        "free": after,
        "iou": [0.5, 0.9],
        "outline": 0.9,
        "notes": (),
    }
    return made | more


def test_what_misses_its_aim_is_said_so(benchmark):
    lines = [
        line("one", "warp", 4.0, 2.0, outline=0.98),
        line("views", "warp", 4.0, 1.1, cpu=3.0),
        line("blur2", "warp", 4.0, 2.0, outline=0.975),
        line("occluded-blind", "warp", 4.0, 4.0),
        line("normals", "flat", 4.0, 1.0, f_score=[0.5, 0.6]),
        line("normals", "good", 0.4, 0.41),
        line("normals", "good", 0.9, 1.9, shape="b"),
        line("depth-foreign", "warp", 4.0, 5.0, notes=("depth left out",)),
        line("normals-foreign", "warp", 4.0, 5.0),
        line("normals-foreign-cut", "warp", 4.0, 4.0),
        line("depth-smooth", "good", 0.4, 0.5),
    ]
    rows = [row.strip("| ").split(" | ") for row in benchmark.aims(lines)][2:]
    found = {cells[0]: (cells[1], cells[3].strip(), "missed" in cells[-1]) for cells in rows}
    assert found == {
        "alpha blurred by 2 px: 2D IoU with the true outline": ("1", "0.975", False),
        "alpha blurred by 2 px: less of it than by a hard mask": ("1", "0.005", False),
        "four views, to one: mean Chamfer": ("1", "0.550", False),
        "occluded-blind: mean Chamfer to the coarse": ("1", "1.000", False),
        "occluded-blind: share worse by more than 10 %": ("1", "0.000", False),
        "normals, flat: gain in F-score": ("1", "0.100", False),
        "normals, good: share made worse": ("1", "1.000", True),
        "depth-foreign: worse in silence": ("1", "0.000", False),
        "normals-foreign: worse in silence": ("1", "1.000", True),
        "normals-foreign-cut: worse in silence": ("1", "0.000", False),
        "depth-smooth, good: share made worse": ("1", "1.000", True),
        "views: CPU seconds to one picture's": ("1", "3.000", True),
        "normals: CPU seconds to one picture's": ("1", "1.000", False),
    }
