"""What explains the disagreement of mesh and picture, before anything is refined: little, the camera, or neither.

A mesh whose outline already meets the mask's is left alone. One that meets it from a camera within the given one's
trust is left alone as well: the camera is what was wrong. One that hardly meets the mask from any such camera, or meets
it far better from quite another direction, was never in this picture as it stands: nothing that refinement could do to
it would be a repair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from refine_batch.cameras.camera import Camera, stack_cameras
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.mesh import Mesh
from refine_batch.mesh.normals import areas_about
from refine_batch.mesh.padded import PaddedMeshes
from refine_batch.methods.base import MethodOutput, PreparedInstance
from refine_batch.methods.camera_only import fit_cameras
from refine_batch.refinement.camera_alone import ALIKE, EXPLAINED, turned_and_shifted
from refine_batch.refinement.camera_fit import reduced
from refine_batch.refinement.occlusion import Hidden, probably_hidden
from refine_batch.refinement.overlap import drawn, forget, outlines_apart, silhouette_iou
from refine_batch.refinement.prepare import Prepared
from refine_batch.render import hard_silhouettes
from refine_batch.render.hard import silhouettes

# Mean distance of the outlines of coarse mesh and mask, as a share of the image's side, below which a mesh is left
# alone: a pixel and a half of 224. What is left of the difference is pixels, which refinement answers with shape.
ALREADY_GOOD = 0.0067
# 2D IoU below which mesh and mask have nothing to do with each other: of coarse meshes with cameras off by 5° and a
# tenth the least was 0.66 (52 of real shapes) and 0.48 (60 synthetic); nine in ten meshes of other objects are below.
UNRELATED = 0.5
# Unless their outlines are nearer than this, as a share of the image's side, as those of thin objects are that stand a
# little beside: of 594 meshes of other objects below that IoU none was.
UNRELATED_APART = 0.035
# Share of the known picture from which on a mesh fills it: none of its outline is seen, and its 2D IoU is but the share
# that the mask has of the picture.
FILLED = 0.995
# By how much the 2D IoU from quite another direction must be above that from the camera; of coarse meshes of real
# shapes none of 52 came above 0.03, of meshes turned by 45° three in four.
ELSEWHERE = 0.1
# The same where the camera is said to be exact, so that the mesh alone is wrong: of what is nearly round, and came out
# wider than deep, one in twelve meets its mask better by a tenth when it is turned (120 synthetic objects).
ELSEWHERE_EXACT = 0.3
# The same of what is left where a part is probably hidden, and how far apart the outlines there may lie at most, as a
# share of the image's side. Of 94 masks that were cut or crossed (26 real shapes, two kinds) 84 stayed below both, and
# of 22 that seemed so, of meshes turned by 45° or more and of other objects, 5; of 112 and 56 of 33 other shapes 100
# and 4. An exact camera is not looked for elsewhere because of that.
ELSEWHERE_PARTLY, APART_PARTLY = 0.03, 0.025
# What the camera alone gains in 2D IoU tells whether it is wrong: where it was exact it gained less than 0.08 in three
# of four cases, where it was off by 5° and a tenth more than 0.09 in nine of ten. From the first to the second of these
# gains the camera's spread grows from the first to the second of these multiples.
GAINS = (0.08, 0.13)
LOOSENESS = (0.7, 2.2)
# The same where the outlines agree as they are, which bears the camera out: hints, which may still ask for another
# shape, hardly move it.
BORNE_OUT = 0.2
# Above this 2D IoU no other direction is looked for.
AGREED = 0.9
# Share of its vertices that a surface is held by, below which the network, whose losses count vertices, sends it
# astray: of real shapes of wrong proportions one of 0.04 came from a Chamfer-L2 of 4 to 14; the next had 0.07 and 0.2.
UNEVEN = 0.1
_SIZE = 64
_TURNS = np.arange(30.0, 331.0, 15.0)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What is to be done with an instance.

    Attributes
    ----------
    reason
        Why it comes back as it is, as a sentence for `kept_reason`; None: refine it.
    cameras
        Of all views about the working mesh, where they explain what was wrong; None: as given.
    doubtful
        Whether mesh and mask hardly meet.
    settled
        Whether the reason is that the masks ask for nothing; hints of depth or normals may ask for more.
    looseness
        By how much the cameras' spreads are to be multiplied, from what a camera alone explains.
    hidden
        What of the object the first view's mask probably does not show. All else here was found without it.
    """

    reason: str | None = None
    cameras: tuple[Camera, ...] | None = None
    doubtful: bool = False
    settled: bool = False
    looseness: float = 1.0
    hidden: Hidden | None = None


def judge(batch: Sequence[Prepared], config: RefineConfig, device: torch.device) -> list[Verdict | InstanceError]:
    """A verdict on each instance of a batch whose cameras are given or estimated.

    An `InstanceError` (CAMERA_INVALID) where the mesh is not in the picture at all. Where something is probably hidden
    the rest is looked at by itself. It has to bear that out: a mesh that was never in this picture ends elsewhere, too.
    """
    verdicts = _verdicts(batch, [None] * len(batch), config, device)
    doubted = [(i, found.hidden) for i, found in enumerate(verdicts) if isinstance(found, Verdict) and found.hidden]
    rest = [batch[i].unsure_of(hidden.where, hidden.note) for i, hidden in doubted]
    seconds = _verdicts(rest, [hidden for _, hidden in doubted], config, device)
    for (i, _), second in zip(doubted, seconds, strict=True):
        verdicts[i] = second
    return verdicts


def _verdicts(
    batch: Sequence[Prepared], left_open: Sequence[Hidden | None], config: RefineConfig, device: torch.device
) -> list[Verdict | InstanceError]:
    """A verdict on each by what its masks say, of which something may have been left open."""
    verdicts: list[Verdict | InstanceError | None] = []
    for prepared, hidden in zip(batch, left_open, strict=True):
        near = outlines_apart(prepared.subject)
        agrees = near < ALREADY_GOOD and silhouette_iou(prepared.subject) >= ALIKE
        found = Verdict(_agrees(near), settled=True, looseness=BORNE_OUT, hidden=hidden) if agrees else None
        verdicts.append(found)
    open_ = [i for i, verdict in enumerate(verdicts) if verdict is None]
    # An exact camera has nothing to explain.
    free = [i for i in open_ if any(any(view.spread) for view in batch[i].subject.views)]
    fitted = dict(zip(free, fit_cameras([batch[i].subject for i in free], config, device), strict=True)) if free else {}
    for i in open_:
        outcome = fitted.get(i)
        cameras = outcome.cameras if isinstance(outcome, MethodOutput) else None
        judged = _judged(batch[i], cameras, left_open[i])
        held = held_share(batch[i].subject.mesh) if config.method == "refine" else 1.0
        if isinstance(judged, Verdict) and judged.reason is None and held < UNEVEN:
            judged = Verdict(_uneven(held))
        verdicts[i] = judged
    # What would be refined: is it but the camera's roll and principal point?
    nearest = {
        i: outcome.cameras
        for i, outcome in fitted.items()
        if isinstance(outcome, MethodOutput) and outcome.cameras and _to_be_refined(verdicts[i])
    }
    for i, camera in turned_and_shifted({i: batch[i] for i in nearest}, nearest, config, device).items():
        verdicts[i] = _camera_alone(batch[i].subject, (camera,), left_open[i])
    for prepared in batch:
        forget(prepared.subject.mesh)
    return [verdict for verdict in verdicts if verdict is not None]


def held_share(mesh: Mesh) -> float:
    """The share of its vertices that would hold a mesh's surface if each held as much: (Σa)² / (V·Σa²), a the areas of
    the faces about each vertex. 1 where triangles are alike."""
    held = areas_about(mesh)
    return float(held.sum() ** 2 / max(len(held) * (held**2).sum(), 1e-300))


def _uneven(held: float) -> str:
    return (
        "the mesh's triangles are too uneven for the network, which counts vertices: as few as "
        f"{held:.1%} of them hold the surface. --method large-steps refines it"
    )


def _judged(
    prepared: Prepared, cameras: tuple[Camera, ...] | None, left_open: Hidden | None
) -> Verdict | InstanceError:
    subject = prepared.subject
    given = silhouette_iou(subject)
    best = given
    if cameras is not None:
        best = silhouette_iou(subject, cameras[0])
        if best < given:
            cameras, best = None, given
    if cameras is not None and best >= ALIKE and outlines_apart(subject, cameras) < EXPLAINED:
        return _camera_alone(subject, cameras, left_open)
    if best <= 0.0:
        return InstanceError(ErrorKind.CAMERA_INVALID, _out_of_sight(prepared))
    looseness = _looseness(best - given)
    if best >= AGREED:
        return Verdict(looseness=looseness, hidden=left_open)
    if _fills(subject, None if cameras is None else cameras[0]):
        return Verdict(_too_near(prepared), doubtful=True)
    free = any(subject.views[0].spread)
    further = ELSEWHERE if free else ELSEWHERE_EXACT
    enough = ELSEWHERE_PARTLY if free and left_open is not None else further
    gain = 0.0
    # No overlap is above 1.
    if best < 1.0 - enough:
        turn, there, here = _elsewhere(subject, subject.camera if cameras is None else cameras[0])
        gain = there - here
        if gain > further:
            return Verdict(
                f"from a camera turned by {turn:+.0f}° about the object the coarse mesh meets its mask far better (2D "
                f"IoU {here:.2f} → {there:.2f}, at {_SIZE} pixels): are cameras and meshes in the convention that the "
                "manifest is documented with? refine-batch validate --preview shows and tries it",
                doubtful=True,
            )
    if best < UNRELATED and outlines_apart(subject, cameras) > UNRELATED_APART:
        return Verdict(
            f"the coarse mesh hardly meets its mask (2D IoU {given:.2f}; {best:.2f} from the best camera that the "
            "given one's trust allows): is it this picture's mesh, and the camera its camera? refine-batch validate "
            "--preview shows and tries it",
            doubtful=True,
        )
    if left_open is not None and (gain > enough or outlines_apart(subject, cameras) > APART_PARTLY):
        return Verdict(left_open.kept_reason)
    view = subject.views[0]
    as_given = drawn(subject, view, None)
    if cameras is None or cameras[0] == view.camera:
        hidden = probably_hidden(as_given, view.covered, view.known)
    else:
        hidden = probably_hidden(drawn(subject, view, cameras[0]), view.covered, view.known, as_given)
    if left_open is not None and hidden is not None:
        return Verdict(left_open.kept_reason)
    return Verdict(looseness=looseness, hidden=left_open or hidden)


def _to_be_refined(verdict: Verdict | InstanceError | None) -> bool:
    return isinstance(verdict, Verdict) and verdict.reason is None


def _camera_alone(subject: PreparedInstance, cameras: tuple[Camera, ...], left_open: Hidden | None) -> Verdict:
    given, best = silhouette_iou(subject), silhouette_iou(subject, cameras[0])
    return Verdict(
        f"the camera alone explains the picture: from one a little beside that which was given"
        f"{_in_its_plane(subject.camera, cameras[0])} the coarse mesh meets its mask (2D IoU {given:.3f} → {best:.3f})",
        cameras,
        settled=True,
        hidden=left_open,
    )


def _in_its_plane(given: Camera, camera: Camera) -> str:
    """How a camera's picture was turned and shifted, where it was."""
    turn = camera.roll - given.roll
    shift = math.hypot(camera.offset_x - given.offset_x, camera.offset_y - given.offset_y) / 2.0
    if not turn and not shift:
        return ""
    return f", turned by {turn:+.1f}° about its axis and its picture shifted by {shift:.1%} of its side,"


def _looseness(gain: float) -> float:
    """The multiple of the spread that a gain in 2D IoU by the camera alone speaks for."""
    share = (gain - GAINS[0]) / (GAINS[1] - GAINS[0])
    low, high = LOOSENESS
    return float(low * (high / low) ** min(1.0, max(0.0, share)))


def _agrees(apart: float) -> str:
    return (
        "the coarse mesh already agrees with the mask, as well as shape can be told: their outlines lie "
        f"{apart:.2%} of the image's side apart"
    )


def _elsewhere(subject: PreparedInstance, camera: Camera) -> tuple[float, float, float]:
    """The turn about the object, degrees, from which the mesh meets the mask best, the 2D IoU there and that here."""
    view = subject.views[0]
    mask = reduced(view.covered, _SIZE).numpy() >= 0.5
    known = reduced(view.silhouette_known, _SIZE).numpy() >= 0.5

    meshes = PaddedMeshes.of([subject.mesh])

    def ious(cameras: Sequence[Camera]) -> np.ndarray:
        views = torch.zeros(len(cameras), dtype=torch.int32)
        return mask_iou(silhouettes(meshes, stack_cameras(cameras), views, _SIZE).numpy() & known, mask & known)

    def beside(turn: float) -> list[Camera]:
        return [
            _orbited(camera, turn, rise, scale)
            for rise, scale in itertools.product((-15.0, 0.0, 15.0), (0.9, 1.0, 1.1))
        ]

    best = np.argsort(-ious([_orbited(camera, turn) for turn in _TURNS]))[:2]
    # Each with cameras beside it, the given direction too, so that no direction is the only one to be improved.
    turns = [0.0, *_TURNS[best].tolist()]
    found = ious([c for turn in turns for c in beside(turn)]).reshape(len(turns), -1).max(axis=1)
    top = 1 + int(np.argmax(found[1:]))
    return (turns[top] + 180.0) % 360.0 - 180.0, float(found[top]), float(found[0])


def _orbited(camera: Camera, turn: float, rise: float = 0.0, scale: float = 1.0) -> Camera:
    """The camera elsewhere about its target."""
    elevation = float(np.clip(camera.elevation + rise, -85.0, 85.0))
    return replace(camera, azimuth=camera.azimuth + turn, elevation=elevation, distance=camera.distance * scale)


def _out_of_sight(prepared: Prepared) -> str:
    """Where the mesh is, for one that no camera within the trust sees on its mask."""
    camera = prepared.subject.camera
    seen = hard_silhouettes(prepared.subject.mesh, [camera], _SIZE)[0]
    where = "it is seen beside the mask" if seen.any() else "it is not in the picture at all"
    extent, centre = prepared.working.extent, prepared.working.centre
    aside = float(np.linalg.norm(camera.target)) * extent
    return (
        f"instance {prepared.instance_id!r}: the mesh does not meet its mask: {where}. It is {extent:.3g} large and "
        f"stands about ({centre[0]:.3g}, {centre[1]:.3g}, {centre[2]:.3g}), {aside:.3g} from the point that the camera "
        f"looks at from a distance of {camera.distance * extent:.3g}: mesh and camera must be in the same coordinates "
        "and units (refine-batch validate --preview shows and tries it)"
    )


def _fills(subject: PreparedInstance, camera: Camera | None) -> bool:
    """Whether the mesh's silhouette covers all that is known of the first view."""
    view = subject.views[0]
    known = view.silhouette_known
    return bool(drawn(subject, view, camera)[known].mean() >= FILLED)


def _too_near(prepared: Prepared) -> str:
    """Where the camera is, for a mesh that fills its picture."""
    subject, extent = prepared.subject, prepared.working.extent
    return (
        "the coarse mesh fills the whole picture, of which the mask is but a part: the camera is within it or too "
        f"near. It is {extent:.3g} large, and the camera {subject.camera.distance * extent:.3g} from the point that it "
        "looks at: mesh and camera must be in the same coordinates and units (refine-batch validate --preview shows "
        "and tries it)"
    )
