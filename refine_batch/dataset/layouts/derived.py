"""Files that a layout has to write, beside the manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from refine_batch.cameras.picture import Picture
from refine_batch.cameras.pinhole import Placement
from refine_batch.dataset.layouts.frames import in_mesh_frame
from refine_batch.dataset.layouts.picture import png_of
from refine_batch.io.meshes import write_mesh
from refine_batch.io.storage import Storage
from refine_batch.mesh import Mesh

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 100


@dataclass(frozen=True)
class DerivedFiles:
    """Writes under `folder` and gives absolute URIs. The same content goes to the same name: repeating is harmless."""

    storage: Storage
    folder: str

    def picture(self, instance_id: str, picture: Picture) -> str:
        """The picture with its mask as alpha, PNG."""
        return self._put(f"images/{file_name(instance_id)}.png", png_of(picture))

    def model(self, name: str, model: Mesh, placed: Placement) -> str:
        """A ground-truth model in the coarse meshes' coordinates, PLY."""
        return self._put(f"ground_truth/{file_name(name)}.ply", write_mesh(in_mesh_frame(model, placed), "ply"))

    def _put(self, path: str, data: bytes) -> str:
        path = f"{self.folder}/{path}"
        self.storage.write(path, data)
        return self.storage.path_of(path)


def file_name(name: str) -> str:
    """A safe file name; where that loses something, with a hash, so that no two names meet."""
    safe = _UNSAFE.sub("_", name).lstrip(".")[:_LONGEST]
    if safe == name and safe:
        return safe
    return f"{safe}-{blake2b(name.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"
