"""Meshes for the tests: closed forms, random soups and the awkward cases, all deterministic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import trimesh

from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.sampling import scaled_to_extent


def icosphere(subdivisions: int = 1, radius: float = 0.4) -> Mesh:
    """10·4ⁿ + 2 vertices on a sphere about the origin, wound outwards."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return Mesh(sphere.vertices, sphere.faces)


def box(*extents: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """8 vertices, 12 triangles, wound outwards."""
    solid = trimesh.creation.box(extents=extents or (0.6, 0.4, 0.5))
    return Mesh(solid.vertices + np.array(centre), solid.faces)


def torus() -> Mesh:
    """128 vertices about the z axis, wound outwards."""
    ring = trimesh.creation.torus(major_radius=0.3, minor_radius=0.12, major_sections=16, minor_sections=8)
    return Mesh(ring.vertices, ring.faces)


def fan(blades: int = 3) -> Mesh:
    """`blades` triangles that all share one edge, along y: non-manifold from three on."""
    angles = np.linspace(0.0, np.pi, blades)
    tips = np.stack([np.cos(angles) * 0.4, np.zeros(blades), np.sin(angles) * 0.4], axis=1)
    vertices = np.concatenate([[[0.0, -0.3, 0.0], [0.0, 0.3, 0.0]], tips])
    return Mesh(vertices, [[0, 1, 2 + i] for i in range(blades)])


def soup(vertices: int, faces: int, seed: int, scale: float = 0.5) -> Mesh:
    """Triangles between random vertices: crossing, wound at random, non-manifold; none has a corner twice."""
    random = np.random.default_rng(seed)
    corners = np.stack([random.permutation(vertices)[:3] for _ in range(faces)])
    return Mesh(random.uniform(-scale, scale, (vertices, 3)), corners)


def jittered(mesh: Mesh, amount: float, seed: int = 0) -> Mesh:
    """`mesh` with every coordinate moved by up to `amount`."""
    random = np.random.default_rng(seed)
    return Mesh(mesh.vertices + random.uniform(-amount, amount, mesh.vertices.shape), mesh.faces)


def finite_difference(function, x: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    """The gradient of a scalar function of float64 `x` by central differences."""
    assert x.dtype == torch.float64
    gradient = torch.zeros_like(x)
    with torch.no_grad():
        for i in range(x.numel()):
            moved = x.detach().clone()
            moved.view(-1)[i] += step
            above = function(moved)
            moved.view(-1)[i] -= 2 * step
            gradient.view(-1)[i] = (above - function(moved)) / (2 * step)
    return gradient


def double(batch: MeshBatch) -> MeshBatch:
    """`batch` in float64, for finite differences."""
    names = ("vertices", "pair_sign", "adjacency", "degree")
    return replace(batch, **{name: getattr(batch, name).double() for name in names})


def unit(mesh: Mesh) -> Mesh:
    """`mesh` about the origin, its largest extent 1, as methods see meshes."""
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    low, high = used.min(axis=0), used.max(axis=0)
    return Mesh((mesh.vertices - (low + high) / 2) / (high - low).max(), mesh.faces)


def flat_shaded(mesh: Mesh) -> Mesh:
    """`mesh` with three vertices of its own for every face."""
    return Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(mesh.faces.size).reshape(-1, 3))


def joined(*meshes: Mesh) -> Mesh:
    """All of them as one mesh, in order."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    return Mesh(vertices, np.concatenate([mesh.faces + s for mesh, s in zip(meshes, starts, strict=False)]))


def watertight(faces: np.ndarray) -> bool:
    """Whether (F, 3) faces enclose something, as figures see it."""
    return bool(PaddedMeshes.of([Mesh(np.zeros((int(faces.max(initial=0)) + 1, 3)), faces)]).watertight())


def scaled(points: np.ndarray) -> np.ndarray:
    """(N, 3) points as figures compare them: the largest extent 2."""
    return scaled_to_extent(torch.from_numpy(np.asarray(points, np.float64))[None])[0].numpy()


def armchair() -> Mesh:
    """A seat, a back and one arm, so that no two views are alike; its largest extent is 1."""
    return unit(
        joined(
            box(0.5, 0.1, 0.5),
            box(0.08, 0.5, 0.5, centre=(-0.25, 0.25, 0.0)),
            box(0.4, 0.2, 0.06, centre=(0.0, 0.15, 0.25)),
        )
    )
