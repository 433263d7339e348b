"""What every method sees of a batch: its meshes on the device, its masks, and silhouettes of moved vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from refine_batch.cameras.camera import Cameras, camera_position, project, stack_cameras
from refine_batch.losses import SymmetryViews
from refine_batch.mesh.batch import MeshBatch
from refine_batch.methods.base import PreparedInstance
from refine_batch.render import SilhouetteRenderer
from refine_batch.render.warp_rasterise import Shade, rasterise

NORMALS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0), "none": (0.0, 0.0, 0.0)}


def lower_size(image_size: int, share: float) -> int:
    """The image size for coarse steps: that share of it, at least 16 pixels."""
    return min(image_size, max(16, int(image_size * share)))


@dataclass(frozen=True)
class Depths:
    """Optical depths: `front` (B, H, H) from the instances' own cameras, the others (N, H, H) from symmetry views."""

    front: Float[Tensor, "b h h"]
    straight: Float[Tensor, "n h h"]
    mirrored: Float[Tensor, "n h h"]


@dataclass(frozen=True, eq=False)
class Scene:
    """A batch of instances on a device.

    Attributes
    ----------
    mask : (B, H, H) float32
        1 on the object.
    normal : (B, 3) float32
        Of each symmetry plane; zero where an instance has none.
    extent : (B,) float32
        Largest extent of each coarse mesh along an axis, object units.
    ray : (B, V, 3) float32
        Unit vectors from the camera to each coarse vertex.
    """

    batch: MeshBatch
    cameras: Cameras
    mask: Float[Tensor, "b h h"]
    normal: Float[Tensor, "b 3"]
    extent: Float[Tensor, " b"]
    ray: Float[Tensor, "b v 3"]
    renderer: SilhouetteRenderer

    @classmethod
    def of(cls, instances: Sequence[PreparedInstance], renderer: SilhouetteRenderer, device: torch.device) -> Scene:
        batch = MeshBatch.of([i.mesh for i in instances], device)
        extent = [max(float(np.ptp(i.mesh.vertices, axis=0).max()), 1e-12) for i in instances]
        eyes = np.stack([camera_position(i.camera) for i in instances]).astype(np.float32)
        return cls(
            batch=batch,
            cameras=stack_cameras([i.camera for i in instances], device),
            mask=torch.from_numpy(np.stack([i.mask for i in instances])).to(device, torch.float32),
            normal=torch.tensor([NORMALS[i.symmetry_axis] for i in instances], device=device),
            extent=torch.tensor(extent, device=device),
            ray=F.normalize(batch.vertices - torch.from_numpy(eyes).to(device)[:, None], dim=-1),
            renderer=renderer,
        )

    def moved(self, displacement: Float[Tensor, "b v 3"]) -> Float[Tensor, "b v 3"]:
        """The coarse vertices moved by a displacement in extents, in object units."""
        return self.batch.vertices + displacement * self.extent[:, None, None]

    def symmetry_views(self, directions: Sequence[tuple[float, float]]) -> SymmetryViews:
        """Views of every instance that has a symmetry plane from (azimuth, elevation) pairs, degrees."""
        return SymmetryViews.of([(x, y, z) for x, y, z in self.normal.tolist()], directions, self.batch.device)

    def mask_at(self, image_size: int) -> Float[Tensor, "b h h"]:
        """The masks at a lower resolution: covered shares in [0, 1]."""
        if image_size == self.mask.shape[-1]:
            return self.mask
        return F.interpolate(self.mask[:, None], (image_size, image_size), mode="area")[:, 0]

    def render(
        self,
        vertices: Float[Tensor, "b v 3"],
        views: SymmetryViews,
        image_size: int,
        sigma: float,
        cameras: Cameras | None = None,
    ) -> Depths:
        """Soft silhouettes from the instances' cameras, or `cameras`, and from the symmetry views, in one pass."""
        cameras = self.cameras if cameras is None else cameras
        own = torch.arange(len(self.batch), dtype=torch.int32, device=vertices.device)
        seen = vertices[views.mesh_of_view.long()]
        points = torch.cat([project(vertices, cameras), project(seen, views.cameras), project(seen, views.mirrored)])
        mesh_of_view = torch.cat([own, views.mesh_of_view, views.mesh_of_view])
        depth = self.renderer(points, self.batch.faces, self.batch.face_count, mesh_of_view, image_size, sigma)
        count = len(views.mesh_of_view)
        return Depths(*depth.split([len(self.batch), count, count]))

    def confidence_seen(
        self, vertices: Float[Tensor, "b v 3"], confidence: Float[Tensor, "b v"], views: SymmetryViews, image_size: int
    ) -> tuple[Float[Tensor, "n h h"], Bool[Tensor, "n h h"]]:
        """Per-vertex confidence seen from the mirrored cameras, 1 on the background, and where the object is."""
        points = project(vertices.detach()[views.mesh_of_view.long()], views.mirrored)
        face = rasterise(points, self.batch.faces, self.batch.face_count, views.mesh_of_view, image_size)
        return Shade.apply(confidence, points, self.batch.faces, views.mesh_of_view, face, 1.0), face >= 0
