"""Hints that cannot be of the coarse mesh's object are left out by name, and spoil nothing in silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapes import icosphere

from refine_batch import Camera, Instance, Mesh, RefineConfig, refine
from refine_batch.cameras.camera import project, stack_cameras
from refine_batch.instance import Depth, PictureView
from refine_batch.losses.hints import seen_surface
from refine_batch.render import hard_silhouettes
from refine_batch.render.warp_rasterise import rasterise

SIZE = 64
CAMERA = Camera(30, 25, 2.2)
SIDE = replace(CAMERA, azimuth=120.0)
CONFIG = RefineConfig(method="large-steps", steps=3, image_size=SIZE, symmetry_axis="none", guard=False)
BLANK = np.zeros((SIZE, SIZE, 3), np.uint8)


def bean(*factors: float) -> Mesh:
    """Of no symmetry: a ball with an ear."""
    ball, ear = icosphere(3, 0.4), icosphere(2, 0.15)
    vertices = np.concatenate([ball.vertices * [1.0, 0.8, 0.6], ear.vertices + np.array([0.35, 0.25, 0.2])])
    faces = np.concatenate([ball.faces, ear.faces + len(ball.vertices)])
    return Mesh(vertices * np.array(factors or (1.0, 1.0, 1.0)), faces)


TRUE, COARSE = bean(), bean(1.15, 0.9, 0.85)


def seen(mesh: Mesh, camera: Camera = CAMERA) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, H) and normals (H, H, 3), NaN where there is nothing."""
    cameras, faces = stack_cameras([camera]), torch.from_numpy(mesh.faces)[None]
    vertices = torch.from_numpy(mesh.vertices.astype(np.float32))[None]
    count, view = torch.tensor([len(mesh.faces)], dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    found = seen_surface(vertices, faces, cameras, rasterise(project(vertices, cameras), faces, count, view, SIZE))
    there = found.hit[0, :, None]
    depth = torch.where(there[:, 0], found.depth[0], torch.nan).reshape(SIZE, SIZE).numpy()
    return depth, torch.where(there, found.normal[0], torch.nan).reshape(SIZE, SIZE, 3).numpy()


def silhouette(camera: Camera = CAMERA) -> np.ndarray:
    return hard_silhouettes(TRUE, [camera], SIZE)[0]


def instance(**hints) -> Instance:
    return Instance("a", COARSE, BLANK, silhouette(), CAMERA, **hints)


DEPTH, NORMALS = seen(TRUE)
_STRIPES = np.broadcast_to(1.0 + 0.3 * np.sin(np.arange(SIZE)), (SIZE, SIZE)).astype(np.float32)
GOOD = {
    "metric": {"depth": Depth(DEPTH, "metric")},
    "relative": {"depth": Depth(0.1 * DEPTH - 5.0, "relative")},
    "inverse": {"depth": Depth(7.0 / DEPTH + 1.0, "inverse")},
    "normals": {"normals": NORMALS},
}
BAD = {
    "towards the viewer": ({"depth": Depth(-DEPTH, "relative")}, "depth left out: it grows where", "inverse?"),
    "inverse for relative": ({"depth": Depth(1.0 / DEPTH, "relative")}, "depth left out: it grows where", "inverse?"),
    "relative for inverse": ({"depth": Depth(DEPTH, "inverse")}, "depth left out: it grows where", "relative?"),
    "millimetres": ({"depth": Depth(1000.0 * DEPTH, "metric")}, "depth left out: it is", "depth_scale"),
    "metres": ({"depth": Depth(0.01 * DEPTH, "metric")}, "depth left out: it is 0.009", "in the mesh's units"),
    "another picture's depth": ({"depth": Depth(_STRIPES, "relative")}, "depth left out: it does not go", "this pict"),
    "left and right": ({"normals": NORMALS * [-1, 1, 1]}, "normals left out: left and right are", "normals_axes"),
    "up and down": ({"normals": NORMALS * [1, -1, 1]}, "normals left out: up and down are", "normals_axes"),
    "turned round": ({"normals": -NORMALS}, "normals left out: ", "coarse mesh"),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_true_hint_is_used_whatever_its_scale(case):
    [found] = refine([instance(**GOOD[case])], CONFIG, device="cpu")
    assert found.notes == ()
    assert found.losses["normals" if case == "normals" else "depth"] > 0.0


@pytest.mark.parametrize("case", BAD)
def test_a_bad_hint_is_left_out_by_name_and_changes_nothing(case):
    hints, begins, says = BAD[case]
    plain, spoilt = refine([instance(), instance(**hints)], CONFIG, device="cpu")
    [note] = spoilt.notes
    assert note.startswith(begins)
    assert says in note
    assert plain.notes == ()
    np.testing.assert_allclose(spoilt.mesh.vertices, plain.mesh.vertices, atol=1e-6)


def test_the_hint_of_a_further_view_is_named_by_its_view():
    depth, normals = seen(TRUE, SIDE)
    further = PictureView(silhouette(SIDE), SIDE, depth=Depth(-depth, "relative"), normals=normals)
    [found] = refine([replace(instance(), views=(further,), notes=("before",))], CONFIG, device="cpu")
    before, note = found.notes
    assert before == "before"
    assert note.startswith("views[0].depth left out: it grows where")
    assert found.losses["normals"] > 0.0
    assert found.losses["depth"] == 0.0


def test_a_method_that_does_not_read_hints_says_so_and_goes_on_as_without_them():
    config = CONFIG.model_copy(update={"method": "refine", "steps": 2})
    plain, told = refine([instance(), instance(**GOOD["metric"])], config, device="cpu")
    assert told.notes == ("depth and normals left out: --method refine does not read them",)
    np.testing.assert_array_equal(told.mesh.vertices, plain.mesh.vertices)
