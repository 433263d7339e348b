"""Where pixel centres lie in NDC: (1 − (2j + 1)/H, 1 − (2i + 1)/H) for row i and column j of an H×H image."""

import torch
from jaxtyping import Float
from torch import Tensor


def pixel_centres(image_size: int, device: torch.device | str = "cpu", dtype=torch.float32) -> Float[Tensor, "p 2"]:
    """(H², 2) NDC x and y of every pixel centre, row by row."""
    line = 1.0 - (2.0 * torch.arange(image_size, device=device, dtype=dtype) + 1.0) / image_size
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)
