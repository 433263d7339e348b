"""Buffers and the views into them: inside the file, in a `data:` URI, or in a file beside it; compressed or not."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, MeshTooLargeError, Sibling
from refine_batch.io.formats.gltf.document import MESHOPT, Document, whole

# More than one row of 256 bytes for each of the most vertices would be no mesh.
_MAX_STRIDE = 256


class Buffers:
    """What a document's buffers and views hold, each fetched or decoded once and only when it is asked for."""

    def __init__(self, document: Document, sibling: Sibling | None, *, max_bytes: int, max_faces: int):
        self._document, self._sibling = document, sibling
        self._left = max_bytes  # of files beside this one
        self._max_rows = 3 * max_faces
        self._buffers: dict[int, bytes] = {}
        self._decoded: dict[int, np.ndarray] = {}

    @property
    def description(self) -> dict[str, Any]:
        return self._document.description

    def buffer(self, index: int) -> bytes:
        """A whole buffer; whether it is as long as its views say is for them to check."""
        if index not in self._buffers:
            self._buffers[index] = self._fetched(index, self.description["buffers"][index])
        return self._buffers[index]

    def _fetched(self, index: int, buffer: dict[str, Any]) -> bytes:
        uri = buffer.get("uri")
        if uri is None:
            if index == 0 and self._document.binary is not None:
                return self._document.binary
            raise MeshFormatError(f"buffer {index} has no data")
        if not isinstance(uri, str):
            raise MeshFormatError(f"buffer {index} has a URI that is no text")
        if uri[:5].lower() == "data:":
            return inline(uri, f"buffer {index}")
        if self._sibling is None:
            raise MeshFormatError(
                f"buffer {index} lies in another file, {uri[:80]!a}, and none can be read from here; write it as GLB"
            )
        data = self._sibling(uri, self._left)
        self._left -= len(data)
        return data

    def view(self, index: int) -> tuple[np.ndarray, int | None]:
        """The bytes of a view, (N,) uint8, decompressed where it is compressed; and its stride, if it says one."""
        view = self.description["bufferViews"][index]
        stride = whole(view["byteStride"]) if "byteStride" in view else None
        for name in MESHOPT:
            if name in view.get("extensions", {}):
                if index not in self._decoded:
                    self._decoded[index] = self._meshopt(name, view["extensions"][name])
                return self._decoded[index], stride
        return self._slice(view), stride

    def _slice(self, view: dict[str, Any]) -> np.ndarray:
        buffer = self.buffer(whole(view["buffer"]))
        start, length = whole(view.get("byteOffset", 0)), whole(view["byteLength"])
        if start + length > len(buffer):
            raise MeshFormatError("it is cut short or a buffer view lies outside its data")
        return np.frombuffer(buffer, dtype=np.uint8, count=length, offset=start)

    def _meshopt(self, name: str, packed: dict[str, Any]) -> np.ndarray:
        count, stride, mode = whole(packed["count"]), whole(packed["byteStride"]), str(packed["mode"])
        if count > self._max_rows or stride > _MAX_STRIDE:
            raise MeshTooLargeError(f"it has a buffer of {count} rows of {stride} bytes; the limit is {self._max_rows}")
        try:
            import meshopt
        except ImportError as error:
            raise MeshFormatError(
                f"it is compressed with {name}, which needs the package meshopt: pip install 'refine-batch[meshopt]'"
            ) from error
        if count == 0:
            return np.zeros(0, dtype=np.uint8)
        try:
            rows = meshopt.decode_gltf_buffer(self._slice(packed), count, stride, mode, packed.get("filter"))
        except (ValueError, RuntimeError) as error:
            raise MeshFormatError(f"what is compressed with {name} cannot be decoded: {str(error)[:120]}") from error
        return np.ascontiguousarray(rows).reshape(-1).view(np.uint8)


def inline(uri: str, what: str) -> bytes:
    """The bytes of a `data:` URI in base64; `what` names it in errors."""
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise MeshFormatError(f"the data: URI of {what} is not base64")
    try:
        # Spaces and line ends are allowed in it, percent signs are not base64.
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MeshFormatError(f"the data: URI of {what} cannot be decoded: {error}") from error
