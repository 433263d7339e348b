"""Ground-truth models, and where the coarse meshes stand in their coordinates."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from refine_batch.cameras.pinhole import Placement
from refine_batch.dataset.layouts.derived import DerivedFiles
from refine_batch.dataset.layouts.entry import LeftOutError, Reason
from refine_batch.dataset.layouts.frames import placement
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.beside import files_beside
from refine_batch.io.meshes import MAX_MESH_BYTES, parse_mesh
from refine_batch.io.storage import FileTooLargeError, Storage, StorageError, fetch
from refine_batch.mesh import Mesh


@dataclass(frozen=True)
class PlacedModel:
    """Where coarse meshes stand in the dataset's coordinates, and the model in theirs, if there is one."""

    placement: Placement
    uri: str | None


class Models:
    """The models of a dataset, each read at most once, and only where its size is needed."""

    def __init__(self, options: LayoutOptions, dataset_frame: str, folder: Storage | None):
        self._frame, self._dataset_frame = options.mesh_frame or "same", dataset_frame
        self._boxed = options.mesh_scale == "unit-box"
        self._folder = folder
        self._files = DerivedFiles(options.manifest_folder, options.written)
        self._lock = threading.Lock()
        self._each: dict[str, tuple[threading.Lock, list[PlacedModel | LeftOutError]]] = {}
        if self._boxed and folder is None:
            raise UsageError("--mesh-scale unit-box needs the models whose size it undoes: give --ground-truth")

    def placed(self, path: str | None) -> PlacedModel:
        """For the model at `path` of the folder, None where there is none.

        Raises
        ------
        LeftOutError
            GROUND_TRUTH_MISSING or GROUND_TRUTH_BROKEN, where the meshes' scale depends on it.
        """
        where = placement(self._frame, self._dataset_frame, None)
        if path is None or self._folder is None:
            if self._boxed:
                raise LeftOutError(Reason.GROUND_TRUTH_MISSING, "the model that tells the mesh's scale is missing")
            return PlacedModel(where, None)
        if where.is_identity and not self._boxed:
            return PlacedModel(where, self._folder.path_of(path))
        with self._lock:
            lock, found = self._each.setdefault(path, (threading.Lock(), []))
        with lock:
            if not found:
                try:
                    found.append(self._moved(path))
                except LeftOutError as error:
                    found.append(error)
            if isinstance(found[0], LeftOutError):
                raise LeftOutError(found[0].reason, found[0].message)
            return found[0]

    def forget(self, path: str) -> None:
        """Let go of a model that no later entry names."""
        with self._lock:
            self._each.pop(path, None)

    def _moved(self, path: str) -> PlacedModel:
        model = self._read(path)
        where = placement(self._frame, self._dataset_frame, model if self._boxed else None)
        return PlacedModel(where, self._files.model(path.rpartition(".")[0], model, where))

    def _read(self, path: str) -> Mesh:
        assert self._folder is not None
        uri = self._folder.path_of(path)
        try:
            data = fetch(uri, s3_endpoint=self._folder.s3_endpoint, max_bytes=MAX_MESH_BYTES)
            return parse_mesh(data, path, sibling=files_beside(uri, s3_endpoint=self._folder.s3_endpoint))
        except FileNotFoundError:
            raise LeftOutError(Reason.GROUND_TRUTH_MISSING, f"there is no model {path}") from None
        except FileTooLargeError as error:
            raise LeftOutError(Reason.GROUND_TRUTH_BROKEN, str(error)) from None
        except StorageError as error:
            raise LeftOutError(Reason.STORAGE, str(error)) from None
        except InstanceError as error:
            raise LeftOutError(Reason.GROUND_TRUTH_BROKEN, error.message) from None
