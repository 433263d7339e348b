"""GLB: scenes, primitives and descriptions of every kind, and a clear refusal of what cannot be read."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_checks import URI, assert_same, nothing_else_is_opened, refusal  # noqa: F401

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.meshes import parse_mesh


def glb(description: dict, binary: bytes = b"") -> bytes:
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def triangle_glb(**changes) -> dict:
    """A description of one triangle (36 bytes of positions, 6 of indices)."""
    description = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 3, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 6},
        ],
        "buffers": [{"byteLength": 42}],
    }
    return {**description, **changes}


TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype="<f4")
TRIANGLE_BYTES = TRIANGLE.tobytes() + np.array([0, 1, 2], dtype="<u2").tobytes()


def test_glb_scene_transforms_against_trimesh():
    scene = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])
    turn[:3, 3] = [5, -2, 1]
    scene.add_geometry(trimesh.creation.icosphere(subdivisions=1), transform=turn, geom_name="a")
    scene.add_geometry(trimesh.creation.box(), transform=np.diag([1, 2, -3, 1.0]), geom_name="b")
    mesh = parse_mesh(scene.export(file_type="glb"), f"{URI}.glb")
    expected = scene.to_mesh()
    assert mesh.vertices.shape == expected.vertices.shape
    ours = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert ours.volume == pytest.approx(expected.volume, rel=1e-5)
    assert ours.volume > 6  # the mirrored box faces outwards
    np.testing.assert_allclose(ours.bounds, expected.bounds, atol=1e-5)


def test_glb_nodes_translate_rotate_and_scale_in_that_order_and_parents_apply():
    half = np.sqrt(0.5)
    description = triangle_glb(
        nodes=[
            {"children": [1], "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 10, 0, 0, 1]},
            {"mesh": 0, "translation": [0, 0, 5], "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
        ]
    )
    mesh = parse_mesh(glb(description, TRIANGLE_BYTES), f"{URI}.glb")
    # (1, 0, 0) → scaled (2, 0, 0) → a quarter turn about z (0, 2, 0) → moved (10, 2, 5).
    np.testing.assert_allclose(mesh.vertices, [[10, 0, 5], [10, 2, 5], [9, 0, 5]], atol=1e-6)
    assert mesh.faces.tolist() == [[0, 1, 2]]


def test_glb_primitives_on_one_set_of_positions_share_it():
    primitive = {"attributes": {"POSITION": 0}, "indices": 1}
    description = triangle_glb(meshes=[{"primitives": [primitive, {**primitive, "material": 3}]}])
    assert_same(parse_mesh(glb(description, TRIANGLE_BYTES), f"{URI}.glb"), TRIANGLE, [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize(
    ("mode", "faces"), [(4, [[0, 1, 2]]), (5, [[0, 1, 2]]), (6, [[0, 1, 2]]), (1, None), (0, None)]
)
def test_glb_modes(mode, faces):
    description = triangle_glb(meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "mode": mode}]}])
    data = glb(description, TRIANGLE_BYTES)
    if faces is None:
        assert refusal(data, "glb").kind == ErrorKind.MESH_EMPTY
    else:
        assert_same(parse_mesh(data, f"{URI}.glb"), TRIANGLE, faces)


def test_glb_strips_turn_every_second_triangle():
    strip = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0]], dtype="<f4")
    description = triangle_glb(meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "mode": 5}]}])
    description["accessors"][0]["count"] = 5
    description["bufferViews"] = [{"buffer": 0, "byteLength": 60}] * 2
    mesh = parse_mesh(glb(description, strip.tobytes()), f"{URI}.glb")
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4]]
    normals = np.cross(*(mesh.vertices[mesh.faces[:, i]] - mesh.vertices[mesh.faces[:, 0]] for i in (1, 2)))
    assert (normals[:, 2] > 0).all()


def _accessor(index, **changes):
    description = triangle_glb()
    description["accessors"][index].update(changes)
    return description


@pytest.mark.parametrize(
    ("description", "says"),
    [
        (triangle_glb(buffers=[{"byteLength": 42, "uri": "http://example.com/a.bin"}]), "another file"),
        (triangle_glb(buffers=[{"byteLength": 42, "uri": "../../etc/passwd"}]), "another file"),
        (
            triangle_glb(buffers=[{"byteLength": 42, "uri": "data:application/gltf-buffer;base64,AAAA"}]),
            "cut short",
        ),
        (triangle_glb(buffers=[{"byteLength": 42, "uri": "data:application/gltf-buffer,AAAA"}]), "not base64"),
        (
            triangle_glb(buffers=[{"byteLength": 42, "uri": "data:application/gltf-buffer;base64,A$"}]),
            "cannot be decoded",
        ),
        (triangle_glb(nodes=[{"mesh": 0, "children": [0]}]), "its own ancestor"),
        (triangle_glb(nodes=[{"mesh": 7}]), "does not hold together"),
        (triangle_glb(nodes=[{"mesh": -1}]), "-1"),
        (triangle_glb(nodes=[{"mesh": 0, "matrix": [1, 2]}]), "wrong shape"),
        (triangle_glb(nodes=[{"mesh": 0, "translation": [float("nan"), 0, 0]}]), "not finite"),
        (triangle_glb(scenes=7), "does not hold together"),
        (_accessor(0, count=4), "past its data"),
        (_accessor(0, count=-3), "-3"),
        (_accessor(0, count=1e99), "1e+99"),
        (_accessor(0, componentType=5124), "5124"),
        (_accessor(0, type="VEC2"), "VEC2"),
        (_accessor(0, sparse={"count": 4}), "replaces 4"),
        (_accessor(1, componentType=5126), "unsigned"),
        (_accessor(0, byteOffset=-8), "-8"),
        ({"meshes": []}, None),
    ],
)
@pytest.mark.usefixtures("nothing_else_is_opened")
def test_hostile_glb_is_refused(description, says):
    error = refusal(glb(description, TRIANGLE_BYTES), "glb")
    if says is None:
        assert error.kind == ErrorKind.MESH_EMPTY
    else:
        assert error.kind == ErrorKind.MESH_BROKEN
        assert says in error.message


WEIRD = [None, True, -1, 0.5, 10**30, 1e999, "x", "", [], [0], {}, {"uri": "x"}]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_a_glb_description_is_a_mesh_or_a_refusal(data):
    description = json.loads(json.dumps(triangle_glb(nodes=[{"mesh": 0, "children": []}, {"scale": [1, 1, 1]}])))
    place = description
    while True:
        key = data.draw(st.sampled_from(list(range(len(place)) if isinstance(place, list) else place)))
        if isinstance(place[key], (dict, list)) and len(place[key]) and data.draw(st.booleans()):
            place = place[key]
        else:
            place[key] = data.draw(st.sampled_from(WEIRD))
            break
    try:
        mesh = parse_mesh(glb(description, TRIANGLE_BYTES), f"{URI}.glb")
    except InstanceError as error:
        assert error.kind in (ErrorKind.MESH_BROKEN, ErrorKind.MESH_EMPTY, ErrorKind.MESH_TOO_LARGE)  # noqa: PT017
    else:
        assert mesh.faces.max() < len(mesh.vertices)


def test_glb_that_claims_billions_of_faces_costs_nothing():
    description = _accessor(1, count=30_000_000_000)
    assert refusal(glb(description, TRIANGLE_BYTES), "glb").kind == ErrorKind.MESH_TOO_LARGE


def test_one_mesh_under_many_nodes_counts_each_time():
    description = triangle_glb(nodes=[{"mesh": 0}] * 101, scenes=[{"nodes": list(range(101))}])
    data = glb(description, TRIANGLE_BYTES)
    assert refusal(data, "glb", max_faces=100).kind == ErrorKind.MESH_TOO_LARGE
    assert len(parse_mesh(data, f"{URI}.glb", max_faces=101).faces) == 101


def test_what_is_not_compressed_but_said_to_be_is_named():
    extension = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    primitive = {"attributes": {"POSITION": 0}, "extensions": extension}
    error = refusal(glb(triangle_glb(meshes=[{"primitives": [primitive]}]), TRIANGLE_BYTES), "glb")
    assert "said to be compressed with KHR_draco_mesh_compression is not" in error.message
