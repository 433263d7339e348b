"""The six losses of REFINE (Leung, Ho, Vasconcelos, CVPRW 2022, https://arxiv.org/abs/2108.09911), one per module.

Every loss is unweighted and gives one value per instance. Beside the paper's stand variants that hold a mesh to its
coarse self.
"""

from refine_batch.losses.displacement import area_share, depth_loss, displacement_loss
from refine_batch.losses.image_symmetry import SymmetryViews, image_symmetry_loss, symmetry_directions
from refine_batch.losses.laplacian import laplacian_change_loss, laplacian_loss
from refine_batch.losses.normal_consistency import excess_bend_loss, normal_consistency_loss
from refine_batch.losses.silhouette import silhouette_error, silhouette_loss
from refine_batch.losses.vertex_symmetry import vertex_symmetry_loss

# The order in which every method lists them; the last three are what moving cameras and hints cost.
LOSSES = (
    *("silhouette", "displacement", "laplacian", "normal_consistency", "vertex_symmetry", "image_symmetry"),
    *("camera", "depth", "normals"),
)

__all__ = [
    "LOSSES",
    "SymmetryViews",
    "area_share",
    "depth_loss",
    "displacement_loss",
    "excess_bend_loss",
    "image_symmetry_loss",
    "laplacian_change_loss",
    "laplacian_loss",
    "normal_consistency_loss",
    "silhouette_error",
    "silhouette_loss",
    "symmetry_directions",
    "vertex_symmetry_loss",
]
