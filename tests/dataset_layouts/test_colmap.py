"""COLMAP's text and binary files, with cameras by the format's own definition."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from layout_fixtures import drawn, encoded, lopsided, mesh_bytes, photograph, rgba, rotation
from manifest_checks import left_out
from scipy.spatial.transform import Rotation
from view_checks import manifest_rows, view_ious

from refine_batch.errors import UsageError

WIDTH, HEIGHT = 240, 180
CAMERAS = {
    1: (1, "PINHOLE", [250.0, 250.0, 118.0, 95.0]),
    7: (2, "SIMPLE_RADIAL", [260.0, 120.0, 90.0, 1e-5]),
}
NUMBERS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4}


def poses() -> list[tuple[np.ndarray, np.ndarray]]:
    """World to camera, x right, y down, z forward, all about the object."""
    return [(rotation(seed), np.array([0.1, -0.05 * seed, 2.2 + 0.1 * seed])) for seed in range(4)]


def mask_of(pose, model, parameters) -> np.ndarray:
    fx, cx, cy = (parameters[0], *parameters[-2:]) if len(parameters) == 4 and parameters[-1] > 1 else parameters[:3]
    seen = model.vertices @ pose[0].T + pose[1]
    return drawn(
        np.column_stack([fx * seen[:, 0], fx * seen[:, 1]]) / seen[:, 2:] + [cx, cy], model.faces, WIDTH, HEIGHT
    )


def quaternion(matrix: np.ndarray) -> list[float]:
    x, y, z, w = Rotation.from_matrix(matrix).as_quat()
    return [w, x, y, z]


def as_text(images, cameras=CAMERAS) -> dict[str, bytes]:
    lines = ["# Camera list with one line of data per camera:"]
    lines += [f"{key} {name} {WIDTH} {HEIGHT} {' '.join(map(str, p))}" for key, (_, name, p) in cameras.items()]
    listed = ["# Image list with two lines of data per image:"]
    for number, (name, pose, camera) in enumerate(images, 1):
        values = " ".join(map(repr, map(float, [*quaternion(pose[0]), *pose[1]])))
        points = "" if number == 2 else "10.5 20.5 -1 30.0 40.0 17"
        listed += [f"{number} {values} {camera} {name}", points]
    return {"cameras.txt": ("\n".join(lines) + "\n").encode(), "images.txt": ("\n".join(listed) + "\n").encode()}


def as_binary(images, cameras=CAMERAS) -> dict[str, bytes]:
    data = struct.pack("<Q", len(cameras))
    for key, (_, name, parameters) in cameras.items():
        data += struct.pack("<iiQQ", key, NUMBERS[name], WIDTH, HEIGHT) + struct.pack(
            f"<{len(parameters)}d", *parameters
        )
    listed = struct.pack("<Q", len(images))
    for number, (name, pose, camera) in enumerate(images, 1):
        listed += struct.pack("<i7di", number, *quaternion(pose[0]), *pose[1], camera)
        listed += name.encode() + b"\0" + struct.pack("<Q", 2) + struct.pack("<ddq", 1.0, 2.0, -1) * 2
    return {"cameras.bin": data, "images.bin": listed}


def write_object(storage, form, folder="data", sparse="sparse/0", seed=0, *, jpeg=False):
    model = lopsided(seed)
    images = []
    for number, pose in enumerate(poses()):
        camera = 7 if number % 2 else 1
        mask = mask_of(pose, model, CAMERAS[camera][2])
        name = f"side/{number}.{'jpg' if jpeg else 'png'}"
        if jpeg:
            storage.write(f"masks/{name}.png", encoded(mask.astype(np.uint8) * 255, "png"))
        storage.write(
            f"{folder}/images/{name}", encoded(photograph(mask) if jpeg else rgba(mask), "jpg" if jpeg else "png")
        )
        images.append((name, pose, camera))
    for name, data in form(images).items():
        storage.write(f"{folder}/{sparse}/{name}", data)
    storage.write("meshes/thing.ply", mesh_bytes(model.vertices, model.faces, "ply"))
    return images


@pytest.mark.parametrize("form", [as_text, as_binary])
@pytest.mark.parametrize(("sparse", "jpeg"), [("sparse/0", False), ("sparse", True)])
def test_a_reconstruction(storage, build, form, sparse, jpeg):
    write_object(storage, form, sparse=sparse, jpeg=jpeg)
    masks = {"masks": storage.path_of("masks")} if jpeg else {}
    built = build("colmap", meshes=storage.path_of("meshes/thing.ply"), **masks)
    assert (built.rows, dict(built.left_out)) == (1, {})
    [row] = manifest_rows(built, storage)
    ious = view_ious(row, storage)
    assert len(ious) == 4
    assert min(ious) >= 0.97


def test_folders_of_reconstructions(storage, build):
    write_object(storage, as_binary, "data/thing")
    write_object(storage, as_text, "data/other", "sparse")
    storage.write("data/half/sparse/0/cameras.bin", b"")
    built = build("colmap", most_views=2)
    assert left_out(built, storage) == {"half": "camera_missing", "other": "mesh_missing"}
    [row] = manifest_rows(built, storage)
    assert row.instance_id == "thing"
    assert len(view_ious(row, storage)) == 2


@pytest.mark.parametrize("form", [as_text, as_binary])
def test_files_that_are_cut_short(storage, build, form):
    write_object(storage, form, "data/thing")
    suffix = "txt" if form is as_text else "bin"
    path = f"data/thing/sparse/0/images.{suffix}"
    data = storage.read(path)
    cut = data.rindex(b" 7 side/3.png") if form is as_text else data.rindex(b"side/3") + 2
    storage.write(path, data[:cut])
    built = build("colmap")
    assert left_out(built, storage) == {f"thing/images.{suffix}": "cut_short"}
    [row] = manifest_rows(built, storage)
    assert len(view_ious(row, storage)) == 3
    storage.write(f"data/thing/sparse/0/cameras.{suffix}", storage.read(f"data/thing/sparse/0/cameras.{suffix}")[:-9])
    with pytest.raises(UsageError, match="cut_short"):
        build("colmap")


def test_what_is_wrong_with_an_image_costs_the_image(storage, build):
    images = write_object(storage, as_text, "data/thing")
    wild = CAMERAS | {9: (4, "OPENCV", [250.0, 250.0, 120.0, 90.0, 0.3, 0.0, 0.0, 0.0])}
    images += [("gone.png", images[0][1], 1), ("../out.png", images[0][1], 1), ("side/0.png", images[0][1], 33)]
    images += [("side/1.png", images[0][1], 9)]
    for name, data in as_text(images, wild).items():
        storage.write(f"data/thing/sparse/0/{name}", data)
    built = build("colmap")
    assert built.left_out == {"image_missing": 1, "path_unsafe": 1, "camera_missing": 1, "camera_invalid": 1}
    [row] = manifest_rows(built, storage)
    assert len(view_ious(row, storage)) == 4


def test_a_fisheye_is_refused(storage, build):
    write_object(storage, as_text, "data/thing")
    storage.write("data/thing/sparse/0/cameras.txt", b"1 OPENCV_FISHEYE 240 180 250 250 120 90 0 0 0 0\n")
    with pytest.raises(UsageError, match=r"lens distortion|camera_missing"):
        build("colmap")


def test_no_reconstruction(storage, build):
    storage.write("data/readme.txt", b"")
    storage.write("meshes/a.obj", b"")
    with pytest.raises(UsageError, match=r"no cameras\.txt"):
        build("colmap")
