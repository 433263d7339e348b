"""What a synthetic dataset has besides one picture with a hard mask for each object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SynthOptions:
    """All off: a dataset is then what it always was, to the last bit; switched on, its shapes and cameras are the same.

    Parameters
    ----------
    views
        Pictures of each object, the first included.
    soft_masks
        Alpha is the covered share, and of every other object blurred besides.
    occluders
        Something hides a part of the object; `ignore_uri` names where.
    cut
        The picture's frame cuts off a part of the object.
    depth
        Relative depth with noise, in a scale of its own.
    normals
        With noise.
    """

    views: int = 1
    soft_masks: bool = False
    occluders: bool = False
    cut: bool = False
    depth: bool = False
    normals: bool = False


PLAIN = SynthOptions()
