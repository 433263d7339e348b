"""Known dataset layouts, each turned into a manifest."""

from refine_batch.dataset.layouts.build import LAYOUTS, build_manifest
from refine_batch.dataset.layouts.options import LayoutOptions

__all__ = ["LAYOUTS", "LayoutOptions", "build_manifest"]
