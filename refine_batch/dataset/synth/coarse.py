"""What a single-view method would make of an object: right in outline, wrong in the ways that such methods are."""

from __future__ import annotations

import math

import numpy as np
from manifold3d import Manifold
from scipy import sparse

from refine_batch.dataset.synth.solids import Part, union
from refine_batch.mesh import Mesh

# Shares of meshes that are nearly right already and of those with a hole.
GOOD, OPEN = 0.12, 0.2
FEWEST, MOST = 500, 10_000


def coarse_mesh(parts: list[Part], placement: np.ndarray, random: np.random.Generator) -> Mesh:
    """A coarse mesh of the object that `parts` make up, in the object's own coordinates.

    Parts are missing, moved, fattened or thinned; the whole is tessellated anew at 500 to 10 000 vertices, smoothed,
    bent slowly, scaled a little wrongly along each axis and roughened. One in five has a hole, one in eight is nearly
    right.

    Parameters
    ----------
    parts
        Of the true object.
    placement : (3, 4)
        Takes the parts' coordinates to the object's, whose largest extent is 1.
    """
    severity = random.uniform(0.05, 0.15) if random.random() < GOOD else random.uniform(0.5, 1.25)
    vertices, faces = _tessellate(_altered(parts, severity, random).transform(placement), random)
    edges = _edge_matrix(faces, len(vertices))
    vertices = _smoothed(vertices, edges, severity * random.uniform(0.005, 0.035))
    vertices = vertices + _normals(vertices, faces) * (severity * random.uniform(-0.008, 0.03))
    vertices = _bent(vertices, severity, random)
    vertices = vertices + random.normal(scale=severity * random.uniform(0.0, 0.004), size=vertices.shape)
    if random.random() < OPEN:
        faces = _with_hole(vertices, faces, random)
    return Mesh(vertices, faces)


def _altered(parts: list[Part], severity: float, random: np.random.Generator) -> Manifold:
    """The union of the parts, some left out, moved or of another size."""
    kept = []
    for part in parts:
        missing = random.random() < 0.15 * severity
        factors = np.exp(random.normal(scale=0.08 * severity, size=3))
        shift = random.normal(scale=0.02 * severity, size=3)
        if missing and not part.essential:
            continue
        low, high = np.reshape(part.solid.bounding_box(), (2, 3))
        middle = (low + high) / 2
        frame = np.column_stack([np.diag(factors), middle - factors * middle + shift * (high - low).max()])
        kept.append(part.changed(part.solid.transform(frame)))
    return union(kept)


def _tessellate(solid: Manifold, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) with edges of about one length, V near a number drawn for it."""
    wanted = math.exp(random.uniform(math.log(FEWEST * 1.15), math.log(MOST * 0.85)))
    length = math.sqrt(solid.surface_area() / wanted) * 1.5
    fine = solid.refine_to_length(length)
    for _ in range(3):
        if 0.9 < fine.num_vert() / wanted < 1.1:
            break
        length *= math.sqrt(fine.num_vert() / wanted)
        fine = solid.refine_to_length(length)
    mesh = fine.to_mesh()
    return np.array(mesh.vert_properties[:, :3], dtype=np.float64), np.array(mesh.tri_verts, dtype=np.int32)


def _edge_matrix(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """(V, V) with 1 / (number of neighbours) at each neighbour: times the vertices, their neighbours' mean."""
    rows, columns = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    ones = np.ones(2 * len(rows))
    edges = sparse.csr_matrix((ones, (np.r_[rows, columns], np.r_[columns, rows])), shape=(count, count))
    edges.data[:] = 1.0
    return sparse.diags(1.0 / np.maximum(np.diff(edges.indptr), 1)) @ edges


def _smoothed(vertices: np.ndarray, edges: sparse.csr_matrix, radius: float) -> np.ndarray:
    """Laplacian smoothing over about `radius`: as on a grid, n halfway steps spread over √(n/2) edges."""
    tail, head = edges.nonzero()
    length = float(np.linalg.norm(vertices[tail] - vertices[head], axis=1).mean())
    for _ in range(int(np.clip(round(2 * (radius / length) ** 2), 2, 30))):
        vertices = 0.5 * (vertices + edges @ vertices)
    return vertices


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit vertex normals, weighted by area."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    across = np.cross(b - a, c - a)
    normals = np.stack(
        [np.bincount(faces.ravel(), weights=np.repeat(across[:, i], 3), minlength=len(vertices)) for i in range(3)],
        axis=1,
    )
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _bent(vertices: np.ndarray, severity: float, random: np.random.Generator) -> np.ndarray:
    """Slow waves through space, another scale along each axis and a small turn about the vertical."""
    waves = 4
    direction = random.normal(size=(3, waves))
    direction *= 2 * np.pi / (np.linalg.norm(direction, axis=0) * random.uniform(0.8, 2.0, waves))
    amplitude = random.normal(scale=severity * 0.018, size=(waves, 3))
    vertices = vertices + np.sin(vertices @ direction + random.uniform(0, 2 * np.pi, waves)) @ amplitude
    turn = math.radians(random.normal(scale=3.0 * severity))
    about_y = np.array([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    return vertices @ about_y * np.exp(random.normal(scale=0.05 * severity, size=3))


def _with_hole(vertices: np.ndarray, faces: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The faces but for those round one vertex."""
    middles = vertices[faces].mean(axis=1)
    far = np.linalg.norm(middles - vertices[random.integers(len(vertices))], axis=1)
    return faces[far > np.quantile(far, random.uniform(0.005, 0.04))]
