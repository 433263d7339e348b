"""Retries with exponential backoff and full jitter, in one place."""

from __future__ import annotations


def retries() -> int:
    """How often this process has repeated a storage request so far (for metrics)."""
    raise NotImplementedError
