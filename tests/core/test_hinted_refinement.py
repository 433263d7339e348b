"""Hints of depth and normals, and several views: what is heard of them, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import box, icosphere

from refine_batch.cameras.camera import Camera, camera_axes, camera_position, project, stack_cameras
from refine_batch.config import RefineConfig
from refine_batch.instance import Depth, Instance, PictureView
from refine_batch.losses.hints import seen_surface
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.methods import PreparedInstance, load_method
from refine_batch.methods.base import MethodOutput, View
from refine_batch.methods.hints import Hints, away_from_edges, disagreement, local_median
from refine_batch.methods.scene import Scene
from refine_batch.methods.trust import TOLERATED, ViewTrust
from refine_batch.refinement.guard import Choice, choose
from refine_batch.refinement.pipeline import refine
from refine_batch.render import hard_silhouettes, load_renderer
from refine_batch.render.warp_rasterise import rasterise

CPU = torch.device("cpu")
SIZE = 64
CAMERA = Camera(azimuth=30, elevation=25, distance=1.9)
CONFIG = RefineConfig(method="large-steps", steps=60, image_size=SIZE, camera_error="0", symmetry_axis="none")


def scaled(mesh: Mesh, *factors: float) -> Mesh:
    return Mesh(mesh.vertices * np.array(factors, np.float32), mesh.faces)


def sphere() -> Mesh:
    return icosphere(3, 0.5)


def flattened(mesh: Mesh, factor: float, camera: Camera = CAMERA) -> Mesh:
    """Stretched along the camera's rays about the origin: its silhouette stays as it is."""
    eye, forward = camera_position(camera), camera_axes(camera)[:, 2]
    rays = mesh.vertices - eye
    depth = rays @ forward
    middle = -eye @ forward
    return Mesh(eye + rays * ((middle + factor * (depth - middle)) / depth)[:, None], mesh.faces)


def truly_seen(mesh: Mesh, camera: Camera = CAMERA, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    cameras, faces = stack_cameras([camera]), torch.from_numpy(mesh.faces)[None]
    vertices = torch.from_numpy(mesh.vertices)[None]
    count, view = torch.tensor([len(mesh.faces)], dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    seen = seen_surface(vertices, faces, cameras, rasterise(project(vertices, cameras), faces, count, view, size))
    there = seen.hit[0, :, None]
    depth = torch.where(there[:, 0], seen.depth[0], torch.nan).reshape(size, size).numpy()
    return depth, torch.where(there, seen.normal[0], torch.nan).reshape(size, size, 3).numpy()


def silhouette(mesh: Mesh, camera: Camera = CAMERA) -> np.ndarray:
    return hard_silhouettes(mesh, [camera], SIZE)[0]


def view(true: Mesh, camera: Camera = CAMERA, **hints) -> View:
    return View(silhouette(true, camera).astype(np.float32), camera, **hints)


def prepared(name: str, mesh: Mesh, *views: View) -> PreparedInstance:
    return PreparedInstance(name, mesh, np.zeros((SIZE, SIZE, 3), np.float32), views)


def hints_of(mesh: Mesh, *views: View) -> Hints:
    batch = MeshBatch.of([mesh])
    found = Hints.of(views, torch.zeros(len(views), dtype=torch.int32), batch, stack_cameras([v.camera for v in views]))
    assert found is not None
    return found


def test_the_local_median_takes_noise_away_and_keeps_an_edge():
    random = np.random.default_rng(0)
    step = np.where(np.arange(20) < 10, 1.0, 2.0) * np.ones((20, 1))
    noisy = torch.from_numpy(step + 0.05 * random.normal(size=step.shape))[None]
    noisy[0, 3, 3] = torch.nan
    found = local_median(noisy)[0]
    assert found[3, 3].isnan()
    error = (found - torch.from_numpy(step)).abs()
    assert error[3, 4] < 0.15
    assert error.nanmean() < 0.5 * 0.04
    assert error[:, [8, 11]].nan_to_num(0.0).max() < 0.15
    # A slope stays what it is beside what is not known.
    slope = torch.arange(12.0).expand(1, 9, 12).clone()
    slope[:, :, :4] = torch.nan
    torch.testing.assert_close(local_median(slope), slope, equal_nan=True)


def test_pixels_beside_a_step_are_left_out_and_unknown_ones_are_no_step():
    depth = torch.ones(1, 6, 8)
    depth[0, :, 5:] = 1.5
    depth[0, 0, 0] = torch.nan
    fine = away_from_edges(depth, 0.1)[0]
    assert fine[:, :4].all()
    assert not fine[:, 4:6].any()
    assert fine[:, 6:].all()
    # A slope is none, however steep.
    assert away_from_edges(torch.arange(8.0).expand(1, 6, 8), 0.1).all()


def test_nothing_is_heard_without_hints():
    assert (
        Hints.of([view(sphere())], torch.zeros(1, dtype=torch.int32), MeshBatch.of([sphere()]), stack_cameras([CAMERA]))
        is None
    )
    assert disagreement(prepared("a", sphere(), view(sphere())), sphere().vertices, [CAMERA]) is None


@pytest.mark.parametrize(
    ("kind", "told", "scale", "shift"),
    [
        ("metric", lambda d: d, False, False),
        ("relative", lambda d: 3.7 * d, True, False),
        ("relative", lambda d: (d - np.nanmin(d)) / (np.nanmax(d) - np.nanmin(d)), True, True),
        ("inverse", lambda d: 0.2 / d, True, False),
    ],
)
def test_a_relative_depth_that_needs_no_shift_is_up_to_scale_alone(kind, told, scale, shift):
    values = told(truly_seen(sphere())[0]).astype(np.float32)
    # The coarse mesh is flat, so that the shift that fits it best is not zero.
    hints = hints_of(flattened(sphere(), 0.75), view(sphere(), depth=Depth(values, kind)))
    assert hints.scaling.scale.tolist() == [scale]
    assert hints.scaling.shift.tolist() == [shift]
    assert hints.placed.tolist() == hints.sloped.tolist() == [not shift]


def test_what_is_in_front_is_told_and_what_is_behind_is_not():
    mesh = sphere()
    depth, _ = truly_seen(mesh)
    known = np.ones((SIZE, SIZE), bool)
    known[:, SIZE // 2 :] = False
    hints = hints_of(mesh, view(mesh, depth=Depth(depth, "metric"), known=known))
    told = hints.vertices_told(MeshBatch.of([mesh]), stack_cameras([CAMERA]))[0].numpy()
    side, _, forward = camera_axes(CAMERA).T
    front, left = -mesh.vertices @ forward, mesh.vertices @ side
    assert told[(front > 0.38) & (left > 0.1)].mean() > 0.9
    assert not told[front < -0.1].any()
    # +x is left in the picture; its right half is not known.
    assert not told[left < -0.1].any()


def test_a_scene_hides_less_where_a_hint_tells():
    depth, _ = truly_seen(sphere())
    told = prepared("told", sphere(), view(sphere(), depth=Depth(depth, "metric")))
    scene = Scene.of([told, prepared("not", sphere(), view(sphere()))], load_renderer("warp"), CPU)
    np.testing.assert_allclose(scene.hinted, [[1.0, 1.0], [0.0, 0.0]], atol=1e-3)
    assert scene.hidden[0].min() < 1e-3
    assert (scene.hidden[1] == 1.0).all()


def along_the_rays(mesh: Mesh) -> float:
    """How deep a mesh is, beside its width across the view."""
    side, _, forward = camera_axes(CAMERA).T
    return float(np.ptp(mesh.vertices @ forward) / np.ptp(mesh.vertices @ side))


@pytest.mark.parametrize("what", ["metric", "scale", "normals"])
def test_a_flat_mesh_is_as_deep_again_as_its_hint_says(what):
    true = sphere()
    depth, normals = truly_seen(true)
    hints = {
        "metric": {"depth": Depth(depth, "metric")},
        "scale": {"depth": Depth(3.0 * depth, "relative")},
        "normals": {"normals": normals},
    }[what]
    flat = flattened(true, 0.65)
    alone, told = (prepared(name, flat, view(true, **more)) for name, more in (("alone", {}), ("told", hints)))
    without, with_hint = load_method("large-steps")([alone, told], CONFIG, CPU)
    deep = [along_the_rays(Mesh(v, flat.faces)) for v in (true.vertices, without.vertices, with_hint.vertices)]
    assert deep[1] < 0.75 * deep[0]
    assert deep[2] > {"metric": 0.84, "scale": 0.76, "normals": 0.77}[what] * deep[0]
    before, after = disagreement(told, with_hint.vertices, [CAMERA])
    assert after < 0.5 * before
    assert set(with_hint.losses) >= {"depth", "normals"}
    assert with_hint.losses["normals" if what == "normals" else "depth"] > 0
    assert without.losses["depth"] == without.losses["normals"] == 0.0
    # A neighbour changes nothing.
    [by_itself] = load_method("large-steps")([told], CONFIG, CPU)
    np.testing.assert_allclose(by_itself.vertices, with_hint.vertices, atol=2e-3)


def test_a_view_of_another_object_is_not_trusted_and_the_first_always_is():
    mesh = sphere()
    around = [replace(CAMERA, azimuth=CAMERA.azimuth + 90.0 * n) for n in range(4)]
    views = [view(mesh, camera) for camera in around]
    scene = Scene.of([prepared("several", mesh, *views), prepared("one", mesh, views[0])], load_renderer("warp"), CPU)
    trust = ViewTrust(scene)
    area = scene.mask.mean(dim=(1, 2))
    trust.update(torch.tensor([0.02, 0.03, 0.04 * 2 * TOLERATED, 0.03, 9.0]) * area)
    np.testing.assert_allclose(trust.now, [1.0, 1.0, (0.03 / 0.08) ** 2, 1.0, 1.0], rtol=1e-5)
    trust.update(torch.tensor([0.9, 0.02, 0.02, 0.02, 0.9]) * area)
    assert (trust.now == 1.0).all()


def test_a_view_of_another_object_spoils_little():
    true, coarse = sphere(), scaled(sphere(), 1.0, 0.8, 0.9)
    around = [replace(CAMERA, azimuth=CAMERA.azimuth + 90.0 * n) for n in range(4)]
    good = [view(true, camera) for camera in around]
    foreign = [*good[:2], view(box(0.9, 0.2, 0.15), around[2]), good[3]]
    found = load_method("large-steps")([prepared("g", coarse, *good), prepared("f", coarse, *foreign)], CONFIG, CPU)
    errors = [np.abs(np.linalg.norm(o.vertices, axis=1) - 0.5).mean() for o in found]
    assert errors[0] < 0.02
    assert errors[1] < errors[0] + 0.01


def test_the_guard_lets_pass_what_a_hint_bears_out_and_keeps_what_it_does_not():
    true, flat = sphere(), flattened(sphere(), 0.7)
    mask, blank = silhouette(true), np.zeros((SIZE, SIZE, 3), np.uint8)
    depth, _ = truly_seen(true)
    plain = Instance("plain", flat, blank, mask, CAMERA)
    told = replace(plain, instance_id="told", depth=Depth(depth, "metric"))
    # A mesh that is right as it is, by its mask and by its hint.
    right = replace(told, instance_id="right", mesh=true)
    found = refine([plain, told, right], CONFIG, device="cpu")
    assert [r.status for r in found] == ["kept", "refined", "kept"]
    assert along_the_rays(found[1].mesh) > 0.85 * along_the_rays(true)


def test_the_guard_keeps_a_mesh_that_agrees_less_with_its_hint():
    true = sphere()
    depth, _ = truly_seen(true)
    subject = prepared("told", true, view(true, depth=Depth(depth, "metric")))
    [output] = load_method("large-steps")([subject], CONFIG, CPU)
    worse = replace(output, vertices=flattened(true, 0.5).vertices)
    chosen = choose(subject, worse, CONFIG, lambda vertices, cameras: 1.0, 1.0)
    assert chosen.share == 0.0
    assert "less with the hints" in chosen.reason


def test_the_guard_keeps_a_mesh_that_hints_ask_far_away(monkeypatch):
    true = sphere()
    flat = flattened(true, 0.65)
    subject = prepared("told", flat, view(true, normals=truly_seen(true)[1]))
    output = MethodOutput(true.vertices, cameras=(CAMERA,))
    assert choose(subject, output, CONFIG, lambda vertices, cameras: 1.0, 1.0).share == 1.0
    moved = float(np.sqrt(((true.vertices - flat.vertices) ** 2).sum(axis=1).mean()))
    monkeypatch.setattr("refine_batch.refinement.testimony.MAX_MOVED", 0.9 * moved)
    chosen = choose(subject, output, CONFIG, lambda vertices, cameras: 1.0, 1.0)
    assert chosen.share == 0.0
    assert f"ask for a shape {moved:.0%} of its extent away" in chosen.reason


def test_the_guard_asks_whether_hints_alone_make_a_shape_lopsided_or_put_it_right(monkeypatch):
    """Where the masks ask for nothing; a mesh of which no plane is known can be asked nothing."""
    even, plane = sphere(), SymmetryPlane((1.0, 0.0, 0.0), 0.0)
    uneven = Mesh(even.vertices * np.where(even.vertices[:, :1] > 0, [1.0, 1.25, 1.25], [1.0] * 3), even.faces)

    def chosen(coarse: Mesh, refined: Mesh, plane: SymmetryPlane | None) -> Choice:
        subject = replace(
            prepared("told", coarse, view(coarse, depth=Depth(truly_seen(refined)[0], "metric"))), plane=plane
        )
        output = MethodOutput(refined.vertices, cameras=(CAMERA,))
        return choose(subject, output, CONFIG, lambda vertices, cameras: 1.0, 1.0, "the masks ask for nothing")

    assert chosen(even, uneven, None).share == 1.0
    refused = chosen(even, uneven, plane)
    assert refused.share == 0.0
    assert "away from its mirror image, 0.0% → " in refused.reason
    # What hints alone do not bear out.
    monkeypatch.setattr("refine_batch.refinement.testimony.BORNE_OUT", ())
    assert chosen(uneven, even, None).reason == "the masks ask for nothing"
    assert chosen(uneven, even, plane).share == 1.0


def test_the_risk_is_not_asked_of_three_views():
    """It was fitted to single pictures."""
    true = sphere()
    around = [replace(CAMERA, azimuth=CAMERA.azimuth + 90.0 * n) for n in range(3)]
    views = [view(true, camera) for camera in around]
    for count, share in ((2, 0.0), (3, 1.0)):
        subject = prepared("several", flattened(true, 0.8), *views[:count])
        output = MethodOutput(true.vertices, cameras=tuple(around[:count]))
        risky = CONFIG.model_copy(update={"guard_risk": 0.0})
        assert choose(subject, output, risky, lambda vertices, cameras: 1.0, 0.9).share == share


def test_views_all_around_find_what_one_cannot():
    true, flat = sphere(), flattened(sphere(), 0.75)
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    one = Instance("one", flat, blank, silhouette(true), CAMERA)
    around = [replace(CAMERA, azimuth=CAMERA.azimuth + 90.0 * n) for n in range(1, 4)]
    several = replace(one, instance_id="four", views=tuple(PictureView(silhouette(true, c), c) for c in around))
    found = refine([one, several], CONFIG, device="cpu")
    assert [r.status for r in found] == ["kept", "refined"]
    assert along_the_rays(found[1].mesh) > 0.93 * along_the_rays(true)
