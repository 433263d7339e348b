"""What every method sees of a batch: its meshes on the device, its views, and silhouettes of moved vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from refine_batch.cameras.camera import Camera, Cameras, project, rays_to
from refine_batch.cameras.moving import MovingCameras
from refine_batch.losses import SymmetryViews
from refine_batch.mesh.batch import MeshBatch
from refine_batch.mesh.plane import SymmetryPlane
from refine_batch.methods.base import PreparedInstance
from refine_batch.methods.hints import Hints
from refine_batch.render import SilhouetteRenderer
from refine_batch.render.warp_rasterise import Shade, rasterise


def lower_size(image_size: int, share: float) -> int:
    """The image size for coarse steps: that share of it, at least 16 pixels."""
    return min(image_size, max(16, int(image_size * share)))


@dataclass(frozen=True)
class Depths:
    """Optical depths: `front` (N, H, H) from the instances' own views, the others (M, H, H) from symmetry views."""

    front: Float[Tensor, "n h h"]
    straight: Float[Tensor, "m h h"]
    mirrored: Float[Tensor, "m h h"]


@dataclass(frozen=True, eq=False)
class Scene:
    """A batch of B instances on a device, seen in N views.

    Attributes
    ----------
    cameras
        Of the N views, as variables; those that are exact stand still.
    mesh_of_view : (N,) int32
        Which instance each view is of, in order.
    mask : (N, H, H) float32
        The share of each pixel that the object covers.
    known : (N, H, H) float32 or None
        The share of each pixel that says anything; None: all do.
    weight : (N,) float32
        How much each view counts.
    planes, normal : (B, 3) float32, offset : (B,) float32, trust : (B,) float32
        Each instance's symmetry plane, and how far it is believed; zeros where there is none.
    ray : (B, V, 3) float32
        Unit vectors to each coarse vertex from the first view's camera, in its place at the start.
    hidden : (B, V) float32
        How little other views and hints tell about what happens along `ray`, from 0 to 1: 1 where there are none.
    hints
        Of the views that have any; None: none has.
    hinted : (B, 2) float32
        How much hints tell, on the whole, of the depth along the rays of the first view, and of where along them each
        point is: from 0 to 1. Normals, and depth up to scale, tell of the first alone.
    """

    batch: MeshBatch
    cameras: MovingCameras
    mesh_of_view: Int32[Tensor, " n"]
    mask: Float[Tensor, "n h h"]
    known: Float[Tensor, "n h h"] | None
    weight: Float[Tensor, " n"]
    planes: tuple[SymmetryPlane | None, ...]
    normal: Float[Tensor, "b 3"]
    offset: Float[Tensor, " b"]
    trust: Float[Tensor, " b"]
    ray: Float[Tensor, "b v 3"]
    hidden: Float[Tensor, "b v"]
    hints: Hints | None
    hinted: Float[Tensor, "b 2"]
    renderer: SilhouetteRenderer

    @classmethod
    def of(cls, instances: Sequence[PreparedInstance], renderer: SilhouetteRenderer, device: torch.device) -> Scene:
        batch = MeshBatch.of([i.mesh for i in instances], device)
        views = [view for i in instances for view in i.views]
        owner = torch.tensor([n for n, i in enumerate(instances) for _ in i.views], dtype=torch.int32)
        all_known = all(view.known is None or view.known.all() for view in views)
        known = None if all_known else torch.from_numpy(np.stack([v.silhouette_known for v in views]))
        planes = tuple(i.plane for i in instances)
        none = SymmetryPlane((0.0, 0.0, 0.0), trust=0.0)
        ray, hidden = _rays(instances, batch)
        cameras = MovingCameras(
            [v.camera for v in views],
            np.array([v.spread for v in views]),
            device,
            np.array([v.pivot for v in views], np.float64),
        )
        mesh_of_view = owner.to(device)
        hints = Hints.of(views, mesh_of_view, batch, cameras.now())
        hinted = torch.zeros((len(batch), 2), device=device)
        if hints is not None:
            hidden, hinted = _told(hints, batch, cameras.now(), [v.camera for v in views], ray, hidden)
        return cls(
            batch=batch,
            cameras=cameras,
            mesh_of_view=mesh_of_view,
            mask=torch.from_numpy(np.stack([v.mask for v in views]).astype(np.float32)).to(device),
            known=None if known is None else known.to(device, torch.float32),
            weight=torch.tensor([v.weight for v in views], dtype=torch.float32, device=device),
            planes=planes,
            normal=torch.tensor([(p or none).normal for p in planes], dtype=torch.float32, device=device),
            offset=torch.tensor([(p or none).offset for p in planes], dtype=torch.float32, device=device),
            trust=torch.tensor([(p or none).trust for p in planes], dtype=torch.float32, device=device),
            ray=ray,
            hidden=hidden,
            hints=hints,
            hinted=hinted,
            renderer=renderer,
        )

    def symmetry_views(self, directions: Sequence[tuple[float, float]]) -> SymmetryViews:
        """Views of every instance that has a symmetry plane from (azimuth, elevation) pairs, degrees."""
        return SymmetryViews.of(self.planes, directions, self.batch.device)

    def mask_at(self, image_size: int) -> Float[Tensor, "n h h"]:
        """The masks at a lower resolution: covered shares in [0, 1], of what is known of each pixel."""
        if image_size == self.mask.shape[-1]:
            return self.mask
        if self.known is None:
            return _reduced(self.mask, image_size)
        return _reduced(self.mask * self.known, image_size) / _reduced(self.known, image_size).clamp_min(1e-6)

    def known_at(self, image_size: int) -> Float[Tensor, "n h h"] | None:
        """Which share of each pixel says anything at a lower resolution."""
        if self.known is None or image_size == self.mask.shape[-1]:
            return self.known
        return _reduced(self.known, image_size)

    def per_instance(
        self, of_view: Float[Tensor, " n"], trust: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, " b"]:
        """The sum over each instance's views of a loss, by their weights and by how far each is trusted."""
        total = torch.zeros(len(self.batch), dtype=of_view.dtype, device=of_view.device)
        weight = self.weight if trust is None else self.weight * trust
        return total.index_add(0, self.mesh_of_view.long(), of_view * weight.to(of_view.dtype))

    def hint_losses(
        self, vertices: Float[Tensor, "b v 3"], cameras: Cameras, trust: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """The disagreement with hints of depth and of normals, summed over the views that have them."""
        none = torch.zeros(len(self.batch), device=vertices.device)
        if self.hints is None:
            return none, none
        owner, weight = self.hints.mesh_of_view.long(), (self.weight * trust)[self.hints.view]
        depth, normals = self.hints.losses(vertices, self.batch, cameras)
        return none.index_add(0, owner, depth * weight), none.index_add(0, owner, normals * weight)

    @property
    def size_unknown(self) -> Float[Tensor, " b"]:
        """1 where a camera may be nearer or farther and no hint tells of depth: there no silhouette tells how large an
        object is. Else 0."""
        free = self.cameras.distance_free.to(torch.float32)
        views = torch.zeros(len(self.batch), device=free.device).index_add(0, self.mesh_of_view.long(), free)
        return ((views > 0) & (self.hinted == 0).all(dim=1)).float()

    def camera_cost(self, change: Float[Tensor, "n 3"]) -> Float[Tensor, " b"]:
        """What the cameras' changes cost each instance, in squared standard deviations."""
        total = torch.zeros(len(self.batch), device=change.device, dtype=change.dtype)
        return total.index_add(0, self.mesh_of_view.long(), self.cameras.cost(change)).float()

    def render(
        self,
        vertices: Float[Tensor, "b v 3"],
        views: SymmetryViews,
        image_size: int,
        sigma: float | Float[Tensor, ""],
        cameras: Cameras,
    ) -> Depths:
        """Soft silhouettes from the instances' `cameras` and from the symmetry views, in one pass."""
        own = vertices if len(self.mesh_of_view) == len(self.batch) else vertices[self.mesh_of_view.long()]
        seen = vertices[views.mesh_of_view.long()]
        points = torch.cat([project(own, cameras), project(seen, views.cameras), project(seen, views.mirrored)])
        mesh_of_view = torch.cat([self.mesh_of_view, views.mesh_of_view, views.mesh_of_view])
        depth = self.renderer(points, self.batch.faces, self.batch.face_count, mesh_of_view, image_size, sigma)
        count = len(views.mesh_of_view)
        return Depths(*depth.split([len(self.mesh_of_view), count, count]))

    def confidence_seen(
        self, vertices: Float[Tensor, "b v 3"], confidence: Float[Tensor, "b v"], views: SymmetryViews, image_size: int
    ) -> tuple[Float[Tensor, "n h h"], Bool[Tensor, "n h h"]]:
        """Per-vertex confidence seen from the mirrored cameras, 1 on the background, and where the object is."""
        points = project(vertices.detach()[views.mesh_of_view.long()], views.mirrored)
        face = rasterise(points, self.batch.faces, self.batch.face_count, views.mesh_of_view, image_size)
        return Shade.apply(confidence, points, self.batch.faces, views.mesh_of_view, face, 1.0), face >= 0


def _reduced(planes: Float[Tensor, "n h h"], image_size: int) -> Float[Tensor, "n h h"]:
    return F.interpolate(planes[:, None], (image_size, image_size), mode="area")[:, 0]


def _rays(
    instances: Sequence[PreparedInstance], batch: MeshBatch
) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, "b v"]]:
    """Rays from the first views, and how little the others see of what happens along them: cos² of the angle between
    their rays and the first's, of the most oblique one."""
    ray = torch.stack([_ray(batch, row, instance.camera) for row, instance in enumerate(instances)])
    hidden = torch.ones(batch.vertex_mask.shape, device=batch.device)
    for row, instance in enumerate(instances):
        for view in instance.views[1:]:
            seen = (1.0 - (_ray(batch, row, view.camera) * ray[row]).sum(dim=-1).square()) * min(1.0, view.weight)
            hidden[row] = torch.minimum(hidden[row], 1.0 - seen)
    return ray, hidden


def _ray(batch: MeshBatch, row: int, camera: Camera) -> Float[Tensor, "v 3"]:
    """Unit vectors along which a camera sees the coarse vertices of an instance."""
    return F.normalize(torch.from_numpy(rays_to(batch.vertices[row].cpu().numpy(), camera)).to(batch.device), dim=-1)


def _told(
    hints: Hints,
    batch: MeshBatch,
    cameras: Cameras,
    eyes: Sequence[Camera],
    ray: Float[Tensor, "b v 3"],
    hidden: Float[Tensor, "b v"],
) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b 2"]]:
    """What is `hidden` once hints are heard, and how much these tell of each instance on the whole: cos² of the angle
    between the first view's rays and those of the view whose hint tells most."""
    told = hints.vertices_told(batch, cameras).float()
    hinted = torch.zeros((len(batch), 2), device=hidden.device)
    kinds = torch.stack([hints.sloped, hints.placed & ~hints.scaling.scale], dim=1).float()
    for row, (view, mesh) in enumerate(zip(hints.view.tolist(), hints.mesh_of_view.tolist(), strict=True)):
        along = (_ray(batch, mesh, eyes[view]) * ray[mesh]).sum(dim=-1).square()
        hidden[mesh] = torch.minimum(hidden[mesh], 1.0 - along * told[row] * hints.placed[row])
        whole = (along * told[row]).sum() / told[row].sum().clamp_min(1.0)
        hinted[mesh] = torch.maximum(hinted[mesh], whole * kinds[row])
    return hidden, hinted
