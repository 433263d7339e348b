"""What a hint of depth or normals and a coarse mesh have in common, beyond what hints of anything round have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from refine_batch.cameras.camera import stack_cameras
from refine_batch.losses.hints import fitted
from refine_batch.mesh import Mesh
from refine_batch.mesh.batch import MeshBatch
from refine_batch.methods.base import View
from refine_batch.methods.hints import WINDOW, Hints

# Fewer pixels tell nothing.
FEW = 30
# By how much a mesh is stretched along the rays, at most, to meet normals.
_STRETCHES = np.exp(np.linspace(-0.7, 0.7, 29))
# What is left of independent noise in the median of n values, over its standard deviation divided by √n.
_OF_MEDIAN = 1.2533
_MAD = 1.4826


@dataclass(frozen=True)
class Evidence:
    """How one kind of hint of a view and a mesh go together.

    Attributes
    ----------
    relief
        The correlation of both: of depth after a plane is taken from each, of normals' components across the view.
    alike
        Of normals the mean cosine after the mesh was stretched along the rays so that they meet best; 1 of depth.
    before, left
        How far the mesh is from the hint, and how far it is when it is stretched along the rays. Depth: root mean
        square, extents, wherever along the rays the whole of it is. Normals: mean of 1 − cosine. Without noise from
        pixel to pixel.
    stretch
        The factor.
    """

    relief: float
    alike: float
    before: float
    left: float
    stretch: float


def evidence(mesh: Mesh, view: View) -> tuple[Evidence | None, Evidence | None]:
    """Of a view's depth and of its normals, the mesh being seen by the view's camera; None where too little is
    told, or no more than noise."""
    batch, cameras = MeshBatch.of([mesh], "cpu"), stack_cameras([view.camera])
    hints = Hints.of([view], torch.zeros(1, dtype=torch.int32), batch, cameras)
    if hints is None:
        return None, None
    seen, _ = hints.seen(batch.vertices, batch, cameras)
    column, row = (((1.0 - hints.place[0].numpy()) * len(view.mask) - 1.0) / 2.0).round().astype(np.int64).T
    depth = normals = None
    counts = seen.hit & hints.depth.isfinite()
    if view.depth is not None and int(counts.sum()) >= FEW:
        inverse = bool(hints.scaling.inverse[0])
        target = torch.where(hints.scaling.inverse[:, None], 1.0 / seen.depth.clamp_min(1e-3), seen.depth)
        scale, shift = fitted(torch.where(counts, hints.depth, 0.0), target, counts, hints.scaling)
        if float(scale[0]) > 0:
            here = counts[0].numpy()
            raw = view.depth.values[row, column][here]
            wanted, noisy = (
                float(scale[0]) * v.astype(np.float64) + float(shift[0]) for v in (hints.depth[0].numpy()[here], raw)
            )
            if inverse:
                wanted, noisy = (1.0 / np.maximum(v, 1e-3) for v in (wanted, noisy))
            noise = _OF_MEDIAN / WINDOW * _MAD * float(np.nanmedian(np.abs(noisy - wanted)))
            own = seen.depth[0].numpy()[here].astype(np.float64)
            depth = _of_depth(wanted, own, np.stack([column, row], axis=1)[here] / len(view.mask), noise)
    counts = seen.hit & hints.normals.isfinite().all(dim=-1)
    if view.normals is not None and int(counts.sum()) >= FEW:
        here = counts[0].numpy()
        told = hints.normals[0].numpy()[here].astype(np.float64)
        apart = 1.0 - (told * view.normals[row, column][here]).sum(axis=1)
        noise = (_OF_MEDIAN / WINDOW) ** 2 * float(np.nanmean(apart))
        normals = _of_normals(told, seen.normal[0].numpy()[here].astype(np.float64), noise)
    return depth, normals


def _of_depth(told: np.ndarray, own: np.ndarray, place: np.ndarray, noise: float) -> Evidence | None:
    plane = np.column_stack([np.ones_like(own), place])
    relief = [v - plane @ np.linalg.lstsq(plane, v, rcond=None)[0] for v in (told, own)]
    shared = _correlation(relief[0], relief[1], noise**2)
    if shared is None:
        return None
    middle = own - own.mean()
    stretch = float((middle * told).sum() / max((middle**2).sum(), 1e-12))
    left = told - told.mean() - stretch * middle

    def without_noise(residual: np.ndarray) -> float:
        return float(np.sqrt(max(float((residual**2).mean()) - noise**2, 0.0)))

    apart = told - own
    return Evidence(shared, 1.0, without_noise(apart - apart.mean()), without_noise(left), stretch)


def _of_normals(told: np.ndarray, own: np.ndarray, noise: float) -> Evidence | None:
    across = [v[:, :2] - v[:, :2].mean(axis=0) for v in (told, own)]
    shared = _correlation(across[0], across[1], noise)
    if shared is None:
        return None
    found = []
    for stretch in _STRETCHES:
        turned = own * [1.0, 1.0, 1.0 / stretch]
        turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)
        found.append(float((told * turned).sum(axis=1).mean()))
    best = int(np.argmax(found))
    cosine = float((told * own).sum(axis=1).mean())
    left, before = (max(0.0, 1.0 - c - noise) for c in (found[best], cosine))
    return Evidence(shared, 1.0 - left, before, left, float(_STRETCHES[best]))


def _correlation(told: np.ndarray, own: np.ndarray, noise: float) -> float | None:
    """Of what has no mean, `told` having noise of this variance; None where there is no more than noise. Noise makes
    the spread of what is told larger, not what it shares with the mesh's."""
    spreads = max(float((told**2).mean()) - noise, 0.0) * float((own**2).mean())
    return min(1.0, float((told * own).mean()) / float(np.sqrt(spreads))) if spreads > 0 else None
