"""The outermost layer: the JSON description, and the binary chunk of a GLB file."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any

from refine_batch.io.formats.common import BYTE_ORDER_MARK, MeshFormatError

MAGIC = b"glTF"
DRACO = "KHR_draco_mesh_compression"
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
QUANTISATION = "KHR_mesh_quantization"
INSTANCING = "EXT_mesh_gpu_instancing"
_UNDERSTOOD = {DRACO, *MESHOPT, QUANTISATION, INSTANCING}
# Extensions about what a surface looks like, lights or metadata: they do not change where it is.
_OF_NO_CONCERN = re.compile(
    r"[A-Z]+_(?:materials?|texture|lights|image|xmp|audio)_?\w*|KHR_animation_pointer|KHR_xmp_json_ld|KHR_techniques_webgl"
)
_MAX_DESCRIPTION = 1 << 26


@dataclass(frozen=True)
class Document:
    """A file's description.

    `binary` is the second chunk of a GLB file, None for JSON alone, `more` are those behind it; `external` are buffers
    that lay beside the file, though they are inside now.
    """

    description: dict[str, Any]
    binary: bytes | None
    more: tuple[tuple[bytes, bytes], ...] = ()
    external: frozenset[int] = frozenset()


def looks_like_gltf(data: bytes) -> bool:
    """Whether the bytes begin as a JSON object does."""
    return data[:64].removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"{"


def parse_document(data: bytes) -> Document:
    """The parts of a GLB or JSON file, refused where it requires an extension that is not understood."""
    if data[:4] == MAGIC:
        text, binary, more = _chunks(data)
    else:
        text, binary, more = data.removeprefix(BYTE_ORDER_MARK), None, ()
    if len(text) > _MAX_DESCRIPTION:
        raise MeshFormatError(f"its JSON has {len(text)} bytes; the limit is {_MAX_DESCRIPTION}")
    try:
        description = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MeshFormatError(f"its JSON cannot be read: {error}") from error
    if not isinstance(description, dict):
        raise MeshFormatError("its JSON is not an object")
    version = description.get("asset", {}).get("version", "2.0")
    if not str(version).startswith("2."):
        raise MeshFormatError(f"it is glTF version {str(version)[:20]!a}; only 2 is supported")
    for name in description.get("extensionsRequired", []):
        if name not in _UNDERSTOOD and not _OF_NO_CONCERN.fullmatch(str(name)):
            raise MeshFormatError(
                f"it requires the extension {str(name)[:60]!a}, which is not understood; write it without"
            )
    return Document(description, binary, more)


def _chunks(data: bytes) -> tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]:
    """The JSON chunk of a GLB file, the binary one, and the others with their kinds."""
    if len(data) < 20:
        raise MeshFormatError("it is cut short: not even its header is whole")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise MeshFormatError(f"it is glTF version {version}; only 2 is supported")
    if length > len(data):
        raise MeshFormatError(f"it is cut short: its header says {length} bytes, {len(data)} are there")
    chunks: dict[bytes, bytes] = {}
    more = []
    at = 12
    while at + 8 <= length:
        size = int.from_bytes(data[at : at + 4], "little")
        if at + 8 + size > length:
            raise MeshFormatError("it is cut short: a chunk reaches past its end")
        kind = data[at + 4 : at + 8]
        if kind in (b"JSON", b"BIN\x00") and kind not in chunks:
            chunks[kind] = data[at + 8 : at + 8 + size]
        else:
            more.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size
    return chunks.get(b"JSON", b""), chunks.get(b"BIN\x00", b""), tuple(more)


def write_document(document: Document) -> bytes:
    """The bytes of a GLB file, or of a JSON one where there is no binary chunk."""
    text = json.dumps(document.description, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    if document.binary is None:
        return text
    pieces = [b""]
    for kind, body in ((b"JSON", text), (b"BIN\x00", document.binary), *document.more):
        if body:
            padding = (b" " if kind == b"JSON" else b"\x00") * (-len(body) % 4)
            pieces += [struct.pack("<I4s", len(body) + len(padding), kind), body, padding]
    pieces[0] = MAGIC + struct.pack("<II", 2, 12 + sum(map(len, pieces)))
    return b"".join(pieces)


def whole(value: Any) -> int:
    """A JSON number that must be a whole one, from 0; Python would let −1 count from the end."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MeshFormatError(f"its description has {str(value)[:40]!a} where a whole number from 0 belongs")
    return value
