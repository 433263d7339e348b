"""Meshes as single-view methods leave them: refined or refused clearly, the topology never changed silently."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import box, fan, icosphere, soup, torus

from refine_batch import Camera, Instance, Mesh, RefineConfig, refine
from refine_batch.render import hard_silhouettes

SIZE = 32
CAMERA = Camera(30, 20, 1.4)
BALL = icosphere(1, 0.35)


def with_unused_vertices() -> Mesh:
    return Mesh(np.concatenate([[[5.0, 5.0, 5.0]], BALL.vertices, [[0.0, -9.0, 0.0]]]), BALL.faces + 1)


def with_every_corner_its_own() -> Mesh:
    """No two faces share a vertex, though they share positions: what STL files hold."""
    return Mesh(BALL.vertices[BALL.faces].reshape(-1, 3), np.arange(3 * len(BALL.faces)).reshape(-1, 3))


def with_degenerate_faces() -> Mesh:
    faces = np.concatenate([BALL.faces, [[0, 0, 1], [2, 2, 2], [3, 4, 3]], BALL.faces[:2]])
    return Mesh(BALL.vertices, faces)


def with_faces_of_no_area() -> Mesh:
    vertices = BALL.vertices.copy()
    vertices[7] = vertices[3]
    return Mesh(vertices, BALL.faces)


def far_apart() -> Mesh:
    one, other = box(0.2, 0.2, 0.2, centre=(-0.25, 0, 0)), icosphere(1, 0.15)
    return Mesh(
        np.concatenate([one.vertices, other.vertices + np.array([0.25, 0, 0], np.float32)]),
        np.concatenate([one.faces, other.faces + 8]),
    )


AWKWARD = {
    "non-manifold": fan(5),
    "open": Mesh(BALL.vertices, BALL.faces[10:]),
    "several components": far_apart(),
    "unused vertices": with_unused_vertices(),
    "every corner its own": with_every_corner_its_own(),
    "degenerate faces": with_degenerate_faces(),
    "faces of no area": with_faces_of_no_area(),
    "wound either way": Mesh(BALL.vertices, np.concatenate([BALL.faces[::2], BALL.faces[1::2, ::-1]])),
    "crossing triangles": soup(20, 25, 0, scale=0.3),
    "one triangle": Mesh(np.eye(3) * 0.3, np.array([[0, 1, 2]])),
    "flat": Mesh(torus().vertices * np.array([1, 1, 0]), torus().faces),
    "inside out": Mesh(BALL.vertices, BALL.faces[:, ::-1]),
    "around the camera": Mesh(BALL.vertices * 8, BALL.faces),
    "behind the camera": Mesh(BALL.vertices + np.array([0, 0, 40], np.float32), BALL.faces),
    "tiny": Mesh(BALL.vertices * 1e-4, BALL.faces),
}  # fmt: skip


def instance(name: str, mesh: Mesh) -> Instance:
    [mask] = hard_silhouettes(box(0.5, 0.4, 0.3), [CAMERA], SIZE)
    image = np.where(mask[..., None], 130, 0).astype(np.uint8).repeat(3, axis=2)
    return Instance(name, mesh, image, mask, CAMERA, ground_truth=BALL)


@pytest.mark.parametrize("method", ["refine", "large-steps"])
def test_refined_or_refused_with_neighbours_unharmed(method):
    instances = [instance(name, mesh) for name, mesh in AWKWARD.items()] + [instance("plain", BALL)]
    config = RefineConfig(method=method, steps=2, image_size=SIZE, figure_samples=100)
    results = refine(instances, config)
    for result, given in zip(results, instances, strict=True):
        assert result.status in ("refined", "kept", "failed"), result.instance_id
        if result.status == "failed":
            assert result.error_kind != "internal", (result.instance_id, result.error_message)
            continue
        np.testing.assert_array_equal(result.mesh.faces, given.mesh.faces)
        assert result.mesh.vertices.shape == given.mesh.vertices.shape
        assert np.isfinite(result.mesh.vertices).all(), result.instance_id
        assert result.preparation is None
    [alone] = refine([instances[-1]], config)
    np.testing.assert_array_equal(results[-1].mesh.vertices, alone.mesh.vertices)
    # None of these is so broken that it has to be refused; what is not in the picture is.
    unseen = [r for r in results if r.status == "failed"]
    assert [r.instance_id for r in unseen] == ["behind the camera", "tiny"]
    assert {r.error_kind for r in unseen} == {"camera_invalid"}


@pytest.mark.parametrize("method", ["refine", "large-steps"])
@pytest.mark.parametrize("vertices", [50, 642, pytest.param(40_962, marks=pytest.mark.slow)])
def test_of_any_size(method, vertices):
    sizes = {50: 1, 642: 3, 40_962: 6}
    mesh = icosphere(sizes[vertices], 0.3)
    config = RefineConfig(method=method, steps=3, image_size=SIZE, figure_samples=100, guard=False)
    [result] = refine([instance("sized", mesh)], config)
    assert result.status == "refined", result.error_message
    assert len(result.mesh.vertices) == len(mesh.vertices)
    assert np.abs(result.mesh.vertices - mesh.vertices).max() > 0


def test_above_the_limit_a_mesh_is_refused_and_the_option_named():
    options = {"preparation": {"max_faces": 200}}
    config = RefineConfig(method="large-steps", steps=3, image_size=SIZE, figure_samples=100, guard=False, **options)
    [large, small] = refine([instance("large", icosphere(3, 0.3)), instance("small", BALL)], config)
    assert (large.status, large.error_kind) == ("failed", "mesh_too_large")
    assert "1280 faces" in large.error_message
    assert "--max-faces" in large.error_message
    assert small.status == "refined"
    assert len(small.mesh.faces) == len(BALL.faces)
