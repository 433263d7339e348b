"""Writes a synthetic dataset."""

from __future__ import annotations

from pathlib import Path

from refine_batch.io.storage import Storage


def write_dataset(directory: str | Path | Storage, count: int, seed: int = 0, *, image_size: int = 224) -> str:
    """Write `count` instances and `manifest.csv`; returns the manifest's URI."""
    raise NotImplementedError
