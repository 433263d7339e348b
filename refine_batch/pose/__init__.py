"""Cameras from silhouettes: found where a row has none, corrected where it is a little wrong."""

from refine_batch.pose.correction import correct_camera
from refine_batch.pose.estimation import estimate_camera

__all__ = ["correct_camera", "estimate_camera"]
