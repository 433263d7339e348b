"""The device's stage: cameras that are not known are estimated, and a batch is refined by the chosen method."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from refine_batch.cameras.camera import LikelyCamera
from refine_batch.cameras.moving import MOVED
from refine_batch.config import RefineConfig
from refine_batch.errors import ErrorKind, InstanceError, UsageError, as_fault, out_of_memory
from refine_batch.mesh.working import WorkingMesh
from refine_batch.methods.base import MethodOutput, costs_of, load_method
from refine_batch.methods.memory import batch_that_fits
from refine_batch.refinement.camera_estimation import estimate_cameras
from refine_batch.refinement.hint_checks import borne_out_where_settled, fit_for_use
from refine_batch.refinement.overlap import outlines_apart
from refine_batch.refinement.plausibility import ALREADY_GOOD, Verdict, judge
from refine_batch.refinement.prepare import Prepared

logger = logging.getLogger(__name__)

# Instances per device batch on a GPU, where that many fit.
GPU_BATCH = 64
# One standard deviation of an estimated camera, as it was found on synthetic objects: radians, radians, log distance.
ESTIMATED = (math.radians(4.0), math.radians(4.0), 0.05)
# How near its own origin the middle of a mesh's box is, in extents, where only the mesh's faults keep them apart: of
# 320 coarse meshes of centred objects all were nearer than 0.2, nineteen in twenty than 0.06. Beyond 0.05 the mesh must
# not stand on its origin, as flat objects do whose middle is not far above.
CENTRED, NEARLY, STANDING = 0.2, 0.05, 0.03


@dataclass(frozen=True, eq=False)
class Optimised:
    """What became of an instance on the device.

    Attributes
    ----------
    prepared
        With the cameras that the method began with.
    output
        What the method found; None where it was not asked.
    verdict
        What was seen before anything was refined.
    """

    prepared: Prepared
    output: MethodOutput | None = None
    verdict: Verdict = field(default_factory=Verdict)


def optimise(batch: Sequence[Prepared], config: RefineConfig, device: torch.device) -> list[Optimised | InstanceError]:
    """One outcome per instance, in order; whatever becomes of one, its neighbours are refined.

    Cameras that are not known are estimated; with the guard on, what needs no refinement, or what no refinement would
    mend, is left alone (`plausibility`); the rest is refined, by what its masks probably show. What does not fit the
    device's memory is tried again in halves, and so is what raises as a whole.

    Raises
    ------
    UsageError
        The configuration names a method or a renderer that cannot be had.
    """
    method = load_method(config.method)
    outcomes: list[Optimised | InstanceError | None] = [None] * len(batch)

    def still(found: Sequence) -> list[tuple[int, Any]]:
        """The places of what is not settled yet, with what was found; faults are settled with that."""
        places = [i for i, outcome in enumerate(outcomes) if outcome is None]
        for i, one in zip(places, found, strict=True):
            if isinstance(one, InstanceError):
                outcomes[i] = one
        return [(i, one) for i, one in zip(places, found, strict=True) if outcomes[i] is None]

    seen = still(
        [_each(lambda p: fit_for_use(_with_camera(p, config, device), config.method), one, device) for one in batch]
    )
    ready = [prepared for _, prepared in seen]
    verdicts: dict[int, Verdict] = {}
    if config.guard:
        judged = still(halved(lambda some: judge(some, config, device), ready, device))
        by_place, verdicts = dict(seen), dict(judged)
        # Where the masks ask for nothing, hints may.
        seen = still([_heard(_without_hidden(by_place[i], verdict), verdict, device) for i, verdict in judged])
        for i, prepared in seen:
            verdict = verdicts[i]
            if verdict.reason is not None and not (verdict.settled and prepared.subject.hinted):
                outcomes[i] = Optimised(prepared, None, verdict)
        seen = [(i, prepared.loosened(verdicts[i].looseness)) for i, prepared in seen if outcomes[i] is None]
        ready = [prepared for _, prepared in seen]
    run = halved(lambda some: method([p.for_method for p in some], config, device), ready, device)
    for (i, prepared), output in zip(seen, run, strict=True):
        outcomes[i] = _checked(prepared, output, verdicts.get(i))
    return [outcome for outcome in outcomes if outcome is not None]


def groups(
    prepared: Sequence[Prepared], config: RefineConfig, device: torch.device, batch_size: int | None = None
) -> Iterator[list[int]]:
    """Places of instances to optimise together: of like size, so that little is padded, and as many as fit the device.

    Parameters
    ----------
    batch_size
        At most; by default what suits the device and the method.
    """
    costs = costs_of(config.method)
    size = batch_size or (GPU_BATCH if device.type == "cuda" else 1 if costs is None else costs.cpu_batch)
    order = sorted(range(len(prepared)), key=lambda i: (len(prepared[i].subject.mesh.vertices), i))
    while order:
        count = batch_that_fits([prepared[i].subject.mesh for i in order[:size]], config, device, size)
        yield order[:count]
        order = order[count:]


def halved(work: Callable[[list], Sequence], batch: list, device: torch.device) -> list:
    """`work(batch)`, one answer each; where it fails as a whole, in halves until the fault stands alone."""
    if not batch:
        return []
    try:
        answers = list(work(batch))
        if len(answers) != len(batch):
            raise ValueError(f"the method gave {len(answers)} outcomes for {len(batch)} instances")
        return answers
    except UsageError:
        raise
    except InstanceError as error:
        # Without its traceback, whose frames hold the whole batch's tensors.
        fault = error.with_traceback(None)
    except Exception as error:
        if out_of_memory(error):
            subject = batch[0].subject
            text = f"a mesh of {len(subject.mesh.vertices)} vertices does not fit the memory of {device}: {error}"
            fault = InstanceError(ErrorKind.OUT_OF_MEMORY, text)
        else:
            if len(batch) == 1:
                logger.exception("instance %r could not be refined", batch[0].instance_id)
            fault = as_fault(error)
    if len(batch) == 1:
        return [fault]
    # What failed is let go of before anything is tried again, what stands in cycles too.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    return halved(work, batch[:middle], device) + halved(work, batch[middle:], device)


def _each(work: Callable[[Prepared], Any], prepared: Prepared, device: torch.device) -> Any:
    """`work` on one instance, its fault in the answer's place."""
    [found] = halved(lambda some: [work(one) for one in some], [prepared], device)
    return found


def _without_hidden(prepared: Prepared, verdict: Verdict) -> Prepared:
    """The instance that knows nothing of what its mask probably does not show, and says so."""
    hidden = verdict.hidden
    return prepared if hidden is None else prepared.unsure_of(hidden.where, hidden.note)


def _heard(prepared: Prepared, verdict: Verdict, device: torch.device) -> Prepared | InstanceError:
    """The instance with the hints that are to be heard. What is thin seldom meets its mask, but its outline does."""
    if not prepared.subject.hinted:
        return prepared
    if not verdict.settled and outlines_apart(prepared.subject, verdict.cameras) >= ALREADY_GOOD:
        return prepared
    return _each(lambda one: borne_out_where_settled(one, verdict.cameras), prepared, device)


def _with_camera(prepared: Prepared, config: RefineConfig, device: torch.device) -> Prepared:
    """The instance with an estimate of its camera, where that is not known, and what else it may be."""
    unknown, working, subject = prepared.unknown, prepared.working, prepared.subject
    if unknown is None:
        return prepared
    origin, target = -working.centre / working.extent, (0.0, 0.0, 0.0)
    if unknown.distance is not None or _centred(working):
        # The camera looks there that a distance is known from; and where a mesh is centred but for its faults.
        target = tuple(origin.tolist())
    if unknown.distance is not None:
        unknown = replace(unknown, distance=unknown.distance / working.extent)
    best, *others = estimate_cameras(subject.mesh, subject.mask, unknown, subject.plane, device, target=target)
    known = [getattr(unknown, name) is not None for name in MOVED]
    may_be_off = (0.0, 0.0, 0.0) if config.paper_exact else ESTIMATED
    turn, rise, farther = (0.0 if is_known else free for is_known, free in zip(known, may_be_off, strict=True))
    views = subject.views
    first = replace(views[0], camera=best.camera, spread=(turn, rise, farther), pivot=target)
    found = replace(prepared, subject=replace(subject, views=(first, *views[1:])))
    # Where there are other pictures these tell more; and the paper knows of one camera.
    if not others or len(views) > 1 or config.paper_exact:
        return found
    return replace(found, likewise=tuple(others), notes=(*found.notes, _told_of(others)))


def _told_of(others: Sequence[LikelyCamera]) -> str:
    """What the row says of the directions besides the best."""
    directions = [f"azimuth {o.camera.azimuth:.0f}°, elevation {o.camera.elevation:.0f}°" for o in others]
    return f"the mask may as well be seen from another direction than the one estimated: {' or '.join(directions)}"


def _centred(working: WorkingMesh) -> bool:
    """Whether a file's mesh was made about its origin, for all that is wrong with it."""
    middle = working.centre / working.extent
    apart = float(np.linalg.norm(middle))
    low = middle + working.mesh.vertices.min(axis=0)
    return apart < NEARLY or (apart < CENTRED and bool(np.abs(low).min() > STANDING))


def _checked(
    prepared: Prepared, output: MethodOutput | InstanceError, verdict: Verdict | None
) -> Optimised | InstanceError:
    if isinstance(output, InstanceError):
        return output
    views = len(prepared.for_method.views)
    try:
        shape, finite = output.vertices.shape, bool(np.isfinite(output.vertices).all())
        cameras = views if output.cameras is None else len(output.cameras)
    except Exception as error:  # A method of the user's own may return anything.
        return as_fault(error)
    if shape != prepared.subject.mesh.vertices.shape or not finite:
        return InstanceError(ErrorKind.DIVERGED, "the refinement gave vertices that are NaN, infinite or not as many")
    if cameras != views:
        return as_fault(ValueError(f"the method gave {cameras} cameras for {views} views"))
    if prepared.likewise and output.cameras is not None:
        output = replace(output, cameras=output.cameras[:1])
    return Optimised(prepared, output, verdict or Verdict())
