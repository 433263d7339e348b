"""What makes a row's result reusable: a hash of everything it depends on.

A row is refined again when, and only when, its fingerprint changes: when any known column of its manifest row does, one
of its files (told by ETag, else by size and time, else by content), the configuration or the algorithm's version.

A fingerprint has two halves: of what is known without its files, and of their stamps.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.columns import LATER, LISTS, MANIFEST_SCHEMA, MESHES, NUMBERS, URIS, VIEWS
from refine_batch.dataset.hashing import hash_hex
from refine_batch.dataset.stamps import AWAY, InputStamper
from refine_batch.dataset.views import resolve_views, view_uris
from refine_batch.io.beside import buffers_beside, may_keep_buffers_beside
from refine_batch.io.uri import parent

# Raised when what is hashed, or how, changes: every row is then refined again.
_RULE = "2"
_NULL = "~"
HALF = 16
# In the place of the second half, where a file's store did not answer.
UNSEEN = AWAY * 4


def fingerprints(batch: pa.RecordBatch, config_hash: str, stamper: InputStamper) -> pa.StringArray:
    """32 characters per row of a manifest batch: 16 hex digits of every known column and `config_hash`, and 16 of the
    stamps of its files, `UNSEEN` where one of these cannot be had.

    Buffers beside a .gltf file count with it; textures, which change no result, do not. The files of further views
    count like the row's own, those that a JSON file of views names too.
    """
    fields = [_framed(pa.array([text] * batch.num_rows, pa.string())) for text in (_RULE, config_hash)]
    stamps: list[pa.Array] = []
    away = np.zeros(batch.num_rows, bool)
    for name in MANIFEST_SCHEMA.names:
        column = batch.column(name)
        if name in LATER:
            if column.null_count < len(column):
                fields.append(_later(name, column))
                for text in _later_stamps(name, column, stamper):
                    away |= _away(text)
                    stamps.append(_named(name, column, text))
        elif name in NUMBERS:
            fields.append(_framed(_bits(column)))
        elif name in URIS:
            fields.append(_framed(_lasting(column)))
            text = stamper.stamps(column)
            away |= _away(text)
            stamps.append(_framed(text))
            if name in MESHES and (beside := _beside(column, stamper)) is not None:
                away |= _away(beside)
                stamps.append(_named(f"beside {name}", beside, beside))
        else:
            fields.append(_framed(column))
    return pc.binary_join_element_wise(_half(fields), pc.if_else(pa.array(away), UNSEEN, _half(stamps)), "")


def unseen(fingerprints: pa.Array) -> np.ndarray:
    """(N,) bool: where the stamps of a row's files could not be had."""
    return pc.ends_with(fingerprints, UNSEEN).to_numpy(zero_copy_only=False)


def apart_from_files(fingerprints: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The half of each fingerprint that does not depend on what is in the row's files."""
    return pc.utf8_slice_codeunits(fingerprints, 0, HALF)


def _half(texts: list[pa.Array]) -> pa.Array:
    return pc.utf8_slice_codeunits(hash_hex(pc.binary_join_element_wise(*texts, "")), 0, HALF)


def _away(stamps: pa.Array) -> np.ndarray:
    """Where one of the stamps, which spaces part, says so."""
    found = pc.match_substring_regex(stamps, rf"(^| ){AWAY}( |$)")
    return pc.fill_null(found, False).to_numpy(zero_copy_only=False)


def key(instance_id: str, fingerprint: str) -> bytes:
    """16 bytes that stand for one row's work."""
    return blake2b(f"{fingerprint}\x00{instance_id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _later(name: str, column: pa.Array) -> pa.Array:
    """A column that the first manifests did not have, with its name; nothing where a row leaves it empty."""
    if name in LISTS:
        return _named(name, column, _list_bits(column))
    if name in NUMBERS:
        return _named(name, column, _bits(column))
    return _named(name, column, _lasting(column) if name in URIS else column)


def _named(name: str, column: pa.Array, text: pa.Array) -> pa.Array:
    joined = pc.binary_join_element_wise(f"{name}=", _framed(text), "")
    return pc.if_else(column.is_null(), pa.scalar("", pa.string()), joined)


def _later_stamps(name: str, column: pa.Array, stamper: InputStamper) -> list[pa.Array]:
    """Stamps of the files that such a column names."""
    if name == VIEWS:
        return [_view_stamps(column.to_pylist(), stamper)]
    if name == "views_uri":
        return [stamper.stamps(column), _view_stamps(_view_files(column, stamper), stamper)]
    return [stamper.stamps(column)] if name in URIS else []


def _beside(uris: pa.Array, stamper: InputStamper) -> pa.Array | None:
    """Stamps of the buffers beside each .gltf file, null for other files; None where there are none."""
    if not pc.any(pc.ends_with(uris, ".gltf", ignore_case=True)).as_py():
        return None  # at once, as nearly always
    own = [uri if may_keep_buffers_beside(uri) else None for uri in uris.to_pylist()]
    named = [
        buffers_beside(uri, data) if uri and isinstance(data, bytes) else []
        for uri, data in zip(own, stamper.contents(own), strict=True)
    ]
    stamps = iter(stamper.stamps(pa.array([uri for uris in named for uri in uris], pa.string())).to_pylist())
    return pa.array([" ".join(next(stamps) for _ in uris) or None for uris in named], pa.string())


def _view_files(uris: pa.Array, stamper: InputStamper) -> list[str | None]:
    """Text of each JSON file of views, its URIs absolute; None where it cannot be read: its row will say why."""
    found = zip(uris.to_pylist(), stamper.contents(uris.to_pylist()), strict=True)
    return [
        resolve_views(data.decode("utf-8", "replace"), parent(uri)) if isinstance(data, bytes) else data
        for uri, data in found
    ]


def _view_stamps(texts: Sequence[str | None], stamper: InputStamper) -> pa.Array:
    """Stamps of all the files that each row's views name; `AWAY` in the place of a text stays as it is."""
    named = [[] if text is None else view_uris(text) for text in texts]
    stamps = iter(stamper.stamps(pa.array([uri for uris in named for uri in uris], pa.string())).to_pylist())
    joined = [" ".join(next(stamps) for _ in uris) for uris in named]
    return pa.array([AWAY if text == AWAY else stamp for text, stamp in zip(texts, joined, strict=True)], pa.string())


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
