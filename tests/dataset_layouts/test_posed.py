"""Meshes in the frame of the camera that took their picture."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from layout_fixtures import encoded, lopsided, mesh_bytes, opencv_mask, photograph, rgba
from manifest_checks import left_out
from view_checks import manifest_rows, view_ious

from refine_batch.errors import UsageError

SIZE = (440, 380)
K = [[420.0, 0, 200], [0, 420.0, 210], [0, 0, 1]]
AXES = {"opencv": (1, 1, 1), "opengl": (1, -1, -1), "pytorch3d": (-1, -1, 1)}


def write_object(storage, axes="opencv", name="mug", *, k=K, jpeg=False):
    """A mesh whose coordinates are the camera's, in the axes of a tool."""
    model = lopsided(3)
    model.apply_translation([0.1, -0.1, 1.7])
    camera = {"R": np.eye(3), "t": np.zeros(3), "K": k, "size": SIZE}
    mask = opencv_mask(camera, model)
    if jpeg:
        storage.write(f"data/masks/{name}.png", encoded(mask.astype(np.uint8) * 255, "png"))
        storage.write(f"data/images/{name}.jpg", encoded(photograph(mask), "jpg"))
    else:
        storage.write(f"data/images/{name}.png", encoded(rgba(mask), "png"))
    storage.write(f"meshes/{name}.obj", mesh_bytes(model.vertices * AXES[axes], model.faces))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(
    "entry", [{"K": K}, {"fx": 420, "fy": 420, "cx": 200, "cy": 210}, [420, 420, 200, 210], {"intrinsics": K}]
)
def test_intrinsics_of_each_picture(storage, build, axes, entry):
    write_object(storage, axes)
    storage.write("k.json", json.dumps({"mug.png": entry}).encode())
    [row] = manifest_rows(build("posed", axes=axes, cameras=storage.path_of("k.json")), storage)
    assert view_ious(row, storage)[0] >= 0.97


def test_a_field_of_view_or_a_focal_length_for_all(storage, build):
    centred = [[420.0, 0, 220], [0, 420.0, 190], [0, 0, 1]]
    write_object(storage, "opengl", k=centred, jpeg=True)
    fov = math.degrees(2 * math.atan(220 / 420))
    masks = storage.path_of("data/masks")
    [row] = manifest_rows(build("posed", axes="opengl", fov=fov, masks=masks), storage)
    assert view_ious(row, storage)[0] >= 0.97
    storage.write("k.json", b'{"mug": {"focal_length": 420}}')
    [row] = manifest_rows(build("posed", axes="opengl", cameras=storage.path_of("k.json"), masks=masks), storage)
    assert view_ious(row, storage)[0] >= 0.97


def test_the_axes_have_to_be_said(storage, build):
    write_object(storage)
    with pytest.raises(UsageError, match="needs --axes opencv, opengl, pytorch3d"):
        build("posed", fov=60.0)
    with pytest.raises(UsageError, match=r"--cameras .* or --fov"):
        build("posed", axes="opencv")


def test_what_is_wrong_is_named(storage, build):
    for name in ("mug", "shares", "none", "words", "short", "no-mesh"):
        write_object(storage, name=name)
    storage.delete("meshes/no-mesh.obj")
    entries = {
        "mug": {"K": K},
        "shares": [0.95, 1.3, 0.45, 0.56],
        "words": {"K": "eye"},
        "short": {"fx": 210},
        "no-mesh": {"K": K},
    }
    storage.write("k.json", json.dumps(entries).encode())
    built = build("posed", axes="opencv", cameras=storage.path_of("k.json"))
    assert built.rows == 1
    assert left_out(built, storage) == {
        "shares": "camera_invalid",
        "none": "camera_missing",
        "words": "camera_invalid",
        "short": "camera_missing",
        "no-mesh": "mesh_missing",
    }
