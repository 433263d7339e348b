"""Whether hints of depth and normals can be of the coarse mesh's object at all: those of another file, depth that grows
towards the viewer or is in other units, normals of other axes are left out, and a note says so.

A coarse mesh is wrong, but not that wrong. Of 26 real shapes, bent or flattened, seen from true cameras and from ones
off by 5° and a tenth, 94 % of the true depths and 95 % of the true normals (10° of noise) pass, metric depth was within
a third of the mesh's, and 67 % of the depths and 85 % of the normals of another object's picture are told by their
values alone; nearly all by where they end, if they tell of the object alone. Where the masks ask for nothing more is
asked of hints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from refine_batch.cameras.camera import Camera, project, stack_cameras
from refine_batch.losses.hints import seen_surface
from refine_batch.mesh import Mesh
from refine_batch.methods.base import View
from refine_batch.refinement.hint_evidence import Evidence, evidence
from refine_batch.refinement.prepare import Prepared
from refine_batch.render.warp_rasterise import rasterise

# Methods that have no loss for hints, and would only take their priors back where these tell.
DEAF = ("refine",)
# Rank correlation of depth below which it is another object's, and below which it is this one's, turned round.
UNLIKE, INVERTED = 0.3, -0.45
# The correlation of both reliefs (`Evidence.relief`) below which it is another object's: of 49 bent or grown meshes
# none came below 0.18, of 35 other objects' depths that had passed all else 12 did.
UNLIKE_RELIEF = 0.15
# Metric depth of the hint over that of the mesh, either way: units differ by more.
UNITS = 2.0
# Median cosine of normals below which they are another object's; by how much other axes must make the mean better.
UNLIKE_NORMALS, OTHER_AXES = 0.8, 0.15
# What a hint that tells of an object alone says beyond the mask's outline, farther than this share of the picture's
# side, and what of the mask's inside it says nothing of, as shares of the mask: of 52 shapes (26 real, 26 synthetic)
# the hints' own came to 0 and 0.08 at most, of 312 hints of other objects one to less.
BESIDE = 3 / 224
BEYOND, MISSING = 0.03, 0.25
# Share of one of the picture's edges, or of what is not the object, from which a hint tells of the ground as well.
_GROUND_EDGE, _GROUND = 0.25, 0.5
# Where the outlines of mesh and mask agree, the mesh can be wrong along the rays alone: it is too flat or too deep.
# `Evidence.relief` and `alike` below which a hint is of another object, and the share of the disagreement above which a
# stretch along the rays leaves it: another relief, which a hint's own smooth error looks like. Of the same shapes,
# flattened or not, three true depths or normals of 104 came below the first two, and one depth of 34 of other objects'
# and no normals of 15 above, cut to the mask's outline so that this tells nothing; of those that were flattened 49
# depths of 52 and five normals in six came below the third, of good ones with errors that are smooth (5 % of the
# extent, 10° in each component) none.
RELIEF, ALIKE, LEFT_DEPTH, LEFT_NORMALS = 0.7, 0.92, 0.65, 0.8
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
    return _without(prepared, [hint_problems(prepared.subject.mesh, view) for view in prepared.subject.views])


def borne_out_where_settled(prepared: Prepared, cameras: Sequence[Camera] | None) -> Prepared:
    """The instance, whose masks ask for nothing, without those hints that ask for what they may be wrong in themselves.

    `cameras` are those from which its mesh meets the masks; None: its own.
    """
    views = prepared.subject.views
    eyes = [view.camera for view in views] if cameras is None else cameras
    return _without(
        prepared,
        [
            settled_problems(prepared.subject.mesh, replace(view, camera=eye))
            for view, eye in zip(views, eyes, strict=True)
        ],
    )


def _without(prepared: Prepared, problems: Sequence[tuple[str | None, str | None]]) -> Prepared:
    """Without those hints, of depth and of normals of each view, with which there is a problem; its notes name them."""
    views: list[View] = []
    notes: list[str] = []
    for number, (view, (depth, normals)) in enumerate(zip(prepared.subject.views, problems, strict=True)):
        prefix = f"views[{number - 1}]." if number else ""
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
        depth = _outline_problem(np.isfinite(view.depth.values), view) or _depth_problem(
            view.depth.values[here].ravel(), view.depth.kind, seen.depth[0].numpy(), both
        )
        relief, _ = evidence(mesh, replace(view, normals=None)) if depth is None else (None, None)
        if relief is not None and relief.relief < UNLIKE_RELIEF:
            agreed = f"correlation {relief.relief:.2f} once a plane is taken from both"
            depth = f"it does not go with the coarse mesh ({agreed}); is it this picture's?"
    if view.normals is not None:
        told = np.isfinite(view.normals).all(axis=2)
        normals = _outline_problem(told, view) or _normals_problem(
            view.normals[here].reshape(-1, 3), seen.normal[0].numpy(), both
        )
    return depth, normals


def settled_problems(mesh: Mesh, view: View) -> tuple[str | None, str | None]:
    """Why a view's depth and its normals say nothing of a mesh that meets its mask from the view's camera; None: they
    do, or there are none."""
    depth, normals = evidence(mesh, view)
    return (
        None if view.depth is None else _settled_problem(depth, LEFT_DEPTH),
        None if view.normals is None else _settled_problem(normals, LEFT_NORMALS),
    )


def _settled_problem(found: Evidence | None, left: float) -> str | None:
    agrees = "the outlines of mesh and mask agree, and"
    if found is None:
        return f"{agrees} it tells too little within them"
    if found.relief < RELIEF or found.alike < ALIKE:
        cosine = f", mean cosine {found.alike:.2f}" if found.alike < 1.0 else ""
        agreed = f"correlation {found.relief:.2f}{cosine}"
        return f"{agrees} it does not go with that mesh, flat or deep ({agreed}); is it this picture's?"
    if found.left > left * found.before:
        share = found.left / found.before
        return (
            f"{agrees} it does not say that the mesh is too flat or too deep, which leaves {share:.0%} of the "
            "disagreement: what else it asks for may be an error of its own"
        )
    return None


def _outline_problem(told: np.ndarray, view: View) -> str | None:
    """Of a hint that says something at the pixels `told` (H, H) bool."""
    size, known, covered = len(told), view.silhouette_known, view.covered
    off = known & ~covered
    edges = (told[0], told[-1], told[:, 0], told[:, -1])
    if max(edge.mean() for edge in edges) > _GROUND_EDGE or (told & off).sum() > _GROUND * off.sum():
        return None
    apart = max(1, round(BESIDE * size))
    area = max(1, int(np.count_nonzero(covered & known)))
    beyond = int(np.count_nonzero(told & off & ~binary_dilation(covered, iterations=apart))) / area
    if beyond > BEYOND:
        return f"it ends at another outline, {beyond:.0%} of the mask's area beyond it; is it this picture's?"
    inside = binary_erosion(covered, iterations=apart, border_value=1) & known
    missing = int(np.count_nonzero(inside & ~binary_fill_holes(told))) / max(1, int(np.count_nonzero(inside)))
    if missing > MISSING:
        return f"it ends at another outline, without {missing:.0%} of the mask's inside; is it this picture's?"
    return None


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
