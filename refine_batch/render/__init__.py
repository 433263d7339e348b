"""Rendering: soft silhouettes to optimise against, hard ones to measure with."""

from refine_batch.render.hard import hard_silhouettes
from refine_batch.render.silhouette import SilhouetteRenderer, alpha, load_renderer

__all__ = ["SilhouetteRenderer", "alpha", "hard_silhouettes", "load_renderer"]
