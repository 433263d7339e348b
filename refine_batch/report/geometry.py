"""Meshes small enough to travel in a page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from PIL import Image

from refine_batch.io.paint import Paint, srgb_bytes
from refine_batch.mesh import Mesh
from refine_batch.report.pictures import webp

# More than a view of 300 pixels shows.
MAX_FACES = 10_000
# Of positions and faces together: 24 instances with three such meshes each, and their pictures, stay below 15 MB.
MAX_BYTES = 115_000
# Of an instance's textures together, as data URIs.
MAX_TEXTURE_BYTES = 45_000
# Of a mesh with colours or places in a texture: two of them and their textures are no more than two plain meshes.
MAX_PAINTED_BYTES = MAX_BYTES - MAX_TEXTURE_BYTES * 3 // 8
# The longer sides of a texture that are tried, in pixels.
_SIDES = (512, 256, 128, 64)
# With more materials a mesh is shown by the colours at its vertices: each is drawn by itself.
_MAX_MATERIALS = 32
# A mesh that carries colours has fewer faces, to be no larger.
_FACES_WITH_COLOURS = 0.8
_LEVELS = 65_535


def encode(mesh: Mesh, paint: Paint | None = None, *, max_faces: int = MAX_FACES) -> dict[str, Any]:
    """The mesh as JSON takes it: positions in 16-bit steps of its box, all arrays little-endian in base64.

    Returns `low` and `size` (3 floats each, object units), `vertices` (uint16 (V, 3)), `faces` (uint16 or uint32
    (F, 3); `wide` tells) and `of`, the mesh's own number of faces where it is shown with fewer, else null. A position
    is off by at most 1/131 070 of the box's side.

    With the `paint` of the mesh's faces also `colours` (uint8 (V, 3), sRGB), and, where the mesh is small enough to
    keep its seams, `uv` (uint16 (V, 2) steps of the box `uvLow`, `uvSize`) and `groups`: material, first corner and
    number of corners, as `materials` has them. Else `colours` are all there is of it: what the paint is at the nearest
    of the mesh's own vertices.
    """
    if paint is not None:
        textured = _textured(mesh, paint, max_faces)
        if textured is not None:
            return textured
        max_faces = int(_FACES_WITH_COLOURS * max_faces)
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    number = len(faces)
    simplified = number > 1.2 * max_faces
    if simplified:
        vertices, faces = _decimated(vertices, faces, max_faces)
    steps, low, size = _steps(vertices, vertices[np.unique(faces)])
    if paint is not None:
        steps = np.concatenate([steps, srgb_bytes(_nearest(mesh, paint, vertices))], axis=1, dtype=np.uint16)
    steps, faces = _welded(steps, faces)
    size_now, limit = _bytes(steps, faces), MAX_BYTES if paint is None else MAX_PAINTED_BYTES
    if size_now > limit:
        # What could not be simplified enough, such as loose triangles, is thinned out: it is only looked at.
        simplified = True
        kept = np.linspace(0, len(faces) - 1, int(len(faces) * limit / size_now)).astype(np.int64)
        steps, faces = _welded(steps, faces[kept])
    return _made(steps, faces, low, size) | {"of": number if simplified else None}


def materials(paint: Paint) -> dict[str, Any] | None:
    """What the `groups` of a mesh point to; None where the textures are too large for a page.

    Returns `materials`, each a `colour` (3 floats, linear) and a `texture` (or null), and `textures`, data URIs.
    """
    textures: list[str] = []
    for side in _SIDES if paint.textures else ():
        textures = [_reduced(picture, side) for picture in paint.textures]
        if sum(map(len, textures)) <= MAX_TEXTURE_BYTES:
            break
    if sum(map(len, textures)) > MAX_TEXTURE_BYTES:
        return None
    pairs = zip(paint.factors.tolist(), paint.texture.tolist(), strict=True)
    return {
        "materials": [{"colour": colour, "texture": None if at < 0 else at} for colour, at in pairs],
        "textures": textures,
    }


def _textured(mesh: Mesh, paint: Paint, max_faces: int) -> dict[str, Any] | None:
    """With its vertices split where texture, colour or material change; None where that is too large."""
    used = np.unique(paint.material)
    if not 0 < len(mesh.faces) <= 1.2 * max_faces or len(used) > _MAX_MATERIALS:
        return None
    order = np.argsort(paint.material, kind="stable")
    corners = mesh.faces[order].reshape(-1)
    vertices = np.asarray(mesh.vertices, np.float64)
    steps, low, size = _steps(vertices, vertices[corners])
    uv = np.nan_to_num(paint.uv[order].reshape(-1, 2).astype(np.float64), posinf=0.0, neginf=0.0)
    places, uv_low, uv_size = _steps(uv, uv)
    colours = (
        np.full((len(corners), 3), 255, np.uint8)
        if paint.colours is None
        else srgb_bytes(paint.colours[order].reshape(-1, 3))
    )
    rows = np.concatenate([steps[corners], colours, places], axis=1, dtype=np.uint16)
    rows, faces = _welded(rows, np.arange(len(corners)).reshape(-1, 3))
    if _bytes(rows, faces) > MAX_PAINTED_BYTES:
        return None
    begins = np.searchsorted(paint.material[order], used)
    ends = np.append(begins[1:], len(order))
    groups = [[int(m), int(3 * a), int(3 * (b - a))] for m, a, b in zip(used, begins, ends, strict=True)]
    look = {"uv": _base64(rows[:, 6:].astype("<u2")), "uvLow": uv_low.tolist(), "uvSize": uv_size.tolist()}
    return _made(rows, faces, low, size) | look | {"groups": groups, "of": None}


def _steps(points: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """16-bit steps of the box of the points `shown`, its low corner and its size."""
    low = shown.min(axis=0) if len(shown) else np.zeros(points.shape[1])
    size = np.maximum((shown.max(axis=0) if len(shown) else low) - low, 1e-12)
    return np.rint(np.clip((points - low) / size, 0.0, 1.0) * _LEVELS).astype("<u2"), low, size


def _bytes(rows: np.ndarray, faces: np.ndarray) -> int:
    """Positions and places in a texture take two bytes a number, colours one."""
    return {3: 6, 6: 9, 8: 13}[rows.shape[1]] * len(rows) + 6 * len(faces)


def _made(rows: np.ndarray, faces: np.ndarray, low: np.ndarray, size: np.ndarray) -> dict[str, Any]:
    wide = len(rows) > _LEVELS
    made = {
        "low": low.tolist(),
        "size": size.tolist(),
        "vertices": _base64(rows[:, :3].astype("<u2")),
        "faces": _base64(faces.astype("<u4" if wide else "<u2")),
        "wide": wide,
    }
    return made | ({"colours": _base64(rows[:, 3:6].astype(np.uint8))} if rows.shape[1] > 3 else {})


def _nearest(mesh: Mesh, paint: Paint, points: np.ndarray) -> np.ndarray:
    """(N, 3) float32 linear: the paint at the nearest vertex that a face uses."""
    from scipy.spatial import cKDTree

    used = np.unique(mesh.faces)
    _, at = cKDTree(mesh.vertices[used]).query(points)
    return paint.of_vertices(mesh)[used[at]]


def _reduced(picture: np.ndarray, side: int) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((side, side))
    return webp(image)


def _welded(steps: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeated corners, as STL has them, become one; vertices of no face go."""
    found, inverse = np.unique(steps[faces.reshape(-1)], axis=0, return_inverse=True)
    return found, inverse.reshape(-1, 3)


def _decimated(vertices: np.ndarray, faces: np.ndarray, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    import fast_simplification

    reduction = 1.0 - max_faces / len(faces)
    fewer, triangles = fast_simplification.simplify(vertices.astype(np.float32), faces.astype(np.int32), reduction)
    return np.asarray(fewer, np.float64), np.asarray(triangles, np.int64)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
