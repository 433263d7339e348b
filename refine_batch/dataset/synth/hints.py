"""Depth and normals of a true shape, and what a network would have guessed of them."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from refine_batch.cameras.camera import Camera, camera_axes
from refine_batch.dataset.synth.picture import faces_camera, seen
from refine_batch.mesh import Mesh

# Noise of depth, as a share of the object's range of depths, and of normals, degrees: half of each is smooth.
DEPTH_NOISE, NORMAL_NOISE = 0.05, 10.0
_SMOOTH = 12.0
_HIGHEST = 65535


def surface(mesh: Mesh, camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, size) depth along the viewing axis in object units, and (size, size, 3) unit normals in the camera's frame
    (x right, y up, z towards the viewer), of what is seen at the pixels' centres; NaN where nothing is.
    """
    corners = mesh.vertices.astype(np.float32)
    faces = np.ascontiguousarray(mesh.faces[faces_camera(corners[mesh.faces], camera)])
    rows, columns, face, weights = seen(corners, faces, camera, size)
    axes = camera_axes(camera)
    depth = np.full((size, size), np.nan)
    points = sum(weights[:, k, None] * corners[faces[face, k]] for k in range(3))
    position = np.asarray(camera.target) - camera.distance * axes[:, 2]
    depth[rows, columns] = (points - position) @ axes[:, 2]
    a, b, c = np.moveaxis(corners[faces].astype(np.float64), 1, 0)
    across = np.cross(b - a, c - a)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    normals = np.full((size, size, 3), np.nan)
    # The camera's own axes are x left, y up, z forward.
    normals[rows, columns] = (across @ (axes * [-1.0, 1.0, -1.0]))[face]
    return depth, normals


def guessed_depth(depth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(H, W) uint16: relative depth of a scale and shift of its own; 0 where nothing is seen."""
    known = np.isfinite(depth)
    low, high = depth[known].min(), depth[known].max()
    noisy = (depth - low) / max(high - low, 1e-6) + DEPTH_NOISE * _noise(depth.shape, random)
    first, last = np.sort(random.uniform(0.1, 0.9, 2)) + np.array([-0.05, 0.05])
    levels = first + (last - first) * noisy
    return np.where(known, np.clip(np.round(levels * _HIGHEST), 1, _HIGHEST), 0).astype(np.uint16)


def guessed_normals(normals: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: normals, each turned a little; black where nothing is seen."""
    shape = normals.shape[:2]
    by = math.radians(NORMAL_NOISE) / math.sqrt(2.0)
    turned = normals + by * np.dstack([_noise(shape, random) for _ in range(3)])
    turned /= np.linalg.norm(turned, axis=2, keepdims=True)
    levels = np.round((turned + 1.0) * 127.5)
    return np.where(np.isfinite(normals), np.clip(levels, 0, 255), 0).astype(np.uint8)


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Of standard deviation 1; half of its variance is smooth, as what a network gets wrong is."""
    smooth = gaussian_filter(random.normal(size=shape), _SMOOTH, mode="wrap")
    return (random.normal(size=shape) + smooth / max(smooth.std(), 1e-12)) / math.sqrt(2.0)
