"""Bilinear samples of feature maps at points that stay where they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from refine_batch.mesh.sparse import csr_matrix, multiply, transpose


@dataclass(frozen=True, eq=False)
class Sampler:
    """Samples maps of any size at `points` (B, V, 2): NDC, +x left, +y up; beyond a map's border it is zero."""

    points: Float[Tensor, "b v 2"]
    # By a map's height and width: the matrix that samples it, and its transpose.
    _matrices: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b v c"]:
        if maps.device.type != "cpu":
            # grid_sample has +x right and +y down.
            return F.grid_sample(maps, -self.points[:, None], align_corners=False)[:, :, 0].transpose(1, 2)
        batch, channels, *size = maps.shape
        height, width = size
        if (height, width) not in self._matrices:
            matrix = bilinear_matrix(self.points, height, width)
            self._matrices[height, width] = matrix, transpose(matrix)
        matrix, transposed = self._matrices[height, width]
        cells = maps.permute(0, 2, 3, 1).reshape(-1, channels)
        return multiply(matrix, cells, transposed).view(batch, -1, channels)


def bilinear_matrix(points: Float[Tensor, "b v 2"], height: int, width: int) -> Tensor:
    """(B·V, B·height·width) sparse: each point's weights of the four cells around it, in its own instance's map."""
    size = points.new_tensor([width, height])
    # In cells, +x right and +y down, from the centre of the first.
    place = (1 - points) * size / 2 - 0.5
    first = place.floor()
    batch, count = points.shape[:2]
    of_instance = torch.arange(batch, device=points.device)[:, None] * (height * width)
    columns, weights = [], []
    for corner in product((0, 1), (0, 1)):
        cell = first + points.new_tensor(corner)
        inside = ((cell >= 0) & (cell < size)).all(dim=-1)
        weight = (1 - (place - cell).abs()).prod(dim=-1)
        # NaN is no cell, but must stay a NaN of its own instance.
        x, y = cell.nan_to_num().clamp_min(0).minimum(size - 1).long().unbind(dim=-1)
        columns.append((of_instance + y * width + x).flatten())
        weights.append(torch.where(inside | weight.isnan(), weight, 0.0).flatten())
    rows = torch.arange(batch * count, device=points.device).repeat(len(columns))
    return csr_matrix(rows, torch.cat(columns), torch.cat(weights), (batch * count, batch * height * width))
