"""glTF in all the ways that it keeps its arrays, and what may lie beside it."""

from __future__ import annotations

import os

import DracoPy
import numpy as np
import pytest
import trimesh
from gltf_files import GltfFile, draco, meshopt_view
from hypothesis import given
from hypothesis import strategies as st
from mesh_checks import URI, assert_same, nothing_else_is_opened, refusal  # noqa: F401

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.beside import files_beside
from refine_batch.io.formats.gltf.draco import claimed
from refine_batch.io.meshes import parse_mesh, read_mesh

SPHERE = trimesh.creation.icosphere(subdivisions=2)
POINTS = SPHERE.vertices.astype("<f4")
FACES = SPHERE.faces


def plain(file: GltfFile, points=POINTS, faces=FACES, **attributes) -> dict:
    index = file.accessor(np.asarray(faces, "<u4").reshape(-1))
    return {"attributes": {"POSITION": file.positions(points), **attributes}, "indices": index}


def single(primitive, file) -> bytes:
    file.node(mesh=file.mesh(primitive))
    return file.glb()


# ---- compression ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_else_is_opened")
def test_draco():
    file = GltfFile()
    mesh = parse_mesh(single(draco(file, POINTS, FACES), file), f"{URI}.glb")
    np.testing.assert_allclose(mesh.vertices, POINTS, atol=2e-6)
    np.testing.assert_array_equal(mesh.faces, FACES)


def test_draco_as_encoders_write_it_reordered_by_edgebreaker():
    file = GltfFile()
    data = DracoPy.encode(SPHERE.vertices, faces=FACES, quantization_bits=16, compression_level=7)
    assert claimed(data) == (len(FACES), len(POINTS))
    primitive = draco(file, POINTS, FACES)
    primitive["extensions"]["KHR_draco_mesh_compression"]["bufferView"] = file.view(data)
    mesh = parse_mesh(single(primitive, file), f"{URI}.glb")
    ours = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert ours.is_watertight
    assert ours.volume == pytest.approx(SPHERE.volume, rel=1e-3)


def test_draco_is_refused_from_its_header_where_it_claims_too_much():
    file = GltfFile()
    data = single(draco(file, POINTS, FACES), file)
    assert refusal(data, "glb", max_faces=len(FACES) - 1).kind == ErrorKind.MESH_TOO_LARGE
    file.description["accessors"][-1]["count"] = 3  # the accessor alone is not believed
    assert refusal(file.glb(), "glb", max_faces=len(FACES) - 1).kind == ErrorKind.MESH_TOO_LARGE


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_draco_never_ends_the_process(edits):
    file = GltfFile()
    primitive = draco(file, POINTS, FACES)
    for place, value in edits:
        file.binary[place % len(file.binary)] = value
    try:
        mesh = parse_mesh(single(primitive, file), f"{URI}.glb")
    except InstanceError:
        return
    assert mesh.faces.max() < len(mesh.vertices)


def meshopt_file() -> GltfFile:
    """As gltfpack writes it: positions of 16 bits, padded to 8 bytes, scaled by their node; everything compressed."""
    file = GltfFile()
    file.require("KHR_mesh_quantization")
    rows = np.zeros((len(POINTS), 4), "<u2")
    rows[:, :3] = np.rint((POINTS + 1) / 2 * 65535)
    view = meshopt_view(file, rows, "ATTRIBUTES", byteStride=8, target=34962)
    position = file.accessor(rows[:, :3], view=view, normalized=True)
    corners = np.asarray(FACES, "<u2").reshape(-1)
    index = file.accessor(corners, view=meshopt_view(file, corners, "TRIANGLES", target=34963))
    mesh = file.mesh({"attributes": {"POSITION": position}, "indices": index})
    file.node(mesh=mesh, scale=[2, 2, 2], translation=[-1, -1, -1])
    return file


def corner_sets(faces) -> list:
    return [sorted(face) for face in np.asarray(faces).tolist()]


@pytest.mark.usefixtures("nothing_else_is_opened")
def test_meshopt_and_quantisation_as_gltfpack_writes_them():
    mesh = parse_mesh(meshopt_file().glb(), f"{URI}.glb")
    np.testing.assert_allclose(mesh.vertices, POINTS, atol=1.6e-5)
    assert corner_sets(mesh.faces) == corner_sets(FACES)  # the codec may turn a triangle's corners round
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 4


def test_meshopt_without_its_package_says_which(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "meshopt", None)
    error = refusal(meshopt_file().glb(), "glb")
    assert "compressed with EXT_meshopt_compression, which needs the package meshopt" in error.message


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"count": 10**9}, ErrorKind.MESH_TOO_LARGE),
        ({"byteStride": 10**6}, ErrorKind.MESH_TOO_LARGE),
        ({"mode": "NONE"}, ErrorKind.MESH_BROKEN),
        ({"filter": "QUATERNION"}, ErrorKind.MESH_BROKEN),  # a sign of half floats in rows of 8 is nonsense for points
        ({"byteLength": 10**6}, ErrorKind.MESH_BROKEN),
        ({"byteLength": 7}, ErrorKind.MESH_BROKEN),
        ({"count": 100}, ErrorKind.MESH_BROKEN),
    ],
)
def test_meshopt_that_claims_what_is_not_there(change, kind):
    file = meshopt_file()
    file.description["bufferViews"][0]["extensions"]["EXT_meshopt_compression"].update(change)
    if "filter" in change:
        mesh = parse_mesh(file.glb(), f"{URI}.glb")
        assert len(mesh.vertices) == len(POINTS)
    else:
        assert refusal(file.glb(), "glb").kind == kind


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_meshopt_never_ends_the_process(edits):
    file = meshopt_file()
    for place, value in edits:
        file.binary[place % len(file.binary)] = value
    try:
        mesh = parse_mesh(file.glb(), f"{URI}.glb")
    except InstanceError:
        return
    assert mesh.faces.max() < len(mesh.vertices)


# ---- quantised and sparse ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "scale"), [("<i1", 127), ("<u1", 255), ("<i2", 32767), ("<u2", 65535)])
@pytest.mark.parametrize("normalised", [True, False])
def test_quantised_positions(code, scale, normalised):
    points = POINTS if code[1] == "i" else (POINTS + 1) / 2
    rows = np.rint(points * scale).astype(code)
    if code == "<i1":
        rows[0, 0] = -128  # beyond −1, and held there
    file = GltfFile()
    file.require("KHR_mesh_quantization")
    padded = np.zeros((len(rows), 4), code)
    padded[:, :3] = rows
    view = file.view(padded.tobytes(), byteStride=4 * padded.itemsize)
    position = file.accessor(rows, view=view, normalized=normalised)
    index = file.accessor(FACES.astype("<u2").reshape(-1))
    mesh = parse_mesh(single({"attributes": {"POSITION": position}, "indices": index}, file), f"{URI}.glb")
    expected = np.maximum(rows / scale, -1) if normalised else rows
    np.testing.assert_allclose(mesh.vertices, expected, rtol=1e-6)


@pytest.mark.parametrize("base", [True, False])
def test_sparse_positions(base):
    file = GltfFile()
    primitive = plain(file)
    rows, values = np.array([3, 7, 100], "<u1"), np.array([[9, 9, 9], [8, 8, 8], [7, 7, 7]], "<f4")
    accessor = file.description["accessors"][primitive["attributes"]["POSITION"]]
    accessor["sparse"] = {
        "count": 3,
        "indices": {"bufferView": file.view(rows.tobytes()), "componentType": 5121},
        "values": {"bufferView": file.view(values.tobytes())},
    }
    if not base:
        del accessor["bufferView"]
    expected = POINTS.copy() if base else np.zeros_like(POINTS)
    expected[rows] = values
    assert_same(parse_mesh(single(primitive, file), f"{URI}.glb"), expected, FACES)
    accessor["sparse"]["count"] = 4
    assert "past its data" in refusal(file.glb(), "glb").message
    accessor["count"] = 10**12
    assert refusal(file.glb(), "glb").kind == ErrorKind.MESH_TOO_LARGE


# ---- scenes --------------------------------------------------------------------------------------------------------


def test_a_mesh_under_two_nodes_is_there_twice():
    file = GltfFile()
    mesh = file.mesh(plain(file))
    file.node(mesh=mesh, translation=[5, 0, 0])
    file.node(mesh=mesh, scale=[1, 1, -1])
    found = parse_mesh(file.glb(), f"{URI}.glb")
    flipped = POINTS * np.float32([1, 1, -1])
    assert_same(found, [*(POINTS + np.float32([5, 0, 0])), *flipped], [*FACES, *(FACES[:, ::-1] + len(POINTS))])


def instanced_file(**attributes) -> GltfFile:
    file = GltfFile()
    mesh = file.mesh(plain(file))
    inner = file.node(root=False, mesh=mesh, translation=[0, 10, 0])
    extension = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    file.node(mesh=mesh, scale=[2, 2, 2], children=[inner], extensions=extension)
    file.require("EXT_mesh_gpu_instancing")
    return file


def test_gpu_instances_stand_where_they_are_put():
    file = instanced_file()
    half = np.sqrt(0.5)
    where = {
        "TRANSLATION": file.accessor(np.array([[1, 0, 0], [0, 0, 3]], "<f4")),
        "ROTATION": file.accessor(np.array([[0, 0, 0, 1], [0, 0, half, half]], "<f4")),
        "SCALE": file.accessor(np.array([[1, 1, 1], [1, 2, 1]], "<f4")),
    }
    file.description["nodes"][1]["extensions"]["EXT_mesh_gpu_instancing"]["attributes"] = where
    found = parse_mesh(file.glb(), f"{URI}.glb")
    x, y, z = POINTS.T
    second = 2 * np.stack([-2 * y, x, z + 3], axis=1)  # scaled, then turned by a quarter about z, then moved
    expected = np.concatenate([2 * POINTS + np.array([2, 0, 0]), second, 2 * POINTS + np.array([0, 20, 0])])
    np.testing.assert_allclose(found.vertices, expected, atol=1e-6)
    assert len(found.faces) == 3 * len(FACES)


def test_gpu_instances_without_a_common_number_are_refused():
    file = instanced_file()
    short, long = (file.accessor(np.zeros((n, 3), "<f4")) for n in (2, 3))
    where = {"TRANSLATION": short, "SCALE": long}
    file.description["nodes"][1]["extensions"]["EXT_mesh_gpu_instancing"]["attributes"] = where
    assert "no common number" in refusal(file.glb(), "glb").message


def test_points_and_lines_are_left_out_and_said():
    file = GltfFile()
    primitive = plain(file)
    file.node(mesh=file.mesh(primitive, {**primitive, "mode": 1}, {"attributes": {"_WHAT": 0}}))
    found = read_mesh(file.glb(), f"{URI}.glb")
    assert len(found.mesh.faces) == len(FACES)
    assert found.notes == ("2 primitives of mesh 0 are points or lines, or have no positions, and are left out",)


def test_skins_and_morph_targets_are_said():
    file = GltfFile()
    primitive = plain(file)
    still = file.mesh(primitive)
    moving = file.mesh({**primitive, "targets": [{"POSITION": file.accessor(np.zeros((len(POINTS), 3), "<f4"))}]})
    file.node(mesh=still)
    file.node(mesh=moving, skin=0)
    file.description["skins"] = [{"joints": [0]}]
    found = read_mesh(file.glb(), f"{URI}.glb")
    assert len(found.mesh.faces) == 2 * len(FACES)
    skin, targets = found.notes
    assert f"mesh {moving} has a skin" in skin
    assert f"mesh {moving} has morph targets" in targets


@pytest.mark.parametrize("name", ["EXT_of_the_future", "KHR_node_hoverability", "3DTILES_tiled"])
def test_an_extension_that_is_required_and_not_understood_is_named(name):
    file = GltfFile()
    file.require("KHR_materials_unlit", "KHR_texture_transform", "EXT_texture_webp", "KHR_texture_basisu")
    data = single(plain(file), file)
    assert len(parse_mesh(data, f"{URI}.glb").faces) == len(FACES)
    file.require(name)
    error = refusal(file.glb(), "glb")
    assert f"requires the extension '{name}', which is not understood" in error.message


# ---- buffers beside the file ---------------------------------------------------------------------------------------


def beside_file(uri) -> bytes:
    file = GltfFile()
    file.node(mesh=file.mesh(plain(file)))
    return file.gltf(uri)


def test_gltf_with_its_buffer_inside():
    for end in ("gltf", "GLTF"):
        assert_same(parse_mesh(beside_file(None), f"{URI}.{end}"), POINTS, FACES)
    assert_same(parse_mesh(b"\xef\xbb\xbf" + beside_file(None), f"{URI}.gltf"), POINTS, FACES)


@pytest.mark.parametrize("name", ["scene.bin", "data/my scene.bin", "./scene.bin"])
def test_gltf_with_its_buffer_beside_it(tmp_path, name):
    file = GltfFile()
    file.node(mesh=file.mesh(plain(file)))
    (tmp_path / "scene.gltf").write_bytes(file.gltf(name.replace(" ", "%20")))
    (tmp_path / "data").mkdir()
    (tmp_path / name).write_bytes(file.binary)
    data = (tmp_path / "scene.gltf").read_bytes()
    sibling = files_beside(str(tmp_path / "scene.gltf"))
    assert_same(parse_mesh(data, "scene.gltf", sibling=sibling), POINTS, FACES)
    assert "none can be read from here" in refusal(data, "gltf").message
    (tmp_path / name).write_bytes(file.binary[:-1])
    with pytest.raises(InstanceError, match="cut short"):
        parse_mesh(data, "scene.gltf", sibling=sibling)
    (tmp_path / name).unlink()
    with pytest.raises(InstanceError, match="no such file") as caught:
        parse_mesh(data, "scene.gltf", sibling=sibling)
    assert caught.value.kind == ErrorKind.MISSING_FILE


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "../secret.bin",
            "/etc/passwd",
            "a/../../secret.bin",
            "%2e%2e/secret.bin",
            "..\\secret.bin",
            "C:\\secret.bin",
        ),
        *("http://127.0.0.1:1/secret.bin", "file:///etc/passwd", "s3://bucket/secret.bin", "//host/share", "."),
        *("\\\\host\\share", "a%00b", "link.bin", "%2Fetc%2Fpasswd", "a/", "folder/link/passwd"),
    ],
)
def test_gltf_reads_nothing_that_lies_elsewhere(tmp_path, uri):
    folder = tmp_path / "here"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))
    os.symlink(tmp_path / "secret.bin", folder / "link.bin")
    os.symlink("/etc", folder / "folder" / "link")
    with pytest.raises(InstanceError) as caught:
        parse_mesh(beside_file(uri), "scene.gltf", sibling=files_beside(str(folder / "scene.gltf")))
    assert caught.value.kind == ErrorKind.MESH_BROKEN
    assert "keeps data in another file" in caught.value.message


def test_nothing_is_fetched_over_http():
    with pytest.raises(InstanceError, match="not fetched over HTTP"):
        parse_mesh(beside_file("scene.bin"), "scene.gltf", sibling=files_beside("https://host/a/scene.gltf"))
    with pytest.raises(InstanceError, match="not looked for in an archive"):
        parse_mesh(beside_file("scene.bin"), "scene.gltf", sibling=files_beside("tar://0-9//a/shard.tar#scene.gltf"))


def test_what_lies_beside_counts_against_one_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("refine_batch.io.formats.gltf.reader.MAX_BESIDE", 1000)
    (tmp_path / "scene.bin").write_bytes(bytes(1001))
    with pytest.raises(InstanceError) as caught:
        parse_mesh(beside_file("scene.bin"), "scene.gltf", sibling=files_beside(str(tmp_path / "scene.gltf")))
    assert caught.value.kind == ErrorKind.MESH_TOO_LARGE
