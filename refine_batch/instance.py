"""What goes into a refinement and what comes out of it, as plain objects on the host."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np

from refine_batch.camera import Camera, UnknownCamera
from refine_batch.mesh import Mesh

SymmetryAxis = Literal["x", "y", "z", "none"]
Status = Literal["refined", "kept", "failed"]
CameraSource = Literal["given", "corrected", "estimated"]


@dataclass(frozen=True, eq=False)
class Instance:
    """One coarse mesh and the image it came from.

    Parameters
    ----------
    instance_id
        Kept as written; also seeds every random choice made for this instance.
    mesh
        The coarse mesh of any single-view method.
    image : (H, W, 3) uint8
        RGB.
    mask : (H, W) bool
        True on the object.
    camera
        None, or one of which something is unknown: it is estimated.
    symmetry_axis
        Normal of the symmetry plane through the origin, or `none`; None where nobody said: the configuration decides.
    ground_truth
        Only ever used for the figures of merit.
    category
        Groups the figures.
    """

    instance_id: str
    mesh: Mesh
    image: np.ndarray
    mask: np.ndarray
    camera: Camera | UnknownCamera | None = None
    symmetry_axis: SymmetryAxis | None = None
    ground_truth: Mesh | None = None
    category: str | None = None


@dataclass(frozen=True)
class Figures:
    """Figures of merit of one mesh; None where one cannot be known (without a ground truth, say).

    `iou_2d`, `iou_3d`, `iou_multiview` and `f_score` lie in [0, 1]; `chamfer_l2` is a squared distance × 1000 and `emd`
    a distance, both between clouds scaled to a largest extent of 2.
    """

    iou_2d: float | None = None
    chamfer_l2: float | None = None
    f_score: float | None = None
    emd: float | None = None
    iou_3d: float | None = None
    iou_multiview: float | None = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True, eq=False)
class RefinedInstance:
    """The outcome for one instance, whatever it was.

    `mesh` has the coarse mesh's topology, unless `preparation` (JSON: what was done to the coarse mesh first) says
    otherwise, and always its coordinates; it is the coarse mesh itself where `status` is `kept` (with `kept_reason`)
    and None where `status` is `failed` (with `error_kind` and `error_message`). `losses` are weighted, at the
    returned iterate; their sum is `loss_total`; none are known of a mesh that was kept. `loss_curve` samples the total
    loss over the steps. `camera` and `symmetry_axis` are those that were used.
    """

    instance_id: str
    status: Status
    mesh: Mesh | None = None
    symmetry_confidence: np.ndarray | None = None
    camera: Camera | None = None
    camera_source: CameraSource | None = None
    before: Figures = field(default_factory=Figures)
    after: Figures = field(default_factory=Figures)
    losses: dict[str, float] = field(default_factory=dict)
    loss_curve: np.ndarray | None = None
    steps: int = 0
    seconds: float = 0.0
    device: str = "cpu"
    kept_reason: str | None = None
    error_kind: str | None = None
    error_message: str | None = None
    preparation: str | None = None
    symmetry_axis: SymmetryAxis | None = None

    @property
    def loss_total(self) -> float | None:
        return sum(self.losses.values()) if self.losses else None
