"""All figures of merit of one mesh, with what is shared between measurements computed once."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from refine_batch.cameras.camera import Camera
from refine_batch.figures import emd as earth_mover
from refine_batch.figures.chamfer import chamfer_l2
from refine_batch.figures.f_score import f_score
from refine_batch.figures.iou_2d import mask_iou
from refine_batch.figures.iou_3d import iou_3d, solid
from refine_batch.figures.iou_multiview import IMAGE_SIZE, iou_multiview, ring_of_views
from refine_batch.instance import Figures
from refine_batch.mesh import Mesh
from refine_batch.mesh.sampling import has_area, sample_surface, scale_to_extent
from refine_batch.render import hard_silhouettes


class Evaluator:
    """The ruler of one instance: its mask and ground truth, prepared once and held against any number of meshes.

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
    """

    def __init__(
        self, mask: np.ndarray | None, ground_truth: Mesh | None = None, *, samples: int = 10_000, seed: int = 0
    ):
        self._mask = mask
        self._samples, self._seed = samples, seed
        self._truth = ground_truth if ground_truth is not None and has_area(ground_truth) else None
        if self._truth is not None:
            self._cloud = self._sample(self._truth, 0)
            self._tree = cKDTree(self._cloud)
            self._solid = solid(self._truth)
            self._views = ring_of_views(self._truth)
            self._silhouettes = hard_silhouettes(self._truth, self._views, IMAGE_SIZE)

    def measure(self, mesh: Mesh, camera: Camera | None) -> Figures:
        """Figures of `mesh`; None for each that cannot be known.

        `camera` is the one the image was taken with; without it `iou_2d` is unknown.
        """
        iou = None
        if self._mask is not None and camera is not None:
            iou = float(mask_iou(hard_silhouettes(mesh, [camera], self._mask.shape[0])[0], self._mask))
        if self._truth is None or not has_area(mesh):
            return Figures(iou_2d=iou)
        cloud = self._sample(mesh, 1)
        there = self._tree.query(cloud)[0]
        back = cKDTree(cloud).query(self._cloud)[0]
        some = min(earth_mover.SAMPLES, self._samples)
        return Figures(
            iou_2d=iou,
            chamfer_l2=chamfer_l2(there, back),
            f_score=f_score(there, back),
            emd=earth_mover.emd(cloud[:some], self._cloud[:some]),
            iou_3d=self._iou_3d(mesh),
            iou_multiview=iou_multiview(self._silhouettes, mesh, self._views),
        )

    def _iou_3d(self, mesh: Mesh) -> float | None:
        volume = solid(mesh) if self._solid is not None else None
        return iou_3d(volume, self._solid, self._seed) if volume is not None and self._solid is not None else None

    def _sample(self, mesh: Mesh, stream: int) -> np.ndarray:
        # The two clouds are drawn independently: with one seed a mesh measured against itself would be too good.
        seed = int(np.random.SeedSequence([self._seed, stream]).generate_state(1, np.uint64)[0])
        return scale_to_extent(sample_surface(mesh, self._samples, seed))


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
