"""The image symmetry loss against the formula written out, and its views against the mirror."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes import box, finite_difference, icosphere

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.losses import SymmetryViews, image_symmetry_loss, symmetry_directions
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.render import load_renderer
from refine_batch.render.warp_rasterise import rasterise

BIAS = 0.0005
X, Y, Z = (SymmetryPlane(tuple(row)) for row in np.eye(3).tolist())


def random_images(views: int, size: int = 5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    depth, mirrored = (torch.rand((views, size, size), generator=generator, dtype=dtype) * 3 for _ in range(2))
    on_object = torch.rand((views, size, size), generator=generator) < 0.6
    confidence = torch.rand((views, size, size), generator=generator, dtype=dtype) * 0.9 + 0.05
    return depth, mirrored, torch.where(on_object, confidence, 1.0), on_object


def test_formula_of_each_instance():
    views = SymmetryViews.of([Z, None, X], symmetry_directions(2))
    depth, mirrored, confidence, on_object = random_images(8)
    found = image_symmetry_loss(depth, mirrored, confidence, on_object, views, 3, BIAS)
    per_view = []
    for s1, s2, c, o in zip(*(t.numpy() for t in (depth, mirrored, confidence, on_object)), strict=True):
        difference = ((1 - np.exp(-s1))[:, ::-1] - (1 - np.exp(-s2))) ** 2
        per_view.append((BIAS * np.log(1 / c)).mean() + np.where(o, difference * c, 0).mean())
    np.testing.assert_allclose(found, [np.mean(per_view[:4]), 0, np.mean(per_view[4:])], rtol=1e-9)


@pytest.mark.parametrize("which", ["depth", "mirrored", "confidence"])
def test_gradient_is_the_finite_difference(which):
    views = SymmetryViews.of([Z, None, X], symmetry_directions(1))
    images = dict(zip(("depth", "mirrored", "confidence", "on_object"), random_images(4, 4), strict=True))

    def loss(value):
        return image_symmetry_loss(*{**images, which: value}.values(), views, 3, BIAS).sum()

    variable = images[which].clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(variable), variable)
    torch.testing.assert_close(found, finite_difference(loss, variable), rtol=1e-5, atol=1e-8)


def test_confidence_of_zero_is_not_infinite():
    views = SymmetryViews.of([Z], symmetry_directions(1))
    depth, mirrored, _, on_object = random_images(2, dtype=torch.float32)
    confidence = torch.zeros((2, 5, 5), requires_grad=True)
    found = image_symmetry_loss(depth, mirrored, confidence, on_object, views, 1, BIAS)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(confidence.grad).all()


def test_views_are_the_papers():
    assert symmetry_directions(1) == [(15.0, -45.0), (15.0, 45.0)]
    assert symmetry_directions(3) == [(a, e) for a in (15.0, 45.0, 75.0) for e in (-45.0, 45.0)]
    views = SymmetryViews.of([None, Z], symmetry_directions(3))
    assert views.mesh_of_view.tolist() == [1] * 6
    assert views.per_instance == 6
    expected = stack_cameras([Camera(a, e, 1.9) for a, e in symmetry_directions(3)])
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(views.cameras, name), value, rtol=0, atol=0)


def test_instances_without_a_plane_have_no_views():
    views = SymmetryViews.of([None, None], symmetry_directions(1))
    assert len(views.cameras) == len(views.mirrored) == len(views.mesh_of_view) == 0
    none = torch.zeros((0, 4, 4))
    found = image_symmetry_loss(none, none, none, none > 0, views, 2, BIAS)
    assert found.tolist() == [0, 0]


def lopsided(axis: int) -> Mesh:
    """A box, symmetric in all three planes, with a knob that breaks the symmetry in one."""
    knob = [0.15, 0.0, 0.0], [-0.05, 0.12, 0.0], [-0.05, -0.12, 0.0]
    away = np.roll(np.array([0.75, 0, 0]), axis)
    spread = np.roll(np.array(knob), axis, axis=1)
    turned = np.roll(np.array(knob)[:, [0, 2, 1]], axis, axis=1)
    base = box(0.5, 0.4, 0.6)
    vertices = np.concatenate([base.vertices, away + spread, away + turned])
    return Mesh(vertices, np.concatenate([base.faces, [[8, 9, 10], [11, 12, 13]]]))


def moved(mesh: Mesh, plane: SymmetryPlane) -> Mesh:
    """As far along the plane's normal as the plane is from the origin."""
    return Mesh(mesh.vertices + plane.offset * np.array(plane.normal), mesh.faces)


@pytest.mark.parametrize("offset", [0.0, 0.17])
@pytest.mark.parametrize("axis", [0, 1, 2], ids="xyz")
def test_symmetric_meshes_cost_nothing_and_others_do(axis, offset):
    """The flipped view and the mirrored one show the same, whichever the plane, also one that turns up over."""
    plane = SymmetryPlane(tuple(np.eye(3)[axis].tolist()), offset)
    meshes = [box(0.5, 0.4, 0.6), icosphere(1), lopsided(axis), lopsided((axis + 1) % 3)]
    batch = MeshBatch.of([moved(mesh, plane) for mesh in meshes])
    views = SymmetryViews.of([plane] * 4, symmetry_directions(1))
    seen = batch.vertices[views.mesh_of_view.long()]
    render = load_renderer("warp")
    depth, mirrored = (
        render(project(seen, cameras), batch.faces, batch.face_count, views.mesh_of_view, 48, 1e-4)
        for cameras in (views.cameras, views.mirrored)
    )
    face = rasterise(project(seen, views.mirrored), batch.faces, batch.face_count, views.mesh_of_view, 48)
    found = image_symmetry_loss(depth, mirrored, torch.ones_like(depth), face >= 0, views, 4, BIAS)
    cube, sphere, broken, kept = found.tolist()
    assert sphere < 1e-9
    # The diagonals of a box's sides are not mirrored, and its soft interior shows them a little.
    assert max(cube, kept) < 1e-4
    assert broken > 1e-3


def test_each_instance_its_own():
    views = SymmetryViews.of([Z, X], symmetry_directions(1))
    depth, mirrored, confidence, on_object = random_images(4)
    expected = image_symmetry_loss(depth, mirrored, confidence, on_object, views, 2, BIAS)
    spoilt = depth.clone()
    spoilt[2:] = math.nan
    found = image_symmetry_loss(spoilt, mirrored, confidence, on_object, views, 2, BIAS)
    assert found[0] == expected[0]
    assert found[1].isnan()
