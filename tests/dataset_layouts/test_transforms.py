"""transforms.json of NeRF's Blender script and of nerfstudio, with cameras by the format's own definition."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from layout_fixtures import drawn, encoded, lopsided, mesh_bytes, photograph, rgba
from manifest_checks import left_out
from view_checks import manifest_rows, view_ious

from refine_batch.errors import UsageError

WIDTH, HEIGHT = 240, 180
UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # Blender stands a y-up object upright on z


def pose(azimuth: float, elevation: float, distance: float = 2.4, aside=(0.1, -0.05, 0.1)) -> np.ndarray:
    """Camera to world of a z-up world, OpenGL's axes, looking a little past the origin."""
    a, e = math.radians(azimuth), math.radians(elevation)
    place = distance * np.array([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
    backward = place - np.array(aside)
    backward /= np.linalg.norm(backward)
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([right, np.cross(backward, right), backward])
    matrix[:3, 3] = place
    return matrix


def mask_of(matrix: np.ndarray, model, k=(260.0, 260.0, 125.0, 85.0)) -> np.ndarray:
    seen = (model.vertices - matrix[:3, 3]) @ matrix[:3, :3]
    x, y, depth = seen[:, 0], seen[:, 1], -seen[:, 2]
    pixels = np.column_stack([k[2] + k[0] * x / depth, k[3] - k[1] * y / depth])
    return drawn(pixels, model.faces, WIDTH, HEIGHT)


POSES = [pose(a, e) for a, e in ((10, 20), (100, -15), (200, 45), (300, 5))]
INTRINSICS = {"w": WIDTH, "h": HEIGHT, "fl_x": 260.0, "fl_y": 260.0, "cx": 125.0, "cy": 85.0}


def write_object(storage, folder="data", seed=0, *, mesh="meshes/data.obj", top=None, jpeg=False):
    model = lopsided(seed)
    frames = []
    for number, matrix in enumerate(POSES):
        mask = mask_of(matrix, model)
        frame = {"file_path": f"images/{number:03d}.{'jpg' if jpeg else 'png'}", "transform_matrix": matrix.tolist()}
        if jpeg:
            storage.write(f"{folder}/masks/{number:03d}.png", encoded(mask.astype(np.uint8) * 255, "png"))
            storage.write(f"{folder}/{frame['file_path']}", encoded(photograph(mask), "jpg"))
            frame["mask_path"] = f"masks/{number:03d}.png"
        else:
            storage.write(f"{folder}/{frame['file_path']}", encoded(rgba(mask), "png"))
        frames.append(frame)
    document = (INTRINSICS if top is None else top) | {"frames": frames}
    storage.write(f"{folder}/transforms.json", json.dumps(document).encode())
    storage.write(mesh, mesh_bytes(model.vertices, model.faces))
    return document, model


@pytest.mark.parametrize("jpeg", [False, True])
def test_nerfstudio(storage, build, jpeg):
    write_object(storage, jpeg=jpeg)
    built = build("transforms")
    assert (built.rows, dict(built.left_out)) == (1, {})
    [row] = manifest_rows(built, storage)
    ious = view_ious(row, storage)
    assert len(ious) == 4
    assert min(ious) >= 0.97
    assert row.instance_id == "data"


def test_nerfs_blender_script_and_folders_of_objects(storage, build):
    """No suffix, a horizontal angle, several splits; a mesh exported y-up; the ground truth of one."""
    angle = 2 * math.atan(WIDTH / 2 / 260)
    for seed, name in enumerate(("chairs/one", "chairs/two")):
        model = lopsided(seed)
        frames = []
        for number, matrix in enumerate(POSES):
            mask = mask_of(matrix, model, (260.0, 260.0, WIDTH / 2, HEIGHT / 2))
            storage.write(f"data/{name}/train/r_{number}.png", encoded(rgba(mask), "png"))
            frames.append({"file_path": f"./train/r_{number}", "rotation": 0.1, "transform_matrix": matrix.tolist()})
        document = {"camera_angle_x": angle, "frames": frames}
        storage.write(f"data/{name}/transforms_train.json", json.dumps(document).encode())
        storage.write(f"data/{name}/transforms_test.json", b"{}")
        storage.write(f"meshes/{name}/mesh.obj", mesh_bytes(model.vertices @ UP, model.faces))
    storage.write("truth/chairs/one.ply", mesh_bytes(model.vertices, model.faces, "ply"))
    built = build("transforms", mesh_frame="y-up", ground_truth=storage.path_of("truth"), most_views=3)
    assert built.rows == 2
    assert left_out(built, storage) == {"chairs/two": "ground_truth_missing"}
    one, two = manifest_rows(built, storage)
    assert one.ground_truth_uri
    assert not two.ground_truth_uri
    assert [row.category for row in (one, two)] == ["chairs", "chairs"]
    for row in (one, two):
        ious = view_ious(row, storage)
        assert len(ious) == 3
        assert min(ious) >= 0.97
    # Without the turn the mesh lies on its side.
    lying = manifest_rows(build("transforms"), storage)[0]
    assert max(view_ious(lying, storage)) < 0.8


def test_opencv_axes_have_to_be_said(storage, build):
    document, _ = write_object(storage)
    for frame in document["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])).tolist()
    storage.write("data/transforms.json", json.dumps(document).encode())
    [row] = manifest_rows(build("transforms", axes="opencv"), storage)
    assert min(view_ious(row, storage)) >= 0.97


def test_what_is_wrong_with_a_frame_costs_the_frame(storage, build):
    document, _ = write_object(storage)
    frames = document["frames"]
    frames += [
        frames[0] | {"file_path": "images/none.png"},
        frames[0] | {"file_path": "../secret.png"},
        frames[0] | {"file_path": "images/none"},
        frames[0] | {"transform_matrix": np.diag([1.0, 1, -1, 1]).tolist()},
        frames[0] | {"transform_matrix": "eye"},
        frames[0] | {"k1": 0.5},
        frames[0] | {"camera_model": "OPENCV_FISHEYE"},
        frames[0] | {"w": 999},
        {"file_path": "images/000.png"},
        7,
    ]
    storage.write("data/transforms.json", json.dumps(document).encode())
    built = build("transforms")
    [row] = manifest_rows(built, storage)
    assert len(view_ious(row, storage)) == 4
    assert built.left_out == {
        "image_missing": 2,
        "path_unsafe": 1,
        "camera_invalid": 5,
        "camera_missing": 1,
        "entry_broken": 1,
    }
    assert all(name.startswith("data: frame ") for name in left_out(built, storage))


def test_a_file_that_is_cut_short_gives_the_frames_before(storage, build):
    document, _ = write_object(storage)
    text = json.dumps(document)
    storage.write("data/transforms.json", text[: text.rindex('"file_path"')].encode())
    built = build("transforms")
    assert left_out(built, storage) == {"data/transforms.json": "cut_short"}
    [row] = manifest_rows(built, storage)
    ious = view_ious(row, storage)
    assert len(ious) == 3
    assert min(ious) >= 0.97


def test_a_lens_that_hardly_distorts_is_used(storage, build):
    write_object(storage, top=INTRINSICS | {"k1": 1e-4, "camera_model": "OPENCV"})
    [row] = manifest_rows(build("transforms"), storage)
    assert len(view_ious(row, storage)) == 4


def test_smaller_pictures_than_the_file_says(storage, build):
    scaled = {name: 4 * value for name, value in INTRINSICS.items()}
    write_object(storage, top=scaled)
    [row] = manifest_rows(build("transforms"), storage)
    assert min(view_ious(row, storage)) >= 0.97


def test_what_cannot_be_used_at_all(storage, build):
    write_object(storage)
    with pytest.raises(UsageError, match="opengl or opencv"):
        build("transforms", axes="pytorch3d")
    with pytest.raises(UsageError, match="y-up"):
        build("transforms", mesh_frame="shapenet-v1")
    with pytest.raises(UsageError, match="not of transforms"):
        build("transforms", azimuths=(0.0,))
    storage.write("meshes/other.obj", b"")
    storage.delete("meshes/data.obj")
    with pytest.raises(UsageError, match="mesh_missing"):
        build("transforms")
    storage.delete("data/transforms.json")
    with pytest.raises(UsageError, match=r"no transforms\.json"):
        build("transforms")
