"""The symmetry plane found in a shape, on shapes whose planes are known."""

from __future__ import annotations

import numpy as np
import pytest
from shapes import box, icosphere, jittered

from refine_batch import Instance
from refine_batch.cameras.camera import Camera
from refine_batch.mesh import Mesh
from refine_batch.mesh.symmetry import asymmetry, find_symmetry_axis
from refine_batch.refinement.prepare import prepare
from refine_batch.render import hard_silhouettes

# Its arms point along two axes: a mirror image only along the third.
CORNER = np.concatenate([box(0.8, 0.2, 0.2).vertices, box(0.2, 0.2, 0.8, centre=(-0.3, 0, 0.3)).vertices])
CORNER = Mesh(CORNER, np.concatenate([box().faces, box().faces + 8]))


def turned(mesh: Mesh, axes: tuple[int, int, int]) -> Mesh:
    return Mesh(mesh.vertices[:, axes], mesh.faces)


@pytest.mark.parametrize(
    ("mesh", "axis"),
    [
        (icosphere(2), "z"),
        (box(), "z"),
        (jittered(icosphere(3), 0.01), "z"),
        (turned(CORNER, (0, 2, 1)), "z"),
        (CORNER, "y"),
        (turned(CORNER, (1, 0, 2)), "x"),
        (Mesh(CORNER.vertices * 100, CORNER.faces), "y"),
        (Mesh(icosphere(2).vertices + np.array([0.3, 0.0, 0.3], np.float32), icosphere(2).faces), "y"),
        (Mesh(icosphere(2).vertices + 0.3, icosphere(2).faces), "none"),
        # Shifted by a little in z: a plane that holds in part, while x and y hold no better.
        (Mesh(icosphere(2).vertices + 0.04, icosphere(2).faces), "z"),
        (Mesh(icosphere(2).vertices + np.array([0.0, 0.04, 0.04], np.float32), icosphere(2).faces), "x"),
        (Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), "none"),
    ],
)
def test_the_plane_of_a_shape(mesh, axis):
    assert find_symmetry_axis(mesh) == axis


def test_asymmetry_of_a_shifted_sphere():
    """Mirrored, a small sphere at a distance d of the plane is 2d off, less what it is thick."""
    sphere = icosphere(3, 0.02)
    far = Mesh(np.concatenate([sphere.vertices, sphere.vertices + np.array([1.0, 0, 0.3], np.float32)]),
               np.concatenate([sphere.faces, sphere.faces + len(sphere.vertices)]))  # fmt: skip
    # Half of the surface finds itself, the other half is 0.6 off, of an extent of 1.04.
    assert asymmetry(far, "z") == pytest.approx(0.6 / 1.04 / np.sqrt(2), rel=0.1)
    assert asymmetry(sphere, "z") < 0.03


@pytest.mark.parametrize(
    ("said", "option", "used"),
    [(None, "z", "z"), (None, "none", "none"), (None, "auto", "y"), ("x", "auto", "x"), ("none", "z", "none")],
)
def test_what_an_instance_says_comes_before_the_option(said, option, used):
    camera = Camera(30, 20, 2)
    [mask] = hard_silhouettes(CORNER, [camera], 32)
    image = np.zeros((32, 32, 3), np.uint8)
    instance = Instance("corner", CORNER, image, mask, camera, said)
    assert prepare(instance, 32, symmetry_axis=option).symmetry_axis == used
