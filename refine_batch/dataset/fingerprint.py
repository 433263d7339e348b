"""What makes a row's result reusable: a hash of everything it depends on.

A row is refined again when, and only when, its fingerprint changes: when any known column of its manifest row does, one
of its files (told by ETag, else by size and time, else by content), the configuration or the algorithm's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.columns import LATER, LISTS, MANIFEST_SCHEMA, NUMBERS, URIS, VIEWS
from refine_batch.dataset.hashing import hash_hex
from refine_batch.dataset.stamps import InputStamper
from refine_batch.dataset.views import resolve_views, view_uris
from refine_batch.io.uri import parent

# Raised when what is hashed, or how, changes: every row is then refined again.
_RULE = "1"
_NULL = "~"


def fingerprints(batch: pa.RecordBatch, config_hash: str, stamper: InputStamper) -> pa.StringArray:
    """32 hex digits per row of a manifest batch: every known column, the stamps of its files and `config_hash`.

    The files of further views count like the row's own, those that a JSON file of views names too.
    """
    fields = [_framed(pa.array([text] * batch.num_rows, pa.string())) for text in (_RULE, config_hash)]
    for name in MANIFEST_SCHEMA.names:
        column = batch.column(name)
        if name in LATER:
            if column.null_count < len(column):
                fields.append(_later(name, column, stamper))
        elif name in NUMBERS:
            fields.append(_framed(_bits(column)))
        elif name in URIS:
            fields += [_framed(_lasting(column)), _framed(stamper.stamps(column))]
        else:
            fields.append(_framed(column))
    return hash_hex(pc.binary_join_element_wise(*fields, ""))


def key(instance_id: str, fingerprint: str) -> bytes:
    """16 bytes that stand for one row's work."""
    return blake2b(f"{fingerprint}\x00{instance_id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _later(name: str, column: pa.Array, stamper: InputStamper) -> pa.Array:
    """A column that the first manifests did not have, with its name; nothing where a row leaves it empty."""
    if name in LISTS:
        values = [_framed(_list_bits(column))]
    elif name in NUMBERS:
        values = [_framed(_bits(column))]
    elif name == VIEWS:
        values = [_framed(column), _framed(_view_stamps(column.to_pylist(), stamper))]
    elif name in URIS:
        values = [_framed(_lasting(column)), _framed(stamper.stamps(column))]
        if name == "views_uri":
            values.append(_framed(_view_stamps(_view_files(column, stamper), stamper)))
    else:
        values = [_framed(column)]
    joined = pc.binary_join_element_wise(f"{name}=", *values, "")
    return pc.if_else(column.is_null(), pa.scalar("", pa.string()), joined)


def _view_files(uris: pa.Array, stamper: InputStamper) -> list[str | None]:
    """Text of each JSON file of views, its URIs absolute; None where it cannot be read: its row will say why."""
    found = zip(uris.to_pylist(), stamper.contents(uris.to_pylist()), strict=True)
    return [
        None if data is None else resolve_views(data.decode("utf-8", "replace"), parent(uri)) for uri, data in found
    ]


def _view_stamps(texts: Sequence[str | None], stamper: InputStamper) -> pa.Array:
    """Stamps of all the files that each row's views name."""
    named = [[] if text is None else view_uris(text) for text in texts]
    stamps = iter(stamper.stamps(pa.array([uri for uris in named for uri in uris], pa.string())).to_pylist())
    return pa.array([" ".join(next(stamps) for _ in uris) for uris in named], pa.string())


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


def _list_bits(lists: pa.Array) -> pa.Array:
    bits = pa.ListArray.from_arrays(lists.offsets, _bits(lists.values))
    return pc.binary_join(bits, ",")


def _lasting(uris: pa.Array) -> pa.Array:
    """URIs without what changes from day to day: signatures in the query of an HTTP address, and passwords."""
    bare = pc.replace_substring_regex(uris, r"\?.*$", "")
    bare = pc.if_else(pc.match_substring_regex(uris, r"^https?://"), bare, uris)
    return pc.replace_substring_regex(bare, r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@", r"\1")
