"""Folders of meshes and images, with cameras in every format and convention."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import trimesh
from layout_fixtures import (
    encoded,
    look_at_mask,
    lopsided,
    mesh_bytes,
    opencv_mask,
    photograph,
    rgba,
    rotation,
)
from manifest_checks import instances, left_out, rows_of, silhouette_iou
from view_checks import manifest_rows

from refine_batch.dataset.layouts.entry import Reason
from refine_batch.dataset.load import load_instance
from refine_batch.errors import InstanceError, UsageError

CAMERAS = {
    "0146": {"azimuth": 69.0, "elevation": 22.0, "distance": 1.6},
    "ü b": {"azimuth": -140.0, "elevation": -35.0, "distance": 2.1, "fov": 45.0, "roll": 25.0, "offset_x": 0.2},
    "3d.odds": {"azimuth": 300.0, "elevation": 80.0, "distance": 1.5, "roll": -100.0, "offset_y": -0.15},
}
NAMES = ("azimuth", "elevation", "distance", "fov", "roll", "offset_x", "offset_y")


def as_csv(cameras) -> bytes:
    lines = [",".join(["stem", *NAMES])]
    lines += [",".join([stem, *(str(camera.get(name, "")) for name in NAMES)]) for stem, camera in cameras.items()]
    return "\n".join(lines).encode()


def as_npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def write_objects(storage, cameras=CAMERAS):
    for number, (stem, camera) in enumerate(cameras.items()):
        model = lopsided(number)
        storage.write(f"meshes/{stem}.obj", mesh_bytes(model.vertices, model.faces))
        storage.write(f"truth/{stem}.ply", mesh_bytes(model.vertices, model.faces, "ply"))
        storage.write(f"data/images/{stem}.png", encoded(rgba(look_at_mask(camera, model)), "png"))


@pytest.mark.parametrize("file_format", ["csv", "json", "list", "npz arrays", "npz columns"])
def test_rendered_meshes_meet_the_masks_whatever_holds_the_cameras(storage, build, file_format):
    write_objects(storage)
    full = {stem: [camera.get(n, {"fov": 60.0}.get(n, 0.0)) for n in NAMES] for stem, camera in CAMERAS.items()}
    data = {
        "csv": as_csv(CAMERAS),
        "json": json.dumps(CAMERAS).encode(),
        "list": json.dumps([{"stem": f"{stem}.png"} | camera for stem, camera in CAMERAS.items()]).encode(),
        "npz arrays": as_npz(**{stem: np.array(values) for stem, values in full.items()}),
        "npz columns": as_npz(
            stem=np.array(list(full)), **dict(zip(NAMES, np.array(list(full.values())).T, strict=True))
        ),
    }[file_format]
    suffix = {"csv": "csv", "json": "json", "list": "json"}.get(file_format, "npz")
    path = f"cameras.{suffix}"
    storage.write(path, data)
    built = build("folder", cameras=storage.path_of(path), ground_truth=storage.path_of("truth"), symmetry_axis="x")
    assert not built.left_out
    found = instances(built, storage)
    assert [instance.instance_id for instance in found] == sorted(CAMERAS)
    for instance in found:
        assert silhouette_iou(instance) >= 0.97
        assert instance.symmetry_axis == "x"
        np.testing.assert_allclose(instance.ground_truth.vertices, instance.mesh.vertices, atol=1e-6)
    assert not [file for file in storage.list("out") if file.path.endswith(".png")]


def opencv_camera(seed: int, aside: float, size=(400, 300)) -> dict:
    depth = 2.2
    k = [[320.0, 0, 190.0], [0, 330.0 if aside else 320.0, 160.0], [0, 0, 1]]
    return {"R": rotation(seed).tolist(), "t": [aside * depth, -aside, depth], "K": k, "size": list(size)}


def converted(camera: dict, convention: str) -> dict:
    """The same camera written in another convention, by its definition."""
    r, t, k = (np.array(camera[name], float) for name in ("R", "t", "K"))
    width, height = camera["size"]
    flip = np.diag([1.0, -1.0, -1.0])
    if convention == "opengl":
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = r.T @ flip, -r.T @ t
        return {"camera_to_world": matrix.tolist(), "K": k.tolist(), "size": camera["size"]}
    if convention == "pytorch3d":
        half, flip = min(width, height) / 2, np.diag([-1.0, -1.0, 1.0])
        return {
            "R": (flip @ r).T.tolist(),
            "T": (flip @ t).tolist(),
            "focal_length": [k[0, 0] / half, k[1, 1] / half],
            "principal_point": [(width / 2 - k[0, 2]) / half, (height / 2 - k[1, 2]) / half],
            "size": camera["size"],
        }
    if convention == "extrinsics":
        return {"extrinsics": np.column_stack([r, t]).tolist(), "K": camera["K"]}  # the image tells its size
    return camera


@pytest.mark.parametrize("convention", ["opencv", "extrinsics", "opengl", "pytorch3d"])
def test_cameras_of_other_conventions(storage, build, convention):
    """One looks at the object, and its picture is used as it is; one past it, and its picture is cut out."""
    cameras, models = {"at": opencv_camera(1, 0.0), "past": opencv_camera(2, 0.2)}, {}
    for number, (stem, camera) in enumerate(cameras.items()):
        models[stem] = lopsided(number)
        mask = opencv_mask(camera, models[stem])
        storage.write(f"meshes/{stem}.obj", mesh_bytes(models[stem].vertices, models[stem].faces))
        storage.write(f"data/{stem}.jpg", encoded(photograph(mask), "jpg"))
        storage.write(f"data/masks/{stem}.png", encoded(mask.astype(np.uint8) * 255, "png"))
    table = {stem: converted(camera, convention) for stem, camera in cameras.items()}
    storage.write("cameras.json", json.dumps(table).encode())
    name = "opencv" if convention == "extrinsics" else convention
    options = {"cameras": storage.path_of("cameras.json"), "camera_convention": name}
    built = build("folder", masks=storage.path_of("data/masks"), **options)
    assert built.left_out == {}
    for instance in instances(built, storage):
        assert silhouette_iou(instance) >= 0.97
    at, past = rows_of(built, storage)
    assert at["image_uri"].endswith("data/at.jpg")
    assert at["mask_uri"].endswith("data/masks/at.png")
    assert (past["image_uri"], past["mask_uri"]) == ("manifest_files/images/past.png", None)


def test_a_mesh_that_stands_otherwise_in_the_cameras_world(storage, build):
    camera, model = opencv_camera(4, 0.0), lopsided(5)
    turn, scale, shift = rotation(6), 0.4, np.array([0.1, -0.05, 0.2])
    mask = opencv_mask(camera, model)
    # world = scale · turn · mesh + shift
    vertices = ((model.vertices - shift) / scale) @ turn
    storage.write("meshes/a.obj", mesh_bytes(vertices, model.faces))
    storage.write("data/a.png", encoded(rgba(mask), "png"))
    camera["object"] = {"scale": scale, "rotation": turn.tolist(), "translation": shift.tolist()}
    storage.write("cameras.json", json.dumps({"a": camera}).encode())
    [instance] = instances(
        build("folder", cameras=storage.path_of("cameras.json"), camera_convention="opencv"), storage
    )
    assert silhouette_iou(instance) >= 0.97
    np.testing.assert_allclose(instance.mesh.vertices, vertices, atol=1e-4)


def test_views_of_one_object_become_instances_of_their_own(storage, build):
    picture = encoded(rgba(look_at_mask(CAMERAS["0146"], lopsided())), "png")
    for name in ("chair_00", "chair_01", "lamp/front", "lamp/back", "pots/jug", "pots/jug_2", "lone"):
        storage.write(f"data/{name}.png", picture)
    for name in ("chair", "lamp", "pots/jug", "pots/jug_2"):
        storage.write(f"meshes/{name}.obj", mesh_bytes(lopsided().vertices, lopsided().faces))
    built = build("folder", view_separator="_")
    rows = rows_of(built, storage)
    assert {row["instance_id"]: (row["object"], row["category"]) for row in rows} == {
        "chair_00": ("chair", None),
        "chair_01": ("chair", None),
        "lamp/back": ("lamp", None),
        "lamp/front": ("lamp", None),
        "pots/jug": ("pots/jug", "pots"),
        "pots/jug_2": ("pots/jug_2", "pots"),
    }
    assert all(row["azimuth"] is None for row in rows), "no cameras: they are estimated"
    # Without a separator nothing is guessed from the end of a name.
    apart = build("folder")
    assert left_out(apart, storage) == {
        "chair_00": "mesh_missing",
        "chair_01": "mesh_missing",
        "lone": "mesh_missing",
        "chair": "image_missing",
    }
    assert [row["instance_id"] for row in rows_of(build("folder", categories=("pots",)), storage)] == [
        "pots/jug",
        "pots/jug_2",
    ]


def test_what_does_not_fit_is_named_and_the_rest_goes_on(storage, build):
    good = {"azimuth": 10, "elevation": 20, "distance": 2}
    picture = encoded(rgba(look_at_mask(good, lopsided())), "png")
    cameras = {
        "good": good,
        "nan": good | {"azimuth": float("nan")},
        "word": good | {"distance": "far"},
        "behind": good | {"distance": -1},
        "half": {"azimuth": 10},
        "list": [1, 2],
        "jpeg": good,
        "opaque": good,
        "torn": good,
        "twice": good,
        "nomesh": good,
    }
    for name in cameras:
        storage.write(f"data/{name}.png", picture)
        if name != "nomesh":
            storage.write(f"meshes/{name}.obj", mesh_bytes(lopsided().vertices, lopsided().faces))
    storage.delete("data/jpeg.png")
    storage.write("data/jpeg.jpeg", encoded(photograph(look_at_mask(good, lopsided())), "jpg"))
    storage.write("data/opaque.png", encoded(photograph(look_at_mask(good, lopsided())), "png"))
    storage.write("data/torn.png", b"\x89PNG\r\n\x1a\n no picture")
    storage.write("meshes/twice.ply", b"ply")
    for name in ("nocamera", "lost"):
        storage.write(f"data/{name}.png", picture)
        storage.write(f"meshes/{name}.obj", mesh_bytes(lopsided().vertices, lopsided().faces))
    storage.write("meshes/noimage.obj", b"v")
    text = json.dumps(cameras | {"lost": good})
    storage.write("cameras.json", text[: text.rindex("elevation")].encode())
    built = build("folder", cameras=storage.path_of("cameras.json"))
    assert [row["instance_id"] for row in rows_of(built, storage)] == ["good"]
    assert left_out(built, storage) == {
        "cameras.json": "cut_short",
        "nan": "camera_invalid",
        "word": "camera_invalid",
        "behind": "camera_invalid",
        "half": "camera_missing",
        "list": "camera_missing",
        "jpeg": "mask_missing",
        "opaque": "mask_missing",
        "torn": "image_broken",
        "twice": "ambiguous",
        "nomesh": "mesh_missing",
        "nocamera": "camera_missing",
        "lost": "camera_missing",
        "noimage": "image_missing",
    }
    [cut] = built.examples[Reason.CUT_SHORT]
    assert "after 11 items" in cut.message


def test_bad_matrices_are_named(storage, build):
    good = opencv_camera(1, 0.0)
    cameras = {
        "good": good,
        "mirrored": good | {"R": np.diag([-1, 1, 1]).tolist()},
        "short": good | {"t": [0, 0]},
        "nok": {name: good[name] for name in ("R", "t")},
        "behind": good | {"t": [0, 0, -2]},
        "small": good | {"size": [10]},
        "list": [1, 2, 3],
        "far": good | {"t": [4, 0, 1]},
    }
    for name in cameras:
        storage.write(f"data/{name}.png", encoded(rgba(opencv_mask(good, lopsided())), "png"))
        storage.write(f"meshes/{name}.obj", mesh_bytes(lopsided().vertices, lopsided().faces))
    storage.write("cameras.json", json.dumps(cameras).encode())
    built = build("folder", cameras=storage.path_of("cameras.json"), camera_convention="opencv")
    # Where the mesh's origin lies says nothing: it may stand anywhere. That it is not in the picture a run says.
    assert built.rows == 3
    fine = ("good", "behind", "far")
    invalid = {name: "camera_invalid" for name in cameras if name not in (*fine, "nok")}
    assert left_out(built, storage) == invalid | {"nok": "camera_missing"}
    behind = next(row for row in manifest_rows(built, storage) if row.instance_id == "behind")
    with pytest.raises(InstanceError, match=r"centre lies 1\.95 behind the camera"):
        load_instance(behind, s3_endpoint=storage.s3_endpoint)


def test_a_mesh_in_its_camera_s_frame_in_a_large_photograph(storage, build):
    """Its origin is at the camera, and it is small: the picture is cut out round it, and no pixel is resampled."""
    model = lopsided(3)
    vertices = model.vertices * 0.3 + [0.6, -0.4, 3.0]
    camera = {"R": np.eye(3).tolist(), "t": [0, 0, 0], "K": [[900, 0, 620], [0, 900, 470], [0, 0, 1]]}
    mask = opencv_mask(camera | {"size": [1200, 900]}, trimesh.Trimesh(vertices, model.faces, process=False))
    storage.write("meshes/a.obj", mesh_bytes(vertices, model.faces))
    storage.write("data/a.png", encoded(rgba(mask), "png"))
    storage.write("cameras.json", json.dumps({"a": camera}).encode())
    built = build("folder", cameras=storage.path_of("cameras.json"), camera_convention="opencv")
    [instance] = instances(built, storage)
    assert silhouette_iou(instance) >= 0.97
    assert (instance.mask > 0.5).mean() > 0.1
    [row] = manifest_rows(built, storage)
    assert (row.azimuth, len(row.intrinsics), len(row.extrinsics)) == (None, 4, 12)


def test_masks_in_a_folder_of_their_own(storage, build):
    model, camera = lopsided(), {"azimuth": 10, "elevation": 20, "distance": 2}
    mask = look_at_mask(camera, model)
    for name in ("a", "b"):
        storage.write(f"data/{name}.jpg", encoded(photograph(mask), "jpg"))
        storage.write(f"meshes/{name}.obj", mesh_bytes(model.vertices, model.faces))
    storage.write("data/masks/a.png", encoded(mask.astype(np.uint8) * 255, "png"))
    storage.write("cameras.csv", as_csv({"a": camera, "b": camera}))
    built = build("folder", cameras=storage.path_of("cameras.csv"), masks=storage.path_of("data/masks"))
    [instance] = instances(built, storage)
    assert silhouette_iou(instance) >= 0.97
    assert left_out(built, storage) == {"b": "mask_missing"}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("cameras.txt", b"", r"a \.csv, \.json or \.npz"),
        ("cameras.csv", b"stem,azimuth,elevation\na,1,2\n", "no column distance"),
        ("cameras.csv", b"which,azimuth,elevation,distance\na,1,2,3\n", "none of the columns stem"),
        ("cameras.json", b'"a"', "a JSON list or object"),
        ("cameras.json", b"{}", "no camera"),
        ("cameras.npz", b"PK no zip", "cannot be read as NPZ"),
        ("cameras.npz", as_npz(a=np.array([{"azimuth": 1}], dtype=object)), "pickled"),
        ("cameras.npz", as_npz(stem=np.array(["a", "b"]), azimuth=np.zeros(3)), "azimuth must have one entry"),
    ],
)
def test_a_table_of_cameras_that_cannot_be_used(tmp_path, name, data, message):
    from refine_batch.dataset.layouts.camera_table import CameraTable

    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        CameraTable(str(tmp_path / name), "look-at")


def test_a_table_that_is_not_there_and_a_convention_without_one(storage, build):
    write_objects(storage)
    with pytest.raises(UsageError, match="there is no such file"):
        build("folder", cameras=storage.path_of("nothing.csv"))
    with pytest.raises(UsageError, match="--cameras, which is not given"):
        build("folder", camera_convention="opencv")
    with pytest.raises(UsageError, match=r"--meshes .* holds no"):
        build("folder", meshes=storage.path_of("nothing"))
    with pytest.raises(UsageError, match=r"must end in \.parquet or \.csv"):
        build("folder", out=storage.path_of("out/manifest.xlsx"))
