"""All figures of merit of one instance's meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from refine_batch.cameras.camera import Camera
from refine_batch.figures.compare import Comparison, Which, compare
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.instance import Figures
from refine_batch.mesh import Mesh
from refine_batch.render import hard_silhouettes


class Evaluator:
    """The ruler of one instance: its mask and ground truth, held against any number of meshes.

    Parameters
    ----------
    mask : (H, H) bool, or None
        True on the object, at the size at which `iou_2d` is to be measured; None leaves that figure unknown.
    ground_truth
        None leaves the figures that need one unknown. One without any area counts as none.
    samples
        Points per surface for Chamfer distance and F-score.
    seed
        Of every sample drawn.
    which
        `all` figures, `fast`: all but the earth mover's distance, or `none` that needs a ground truth.
    """

    def __init__(
        self,
        mask: np.ndarray | None,
        ground_truth: Mesh | None = None,
        *,
        samples: int = 10_000,
        seed: int = 0,
        which: Which = "all",
        device: torch.device | str = "cpu",
    ):
        self._mask, self._truth = mask, ground_truth
        self._samples, self._seed, self._which, self._device = samples, seed, which, device

    def measure(self, mesh: Mesh, camera: Camera | None) -> Figures:
        """Figures of `mesh`; None for each that cannot be known.

        `camera` is the one the image was taken with; without it `iou_2d` is unknown.
        """
        return self.measure_all([mesh], [camera])[0]

    def measure_all(self, meshes: Sequence[Mesh], cameras: Sequence[Camera | None]) -> list[Figures]:
        """The same of several meshes, before and after, say; what they share is done once."""
        comparison = Comparison(self._truth, meshes, self._seed)
        [found] = compare([comparison], self._which, samples=self._samples, device=self._device)
        seen = zip(found, meshes, cameras, strict=True)
        return [replace(figures, iou_2d=self._iou_2d(mesh, camera)) for figures, mesh, camera in seen]

    def _iou_2d(self, mesh: Mesh, camera: Camera | None) -> float | None:
        if self._mask is None or camera is None:
            return None
        return float(mask_iou(hard_silhouettes(mesh, [camera], self._mask.shape[0], self._device)[0], self._mask))


def measure(
    mesh: Mesh,
    camera: Camera | None,
    mask: np.ndarray | None,
    ground_truth: Mesh | None = None,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> Figures:
    """Figures of one mesh; `Evaluator` where several meshes share mask and ground truth."""
    return Evaluator(mask, ground_truth, samples=samples, seed=seed).measure(mesh, camera)
