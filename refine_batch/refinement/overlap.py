"""How far a working mesh as it is meets its masks, drawn once for all who ask."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np

from refine_batch.cameras.camera import Camera
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.figures.outlines import outline_distance
from refine_batch.mesh import Mesh
from refine_batch.methods.base import PreparedInstance, View
from refine_batch.render import hard_silhouettes


def silhouette_iou(subject: PreparedInstance, camera: Camera | None = None) -> float:
    """2D IoU of the working mesh's hard silhouette and the first view's mask, where anything is known."""
    view = subject.views[0]
    known = view.silhouette_known
    return float(mask_iou(drawn(subject, view, camera) & known, view.covered & known))


def outlines_apart(subject: PreparedInstance, cameras: Sequence[Camera] | None = None) -> float:
    """Mean distance of the working mesh's outlines and the masks', as a share of the pictures' side; the median
    over all views, so that none decides alone."""
    apart = []
    for number, view in enumerate(subject.views):
        seen = drawn(subject, view, None if cameras is None else cameras[number])
        apart.append(outline_distance(seen, view.covered, view.known) / len(view.mask))
    return float(np.median(apart))


def drawn(subject: PreparedInstance, view: View, camera: Camera | None = None) -> np.ndarray:
    """(H, H) bool: the mesh's silhouette in the view's picture, by its own camera or another."""
    camera, size = view.camera if camera is None else camera, len(view.mask)
    kept = _silhouettes.setdefault(subject.mesh, {})
    if (camera, size) not in kept:
        kept[camera, size] = hard_silhouettes(subject.mesh, [camera], size)[0]
    return kept[camera, size]


def forget(mesh: Mesh) -> None:
    """Let go of what was drawn of a mesh."""
    _silhouettes.pop(mesh, None)


# What of each mesh was drawn while it is judged: outlines, overlap and what may hide it ask for the same.
_silhouettes: weakref.WeakKeyDictionary[Mesh, dict[tuple[Camera, int], np.ndarray]] = weakref.WeakKeyDictionary()
