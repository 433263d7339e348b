"""Hints that are wrong without contradicting the mesh: of a like object, or smoothly wrong where the mesh is right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from shapes import box, icosphere
from test_hint_checks import BLANK, CAMERA, SIDE, SIZE, TRUE, bean, seen, silhouette
from test_hinted_refinement import flattened

from refine_batch import Camera, Instance, Mesh, RefineConfig, refine
from refine_batch.instance import Depth, PictureView
from refine_batch.methods.base import View
from refine_batch.refinement.hint_checks import hint_problems, settled_problems
from refine_batch.refinement.hint_evidence import evidence
from refine_batch.render import hard_silhouettes

CONFIG = RefineConfig(method="large-steps", steps=40, image_size=SIZE, camera_error="0", symmetry_axis="none")
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.normal(size=(SIZE, SIZE, 3))
WAVES = gaussian_filter(NOISE, (5.0, 5.0, 0.0))
WAVES /= WAVES.std(axis=(0, 1))
DEPTH, NORMALS = seen(TRUE)
FLAT = flattened(TRUE, 0.7, CAMERA)


def unit(normals: np.ndarray) -> np.ndarray:
    return (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)


def view(mesh: Mesh = TRUE, **hints) -> View:
    return View(hard_silhouettes(mesh, [CAMERA], SIZE)[0].astype(np.float32), CAMERA, **hints)


def depth(values: np.ndarray, kind: str = "metric") -> dict:
    return {"depth": Depth(values.astype(np.float32), kind)}


def instance(mesh: Mesh, **hints) -> Instance:
    return Instance("a", mesh, BLANK, silhouette(), CAMERA, **hints)


def ball(radius: float) -> Mesh:
    return icosphere(3, radius)


@pytest.mark.parametrize("factor", [0.7, 1.25])
@pytest.mark.parametrize("told", [depth(DEPTH), depth(5.0 * DEPTH, "relative"), depth(3.0 / DEPTH, "inverse")])
def test_a_mesh_that_is_flat_along_the_rays_is_told_by_depth(factor, told):
    found, none = evidence(flattened(TRUE, factor, CAMERA), view(**told))
    assert none is None
    assert found.relief > 0.99
    assert found.alike == 1.0
    assert found.left < 0.25 * found.before
    assert found.stretch == pytest.approx(1.0 / factor, rel=0.15)


def test_a_mesh_that_is_flat_along_the_rays_is_told_by_normals():
    none, found = evidence(FLAT, view(normals=NORMALS))
    assert none is None
    assert min(found.relief, found.alike) > 0.9
    # Medians over five of so few pixels round the normals off.
    assert found.left < 0.9 * found.before
    assert found.stretch == pytest.approx(1.0 / 0.7, rel=0.15)


def test_noise_from_pixel_to_pixel_is_allowed_for():
    noisy = view(**depth(DEPTH * (1.0 + 0.01 * NOISE[..., 0])), normals=unit(NORMALS + math.radians(10.0) * NOISE))
    for clean, found in zip(evidence(TRUE, view(**depth(DEPTH), normals=NORMALS)), evidence(TRUE, noisy), strict=True):
        assert found.relief == pytest.approx(clean.relief, abs=0.02)
        assert found.alike == pytest.approx(clean.alike, abs=0.01)
        # 0.022 extents of noise leave 0.005 in medians of 25, and more at the outline.
        assert found.left == pytest.approx(clean.left, abs=0.004)


def test_too_few_pixels_tell_nothing():
    few = np.where(np.arange(SIZE)[:, None] == SIZE // 2, DEPTH, np.nan)
    assert evidence(TRUE, view(**depth(few))) == (None, None)
    assert evidence(TRUE, view()) == (None, None)


@pytest.mark.parametrize(("radius", "says"), [(0.42, "beyond it"), (0.26, "of the mask's inside")])
def test_a_hint_that_ends_at_another_outline_is_told_by_that(radius, says):
    """Of one ball for another: depth and normals go with the mesh in all but where they end."""
    own, other = ball(0.36), ball(radius)
    values, normals = seen(other)
    for found in hint_problems(own, view(own, **depth(values), normals=normals)):
        assert found.startswith("it ends at another outline, ")
        assert says in found
    # The same where the ground is told as well, so that it ends nowhere; and the mesh's own.
    whole = np.where(np.isfinite(values), values, 3.0)
    problem, _ = hint_problems(own, view(own, **depth(whole)))
    assert problem is None or "outline" not in problem
    values, normals = seen(own)
    assert hint_problems(own, view(own, **depth(values), normals=normals)) == (None, None)
    # What is not known is neither beyond nor missing.
    hidden = np.ones((SIZE, SIZE), bool)
    hidden[:, SIZE // 2 :] = False
    values[:, SIZE // 2 :] = np.nan
    assert hint_problems(own, view(own, **depth(values), known=hidden)) == (None, None)


def test_normals_of_a_wall_are_no_flat_mesh_s():
    """Any mesh goes with them when it is pressed flat enough."""
    wall = unit(np.array([0.0, 0.0, 1.0]) + 0.02 * NOISE)
    mesh = flattened(TRUE, 0.4, CAMERA)
    assert evidence(mesh, view(normals=wall))[1].alike > 0.9
    assert hint_problems(mesh, view(normals=wall)) == (None, None)
    _, problem = settled_problems(mesh, view(normals=wall))
    assert "it does not go with that mesh" in problem


def like_object(what: str, camera: Camera = CAMERA) -> dict:
    """Of an object of nearly this outline and another relief: a box behind the same mask."""
    values, normals = seen(box(1.1, 1.0, 0.9), camera)
    values[~silhouette(camera)] = normals[~silhouette(camera)] = np.nan
    return depth(values) if what == "depth" else {"normals": normals}


BAD = {
    "a like object's depth": (lambda: like_object("depth"), "depth", "does not go with"),
    "a like object's normals": (lambda: like_object("normals"), "normals", "does not go with that mesh"),
    "smooth noise of depth": (lambda: depth(DEPTH + 0.05 * WAVES[..., 0]), "depth", "an error of its own"),
    "smooth noise of normals": (
        lambda: {"normals": unit(NORMALS + math.radians(15.0) * WAVES)},
        "normals",
        "an error of its own",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mesh_that_meets_its_mask_is_left_alone_by_what_is_wrong_by_itself(case):
    make, name, says = BAD[case]
    [found] = refine([instance(TRUE, **make())], CONFIG, device="cpu")
    [note] = found.notes
    assert note.startswith(f"{name} left out: ")
    assert says in note
    assert found.status == "kept"
    assert "already agrees with the mask" in found.kept_reason
    np.testing.assert_array_equal(found.mesh.vertices, TRUE.vertices)


def rod() -> Mesh:
    """So thin that two pixels lie across it, bent, and of no symmetry."""
    stick = box(0.9, 0.045, 0.045)
    for _ in range(4):
        stick = subdivided(stick)
    vertices = stick.vertices.astype(np.float64)
    vertices[:, 1] += 0.25 * vertices[:, 0] ** 2 + 0.1 * vertices[:, 0] ** 3
    return Mesh(vertices, stick.faces)


def subdivided(mesh: Mesh) -> Mesh:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    corners = [(a, (a + b) / 2, (a + c) / 2), ((a + b) / 2, b, (b + c) / 2), ((a + c) / 2, (b + c) / 2, c)]
    corners.append(((a + b) / 2, (b + c) / 2, (a + c) / 2))
    points = np.concatenate([np.stack(three, axis=1) for three in corners]).reshape(-1, 3)
    vertices, faces = np.unique(points.round(6), axis=0, return_inverse=True)
    return Mesh(vertices, faces.reshape(-1, 3))


def test_a_thin_mesh_whose_outline_meets_its_mask_is_left_alone_by_normals():
    mesh = rod()
    _, normals = seen(mesh)
    mask = hard_silhouettes(mesh, [CAMERA], SIZE)[0]
    told = unit(normals + math.radians(15.0) * NOISE)
    [found] = refine([Instance("thin", mesh, BLANK, mask, CAMERA, normals=told)], CONFIG, device="cpu")
    [note] = found.notes
    assert note.startswith("normals left out: ")
    assert found.status == "kept"
    np.testing.assert_array_equal(found.mesh.vertices, mesh.vertices)


def test_what_a_hint_tells_of_a_flat_mesh_is_heard_and_of_a_further_view_named():
    further = PictureView(silhouette(SIDE), SIDE, normals=like_object("normals", SIDE)["normals"])
    told = instance(FLAT, **depth(DEPTH * (1.0 + 0.005 * NOISE[..., 0])))
    right = replace(instance(TRUE, **depth(DEPTH + 0.05 * WAVES[..., 0])), instance_id="b", views=(further,))
    flat, several = refine([told, right], CONFIG, device="cpu")
    assert flat.notes == ()
    assert flat.status == "refined"
    assert sorted(note.split(":")[0] for note in several.notes) == ["depth left out", "views[0].normals left out"]
    assert several.status == "kept"


def test_a_depth_whose_relief_is_another_is_left_out_where_masks_ask_for_more():
    """Of a long object that stands aslant, as another one does: the slope alone is the same."""
    mesh = bean(1.6, 0.7, 0.7)
    values, _ = seen(mesh)
    known = np.isfinite(values)
    plane = np.column_stack([np.ones(known.sum()), *np.nonzero(known)])
    slope = plane @ np.linalg.lstsq(plane, values[known], rcond=None)[0]
    other = values.copy()
    other[known] = 2.0 * slope - values[known]
    mask = hard_silhouettes(mesh, [CAMERA], SIZE)[0].astype(np.float32)
    problem, _ = hint_problems(mesh, View(mask, CAMERA, **depth(other)))
    assert "does not go with the coarse mesh" in problem
    assert "once a plane is taken from both" in problem
    assert hint_problems(mesh, View(mask, CAMERA, **depth(values))) == (None, None)
