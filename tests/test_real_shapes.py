"""The benchmark of real shapes: its ruler, its cameras, its coarse meshes, and one run of it on a tiny shape."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import watertight

from refine_batch import Camera, Mesh
from refine_batch.cameras.camera import angle_between, project, stack_cameras
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.io.meshes import write_mesh
from refine_batch.render import hard_silhouettes
from tests.shapes import box, icosphere, torus

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CAMERA = Camera(30.0, 20.0, 2.0, 50.0)
KINDS = ("grid", "warp", "flat", "good", "shrunk", "bumpy", "part", "cut", "offset")


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location("benchmark_of_shapes", BENCHMARKS / "shapes.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Where dataclasses look for the names of their types.
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def square(height: float = 0.0, side: float = 1.0) -> Mesh:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]) * side + [0, 0, height]
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]))


def scaled(mesh: Mesh, factor: float, shift: float = 0.0) -> Mesh:
    return Mesh(mesh.vertices * factor + shift, mesh.faces)


def truth() -> Mesh:
    """With ears: something for every kind to spoil; a largest extent of 1, centred."""
    ball, ear = icosphere(3, 0.35), icosphere(2, 0.12)
    faces = [ball.faces, ear.faces + len(ball.vertices), ear.faces + len(ball.vertices) + len(ear.vertices)]
    aside = np.array([0.38, 0.1, 0.0])
    pieces = [ball.vertices, ear.vertices + aside, ear.vertices + aside * [-1, 1, 1]]
    return Mesh(np.concatenate(pieces), np.concatenate(faces))


def test_chamfer_of_parallel_squares(benchmark):
    """With the side as 2 they stand 0.2 apart, 0.04 squared both ways, and what sampling adds."""
    for factor in (1.0, 30.0):
        found = benchmark.chamfer_in_place(scaled(square(0.1), factor, 7.0), scaled(square(), factor, 7.0))
        assert found == pytest.approx(80.0, rel=0.01)


def test_chamfer_does_not_forgive_place_or_size(benchmark):
    ball = icosphere(3, 0.5)
    same = benchmark.chamfer_in_place(ball, ball)
    assert same < 1.0
    # Concentric spheres of radii 1 and 1.2.
    assert benchmark.chamfer_in_place(scaled(ball, 1.2), ball) == pytest.approx(80.0, rel=0.03)
    assert benchmark.chamfer_in_place(scaled(ball, 1.0, 0.1), ball) > 10.0


def test_true_mesh_is_centred_and_welded(benchmark, tmp_path):
    mesh = scaled(box(), 5.0, 3.0)
    path = tmp_path / "box.ply"
    path.write_bytes(write_mesh(Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3)), "ply"))
    found = benchmark.true_mesh(path)
    assert len(found.vertices) == 8
    np.testing.assert_allclose(found.vertices.max(axis=0), np.array([0.6, 0.4, 0.5]) / 1.2, atol=1e-6)
    np.testing.assert_allclose(found.vertices.min(axis=0), -np.array([0.6, 0.4, 0.5]) / 1.2, atol=1e-6)


def test_camera_fills_the_picture(benchmark):
    for seed in range(5):
        camera = benchmark.filling_camera(torus(), np.random.default_rng(seed))
        assert -10 <= camera.elevation <= 50
        assert 40 <= camera.fov <= 60
        seen = project(torch.from_numpy(torus().vertices)[None], stack_cameras([camera]))[0]
        assert float(seen[:, :2].abs().max()) == pytest.approx(benchmark.FILL, abs=1e-4)


def test_cameras_are_off_by_what_was_asked(benchmark):
    told = [benchmark.disturbed(CAMERA, (5.0, 0.1), False, np.random.default_rng(seed)) for seed in range(20)]
    for camera in told:
        assert angle_between(camera, CAMERA) == pytest.approx(5.0, abs=1e-6)
        assert abs(camera.distance / CAMERA.distance - 1.0) == pytest.approx(0.1)
    assert {camera.distance > CAMERA.distance for camera in told} == {True, False}
    # In every direction: no azimuth or elevation alone.
    assert len({round(camera.elevation, 3) for camera in told}) == 20
    normal = [benchmark.disturbed(CAMERA, (5.0, 0.1), True, np.random.default_rng(seed)) for seed in range(200)]
    assert np.sqrt(np.mean([angle_between(c, CAMERA) ** 2 for c in normal])) == pytest.approx(5.0, rel=0.15)
    exact = benchmark.disturbed(CAMERA, (0.0, 0.0), False, np.random.default_rng(0))
    assert exact.distance == CAMERA.distance
    assert angle_between(exact, CAMERA) < 1e-6


def test_all_kinds_are_tested(benchmark):
    assert tuple(benchmark.KINDS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(benchmark, kind):
    """Each a mesh that can be refined, the same for the same seed, in the truth's coordinates, and not the truth."""
    mesh = benchmark.KINDS[kind](truth(), CAMERA, np.random.default_rng(1))
    again = benchmark.KINDS[kind](truth(), CAMERA, np.random.default_rng(1))
    mesh.check(kind)
    np.testing.assert_array_equal(mesh.vertices, again.vertices)
    noise = benchmark.chamfer_in_place(truth(), truth())
    distance = benchmark.chamfer_in_place(mesh, truth())
    assert distance < 60.0
    assert distance < 1.2 * noise if kind == "good" else distance > 1.1 * noise


def test_good_has_at_most_3000_triangles(benchmark):
    fine = icosphere(5, 0.5)
    assert len(benchmark.KINDS["good"](fine, CAMERA, np.random.default_rng(0)).faces) <= 3000 < len(fine.faces)


def test_flat_keeps_the_silhouette(benchmark):
    mesh = benchmark.KINDS["flat"](truth(), CAMERA, np.random.default_rng(0))
    before, after = (hard_silhouettes(m, [CAMERA], 128)[0] for m in (truth(), mesh))
    assert mask_iou(after, before) > 0.999


def test_grid_of_a_box_is_closed_and_where_the_box_is(benchmark):
    mesh = benchmark.KINDS["grid"](box(0.95, 0.6, 0.8), CAMERA, np.random.default_rng(0))
    assert watertight(mesh.faces)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    np.testing.assert_allclose(low + high, 0.0, atol=1e-5)
    # To a cell at each end: those that the surface only touches are filled in part.
    np.testing.assert_allclose(high - low, [0.95, 0.6, 0.8], atol=2.0 / 28)


def test_grid_does_not_lose_a_sheet(benchmark):
    """No cell's middle lies in it, and yet it is there, up to three cells thick by the blur."""
    sheet = box(1.0, 0.8, 0.001)
    mesh = benchmark.KINDS["grid"](sheet, CAMERA, np.random.default_rng(0))
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [1.0, 0.8, 0.05], atol=0.06)


def test_options_are_nested(benchmark):
    assert benchmark.nested(["steps=3", "large_steps.weights.depth=1e3", "symmetry_axis=auto"]) == {
        "steps": 3,
        "large_steps": {"weights": {"depth": 1000.0}},
        "symmetry_axis": "auto",
    }
    with pytest.raises(SystemExit, match="key=value"):
        benchmark.nested(["steps"])


def test_a_run_goes_on_where_it_was(benchmark, tmp_path, capsys):
    folder, out = tmp_path / "true", tmp_path / "lines.jsonl"
    folder.mkdir()
    (folder / "ball.ply").write_bytes(write_mesh(truth(), "ply"))
    words = [str(folder), "--out", str(out), "--options", "steps=4", "symmetry_axis=none", "--size", "64"]
    words += ["--camera-error", "5,0.1", "--meshes", str(tmp_path / "meshes")]
    benchmark.main([*words, "--kinds", "warp"])
    benchmark.main([*words, "--kinds", "warp", "good", "--guard", "on", "off"])
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert sorted((line["kind"], line["setting"].count("no guard")) for line in lines) == [
        *[("good", 0), ("good", 1), ("warp", 0), ("warp", 1)]
    ]
    assert all(line["degrees"][0] == pytest.approx(5.0) and line["status"] != "failed" for line in lines)
    unguarded = next(line for line in lines if line["kind"] == "warp" and "no guard" in line["setting"])
    assert unguarded["status"] == "refined"
    assert unguarded["chamfer"][0] != unguarded["chamfer"][1]
    assert len(list((tmp_path / "meshes").rglob("* refined.ply"))) == 4
    capsys.readouterr()
    benchmark.main(["--summary", "--out", str(out)])
    shown = capsys.readouterr().out
    assert shown.count("| warp | 1 |") == 2
    assert shown.count("| all | 2 |") == 2
    assert f"{unguarded['chamfer'][0]:.2f} → {unguarded['chamfer'][1]:.2f}" in shown


def test_an_empty_folder_is_refused(benchmark, tmp_path):
    with pytest.raises(SystemExit, match="no OBJ"):
        benchmark.main([str(tmp_path)])
