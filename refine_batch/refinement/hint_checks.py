"""Whether hints of depth and normals can be of the coarse mesh's object at all: those of another file, depth that grows
towards the viewer or is in other units, normals of other axes are left out, and a note says so.

A coarse mesh is wrong, but not that wrong. Of 26 real shapes, bent or flattened, seen from true cameras and from ones
off by 5° and a tenth, 94 % of the true depths and 95 % of the true normals (10° of noise) pass, metric depth was within
a third of the mesh's, and 67 % of the depths and 85 % of the normals of another object's picture are told.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from refine_batch.cameras.camera import project, stack_cameras
from refine_batch.losses.hints import seen_surface
from refine_batch.mesh import Mesh
from refine_batch.methods.base import View
from refine_batch.refinement.prepare import Prepared
from refine_batch.render.warp_rasterise import rasterise

# Methods that have no loss for hints, and would only take their priors back where these tell.
DEAF = ("refine",)
# Rank correlation of depth below which it is another object's, and below which it is this one's, turned round.
UNLIKE, INVERTED = 0.3, -0.45
# Metric depth of the hint over that of the mesh, either way: units differ by more.
UNITS = 2.0
# Median cosine of normals below which they are another object's; by how much other axes must make the mean better.
UNLIKE_NORMALS, OTHER_AXES = 0.8, 0.15
# Fewer pixels of both tell nothing.
_FEW = 30
# Pixels a side in which both are compared, at most.
_SIDE = 112
_AXES = {"left and right": (-1, 1, 1), "up and down": (1, -1, 1), "left and right, up and down": (-1, -1, 1)}


def fit_for_use(prepared: Prepared, method: str) -> Prepared:
    """The instance without those hints that contradict its coarse mesh, or that the method does not read; its notes
    then name them."""
    if not prepared.subject.hinted:
        return prepared
    if method in DEAF:
        deaf = [replace(view, depth=None, normals=None) for view in prepared.subject.views]
        return _with(prepared, deaf, [f"depth and normals left out: --method {method} does not read them"])
    views: list[View] = []
    notes: list[str] = []
    for number, view in enumerate(prepared.subject.views):
        prefix = f"views[{number - 1}]." if number else ""
        depth, normals = hint_problems(prepared.subject.mesh, view)
        if depth is not None:
            view = replace(view, depth=None)
            notes.append(f"{prefix}depth left out: {depth}")
        if normals is not None:
            view = replace(view, normals=None)
            notes.append(f"{prefix}normals left out: {normals}")
        views.append(view)
    return _with(prepared, views, notes) if notes else prepared


def _with(prepared: Prepared, views: list[View], notes: list[str]) -> Prepared:
    subject = replace(prepared.subject, views=tuple(views))
    return replace(prepared, subject=subject, notes=(*prepared.notes, *notes))


def hint_problems(mesh: Mesh, view: View) -> tuple[str | None, str | None]:
    """Why a view's depth and its normals cannot be those of the mesh, which is seen by the view's camera; None: they
    can, or nobody can tell."""
    if view.depth is None and view.normals is None:
        return None, None
    size = min(_SIDE, len(view.mask))
    # The middles of as many blocks of the view's pixels.
    rows = ((np.arange(size) + 0.5) * len(view.mask) / size).astype(np.int64)
    here = np.ix_(rows, rows)
    cameras = stack_cameras([view.camera])
    vertices, faces = torch.from_numpy(mesh.vertices)[None], torch.from_numpy(mesh.faces)[None]
    count, owner = torch.tensor([len(mesh.faces)], dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    seen = seen_surface(vertices, faces, cameras, rasterise(project(vertices, cameras), faces, count, owner, size))
    both = seen.hit[0].numpy() & (view.covered & view.silhouette_known)[here].ravel()
    depth = normals = None
    if view.depth is not None:
        depth = _depth_problem(view.depth.values[here].ravel(), view.depth.kind, seen.depth[0].numpy(), both)
    if view.normals is not None:
        normals = _normals_problem(view.normals[here].reshape(-1, 3), seen.normal[0].numpy(), both)
    return depth, normals


def _depth_problem(told: np.ndarray, kind: str, depth: np.ndarray, both: np.ndarray) -> str | None:
    both = both & np.isfinite(told) & (depth > 0)
    if np.count_nonzero(both) < _FEW:
        return None
    told, depth = told[both], depth[both]
    if kind == "metric":
        ratio = float(np.median(told / depth))
        if not 1.0 / UNITS <= ratio <= UNITS:
            return (
                f"it is {ratio:.3g} times that of the coarse mesh: metric depth must be in the mesh's units, along the "
                "viewing axis from the camera; is it in others (depth_scale), or of depth_kind relative?"
            )
    agreed = _rank_correlation(told, 1.0 / depth if kind == "inverse" else depth)
    if agreed < INVERTED:
        other = "relative" if kind == "inverse" else "inverse"
        return f"it grows where that of the coarse mesh falls (rank correlation {agreed:.2f}); is it {other}?"
    if agreed < UNLIKE:
        return f"it does not go with the coarse mesh (rank correlation {agreed:.2f}); is it this picture's?"
    return None


def _normals_problem(told: np.ndarray, normals: np.ndarray, both: np.ndarray) -> str | None:
    both = both & np.isfinite(told).all(axis=1)
    if np.count_nonzero(both) < _FEW:
        return None
    products = told[both] * normals[both]
    agreed = float(products.sum(axis=1).mean())
    turned = {name: float((products * signs).sum(axis=1).mean()) for name, signs in _AXES.items()}
    best = max(turned, key=lambda name: turned[name])
    if turned[best] > agreed + OTHER_AXES:
        return (
            f"{best} are exchanged in them (mean cosine with the coarse mesh {agreed:.2f}, so {turned[best]:.2f}); are "
            "they of other axes than normals_axes says?"
        )
    usual = float(np.median(products.sum(axis=1)))
    if usual < UNLIKE_NORMALS:
        return f"they do not go with the coarse mesh (median cosine {usual:.2f}); are they this picture's?"
    return None


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import rankdata  # as long to import as much else together, and of use with hints alone

    ranks = np.stack([rankdata(a), rankdata(b)])
    return float(np.corrcoef(ranks)[0, 1]) if ranks.std(axis=1).min() > 0 else 0.0
