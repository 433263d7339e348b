"""The symmetry plane found in a shape, on shapes whose planes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from shapes import box, icosphere, jittered, joined, unit

from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import AXES, SymmetryPlane
from refine_batch.mesh.symmetry import HALF_BELIEVED, HOPELESS, Mirror, asymmetry, find_plane, trust_of

X, Y, Z = (SymmetryPlane(tuple(row)) for row in np.eye(3).tolist())
OBLIQUE = SymmetryPlane((2 / 3, -1 / 3, 2 / 3), 0.3)
# A seat, a back and legs of unlike heights: a mirror image in z alone.
CHAIR = unit(
    joined(
        box(0.5, 0.1, 0.5),
        box(0.08, 0.5, 0.5, centre=(-0.25, 0.25, 0.0)),
        box(0.06, 0.4, 0.06, centre=(0.2, -0.2, 0.2)),
        box(0.06, 0.4, 0.06, centre=(0.2, -0.2, -0.2)),
    )
)


def turned(mesh: Mesh, degrees: float) -> Mesh:
    """About the upright axis, in unit size again."""
    turn = Rotation.from_euler("y", degrees, degrees=True)
    return unit(Mesh(turn.apply(mesh.vertices), mesh.faces))


def test_reflection_keeps_the_plane_and_turns_its_normal():
    normal = np.array(OBLIQUE.normal)
    across = np.cross(normal, [0.0, 1.0, 0.0])
    points = np.stack([0.3 * normal, 0.3 * normal + across, normal, np.zeros(3)])
    expected = np.stack([0.3 * normal, 0.3 * normal + across, -0.4 * normal, 0.6 * normal])
    np.testing.assert_allclose(OBLIQUE.reflect(points), expected, atol=1e-12)
    np.testing.assert_allclose(OBLIQUE.reflect(OBLIQUE.reflect(points)), points, atol=1e-12)


def test_axes_have_names_and_oblique_planes_none():
    assert [plane.axis for plane in (X, Y, Z, OBLIQUE)] == ["x", "y", "z", None]
    assert SymmetryPlane((0.0, 0.0, -1.0), 0.4).axis == "z"
    assert SymmetryPlane((math.sin(1e-2), 0.0, math.cos(1e-2))).axis is None


@pytest.mark.parametrize(
    ("mesh", "axis"),
    [
        (icosphere(2, 0.5), "z"),
        (unit(box()), "z"),
        (unit(jittered(icosphere(3, 0.5), 0.01)), "z"),
        (CHAIR, "z"),
        (Mesh(CHAIR.vertices[:, ::-1], CHAIR.faces), "x"),
    ],
)
def test_the_plane_of_a_shape_along_the_axes(mesh, axis):
    plane = find_plane(mesh)
    assert plane.axis == axis
    assert plane.offset == pytest.approx(0.0, abs=0.01)
    assert plane.trust > 0.9


@pytest.mark.parametrize("degrees", [10.0, 37.0, 90.0, 118.0, 171.0])
def test_an_oblique_plane(degrees):
    """Of a chair that was turned: its normal is turned with it, the plane goes through the chair's own middle."""
    mesh = turned(CHAIR, degrees)
    plane = find_plane(mesh)
    normal = Rotation.from_euler("y", degrees, degrees=True).apply([0.0, 0.0, 1.0])
    assert abs(np.dot(plane.normal, normal)) > math.cos(math.radians(1.0))
    assert np.linalg.norm(plane.normal) == pytest.approx(1.0)
    assert asymmetry(mesh, plane) < 0.01
    assert plane.trust > 0.95


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_plane_that_does_not_go_through_the_middle(side):
    """A table with a thin bar on one side: its box's middle is none of the table's."""
    table = joined(
        box(1.0, 0.06, 0.6), box(0.1, 0.5, 0.6, centre=(-0.4, -0.25, 0.0)), box(0.2, 0.5, 0.5, centre=(0.3, -0.25, 0.0))
    )
    bar = box(0.04, 0.04, 0.3, centre=(0.0, 0.0, side * 0.45))
    whole = joined(table, bar)
    middle = side * 0.15
    plane = find_plane(Mesh(whole.vertices - np.array([0.0, 0.235, 0.0]) * -1 - np.array([0, 0, middle]), whole.faces))
    assert plane.axis == "z"
    assert plane.offset * np.sign(plane.normal[2]) == pytest.approx(-middle, abs=0.01)


def bent_chair() -> Mesh:
    """A chair that a coarse method leant over: what is higher stands farther in z."""
    bent = CHAIR.vertices.astype(np.float64)
    bent[:, 2] += 0.08 * (bent[:, 1] - bent[:, 1].min()) ** 2
    return unit(Mesh(bent, CHAIR.faces))


def test_the_plane_through_the_objects_own_origin_is_taken_where_the_mesh_bears_it_out():
    """It is the object's, without the coarse mesh's errors; and it stays where it is."""
    own = find_plane(bent_chair(), origin=(0.1, -0.2, -0.0125))
    assert own.axis == "z"
    assert own.offset == pytest.approx(-0.0125)
    assert not own.free
    assert own.trust > 0.9


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (0.1, -0.2, -0.2)])
def test_an_origin_that_is_but_the_middle_of_the_box_or_far_from_any_plane_is_none(origin):
    own, found = find_plane(bent_chair(), origin=origin), find_plane(bent_chair())
    assert own == found
    assert own.free


def test_what_is_not_symmetric_is_hardly_believed():
    """A stair of blocks that turn as they rise."""
    blocks = [box(0.5, 0.18, 0.16, centre=(0.25, 0.18 * k, 0.0)) for k in range(5)]
    stair = [
        Mesh(Rotation.from_euler("y", 80.0 * k, degrees=True).apply(one.vertices), one.faces)
        for k, one in enumerate(blocks)
    ]
    found = find_plane(unit(joined(*stair)))
    assert found is None or found.trust < 0.2
    # With one arm a chair is less itself than with none.
    armed = unit(joined(CHAIR, box(0.5, 0.25, 0.08, centre=(0.0, 0.1, 0.25))))
    assert find_plane(armed).trust < find_plane(CHAIR).trust


@pytest.mark.parametrize("mesh", [Mesh(np.zeros((3, 3)), [[0, 1, 2]]), Mesh(np.eye(3), np.zeros((0, 3), np.int32))])
def test_without_an_area_there_is_no_plane(mesh):
    assert find_plane(mesh) is None


def test_trust_falls_from_one_by_half_to_nothing():
    assert trust_of(0.0) == 1.0
    assert trust_of(HALF_BELIEVED) == pytest.approx(0.5)
    assert trust_of(2 * HALF_BELIEVED) == pytest.approx(1 / 17)
    assert trust_of(1.0) < 1e-5


def test_asymmetry_of_a_shifted_sphere():
    """Mirrored, a small sphere at a distance d of the plane is 2d off, less what it is thick."""
    sphere = icosphere(3, 0.02)
    far = joined(sphere, Mesh(sphere.vertices + np.array([1.0, 0, 0.3], np.float32), sphere.faces))
    # Half of the surface finds itself, the other half is 0.6 off.
    assert asymmetry(far, Z) == pytest.approx(0.6 / np.sqrt(2), rel=0.1)
    assert asymmetry(sphere, Z) < 1e-4
    # In the plane between the two each finds the other.
    between = np.array([1.0, 0.0, 0.3])
    length = float(np.linalg.norm(between))
    assert asymmetry(far, SymmetryPlane(tuple((between / length).tolist()), length / 2)) < 1e-3


def test_an_axis_plane_that_is_hopeless_is_dropped_and_the_other_one_still_fitted():
    # Its own mirror image across z, about a plane beside the middle of its box; across x a wedge.
    points = icosphere(2).vertices.astype(np.float64)
    points[:, 0] += 0.5 * (points[:, 0] + 1.0) ** 2 * np.abs(points[:, 1])
    mesh = Mesh(points / np.ptp(points, axis=0).max(), icosphere(2).faces)
    z, x = SymmetryPlane(AXES["z"], 0.02), SymmetryPlane(AXES["x"], 0.02)
    mirror = Mirror(mesh)
    assert mirror.asymmetry(x) > HOPELESS[0] * mirror.asymmetry(z)
    known = [(mirror.asymmetry(plane), plane) for plane in (z, x)]
    far, plane = mirror.across(*known, limit=0.1)
    assert plane.axis == "z"
    assert abs(plane.offset) < 1e-3
    assert far < mirror.asymmetry(z)
    assert mirror.across(*known, limit=0.0) is None


def test_few_points_first_lead_to_the_plane_that_all_of_them_tell():
    points = icosphere(3).vertices.astype(np.float64) * (0.5, 0.3, 0.2)
    points[:, 1] += 0.3 * points[:, 0] ** 2 + 0.1 * points[:, 0]
    angle = np.radians(33.0)
    turned = points @ np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    plane = find_plane(Mesh(turned / np.ptp(turned, axis=0).max(), icosphere(3).faces))
    assert plane is not None
    assert plane.trust > 0.99
    normal = np.array([np.sin(angle), 0.0, np.cos(angle)])
    assert abs(np.dot(plane.normal, normal)) > 1 - 1e-6
    assert abs(plane.offset) < 1e-3
