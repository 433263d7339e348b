"""Cameras: found, together with the shape, where a row has none; corrected where one is a little wrong."""

from refine_batch.pose.correction import correct_camera
from refine_batch.pose.estimation import estimate_camera

__all__ = ["correct_camera", "estimate_camera"]
