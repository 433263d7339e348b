"""What makes a row's result reusable: a hash of everything it depends on."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.stamps import InputStamper


def fingerprints(batch: pa.RecordBatch, config_hash: str, stamper: InputStamper) -> pa.StringArray:
    """32 hex digits per row of a manifest batch: every known column, the stamps of its files and `config_hash`."""
    raise NotImplementedError


def fingerprint(row: ManifestRow, config_hash: str, stamps: Mapping[str, str]) -> str:
    """The same for one row; `stamps` maps its absolute URIs to their stamps."""
    raise NotImplementedError


def key(instance_id: str, fingerprint: str) -> bytes:
    """16 bytes that stand for one row's work."""
    raise NotImplementedError
