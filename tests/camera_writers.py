"""Cameras of this project in other conventions: the inverses of `refine_batch.cameras.conversions`, for round trips."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from refine_batch.cameras.pinhole import Pinhole

_FLIP_XY, _FLIP_YZ = np.diag([-1.0, -1.0, 1.0]), np.diag([1.0, -1.0, -1.0])


def to_opencv(pinhole: Pinhole, *, first_pixel: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rotation, translation, intrinsics); the inverse of `from_opencv`."""
    k = pinhole.intrinsics.copy()
    k[:2, 2] -= 0.5 - first_pixel
    return pinhole.rotation, pinhole.translation, k


def to_colmap(pinhole: Pinhole) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]:
    """(quaternion with w ≥ 0, translation, parameters of PINHOLE)."""
    x, y, z, w = Rotation.from_matrix(pinhole.rotation).as_quat(canonical=True)
    i = pinhole.intrinsics
    return np.array([w, x, y, z]), pinhole.translation, (i[0, 0], i[1, 1], i[0, 2], i[1, 2])


def to_opengl(pinhole: Pinhole) -> tuple[np.ndarray, np.ndarray]:
    """((4, 4) camera to world, (3, 3) intrinsics); the inverse of `from_opengl`."""
    matrix = np.eye(4)
    matrix[:3, :3] = (_FLIP_YZ @ pinhole.rotation).T
    matrix[:3, 3] = pinhole.centre
    return matrix, pinhole.intrinsics


def to_pytorch3d(pinhole: Pinhole) -> tuple[np.ndarray, np.ndarray, tuple[float, float], tuple[float, float]]:
    """(R, T, focal length, principal point) of PerspectiveCameras; the inverse of `from_pytorch3d`."""
    half = min(pinhole.width, pinhole.height) / 2.0
    k = pinhole.intrinsics
    return (
        (_FLIP_XY @ pinhole.rotation).T,
        _FLIP_XY @ pinhole.translation,
        (k[0, 0] / half, k[1, 1] / half),
        ((pinhole.width / 2 - k[0, 2]) / half, (pinhole.height / 2 - k[1, 2]) / half),
    )
