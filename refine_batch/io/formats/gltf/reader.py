"""A glTF file's vertices and faces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from refine_batch.io.formats.common import Geometry, MeshFormatError, Sibling
from refine_batch.io.formats.gltf.buffers import Buffers
from refine_batch.io.formats.gltf.document import Document, parse_document
from refine_batch.io.formats.gltf.parts import Scene, read_scene

# Of all that lies beside the file.
MAX_BESIDE = 512 * 1024 * 1024


def read_gltf(data: bytes, max_faces: int, sibling: Sibling | None = None) -> Geometry:
    """The triangles of the default scene, its transforms applied, as `read_scene` orders them.

    A transform that mirrors turns its faces round, so that they still face outwards.
    """
    with well_formed():
        _, _, scene = open_scene(data, max_faces, sibling)
        vertices = np.concatenate([np.zeros((0, 3)), *(part.world() for part in scene.parts)])
        faces = [np.zeros((0, 3), dtype=np.int64), *(f for part in scene.parts for f in part.faces())]
        return Geometry(vertices, np.concatenate(faces), tuple(scene.notes))


def open_scene(data: bytes, max_faces: int, sibling: Sibling | None) -> tuple[Document, Buffers, Scene]:
    """The same in the file's own terms."""
    document = parse_document(data)
    buffers = Buffers(document, sibling, max_bytes=MAX_BESIDE, max_faces=max_faces)
    return document, buffers, read_scene(buffers, max_faces=max_faces)


@contextmanager
def well_formed() -> Iterator[None]:
    """A description in which anything may stand anywhere fails as one that does not hold together."""
    try:
        with np.errstate(all="ignore"):  # what becomes infinite is refused by the caller
            yield
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MeshFormatError(f"its description does not hold together ({type(error).__name__}: {error})") from error
