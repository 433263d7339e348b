"""What papers do to a coarse mesh by hand before it is refined, and how it is undone afterwards.

In order: floating pieces are removed when asked for, a mesh of too many faces is decimated, and the object is
normalised to the unit box when asked for. The first two change the topology, which the result says; the last is undone,
so that refined vertices are in the input's own coordinates whatever was done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from refine_batch.cameras.camera import Camera
from refine_batch.cameras.conversions import from_camera, nearest_camera, to_camera
from refine_batch.cameras.picture import Picture, faced
from refine_batch.cameras.pinhole import Pinhole, Placement
from refine_batch.config import PreparationOptions
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Instance
from refine_batch.mesh import Mesh
from refine_batch.mesh.decimation import compact, decimated


@dataclass(frozen=True, eq=False)
class Preparation:
    """An instance made ready for a method.

    Parameters
    ----------
    working
        The instance to refine.
    coarse
        Its mesh in the input's own coordinates.
    placement
        Where the working coordinates stand in the input's.
    steps
        What was done, by name; empty where nothing was.
    taken, facing
        Where the picture was turned: the cameras of the one that came, padded to a square, and of the working one, both
        about the working mesh.
    """

    working: Instance
    coarse: Mesh
    placement: Placement = field(default_factory=Placement)
    steps: dict[str, Any] = field(default_factory=dict)
    taken: Pinhole | None = None
    facing: Pinhole | None = None

    def restored(self, vertices: np.ndarray) -> np.ndarray:
        """(V, 3) float32 refined vertices of the working mesh in the input's coordinates.

        Displacements are carried back, so that a vertex that was not moved is the input's to the last bit.
        """
        if self.placement.is_identity:
            return np.asarray(vertices, np.float32)
        moved = np.asarray(vertices, np.float64) - self.working.mesh.vertices
        linear = self.placement.scale * (moved @ self.placement.rotation.T)
        return (self.coarse.vertices + linear).astype(np.float32)

    def as_working(self, mesh: Mesh) -> Mesh:
        """A mesh of the input's coordinates in the working ones."""
        if self.placement.is_identity:
            return mesh
        return Mesh(self.placement.inverse().apply(mesh.vertices), mesh.faces)

    def restored_camera(self, camera: Camera) -> Camera:
        """A camera about the working mesh and its picture, as one about the input's.

        Exact for the camera that the instance came with. One that was corrected, or found, for the normalised object
        does not quite look at the input's own origin: of that, the nearest that does.
        """
        if self.placement.is_identity:
            return camera
        seen = from_camera(camera, max(self.working.mask.shape))
        if self.taken is not None and self.facing is not None:
            # From the turned picture back to the one that came.
            turn = self.taken.rotation @ self.facing.rotation.T
            intrinsics = self.taken.intrinsics @ np.linalg.inv(self.facing.intrinsics) @ seen.intrinsics
            seen = Pinhole(
                turn @ seen.rotation, turn @ seen.translation, intrinsics, self.taken.width, self.taken.height
            )
        return nearest_camera(seen.about(self.placement.inverse()))

    def record(self) -> str | None:
        """What was done as JSON, for the result's row; None where nothing was."""
        return json.dumps(self.steps) if self.steps else None


def make_ready(instance: Instance, options: PreparationOptions) -> Preparation:
    """Do what `options` ask for.

    Raises
    ------
    InstanceError
        The mesh cannot be decimated, or the camera cannot be turned to the normalised object.
    """
    mesh, steps = instance.mesh, dict[str, Any]()
    if options.drop_pieces:
        mesh, dropped = without_small_pieces(mesh, options.drop_pieces)
        if dropped:
            steps["pieces_dropped"] = dropped
    if len(mesh.faces) > options.max_faces:
        before = len(mesh.faces)
        mesh = decimated(mesh, options.max_faces)
        steps["decimated_from"] = before
    if mesh is not instance.mesh:
        steps["faces"] = {"input": len(instance.mesh.faces), "here": len(mesh.faces)}
    ready = Preparation(replace(instance, mesh=mesh), mesh, steps=steps)
    return _normalised(ready) if options.normalise else ready


def without_small_pieces(mesh: Mesh, share: float) -> tuple[Mesh, int]:
    """The mesh without the pieces that have less than `share` of its surface, and how many those were.

    Faces belong together where they share a corner's position, whether or not they share its vertex. The largest piece
    always stays. The mesh itself where nothing goes.
    """
    _, position = np.unique(mesh.vertices, axis=0, return_inverse=True)
    corners = position.reshape(-1)[mesh.faces]
    edges = np.concatenate([corners[:, :2], corners[:, 1:]])
    count = int(position.max()) + 1
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count))
    piece = connected_components(graph, directed=False)[1][corners[:, 0]]
    a, b, c = np.moveaxis(mesh.vertices.astype(np.float64)[mesh.faces], 1, 0)
    area = np.bincount(piece, weights=np.linalg.norm(np.cross(b - a, c - a), axis=1))
    small = area < share * area.sum()
    small[area.argmax()] = False
    # Numbers of pieces that no face has belong to unused vertices.
    small &= np.bincount(piece, minlength=len(area)) > 0
    if not small.any():
        return mesh, 0
    return compact(mesh.vertices, mesh.faces[~small[piece]]), int(small.sum())


def _normalised(ready: Preparation) -> Preparation:
    """The object with its box centred on the origin and its largest extent 1, seen by a camera that looks there.

    The camera keeps its place; its picture is turned by the angle between the two origins. The symmetry plane goes
    through the new origin, as it does for everything normalised.
    """
    used = ready.coarse.vertices[np.unique(ready.coarse.faces)].astype(np.float64)
    low, high = used.min(axis=0), used.max(axis=0)
    placement = Placement(scale=float((high - low).max()), translation=(low + high) / 2.0)
    moved = Mesh(placement.inverse().apply(ready.coarse.vertices), ready.coarse.faces)
    working = replace(ready.working, mesh=moved, ground_truth=None)
    steps = ready.steps | {"normalised": {"scale": placement.scale, "centre": placement.translation.tolist()}}
    if not isinstance(working.camera, Camera):
        return Preparation(working, ready.coarse, placement, steps)
    height, width = working.mask.shape
    side = max(height, width)
    taken = from_camera(working.camera, side).about(placement)
    whole = taken.window((side - width) // 2, (side - height) // 2, width, height)
    picture = faced(Picture(working.image, working.mask, whole))
    if not picture.mask.any():
        raise InstanceError(ErrorKind.MASK_EMPTY, "the mask is not in the picture that looks at the normalised mesh")
    working = replace(working, image=picture.rgb, mask=picture.mask, camera=to_camera(picture.pinhole))
    return Preparation(working, ready.coarse, placement, steps, taken, picture.pinhole)
