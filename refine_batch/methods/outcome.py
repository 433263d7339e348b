"""From a batch's tensors to one outcome per instance on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float, Int32
from torch import Tensor

from refine_batch.cameras.camera import Camera
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.methods.base import MethodOutput, PreparedInstance

if TYPE_CHECKING:
    from refine_batch.methods.loop import Best


def outcomes(
    instances: Sequence[PreparedInstance],
    names: Sequence[str],
    best: Best,
    curve: Float[Tensor, "steps b"],
    taken: Int32[Tensor, " b"],
    cameras: Sequence[Camera],
) -> list[MethodOutput | InstanceError]:
    """One outcome per instance, its padding cut off; one whose losses are not finite has diverged.

    Parameters
    ----------
    names
        Of the losses, in the order of `best.terms`.
    curve
        The total at every step.
    taken
        How many of these an instance took.
    cameras
        Where those of all views ended, in the order of the instances.
    """
    finite = best.terms.isfinite().all(dim=0) & best.vertices.isfinite().flatten(1).all(dim=1)
    vertices, confidence = best.vertices.cpu().numpy(), best.confidence.cpu().numpy()
    terms, host_curve = best.terms.cpu().double().numpy(), curve.cpu().numpy()
    steps = taken.tolist()
    found: list[MethodOutput | InstanceError] = []
    first = 0
    for i, (instance, fine) in enumerate(zip(instances, finite.tolist(), strict=True)):
        own = tuple(cameras[first : first + len(instance.views)])
        first += len(instance.views)
        if not fine:
            found.append(InstanceError(ErrorKind.DIVERGED, "the refinement diverged: a loss became NaN or infinite"))
            continue
        count = len(instance.mesh.vertices)
        found.append(
            MethodOutput(
                vertices=vertices[i, :count].copy(),
                symmetry_confidence=None if instance.plane is None else confidence[i, :count].copy(),
                losses=dict(zip(names, terms[:, i].tolist(), strict=True)),
                loss_curve=host_curve[: steps[i], i].copy(),
                steps=steps[i],
                cameras=own,
            )
        )
    return found
