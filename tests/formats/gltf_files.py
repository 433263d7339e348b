"""glTF files put together array by array, in every way that the specification has of keeping them."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import DracoPy
import meshopt
import numpy as np

COMPONENT = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
KIND = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


class GltfFile:
    """A description that grows, and one buffer."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.description: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "by hand"},
            "scene": 0,
            "scenes": [{"nodes": []}],
            **{key: [] for key in ("nodes", "meshes", "accessors", "bufferViews", "buffers")},
        }
        self.description["buffers"].append({"byteLength": 0})

    def view(self, data: bytes, **properties: Any) -> int:
        self.binary.extend(b"\x00" * (-len(self.binary) % 4))
        view = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **properties}
        self.binary.extend(data)
        self.description["bufferViews"].append(view)
        return len(self.description["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, view: int | None = None, **properties: Any) -> int:
        """Of an array that is put into a view of its own, unless it lies in one already."""
        values = np.ascontiguousarray(values)
        rows = values.reshape(len(values), -1)
        accessor = {
            "bufferView": self.view(values.tobytes()) if view is None else view,
            "componentType": COMPONENT[values.dtype.str[1:]],
            "count": len(values),
            "type": KIND[rows.shape[1]],
            **properties,
        }
        self.description["accessors"].append({k: v for k, v in accessor.items() if v is not None})
        return len(self.description["accessors"]) - 1

    def positions(self, points: np.ndarray, **properties: Any) -> int:
        points = np.asarray(points, dtype="<f4")
        return self.accessor(points, min=points.min(axis=0).tolist(), max=points.max(axis=0).tolist(), **properties)

    def mesh(self, *primitives: dict[str, Any], **properties: Any) -> int:
        self.description["meshes"].append({"primitives": list(primitives), **properties})
        return len(self.description["meshes"]) - 1

    def node(self, *, root: bool = True, **properties: Any) -> int:
        self.description["nodes"].append(properties)
        if root:
            self.description["scenes"][0]["nodes"].append(len(self.description["nodes"]) - 1)
        return len(self.description["nodes"]) - 1

    def require(self, *names: str) -> None:
        for key in ("extensionsUsed", "extensionsRequired"):
            self.description.setdefault(key, []).extend(names)

    def glb(self) -> bytes:
        self.description["buffers"][0]["byteLength"] = len(self.binary)
        text = json.dumps(self.description).encode()
        text += b" " * (-len(text) % 4)
        body = bytes(self.binary) + b"\x00" * (-len(self.binary) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        if body:
            chunks += struct.pack("<I4s", len(body), b"BIN\x00") + body
        return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks

    def gltf(self, uri: str | None = None) -> bytes:
        """As JSON; the buffer at `uri`, or within."""
        inside = "data:application/octet-stream;base64," + base64.b64encode(self.binary).decode()
        self.description["buffers"][0] = {"byteLength": len(self.binary), "uri": uri or inside}
        return json.dumps(self.description).encode()


def draco(file: GltfFile, points: np.ndarray, faces: np.ndarray, **attributes: np.ndarray) -> dict[str, Any]:
    """A primitive compressed with Draco, in the order given and all but without loss."""
    floats = {name: np.asarray(values, np.float64) for name, values in attributes.items()}
    data = DracoPy.encode(
        np.asarray(points, np.float32), faces=np.asarray(faces, np.uint32), quantization_bits=20, preserve_order=True,
        tex_coord=floats.get("TEXCOORD_0"), normals=floats.get("NORMAL"),
    )  # fmt: skip
    kinds = {"POSITION": DracoPy.AttributeType.POSITION, "NORMAL": DracoPy.AttributeType.NORMAL}
    kinds["TEXCOORD_0"] = DracoPy.AttributeType.TEX_COORD
    mesh = DracoPy.decode(data)
    given = {"POSITION": np.asarray(points, "<f4"), **attributes}
    identities = {name: mesh.get_attribute_by_type(kinds[name])["unique_id"] for name in given}
    packed = {"bufferView": file.view(data), "attributes": identities}
    indices = np.asarray(faces, dtype="<u4").reshape(-1)
    primitive = {
        "attributes": {n: file.accessor(v.astype("<f4"), view=-1, bufferView=None) for n, v in given.items()},
        "indices": file.accessor(indices, view=-1, bufferView=None),
        "extensions": {"KHR_draco_mesh_compression": packed},
    }
    if "KHR_draco_mesh_compression" not in file.description.get("extensionsRequired", []):
        file.require("KHR_draco_mesh_compression")
    return primitive


def meshopt_view(file: GltfFile, rows: np.ndarray, mode: str, **properties: Any) -> int:
    """A view compressed with EXT_meshopt_compression, the plain data of which is nowhere."""
    rows = np.ascontiguousarray(rows)
    stride = rows.nbytes // len(rows)
    data = meshopt.encode_gltf_buffer(rows, mode)
    file.binary.extend(b"\x00" * (-len(file.binary) % 4))
    packed = {"buffer": 0, "byteOffset": len(file.binary), "byteLength": len(data), "byteStride": stride}
    packed |= {"mode": mode, "count": len(rows)}
    file.binary.extend(data)
    if len(file.description["buffers"]) == 1:
        file.require("EXT_meshopt_compression")
        file.description["buffers"].append(
            {"byteLength": 0, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}
        )
    fallback = file.description["buffers"][1]
    view = {"buffer": 1, "byteOffset": fallback["byteLength"], "byteLength": rows.nbytes, **properties}
    fallback["byteLength"] += rows.nbytes + -rows.nbytes % 4
    file.description["bufferViews"].append({**view, "extensions": {"EXT_meshopt_compression": packed}})
    return len(file.description["bufferViews"]) - 1
