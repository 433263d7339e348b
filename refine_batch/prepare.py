"""From an instance as it came to one at the working resolution, checked."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.instance import Instance
from refine_batch.methods.base import PreparedInstance


def prepare(instance: Instance, image_size: int) -> PreparedInstance:
    """Check `instance` and bring image and mask to `image_size`.

    A non-square image is padded on both sides to a square and never stretched; the camera's field of view spans that
    square.

    Raises
    ------
    InstanceError
        The mesh, the image, the mask or the camera cannot be used.
    """
    name = f"instance {instance.instance_id!r}"
    instance.mesh.check(name)
    if instance.image.ndim != 3 or instance.image.shape[2] != 3:
        raise InstanceError(
            ErrorKind.IMAGE_BROKEN, f"{name}: expected an image of shape (H, W, 3), got {instance.image.shape}"
        )
    if instance.mask.shape != instance.image.shape[:2]:
        raise InstanceError(
            ErrorKind.SIZE_MISMATCH,
            f"{name}: the image is {_size(instance.image)} and its mask {_size(instance.mask)}; they must be alike",
        )
    if not instance.mask.any():
        raise InstanceError(ErrorKind.MASK_EMPTY, f"{name}: the mask is empty: no pixel belongs to the object")
    if instance.camera is None:
        raise InstanceError(ErrorKind.CAMERA_INVALID, f"{name}: no camera is given")
    instance.camera.check(name)
    mask = resize_square(instance.mask[..., None].astype(np.float32), image_size)[..., 0] >= 0.5
    if not mask.any():
        raise InstanceError(
            ErrorKind.MASK_EMPTY, f"{name}: nothing is left of the mask at the working size of {image_size} pixels"
        )
    return PreparedInstance(
        instance_id=instance.instance_id,
        mesh=instance.mesh,
        image=resize_square(instance.image.astype(np.float32) / 255.0, image_size),
        mask=mask,
        camera=instance.camera,
        symmetry_axis=instance.symmetry_axis,
    )


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
    return f"{array.shape[1]}×{array.shape[0]}"
