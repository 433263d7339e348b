"""Choy et al.'s ShapeNet renderings in their own file format, drawn as their Blender scene has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from layout_fixtures import encoded, lopsided, mesh_bytes, photograph, r2n2_mask, rgba, write_r2n2
from manifest_checks import instances, left_out, rows_of, silhouette_iou

from refine_batch.dataset.layouts.entry import Reason
from refine_batch.errors import UsageError

CHAIR, LAMP = "03001627/1a6f615e8b1b5ae4dbbc9440457e303e", "03636649/fff3"
VIEWS = [[222.96, 28.66, 0, 0.93, 25], [10.0, -12.0, 0, 0.8, 25], [95.5, 26.1, 30.0, 0.99, 25]]


def small(seed: int):
    """A model as ShapeNetCore v1 has them: within a unit cube about the origin, so that 137 pixels hold it."""
    model = lopsided(seed)
    return model.apply_translation(-model.bounds.mean(axis=0)).apply_scale(0.9 / model.extents.max())


def write(storage, views=VIEWS):
    models = {CHAIR: small(1), LAMP: small(2)}
    write_r2n2(storage.child("data"), models, views)
    for name, model in models.items():
        storage.write(f"shapenet/{name}/model.obj", mesh_bytes(model.vertices, model.faces))
        storage.write(f"shapenet/{name}/model.mtl", b"newmtl")
        storage.write(f"meshes/{name}.off", mesh_bytes(model.vertices, model.faces, "off"))
    return models


def test_rendered_meshes_meet_the_masks_they_came_with(storage, build):
    models = write(storage)
    built = build("r2n2", ground_truth=storage.path_of("shapenet"))
    found = instances(built, storage)
    assert built.rows == len(found) == 6
    assert not built.left_out
    assert built.categories == {"chair": 3, "lamp": 3}
    for instance in found:
        assert silhouette_iou(instance) >= 0.97
        assert silhouette_iou(instance, instance.ground_truth) >= 0.97
        assert instance.symmetry_axis == "z"
    rows = rows_of(built, storage)
    assert rows[0]["instance_id"] == f"{CHAIR.replace('/', '_')}_00"
    assert (rows[4]["synset"], rows[4]["model"], rows[4]["view"]) == ("03636649", "fff3", 1)
    # Nothing was written: the pictures are used as they are.
    assert rows[0]["image_uri"].endswith(f"data/ShapeNetRendering/{CHAIR}/rendering/00.png")
    assert [file.path for file in storage.list("out")] == ["out/manifest.left_out.csv", "out/manifest.parquet"]
    np.testing.assert_allclose(found[0].ground_truth.vertices, models[CHAIR].vertices, atol=1e-6)
    assert rows[0]["fov"] == pytest.approx(49.1343, abs=1e-3)
    assert rows[0]["distance"] == pytest.approx(0.93 * 1.75)


def test_meshes_per_view_and_a_choice_of_views_and_categories(storage, build):
    models = write(storage)
    storage.delete(f"meshes/{LAMP}.off")
    synset, model = LAMP.split("/")
    for view, name in enumerate([f"{LAMP}/00", f"{synset}_{model}_01", f"{model}_02"]):
        storage.write(f"meshes/{name}.obj", mesh_bytes(models[LAMP].vertices + view, models[LAMP].faces))
    rows = rows_of(build("r2n2", categories=("lamp",)), storage)
    assert [row["mesh_uri"].rpartition("meshes/")[2] for row in rows] == [
        f"{LAMP}/00.obj",
        f"{synset}_{model}_01.obj",
        f"{model}_02.obj",
    ]
    assert all(row["ground_truth_uri"] is None for row in rows)
    assert [row["view"] for row in rows_of(build("r2n2", views=(2,), categories=("03001627",)), storage)] == [2]
    with pytest.raises(UsageError, match="--category lamb: there are airplane"):
        build("r2n2", categories=("lamb",))


def test_meshes_in_the_unit_box_of_another_frame(storage, build):
    """ShapeNetCore v2 faces −z where v1 faces +x: (x, y, z) of v1 is (z, y, −x) of v2."""
    model = lopsided(3).apply_scale(0.8)
    # Three times their size: turned and resampled, 137 pixels would not tell 0.97 from 0.96.
    write_r2n2(storage.child("data"), {CHAIR: model}, VIEWS[:2], size=411)
    storage.write(f"shapenet/{CHAIR}/model.obj", mesh_bytes(model.vertices, model.faces))
    x, y, z = (model.vertices - model.bounds.mean(axis=0)).T / model.extents.max()
    storage.write(f"meshes/{CHAIR}.ply", mesh_bytes(np.stack([z, y, -x], axis=1), model.faces, "ply"))
    built = build("r2n2", ground_truth=storage.path_of("shapenet"), mesh_frame="shapenet-v2", mesh_scale="unit-box")
    found = instances(built, storage)
    assert len(found) == 2
    for instance in found:
        assert silhouette_iou(instance) >= 0.97
        np.testing.assert_allclose(instance.ground_truth.vertices, instance.mesh.vertices, atol=1e-5)
        assert instance.symmetry_axis == "x"
    with pytest.raises(UsageError, match="give --ground-truth"):
        build("r2n2", mesh_scale="unit-box")


def test_renderings_of_ones_own_say_what_their_numbers_mean(storage, build):
    write(storage, [[*line[:4], 50] for line in VIEWS])
    with pytest.raises(UsageError, match="--fov"):
        build("r2n2")
    rows = rows_of(build("r2n2", fov=50.0, distance_unit=2.0), storage)
    assert {(row["fov"], row["distance"]) for row in rows} == {(50.0, 2 * line[3]) for line in VIEWS}


def test_what_does_not_fit_is_named_and_the_rest_goes_on(storage, build):
    models = write(storage)
    folder = f"data/ShapeNetRendering/{CHAIR}/rendering"
    plain = encoded(photograph(r2n2_mask(VIEWS[0], models[CHAIR])), "png")
    names = [f"{view:02d}.png" for view in range(8)]
    lines = [" ".join(map(str, VIEWS[0]))] * 6
    lines[1], lines[2], lines[3] = "222.9 28.6 0 0.9", "1 2 0 nan 25", "1 2 0 -1 25"
    for name in names:
        storage.write(f"{folder}/{name}", encoded(rgba(r2n2_mask(VIEWS[0], models[CHAIR])), "png"))
    storage.write(f"{folder}/{names[4]}", plain)
    storage.delete(f"{folder}/{names[5]}")
    names[7] = "../../../../etc/passwd"
    storage.write(f"{folder}/rendering_metadata.txt", "\n".join(lines).encode())
    storage.write(f"{folder}/renderings.txt", "\n".join(names).encode())
    storage.delete(f"meshes/{LAMP}.off", f"shapenet/{LAMP}/model.obj")
    storage.write("data/ShapeNetRendering/03636649/bare/rendering/00.png", plain)
    built = build("r2n2", ground_truth=storage.path_of("shapenet"))
    assert [row["view"] for row in rows_of(built, storage)] == [0]
    assert left_out(built, storage) == {
        f"{CHAIR}/01": "camera_invalid",
        f"{CHAIR}/02": "camera_invalid",
        f"{CHAIR}/03": "camera_invalid",
        f"{CHAIR}/04": "mask_missing",
        f"{CHAIR}/05": "image_missing",
        f"{CHAIR}/06": "camera_missing",
        f"{CHAIR}/07": "image_missing",
        "03636649/bare": "camera_missing",
        f"{LAMP}/00": "mesh_missing",
        f"{LAMP}/01": "mesh_missing",
        f"{LAMP}/02": "mesh_missing",
    }


def test_a_missing_ground_truth_is_listed_and_its_row_kept(storage, build):
    write(storage)
    storage.delete(f"shapenet/{LAMP}/model.obj")
    built = build("r2n2", ground_truth=storage.path_of("shapenet"), views=(0,))
    rows = rows_of(built, storage)
    assert [row["ground_truth_uri"] is None for row in rows] == [False, True]
    assert built.left_out == {Reason.GROUND_TRUTH_MISSING: 1}
    storage.write("v2/03001627/x/models/model_normalized.obj", b"v 0 0 0")
    with pytest.raises(UsageError, match="ShapeNetCore v1"):
        build("r2n2", ground_truth=storage.path_of("v2"))


def test_the_documented_position_of_the_camera():
    """distance · (cos e · cos a, sin e, cos e · sin a): what the fixture's Euler angles come to."""
    from refine_batch.cameras.camera import Camera, camera_position

    a, e = math.radians(40), math.radians(25)
    expected = 2 * np.array([math.cos(e) * math.cos(a), math.sin(e), math.cos(e) * math.sin(a)])
    np.testing.assert_allclose(camera_position(Camera(90 - 40, 25, 2)), expected)
