"""Figures of merit against closed forms and brute force."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.optimize import linear_sum_assignment, linprog
from shapes import scaled, watertight

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.figures import Evaluator, measure
from refine_batch.figures import compare as comparison_module
from refine_batch.figures.auction import RAISES, prices
from refine_batch.figures.chamfer import chamfer_l2
from refine_batch.figures.compare import Comparison, compare
from refine_batch.figures.emd import emd
from refine_batch.figures.f_score import f_score
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.figures.iou_3d import iou_3d
from refine_batch.figures.iou_multiview import ring_of_views
from refine_batch.instance import Figures
from refine_batch.mesh import Mesh
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.sampling import sample_surface
from refine_batch.render import hard_silhouettes


def of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(shape.vertices, shape.faces)


def sphere(radius: float = 1.0, subdivisions: int = 4) -> Mesh:
    return of(trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius))


def cube(shift=(0.0, 0.0, 0.0), side: float = 1.0) -> Mesh:
    return of(trimesh.creation.box(extents=[side] * 3).apply_translation(shift))


def plate(z: float) -> Mesh:
    """The square [−1, 1]² at height z, one-sided."""
    corners = [[-1, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]]
    return Mesh(np.array(corners, dtype=float), np.array([[0, 1, 2], [0, 2, 3]]))


# ---- samples -------------------------------------------------------------------------------------------------------


def test_samples_lie_on_the_surface_in_proportion_to_area():
    lopsided = Mesh(
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 3, 5], [9, 9, 9]], dtype=float),
        np.array([[0, 1, 2], [6, 6, 6], [3, 4, 5], [0, 0, 1]]),
    )
    points = sample_surface(lopsided, 100_000, seed=1)
    small = points[:, 2] == 0
    assert (points[~small, 2] == 5).all()
    # Areas 0.5 and 4.5: a share of 0.1, with a standard error of 0.001.
    assert small.mean() == pytest.approx(0.1, abs=0.005)
    # Uniform in a right triangle: both mean coordinates are a third of the leg, and x² has mean 1/6.
    np.testing.assert_allclose(points[small, :2].mean(axis=0), 1 / 3, atol=0.015)
    np.testing.assert_allclose((points[small, :2] ** 2).mean(axis=0), 1 / 6, atol=0.015)
    assert (points[:, :2] >= 0).all()
    assert (points[small, :2].sum(axis=1) <= 1 + 1e-12).all()


def test_samples_depend_on_the_seed_alone():
    a, b, c = (sample_surface(sphere(), 100, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_mesh_without_area_has_no_samples():
    with pytest.raises(ValueError, match="no area"):
        sample_surface(Mesh(np.eye(3), np.array([[0, 0, 1]])), 10, 0)


def test_scaling_keeps_the_origin():
    points = np.array([[1.0, 10.0, 0.0], [2.0, 14.0, 1.0]])
    np.testing.assert_allclose(scaled(points), points / 2)


# ---- Chamfer and F-score -------------------------------------------------------------------------------------------


def brute_force(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gaps = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return gaps.min(axis=1), gaps.min(axis=0)


def test_chamfer_and_f_score_by_hand():
    there, back = np.array([0.0, 0.1, 0.2]), np.array([0.04, 0.06])
    assert chamfer_l2(there, back) == pytest.approx(1000 * (0.05 / 3 + 0.0052 / 2))
    # precision 1/3, recall 1/2
    assert f_score(there, back) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert f_score(there + 1, back + 1) == 0.0
    assert f_score(np.array([0.05]), np.array([0.0])) == 0.0  # strictly nearer


def test_measure_agrees_with_brute_force():
    a, b = sphere(subdivisions=2), cube(side=1.4)
    count, seed = 1500, 5
    figures = measure(a, None, None, b, samples=count, seed=seed)
    draw = lambda mesh, stream: scaled(  # noqa: E731
        sample_surface(mesh, count, int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]))
    )
    there, back = brute_force(draw(a, 1), draw(b, 0))
    assert figures.chamfer_l2 == pytest.approx(1000 * ((there**2).mean() + (back**2).mean()), rel=1e-5)
    precision, recall = (there < 0.05).mean(), (back < 0.05).mean()
    assert figures.f_score == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-12)


def test_chamfer_of_parallel_plates_is_twice_the_gap_squared():
    figures = measure(plate(0.3), None, None, plate(0.0), samples=20_000)
    # Both clouds have extent 2 already. Nearest neighbours add the in-plane spacing, mean squared 1/(π·density).
    spacing = 4 / (np.pi * 20_000)
    assert figures.chamfer_l2 == pytest.approx(2000 * (0.09 + spacing), rel=0.005)
    assert figures.f_score == 0.0
    assert figures.emd == pytest.approx(0.3, abs=0.03)
    assert figures.iou_3d is None


def test_each_cloud_is_scaled_and_none_is_moved():
    # Concentric spheres of radius 1 and 2 are the same after scaling …
    same = measure(sphere(2.0), None, None, sphere(1.0))
    assert same.f_score > 0.998
    assert same.chamfer_l2 < 1.0
    # … while a shift by half a radius stays: at angle θ the gap is |√(1 + s² + 2s·cos θ) − 1|, s = 0.5.
    s, cosines = 0.5, np.linspace(-1, 1, 20_001)
    gap = np.abs(np.sqrt(1 + s * s + 2 * s * cosines) - 1)
    moved = sphere(1.0)
    shifted = Mesh(moved.vertices + np.array([0, 0, s]), moved.faces)
    figures = measure(shifted, None, None, sphere(1.0))
    assert figures.chamfer_l2 == pytest.approx(2000 * np.mean(gap**2), rel=0.03)


def test_nearer_is_better_in_every_figure():
    evaluator = Evaluator(None, sphere(), seed=1)
    random = np.random.default_rng(0)
    base = sphere(subdivisions=3)
    noise = random.normal(size=base.vertices.shape)
    figures = [evaluator.measure(Mesh(base.vertices + s * noise, base.faces), None) for s in (0.0, 0.02, 0.08)]
    for name, better in (("chamfer_l2", -1), ("emd", -1), ("f_score", 1), ("iou_multiview", 1), ("iou_3d", 1)):
        values = [better * getattr(f, name) for f in figures]
        assert values == sorted(values, reverse=True), name
        assert values[0] > values[2], name


# ---- EMD -----------------------------------------------------------------------------------------------------------


def test_emd_is_the_optimal_transport_of_a_linear_programme():
    random = np.random.default_rng(2)
    a, b = random.normal(size=(12, 3)), random.normal(size=(12, 3))
    cost = np.linalg.norm(a[:, None] - b[None], axis=-1)
    rows = np.kron(np.eye(12), np.ones(12))
    columns = np.kron(np.ones(12), np.eye(12))
    best = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.ones(24), bounds=(0, None)).fun
    assert emd(a, b) == pytest.approx(best / 12, rel=1e-9)


@pytest.mark.parametrize("count", [16, 40, 256, 1024])
def test_the_auction_changes_the_work_and_not_the_assignment(count):
    random = np.random.default_rng(count)
    a, b = random.normal(size=(count, 3)), random.normal(size=(count, 3)) * [1.0, 0.2, 2.0]
    cost = np.linalg.norm(a[:, None] - b[None], axis=-1)
    rows, columns = linear_sum_assignment(cost)
    assert emd(a, b) == pytest.approx(cost[rows, columns].mean(), rel=1e-12)


def test_prices_come_near_the_dual_variables():
    random = np.random.default_rng(0)
    cost = np.linalg.norm(random.normal(size=(256, 1, 3)) - random.normal(size=(1, 256, 3)), axis=-1)
    price = prices(cost)
    least = (cost + price).min(axis=1).sum() - price.sum()
    rows, columns = linear_sum_assignment(cost)
    best = cost[rows, columns].sum()
    # No prices make the bound exceed the best assignment; each row may want the last raise more.
    assert best - 256 * RAISES[-1] * cost.max() <= least <= best * (1 + 1e-5)
    assert cost.min(axis=1).sum() < 0.9 * best


def test_emd_of_a_shift_is_its_length_whatever_the_order():
    random = np.random.default_rng(2)
    a = random.normal(size=(300, 3))
    assert emd(a, a[random.permutation(300)] + [3.0, 4.0, 0.0]) == pytest.approx(5.0, rel=1e-12)
    with pytest.raises(ValueError, match="one size"):
        emd(a, a[:-1])


# ---- volumetric IoU ------------------------------------------------------------------------------------------------


def volumetric(a: Mesh, b: Mesh, seed: int = 0) -> float | None:
    pair = torch.zeros((1, 2), dtype=torch.int64)
    return iou_3d(PaddedMeshes.of([a]), PaddedMeshes.of([b]), pair, torch.tensor([seed]))[0]


def signed_volume(mesh: Mesh) -> float:
    return float(PaddedMeshes.of([mesh]).signed_volumes())


def is_watertight(mesh: Mesh) -> bool:
    """By both ways of asking."""
    alone = watertight(mesh.faces)
    lone = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    assert PaddedMeshes.of([mesh, lone]).watertight().tolist() == [alone, False]
    return alone


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.9, 2.0])
def test_iou_of_shifted_cubes(shift):
    expected = max(0.0, 1 - shift) / (1 + min(shift, 1.0))
    assert volumetric(cube(), cube((shift, 0, 0))) == pytest.approx(expected, abs=0.007)


def test_iou_of_concentric_spheres():
    a, b = sphere(1.0), sphere(0.8)
    assert volumetric(a, b) == pytest.approx(signed_volume(b) / signed_volume(a), abs=0.007)
    assert signed_volume(b) / signed_volume(a) == pytest.approx(0.512, abs=1e-5)


def test_identity_is_exactly_1_and_inside_out_is_the_same_solid():
    mesh = sphere(subdivisions=2)
    assert volumetric(mesh, mesh) == 1.0
    assert volumetric(mesh, Mesh(mesh.vertices, mesh.faces[:, ::-1])) == pytest.approx(1.0, abs=1e-6)


def test_overlapping_pieces_count_once():
    two = of(trimesh.util.concatenate([trimesh.creation.box(), trimesh.creation.box().apply_translation([0.5, 0, 0])]))
    long = of(trimesh.creation.box(extents=[1.5, 1, 1]).apply_translation([0.25, 0, 0]))
    assert is_watertight(two)
    assert volumetric(two, long) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_iou_of_a_ring_and_a_block_is_that_of_their_formulas(turn):
    """Whichever axis the rays take: they run along the shortest side of the box."""
    ring = trimesh.creation.torus(1.0, 0.35, major_sections=192, minor_sections=96)
    block = trimesh.creation.box(extents=[1.6, 1.0, 0.5]).apply_translation([0.6, 0.2, 0.1])
    x, y, z = np.random.default_rng(0).uniform([-1.4, -1.4, -0.4], [1.5, 1.4, 0.4], (1_000_000, 3)).T
    in_ring = (np.hypot(x, y) - 1.0) ** 2 + z**2 < 0.35**2
    in_block = (abs(x - 0.6) < 0.8) & (abs(y - 0.2) < 0.5) & (abs(z - 0.1) < 0.25)
    expected = (in_ring & in_block).sum() / (in_ring | in_block).sum()
    assert 0.1 < expected < 0.5
    for mesh in (ring, block):
        mesh.vertices = np.roll(mesh.vertices, turn, axis=1)
    assert volumetric(of(ring), of(block)) == pytest.approx(expected, abs=0.003)


def test_rays_agree_with_one_another_far_better_than_points_would():
    a, b = sphere(subdivisions=3), cube((0.3, 0.2, 0.1), side=1.4)
    values = [volumetric(a, b, seed) for seed in range(8)]
    # 20 000 points have a standard error of 0.005.
    assert 0 < np.std(values) < 0.001


def test_many_pairs_at_once_are_the_same_as_one_after_the_other():
    shapes = [sphere(subdivisions=2), cube(), Mesh(cube().vertices, cube().faces[1:]), sphere(0.7)]
    pairs = torch.tensor([[0, 1], [2, 0], [1, 0], [3, 1], [1, 1]])
    seeds = torch.tensor([4, 5, 2**62 + 6, 7, 8])
    together = iou_3d(PaddedMeshes.of(shapes), PaddedMeshes.of(shapes[:2]), pairs, seeds)
    assert together[1] is None
    assert together[4] == 1.0
    for k in (0, 2, 3):
        i, j = pairs[k].tolist()
        assert together[k] == volumetric(shapes[i], shapes[j], int(seeds[k]))


def test_watertight_means_every_edge_twice_in_opposite_directions():
    box = cube()
    assert is_watertight(box)
    assert not is_watertight(Mesh(box.vertices, box.faces[1:]))
    flipped = box.faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert not is_watertight(Mesh(box.vertices, flipped))
    doubled = np.vstack([box.faces, box.faces])
    assert not is_watertight(Mesh(box.vertices, doubled))
    assert is_watertight(Mesh(box.vertices, np.vstack([box.faces, [[3, 3, 1]]])))
    assert not is_watertight(Mesh(box.vertices, np.array([[0, 0, 1]])))
    soup = Mesh(box.vertices[box.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3))
    assert not is_watertight(soup)


def test_without_an_inside_there_is_no_volume_to_compare():
    box = cube()
    assert volumetric(Mesh(box.vertices, box.faces[1:]), box) is None
    flat = Mesh(box.vertices * [1, 1, 0], box.faces)
    assert is_watertight(flat)
    assert volumetric(flat, box) is None
    assert volumetric(box, flat) is None


# ---- silhouettes ---------------------------------------------------------------------------------------------------


def test_mask_iou_by_hand():
    a, b = np.zeros((2, 4, 4), dtype=bool), np.zeros((2, 4, 4), dtype=bool)
    a[0, :2], b[0, 1:] = True, True
    np.testing.assert_allclose(mask_iou(a, b), [4 / 16, 1.0])


def test_the_ring_frames_the_whole_mesh():
    mesh = cube((0.3, -0.2, 0.1), side=0.8)
    views = ring_of_views(mesh)
    assert len(views) == 24
    assert {v.azimuth for v in views} == {0, 45, 90, 135, 180, 225, 270, 315}
    assert {v.elevation for v in views} == {-45, 0, 45}
    assert {v.fov for v in views} == {60}
    ndc = project(torch.from_numpy(mesh.vertices).expand(24, -1, -1), stack_cameras(views))[..., :2]
    assert 0.6 < ndc.abs().max() < 1.0


def test_multiview_iou_of_concentric_spheres_is_that_of_their_discs():
    truth = sphere(1.0)
    views = ring_of_views(truth)
    distance = views[0].distance
    # A sphere of radius r at distance d is a disc of NDC radius proportional to r/√(d² − r²).
    expected = (0.8**2 / (distance**2 - 0.8**2)) / (1 / (distance**2 - 1))
    figures = Evaluator(None, truth).measure_all([sphere(0.8), truth], [None, None])
    assert figures[0].iou_multiview == pytest.approx(expected, abs=0.01)
    assert figures[1].iou_multiview == 1.0


# ---- together ------------------------------------------------------------------------------------------------------


def of_one_view(figures: Figures) -> dict[str, float | None]:
    """By name, without the mean over own views, of which there is one here."""
    return {name: value for name, value in vars(figures).items() if name != "iou_2d_views"}


def test_only_what_is_known_is_measured():
    camera, mesh = Camera(30, 20, 3), sphere(subdivisions=2)
    mask = hard_silhouettes(mesh, [camera], 64)[0]
    assert measure(mesh, None, None) == Figures()
    assert measure(mesh, camera, mask) == Figures(iou_2d=1.0)
    assert measure(mesh, None, mask) == Figures()
    full = measure(mesh, camera, mask, mesh)
    assert None not in of_one_view(full).values()
    assert (full.iou_2d, full.iou_3d, full.iou_multiview) == (1.0, 1.0, 1.0)
    assert full.f_score > 0.998
    assert 0 < full.chamfer_l2 < 1
    open_mesh = Mesh(mesh.vertices, mesh.faces[1:])
    assert measure(open_mesh, camera, mask, mesh).iou_3d is None
    assert measure(mesh, camera, mask, open_mesh).iou_3d is None
    line = Mesh(np.eye(3), np.array([[0, 0, 1]]))
    assert measure(mesh, camera, mask, line) == Figures(iou_2d=1.0)
    assert measure(line, camera, mask, mesh) == Figures(iou_2d=0.0)


def test_only_what_is_asked_for_is_measured():
    camera, mesh, mask = Camera(30, 20, 3), cube(), np.ones((64, 64), dtype=bool)
    everything = measure(mesh, camera, mask, sphere(subdivisions=2))
    fast, none = (
        Evaluator(mask, sphere(subdivisions=2), which=which).measure(mesh, camera) for which in ("fast", "none")
    )
    assert fast == replace(everything, emd=None)
    assert none == Figures(iou_2d=everything.iou_2d)


def test_a_device_measures_what_the_cpu_does(device):
    camera, mask = Camera(30, 20, 3), np.ones((64, 64), dtype=bool)
    here = measure(cube(), camera, mask, sphere(subdivisions=2), seed=3)
    there = Evaluator(mask, sphere(subdivisions=2), seed=3, device=device).measure(cube(), camera)
    assert None not in of_one_view(there).values()
    for name, value in of_one_view(here).items():
        assert getattr(there, name) == pytest.approx(value, rel=1e-3), name


def test_comparisons_in_one_batch_are_the_same_as_one_after_the_other(monkeypatch):
    """On a GPU many share a batch, padded to the largest; with a pool others work out the earth mover's distances."""
    truths = [sphere(subdivisions=2), cube(), None, plate(0.3)]
    line = Mesh(np.eye(3), np.array([[0, 0, 1]]))
    comparisons = [
        Comparison(truth, [cube((0.1, 0, 0)), line, sphere(0.8, subdivisions=3)], seed)
        for seed, truth in enumerate(truths)
    ]
    apart = [compare([comparison], samples=500)[0] for comparison in comparisons]
    monkeypatch.setattr(comparison_module, "_groups", lambda pairs, comparisons, device: [pairs])
    with ThreadPoolExecutor(2) as pool:
        together = compare(comparisons, samples=500, pool=pool)
    assert [figures[1] for figures in together] == [Figures()] * 4
    assert together[2] == [Figures()] * 3
    for one, other in zip(together, apart, strict=True):
        for a, b in zip(one, other, strict=True):
            for name, value in vars(b).items():
                assert (value is None and getattr(a, name) is None) or getattr(a, name) == pytest.approx(
                    value, rel=1e-6
                )
    assert together[0][0].iou_3d is not None
    assert together[3][0].emd is not None


def test_figures_are_plain_floats_and_repeat():
    camera, mesh = Camera(30, 20, 3), sphere(subdivisions=2)
    mask = np.ones((64, 64), dtype=bool)
    first = measure(cube(), camera, mask, mesh, seed=4)
    assert all(type(value) is float for value in of_one_view(first).values())
    assert measure(cube(), camera, mask, mesh, seed=4) == first
    assert measure(cube(), camera, mask, mesh, seed=5).chamfer_l2 != first.chamfer_l2
    evaluator = Evaluator(mask, mesh, seed=4)
    assert evaluator.measure(mesh, camera) == measure(mesh, camera, mask, mesh, seed=4)
    assert evaluator.measure(cube(), camera) == first


def test_before_and_after_of_a_usual_mesh_take_little_time():
    """A bound on what grows too fast with a mesh, far above what any machine takes otherwise."""
    truth, coarse = sphere(), sphere(0.9, subdivisions=4)
    mask = np.ones((224, 224), dtype=bool)
    Evaluator(mask, truth).measure(coarse, Camera(0, 0, 3))  # compiles kernels on a fresh machine
    start = time.process_time()
    evaluator = Evaluator(mask, truth)
    evaluator.measure(coarse, Camera(0, 0, 3))
    evaluator.measure(truth, Camera(0, 0, 3))
    assert time.process_time() - start < 10.0  # 0.6 s where nothing else runs
