"""What goes into a refinement and what comes out of it, as plain objects on the host."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np

from refine_batch.cameras.camera import Camera, UnknownCamera
from refine_batch.mesh import Mesh
from refine_batch.mesh.plane import SymmetryAxis

Status = Literal["refined", "kept", "failed"]
DepthKind = Literal["metric", "relative", "inverse"]
CameraSource = Literal["given", "corrected", "estimated"]


@dataclass(frozen=True)
class CameraError:
    """How far a camera is trusted: one standard deviation of what it may be off.

    Parameters
    ----------
    degrees
        Of its direction (azimuth, elevation) about the object; 0: exact.
    distance
        Of its distance, as a share of it; 0: exact.
    """

    degrees: float = 0.0
    distance: float = 0.0


@dataclass(frozen=True, eq=False)
class Depth:
    """Depth along the viewing axis, one value per pixel of the view's picture.

    Parameters
    ----------
    values : (H, W) float32
        NaN where nothing is known.
    kind
        `metric`: in object units; `relative`: up to an unknown positive scale and an unknown shift; `inverse`: the same
        of its reciprocal (disparity).
    """

    values: np.ndarray
    kind: DepthKind = "relative"


@dataclass(frozen=True, eq=False)
class PictureView:
    """A further picture of an instance's object, by a camera of its own.

    Parameters
    ----------
    mask : (H, W) bool, or float32 in [0, 1]
        True on the object, or the share of each pixel that the object covers.
    camera
        About the same object coordinates as the first view's.
    known : (H, W) bool, or None
        False where the picture says nothing (behind an occluder); None: everywhere known.
    camera_error
        None: what the configuration says.
    weight
        How much the view counts beside the first one's 1.
    image : (H, W, 3) uint8, or None
    depth
    normals : (H, W, 3) float32, or None
        Unit vectors in the camera's frame, x right, y up, z towards the viewer (OpenGL); NaN where nothing is known.
    """

    mask: np.ndarray
    camera: Camera
    known: np.ndarray | None = None
    camera_error: CameraError | None = None
    weight: float = 1.0
    image: np.ndarray | None = None
    depth: Depth | None = None
    normals: np.ndarray | None = None


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
    mask : (H, W) bool, or float32 in [0, 1]
        True on the object, or the share of each pixel that the object covers.
    camera
        None, or one of which something is unknown: it is estimated.
    symmetry_axis
        Normal of the symmetry plane, `none`, or `auto` to look for it; None where nobody said: the configuration
        decides.
    ground_truth
        Only ever used for the figures of merit.
    category
        Groups the figures.
    known, camera_error, depth, normals
        Of this first view, as of any `PictureView`.
    views
        Further views of the same object.
    notes
        What was left out of the input or understood in one of several ways, a sentence each; kept in the result.
    content
        Hash of the bytes of the files that it was made from; None where unknown.
    """

    instance_id: str
    mesh: Mesh
    image: np.ndarray
    mask: np.ndarray
    camera: Camera | UnknownCamera | None = None
    symmetry_axis: SymmetryAxis | Literal["auto"] | None = None
    ground_truth: Mesh | None = None
    category: str | None = None
    known: np.ndarray | None = None
    camera_error: CameraError | None = None
    depth: Depth | None = None
    normals: np.ndarray | None = None
    views: tuple[PictureView, ...] = ()
    notes: tuple[str, ...] = ()
    content: str | None = None


@dataclass(frozen=True)
class Figures:
    """Figures of merit of one mesh; None where one cannot be known (without a ground truth, say).

    `iou_2d` (in the first view), `iou_3d`, `iou_multiview`, `f_score` and `iou_2d_views` (the mean over all of an
    instance's own views, where it has several) lie in [0, 1]; `chamfer_l2` is a squared distance × 1000 and `emd` a
    distance, both between clouds scaled to a largest extent of 2.
    """

    iou_2d: float | None = None
    chamfer_l2: float | None = None
    f_score: float | None = None
    emd: float | None = None
    iou_3d: float | None = None
    iou_multiview: float | None = None
    iou_2d_views: float | None = None

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
    loss over the steps. `camera` and `symmetry_axis` are those that were used. `notes` are the instance's own and what
    was found in preparing it; `content` is the instance's own where whoever had it refined says so, and `stages` the
    seconds it took by stage. `doubtful` is whether mesh and mask hardly met, `known_share` the share of known pixels
    among those that the coarse mesh or the object covers, in all views.
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
    symmetry_plane: tuple[float, float, float, float] | None = None
    intrinsics: tuple[float, ...] | None = None
    extrinsics: tuple[float, ...] | None = None
    share: float | None = None
    risk: float | None = None
    iou_2d_given: float | None = None
    iou_2d_refused: float | None = None
    known_share: float | None = None
    notes: tuple[str, ...] = ()
    content: str | None = None
    stages: dict[str, float] = field(default_factory=dict)
    doubtful: bool = False

    @property
    def loss_total(self) -> float | None:
        return sum(self.losses.values()) if self.losses else None
