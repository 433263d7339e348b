"""A compressed document made plain: Draco's primitives and meshopt's views unpacked, their extensions removed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from refine_batch.io.formats.gltf.accessors import layout
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import DRACO, MESHOPT, Document, whole
from refine_batch.io.formats.gltf.draco import unpack
from refine_batch.io.formats.gltf.edits import Edits
from refine_batch.io.formats.gltf.parts import STRIP, TRIANGLES


def uncompressed(document: Document, buffers: Buffers, *, max_faces: int) -> Document:
    """The document itself where nothing in it is compressed."""
    description = document.description
    compressed = [
        primitive
        for mesh in description.get("meshes", [])
        for primitive in mesh["primitives"]
        if DRACO in primitive.get("extensions", {})
    ]
    views = [i for i, v in enumerate(description.get("bufferViews", [])) if _extension(v) is not None]
    if not compressed and not views:
        return document
    edits = Edits(document, buffers)
    for index in {p["extensions"][DRACO]["bufferView"] for p in compressed}:
        edits.free(index)
    for index in views:
        _unpack_view(edits, buffers, index)
    taken: set[int] = set()
    for mesh in edits.description.get("meshes", []):
        for primitive in mesh["primitives"]:
            if DRACO in primitive.get("extensions", {}):
                _unpack_primitive(edits, buffers, primitive, taken, max_faces)
    _drop_placeholders(edits)
    _forget(edits.description, (DRACO, *MESHOPT))
    edits.compact()
    return edits.document()


def _extension(thing: dict[str, Any]) -> str | None:
    return next((name for name in MESHOPT if name in thing.get("extensions", {})), None)


def _unpack_view(edits: Edits, buffers: Buffers, index: int) -> None:
    data, _ = buffers.view(index)
    old = edits.description["bufferViews"][index]
    kept = {key: value for key, value in old.items() if key not in ("buffer", "byteOffset", "byteLength", "extensions")}
    views = edits.description["bufferViews"]
    views[index] = edits.stored(data.tobytes(), **kept)
    others = {key: value for key, value in old["extensions"].items() if key not in MESHOPT}
    if others:
        views[index]["extensions"] = others


def _unpack_primitive(
    edits: Edits, buffers: Buffers, primitive: dict[str, Any], taken: set[int], max_faces: int
) -> None:
    """Each accessor of the primitive gets data; one that another primitive has taken is copied first."""
    unpacked = unpack(buffers, primitive, max_faces=max_faces)
    accessors = edits.description["accessors"]

    def own(index: int) -> int:
        index = edits.new_accessor(accessors[index]) if index in taken else index
        taken.add(index)
        return index

    for semantic, values in unpacked.attributes.items():
        if semantic in primitive["attributes"]:
            index = primitive["attributes"][semantic] = own(whole(primitive["attributes"][semantic]))
            dtype, _ = layout(accessors[index])
            edits.fill(index, values.astype(dtype))
    if "indices" in primitive:
        index = own(whole(primitive["indices"]))
        dtype, _ = layout(accessors[index])
    else:
        index = edits.new_accessor({"type": "SCALAR"})
        dtype = np.dtype("<u4")
    primitive["indices"] = index
    if dtype.itemsize < 4 and unpacked.faces.size and int(unpacked.faces.max()) >= np.iinfo(dtype).max:
        dtype = np.dtype("<u4")
    edits.fill(index, unpacked.faces.reshape(-1, 1).astype(dtype), target=34963)
    if primitive.get("mode", TRIANGLES) == STRIP:
        primitive["mode"] = TRIANGLES
    del primitive["extensions"][DRACO]
    if not primitive["extensions"]:
        del primitive["extensions"]


def _drop_placeholders(edits: Edits) -> None:
    """Buffers that stood for uncompressed data which was not there."""
    kept: list[dict[str, Any]] = []
    numbers: dict[int, int] = {}
    for index, buffer in enumerate(edits.description["buffers"]):
        name = _extension(buffer)
        if name is not None and "uri" not in buffer and index > 0:
            continue
        if name is not None:
            buffer = copy.deepcopy(buffer)
            _forget_extension(buffer, name)
        numbers[index] = len(kept)
        kept.append(buffer)
    for view in edits.description.get("bufferViews", []):
        view["buffer"] = numbers[view["buffer"]]
    edits.renumber(kept, numbers)


def _forget_extension(thing: dict[str, Any], name: str) -> None:
    del thing["extensions"][name]
    if not thing["extensions"]:
        del thing["extensions"]


def _forget(description: dict[str, Any], names: tuple[str, ...]) -> None:
    for key in ("extensionsUsed", "extensionsRequired"):
        if key in description:
            description[key] = [name for name in description[key] if name not in names]
            if not description[key]:
                del description[key]
