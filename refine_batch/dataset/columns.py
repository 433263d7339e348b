"""The manifest's columns: their types, what may stand in their place, and how it is brought to them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from refine_batch.dataset.nested import check_list_type, coerce_lists, views_as_text
from refine_batch.errors import UsageError
from refine_batch.io.uri import is_absolute, redact, resolve

CAMERA = ("azimuth", "elevation", "distance")
CAMERA_NUMBERS = (*CAMERA, "fov", "roll", "offset_x", "offset_y")
NUMBERS = (*CAMERA_NUMBERS, "camera_error_degrees", "camera_error_distance", "depth_scale")
LISTS = ("intrinsics", "extrinsics")
URIS = (
    "mesh_uri", "image_uri", "mask_uri", "ground_truth_uri", "ignore_uri", "depth_uri", "normals_uri", "views_uri",
)  # fmt: skip
# Of meshes, whose .gltf files keep their positions in files beside them.
MESHES = ("mesh_uri", "ground_truth_uri")
# In whose place a Parquet file may hold the bytes themselves: `mesh_bytes` for `mesh_uri`, and so on.
BYTES_OF = tuple(name for name in URIS if name != "views_uri")
# Further views, as the JSON text of a list of objects, however the manifest wrote them.
VIEWS = "views"
# What tells a file of results, which has these columns too, from a manifest.
RESULTS_MARK = b"refine_batch.schema_version"
# Text that may be kept as whole numbers.
WHOLE_NUMBERS = ("instance_id", "category")
SYMMETRY_AXES = ("x", "y", "z", "none", "auto")
# The camera's columns may hold nulls but must be there: a manifest whose "azimut" is misspelt must not run as one
# whose cameras are unknown.
REQUIRED = ("instance_id", "mesh_uri", "image_uri", *CAMERA)

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field(n, pa.string(), nullable=n != "instance_id")
        for n in ("instance_id", "mesh_uri", "image_uri", "mask_uri")
    ]
    + [pa.field(n, pa.float64()) for n in CAMERA_NUMBERS]
    + [pa.field(n, pa.string()) for n in ("symmetry_axis", "ground_truth_uri", "category")]
    + [pa.field(n, pa.list_(pa.float64())) for n in LISTS]
    + [pa.field(n, pa.float64()) for n in NUMBERS if n not in CAMERA_NUMBERS]
    + [pa.field(n, pa.string()) for n in ("camera_axes", "ignore_uri", "depth_uri", "depth_kind")]
    + [pa.field(n, pa.string()) for n in ("normals_uri", "normals_axes", VIEWS, "views_uri", "up_axis", "projection")]
)
# Columns that a manifest of the first version did not know. A row that leaves them empty has the fingerprint that it
# had then.
LATER = tuple(MANIFEST_SCHEMA.names[MANIFEST_SCHEMA.names.index("category") + 1 :])


def check_names(names: Sequence[str], where: str) -> None:
    """Raise UsageError unless the required columns are there, each column once."""
    unknown = [n for n in names if n not in MANIFEST_SCHEMA.names]
    required = [n for n in REQUIRED if n not in CAMERA] if "extrinsics" in names else REQUIRED
    missing = [n for n in required if n not in names]
    if missing:
        raise UsageError(f"{where} has no column {missing[0]}{_hint(missing, unknown, names)}")
    repeated = next((n for i, n in enumerate(names) if n in names[:i] and n in MANIFEST_SCHEMA.names), None)
    if repeated:
        raise UsageError(f"{where} has the column {repeated} more than once")


def _hint(missing: Sequence[str], unknown: Sequence[str], names: Sequence[str]) -> str:
    if (bytes_of := missing[0].removesuffix("_uri") + "_bytes") in names and missing[0] in BYTES_OF:
        return f"; {bytes_of} needs Parquet, and a column of bytes there"
    if len(names) == 1 and re.search(r"[;\t|]", names[0]):
        return f", only {names[0]!r}: its fields must be separated by commas"
    by_shape = {re.sub(r"[\W_]", "", n).lower(): n for n in unknown}
    close = difflib.get_close_matches(re.sub(r"[\W_]", "", missing[0]).lower(), by_shape, n=1, cutoff=0.6)
    if close:
        return f"; did you mean its column {by_shape[close[0]]!r}?"
    if missing[0] in CAMERA:
        return " (it may be left empty: such cameras are estimated)"
    return f"; it has {', '.join(map(repr, names))}" if names else ""


def check_type(name: str, dtype: pa.DataType, where: str) -> None:
    """Raise UsageError unless `coerce` could bring a column of this type to the manifest's."""
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    text = pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)
    number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)
    if pa.types.is_null(dtype) or text or (number and name in NUMBERS):
        return
    if name in WHOLE_NUMBERS and pa.types.is_integer(dtype):
        return
    if name in LISTS or name == VIEWS:
        check_list_type(name, dtype, where, views=name == VIEWS)
        return
    wanted = "numbers" if name in NUMBERS else "text"
    why = " (or whole numbers)" if name == "instance_id" and number else ""
    raise UsageError(f"{where}: column {name} must hold {wanted}, not {dtype}{why}")


def coerce(name: str, array: pa.Array, first_row: int, where: str) -> pa.Array:
    """A column brought to its type in MANIFEST_SCHEMA; `first_row` is the number of its first row, for messages."""
    check_type(name, array.type, where)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    _check_text(name, array, first_row, where)
    if name in LISTS:
        return coerce_lists(name, array, first_row, where)
    if name == VIEWS and not _is_text(array.type):
        return views_as_text(array)
    if name not in NUMBERS:
        text = array.cast(pa.string())
        if name == "symmetry_axis":
            plain = pc.utf8_lower(pc.utf8_trim_whitespace(text))
            text = pc.if_else(pc.is_in(plain, pa.array(SYMMETRY_AXES)), plain, text)
        return text if name == "instance_id" else _empty_to_null(text)
    if pa.types.is_null(array.type) or not _is_text(array.type):
        return array.cast(pa.float64(), safe=False)
    return _parse_numbers(name, array.cast(pa.string()), first_row, where)


def whole_number_text(value: object) -> object:
    """A whole number of a JSON file as its decimal text; anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def taken_as_text(name: str, kind: str) -> str:
    """What to say once of a column of whole numbers."""
    return (
        f"column {name} holds {kind}, taken as their decimal text; zeros in front, if there were any, were lost when "
        "the manifest was written"
    )


def _check_text(name: str, array: pa.Array, first_row: int, where: str) -> None:
    """Parquet's text is whatever bytes its writer put there."""
    if _is_text(array.type):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            rows = f"rows {first_row} to {first_row + len(array) - 1}"
            raise UsageError(f"{where}: column {name}, {rows}: there is text that is not UTF-8") from error


def _is_text(dtype: pa.DataType) -> bool:
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)


def _empty_to_null(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), pa.scalar(None, pa.string()), text)


_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"


def _parse_numbers(name: str, text: pa.Array, first_row: int, where: str) -> pa.Array:
    trimmed = _empty_to_null(pc.utf8_trim_whitespace(text))
    valid = pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), True)
    if not pc.all(valid, min_count=0).as_py():
        at = pc.index(valid, False).as_py()
        raise not_a_number(name, first_row + at, text[at].as_py(), where)
    return pc.replace_substring_regex(trimmed, r"^\+", "").cast(pa.float64())


def parse_number(name: str, value: object, row: int, where: str) -> float | None:
    """One JSON value as a number; text is read as `coerce` reads it."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return _parse_numbers(name, pa.array([value], pa.string()), row, where)[0].as_py()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e308 or isinstance(value, float) else math.inf
    raise not_a_number(name, row, value, where)


def not_a_number(name: str, row: int, value: object, where: str) -> UsageError:
    return UsageError(f"{where}: column {name}, row {row}: {redact(repr(value))[:80]} is not a number")


def absolute(uris: pa.Array, folder: str) -> pa.Array:
    """URIs resolved against `folder`; one that means nothing stays as it is, for its row to fail."""
    simple = pc.and_not(pc.match_substring_regex(uris, _PLAIN), pc.match_substring_regex(uris, _DOTS_OR_NUL))
    joined = pc.if_else(
        pc.match_substring_regex(uris, r"^(/|s3://)"),
        uris,
        pc.binary_join_element_wise(folder.rstrip("/"), uris, "/"),
    )
    odd = pc.indices_nonzero(pc.fill_null(pc.invert(simple), False)).to_pylist()
    if not odd:
        return joined
    chosen = joined.to_pylist()
    for i in odd:
        chosen[i] = _resolve_or_keep(folder, uris[i].as_py())
    return pa.array(chosen, pa.string())


# A relative path, an absolute one or an S3 URI whose text needs no change but the folder before it.
_PLAIN = r"^(s3://[^/]+/|/)?[^/]+(/[^/]+)*$"
_DOTS_OR_NUL = r"(^|/)\.\.?(/|$)|\x00"


def _resolve_or_keep(folder: str, uri: str) -> str:
    try:
        return resolve(folder, uri)
    except UsageError:
        return uri if is_absolute(uri) else f"{folder}/{uri}"


# What layouts say of where a row comes from, for people and queries.
OF_LAYOUTS = frozenset({"object", "synset", "model", "view", "image_source"})


def ignored(names: Iterable[str]) -> tuple[str, ...]:
    """Columns that mean nothing here, but for those that a layout wrote for its readers."""
    return tuple(n for n in dict.fromkeys(names) if n not in MANIFEST_SCHEMA.names and n not in OF_LAYOUTS)
