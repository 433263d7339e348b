"""What a mesh file's surface looks like: base-colour textures and vertex colours, for those who show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from refine_batch.errors import InstanceError
from refine_batch.io.formats.common import MeshFormatError, Sibling
from refine_batch.io.formats.gltf.paint import GltfPaint, read_gltf_paint
from refine_batch.io.formats.obj_paint import read_obj_paint
from refine_batch.io.formats.ply import read_ply_colours
from refine_batch.io.meshes import MAX_FACES, mesh_format, named_errors
from refine_batch.io.pictures import parse_image
from refine_batch.mesh import Mesh


@dataclass(frozen=True, eq=False)
class Paint:
    """The look of a mesh's faces, in the order in which `parse_mesh` gives them; colours are linear, from 0 to 1.

    Attributes
    ----------
    uv : (F, 3, 2) float32
        Of each face's corners; (0, 0) is the upper left of a texture, which repeats.
    colours : (F, 3, 3) float32 or None
        Of each corner, to multiply with; None: white.
    material : (F,) int64
    factors : (M, 3) float64
        Each material's colour, to multiply with.
    texture : (M,) int64
        Each material's texture, −1 for none.
    textures
        (H, W, 3) uint8, sRGB, at their own size.
    problems
        What could not be read, and why.
    """

    uv: np.ndarray
    colours: np.ndarray | None
    material: np.ndarray
    factors: np.ndarray
    texture: np.ndarray
    textures: tuple[np.ndarray, ...]
    problems: tuple[str, ...] = ()

    @property
    def says_something(self) -> bool:
        """Whether it is more than one colour for everything."""
        used = self.factors[np.unique(self.material)]
        return bool(self.textures) or self.colours is not None or len(np.unique(used, axis=0)) > 1

    def of_vertices(self, mesh: Mesh) -> np.ndarray:
        """(V, 3) float32 linear: the colour at each vertex of the mesh it belongs to, white at those of no face.

        Where a seam splits what is on a vertex's faces, it is that of one of them.
        """
        of_corners = self.factors[self.material].astype(np.float32)[:, None, :].repeat(3, axis=1)
        if self.colours is not None:
            of_corners *= self.colours
        for number, picture in enumerate(self.textures):
            on_it = self.texture[self.material] == number
            of_corners[on_it] *= linear(_texels(picture, self.uv[on_it]))
        found = np.ones((len(mesh.vertices), 3), np.float32)
        found[mesh.faces.reshape(-1)] = of_corners.reshape(-1, 3)
        return found


def read_paint(data: bytes, uri: str, mesh: Mesh, *, sibling: Sibling | None = None) -> Paint | None:
    """The paint of a GLB, glTF, OBJ or PLY file whose mesh is `mesh`; None where it has none or is of another format.

    Parameters
    ----------
    data, uri, sibling
        As `parse_mesh` takes them; `sibling` also fetches textures that lie beside the file.

    Raises
    ------
    InstanceError
        MESH_BROKEN: what the file says of it does not hold together. A texture that cannot be read is a problem only.
    """
    with named_errors(uri):
        found: Paint | None = None
        kind = mesh_format(data, uri)
        if kind in ("glb", "gltf"):
            found = _decoded(read_gltf_paint(data, MAX_FACES, sibling), uri)
        elif kind == "obj":
            painted = read_obj_paint(data, MAX_FACES, sibling)
            found = None if painted is None else _decoded(painted, uri)
        elif kind == "ply":
            colours = read_ply_colours(data, MAX_FACES)
            found = None if colours is None else _plain(linear(colours)[mesh.faces])
    if found is not None and len(found.material) != len(mesh.faces):
        return None
    return found if found is not None and (found.says_something or found.problems) else None


def linear(srgb: np.ndarray) -> np.ndarray:
    """float32 from 0 to 1 of sRGB's bytes (IEC 61966-2-1)."""
    return _LINEAR[srgb]


def srgb_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 of linear values from 0 to 1: the inverse of `linear`."""
    clipped = np.clip(np.nan_to_num(values), 0.0, 1.0)
    curve = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.rint(255.0 * curve).astype(np.uint8)


_LEVEL = np.arange(256) / 255.0
_LINEAR = np.where(_LEVEL <= 0.04045, _LEVEL / 12.92, ((_LEVEL + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _texels(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 of (..., 2) places in a picture that repeats; the nearest."""
    height, width = picture.shape[:2]
    at = np.nan_to_num(uv, posinf=0.0, neginf=0.0)
    column, row = ((at[..., i] % 1.0 * n).astype(np.int64).clip(0, n - 1) for i, n in ((0, width), (1, height)))
    return picture[row, column]


def _plain(colours: np.ndarray) -> Paint:
    uv = np.zeros((len(colours), 3, 2), np.float32)
    material = np.zeros(len(colours), np.int64)
    return Paint(uv, colours.astype(np.float32), material, np.ones((1, 3)), np.array([-1]), ())


def _decoded(found: GltfPaint, uri: str) -> Paint:
    """With its textures' pictures, as far as they can be read."""
    textures: list[np.ndarray] = []
    problems: list[str] = []
    place: dict[int, int] = {-1: -1}
    for image in np.unique(found.image[np.unique(found.material)]):
        if image >= 0:
            picture = _picture(found.pictures[int(image)], f"{uri}, texture {image}", problems)
            place[int(image)] = -1 if picture is None else len(textures)
            textures += [] if picture is None else [picture]
    texture = np.array([place.get(int(image), -1) for image in found.image], np.int64)
    return Paint(found.uv, found.colours, found.material, found.factors, texture, tuple(textures), tuple(problems))


def _picture(fetch: Callable[[], bytes], name: str, problems: list[str]) -> np.ndarray | None:
    try:
        return parse_image(fetch(), name)[0]
    except InstanceError as error:
        problems.append(error.message)
    except MeshFormatError as error:
        problems.append(f"{name}: {error}")
    return None
