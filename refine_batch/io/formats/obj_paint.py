"""What an OBJ file and its material library say of its surfaces' colours: `map_Kd` textures and `Kd` colours."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np

from refine_batch.errors import InstanceError
from refine_batch.io.formats.common import MeshFormatError, Sibling, fans
from refine_batch.io.formats.gltf.paint import MAX_TEXTURE_BYTES, GltfPaint
from refine_batch.io.formats.obj import obj_blocks, resolved
from refine_batch.io.formats.text import Block

_LIBRARY = re.compile(rb"(?m)^[ \t]*mtllib[ \t]+([^\r\n]+?)[ \t]*\r?$")
_MAX_LIBRARY_BYTES = 4 << 20
# The usual options of map_Kd, and the most words that follow each.
_OPTION = re.compile(
    r"-(?:blendu|blendv|cc|clamp|bm|boost|texres|imfchan|type)\s+\S+\s+|-(?:mm)\s+\S+\s+\S+\s+"
    r"|-[ost](?:\s+[-+.\deE]+){1,3}\s+"
)


def read_obj_paint(data: bytes, max_faces: int, sibling: Sibling | None) -> GltfPaint | None:
    """Of each face, in the reader's order; None where the file names no material library.

    A library that cannot be had is a texture that cannot be: whoever fetches it is told why.
    """
    libraries = [match.decode("utf-8", "replace") for match in _LIBRARY.findall(data)]
    if not libraries or sibling is None:
        return None
    uv, material, names = _faces(data, max_faces)
    colours, pictures, image = _materials(libraries, names, sibling)
    return GltfPaint(uv, None, material, colours, image, pictures)


def _faces(data: bytes, max_faces: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(F, 3, 2) places in textures, (F,) materials, and the materials' names; the last is that of what names none."""
    places, chosen, counts, used = [np.zeros((0, 2))], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    names: dict[str, int] = {}
    now, seen = -1, 0
    for block in obj_blocks(data):
        is_place, is_face = block.begins_with(b"vt"), block.begins_with(b"f")
        words = is_place[block.row] & (block.place >= 1) & (block.place <= 2)
        flat = is_place & (block.counts < 3)
        if flat.any():  # u alone
            words &= ~flat[block.row]
        places.append(block.numbers(words).reshape(-1, 2))
        chosen.append(_indices(block, is_face, seen + np.cumsum(is_place & ~flat)))
        counts.append(block.counts[is_face] - 1)
        rows = np.flatnonzero(block.begins_with(b"usemtl"))
        of_row = np.full(len(block.first), now, np.int64)
        for row in rows.tolist():
            now = names.setdefault(_rest(block, row), len(names))
            of_row[row:] = now
        used.append(of_row[is_face])
        seen += len(places[-1])
    sizes, table = np.concatenate(counts), np.concatenate(places)
    corners = np.concatenate(chosen)
    triangles = fans(np.arange(len(corners)), sizes, max_faces)
    at = corners[triangles]
    known = (at >= 0) & (at < len(table))
    uv = np.zeros((*at.shape, 2), np.float32)
    uv[known] = table[at[known]]
    uv[..., 1] = 1.0 - uv[..., 1]  # an OBJ's v points up
    of_corner = np.repeat(np.concatenate(used), sizes) if used else np.zeros(0, np.int64)
    material = of_corner[triangles[:, 0]]
    return uv, np.where(material < 0, len(names), material), list(names)


def _indices(block: Block, is_face: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(C,) texture coordinate of each corner, from 0; −1 where it has none."""
    words = is_face[block.row] & (block.place >= 1)
    found = np.full(int(words.sum()), -1, np.int64)
    if len(found):
        where, indices, _ = block.fields(words, 1)
        found[(np.cumsum(words) - 1)[where]] = resolved(block, where, indices, seen, "texture coordinate")
    return found


def _rest(block: Block, row: int) -> str:
    """What stands behind a row's first word."""
    begin = int(block.starts[block.first[row]])
    line = block.text[begin : begin + 4096].tobytes().partition(b"\n")[0]
    return b" ".join(line.split()[1:]).decode("utf-8", "replace")


def _materials(
    libraries: list[str], names: list[str], sibling: Sibling
) -> tuple[np.ndarray, dict[int, Callable[[], bytes]], np.ndarray]:
    """(M, 3) linear colours, the pictures to fetch, and (M,) each material's picture."""
    colours, image = np.ones((len(names) + 1, 3)), np.full(len(names) + 1, -1, np.int64)
    pictures: dict[int, Callable[[], bytes]] = {}
    number: dict[str, int] = {}
    for library in libraries:
        try:
            text = sibling(library, _MAX_LIBRARY_BYTES).decode("utf-8", "replace")
        except (InstanceError, MeshFormatError) as error:
            image[:] = len(pictures)
            pictures[len(pictures)] = partial(_refused, error)
            continue
        for entry in re.split(r"(?m)^\s*newmtl\s+", text)[1:]:
            name = " ".join(entry.partition("\n")[0].split())
            if name not in names:
                continue
            place = names.index(name)
            colour = re.search(r"(?m)^\s*Kd\s+([-+.\deE]+)\s+([-+.\deE]+)\s+([-+.\deE]+)", entry)
            texture = re.search(r"(?m)^\s*map_Kd\s+(.+?)\s*$", entry)
            if texture:
                file = _OPTION.sub("", texture[1] + " ").strip().replace("\\", "/")
                image[place] = number.setdefault(file, len(pictures))
                pictures[int(image[place])] = partial(sibling, file, MAX_TEXTURE_BYTES)
            elif colour:
                colours[place] = np.clip([float(value) for value in colour.groups()], 0.0, 1.0) ** 2.2
    return colours, pictures, image


def _refused(error: Exception) -> bytes:
    raise error
