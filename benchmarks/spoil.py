"""Coarse meshes made of true ones, in the ways in which reconstructions go wrong; for `benchmarks/shapes.py`.

Every kind takes the true mesh, centred and with a largest extent of 1, the camera of its picture and a generator, and
gives a mesh in the same coordinates: the truth is where it was, whatever became of the coarse mesh.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import warp as wp
from scipy import ndimage, sparse
from warp.geometry import IsoSurfaceMarchingCubes

from refine_batch import Camera, Mesh
from refine_batch.cameras.camera import camera_axes, camera_position
from refine_batch.mesh.decimation import decimated
from refine_batch.mesh.normals import vertex_normals
from refine_batch.mesh.sampling import sample_surface
from refine_batch.mesh.volume import signed_volume

# Triangles of every coarse mesh but `grid`, whose own come to about as many.
FACES = 3000
GRID = 32
# Cells at each end of the grid that the object does not reach.
MARGIN = 2
# How full a cell counts of which only the middle lies outside. At 0 legs and handles are lost, at 1 all is fat.
THIN = 0.7


@wp.kernel(enable_backward=False)
def inside_kernel(body: wp.uint64, points: wp.array[wp.vec3], inside: wp.array[wp.int32]):
    i = wp.tid()
    query = wp.mesh_query_point_sign_winding_number(body, points[i], 10.0)
    if query.result and query.sign < 0.0:
        inside[i] = 1


def grid(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """Occupancy on a 32³ grid, blurred, marching cubes: thin parts fattened or gone, details lost."""
    filled = ndimage.gaussian_filter(occupancy(truth), random.uniform(0.7, 1.1))
    # Low enough to leave something of an object that is thin everywhere.
    level = min(random.uniform(0.35, 0.5), 0.5 * float(filled.max()))
    field = wp.array(np.pad(filled, 1), dtype=wp.float32, device="cpu")
    vertices, indices = IsoSurfaceMarchingCubes.extract(field, level)
    # The padded grid's node 1 is the middle of cell 0.
    return Mesh((vertices.numpy() - 0.5 - GRID / 2) / (GRID - 2 * MARGIN), indices.numpy().reshape(-1, 3))


def occupancy(mesh: Mesh) -> np.ndarray:
    """(32, 32, 32) float: 1 where a cell's middle lies inside by the winding number, else `THIN` where surface passes.

    The box is centred on the origin, its cells but for `MARGIN` at each end span an extent of 1.
    """
    faces = mesh.faces if signed_volume(mesh) >= 0 else mesh.faces[:, ::-1]
    body = wp.Mesh(
        points=wp.array(mesh.vertices, dtype=wp.vec3, device="cpu"),
        indices=wp.array(np.ascontiguousarray(faces).ravel(), dtype=wp.int32, device="cpu"),
        support_winding_number=True,
    )
    cells = GRID - 2 * MARGIN
    middles = (np.arange(GRID) + 0.5 - GRID / 2) / cells
    points = np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = wp.zeros(len(points), dtype=wp.int32, device="cpu")
    queries = wp.array(points.astype(np.float32), dtype=wp.vec3, device="cpu")
    wp.launch(inside_kernel, dim=len(points), inputs=[body.id, queries, inside], device="cpu")
    filled = inside.numpy().reshape(GRID, GRID, GRID) > 0
    touched = np.zeros_like(filled)
    surface = np.floor(sample_surface(mesh, 100_000, 0) * cells + GRID / 2).astype(int).clip(0, GRID - 1)
    touched[tuple(surface.T)] = True
    return np.where(filled, 1.0, THIN * touched)


def warp(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """Wrong proportions and slow waves through space."""
    mesh = good(truth, camera, random)
    waves = 4
    direction = random.normal(size=(3, waves))
    direction *= 2 * np.pi / (np.linalg.norm(direction, axis=0) * random.uniform(0.8, 2.0, waves))
    moved = np.sin(mesh.vertices @ direction + random.uniform(0, 2 * np.pi, waves))
    moved = moved @ random.normal(scale=0.024, size=(waves, 3))
    return Mesh((mesh.vertices + moved) * np.exp(random.normal(scale=0.12, size=3)), mesh.faces)


def flat(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """Too flat or too deep by 20 to 40 % along the viewing rays: the silhouette is right, and tells nothing of it."""
    mesh = good(truth, camera, random)
    eye, forward = camera_position(camera), camera_axes(camera)[:, 2]
    rays = mesh.vertices - eye
    depth = rays @ forward
    middle = -eye @ forward
    factor = 1.0 + random.choice([-1.0, 1.0]) * random.uniform(0.2, 0.4)
    return Mesh(eye + rays * ((middle + factor * (depth - middle)) / depth)[:, None], mesh.faces)


def good(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """The true shape in at most 3000 triangles: there is nothing to gain, and all to lose."""
    return decimated(truth, FACES) if len(truth.faces) > FACES else truth


def shrunk(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """Smoothed over 1 to 4 % of the extent, so that tips and thin parts draw back."""
    mesh = good(truth, camera, random)
    step = _neighbours(mesh)
    tail, head = step.nonzero()
    length = float(np.linalg.norm(mesh.vertices[tail] - mesh.vertices[head], axis=1).mean())
    vertices = mesh.vertices.astype(np.float64)
    # As on a grid: n halfway steps spread over √(n/2) edges.
    for _ in range(max(2, round(2 * (random.uniform(0.01, 0.04) / length) ** 2))):
        vertices = 0.5 * (vertices + step @ vertices)
    return Mesh(vertices, mesh.faces)


def bumpy(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """Bumps along the normals a tenth of the extent wide, and noise of every vertex by itself."""
    mesh = good(truth, camera, random)
    waves = 60
    direction = random.normal(size=(3, waves))
    direction *= 2 * np.pi / (np.linalg.norm(direction, axis=0) * random.uniform(0.08, 0.25, waves))
    bumps = np.sin(mesh.vertices @ direction + random.uniform(0, 2 * np.pi, waves)) @ random.normal(size=waves)
    bumps *= random.uniform(0.01, 0.025) / bumps.std()
    noise = random.normal(scale=random.uniform(0.001, 0.004), size=mesh.vertices.shape)
    return Mesh(mesh.vertices + vertex_normals(mesh) * bumps[:, None] + noise, mesh.faces)


def part(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """One part of it swollen or withered, and out of its place; the rest is right."""
    mesh = good(truth, camera, random)
    middle = mesh.vertices[random.integers(len(mesh.vertices))]
    near = np.exp(-0.5 * (np.linalg.norm(mesh.vertices - middle, axis=1) / random.uniform(0.1, 0.2)) ** 2)[:, None]
    factor = math.exp(random.choice([-1.0, 1.0]) * random.uniform(0.3, 0.6))
    shift = random.normal(scale=0.05, size=3)
    return Mesh(mesh.vertices + near * ((factor - 1) * (mesh.vertices - middle) + shift), mesh.faces)


def cut(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """An end of it missing: what lies beyond a plane is pressed onto it, 10 to 25 % of the extent in that direction."""
    mesh = good(truth, camera, random)
    normal = random.normal(size=3)
    normal /= np.linalg.norm(normal)
    height = mesh.vertices @ normal
    beyond = np.maximum(0.0, height - (height.max() - random.uniform(0.1, 0.25) * np.ptp(height)))
    return Mesh(mesh.vertices - 0.95 * beyond[:, None] * normal, mesh.faces)


def offset(truth: Mesh, camera: Camera, random: np.random.Generator) -> Mesh:
    """The true shape out of its place and of the wrong size, as a method that guesses its own frame has it."""
    mesh = good(truth, camera, random)
    return Mesh(
        mesh.vertices * math.exp(random.normal(scale=0.08)) + random.normal(scale=0.03, size=3),
        mesh.faces,
    )


KINDS: dict[str, Callable[[Mesh, Camera, np.random.Generator], Mesh]] = {
    kind.__name__: kind for kind in (grid, warp, flat, good, shrunk, bumpy, part, cut, offset)
}


def _neighbours(mesh: Mesh) -> sparse.csr_matrix:
    """(V, V): times the vertices, each one's neighbours' mean."""
    rows, columns = mesh.faces.ravel(), np.roll(mesh.faces, -1, axis=1).ravel()
    both = np.r_[rows, columns], np.r_[columns, rows]
    edges = sparse.csr_matrix((np.ones(2 * len(rows)), both), shape=(len(mesh.vertices),) * 2)
    edges.data[:] = 1.0
    return sparse.diags(1.0 / np.maximum(np.diff(edges.indptr), 1)) @ edges
