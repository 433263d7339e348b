"""The edges of a batch of meshes, each with the faces that meet at it: where all topology follows from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of B meshes, and the sides of faces that lie on each.

    Attributes
    ----------
    count : (B,) int32
        Edges of each mesh; none runs from a vertex to itself.
    ends : (B, E, 2) int32
        Both vertices, the smaller one first, sorted; zero where padded.
    first : (B, E + 1) int32
        The sides on edge e are numbers first[e] to first[e + 1] − 1; of a padded edge there are none.
    face : (B, S) int32
        The face whose side it is; those of one edge in order.
    along : (B, S) int32
        +1 where that face passes the edge from the smaller vertex to the larger, else −1.
    """

    count: Int32[Tensor, " b"]
    ends: Int32[Tensor, "b e 2"]
    first: Int32[Tensor, "b e1"]
    face: Int32[Tensor, "b s"]
    along: Int32[Tensor, "b s"]

    @classmethod
    def of(cls, faces: Int32[Tensor, "b f 3"], face_count: Int32[Tensor, " b"]) -> Edges:
        """The edges of each mesh's first `face_count` faces."""
        start, end, face, along = _sides(faces)
        real = (start != end) & (face < face_count[:, None])
        edge, order, bits = _sorted_by_edge(start, end, real)
        sides = real.sum(dim=1, dtype=torch.int32)
        place = torch.arange(edge.shape[1], device=edge.device)
        heads = place < sides[:, None]
        heads[:, 1:] &= edge[:, 1:] != edge[:, :-1]
        count = heads.sum(dim=1, dtype=torch.int32)
        number = heads.cumsum(dim=1, dtype=torch.int32) - 1
        row, column = heads.nonzero().unbind(dim=1)
        of_edge = row, number[row, column].long()
        width = max(1, int(count.max()))
        first = sides[:, None].repeat(1, width + 1)
        first[of_edge] = column.int()
        ends = torch.zeros((len(faces), width, 2), dtype=torch.int32, device=edge.device)
        found = edge[row, column]
        ends[of_edge] = torch.stack([found >> bits, found & ((1 << bits) - 1)], dim=1).int()
        face = face.expand(order.shape).gather(1, order)
        return cls(count=count, ends=ends, first=first, face=face, along=along.gather(1, order))

    @classmethod
    def apart(cls, faces: Int32[Tensor, "b f 3"]) -> Edges:
        """Every side, of padded faces too, as an edge of its own, which takes no sorting."""
        start, end, face, along = _sides(faces)
        size, sides = start.shape
        return cls(
            count=torch.full((size,), sides, dtype=torch.int32, device=faces.device),
            ends=torch.stack([torch.minimum(start, end), torch.maximum(start, end)], dim=2),
            first=torch.arange(sides + 1, dtype=torch.int32, device=faces.device).repeat(size, 1),
            face=face.repeat(size, 1),
            along=along,
        )

    def closed(self) -> Bool[Tensor, " b"]:
        """Whether every edge has exactly two faces, which pass it in opposite directions; False without any edge."""
        two = torch.diff(self.first, dim=1) == 2
        start = self.first[:, :-1].long().clamp(max=self.along.shape[1] - 2)
        opposite = self.along.gather(1, start) == -self.along.gather(1, start + 1)
        beyond = torch.arange(two.shape[1], device=two.device) >= self.count[:, None]
        return (beyond | (two & opposite)).all(dim=1) & (self.count > 0)


def _sides(
    faces: Int32[Tensor, "b f 3"],
) -> tuple[Int32[Tensor, "b s"], Int32[Tensor, "b s"], Int32[Tensor, "1 s"], Int32[Tensor, "b s"]]:
    """Start, end, face and direction of each side, in the order ab, bc, ca."""
    start, end = faces.flatten(1), faces.roll(-1, dims=2).flatten(1)
    face = torch.arange(faces.shape[1], dtype=torch.int32, device=faces.device).repeat_interleave(3)[None]
    return start, end, face, torch.where(start < end, 1, -1).int()


def _sorted_by_edge(
    start: Int32[Tensor, "b s"], end: Int32[Tensor, "b s"], real: Bool[Tensor, "b s"]
) -> tuple[Int64[Tensor, "b s"], Int64[Tensor, "b s"], int]:
    """The sorted edges as smaller·2^bits + larger, those not real last; the order that sorts them, of one edge by
    number; and the bits."""
    bits = max(1, int(torch.maximum(start.max(), end.max())).bit_length()) if start.numel() else 1
    edge = (torch.minimum(start, end).long() << bits) | torch.maximum(start, end)
    side_bits = start.shape[1].bit_length()
    if 2 * bits + side_bits > 62:
        edge, order = torch.where(real, edge, torch.iinfo(torch.int64).max).sort(dim=1, stable=True)
        return edge, order, bits
    # One number for edge and side: to sort plain numbers is several times faster than to find their order.
    packed = torch.where(real, edge, 1 << (2 * bits)) << side_bits
    packed |= torch.arange(start.shape[1], device=start.device)
    packed = torch.from_numpy(np.sort(packed.numpy(), axis=1)) if packed.device.type == "cpu" else packed.sort(dim=1)[0]
    return packed >> side_bits, packed & ((1 << side_bits) - 1), bits
