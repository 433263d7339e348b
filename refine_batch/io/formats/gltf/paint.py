"""What a glTF file says of its surfaces' colours: base-colour textures, factors, vertex colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from refine_batch.io.formats.common import MeshFormatError, Sibling
from refine_batch.io.formats.gltf.accessors import accessor_array, decoded
from refine_batch.io.formats.gltf.buffers import Buffers, inline
from refine_batch.io.formats.gltf.document import DRACO, whole
from refine_batch.io.formats.gltf.draco import unpack
from refine_batch.io.formats.gltf.reader import open_scene, well_formed

# Of one texture's file.
MAX_TEXTURE_BYTES = 64 * 1024 * 1024
_SPECULAR = "KHR_materials_pbrSpecularGlossiness"
_TRANSFORM = "KHR_texture_transform"
_WEBP = "EXT_texture_webp"


@dataclass(frozen=True, eq=False)
class GltfPaint:
    """Of each face, in the reader's order; `image` (M,) is a material's picture, −1 for none, fetched when asked for.

    `uv` (F, 3, 2) and `colours` (F, 3, 3, linear; None where no primitive has any) are float32, `factors` (M, 3)
    float64, `material` (F,) int64; the last material is that of what names none.
    """

    uv: np.ndarray
    colours: np.ndarray | None
    material: np.ndarray
    factors: np.ndarray
    image: np.ndarray
    pictures: dict[int, Callable[[], bytes]]


@dataclass(frozen=True)
class _Material:
    factor: tuple[float, ...]
    image: int
    coordinates: str  # the attribute that holds its UVs
    transform: dict[str, Any]


def read_gltf_paint(data: bytes, max_faces: int, sibling: Sibling | None = None) -> GltfPaint:
    """Raises what `read_gltf` raises."""
    with well_formed():
        _, buffers, scene = open_scene(data, max_faces, sibling)
        description = buffers.description
        materials = [_material(description, m) for m in description.get("materials", [])]
        materials.append(_Material((1.0, 1.0, 1.0), -1, "", {}))
        uvs, colours, numbers = [np.zeros((0, 3, 2), np.float32)], [np.zeros((0, 3, 3), np.float32)], [np.zeros(0, int)]
        coloured = False
        for part in scene.parts:
            primitives = description["meshes"][part.placement.mesh]["primitives"]
            for number, faces in zip(part.surface.primitives, part.faces(), strict=True):
                local, primitive = faces - part.start, primitives[number]
                chosen = whole(primitive.get("material", len(materials) - 1))
                values = _Attributes(buffers, primitive, len(part.surface.points), max_faces)
                uvs.append(_placed(values.of(materials[chosen].coordinates, 2), materials[chosen].transform)[local])
                found = values.of("COLOR_0", 3)
                coloured |= "COLOR_0" in values
                colours.append((found if "COLOR_0" in values else np.ones_like(found))[local])
                numbers.append(np.full(len(local), chosen))
        return GltfPaint(
            np.concatenate(uvs),
            np.concatenate(colours) if coloured else None,
            np.concatenate(numbers).astype(np.int64),
            np.array([m.factor for m in materials], np.float64),
            np.array([m.image for m in materials], np.int64),
            {m.image: partial(_picture, buffers, m.image, sibling) for m in materials if m.image >= 0},
        )


class _Attributes:
    """Values at a primitive's vertices; zeros where it has none."""

    def __init__(self, buffers: Buffers, primitive: dict[str, Any], count: int, max_faces: int):
        self._buffers, self._count, self._limit = buffers, count, 3 * max_faces
        self._named = primitive["attributes"]
        self._unpacked: dict[str, np.ndarray] = {}
        if DRACO in primitive.get("extensions", {}) and len(self._named) > 1:
            self._unpacked = unpack(buffers, primitive, max_faces=max_faces).attributes

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def of(self, name: str, width: int) -> np.ndarray:
        """(V, width) float32."""
        if name not in self._named:
            return np.zeros((self._count, width), np.float32)
        index = whole(self._named[name])
        packed = self._unpacked.get(name)
        stored = accessor_array(self._buffers, index, limit=self._limit) if packed is None else packed
        values = decoded(stored, self._buffers.description["accessors"][index])
        if len(values) != self._count or values.shape[1] < width:
            raise MeshFormatError(f"its {name} is of {values.shape} values for {self._count} vertices")
        return values[:, :width].astype(np.float32)


def _material(description: dict[str, Any], material: dict[str, Any]) -> _Material:
    physical = material.get("pbrMetallicRoughness", {})
    factor, reference = physical.get("baseColorFactor"), physical.get("baseColorTexture")
    glossy = material.get("extensions", {}).get(_SPECULAR)
    if glossy is not None:
        factor, reference = glossy.get("diffuseFactor", factor), glossy.get("diffuseTexture", reference)
    colour = tuple(float(value) for value in (factor or (1.0, 1.0, 1.0))[:3])
    if len(colour) != 3 or not np.isfinite(colour).all():
        raise MeshFormatError("a material's colour is not three numbers")
    if reference is None:
        return _Material(colour, -1, "", {})
    transform = reference.get("extensions", {}).get(_TRANSFORM, {})
    coordinates = f"TEXCOORD_{whole(transform.get('texCoord', reference.get('texCoord', 0)))}"
    texture = description["textures"][whole(reference["index"])]
    # Its `source` is then for those who do not know the extension.
    image = texture.get("extensions", {}).get(_WEBP, {}).get("source", texture.get("source"))
    if image is None:
        return _Material(colour, -1, "", {})
    return _Material(colour, whole(image), coordinates, transform)


def _placed(uv: np.ndarray, transform: dict[str, Any]) -> np.ndarray:
    """KHR_texture_transform: scaled, turned (against the clock as v points down), moved."""
    if not transform:
        return uv
    turn = float(transform.get("rotation", 0.0))
    scale, offset = (np.array(transform.get(k, d), np.float64) for k, d in (("scale", (1, 1)), ("offset", (0, 0))))
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return (uv * scale @ rotation.T + offset).astype(np.float32)


def _picture(buffers: Buffers, index: int, sibling: Sibling | None) -> bytes:
    with well_formed():
        image = buffers.description["images"][index]
        if "bufferView" in image:
            return buffers.view(whole(image["bufferView"]))[0].tobytes()
        uri = str(image["uri"])
        if uri[:5].lower() == "data:":
            return inline(uri, f"image {index}")
    if sibling is None:
        raise MeshFormatError("it lies in another file, and none can be read from here")
    return sibling(uri, MAX_TEXTURE_BYTES)
