"""From a batch's tensors to one outcome per instance on the host."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int32
from torch import Tensor

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.methods.base import MethodOutput, PreparedInstance


def outcomes(
    instances: Sequence[PreparedInstance],
    names: Sequence[str],
    vertices: Float[Tensor, "b v 3"],
    confidence: Float[Tensor, "b v"],
    terms: Float[Tensor, "losses b"],
    curve: Float[Tensor, "steps b"],
    taken: Int32[Tensor, " b"],
) -> list[MethodOutput | InstanceError]:
    """One outcome per instance, its padding cut off; one whose losses are not finite has diverged.

    `terms` are the weighted losses at the returned iterate in the order of `names`, `curve` the total at every step,
    `taken` how many of these an instance took.
    """
    finite = terms.isfinite().all(dim=0) & vertices.isfinite().flatten(1).all(dim=1)
    host_vertices, host_confidence = vertices.detach().cpu().numpy(), confidence.detach().cpu().numpy()
    host_terms, host_curve = terms.detach().cpu().double().numpy(), curve.detach().cpu().numpy()
    steps = taken.tolist()
    found: list[MethodOutput | InstanceError] = []
    for i, (instance, fine) in enumerate(zip(instances, finite.tolist(), strict=True)):
        if not fine:
            found.append(InstanceError(ErrorKind.DIVERGED, "the refinement diverged: a loss became NaN or infinite"))
            continue
        count = len(instance.mesh.vertices)
        found.append(
            MethodOutput(
                vertices=host_vertices[i, :count].copy(),
                symmetry_confidence=None if instance.symmetry_axis == "none" else host_confidence[i, :count].copy(),
                losses=dict(zip(names, host_terms[:, i].tolist(), strict=True)),
                loss_curve=host_curve[: steps[i], i].copy(),
                steps=steps[i],
            )
        )
    return found
