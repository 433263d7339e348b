"""The nightly run: refine what is new, compact, report, and say what changed since the last night."""

from refine_batch.nightly.night import Night, nightly
from refine_batch.nightly.options import NightlyOptions
from refine_batch.nightly.summary import NightSummary

__all__ = ["Night", "NightSummary", "NightlyOptions", "nightly"]
