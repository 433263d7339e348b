"""refine-batch: repair single-view 3D reconstructions at test time, one or a whole dataset.

from refine_batch import Camera, Instance, Mesh, refine

[result] = refine([Instance("chair", Mesh(vertices, faces), image, mask, Camera(30, 20, 1.2))])
result.mesh.vertices, result.before.iou_2d, result.after.iou_2d
"""

from typing import TYPE_CHECKING, Any

from refine_batch.errors import InstanceError, RefineBatchError, UsageError

if TYPE_CHECKING:
    from refine_batch.cameras.camera import Camera, UnknownCamera
    from refine_batch.config import RefineConfig
    from refine_batch.instance import Figures, Instance, RefinedInstance
    from refine_batch.io.write_like import write_like
    from refine_batch.mesh import Mesh
    from refine_batch.refinement.pipeline import refine

__version__ = "0.1.0"

# torch takes seconds to import, pydantic a part of one, and most commands do without: these load on first use.
_LAZY = {
    "Camera": "refine_batch.cameras.camera",
    "Figures": "refine_batch.instance",
    "Instance": "refine_batch.instance",
    "Mesh": "refine_batch.mesh",
    "RefineConfig": "refine_batch.config",
    "RefinedInstance": "refine_batch.instance",
    "UnknownCamera": "refine_batch.cameras.camera",
    "refine": "refine_batch.refinement.pipeline",
    "write_like": "refine_batch.io.write_like",
}

__all__ = [
    "Camera",
    "Figures",
    "Instance",
    "InstanceError",
    "Mesh",
    "RefineBatchError",
    "RefineConfig",
    "RefinedInstance",
    "UnknownCamera",
    "UsageError",
    "refine",
    "write_like",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'refine_batch' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
