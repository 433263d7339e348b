"""The hints of a batch's views on the device: depth and normals at the pixels where they tell anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from refine_batch.cameras.camera import Camera, Cameras, project, stack_cameras
from refine_batch.losses.hints import (
    DEPTH_SCALE,
    NORMAL_SCALE,
    Scaling,
    Seen,
    depth_hint_loss,
    fitted,
    normal_hint_loss,
    seen_surface,
)
from refine_batch.mesh.batch import MeshBatch
from refine_batch.methods.base import PreparedInstance, View
from refine_batch.render.warp_rasterise import rasterise

# Hints are compared at this share of the picture's side: a surface between its edges is smoother than its outline.
SHARE = 0.5
# Side of the square, in pixels of the whole picture, over which the median is taken of what pixels say.
WINDOW = 5
# A step between neighbouring pixels, beyond what the slope there makes, above this share of the object's range of
# depths is an edge; of which side the hint is there, nobody knows.
EDGE = 0.1
# A hint up to scale and shift is taken to be without a shift where the one that would bring it to the coarse mesh is
# below this share of the depth. A flat or deep mesh asks for such a shift, and depth from the nearest to the farthest
# point of a scene for a larger one.
NO_SHIFT = 0.5
# A vertex farther behind what its pixel sees, in extents, is hidden.
BEHIND = 0.02


@dataclass(frozen=True, eq=False)
class Hints:
    """What is told of K of a batch's views, at P pixels each.

    Attributes
    ----------
    view : (K,) int64
        Which of the scene's views.
    mesh_of_view : (K,) int32
    pixel : (K, P) int64
        Numbers of the pixels of a picture of the side `size`, row by row; what is padded tells nothing.
    place : (K, P, 2) float32
        Where in the picture each hint stands, NDC: the centre of a pixel of the whole picture.
    depth : (K, P) float32
        NaN where nothing is told.
    normals : (K, P, 3) float32
        NaN where nothing is told.
    scaling
        What is not known of the depths.
    """

    size: int
    view: Int64[Tensor, " k"]
    mesh_of_view: Int32[Tensor, " k"]
    pixel: Int64[Tensor, "k p"]
    place: Float[Tensor, "k p 2"]
    depth: Float[Tensor, "k p"]
    normals: Float[Tensor, "k p 3"]
    scaling: Scaling

    @classmethod
    def of(
        cls, views: Sequence[View], mesh_of_view: Int32[Tensor, " n"], batch: MeshBatch, cameras: Cameras
    ) -> Hints | None:
        """Of all views of a batch, N with their cameras; None where there is no hint among them."""
        chosen = [n for n, view in enumerate(views) if view.depth is not None or view.normals is not None]
        if not chosen:
            return None
        full = views[0].mask.shape[-1]
        size = min(full, max(16, int(full * SHARE)))
        told = [_told(views[n], size) for n in chosen]
        count = max(1, max(len(pixel) for pixel, _, _ in told))
        pixels = np.zeros((len(told), count), np.int64)
        depth, normals = (np.full((len(told), count, *more), np.nan, np.float32) for more in ((), (3,)))
        for row, (pixel, own_depth, own_normals) in enumerate(told):
            pixels[row, : len(pixel)] = pixel
            depth[row, : len(pixel)], normals[row, : len(pixel)] = own_depth, own_normals
        kinds = [view.depth.kind if view.depth is not None else "metric" for view in (views[n] for n in chosen)]
        device = batch.device
        relative = torch.tensor([kind != "metric" for kind in kinds], device=device)
        view = torch.tensor(chosen, dtype=torch.int64, device=device)
        hints = cls(
            size=size,
            view=view,
            mesh_of_view=mesh_of_view[view],
            pixel=torch.from_numpy(pixels).to(device),
            place=(1.0 - (2.0 * torch.from_numpy(_lines(pixels, size, full)) + 1.0) / full).float().to(device),
            depth=torch.from_numpy(depth).to(device),
            normals=torch.from_numpy(normals).to(device),
            scaling=Scaling(relative, relative, torch.tensor([kind == "inverse" for kind in kinds], device=device)),
        )
        return hints._without_needless_shifts(batch, cameras)

    @property
    def told(self) -> Bool[Tensor, "k p"]:
        """Which pixels say anything."""
        return self.depth.isfinite() | self.normals.isfinite().all(dim=-1)

    @property
    def placed(self) -> Bool[Tensor, " k"]:
        """Of which views a depth tells what moves along the rays: not of those up to scale and shift."""
        return self.depth.isfinite().any(dim=1) & ~self.scaling.shift

    @property
    def sloped(self) -> Bool[Tensor, " k"]:
        """Of which views a hint tells how deep the object is for its width: of normals, too."""
        return self.placed | self.normals.isfinite().all(dim=-1).any(dim=1)

    def losses(
        self, vertices: Float[Tensor, "b v 3"], batch: MeshBatch, cameras: Cameras
    ) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
        """The disagreement of each hinted view with its depth and with its normals; `cameras` of all N views."""
        seen, _ = self.seen(vertices, batch, cameras)
        return depth_hint_loss(seen, self.depth, self.scaling), normal_hint_loss(seen, self.normals)

    def seen(
        self, vertices: Float[Tensor, "b v 3"], batch: MeshBatch, cameras: Cameras
    ) -> tuple[Seen, Int32[Tensor, "k h h"]]:
        """The surface at the hints' pixels, and the nearest triangle at every pixel."""
        mesh = self.mesh_of_view.long()
        own, eyes = vertices[mesh], cameras[self.view]
        points = project(own.detach(), Cameras(*(t.detach() for t in vars(eyes).values())))
        face = rasterise(points, batch.faces, batch.face_count, self.mesh_of_view, self.size)
        return seen_surface(own, batch.faces[mesh], eyes, face, self.pixel, self.place), face

    def vertices_told(self, batch: MeshBatch, cameras: Cameras) -> Bool[Tensor, "k v"]:
        """Which vertices of the coarse meshes are seen at pixels of which a hint tells anything."""
        mesh = self.mesh_of_view.long()
        own, eyes = batch.vertices[mesh], cameras[self.view]
        _, face = self.seen(batch.vertices, batch, cameras)
        count, side = len(self.view), self.size
        told = torch.zeros((count, side * side), dtype=torch.bool, device=batch.device)
        told.scatter_reduce_(1, self.pixel, self.told, reduce="amax")
        point = project(own, eyes)
        place = ((1.0 - point[..., :2]) * side / 2.0).floor().long()
        inside = ((place >= 0) & (place < side)).all(dim=-1) & batch.vertex_mask[mesh]
        pixel = (place[..., 1] * side + place[..., 0]).clamp(0, side * side - 1)
        there = seen_surface(own, batch.faces[mesh], eyes, face, pixel)
        depth = (own @ eyes.rotation[..., 2:])[..., 0] + eyes.translation[:, 2:]
        behind = there.hit & (depth > there.depth + BEHIND)
        return torch.gather(told, 1, pixel) & inside & ~behind

    def _without_needless_shifts(self, batch: MeshBatch, cameras: Cameras) -> Hints:
        """Depths up to scale and shift that hardly need the shift are up to scale alone."""
        seen, _ = self.seen(batch.vertices, batch, cameras)
        counts = seen.hit & self.depth.isfinite()
        depth = seen.depth.clamp_min(1e-3)
        target = torch.where(self.scaling.inverse[:, None], 1.0 / depth, depth)
        _, shift = fitted(torch.where(counts, self.depth, 0.0), target, counts, self.scaling)
        mean = torch.where(counts, target, 0.0).sum(dim=1) / counts.sum(dim=1).clamp_min(1)
        shifted = self.scaling.shift & (shift.abs() >= NO_SHIFT * mean)
        scaling = Scaling(self.scaling.scale, shifted, self.scaling.inverse)
        return replace(self, scaling=scaling)


def disagreement(
    subject: PreparedInstance, vertices: np.ndarray, cameras: Sequence[Camera]
) -> tuple[float, float] | None:
    """How far an instance's mesh disagrees with its hints before and after its vertices, and its cameras, have moved:
    depth in squared extents and normals in 1 − cosine, each in what it may be. None where there are no hints.
    """
    if not subject.hinted:
        return None
    batch = MeshBatch.of([subject.mesh], "cpu")
    starts = stack_cameras([view.camera for view in subject.views])
    hints = Hints.of(subject.views, torch.zeros(len(subject.views), dtype=torch.int32), batch, starts)
    if hints is None:
        return None
    found = []
    for place, seen_by in ((batch.vertices, starts), (torch.from_numpy(vertices)[None], stack_cameras(list(cameras)))):
        depth, normals = hints.losses(place, batch, seen_by)
        found.append(float((depth / DEPTH_SCALE**2 + normals / NORMAL_SCALE).sum()))
    return found[0], found[1]


def _told(view: View, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (P,) of a picture of the side `size` where a view's hints say anything, the depths (P,), the normals
    (P, 3): medians about each, of what is known and on the object."""
    within = torch.from_numpy(view.covered & view.silhouette_known)
    # An outline's own pixels show what is behind it, too.
    within = -F.max_pool2d(-within[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    full = len(within)
    depth, normals = torch.full((full, full), torch.nan), torch.full((full, full, 3), torch.nan)
    if view.depth is not None:
        values = torch.from_numpy(view.depth.values.astype(np.float32))
        values = torch.where(within & values.isfinite(), values, torch.nan)
        smooth = local_median(values[None])[0]
        inside = smooth[smooth.isfinite()]
        if len(inside):
            low, high = np.quantile(inside.numpy(), [0.02, 0.98])
            depth = torch.where(away_from_edges(smooth[None], EDGE * float(high - low))[0], smooth, torch.nan)
    if view.normals is not None:
        values = torch.from_numpy(view.normals.astype(np.float32)).permute(2, 0, 1)
        values = torch.where(within & values.isfinite().all(dim=0), values, torch.nan)
        smooth = local_median(values).permute(1, 2, 0)
        length = smooth.norm(dim=-1, keepdim=True)
        normals = torch.where(length > 0.1, smooth / length, torch.nan)
    x, y = _lines(np.arange(size * size), size, full).T
    depth, normals = depth[y, x], normals[y, x]
    pixel = (depth.isfinite() | normals.isfinite().all(dim=-1)).nonzero()[:, 0]
    return pixel.numpy(), depth[pixel].numpy(), normals[pixel].numpy()


def _lines(pixel: np.ndarray, size: int, full: int) -> np.ndarray:
    """(..., 2) int64: column and row of the whole picture's pixel at the middle of each numbered one."""
    return ((np.stack([pixel % size, pixel // size], axis=-1) + 0.5) * full / size).astype(np.int64)


def local_median(planes: Float[Tensor, "n h w"], window: int = WINDOW) -> Float[Tensor, "n h w"]:
    """The median about each pixel that is known, NaN elsewhere: noise falls, edges stay.

    Of two opposite neighbours both count or neither, so that a slope stays what it is where one side is not known.
    """
    padded = F.pad(planes[:, None], (window // 2,) * 4, value=torch.nan)
    around = padded.unfold(2, window, 1).unfold(3, window, 1).flatten(-2)[:, 0]
    around = torch.where(around.flip(-1).isfinite(), around, torch.nan)
    return torch.where(planes.isfinite(), around.nanmedian(dim=-1).values, torch.nan)


def away_from_edges(depth: Float[Tensor, "n h w"], step: float) -> Bool[Tensor, "n h w"]:
    """Pixels beside which there is no such step: whose depth is near the middle of any two opposite neighbours', as
    that of a plane is, however steep. NaN is no edge of its own."""
    height, width = depth.shape[1:]
    padded = F.pad(depth, (1, 1, 1, 1), value=torch.nan)
    fine = torch.ones_like(depth, dtype=torch.bool)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        other = padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        # Half of a step is what it is from the line across it.
        fine &= ~(((one + other) / 2.0 - depth).abs() > step / 2.0)
    return fine
