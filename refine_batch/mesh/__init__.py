"""Triangle meshes: one on its own, its topology, and a ragged batch of them on a device."""

from refine_batch.mesh.mesh import Mesh

__all__ = ["Mesh"]
