"""The refinement methods: instances that share a batch and nothing else, and what is returned for each."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import box, flat_shaded, icosphere, jittered, soup, torus, unit
from subjects import iou, subject, view

from refine_batch.cameras.camera import Camera, camera_position
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.losses import LOSSES
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch, mean_edge_length
from refine_batch.method_options import LossWeights, PaperOptions
from refine_batch.methods import MethodOutput, PreparedInstance, load_method
from refine_batch.methods.patience import LOOK_EVERY
from refine_batch.methods.scene import Scene

SIZE = 32
METHODS = ("refine", "large-steps")
# What a GPU runs: one stack of networks.
STACKED = "refine_batch.methods.refine:train"
CPU = torch.device("cpu")


def stretched(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices * np.array([1.25, 0.8, 1.1]), mesh.faces)


def prepared(name: str, mesh: Mesh, camera: Camera, axis: str = "z", size: int = SIZE) -> PreparedInstance:
    """An instance whose mask is that of the mesh, stretched."""
    return subject(name, mesh, stretched(mesh), camera, size, axis)


SPHERE = icosphere(1, 0.5)
ONE = prepared("one", SPHERE, Camera(30, 20, 2.0))
LARGE = prepared("large", icosphere(3, 0.5), Camera(60, 20, 2.0))
OTHERS = [
    prepared("two", unit(jittered(torus(), 0.01)), Camera(200, -15, 1.6), axis="x"),
    prepared("three", unit(box(0.3, 0.4, 0.2)), Camera(90, 5, 2.0), axis="none"),
    prepared("four", unit(soup(10, 12, 0)), Camera(0, 40, 2.4), axis="y"),
    prepared("five", unit(Mesh(np.eye(3), np.array([[0, 1, 2]]))), Camera(45, 30, 2.0)),
]
# Seen twice, by cameras that may be wrong: a batch is ragged in its views, too.
OTHERS[1] = replace(OTHERS[1], views=(*OTHERS[1].views, view(OTHERS[1].mesh, Camera(0, 10, 2.1), SIZE))).seen_by(
    [Camera(90, 5, 2.0), Camera(4, 12, 2.1)], (0.1, 0.1, 0.1)
)
MANY = [OTHERS[i % 4] if i != 9 else ONE for i in range(16)]


def run(method: str, batch: list[PreparedInstance], **options) -> list[MethodOutput | InstanceError]:
    config = RefineConfig(method=method, **{"steps": 20, "image_size": SIZE, **options})
    return load_method(method)(batch, config, CPU)


@pytest.fixture(scope="module", params=METHODS)
def method(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=[STACKED, "large-steps"])
def batched(request) -> str:
    """The methods that take a batch in one, on a CPU too."""
    return request.param


@pytest.fixture(scope="module")
def alone(method) -> MethodOutput:
    [output] = run(method, [ONE])
    return output


def test_an_instance_does_not_depend_on_its_batch(method):
    """After 4 steps, alone, as one of 2 and as one of 16: the same to the last bit on a CPU."""
    [alone] = run(method, [ONE], steps=4)
    assert np.abs(alone.vertices - ONE.mesh.vertices).max() > 1e-3
    for batch, place in (([OTHERS[0], ONE], 1), (MANY, 9)):
        outputs = run(method, batch, steps=4)
        assert len(outputs) == len(batch)
        np.testing.assert_array_equal(outputs[place].vertices, alone.vertices)
        np.testing.assert_array_equal(outputs[place].symmetry_confidence, alone.symmetry_confidence)
        assert outputs[place].losses == pytest.approx(alone.losses, rel=1e-5, abs=1e-7)


def test_a_stack_of_networks_learns_as_each_alone():
    """After 8 steps, as one of 2 and as one of 16, apart from rounding."""
    pair, many = run(STACKED, MANY[8:10], steps=8), run(STACKED, MANY, steps=8)
    for i in (0, 1, 2, 3, 9):
        [alone] = run(STACKED, [MANY[i]], steps=8)
        assert np.abs(alone.vertices - MANY[i].mesh.vertices).max() > 1e-3
        for together in (many[i], *(pair[1:] if i == 9 else [])):
            np.testing.assert_allclose(together.vertices, alone.vertices, rtol=0, atol=1e-4)
            np.testing.assert_allclose(together.loss_curve, alone.loss_curve, rtol=1e-3)


def halves() -> Mesh:
    """Two spheres, the second without a mirror image of its own."""
    vertices = np.concatenate([SPHERE.vertices * 0.5 + 0.25, SPHERE.vertices * 0.5 - 0.3])
    return Mesh(vertices, np.concatenate([SPHERE.faces, SPHERE.faces + len(SPHERE.vertices)]))


AWKWARD = {
    "two parts": halves(),
    "flat, its vertices in pairs": Mesh(SPHERE.vertices * np.array([1, 1, 0]), SPHERE.faces),
    "out of the picture": Mesh(SPHERE.vertices + np.float32(6), SPHERE.faces),
    "every face twice": Mesh(SPHERE.vertices, np.concatenate([SPHERE.faces, SPHERE.faces])),
    "no edge shared": flat_shaded(SPHERE),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_nor_does_an_awkward_one(method, name):
    instance = replace(ONE, instance_id=name, mesh=AWKWARD[name])
    [alone], [together, _] = run(method, [instance], steps=4), run(method, [instance, LARGE], steps=4)
    np.testing.assert_array_equal(together.vertices, alone.vertices)


BROKEN = {
    "vertices that are no numbers": replace(ONE, mesh=Mesh(ONE.mesh.vertices * math.nan, ONE.mesh.faces)),
    "one vertex that is no number": replace(
        ONE, mesh=Mesh(np.concatenate([[[math.nan] * 3], ONE.mesh.vertices[1:]]), ONE.mesh.faces)
    ),
    "vertices too large": replace(ONE, mesh=Mesh(ONE.mesh.vertices * 1e30, ONE.mesh.faces)),
    "an image that is no numbers": replace(ONE, image=ONE.image * math.nan),
    "a camera inside the mesh": ONE.seen_by([Camera(30, 20, 0.01)]),
    "a camera far away": ONE.seen_by([Camera(30, 20, 1e30)]),
    "a camera that sees nearly everything": ONE.seen_by([Camera(30, 20, 2.0, fov=179.999)]),
    "a camera that sees nearly nothing": ONE.seen_by([Camera(30, 20, 2.0, fov=1e-3)]),
    "a moving camera inside the mesh": ONE.seen_by([Camera(30, 20, 0.01)], (0.1, 0.1, 0.1)),
    "a moving camera far away": ONE.seen_by([Camera(30, 20, 1e30)], (math.inf,) * 3),
    "a principal point far away": ONE.seen_by([Camera(30, 20, 2.0, offset_x=1e30)]),
}


@pytest.fixture(scope="module")
def undisturbed(batched) -> list[np.ndarray]:
    """What `OTHERS[2]` and `ONE` become in four steps, each alone."""
    return [run(batched, [instance], steps=4)[0].vertices for instance in (OTHERS[2], ONE)]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_instance_touches_no_other(batched, undisturbed, name):
    first, broken, last = run(batched, [OTHERS[2], BROKEN[name], ONE], steps=4)
    np.testing.assert_allclose(first.vertices, undisturbed[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(last.vertices, undisturbed[1], rtol=0, atol=1e-6)
    if isinstance(broken, InstanceError):
        assert broken.kind is ErrorKind.DIVERGED
    else:
        assert np.isfinite(broken.vertices).all()
        assert all(math.isfinite(value) for value in broken.losses.values())
    if name.startswith(("vertices", "one vertex")):
        assert isinstance(broken, InstanceError)


# Both methods stop on this instance, at different steps, well before the end.
OF_PAPER = {"sigma_end": 1e-4, "learning_rate": 3e-3, "whole_learning_rate": 0.0}
CONVERGES = {"refine": {"patience": 2, "steps": 60, "paper": OF_PAPER}}
EARLY = {
    "learning_rate_decay": 3e-4,
    "sigma_settled": 0.6,
    "whole_share": 0.0,
    "whole_depth": 1.0,
    "weights": {"vertex_symmetry": 3000.0},
}
CONVERGES["large-steps"] = {"patience": 2, "steps": 80, "large_steps": EARLY}
CONVERGES[STACKED] = CONVERGES["refine"]


def waits(curve: np.ndarray, patience: int) -> int:
    """The steps after which a loss curve has not fallen by 0.1 % for so many steps; its length where it always has."""
    lowest, since = math.inf, 0
    for step, value in enumerate(curve):
        lowest, since = (value, 0) if value < lowest * 0.999 else (lowest, since + 1)
        if since >= patience:
            return step + 1
    return len(curve)


def test_patience_stops_where_the_loss_no_longer_falls(method):
    options = CONVERGES[method]
    [whole] = run(method, [ONE], **{**options, "patience": None})
    [stopped] = run(method, [ONE], **options)
    settled = 0 if method == "refine" else 60
    expected = settled + waits(whole.loss_curve[settled:], options["patience"])
    assert settled < stopped.steps == expected < options["steps"] == whole.steps
    # So far both are the same run.
    np.testing.assert_array_equal(stopped.loss_curve, whole.loss_curve[:expected])
    total = sum(stopped.losses.values())
    assert total == pytest.approx(whole.loss_curve[settled:expected].min(), rel=1e-5)


def test_patience_waits_until_losses_compare():
    """While the silhouette still hardens a total that rises means nothing."""
    still = {"learning_rate": 1e-9, "whole_learning_rate": 0.0}
    [found] = run("refine", [ONE], steps=20, patience=1, paper=still | {"learning_rate": 1e-7})
    assert found.steps == 16
    [found] = run("large-steps", [ONE], steps=20, patience=1, large_steps=still | {"coarse_share": 0.9})
    assert found.steps == 20
    [found] = run("large-steps", [ONE], steps=20, patience=1, large_steps=still | {"sigma_settled": 0.8})
    assert found.steps == 18


def test_a_patience_that_is_never_tried_changes_nothing(method, alone):
    [found] = run(method, [ONE], patience=1000)
    np.testing.assert_array_equal(found.vertices, alone.vertices)
    np.testing.assert_array_equal(found.loss_curve, alone.loss_curve)


def test_papers_settings_know_no_patience():
    [found] = run("refine", [ONE], paper_exact=True, patience=1, steps=8)
    assert found.steps == 8


def test_who_has_stopped_is_left_as_it_is(batched, monkeypatch):
    """While its batch-mates go on, and however seldom the loop looks."""
    batch = [ONE, OTHERS[0], OTHERS[2]]
    together = run(batched, batch, **CONVERGES[batched])
    steps = [output.steps for output in together]
    assert len(set(steps)) > 1
    assert max(steps) < CONVERGES[batched]["steps"]
    monkeypatch.setattr("refine_batch.methods.patience.LOOK_EVERY_ON_CPU", LOOK_EVERY)
    seldom = run(batched, batch, **CONVERGES[batched])
    for often, rarely in zip(together, seldom, strict=True):
        assert often.steps == rarely.steps == len(rarely.loss_curve)
        np.testing.assert_array_equal(often.vertices, rarely.vertices)
        np.testing.assert_array_equal(often.loss_curve, rarely.loss_curve)
    if batched == "large-steps":
        # Exact alone and in a batch; the networks' rounding may move a stop by a step.
        for instance, found in zip(batch, together, strict=True):
            [alone] = run(batched, [instance], **CONVERGES[batched])
            assert found.steps == alone.steps
            np.testing.assert_array_equal(found.vertices, alone.vertices)


WAITING = {
    STACKED: {"steps": 8, "patience": 3, "paper": {"sigma_end": 1e-4}},
    "large-steps": {"steps": 8, "patience": 3},
}


@pytest.fixture(scope="module")
def waited_alone(batched) -> list[MethodOutput]:
    """What becomes of `OTHERS[2]` and `ONE`, each alone."""
    return [run(batched, [instance], **WAITING[batched])[0] for instance in (OTHERS[2], ONE)]


@pytest.mark.parametrize("name", BROKEN)
def test_nor_does_a_broken_one_matter_to_those_that_wait(batched, waited_alone, name):
    """One that never improves stops; the others go on as if it were not there."""
    first, _, last = run(batched, [OTHERS[2], BROKEN[name], ONE], **WAITING[batched])
    for found, expected in zip((first, last), waited_alone, strict=True):
        assert found.steps == expected.steps
        np.testing.assert_allclose(found.vertices, expected.vertices, rtol=0, atol=1e-5)


def sizes_and_views(monkeypatch, **own) -> list[tuple[int, int]]:
    """Of every step of a run of 20: the image size and how many views were rendered."""
    seen = []
    render = Scene.render

    def recorded(scene, vertices, views, image_size, sigma, cameras):
        seen.append((image_size, len(cameras) + 2 * len(views.mesh_of_view)))
        return render(scene, vertices, views, image_size, sigma, cameras)

    monkeypatch.setattr(Scene, "render", recorded)
    [found] = run("large-steps", [ONE], large_steps=own)
    assert isinstance(found, MethodOutput), found
    return seen


def test_large_steps_from_coarse_to_fine(monkeypatch):
    assert sizes_and_views(monkeypatch, coarse_share=0.5) == [(16, 1)] * 10 + [(SIZE, 1)] * 10
    assert sizes_and_views(monkeypatch, coarse_share=0.9, coarse_size=0.75) == [(24, 1)] * 18 + [(SIZE, 1)] * 2
    assert sizes_and_views(monkeypatch, coarse_share=1.0) == [(16, 1)] * 20
    assert sizes_and_views(monkeypatch, coarse_share=0.0) == [(SIZE, 1)] * 20


def test_symmetry_views_of_large_steps_are_taken_in_turn(monkeypatch):
    """A pair of mirrored views a step, of as many as there are."""
    seen = []
    render = Scene.render

    def recorded(scene, vertices, views, *rest):
        seen.append(-views.cameras.translation[0] @ views.cameras.rotation[0].T)
        return render(scene, vertices, views, *rest)

    monkeypatch.setattr(Scene, "render", recorded)
    own = {"weights": {"image_symmetry": 1.0}, "symmetry_azimuths": 2}
    [found] = run("large-steps", [ONE], steps=8, large_steps=own)
    assert found.losses["image_symmetry"] >= 0
    expected = [camera_position(Camera(a, e, 1.9)) for a, e in ((15, -45), (15, 45), (75, -45), (75, 45))]
    np.testing.assert_allclose(torch.stack(seen).numpy(), expected * 2, atol=1e-5)
    with monkeypatch.context() as patch:
        assert sizes_and_views(patch, weights={"image_symmetry": 1.0}, coarse_share=0.0) == [(SIZE, 3)] * 20


def test_outcome_is_complete(method, alone):
    count = len(ONE.mesh.vertices)
    assert alone.vertices.shape == (count, 3)
    assert alone.vertices.dtype == np.float32
    assert alone.symmetry_confidence.shape == (count,)
    assert ((alone.symmetry_confidence > 0) & (alone.symmetry_confidence <= 1)).all()
    assert set(alone.losses) == set(LOSSES)
    assert all(math.isfinite(value) and value >= 0 for value in alone.losses.values())
    assert alone.steps == 20
    assert alone.loss_curve.shape == (20,)
    assert alone.cameras == (ONE.camera,)


def test_repeats_are_the_same(method, alone):
    [again] = run(method, [ONE])
    np.testing.assert_array_equal(again.vertices, alone.vertices)
    np.testing.assert_array_equal(again.loss_curve, alone.loss_curve)


def test_silhouette_comes_nearer_to_the_mask(method):
    instance = prepared("larger", icosphere(2, 0.5), ONE.camera, size=64)
    [found] = run(method, [instance], steps=50, image_size=64)
    assert iou(instance.mesh.vertices, instance) < 0.85
    assert iou(found.vertices, instance) > 0.9


def test_without_a_plane_there_is_no_symmetry(method):
    [found] = run(method, [replace(ONE, plane=None)], steps=3)
    assert found.symmetry_confidence is None
    assert found.losses["vertex_symmetry"] == found.losses["image_symmetry"] == 0
    assert found.losses["silhouette"] > 0


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_any_number_of_steps(method, steps):
    [found] = run(method, [ONE], steps=steps)
    assert isinstance(found, MethodOutput), found
    assert found.steps == len(found.loss_curve) == steps
    assert np.isfinite(found.vertices).all()
    assert np.isfinite(found.loss_curve).all()


@pytest.mark.parametrize(
    "options",
    [
        {"coarse_share": 0.0},
        {"coarse_share": 1.0},
        {"reach": (0.0,)},
        {"reach": (0.3,) * 9},
        {"whole_share": 0.9, "whole_learning_rate": 0.0},
        {"sigma_settled": 0.0},
    ],
)
def test_large_steps_at_the_ends_of_its_options(options):
    config = RefineConfig(image_size=SIZE, steps=5, large_steps=options)
    [found] = load_method("large-steps")([ONE], config, CPU)
    assert np.isfinite(found.vertices).all()


def test_returned_losses_belong_to_the_returned_mesh(method):
    weights = {"displacement": 7.0}
    own = {"weights": weights | {"along_ray": 0.0}, "whole_learning_rate": 0.0, "whole_share": 0.0}
    paper = {"weights": weights, "depth": 0.0, "by_area": False, "whole_learning_rate": 0.0}
    options = {"paper": paper, "large_steps": own}
    [found] = run(method, [ONE], steps=6, **options)
    moved = found.vertices.astype(np.float64) - ONE.mesh.vertices
    assert found.losses["displacement"] == pytest.approx(7 * (moved**2).mean(), rel=1e-4)


def along_the_rays(found: MethodOutput, instance: PreparedInstance) -> np.ndarray:
    """(V,) by how much each vertex moved along the ray from the first camera."""
    coarse = instance.mesh.vertices.astype(np.float64)
    rays = coarse - camera_position(instance.camera)
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    return ((found.vertices - coarse) * rays).sum(axis=1)


def test_depth_counts_along_the_ray_from_the_camera(method):
    weights = {"displacement": 0.0, "along_ray": 5.0}
    own = {"weights": weights, "whole_learning_rate": 0.0, "whole_share": 0.0}
    paper = {"depth": 2.0, "by_area": False, "whole_learning_rate": 0.0}
    [found] = run(method, [ONE], steps=6, large_steps=own, paper=paper)
    squared = (along_the_rays(found, ONE) ** 2).mean()
    assert squared > 0
    if method == "large-steps":
        assert found.losses["displacement"] == pytest.approx(5 * squared, rel=1e-3)
    else:
        moved = found.vertices.astype(np.float64) - ONE.mesh.vertices
        assert found.losses["displacement"] == pytest.approx(100 * ((moved**2).mean() + 2 * squared), rel=1e-3)


def test_stages_of_large_steps_go_from_the_whole_to_its_details():
    """With a long reach only, neighbours move together; with a short one at the end, less so."""

    def roughness(reach):
        own = {"reach": reach, "whole_learning_rate": 0.0, "whole_share": 0.0, "weights": {"vertex_symmetry": 0.0}}
        [found] = run("large-steps", [LARGE], steps=30, large_steps=own)
        moved = found.vertices - LARGE.mesh.vertices
        ends = LARGE.mesh.faces[:, :2]
        return (
            np.linalg.norm(moved[ends[:, 0]] - moved[ends[:, 1]], axis=1).mean() / np.linalg.norm(moved, axis=1).mean()
        )

    assert roughness((0.5,)) < roughness((0.5, 0.05)) < roughness((0.0,))


def test_mean_edge_length_of_each_mesh():
    sphere = Mesh(icosphere(2, 0.5).vertices * 3, icosphere(2).faces)
    sides = sphere.vertices[sphere.faces] - sphere.vertices[np.roll(sphere.faces, 1, axis=1)]
    batch = MeshBatch.of([ONE.mesh, sphere])
    lengths = mean_edge_length(batch)
    assert lengths[1] == pytest.approx(np.linalg.norm(sides, axis=2).mean(), rel=1e-5)
    torch.testing.assert_close(lengths[:1], mean_edge_length(MeshBatch.of([ONE.mesh])))


def test_best_iterate_is_the_lowest_of_the_loss_curve():
    """Of the part of the curve in which losses compare."""
    last_stage = {"large_steps": {"sigma_settled": 0.7, "whole_share": 0.0}}
    for method, options, first in (
        ("refine", {"paper_exact": True}, 0),
        ("refine", {}, 15),
        ("large-steps", last_stage, 14),
    ):
        [found] = run(method, [ONE], **options)
        lowest = found.loss_curve[first:].min()
        assert sum(found.losses.values()) == pytest.approx(float(lowest), rel=1e-6)


def test_zero_start_begins_with_the_coarse_mesh_itself():
    [found] = run("refine", [ONE], steps=1)
    np.testing.assert_array_equal(found.vertices, ONE.mesh.vertices)
    assert found.losses["displacement"] == 0
    [moved] = run("refine", [ONE], steps=1, paper_exact=True)
    assert np.abs(moved.vertices - ONE.mesh.vertices).max() > 0.005


def test_seed_and_id_decide_the_start_and_nothing_else_does():
    [found] = run("refine", [ONE], steps=5)
    [other_seed] = run("refine", [ONE], steps=5, seed=1)
    [other_id] = run("refine", [replace(ONE, instance_id="another")], steps=5)
    assert np.abs(other_seed.vertices - found.vertices).max() > 1e-6
    assert np.abs(other_id.vertices - found.vertices).max() > 1e-6
    twice = run("refine", [ONE, ONE], steps=5)
    np.testing.assert_array_equal(twice[0].vertices, found.vertices)
    np.testing.assert_array_equal(twice[1].vertices, found.vertices)


def test_weights_scale_their_losses():
    """At the first iterate, where both runs are the same."""
    weights = dict.fromkeys(LOSSES, 3.0)
    [ones] = run("refine", [ONE], steps=1, paper={"weights": LossWeights(**dict.fromkeys(LOSSES, 1.0))})
    [threes] = run("refine", [ONE], steps=1, paper={"weights": LossWeights(**weights)})
    for name in LOSSES:
        assert threes.losses[name] == pytest.approx(3 * ones.losses[name], rel=1e-6)
    [default] = run("refine", [ONE], steps=1)
    paper = {
        "silhouette": 10,
        "displacement": 100,
        "laplacian": 10,
        "normal_consistency": 10,
        "vertex_symmetry": 20,
        "image_symmetry": 80,
    }
    assert PaperOptions().exact().weights.model_dump().items() >= paper.items()
    for name, weight in (paper | {"image_symmetry": 0}).items():
        assert default.losses[name] == pytest.approx(weight * ones.losses[name], rel=1e-6)


def test_paper_exact_is_the_papers_settings():
    """Whatever the departures are set to."""
    exact = PaperOptions().exact()
    assert (exact.learning_rate, exact.sigma, exact.symmetry_bias) == (7e-5, 1e-4, 0.0005)
    assert not exact.zero_start
    assert not exact.log_space
    assert not exact.relative_smoothness
    assert exact.depth == exact.whole_learning_rate == exact.weights.size == exact.weights.shift == 0
    assert PaperOptions(learning_rate=1.0, sigma_end=1e-6, zero_start=False).exact() == exact
    assert all(exact.sigma_at(progress) == (1e-4, True) for progress in (0.0, 0.3, 1.0))
    assert load_method("refine").__module__ == "refine_batch.methods.refine"


def test_both_renderers_give_the_same():
    outputs = [run("refine", [ONE, OTHERS[1]], steps=4, renderer=renderer) for renderer in ("warp", "torch")]
    for warp, plain in zip(*outputs, strict=True):
        np.testing.assert_allclose(warp.vertices, plain.vertices, rtol=0, atol=1e-5)
        assert warp.losses == pytest.approx(plain.losses, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no-such-method", "'no-such-method' is unknown; choose refine, large-steps"),
        ("no_such_module:refine", "cannot be loaded: No module named 'no_such_module'"),
        ("math:refine", "cannot be loaded"),
        (":refine", "cannot be loaded"),
        (".relative:refine", "cannot be loaded"),
        ("math:pi", "is not a function"),
        ("", "is unknown"),
    ],
)
def test_methods_that_cannot_be_had(name, told):
    with pytest.raises(UsageError, match=told):
        load_method(name)


def test_a_method_of_ones_own():
    assert load_method("math:floor") is math.floor
