"""3×3 convolutions with a quarter of the multiplications: Winograd's minimal filtering (Lavin and Gray, CVPR 2016).

Filtering is multiplication of polynomials, transposed. Along each axis a tile of 4 outputs comes from 6 inputs and 3
weights, a product of degree 5: evaluate both at 6 points, multiply the values, interpolate. In two dimensions that is
36 products per channel instead of 16 · 9 = 144, and the sums over channels are 36 products of matrices.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Outputs and inputs of a tile along an axis.
OUT, IN = 4, 6
# Beside infinity. Dyadic, and half the rounding error of the usual 0, ±1, ±2.
POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
# Below either, the products of matrices are too small to gain what going to the points and back costs.
MIN_TILES, MIN_CHANNELS = 36, 64


def pays(x: Float[Tensor, "1 i h w"], kernel: Float[Tensor, "o i k k"], stride: int, padding: int) -> bool:
    """Whether `conv2d` can compute this convolution and is faster at it than torch."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or kernel.shape[2:] != (3, 3) or (stride, padding) != (1, 1):
        return False
    tiles = _Tiles.of(x)
    return min(kernel.shape[:2]) >= MIN_CHANNELS and tiles.down * tiles.across >= MIN_TILES


def conv2d(x: Float[Tensor, "1 i h w"], kernel: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "1 o h w"]:
    """`F.conv2d(x, kernel, padding=1)` of one image to float32 rounding, channels-last."""
    return _Conv2d.apply(x, kernel)


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernel):
        points, tiles = _points(), _Tiles.of(x)
        x_values = _both_axes(points.inputs, tiles.inputs(x))
        kernel_values = _both_axes(points.kernel, kernel.permute(2, 3, 0, 1))
        ctx.tiles = tiles
        ctx.save_for_backward(x_values, kernel_values)
        values = _matmul(x_values, kernel_values.transpose(2, 3))
        return tiles.joined(_both_axes(points.outputs.T, values))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """The transpose of each step of `forward`, last to first."""
        points, tiles = _points(), ctx.tiles
        x_values, kernel_values = ctx.saved_tensors
        values = _both_axes(points.outputs, tiles.outputs(gradient))
        of_x = _both_axes(points.inputs.T, _matmul(values, kernel_values))
        of_kernel = _both_axes(points.kernel.T, _matmul(values.transpose(2, 3), x_values))
        return tiles.added(of_x), of_kernel.permute(2, 3, 0, 1)


@dataclass(frozen=True)
class _Points:
    """Matrices that evaluate a tile's inputs, a kernel and the gradients of a tile's outputs at the points."""

    inputs: Float[Tensor, "6 6"]
    kernel: Float[Tensor, "6 3"]
    outputs: Float[Tensor, "6 4"]


@functools.cache
def _points() -> _Points:
    def evaluate(terms: int) -> Tensor:
        """Coefficients of a polynomial to its values at the points and, its last coefficient, at infinity."""
        powers = torch.linalg.vander(torch.tensor(POINTS, dtype=torch.float64), N=terms)
        return torch.cat([powers, torch.eye(terms, dtype=torch.float64)[-1:]])

    interpolate = torch.linalg.inv(evaluate(IN))
    return _Points(interpolate.T.float(), evaluate(3).float(), evaluate(OUT).float())


def _both_axes(matrix: Float[Tensor, "q p"], tiles: Float[Tensor, "p p m n"]) -> Float[Tensor, "q q m n"]:
    """M·t·Mᵀ of every tile t, as two products of matrices."""
    q, p = matrix.shape
    columns = torch.mm(matrix, tiles.reshape(p, -1)).view(q, p, -1)
    return torch.bmm(matrix.expand(q, q, p), columns).view(q, q, *tiles.shape[2:])


def _matmul(x: Float[Tensor, "6 6 m k"], y: Float[Tensor, "6 6 k n"]) -> Float[Tensor, "6 6 m n"]:
    return torch.bmm(x.flatten(0, 1), y.flatten(0, 1)).unflatten(0, (IN, IN))


@dataclass(frozen=True)
class _Tiles:
    """How an image of height × width is cut into down × across tiles, each (rows, columns) of (tiles, channels)."""

    height: int
    width: int
    down: int
    across: int

    @classmethod
    def of(cls, x: Float[Tensor, "1 c h w"]) -> _Tiles:
        height, width = x.shape[2:]
        return cls(height, width, -(-height // OUT), -(-width // OUT))

    def inputs(self, x: Float[Tensor, "1 c h w"]) -> Float[Tensor, "6 6 t c"]:
        """The inputs of each tile; its last two rows and columns are the next tile's first. Zero beyond the image."""
        padded = self._padded(x, 1)
        return padded.unfold(0, IN, OUT).unfold(1, IN, OUT).permute(3, 4, 0, 1, 2).flatten(2, 3)

    def added(self, tiles: Float[Tensor, "6 6 t c"]) -> Float[Tensor, "1 c h w"]:
        """The transpose of `inputs`: the tiles added up where they overlap."""
        placed = tiles.unflatten(2, (self.down, self.across)).permute(2, 0, 3, 1, 4)
        padded = tiles.new_zeros(self.down + 1, OUT, self.across + 1, OUT, tiles.shape[-1])
        for i, j in product((0, 1), (0, 1)):
            part = placed[:, i * OUT : (i + 1) * OUT, :, j * OUT : (j + 1) * OUT]
            padded[i : i + self.down, : part.shape[1], j : j + self.across, : part.shape[3]] += part
        return self._image(padded, 1)

    def outputs(self, x: Float[Tensor, "1 c h w"]) -> Float[Tensor, "4 4 t c"]:
        """The outputs in tiles, zero beyond the image."""
        padded = self._padded(x, 0).unflatten(1, (self.across, OUT)).unflatten(0, (self.down, OUT))
        return padded.permute(1, 3, 0, 2, 4).flatten(2, 3)

    def joined(self, tiles: Float[Tensor, "4 4 t c"]) -> Float[Tensor, "1 c h w"]:
        """The transpose of `outputs`: the tiles side by side."""
        return self._image(tiles.unflatten(2, (self.down, self.across)).permute(2, 0, 3, 1, 4), 0)

    def _padded(self, x: Float[Tensor, "1 c h w"], border: int) -> Float[Tensor, "h2 w2 c"]:
        """Pixels of whole tiles and a border around them."""
        right, below = self.across * OUT - self.width, self.down * OUT - self.height
        return F.pad(x[0].permute(1, 2, 0), (0, 0, border, right + border, border, below + border))

    def _image(self, padded: Float[Tensor, "d 4 a 4 c"], border: int) -> Float[Tensor, "1 c h w"]:
        """The image within a border and what fills the last tiles up, channels-last."""
        pixels = padded.flatten(2, 3).flatten(0, 1)[border : self.height + border, border : self.width + border]
        return pixels.permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
