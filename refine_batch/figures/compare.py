"""Figures that need a ground truth, of many meshes at once on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from refine_batch.cameras.camera import stack_cameras
from refine_batch.figures import emd as earth_mover
from refine_batch.figures.chamfer import chamfer_l2
from refine_batch.figures.f_score import f_score
from refine_batch.figures.iou_2d import silhouette_iou
from refine_batch.figures.iou_3d import iou_3d
from refine_batch.figures.iou_multiview import IMAGE_SIZE, ring_of_views
from refine_batch.instance import Figures
from refine_batch.mesh import Mesh
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.mesh.points import nearest_distance
from refine_batch.mesh.sampling import has_area, sample_surfaces, scaled_to_extent
from refine_batch.render.hard import silhouettes

# Which figures are measured: all of them, all but the earth mover's distance, or the 2D IoU alone.
Which = Literal["all", "fast", "none"]
# Padded vertices of all views that a GPU works on at once, times 100 bytes.
MOST_SEEN = 8_000_000


class Pool(Protocol):
    """Begins a function of several things at once, elsewhere, as an Executor does."""

    def map(self, work: Callable[..., Any], *columns: Iterable[Any]) -> Iterator[Any]: ...


@dataclass(frozen=True, eq=False)
class Comparison:
    """Meshes to hold against one ground truth, before and after, say; the seed is that of every sample drawn."""

    truth: Mesh | None
    meshes: Sequence[Mesh]
    seed: int = 0


def compare(
    comparisons: Sequence[Comparison],
    which: Which = "all",
    *,
    samples: int = 10_000,
    device: torch.device | str = "cpu",
    pool: Pool | None = None,
) -> list[list[Figures]]:
    """Figures of every mesh of every comparison, but for `iou_2d`; all None where mesh or truth has no area.

    Parameters
    ----------
    samples
        Points per surface for Chamfer distance and F-score.
    pool
        Works out the earth mover's distances, which are a CPU's work on every device; None: the caller's thread does.
    """
    found = [[Figures() for _ in comparison.meshes] for comparison in comparisons]
    wanted = [
        _Pair(i, j, mesh)
        for i, comparison in enumerate(comparisons)
        if which != "none" and comparison.truth is not None and has_area(comparison.truth)
        for j, mesh in enumerate(comparison.meshes)
        if has_area(mesh)
    ]
    for group in _groups(wanted, comparisons, torch.device(device)):
        owners = list(dict.fromkeys(pair.comparison for pair in group))
        batch = _Batch([comparisons[i] for i in owners], [(owners.index(p.comparison), p.mesh) for p in group], device)
        for pair, figures in zip(group, batch.figures(which, samples, pool), strict=True):
            found[pair.comparison][pair.number] = figures
    return found


@dataclass(frozen=True, eq=False)
class _Pair:
    comparison: int
    number: int
    mesh: Mesh


def _groups(pairs: Sequence[_Pair], comparisons: Sequence[Comparison], device: torch.device) -> Iterator[list[_Pair]]:
    """What is measured together: on a CPU what shares a ground truth, on a GPU as much as fits well."""
    group: list[_Pair] = []
    largest, owner = 0, -1
    for pair in pairs:
        truth = comparisons[pair.comparison].truth
        size = max(len(pair.mesh.vertices), 0 if truth is None else len(truth.vertices))
        if device.type == "cpu":
            full = pair.comparison != owner
        else:
            full = 24 * (len(group) + 1) * max(largest, size) > MOST_SEEN
        if group and full:
            yield group
            group, largest = [], 0
        group.append(pair)
        largest, owner = max(largest, size), pair.comparison
    if group:
        yield group


class _Batch:
    """Ground truths and the meshes to hold against them, on a device."""

    def __init__(
        self, comparisons: Sequence[Comparison], meshes: Sequence[tuple[int, Mesh]], device: torch.device | str
    ):
        self._truths = [c.truth for c in comparisons if c.truth is not None]
        self._seeds = [c.seed for c in comparisons]
        self._truth = PaddedMeshes.of(self._truths, device)
        self._mesh = PaddedMeshes.of([mesh for _, mesh in meshes], device)
        self._owner: Int64[Tensor, " n"] = torch.tensor([i for i, _ in meshes], device=device)

    def figures(self, which: Which, samples: int, pool: Pool | None) -> list[Figures]:
        owner = self._owner
        clouds, truth_clouds = self._clouds(samples)
        # The slowest figure is begun first, so that others can work on it meanwhile.
        moved = self._earth_mover(clouds, truth_clouds, pool) if which == "all" else None
        there = nearest_distance(clouds, truth_clouds[owner]).cpu().double().numpy()
        back = nearest_distance(truth_clouds[owner], clouds).cpu().double().numpy()
        volumes = self._volumes()
        views = self._views()
        figures = [
            Figures(chamfer_l2=chamfer_l2(*d), f_score=f_score(*d), iou_3d=volume, iou_multiview=view)
            for *d, volume, view in zip(there, back, volumes, views, strict=True)
        ]
        return figures if moved is None else [replace(f, emd=emd) for f, emd in zip(figures, moved, strict=True)]

    def _clouds(self, samples: int) -> tuple[Float64[Tensor, "n s 3"], Float64[Tensor, "t s 3"]]:
        # The two clouds are drawn independently: with one seed a mesh measured against itself would be too good.
        of_truth, of_mesh = ([_stream(seed, k) for seed in self._seeds] for k in (0, 1))
        clouds = sample_surfaces(self._mesh, samples, [of_mesh[i] for i in self._owner.tolist()])
        return scaled_to_extent(clouds), scaled_to_extent(sample_surfaces(self._truth, samples, of_truth))

    def _earth_mover(self, clouds: Tensor, truth_clouds: Tensor, pool: Pool | None) -> Iterator[float]:
        some = earth_mover.SAMPLES
        a = clouds[:, :some].cpu().numpy()
        b = truth_clouds[:, :some].cpu().numpy()[self._owner.cpu().numpy()]
        return map(earth_mover.emd, a, b) if pool is None else pool.map(earth_mover.emd, a, b)

    def _volumes(self) -> list[float | None]:
        pairs = torch.stack([torch.arange(len(self._owner), device=self._owner.device), self._owner], dim=1)
        seeds = torch.tensor(self._seeds, device=self._owner.device)[self._owner]
        return iou_3d(self._mesh, self._truth, pairs, seeds)

    def _views(self) -> list[float]:
        rings = [ring_of_views(truth) for truth in self._truths]
        cameras = stack_cameras([camera for ring in rings for camera in ring], self._owner.device)
        count = len(rings[0])

        def seen(meshes: PaddedMeshes, ring: Int64[Tensor, " n"]) -> Tensor:
            views = (ring[:, None] * count + torch.arange(count, device=ring.device)).flatten()
            own = torch.arange(len(ring), dtype=torch.int32, device=ring.device).repeat_interleave(count)
            return silhouettes(meshes, cameras[views], own, IMAGE_SIZE)

        truth = seen(self._truth, torch.arange(len(rings), device=self._owner.device)).unflatten(0, (-1, count))
        iou = silhouette_iou(seen(self._mesh, self._owner), truth[self._owner].flatten(0, 1))
        return iou.view(-1, count).mean(dim=1).tolist()


def _stream(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])
