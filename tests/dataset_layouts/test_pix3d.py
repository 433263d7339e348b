"""Pix3D in its own file format, with cameras that look past the object."""

from __future__ import annotations

import json

import numpy as np
import pytest
from layout_fixtures import encoded, lopsided, mesh_bytes, pix3d_item, write_pix3d
from manifest_checks import instances, left_out, rows_of, silhouette_iou

from refine_batch.dataset.layouts.entry import Reason
from refine_batch.errors import UsageError


def write_meshes(storage, items, models):
    for item, model in zip(items, models, strict=True):
        stem = item["img"].removeprefix("img/").removesuffix(".jpg")
        storage.write(f"meshes/{stem}.obj", mesh_bytes(model.vertices, model.faces))


def test_rendered_meshes_meet_the_masks_they_came_with(storage, build):
    # 14° past the object, straight at it, near the edge of the picture, and in a picture that stands upright.
    items = [
        pix3d_item(1),
        pix3d_item(2, aside=0.0),
        pix3d_item(3, aside=0.45),
        pix3d_item(4, width=480, height=640, category="table"),
    ]
    models = write_pix3d(storage.child("data"), items)
    write_meshes(storage, items, models)
    built = build("pix3d")
    assert built.rows == 4
    assert not built.left_out
    assert built.categories == {"chair": 3, "table": 1}
    for instance, model in zip(instances(built, storage), models, strict=True):
        assert silhouette_iou(instance) >= 0.97
        assert silhouette_iou(instance, instance.ground_truth) >= 0.97
        # Cut out round the object, which fills the square but for the margin.
        assert instance.image.shape[0] == instance.image.shape[1]
        rows, columns = (np.flatnonzero(instance.mask.any(axis=axis)) for axis in (1, 0))
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert extent / len(instance.mask) == pytest.approx(1 / 1.3, abs=0.03)
        np.testing.assert_allclose(instance.ground_truth.vertices, model.vertices, atol=1e-5)
        assert instance.symmetry_axis == "x"
    rows = rows_of(built, storage)
    assert [row["instance_id"] for row in rows] == ["chair_0001", "chair_0002", "chair_0003", "table_0004"]
    assert rows[0]["image_uri"] == "manifest_files/images/chair_0001.png"
    assert [row["image_source"] for row in rows] == ["internet", "self-taken", "ikea", "internet"]
    # The direction of view is that of the camera, wherever it looked: seen from the model, R'·(−t).
    for item, row in zip(items, rows, strict=True):
        x, y, z = np.array(item["rot_mat"]).T @ -np.array(item["trans_mat"])
        assert row["distance"] == pytest.approx(np.linalg.norm([x, y, z]))
        assert row["elevation"] == pytest.approx(np.degrees(np.arcsin(y / row["distance"])))
        assert np.degrees(np.arctan2(x, z)) == pytest.approx(row["azimuth"])


def test_meshes_of_a_network_trained_on_shapenet(storage, build):
    """Turned so that the front faces +x, centred by the model's box, largest side 1: as occupancy networks do."""
    items = [pix3d_item(n) for n in (5, 6)]
    models = write_pix3d(storage.child("data"), items)
    coarse = []
    for model in models:
        # Pix3D's front is −z; (x, y, z) → (−z, y, x) takes it to +x.
        vertices = model.vertices - model.bounds.mean(axis=0)
        vertices = np.stack([-vertices[:, 2], vertices[:, 1], vertices[:, 0]], axis=1) / model.extents.max()
        coarse.append(vertices)
    for item, model, vertices in zip(items, models, coarse, strict=True):
        stem = item["img"].removeprefix("img/").removesuffix(".jpg").replace("/", "_")
        storage.write(f"meshes/{stem}.off", mesh_bytes(vertices, model.faces, "off"))
    built = build("pix3d", mesh_frame="shapenet-v1", mesh_scale="unit-box")
    found = instances(built, storage)
    assert len(found) == 2
    for instance, vertices in zip(found, coarse, strict=True):
        assert silhouette_iou(instance) >= 0.97
        assert silhouette_iou(instance, instance.ground_truth) >= 0.97
        np.testing.assert_allclose(instance.ground_truth.vertices, vertices, atol=1e-5)
        assert instance.symmetry_axis == "z"
    # Without being told, the same meshes do not fit: the test above could fail.
    assert all(silhouette_iou(instance) < 0.9 for instance in instances(build("pix3d"), storage))


def test_flags_and_filters(storage, build):
    items = [pix3d_item(n, category=("chair", "sofa")[n % 2]) for n in range(6)]
    items[0]["truncated"] = True
    items[2]["occluded"] = "true"
    items[4]["slightly_occluded"] = True
    write_meshes(storage, items, write_pix3d(storage.child("data"), items))
    rows = rows_of(build("pix3d"), storage)
    flags = [(row["truncated"], row["occluded"], row["slightly_occluded"]) for row in rows]
    no = (False, False, False)
    assert flags == [(True, False, False), no, (False, True, False), no, (False, False, True), no]
    sofas = build("pix3d", categories=("sofa",))
    assert (sofas.rows, sofas.left_out[Reason.FILTERED]) == (3, 3)
    assert not left_out(sofas, storage)
    whole = build("pix3d", without_truncated=True, without_occluded=True)
    assert [row["instance_id"] for row in rows_of(whole, storage)] == ["sofa_0001", "sofa_0003", "sofa_0005"]
    assert build("pix3d", image_sources=("ikea",)).rows == 2
    with pytest.raises(UsageError, match=r"--category chiar: .* did you mean 'chair'\?"):
        build("pix3d", categories=("chiar",))


def test_what_does_not_fit_is_named_and_the_rest_goes_on(storage, build):
    items = [pix3d_item(n) for n in range(14)]
    models = write_pix3d(storage.child("data"), items)
    write_meshes(storage, items, models)
    source = storage.child("data")
    source.delete(items[1]["mask"])
    source.delete(items[2]["img"])
    storage.delete("meshes/chair/0003.obj")
    items[4]["img"] = "../../../etc/passwd"
    items[5]["mask"] = "/etc/passwd"
    items[6]["model"] = "s3://elsewhere/model.obj"
    items[7]["focal_length"] = float("nan")
    items[8]["rot_mat"] = [[1, 0, 0], [0, 1, 0]]
    items[9]["img_size"] = [100, 100]
    items[10]["mask"] = items[11]["mask"]
    items[10]["img"] = items[12]["img"]  # one image twice
    source.write(items[11]["mask"], encoded(np.zeros((480, 640), np.uint8), "png"))
    items[12]["trans_mat"] = [0, 0, -2]
    source.write(items[13]["img"], b"\xff\xd8\xff no picture")
    source.write("pix3d.json", json.dumps(items).encode())
    built = build("pix3d")
    assert [row["instance_id"] for row in rows_of(built, storage)] == ["chair_0000"]
    assert left_out(built, storage) == {
        items[1]["img"]: "mask_missing",
        items[2]["img"]: "image_missing",
        items[3]["img"]: "mesh_missing",
        items[4]["img"]: "path_unsafe",
        items[5]["img"]: "path_unsafe",
        items[6]["img"]: "path_unsafe",
        items[7]["img"]: "camera_invalid",
        items[8]["img"]: "camera_invalid",
        items[9]["img"]: "camera_invalid",
        items[11]["img"]: "mask_unusable",
        items[12]["img"]: "camera_invalid",  # stands there twice, with two reasons; the later one is listed last
        items[13]["img"]: "image_broken",
    }
    assert sum(built.left_out.values()) == 13


def test_a_description_cut_short_gives_what_stands_before_the_cut(storage, build):
    items = [pix3d_item(n) for n in range(3)]
    write_meshes(storage, items, write_pix3d(storage.child("data"), items))
    text = json.dumps(items)
    storage.write("data/pix3d.json", text[: text.rindex('"focal_length"')].encode())
    built = build("pix3d")
    assert [row["instance_id"] for row in rows_of(built, storage)] == ["chair_0000", "chair_0001"]
    [cut] = built.examples[Reason.CUT_SHORT]
    assert (cut.name, "after 2 items" in cut.message) == ("pix3d.json", True)


def test_bare_names_are_used_only_where_they_are_unique(storage, build):
    items = [pix3d_item(1), pix3d_item(2), pix3d_item(2, category="table")]
    models = write_pix3d(storage.child("data"), items)
    for name, model in (("0001", models[0]), ("0002", models[1])):
        storage.write(f"meshes/{name}.ply", mesh_bytes(model.vertices, model.faces, "ply"))
    built = build("pix3d")
    assert [row["instance_id"] for row in rows_of(built, storage)] == ["chair_0001"]
    assert built.left_out == {Reason.MESH_MISSING: 2}
    assert "any of 2 images" in built.examples[Reason.MESH_MISSING][0].message


def test_another_layout_is_refused_and_nothing_is_written(storage, build):
    storage.write("data/images/a.png", b"")
    storage.write("meshes/a.obj", mesh_bytes(lopsided().vertices, lopsided().faces))
    with pytest.raises(UsageError, match=r"holds no pix3d\.json"):
        build("pix3d")
    with pytest.raises(UsageError, match="13 ShapeNet synsets"):
        build("r2n2")
    with pytest.raises(UsageError, match="not one row"):
        build("folder")
    with pytest.raises(UsageError, match="--view is an option of --layout r2n2"):
        build("pix3d", views=(1,))
    assert not storage.list("out")
