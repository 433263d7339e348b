"""Mesh readers and writers: exactly the file's vertices and faces, and a clear refusal of everything else."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mesh_checks import URI, assert_same, nothing_else_is_opened, refusal  # noqa: F401

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.meshes import mesh_format, parse_mesh, write_mesh
from refine_batch.mesh import Mesh

COORDINATES = st.floats(-(2.0**100), 2.0**100, width=32)


def tetrahedron() -> Mesh:
    vertices = [[0.1, 0.2, 0.3], [1.0, 0.0, 1e-7], [0.0, 1.0, 1 / 3], [0.0, 0.0, 1.0]]
    return Mesh(np.array(vertices), np.array([[0, 2, 1], [3, 0, 1], [0, 3, 2], [1, 2, 3]]))


# ---- writers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["obj", "ply", "glb"])
def test_writers_keep_every_bit_and_trimesh_agrees(file_format):
    random = np.random.default_rng(0)
    mesh = Mesh(random.normal(size=(50, 3)) * 10.0 ** random.integers(-9, 9, (50, 1)), random.integers(0, 50, (80, 3)))
    data = write_mesh(mesh, file_format)
    assert_same(parse_mesh(data, f"{URI}.{file_format}"), mesh.vertices, mesh.faces)
    other = trimesh.load_scene(io.BytesIO(data), file_type=file_format, process=False, maintain_order=True).to_mesh()
    np.testing.assert_array_equal(other.vertices.astype(np.float32), mesh.vertices)
    np.testing.assert_array_equal(other.faces, mesh.faces)


@settings(max_examples=50, deadline=None)
@given(
    vertices=hnp.arrays(np.float32, (5, 3), elements=COORDINATES),
    seed=st.integers(0, 2**32),
    file_format=st.sampled_from(["obj", "ply", "glb"]),
)
def test_writing_and_reading_is_the_identity(vertices, seed, file_format):
    faces = np.random.default_rng(seed).integers(0, len(vertices), (7, 3))
    mesh = Mesh(vertices, faces)
    if not np.ptp(vertices, axis=0).max() > 0:
        return
    assert_same(parse_mesh(write_mesh(mesh, file_format), f"{URI}.{file_format}"), mesh.vertices, mesh.faces)


def test_an_unknown_format_is_not_written():
    with pytest.raises(ValueError, match="obj, ply or glb"):
        write_mesh(tetrahedron(), "stl")


# ---- OBJ -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_else_is_opened")
def test_obj_polygons_texture_and_normal_indices_groups_and_references():
    text = """# made by hand
mtllib ../../../../etc/passwd
mtllib http://example.com/evil.mtl
o first
v 0 0 0
v 1 0 0 0.5 0.5 0.5
  v 1\t1 0
v 0 1 0
vt 0 0
vt 1 1
vn 0 0 1
usemtl http://example.com/evil.png
g quads
f 1/1 2/2 3/1 4/2
o second
v 0 0 1
v 0.5 1.5 1
f 1//1 2//1 5//1 # a comment
f -1/2/1 -2/2/1 -6/2/1
f 1 2 \\
  3 4 6
"""
    for ends in ("\n", "\r\n"):
        mesh = parse_mesh(text.replace("\n", ends).encode(), f"{URI}.obj")
        assert_same(
            mesh,
            [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0.5, 1.5, 1]],
            [[0, 1, 2], [0, 2, 3], [0, 1, 4], [5, 4, 0], [0, 1, 2], [0, 2, 3], [0, 3, 5]],
        )


def test_obj_vertices_are_not_split_at_texture_seams():
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\nf 2/3 4/1 3/2\n"
    mesh = parse_mesh(text.encode(), f"{URI}.obj")
    assert len(mesh.vertices) == 4
    assert mesh.faces.tolist() == [[0, 1, 2], [1, 3, 2]]


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", ErrorKind.MESH_BROKEN, "vertex 3"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9999999999\n", ErrorKind.MESH_BROKEN, "9999999998"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4294967297\n", ErrorKind.MESH_BROKEN, "4294967296"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", ErrorKind.MESH_BROKEN, "line 4"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf -4 1 2\n", ErrorKind.MESH_BROKEN, "line 4"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\n", ErrorKind.MESH_EMPTY, "1 faces have fewer than 3 corners"),
        ("v 0 0 0\nv 1 zero 0\nv 0 1 0\nf 1 2 3\n", ErrorKind.MESH_BROKEN, "line 2: 'zero' is not a number"),
        ("v 0 0 0\nv 1 0\nv 0 1 0\nf 1 2 3\n", ErrorKind.MESH_BROKEN, "line 2: a vertex has 2"),
        ("v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n", ErrorKind.MESH_BROKEN, "1 vertices are NaN"),
        ("v 0 0 0\nv 1e60 0 0\nv 0 1 0\nf 1 2 3\n", ErrorKind.MESH_BROKEN, "NaN or infinite"),
        ("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", ErrorKind.MESH_BROKEN, "one point"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", ErrorKind.MESH_EMPTY, "0 faces"),
        ("f 1 2 3\n", ErrorKind.MESH_EMPTY, "0 vertices"),
        ("", ErrorKind.MESH_EMPTY, "empty"),
        ("\x00\x01binary", ErrorKind.MESH_BROKEN, "binary"),
    ],
)
def test_broken_obj_is_refused_with_the_place(text, kind, says):
    error = refusal(text.encode(), "obj")
    assert error.kind == kind
    assert says in error.message


# ---- limits --------------------------------------------------------------------------------------------------------


def header_only(extension: str, faces: int) -> bytes:
    """A file that claims many faces in few bytes."""
    if extension == "ply":
        return (
            f"ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
            f"property float z\nelement face {faces}\nproperty list uchar int vertex_indices\nend_header\n"
        ).encode()
    if extension == "off":
        return f"OFF\n3 {faces} 0\n".encode()
    raise AssertionError(extension)


@pytest.mark.parametrize("extension", ["ply", "off"])
def test_ten_million_faces_are_refused_from_the_header(extension):
    error = refusal(header_only(extension, 10_000_000), extension)
    assert error.kind == ErrorKind.MESH_TOO_LARGE
    assert "10000000 faces; the limit is 5000000" in error.message


@pytest.mark.parametrize("extension", ["ply", "off"])
def test_a_header_that_promises_more_than_the_file_holds_is_broken(extension):
    error = refusal(header_only(extension, 1_900_000), extension)
    assert error.kind == ErrorKind.MESH_BROKEN
    assert "cut short" in error.message


def test_ten_million_face_lines_of_an_obj_are_refused_before_they_are_parsed():
    data = b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + b"f 1 2 3\n" * 10_000_000
    error = refusal(data, "obj")
    assert error.kind == ErrorKind.MESH_TOO_LARGE
    assert "10000000 faces" in error.message


def test_a_polygon_of_a_million_corners_counts_as_its_triangles():
    data = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf" + b" 1 2 3" * 1000 + b"\n"
    assert refusal(data, "obj", max_faces=2997).kind == ErrorKind.MESH_TOO_LARGE
    assert len(parse_mesh(data, f"{URI}.obj", max_faces=2998).faces) == 2998


@pytest.mark.parametrize("extension", ["obj", "ply", "off", "stl", "stl_ascii", "glb"])
def test_limits_hold_in_every_format(extension):
    data = trimesh.creation.icosphere(subdivisions=1).export(file_type=extension)
    data = data.encode() if isinstance(data, str) else data
    suffix = extension.partition("_")[0]
    assert len(parse_mesh(data, f"{URI}.{suffix}", max_faces=80).faces) == 80
    assert refusal(data, suffix, max_faces=79).kind == ErrorKind.MESH_TOO_LARGE
    assert refusal(data, suffix, max_bytes=len(data) - 1).kind == ErrorKind.MESH_TOO_LARGE


@pytest.mark.parametrize("extension", ["obj", "ply", "off", "stl"])
def test_filler_costs_no_memory(extension):
    start = {
        "obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
        "ply": trimesh.creation.box().export(file_type="ply", encoding="ascii"),
        "off": b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n",
        "stl": b"solid\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n",
    }[extension]
    end = {"off": b"3 0 1 2\n", "stl": b"endsolid\n"}.get(extension, b"")
    data = start + b"\n" * 4_000_000 + end
    tracemalloc.start()
    try:
        assert len(parse_mesh(data, f"{URI}.{extension}").faces) in (1, 12)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("extension", ["obj", "off", "ply", "glb"])
def test_vertices_are_limited_too(extension):
    many = Mesh(np.random.default_rng(0).normal(size=(31, 3)), np.array([[0, 1, 2]]))
    data = (
        write_mesh(many, extension)
        if extension != "off"
        else trimesh.Trimesh(many.vertices, many.faces, process=False).export(file_type="off").encode()
    )
    error = refusal(data, extension, max_faces=10)
    assert error.kind == ErrorKind.MESH_TOO_LARGE
    assert "31 vertices; the limit is 30" in error.message
    assert len(parse_mesh(data, f"{URI}.{extension}", max_faces=11).vertices) == 31


def test_an_endless_line_is_refused():
    data = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf " + b"1 2 3 " * 200_000
    assert "line 4 has" in refusal(data, "obj").message


# ---- every format against trimesh ----------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["obj", "ply", "off", "stl", "stl_ascii", "glb"])
def test_a_sphere_written_by_trimesh_is_read_as_it_was(extension):
    sphere = trimesh.creation.icosphere(subdivisions=2)
    data = sphere.export(file_type=extension)
    data = data.encode() if isinstance(data, str) else data
    mesh = parse_mesh(data, f"{URI}.{extension.partition('_')[0]}")
    assert len(mesh.vertices) == len(sphere.vertices)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], sphere.vertices[sphere.faces], atol=1e-6)
    if not extension.startswith("stl"):
        np.testing.assert_array_equal(mesh.faces, sphere.faces)


@pytest.mark.parametrize("extension", ["obj", "ply", "off", "stl", "stl_ascii", "glb"])
def test_a_file_cut_short_anywhere_is_a_mesh_or_a_clear_refusal(extension):
    data = trimesh.creation.icosphere(subdivisions=0).export(file_type=extension)
    data = data.encode() if isinstance(data, str) else data
    suffix = extension.partition("_")[0]
    kinds = set()
    for length in range(len(data)):
        try:
            mesh = parse_mesh(data[:length], f"{URI}.{suffix}")
        except InstanceError as error:
            kinds.add(error.kind)
        else:  # text without a count in its header cannot tell; binary can
            assert suffix in ("obj", "off") or length >= len(data.rstrip()) - 16, length
            assert mesh.faces.max() < len(mesh.vertices)
    assert kinds <= {ErrorKind.MESH_BROKEN, ErrorKind.MESH_EMPTY}
    assert ErrorKind.MESH_BROKEN in kinds


@settings(max_examples=300, deadline=None)
@given(
    extension=st.sampled_from(["obj", "ply", "off", "stl", "glb"]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_never_crash_a_reader(extension, edits):
    data = trimesh.creation.icosphere(subdivisions=0).export(file_type=extension)
    damaged = bytearray(data.encode() if isinstance(data, str) else data)
    for place, value in edits:
        damaged[place % len(damaged)] = value
    try:
        mesh = parse_mesh(bytes(damaged), f"{URI}.{extension}")
    except InstanceError:
        return
    assert np.isfinite(mesh.vertices).all()
    assert mesh.faces.max() < len(mesh.vertices)


def test_the_format_is_told_by_content_then_by_extension():
    assert mesh_format(b"glTF\x02\0\0\0", "a.obj") == "glb"
    assert mesh_format(b"ply\nformat", "a") == "ply"
    assert mesh_format(b"COFF\n1 2 3", "a.txt") == "off"
    assert mesh_format(b"v 0 0 0", "https://host/a.OBJ?version=3") == "obj"
    assert mesh_format(b"v 0 0 0", "a.txt") is None
    assert refusal(b"PK\x03\x04 a zip", "zip").kind == ErrorKind.MESH_BROKEN
    assert refusal(b"\x80\x04\x95 a pickle", "pkl").kind == ErrorKind.MESH_BROKEN


# ---- PLY -----------------------------------------------------------------------------------------------------------

PLY_HEADER = """ply
format {encoding} 1.0
comment TextureFile /etc/passwd
element material 1
property list uchar float weights
property float shine
element vertex 5
property float x
property uchar red
property double y
property float z
property float s
property float t
element face 3
property uchar flags
property list uchar {index} vertex_index
property list uchar float texcoord
end_header
"""
PLY_VERTICES = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 0.5, 2)]
PLY_FACES = [(0, 1, 2, 3), (0, 1, 4), (0, 1, 2, 3, 4)]
PLY_TRIANGLES = [[0, 1, 2], [0, 2, 3], [0, 1, 4], [0, 1, 2], [0, 2, 3], [0, 3, 4]]


@pytest.mark.usefixtures("nothing_else_is_opened")
@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_with_mixed_polygons_keeps_their_order(encoding):
    header = PLY_HEADER.format(encoding=encoding, index="int")
    if encoding == "ascii":
        body = "2 0.5 0.25 7\n" + "".join(f"{x} 9 {y} {z} 0.1 0.2\n" for x, y, z in PLY_VERTICES)
        body += "".join(f"1 {len(f)} {' '.join(map(str, f))} 2 0.5 0.5\n" for f in PLY_FACES)
        data = (header + body).encode()
    else:
        e = "<" if "little" in encoding else ">"
        data = header.encode() + struct.pack(e + "Bfff", 2, 0.5, 0.25, 7)
        data += b"".join(struct.pack(e + "fBdfff", x, 9, y, z, 0.1, 0.2) for x, y, z in PLY_VERTICES)
        data += b"".join(struct.pack(f"{e}BB{len(f)}iBff", 1, len(f), *f, 2, 0.5, 0.5) for f in PLY_FACES)
    assert_same(parse_mesh(data, f"{URI}.ply"), PLY_VERTICES, PLY_TRIANGLES)


def test_ply_of_quads_alone_takes_the_fast_path_to_the_same_fans():
    header = PLY_HEADER.format(encoding="binary_little_endian", index="ushort")
    quads = [(0, 1, 2, 3), (1, 2, 3, 4), (4, 3, 2, 1)]
    data = header.encode() + struct.pack("<Bfff", 2, 0.5, 0.25, 7)
    data += b"".join(struct.pack("<fBdfff", x, 9, y, z, 0.1, 0.2) for x, y, z in PLY_VERTICES)
    data += b"".join(struct.pack("<BB4HBff", 1, 4, *f, 2, 0.5, 0.5) for f in quads)
    triangles = [[0, 1, 2], [0, 2, 3], [1, 2, 3], [1, 3, 4], [4, 3, 2], [4, 2, 1]]
    assert_same(parse_mesh(data, f"{URI}.ply"), PLY_VERTICES, triangles)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("ply\nformat ascii 1.0\nelement vertex -1\nproperty float x\nend_header\n", "negative"),
        ("ply\nformat ascii 1.0\nelement vertex two\nend_header\n", "not a whole number"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty quaternion x\nend_header\n", "quaternion"),
        ("ply\nelement vertex 0\nend_header\n", "no format"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "x, y and z"),
        ("ply\nformat ascii 1.0\nelement junk 9999999999999\nproperty float x\nend_header\n1\n", "cut short"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nend_header\n1\n", "no properties"),
        ("ply\n" + "comment x\n" * 10_000 + "end_header\n", "no end"),
        (
            "ply\nformat ascii 1.0\nelement face 1\nproperty list int int vertex_index\nend_header\n-3 1 2 3\n",
            "-3 where the length of a list belongs",
        ),
        ("ply\nformat ascii 1.0\nelement face 1\nproperty int vertex_index\nend_header\n1\n", "vertex_indices"),
    ],
)
def test_broken_ply_headers_are_refused(header, says):
    error = refusal(header.encode(), "ply")
    assert error.kind == ErrorKind.MESH_BROKEN
    assert says in error.message


# ---- OFF and STL ---------------------------------------------------------------------------------------------------


def test_off_with_comments_colours_and_polygons():
    text = "COFF # a square and a roof\n\n5 2 0\n" + "".join(f"{x} {y} {z} 255 0 0\n" for x, y, z in PLY_VERTICES)
    text += "4 0 1 2 3 0.5 0.5 0.5\n# between\n3 0 1 4\n"
    assert_same(parse_mesh(text.encode(), f"{URI}.off"), PLY_VERTICES, [[0, 1, 2], [0, 2, 3], [0, 1, 4]])
    one_line = text.replace("\n\n5 2 0", "").replace("COFF # a square and a roof", "OFF 5 2 0")
    assert_same(parse_mesh(one_line.encode(), f"{URI}.off"), PLY_VERTICES, [[0, 1, 2], [0, 2, 3], [0, 1, 4]])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n", "vertex 3"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -1\n", "vertex -1"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n4 0 1 2\n", "claims 4 corners and names 3"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 zero       \n3 0 1 2\n", "'zero'"),
        ("OFF BINARY\n3 1 0\n", "binary OFF"),
        ("OFF\n", "numbers of vertices"),
        ("OFF\n-3 1 0\n", "-3 vertices"),
    ],
)
def test_broken_off_is_refused(text, says):
    error = refusal(text.encode(), "off")
    assert error.kind == ErrorKind.MESH_BROKEN
    assert says in error.message


def test_stl_corners_merge_by_first_appearance():
    box = trimesh.creation.box()
    for file_type in ("stl", "stl_ascii"):
        data = box.export(file_type=file_type)
        mesh = parse_mesh(data.encode() if isinstance(data, str) else data, f"{URI}.stl")
        assert mesh.vertices.shape == (8, 3)
        assert mesh.faces[0].tolist() == [0, 1, 2]
        np.testing.assert_array_equal(mesh.vertices[mesh.faces], box.triangles.astype(np.float32))


def test_a_binary_stl_that_begins_with_solid_is_still_binary():
    data = trimesh.creation.box().export(file_type="stl")
    assert len(parse_mesh(b"solid" + data[5:], f"{URI}.stl").faces) == 12


@pytest.mark.parametrize(
    "name", ["/data/set#2/a?x=1.obj", "/data/a#1.obj", "s3://bucket/a#1.OBJ", "http://h/a.obj?x=b.ply#c"]
)
def test_a_name_tells_the_format_whatever_marks_it_holds(name):
    assert mesh_format(b"v 0 0 0\n", name) == "obj"
