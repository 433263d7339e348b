"""Changes of a shape as a whole, against closed forms; and that a mesh wrong only in these comes out right."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from shapes import box, icosphere, torus, unit
from subjects import iou, subject, view

from refine_batch.cameras.camera import Camera
from refine_batch.config import RefineConfig
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.normals import vertex_normals
from refine_batch.method_options import LargeStepsOptions
from refine_batch.methods import PreparedInstance, load_method
from refine_batch.methods.large_steps import stages
from refine_batch.methods.scene import Scene
from refine_batch.methods.whole_shape import (
    CHANGES,
    OFFSET,
    ROUNDNESS,
    SHEAR,
    SHIFT,
    STRETCH,
    WholeShape,
    displacement_fields,
    sharpening,
)
from refine_batch.render import load_renderer

CPU = torch.device("cpu")
SIZE = 64
CAMERA = Camera(azimuth=30, elevation=25, distance=1.8)


def instance(name: str, mesh: Mesh, true: Mesh) -> PreparedInstance:
    return subject(name, mesh, true, CAMERA, SIZE, "none")


def test_an_offset_makes_a_sphere_larger():
    fields = displacement_fields(icosphere(3, 0.5))
    radial = icosphere(3, 1.0).vertices
    np.testing.assert_allclose(fields[:, :, 0], OFFSET * radial, atol=0.02 * OFFSET)


def test_normals_are_of_unit_length_or_zero():
    alone = Mesh(np.concatenate([torus().vertices, [[9, 9, 9]]]), torus().faces)
    length = np.linalg.norm(vertex_normals(alone), axis=1)
    np.testing.assert_allclose(length[:-1], 1.0, rtol=1e-12)
    assert length[-1] == 0.0


def test_a_linear_map_about_the_centroid_and_a_shift():
    mesh = Mesh(box(0.3, 1.0, 0.2).vertices + np.array([0.2, -0.1, 0.3], np.float32), box().faces)
    vertices = mesh.vertices.astype(np.float64)
    centred = vertices - vertices.mean(axis=0)
    amounts = np.random.default_rng(0).normal(size=13)
    matrix = amounts[1:10].reshape(3, 3) * np.where(np.eye(3) > 0, STRETCH, SHEAR)
    expected = OFFSET * amounts[0] * vertex_normals(mesh) + centred @ matrix + SHIFT * amounts[10:]
    np.testing.assert_allclose(displacement_fields(mesh) @ amounts, expected, atol=1e-9)


def test_sharpening_undoes_a_smoothing():
    """Against a dense solve; and the corners of a box go outward."""
    mesh = box(1.0, 0.6, 0.8)
    batch = MeshBatch.of([mesh])
    found = sharpening(batch)[0].numpy()
    vertices = mesh.vertices.astype(np.float64)
    corners = vertices[mesh.faces]
    edge = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2).mean()
    joined = np.zeros((len(vertices), len(vertices)))
    for a, b, c in mesh.faces:
        for i, j in ((a, b), (b, c), (c, a)):
            joined[i, j] = joined[j, i] = 1.0
    laplacian = np.diag(joined.sum(axis=1)) - joined
    smoothed = np.linalg.solve(np.eye(len(vertices)) + (ROUNDNESS / edge) ** 2 * laplacian, vertices)
    np.testing.assert_allclose(found, vertices - smoothed, atol=1e-6)
    assert (found * vertices > 0).all()


def test_a_batch_pads_with_nothing():
    meshes = [icosphere(1, 0.5), unit(torus())]
    prepared = [instance(str(i), mesh, mesh) for i, mesh in enumerate(meshes)]
    scene = Scene.of(prepared, load_renderer("warp"), CPU)
    whole = WholeShape(meshes, scene)
    moved = whole.displacement(torch.ones_like(whole.none()))
    for row, mesh in zip(moved, meshes, strict=True):
        count = len(mesh.vertices)
        alone = MeshBatch.of([mesh])
        sharper = sharpening(alone)[0].numpy()
        np.testing.assert_allclose(row[:count], displacement_fields(mesh).sum(axis=2) + sharper, atol=2e-6)
        assert not row[count:].any()
    assert not whole.displacement(whole.none()).any()


# Nothing but the whole shape moves, and all that lies along the viewing ray is made.
ALONE = {
    "large-steps": {
        "large_steps": {"whole_share": 0.99, "reach": (0.0,), "learning_rate": 1e-12, "whole_depth": 1.0},
    },
    "refine": {"steps": 120, "paper": {"learning_rate": 1e-12, "whole_learning_rate": 0.15, "whole_depth": 1.0}},
}


@pytest.mark.parametrize("method", ALONE)
def test_what_is_wrong_as_a_whole_is_put_right_by_it_alone(method):
    """A torus too thick, stretched and out of place; the details may not move at all."""
    true = unit(torus())
    wrong = true.vertices + 0.024 * vertex_normals(true)
    wrong = wrong * np.array([1.1, 1.0, 0.95]) + np.array([0.024, 0.036, 0.0])
    given = instance("torus", Mesh(wrong, true.faces), true)
    config = RefineConfig(method=method, image_size=SIZE, **ALONE[method])
    [found] = load_method(method)([given], config, CPU)
    assert iou(wrong, given) < 0.75
    assert iou(found.vertices, given) > 0.95
    # What moved it is one of the changes: it is linear in their fields.
    sharper = sharpening(MeshBatch.of([given.mesh]))
    fields = np.concatenate([displacement_fields(given.mesh), sharper[0, ..., None]], axis=2).reshape(-1, CHANGES)
    moved = (found.vertices - given.mesh.vertices).astype(np.float64).ravel()
    left = moved - fields @ np.linalg.lstsq(fields, moved, rcond=None)[0]
    assert np.abs(left).max() < 1e-5


@pytest.mark.parametrize("method", ALONE)
def test_without_a_rate_nothing_changes_as_a_whole(method):
    given = instance("ball", icosphere(1, 0.5), icosphere(1, 0.58))
    still = {"whole_learning_rate": 0.0, "learning_rate": 1e-12}
    own = {"paper": still, "large_steps": still | {"whole_share": 0.9}}
    [found] = load_method(method)([given], RefineConfig(method=method, image_size=SIZE, steps=20, **own), CPU)
    np.testing.assert_allclose(found.vertices, given.mesh.vertices, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 7, 160])
def test_stages_cover_every_step_once(steps):
    options = LargeStepsOptions(reach=(0.3, 0.1, 0.05, 0.02), whole_share=0.3)
    found = [step for _, first, last in stages(options, steps) for step in range(first, last)]
    assert found == list(range(steps))
    assert [reach for reach, _, _ in stages(options, steps)] == [None, 0.3, 0.1, 0.05, 0.02]


def test_softness_falls_to_its_end_and_stays():
    options = LargeStepsOptions()
    values = [options.sigma_at(i / 200) for i in range(201)]
    assert values[0] == options.sigma_start
    assert all(after <= before for before, after in pairwise(values))
    assert options.sigma_at(options.coarse_share) == pytest.approx(options.sigma_middle)
    assert options.sigma_at(options.sigma_settled) == pytest.approx(options.sigma_end)
    assert not options.settled_at(options.sigma_settled - 0.01)
    assert options.settled_at(options.sigma_settled)


def rays(mesh: Mesh, azimuth: float, elevation: float, distance: float) -> np.ndarray:
    """(V, 3) unit vectors from a camera at that place."""
    a, e = np.radians([azimuth, elevation])
    away = mesh.vertices - distance * np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
    return away / np.linalg.norm(away, axis=1, keepdims=True)


@pytest.mark.parametrize("depth", [0.0, 0.5])
@pytest.mark.parametrize("weight", [None, 0.3, 5.0], ids=str)
def test_of_what_is_along_the_viewing_ray_only_a_share_is_made(depth, weight):
    """A further view from the side sees sin² of the angle between its ray and the first's, as far as it counts."""
    mesh = icosphere(2, 0.5)
    given, unseen = instance("one", mesh, mesh), 1.0
    ray = rays(mesh, 30, 25, 1.8)
    if weight is not None:
        given = replace(given, views=(*given.views, view(mesh, Camera(90, 0, 2.5), SIZE, weight=weight)))
        across = np.linalg.norm(np.cross(ray, rays(mesh, 90, 0, 2.5)), axis=1) ** 2
        unseen = 1.0 - min(1.0, weight) * across[:, None]
    scene = Scene.of([given], load_renderer("warp"), CPU)
    for change in range(CHANGES):
        amounts = torch.eye(CHANGES)[change : change + 1]
        full, part = (WholeShape([mesh], scene, share).displacement(amounts)[0].numpy() for share in (1.0, depth))
        along = (full * ray).sum(axis=1)
        assert np.abs(along).max() > 1e-3
        np.testing.assert_allclose(part, full - (1 - depth) * unseen * along[:, None] * ray, atol=1e-6)
