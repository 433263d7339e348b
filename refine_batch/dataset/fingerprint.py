"""What makes a row's result reusable: a hash of everything it depends on.

A row is refined again when, and only when, its fingerprint changes: when any known column of its manifest row does, one
of its files (told by ETag, else by size and time, else by content), the configuration or the algorithm's version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.columns import MANIFEST_SCHEMA, NUMBERS, URIS
from refine_batch.dataset.hashing import hash_hex
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.stamps import InputStamper

# Raised when what is hashed, or how, changes: every row is then refined again.
_RULE = "1"
_NULL = "~"


def fingerprints(batch: pa.RecordBatch, config_hash: str, stamper: InputStamper) -> pa.StringArray:
    """32 hex digits per row of a manifest batch: every known column, the stamps of its files and `config_hash`."""
    return _fingerprints(batch, config_hash, {name: stamper.stamps(batch.column(name)) for name in URIS})


def fingerprint(row: ManifestRow, config_hash: str, stamps: Mapping[str, str]) -> str:
    """The same for one row; `stamps` maps its absolute URIs to their stamps."""
    batch = pa.RecordBatch.from_pylist([asdict(row)], schema=MANIFEST_SCHEMA)
    columns = {n: pa.array([None if (u := getattr(row, n)) is None else stamps[u]], pa.string()) for n in URIS}
    return _fingerprints(batch, config_hash, columns)[0].as_py()


def key(instance_id: str, fingerprint: str) -> bytes:
    """16 bytes that stand for one row's work."""
    return blake2b(f"{fingerprint}\x00{instance_id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _fingerprints(batch: pa.RecordBatch, config_hash: str, stamps: Mapping[str, pa.Array]) -> pa.StringArray:
    fields = [_framed(pa.array([text] * batch.num_rows, pa.string())) for text in (_RULE, config_hash)]
    for name in MANIFEST_SCHEMA.names:
        column = batch.column(name)
        if name in NUMBERS:
            fields.append(_framed(_bits(column)))
        elif name in URIS:
            fields += [_framed(_lasting(column)), _framed(stamps[name])]
        else:
            fields.append(_framed(column))
    return hash_hex(pc.binary_join_element_wise(*fields, ""))


def _framed(text: pa.Array) -> pa.Array:
    """Each value after its length, so that no two different rows give the same text."""
    lengths = pc.binary_length(text).cast(pa.string())
    return pc.fill_null(pc.binary_join_element_wise(lengths, text, ":"), _NULL)


def _bits(numbers: pa.Array) -> pa.Array:
    """The bits of each float64 as text; -0 is 0, and every NaN is the same."""
    values = numbers.to_numpy(zero_copy_only=False) + 0.0
    values = np.where(np.isnan(values), np.nan, values)
    text = pa.array(values.view(np.int64)).cast(pa.string())
    return pc.if_else(numbers.is_null(), pa.scalar(None, pa.string()), text)


def _lasting(uris: pa.Array) -> pa.Array:
    """URIs without what changes from day to day: signatures in the query of an HTTP address, and passwords."""
    bare = pc.replace_substring_regex(uris, r"\?.*$", "")
    bare = pc.if_else(pc.match_substring_regex(uris, r"^https?://"), bare, uris)
    return pc.replace_substring_regex(bare, r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@", r"\1")
