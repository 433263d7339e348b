"""Shaded pictures of an object on a transparent background."""

from __future__ import annotations

import numpy as np
import torch
from manifold3d import Manifold

from refine_batch.cameras.camera import Camera, camera_position, project, stack_cameras
from refine_batch.render.warp_rasterise import rasterise

_SMOOTH_BELOW = 40.0  # degrees between faces: rounder than this is shaded round


def picture(
    solid: Manifold, tone_of: dict[int, int], camera: Camera, image_size: int, random: np.random.Generator
) -> np.ndarray:
    """(H, H, 4) uint8: the object, lit from above the camera, one colour per tone.

    Drawn at twice the resolution. As in the hard silhouette, a pixel belongs to the object where at least half of it is
    covered; its alpha is the share covered, elsewhere 0.

    Parameters
    ----------
    solid, tone_of
        As `painted` gives them, the solid moved to object coordinates.
    """
    colours = _palette(max(tone_of.values()) + 1, random)
    corners, normals, faces, tones = _surface(solid.calculate_normals(0, _SMOOTH_BELOW), tone_of)
    front = faces_camera(corners[faces], camera)
    faces, tones = np.ascontiguousarray(faces[front]), tones[front]
    rows, columns, face, weights = seen(corners, faces, camera, 2 * image_size)
    toned = sum(weights[:, k, None] * normals[faces[face, k]] for k in range(3))
    colour = colours[tones[face]] * _light(toned, camera, random)[:, None]
    pixel = (rows // 2) * image_size + columns // 2
    covered = np.bincount(pixel, minlength=image_size**2)
    sums = np.stack([np.bincount(pixel, weights=colour[:, c], minlength=image_size**2) for c in range(3)], axis=1)
    rgb = np.clip(sums / np.maximum(covered, 1)[:, None], 0.0, 1.0)
    rgba = np.column_stack([rgb, covered / 4.0]) * (covered >= 2)[:, None]
    return np.round(rgba * 255.0).astype(np.uint8).reshape(image_size, image_size, 4)


def _palette(count: int, random: np.random.Generator) -> np.ndarray:
    """(count, 3) muted colours that go together."""
    hue, spread = random.uniform(0, 1), random.uniform(0.02, 0.35)
    colours = []
    for i in range(count):
        phase = 2 * np.pi * (hue + spread * i + np.array([0.0, 1 / 3, 2 / 3]))
        value, saturation = random.uniform(0.45, 0.95), random.uniform(0.0, 0.45)
        colours.append(value * (1 - saturation * (0.5 - 0.5 * np.cos(phase))))
    return np.array(colours, dtype=np.float32)


def _surface(solid: Manifold, tone_of: dict[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions and normals (one per corner that differs), faces, and each face's tone."""
    mesh = solid.to_mesh()
    table = np.array(mesh.vert_properties)
    runs = np.diff(np.asarray(mesh.run_index)) // 3
    tones = np.repeat([tone_of.get(int(i), 0) for i in mesh.run_original_id], runs)
    return table[:, :3].astype(np.float32), table[:, 3:6], np.array(mesh.tri_verts, dtype=np.int32), tones


def faces_camera(triangles: np.ndarray, camera: Camera) -> np.ndarray:
    """(F,) bool of (F, 3, 3): a closed surface hides the faces turned away, which then need not be drawn."""
    a, b, c = np.moveaxis(triangles, 1, 0)
    return np.einsum("fc,fc->f", np.cross(b - a, c - a), camera_position(camera).astype(np.float32) - a) > 0


def seen(corners: np.ndarray, faces: np.ndarray, camera: Camera, size: int):
    """Rows, columns and nearest faces (P,) of the pixels that see one, and (P, 3) weights of its corners there.

    The weights are perspective-correct barycentric coordinates.
    """
    points = project(torch.from_numpy(corners)[None], stack_cameras([camera]))
    count, view = torch.tensor([len(faces)], dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    image = rasterise(points, torch.from_numpy(faces)[None], count, view, size)[0].numpy()
    rows, columns = np.nonzero(image >= 0)
    face = image[rows, columns]
    corner = points[0].numpy()[faces]
    x, y = corner[..., 0][face], corner[..., 1][face]
    x -= (1 - (2 * columns + 1) / size).astype(np.float32)[:, None]
    y -= (1 - (2 * rows + 1) / size).astype(np.float32)[:, None]
    weights = np.stack([x[:, i] * y[:, j] - y[:, i] * x[:, j] for i, j in ((1, 2), (2, 0), (0, 1))], axis=1)
    weights /= corner[..., 2][face]
    return rows, columns, face, weights / weights.sum(axis=1, keepdims=True)


def _light(normals: np.ndarray, camera: Camera, random: np.random.Generator) -> np.ndarray:
    """(P,) brightness: a far lamp above and beside the camera, light from the sky, a small highlight (Blinn–Phong)."""
    eye = camera_position(camera) / camera.distance
    lamp = eye + np.array([0.0, 0.6, 0.0]) + random.normal(scale=0.5, size=3)
    lamp /= np.linalg.norm(lamp)
    middle = (lamp + eye) / np.linalg.norm(lamp + eye)
    gloss = random.uniform(0.0, 0.25)
    normals = normals / np.maximum(np.sqrt(np.einsum("pc,pc->p", normals, normals)), 1e-6)[:, None]
    lit = normals @ np.column_stack([lamp, middle]).astype(np.float32)
    lit = np.maximum(lit, 0.0)
    return 0.36 + 0.12 * normals[:, 1] + 0.6 * lit[:, 0] + gloss * lit[:, 1] ** 32
