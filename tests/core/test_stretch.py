"""By how much faces are stretched, against singular values and closed forms."""

import numpy as np
import pytest

from refine_batch.mesh.stretch import largest_stretch


def test_it_is_the_larger_singular_value_of_the_map_of_each_face():
    random = np.random.default_rng(0)
    rest, faces = random.normal(size=(90, 3)), np.arange(90).reshape(30, 3)
    matrix = random.normal(size=(30, 3, 3))
    # Each face by a map of its own.
    moved = np.einsum("fij,fkj->fki", matrix, rest[faces]).reshape(90, 3)
    expected = []
    for corners, of_face in zip(rest[faces], matrix, strict=True):
        plane, _ = np.linalg.qr((corners[1:] - corners[0]).T)
        expected.append(np.linalg.svd(of_face @ plane, compute_uv=False)[0])
    np.testing.assert_allclose(largest_stretch(rest, moved, faces), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("scale", "expected"), [((1, 1, 1), 1.0), ((3, 2, 7), 3.0), ((0.5, 0.25, 9), 0.5), ((0, 0, 1), 0)]
)
def test_of_a_face_across_z(scale, expected):
    rest = np.array([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [0.3, 1.0, 1.0]])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    moved = rest * scale @ turn + [5.0, 0.0, -2.0]
    assert largest_stretch(rest, moved, np.array([[0, 1, 2]])) == pytest.approx([expected])


def test_a_sheared_face():
    """A unit shear: the golden ratio."""
    rest = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    sheared = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert largest_stretch(rest, sheared, np.array([[0, 1, 2]])) == pytest.approx([(1 + 5**0.5) / 2])


def test_what_had_no_area_tells_nothing():
    rest = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 0, 0]])
    moved = np.array([[0.0, 0, 0], [1, 5, 0], [2, 0, 9], [7, 0, 0]])
    np.testing.assert_array_equal(largest_stretch(rest, moved, np.array([[0, 1, 2], [1, 3, 1]])), [1.0, 1.0])
