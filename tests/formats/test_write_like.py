"""A file with moved positions: what was read comes back moved, and nothing else has changed, for two other readers."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pygltflib
import pytest
import trimesh
from gltf_files import GltfFile, draco, meshopt_view
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import refine_batch
from refine_batch.errors import ErrorKind, InstanceError, UsageError
from refine_batch.io.beside import files_beside
from refine_batch.io.formats.gltf.document import parse_document
from refine_batch.io.meshes import parse_mesh
from refine_batch.io.write_like import refined_file, write_like

SPHERE = trimesh.creation.icosphere(subdivisions=2)
POINTS = np.asarray(SPHERE.vertices, "<f4")
FACES = np.asarray(SPHERE.faces)


def moved(vertices) -> np.ndarray:
    """Stretched, bent and shifted, each vertex to another place."""
    x, y, z = np.asarray(vertices, np.float64).T
    return np.stack([1.4 * x + 0.1 * y, 0.8 * y - 0.05, z * (1.0 + 0.2 * x) + 0.02], axis=1).astype(np.float32)


def round_trip(data: bytes, name: str, sibling=None, atol=2e-6) -> bytes:
    """Written with its own positions it is what it was, with others it has these and the same faces."""
    mesh = parse_mesh(data, name, sibling=sibling)
    assert refined_file(data, name, mesh.vertices, sibling=sibling).file.data == data
    target = moved(mesh.vertices)
    written = refined_file(data, name, target, sibling=sibling)
    made = written.file.beside

    def beside(uri, limit):
        return made[uri] if uri in made else sibling(uri, limit)

    back = parse_mesh(written.file.data, name, sibling=beside)
    np.testing.assert_allclose(back.vertices, target, atol=atol)
    np.testing.assert_array_equal(back.faces, mesh.faces)
    return written.file.data


def normals_of(vertices, faces) -> np.ndarray:
    return trimesh.Trimesh(vertices, faces, process=False).vertex_normals


# ---- text and binary lists -----------------------------------------------------------------------------------------

OBJ = """\ufeff# made by hand, "v 1 2 3" is a comment
mtllib my materials.mtl
o thing
v 0 0 0 0.5 0.5 0.5 # grey
  v\t1.0  0.0 0.0
v 1 1 \\
0
v 0 1 0
v 0.5 0.5 1
vt 0 0
vt 1 1
usemtl skin
s 1
g quads
f 1/1 2/2 3/1 4/2
f 1 2 5 # roof
l 1 2
"""


def test_obj_keeps_every_byte_but_the_coordinates():
    data = round_trip(OBJ.encode(), "a.obj")
    expected = []
    coordinates = iter(moved([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]]).astype(str).tolist())
    for line in OBJ.replace("1 1 \\\n0", "1 1 !").split("\n"):
        words = line.split()
        if words[:1] == ["v"]:
            for old, new in zip(words[1:4], next(coordinates), strict=True):
                line = line.replace(f" {old}" if f" {old}" in line else f"\t{old}", f"\0{new}", 1)
        expected.append(line)
    assert data.decode().replace("\\\n", "").split() == " ".join(expected).replace("\0", " ").split()
    for kept in ("# grey", "  v\t", "mtllib my materials.mtl", "f 1/1 2/2 3/1 4/2", "f 1 2 5 # roof", "\ufeff# made"):
        assert kept in data.decode()


def test_obj_lines_of_what_does_not_move_stay():
    data = OBJ.encode()
    mesh = parse_mesh(data, "a.obj")
    vertices = mesh.vertices.copy()
    vertices[4] += 1
    before, after = data.splitlines(), refined_file(data, "a.obj", vertices).file.data.splitlines()
    assert [i for i, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]] == [8]


def obj_with_normals(vertices, faces, normals, corner_normals) -> bytes:
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices.tolist()]
    lines += [f"vn {x:.7g} {y:.7g} {z:.7g}" for x, y, z in normals.tolist()]
    pairs = zip((faces + 1).tolist(), (corner_normals + 1).tolist(), strict=True)
    lines += ["f " + " ".join(f"{a}/{a}/{n}" for a, n in zip(f, ns, strict=True)) for f, ns in pairs]
    return ("\n".join(lines) + "\n").encode()


def obj_corner_normals(data: bytes) -> np.ndarray:
    lines = data.decode().splitlines()
    normals = np.array([line.split()[1:] for line in lines if line.startswith("vn ")], dtype=float)
    index = [[int(word.split("/")[2]) - 1 for word in line.split()[1:]] for line in lines if line.startswith("f ")]
    return normals[np.array(index)]


def test_smooth_obj_normals_follow_the_surface_and_no_face_line_changes():
    data = obj_with_normals(POINTS, FACES, normals_of(POINTS, FACES), FACES)
    written = round_trip(data, "a.obj")
    assert written[written.index(b"f ") :] == data[data.index(b"f ") :]
    np.testing.assert_allclose(obj_corner_normals(written), normals_of(moved(POINTS), FACES)[FACES], atol=1e-4)


def test_obj_normals_that_serve_several_places_are_told_apart():
    box = trimesh.creation.box()
    unique, index = np.unique(np.round(box.face_normals), axis=0, return_inverse=True)
    data = obj_with_normals(box.vertices, box.faces, unique, np.repeat(index[:, None], 3, axis=1))
    written = round_trip(data, "a.obj")
    target = moved(box.vertices)
    found = obj_corner_normals(written)
    # Each face bends into two triangles: a corner's normal is the mean of those about it, and no crease is smoothed.
    faces = trimesh.Trimesh(target, box.faces, process=False).face_normals
    assert ((found * faces[:, None]).sum(axis=2) > 0.98).all()
    again = obj_corner_normals(refined_file(written, "a.obj", np.asarray(box.vertices)).file.data)
    np.testing.assert_allclose(again, obj_corner_normals(data), atol=1e-5)


@given(st.integers(0, 2**32))
def test_obj_writing_is_the_inverse_of_reading(seed):
    random = np.random.default_rng(seed)
    vertices = random.normal(size=(20, 3)).astype(np.float32)
    corners = random.integers(0, 20, (15, 3))
    data = obj_with_normals(vertices, corners, random.normal(size=(5, 3)), random.integers(0, 5, (15, 3)))
    target = random.normal(size=(20, 3)).astype(np.float32)
    back = parse_mesh(refined_file(data, "a.obj", target).file.data, "a.obj")
    np.testing.assert_array_equal(back.vertices, target)
    np.testing.assert_array_equal(back.faces, corners)


PLY = ("red", "x", "y", "nx", "ny", "nz", "z", "quality")


def ply_file(encoding: str) -> tuple[str, bytes]:
    """Header and body of a sphere with further elements, properties out of order and lists of differing lengths."""
    header = f"ply\nformat {encoding} 1.0\ncomment kept\nelement camera 1\nproperty float view\n"
    header += f"element vertex {len(POINTS)}\nproperty uchar red\n"
    header += "".join(f"property {'double' if name == 'x' else 'float'} {name}\n" for name in PLY[1:])
    header += f"property list uchar ushort tags\nelement face {len(FACES)}\n"
    header += "property list uchar int vertex_indices\nproperty uchar part\nend_header\n"
    e = ">" if "big" in encoding else "<"
    rows: list[tuple[str, list]] = [("f", [7.5])]
    for i, ((x, y, z), normal) in enumerate(zip(POINTS.tolist(), normals_of(POINTS, FACES).tolist(), strict=True)):
        tags = list(range(i % 3))
        rows.append((f"Bd6fB{len(tags)}H", [i % 256, x, y, *normal, z, 0.25, len(tags), *tags]))
    rows += [("B3iB", [3, *face, 9]) for face in FACES.tolist()]
    if encoding == "ascii":
        return header, "".join(" ".join(map(str, row)) + "\n" for _, row in rows).encode()
    return header, b"".join(struct.pack(e + pattern, *row) for pattern, row in rows)


def ply_rows(data: bytes, header: str, encoding: str) -> list[list[float]]:
    body = data[len(header) :]
    if encoding == "ascii":
        return [[float(word) for word in line.split()] for line in body.decode().splitlines()]
    e, rows = ">" if "big" in encoding else "<", []
    patterns = ["f", *(f"Bd6fB{i % 3}H" for i in range(len(POINTS))), *["B3iB"] * len(FACES)]
    for pattern in patterns:
        size = struct.calcsize(e + pattern)
        rows.append(list(struct.unpack(e + pattern, body[:size])))
        body = body[size:]
    assert body == b""
    return rows


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_keeps_colours_and_everything_else(encoding):
    header, body = ply_file(encoding)
    written = round_trip(header.encode() + body, "a.ply", atol=0)
    assert written.startswith(header.encode())
    before, after = (ply_rows(data, header, encoding) for data in (header.encode() + body, written))
    geometry = [PLY.index(name) for name in ("x", "y", "z", "nx", "ny", "nz")]
    vertices = slice(1, 1 + len(POINTS))
    found = np.array([[row[i] for i in geometry] for row in after[vertices]])
    np.testing.assert_allclose(found[:, :3], moved(POINTS), rtol=1e-6)
    np.testing.assert_allclose(found[:, 3:], normals_of(moved(POINTS), FACES), atol=1e-4)
    for rows in (before, after):
        for row in rows[vertices]:
            for i in geometry:
                row[i] = 0.0
    assert before == after


def test_a_second_reader_finds_the_colours_of_a_ply():
    colours = np.random.default_rng(0).integers(0, 256, (len(POINTS), 4), dtype=np.uint8)
    data = trimesh.Trimesh(POINTS, FACES, vertex_colors=colours, process=False).export(file_type="ply")
    written = round_trip(data, "a.ply", atol=0)
    found = trimesh.load_mesh(io.BytesIO(written), file_type="ply", process=False)
    np.testing.assert_array_equal(found.visual.vertex_colors, colours)
    np.testing.assert_array_equal(found.vertices, moved(POINTS))


def test_off_keeps_colours_comments_and_polygons():
    text = "COFF # colours\n4 1 0\n0 0 0 255 0 0 255\n1 0 0 0 255 0 255 # second\n"
    text += "1 1 0 1 2 3 4\n0 1 0.5 9 9 9 9\n4 0 1 2 3 7\n"
    written = round_trip(text.encode(), "a.off").decode()
    for kept in ("COFF # colours\n4 1 0\n", " 255 0 0 255\n", " 0 255 0 255 # second\n", "4 0 1 2 3 7\n"):
        assert kept in written
    assert round_trip(b"OFF3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "a.off").startswith(b"OFF3 1 0\n")


@pytest.mark.parametrize("kind", ["stl", "stl_ascii"])
def test_stl_normals_are_those_of_its_facets(kind):
    data = SPHERE.export(file_type=kind)
    data = data.encode() if isinstance(data, str) else data + b"\r\n"
    written = round_trip(data, "a.stl", atol=0)
    found = trimesh.load_mesh(io.BytesIO(written.rstrip(b"\r\n")), file_type=kind, process=False)
    np.testing.assert_allclose(
        found.face_normals, trimesh.Trimesh(moved(POINTS), FACES, process=False).face_normals, atol=1e-5
    )
    if kind == "stl":
        facets = np.frombuffer(written, dtype="<f4,<f4,<f4,(9,)<f4,<u2", offset=84, count=len(FACES))
        np.testing.assert_allclose(np.stack([facets[f"f{i}"] for i in range(3)], axis=1), found.face_normals, atol=1e-5)
        assert written[:84] == data[:84]
        assert written.endswith(b"\r\n")


# ---- glTF ----------------------------------------------------------------------------------------------------------


def png(size=4) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3)).save(stream, "PNG")
    return stream.getvalue()


def textured(faces=FACES, points=POINTS) -> GltfFile:
    """A sphere with everything that a single-view method writes: seams, texture, colours, normals, tangents."""
    file = GltfFile()
    seam = np.concatenate([np.arange(len(points)), np.arange(0, len(points), 3)])  # a third of the vertices doubled
    corners = faces.copy()
    twin = np.full(len(points), -1)
    twin[::3] = len(points) + np.arange(len(seam) - len(points))
    right = points[faces].mean(axis=1)[:, 0] > 0
    corners[right] = np.where(twin[faces[right]] >= 0, twin[faces[right]], faces[right])
    normals = normals_of(points, faces)[seam].astype("<f4")
    tangents = np.cross([0, 1, 0.01], normals)
    tangents = np.concatenate(
        [tangents / np.linalg.norm(tangents, axis=1, keepdims=True), np.ones((len(seam), 1))], axis=1
    )
    primitive = {
        "attributes": {
            "POSITION": file.positions(points[seam]),
            "NORMAL": file.accessor(normals),
            "TANGENT": file.accessor(tangents.astype("<f4")),
            "TEXCOORD_0": file.accessor(np.random.default_rng(0).random((len(seam), 2)).astype("<f4")),
            "COLOR_0": file.accessor(np.arange(4 * len(seam)).astype("<u1").reshape(-1, 4), normalized=True),
        },
        "indices": file.accessor(corners.astype("<u2").reshape(-1)),
        "material": 0,
        "extensions": {"EXT_of_the_future": {"answer": 42}},
    }
    file.description |= {
        "materials": [{"name": "skin", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}, "extras": {"a": 1}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": file.view(png()), "mimeType": "image/png", "name": "paint"}],
        "extensionsUsed": ["EXT_of_the_future"],
        "extras": {"made": "by hand"},
    }
    inner = file.node(root=False, name="inner", mesh=file.mesh(primitive, name="ball"), scale=[0.5, 0.5, -0.5])
    middle = file.node(root=False, name="middle", rotation=[0, 0.6, 0, 0.8], children=[inner])
    file.node(name="outer", translation=[3, -1, 2], scale=[1, 2, 1], children=[middle])
    times, values = file.accessor(np.array([0, 1], "<f4"), min=[0], max=[1]), file.accessor(np.eye(4, dtype="<f4")[:2])
    target = {"node": middle, "path": "rotation"}
    sampler = {"input": times, "output": values}
    file.description["animations"] = [{"channels": [{"sampler": 0, "target": target}], "samplers": [sampler]}]
    return file


GEOMETRY = ("POSITION", "NORMAL", "TANGENT")


def array_of(data: bytes, index: int) -> np.ndarray:
    """An accessor's array in the eyes of pygltflib."""
    gltf = pygltflib.GLTF2.load_from_bytes(data)
    accessor = gltf.accessors[index]
    view = gltf.bufferViews[accessor.bufferView]
    code = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor.componentType]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor.type]
    size = np.dtype(code).itemsize
    start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
    stride = view.byteStride or width * size
    return np.ndarray((accessor.count, width), code, gltf.binary_blob(), start, (stride, size)).copy()


def assert_all_else_is_the_same(before: bytes, after: bytes) -> None:
    """Everything in the description but bounds, and every array but positions, normals and tangents."""
    old, new = (pygltflib.GLTF2.load_from_bytes(data) for data in (before, after))
    for key in ("materials", "textures", "images", "nodes", "scenes", "animations", "extras", "extensionsUsed"):
        assert getattr(old, key) == getattr(new, key), key
    for mesh, other in zip(old.meshes, new.meshes, strict=True):
        assert mesh.name == other.name
        for a, b in zip(mesh.primitives, other.primitives, strict=True):
            assert (a.material, a.extensions, a.mode) == (b.material, b.extensions, b.mode)
            np.testing.assert_array_equal(array_of(before, a.indices), array_of(after, b.indices))
            for name in ("TEXCOORD_0", "COLOR_0"):
                if getattr(a.attributes, name) is not None:
                    pair = (array_of(d, getattr(p.attributes, name)) for d, p in ((before, a), (after, b)))
                    np.testing.assert_array_equal(*pair)
    for animation in new.animations:
        for sampler in animation.samplers:
            np.testing.assert_array_equal(array_of(before, sampler.output), array_of(after, sampler.output))


def assert_bounds_are_exact(data: bytes) -> None:
    gltf = pygltflib.GLTF2.load_from_bytes(data)
    for primitive in (p for mesh in gltf.meshes for p in mesh.primitives):
        index = primitive.attributes.POSITION
        values = array_of(data, index)
        assert gltf.accessors[index].min == values.min(axis=0).tolist()
        assert gltf.accessors[index].max == values.max(axis=0).tolist()


def test_glb_keeps_materials_textures_nodes_and_animations():
    data = textured().glb()
    written = round_trip(data, "a.glb")
    assert len(written) - len(data) < 400  # bounds have other digits
    assert_all_else_is_the_same(data, written)
    assert_bounds_are_exact(written)
    scene = trimesh.load_scene(io.BytesIO(written), file_type="glb", process=False)
    [geometry] = scene.geometry.values()
    was = next(iter(trimesh.load_scene(io.BytesIO(data), file_type="glb", process=False).geometry.values()))
    np.testing.assert_array_equal(geometry.visual.uv, was.visual.uv)
    assert geometry.visual.material.baseColorTexture.tobytes() == was.visual.material.baseColorTexture.tobytes()
    world = scene.to_mesh()
    np.testing.assert_allclose(world.vertices, moved(parse_mesh(data, "a.glb").vertices), atol=1e-5)


def world_vectors(data: bytes, index: int, inverse: bool) -> np.ndarray:
    """Normals (or tangents) of the textured sphere as its nodes turn them, by hand."""
    turn = trimesh.transformations.quaternion_matrix([0.8, 0, 0.6, 0])[:3, :3]
    linear = np.diag([1, 2, 1]) @ turn @ np.diag([0.5, 0.5, -0.5])
    vectors = array_of(data, index)[:, :3] @ (np.linalg.inv(linear) if inverse else linear.T)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_glb_normals_and_tangents_follow_and_seams_stay_smooth():
    file = textured()
    data = file.glb()
    written = round_trip(data, "a.glb")
    attributes = file.description["meshes"][0]["primitives"][0]["attributes"]
    mesh = parse_mesh(written, "a.glb")
    normals = world_vectors(written, attributes["NORMAL"], inverse=True)
    twins = np.arange(0, len(POINTS), 3)
    np.testing.assert_allclose(normals[: len(POINTS)][twins], normals[len(POINTS) :], atol=1e-6)
    # The doubled vertices are one again: then any reader's normals are these.
    whole = mesh.faces.copy()
    whole[whole >= len(POINTS)] = twins[whole[whole >= len(POINTS)] - len(POINTS)]
    np.testing.assert_allclose(normals[: len(POINTS)], normals_of(mesh.vertices[: len(POINTS)], whole), atol=0.04)
    local, tangents = (array_of(written, attributes[name]) for name in ("NORMAL", "TANGENT"))
    np.testing.assert_allclose(np.linalg.norm(local, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-6)
    assert (tangents[:, 3] == 1).all()
    upright = (normals * world_vectors(written, attributes["TANGENT"], inverse=False)).sum(axis=1)
    np.testing.assert_allclose(upright, 0, atol=1e-5)


def test_what_does_not_move_keeps_its_bits():
    data = textured().glb()
    vertices = parse_mesh(data, "a.glb").vertices.copy()
    vertices[0] += 0.125
    written = refined_file(data, "a.glb", vertices).file.data
    for name in GEOMETRY:
        index = parse_document(data).description["meshes"][0]["primitives"][0]["attributes"][name]
        same = (array_of(data, index) == array_of(written, index)).all(axis=1)
        assert 1 <= (~same).sum() <= (1 if name == "POSITION" else 14), name


def test_a_mesh_under_two_nodes_moves_in_its_own_way_under_each():
    file = textured()
    file.node(name="twin", mesh=0, translation=[-4, 0, 0])
    data = file.glb()
    written = round_trip(data, "a.glb")
    old, new = (pygltflib.GLTF2.load_from_bytes(d) for d in (data, written))
    assert [mesh.name for mesh in new.meshes] == ["ball", "ball"]
    assert [node.name for node in new.nodes] == [node.name for node in old.nodes]
    assert new.nodes[3].mesh == 1
    assert new.meshes[1].primitives[0].material == 0
    assert new.meshes[1].primitives[0].attributes.TEXCOORD_0 == new.meshes[0].primitives[0].attributes.TEXCOORD_0
    assert_bounds_are_exact(written)
    scene = trimesh.load_scene(io.BytesIO(written), file_type="glb", process=False)
    target = moved(parse_mesh(data, "a.glb").vertices)
    np.testing.assert_allclose(scene.bounds, [target.min(axis=0), target.max(axis=0)], atol=1e-5)


def test_gpu_instances_become_nodes():
    file = textured()
    where = {"TRANSLATION": file.accessor(np.array([[0, 0, 0], [5, 0, 0]], "<f4"))}
    file.description["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": where}}
    file.require("EXT_mesh_gpu_instancing")
    written = round_trip(file.glb(), "a.glb", atol=1e-5)
    description = parse_document(written).description
    assert "extensionsRequired" not in description
    assert description["extensionsUsed"] == ["EXT_of_the_future"]
    scene = trimesh.load_scene(io.BytesIO(written), file_type="glb", process=False)
    assert len(scene.graph.nodes_geometry) == 2


def test_meshes_that_share_an_accessor_and_primitives_that_share_positions():
    file = textured()
    primitive = file.description["meshes"][0]["primitives"][0]
    file.description["meshes"][0]["primitives"].append({**primitive, "material": 0})
    other = file.mesh(
        {**primitive, "mode": 4}, {"attributes": {"POSITION": primitive["attributes"]["POSITION"]}, "mode": 0}
    )
    file.node(mesh=other, translation=[0, 9, 0])
    written = round_trip(file.glb(), "a.glb", atol=1e-5)
    description = parse_document(written).description
    first, second = (mesh["primitives"] for mesh in description["meshes"])
    assert first[0]["attributes"]["POSITION"] == first[1]["attributes"]["POSITION"]
    assert second[0]["attributes"]["POSITION"] == second[1]["attributes"]["POSITION"]  # its points move along
    assert first[0]["attributes"]["POSITION"] != second[0]["attributes"]["POSITION"]


def test_interleaved_arrays_are_written_in_place_and_shared_bytes_are_not():
    file = GltfFile()
    rows = np.concatenate([POINTS, POINTS, np.zeros_like(POINTS)], axis=1).astype("<f4")
    view = file.view(rows.tobytes(), byteStride=36)
    position = file.accessor(POINTS, view=view, min=[-1, -1, -1], max=[1, 1, 1])
    normal = file.accessor(POINTS, view=view, byteOffset=12)
    index = file.accessor(FACES.astype("<u2").reshape(-1))
    file.node(mesh=file.mesh({"attributes": {"POSITION": position, "NORMAL": normal}, "indices": index}))
    written = round_trip(file.glb(), "a.glb")
    assert len(written) < len(file.glb()) + 300
    file.description["accessors"][normal]["byteOffset"] = 0  # the same bytes are normals too
    data = file.glb()
    written = refined_file(data, "a.glb", moved(POINTS)).file.data
    assert_bounds_are_exact(written)
    np.testing.assert_allclose(array_of(written, position), moved(POINTS), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(array_of(written, normal), axis=1), 1, atol=1e-5)


def test_draco_is_written_plain():
    file = GltfFile()
    uv = np.random.default_rng(0).random((len(POINTS), 2)).astype(np.float32)
    file.node(mesh=file.mesh(draco(file, POINTS, FACES, TEXCOORD_0=uv, NORMAL=POINTS)), translation=[1, 2, 3])
    file.description["images"] = [{"bufferView": file.view(png()), "mimeType": "image/png"}]
    data = file.glb()
    written = round_trip(data, "a.glb")
    description = parse_document(written).description
    assert "extensionsRequired" not in description
    assert "extensionsUsed" not in description
    assert b"DRACO" not in written
    assert_bounds_are_exact(written)
    attributes = description["meshes"][0]["primitives"][0]["attributes"]
    np.testing.assert_allclose(array_of(written, attributes["TEXCOORD_0"]), uv, atol=1e-5)
    view = description["bufferViews"][description["images"][0]["bufferView"]]
    blob = pygltflib.GLTF2.load_from_bytes(written).binary_blob()
    assert blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]] == png()
    scene = trimesh.load_scene(io.BytesIO(written), file_type="glb", process=False)
    np.testing.assert_allclose(scene.to_mesh().vertices, moved(parse_mesh(data, "a.glb").vertices), atol=1e-5)


def test_meshopt_and_quantised_arrays_are_written_plain():
    file = GltfFile()
    file.require("KHR_mesh_quantization")
    rows = np.zeros((len(POINTS), 4), "<u2")
    rows[:, :3] = np.rint((POINTS + 1) / 2 * 65535)
    view = meshopt_view(file, rows, "ATTRIBUTES", byteStride=8)
    position = file.accessor(rows[:, :3], view=view, normalized=True)
    normals = np.zeros((len(POINTS), 4), "<i1")
    normals[:, :3] = np.rint(POINTS * 127)
    view = meshopt_view(file, normals, "ATTRIBUTES", byteStride=4)
    normal = file.accessor(normals[:, :3], view=view, normalized=True)
    corners = FACES.astype("<u2").reshape(-1)
    index = file.accessor(corners, view=meshopt_view(file, corners, "TRIANGLES"))
    mesh = file.mesh({"attributes": {"POSITION": position, "NORMAL": normal}, "indices": index})
    file.node(mesh=mesh, scale=[2, 2, 2], translation=[-1, -1, -1])
    written = round_trip(file.glb(), "a.glb")
    description = parse_document(written).description
    assert description["extensionsRequired"] == ["KHR_mesh_quantization"]
    assert len(description["buffers"]) == 1
    assert_bounds_are_exact(written)
    scene = trimesh.load_scene(io.BytesIO(written), file_type="glb", process=False)
    np.testing.assert_allclose(scene.to_mesh().vertices, moved(parse_mesh(file.glb(), "a.glb").vertices), atol=1e-5)
    assert (array_of(written, normal) * normals_of(moved(POINTS), FACES)).sum(axis=1).min() > 0.99


def test_sparse_positions_are_written_plain():
    file = textured()
    accessor = file.description["accessors"][0]
    accessor["sparse"] = {
        "count": 1,
        "indices": {"bufferView": file.view(b"\x05\x00"), "componentType": 5123},
        "values": {"bufferView": file.view(np.float32([1, 2, 3]).tobytes())},
    }
    written = round_trip(file.glb(), "a.glb")
    assert "sparse" not in parse_document(written).description["accessors"][0]


def test_a_node_that_flattens_is_named():
    file = textured()
    file.description["nodes"][2]["scale"] = [1, 0, 1]
    data = file.glb()
    vertices = parse_mesh(data, "a.glb").vertices
    with pytest.raises(InstanceError, match="node 0 flattens its mesh") as caught:
        refined_file(data, "a.glb", moved(vertices))
    assert caught.value.kind == ErrorKind.MESH_BROKEN


# ---- files ---------------------------------------------------------------------------------------------------------


def write_gltf_folder(folder) -> None:
    folder.mkdir()
    file = textured()
    file.description["images"] = [{"uri": "textures/paint.png"}, {"uri": "textures/my%20other.png"}]
    (folder / "scene.gltf").write_bytes(file.gltf("scene.bin"))
    (folder / "scene.bin").write_bytes(file.binary)
    (folder / "textures").mkdir()
    (folder / "textures" / "paint.png").write_bytes(png())
    (folder / "textures" / "my other.png").write_bytes(png())


def test_gltf_with_what_lies_beside_it(tmp_path):
    source = tmp_path / "source"
    write_gltf_folder(source)
    original = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    read = files_beside(str(source / "scene.gltf"))
    target = moved(parse_mesh(original[source / "scene.gltf"], "scene.gltf", sibling=read).vertices)
    assert refine_batch.write_like(source / "scene.gltf", target, tmp_path / "out" / "new.gltf") == ()
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert made == {"new.gltf", "new.bin", "textures/paint.png", "textures/my other.png"}
    scene = trimesh.load_scene(tmp_path / "out" / "new.gltf", process=False)
    np.testing.assert_allclose(scene.to_mesh().vertices, target, atol=1e-5)
    assert next(iter(scene.geometry.values())).visual.material.baseColorTexture.size == (4, 4)
    gltf = pygltflib.GLTF2().load(str(tmp_path / "out" / "new.gltf"))
    assert gltf.buffers[0].uri == "new.bin"
    # Beside the source itself nothing of the source is touched.
    assert write_like(source / "scene.gltf", target, source / "refined.gltf") == ()
    assert {path: path.read_bytes() for path in original} == original
    again = (source / "refined.gltf").read_bytes()
    np.testing.assert_allclose(parse_mesh(again, "refined.gltf", sibling=read).vertices, target, atol=1e-5)


def test_a_texture_that_is_gone_costs_the_texture(tmp_path):
    source = tmp_path / "source"
    write_gltf_folder(source)
    (source / "textures" / "my other.png").unlink()
    mesh = parse_mesh((source / "scene.gltf").read_bytes(), "a.gltf", sibling=files_beside(str(source / "scene.gltf")))
    [note] = write_like(source / "scene.gltf", moved(mesh.vertices), tmp_path / "out" / "scene.gltf")
    assert "my other.png" in note
    assert "no such file" in note
    assert (tmp_path / "out" / "scene.gltf").exists()


def test_obj_with_its_materials_and_their_textures(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "maps").mkdir(parents=True)
    (source / "a.obj").write_bytes(OBJ.encode())
    library = "newmtl skin\nmap_Kd -s 1 1 1 maps/skin.png\nbump my bump.png\nmap_Ks ../../secret.png\nmap_Ka gone.png\n"
    (source / "my materials.mtl").write_text(library)
    (source / "maps" / "skin.png").write_bytes(png())
    (source / "my bump.png").write_bytes(png(5))
    (tmp_path / "secret.png").write_bytes(b"secret")
    target = moved(parse_mesh(OBJ.encode(), "a.obj").vertices)
    notes = write_like(source / "a.obj", target, out / "b.obj")
    assert (out / "my materials.mtl").read_text() == library
    assert (out / "maps" / "skin.png").read_bytes() == png()
    assert (out / "my bump.png").read_bytes() == png(5)
    assert sorted(path.name for path in out.rglob("*")) == [
        "b.obj",
        "maps",
        "my bump.png",
        "my materials.mtl",
        "skin.png",
    ]
    assert len(notes) == 2
    assert any("secret.png" in note for note in notes)
    (out / "my bump.png").write_bytes(b"another")
    notes = write_like(source / "a.obj", target, out / "b.obj")
    assert (out / "my bump.png").read_bytes() == b"another"
    assert any("my bump.png lies beside" in note and "differs" in note for note in notes)


def test_what_cannot_be_written_is_said(tmp_path):
    data = textured().glb()
    vertices = parse_mesh(data, "a.glb").vertices
    with pytest.raises(InstanceError, match=rf"has {len(vertices)} vertices, and positions of {len(vertices) - 1}"):
        write_like(data, vertices[1:], tmp_path / "a.glb")
    with pytest.raises(UsageError, match=r"the source is GLB; write it as \.glb"):
        write_like(data, vertices, tmp_path / "a.obj")
    with pytest.raises(ValueError, match="finite"):
        write_like(data, vertices * np.nan, tmp_path / "a.glb")
    with pytest.raises(FileNotFoundError):
        write_like(tmp_path / "nowhere.glb", vertices, tmp_path / "a.glb")
    assert list(tmp_path.iterdir()) == []
    write_like(data, vertices, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == data


WEIRD = [None, True, -1, 0.5, 10**30, "x", "", [], [0], {}, {"uri": "x"}, 1, 2]


@given(data=st.data())
def test_any_value_anywhere_is_written_or_refused(data):
    source = textured()
    source.glb()
    description = json.loads(json.dumps(source.description))
    place = description
    while True:
        key = data.draw(st.sampled_from(list(range(len(place)) if isinstance(place, list) else place)))
        if isinstance(place[key], dict | list) and len(place[key]) and data.draw(st.booleans()):
            place = place[key]
        else:
            place[key] = data.draw(st.sampled_from(WEIRD))
            break
    source.description = description
    try:
        file = source.glb()
    except (KeyError, TypeError, IndexError):
        return
    try:
        mesh = parse_mesh(file, "a.glb")
        written = refined_file(file, "a.glb", moved(mesh.vertices))
    except InstanceError:
        return
    back = parse_mesh(written.file.data, "a.glb")
    np.testing.assert_allclose(back.vertices, moved(mesh.vertices), atol=1e-4)
    np.testing.assert_array_equal(back.faces, mesh.faces)
