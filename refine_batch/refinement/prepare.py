"""From an instance as it came to one at the working resolution, checked."""

from __future__ import annotations

from typing import cast, get_args

import numpy as np
import torch
import torch.nn.functional as F

from refine_batch.cameras.camera import Camera
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import CameraSource, Instance
from refine_batch.mesh.plane import SymmetryAxis
from refine_batch.mesh.symmetry import find_symmetry_axis
from refine_batch.methods.base import PreparedInstance
from refine_batch.refinement.camera_correction import correct_camera
from refine_batch.refinement.camera_estimation import estimate_camera


def prepare(
    instance: Instance,
    image_size: int,
    *,
    refine_camera: bool = False,
    symmetry_axis: str = "z",
    device: torch.device | str = "cpu",
) -> PreparedInstance:
    """Check `instance`, bring image and mask to `image_size`, and settle what it leaves open.

    A non-square image is padded on both sides to a square and never stretched; the camera's field of view spans that
    square.

    Parameters
    ----------
    refine_camera
        Correct a given camera where that alone makes the mesh meet the mask.
    symmetry_axis
        Of an instance that does not say its own: x, y, z, none, or auto.
    device
        Where an unknown camera is estimated and a given one corrected.

    Raises
    ------
    InstanceError
        The mesh, the image, the mask, the camera, the symmetry axis or the ground truth cannot be used.
    """
    check(instance)
    name = f"instance {instance.instance_id!r}"
    mask = resize_square(instance.mask[..., None].astype(np.float32), image_size)[..., 0] >= 0.5
    if not mask.any():
        raise InstanceError(
            ErrorKind.MASK_EMPTY, f"{name}: nothing is left of the mask at the working size of {image_size} pixels"
        )
    axis = instance.symmetry_axis or symmetry_axis
    axis = find_symmetry_axis(instance.mesh) if axis == "auto" else cast(SymmetryAxis, axis)
    camera, source = _camera(instance, mask, refine_camera, axis, device)
    return PreparedInstance(
        instance_id=instance.instance_id,
        mesh=instance.mesh,
        image=resize_square(instance.image.astype(np.float32) / 255.0, image_size),
        mask=mask,
        camera=camera,
        symmetry_axis=axis,
        camera_source=source,
    )


def check(instance: Instance) -> None:
    """Raise `InstanceError` unless everything about `instance` can be used."""
    name = f"instance {instance.instance_id!r}"
    instance.mesh.check(name)
    if instance.ground_truth is not None:
        instance.ground_truth.check(f"{name}, ground truth")
    if instance.symmetry_axis not in (None, "auto", *get_args(SymmetryAxis)):
        raise InstanceError(
            ErrorKind.ROW_INVALID,
            f"{name}: the symmetry axis is {instance.symmetry_axis!r}; it must be x, y, z, none or auto",
        )
    if instance.image.ndim != 3 or instance.image.shape[2] != 3 or instance.image.dtype != np.uint8:
        raise InstanceError(
            ErrorKind.IMAGE_BROKEN,
            f"{name}: expected a uint8 image of shape (H, W, 3), got {instance.image.dtype} {instance.image.shape}",
        )
    if instance.mask.shape != instance.image.shape[:2]:
        sizes = f"the image is {_size(instance.image[..., 0])} and its mask {_size(instance.mask)}"
        raise InstanceError(ErrorKind.SIZE_MISMATCH, f"{name}: {sizes}; they must be alike")
    if instance.mask.dtype not in (bool, np.float32):
        raise InstanceError(
            ErrorKind.IMAGE_BROKEN,
            f"{name}: expected a mask of bool (mask > 0, say) or of float32 shares, got {instance.mask.dtype}",
        )
    if not (np.min(instance.mask) >= 0 and np.max(instance.mask) <= 1):
        raise InstanceError(ErrorKind.IMAGE_BROKEN, f"{name}: the mask holds shares that are not between 0 and 1")
    if not instance.mask.any():
        raise InstanceError(ErrorKind.MASK_EMPTY, f"{name}: the mask is empty: no pixel belongs to the object")
    if instance.camera is not None:
        instance.camera.check(name)


def _camera(
    instance: Instance, mask: np.ndarray, correct: bool, axis: SymmetryAxis, device: torch.device | str
) -> tuple[Camera, CameraSource]:
    """The camera to use, and where it is from."""
    if not isinstance(instance.camera, Camera):
        return estimate_camera(instance.mesh, mask, instance.camera, axis, device), "estimated"
    better = correct_camera(instance.mesh, mask, instance.camera, device) if correct else None
    return (instance.camera, "given") if better is None else (better, "corrected")


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, C) float32 padded with zeros to a square, centred, and resampled bilinearly without aliasing to `size`."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, image.shape[2]), np.float32)
    square[top : top + height, left : left + width] = image
    if side == size:
        return square
    planes = torch.from_numpy(square).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).clamp(0.0, 1.0).contiguous().numpy()


def _size(array: np.ndarray) -> str:
    """Width first, as images are spoken of; further dimensions, which a mask should not have, after it."""
    return "×".join(str(n) for n in (*array.shape[1::-1], *array.shape[2:]))
