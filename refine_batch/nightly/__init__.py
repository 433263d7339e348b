"""The nightly run: refine what is new, compact, report, and say what changed since the last night."""
