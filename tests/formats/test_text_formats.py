"""OBJ, OFF, PLY and STL as they come from elsewhere."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from mesh_checks import URI, assert_same, refusal

from refine_batch.errors import ErrorKind
from refine_batch.io.formats import text
from refine_batch.io.meshes import parse_mesh, read_mesh

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
SQUARE_V = "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE)


# ---- OBJ -----------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_does_not_take_the_first_vertex_along():
    mesh = parse_mesh(b"\xef\xbb\xbf" + SQUARE_V.encode() + b"f 1 2 3 4\n", f"{URI}.obj")
    assert_same(mesh, SQUARE, [[0, 1, 2], [0, 2, 3]])


def test_faces_of_fewer_than_three_corners_are_left_out_and_said():
    found = read_mesh((SQUARE_V + "f 1 2\nf 1 2 3\nf 4\nf\nf 1 3 4\n").encode(), f"{URI}.obj")
    assert_same(found.mesh, SQUARE, [[0, 1, 2], [0, 2, 3]])
    assert found.notes == ("3 faces have fewer than 3 corners and are left out",)


def test_polygons_of_all_sizes_and_ways_of_writing_corners_side_by_side():
    lines = (
        "f 1 2 3\nf 1/1 2/2 3/3 4/4\nf -4//1 -3//2 -2//3\nf 1/1/1 2/2/2 3/3/3 4/4/4 1/1/1\n#f 1 2 3\nf 1 2 3 # f 4\n"
    )
    mesh = parse_mesh((SQUARE_V + lines).encode(), f"{URI}.obj")
    fan = [[0, 1, 2], [0, 2, 3]]
    assert mesh.faces.tolist() == [[0, 1, 2], *fan, [0, 1, 2], *fan, [0, 3, 0], [0, 1, 2]]


def test_negative_indices_count_from_where_they_stand():
    second = "v 5 0 0\nv 6 0 0\nv 5 1 0\nf -1 -2 -3\n"
    mesh = parse_mesh((SQUARE_V + "f -4 -3 -2\n" + second).encode(), f"{URI}.obj")
    assert mesh.faces.tolist() == [[0, 1, 2], [6, 5, 4]]


def test_old_line_ends_and_no_last_line_end():
    for end in ("\n", "\r\n", "\r"):
        body = (SQUARE_V + "f 1 2 3").replace("\n", end)
        assert len(parse_mesh(body.encode(), f"{URI}.obj").faces) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("v 1-2 3 4", "line 5: '1-2' is not a number"),
        ("v 0x10 3 4", "line 5: '0x10' is not a number"),
        ("v 1,5 3 4", "line 5: '1,5' is not a number"),
        ("f 1.5 2 3", "line 5: '1.5' is not a whole number"),
        ("f 1-2 3 4", "line 5: '1-2' is not a whole number"),
        ("f /1 2 3", "line 5: '/1' is not a whole number"),
        ("f a 2 3", "line 5: 'a' is not a whole number"),
        ("f 1 2 -5", "line 5: '-5' names no vertex (4 stand above it)"),
    ],
)
def test_the_word_that_is_no_number_is_named_with_its_line(line, says):
    error = refusal((SQUARE_V + line + "\nf 1 2 3\n").encode(), "obj")
    assert error.kind == ErrorKind.MESH_BROKEN
    assert says in error.message


def test_a_fault_is_the_same_where_warnings_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "'x' is not a number" in refusal((SQUARE_V + "v 1 x 2\nf 1 2 3\n").encode(), "obj").message


@given(st.data())
def test_where_the_file_is_cut_into_blocks_makes_no_difference(data):
    """Against the same file read in one piece, and against trimesh's own arrays."""
    count = data.draw(st.integers(3, 40))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vertices = random.normal(size=(count, 3)).astype(np.float32)
    faces = random.integers(0, count, (count, 3))
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices.tolist()]
    lines += [f"f {a}/{c} {b}//{a} {c}" for a, b, c in (faces + 1).tolist()]
    file = "\n".join([*lines, "# end", ""]).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", data.draw(st.integers(1, 200)))
        assert_same(parse_mesh(file, f"{URI}.obj"), vertices, faces)


# ---- OFF -----------------------------------------------------------------------------------------------------------

OFF_BODY = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n"


@pytest.mark.parametrize("head", ["OFF4 1 0\n", "OFF 4 1 0\n", "OFF\n4 1 0\n", "\ufeffOFF4 1 0\n", "OFF#\n4 1\n"])
def test_off_with_the_counts_glued_to_its_keyword(head):
    assert_same(parse_mesh((head + OFF_BODY).encode(), f"{URI}.off"), SQUARE, [[0, 1, 2], [0, 2, 3]])


def test_off_says_which_faces_enclose_nothing():
    found = read_mesh(b"OFF\n4 3 0\n" + OFF_BODY.encode() + b"2 0 1\n3 0 1 2 255 0 0\n", f"{URI}.off")
    assert found.mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert found.notes == ("1 faces have fewer than 3 corners and are left out",)


# ---- PLY -----------------------------------------------------------------------------------------------------------

LIST_HEADER = """ply
format {} 1.0
element vertex 4
property list uchar float weights
property float x
property float y
property list ushort int neighbours
property float z
property uchar red
element face 2
property list uchar int vertex_indices
property float quality
end_header
"""


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_with_lists_on_its_vertices(encoding, ragged):
    def lists(i):
        return (i if ragged else 2), (3 - i if ragged else 1)

    data = LIST_HEADER.format(encoding).encode()
    e = ">" if "big" in encoding else "<"
    for i, (x, y, z) in enumerate(SQUARE):
        a, b = lists(i)
        if encoding == "ascii":
            row = [a, *[0.5] * a, x, y, b, *range(b), z, 200]
            data += " ".join(map(str, row)).encode() + b"\n"
        else:
            data += struct.pack(f"{e}B{a}f2fH{b}ifB", a, *[0.5] * a, x, y, b, *range(b), z, 200)
    for face in ([0, 1, 2, 3], [2, 1, 0]) if ragged else ([0, 1, 2], [2, 1, 0]):
        if encoding == "ascii":
            data += " ".join(map(str, [len(face), *face, 0.25])).encode() + b"\n"
        else:
            data += struct.pack(f"{e}B{len(face)}if", len(face), *face, 0.25)
    faces = [[0, 1, 2], [0, 2, 3], [2, 1, 0]] if ragged else [[0, 1, 2], [2, 1, 0]]
    assert_same(parse_mesh(data, f"{URI}.ply"), SQUARE, faces)


def test_ply_strips():
    header = b"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    header += b"element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    body = "".join(f"{x} {y} {z}\n" for x, y, z in SQUARE) + "9 0 1 3 2 -1 0 1 2 3\n"
    mesh = parse_mesh(header + body.encode(), f"{URI}.ply")
    assert mesh.faces.tolist() == [[0, 1, 3], [3, 1, 2], [0, 1, 2], [2, 1, 3]]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_ply_headers_end_their_lines_in_any_way(ending):
    box = trimesh.creation.box()
    data = box.export(file_type="ply")
    end = data.index(b"end_header\n") + len(b"end_header\n")
    mesh = parse_mesh(data[:end].replace(b"\n", ending) + data[end:], f"{URI}.ply")
    np.testing.assert_array_equal(mesh.faces, box.faces)


def test_numbers_behind_the_last_ply_row_are_not_looked_at():
    data = trimesh.creation.box().export(file_type="ply", encoding="ascii") + b"\nthe end\n"
    assert len(parse_mesh(data, f"{URI}.ply").faces) == 12


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_list_that_claims_more_than_there_is(length):
    header = b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty list uint64 float w\n"
    header += b"property float x\nproperty float y\nproperty float z\nend_header\n"
    error = refusal(header + struct.pack("<Q3f", length, 1, 2, 3) * 2, "ply")
    assert "cut short" in error.message


# ---- STL -----------------------------------------------------------------------------------------------------------


def test_bytes_behind_a_binary_stl_are_left_out_and_said():
    data = trimesh.creation.box().export(file_type="stl")
    found = read_mesh(data + b"\r\n", f"{URI}.stl")
    assert len(found.mesh.faces) == 12
    assert found.notes == ("2 bytes behind the last facet are left out",)
    assert "claims 12 facets" in refusal(data[:-1], "stl").message


def test_text_stl_in_capitals_with_several_solids():
    facet = "FACET NORMAL 0 0 1\nOUTER LOOP\nVERTEX 0 0 0\nVERTEX 1 0 0\nVERTEX 0 1 0\nENDLOOP\nENDFACET\n"
    text = f"SOLID a\n{facet}ENDSOLID a\nsolid b\n{facet.lower().replace('1 0 0', '1 1 0')}end solid b\n"
    mesh = parse_mesh(text.encode(), f"{URI}.stl")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 3, 2]]


def test_stl_places_are_one_where_zero_has_two_signs():
    facets = np.zeros(2, dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    facets["corners"][0] = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]
    facets["corners"][1] = [[-0.0, 0, 0], [0, 1, 0], [0, 0, 1]]
    data = bytes(80) + struct.pack("<I", 2) + facets.tobytes()
    assert parse_mesh(data, f"{URI}.stl").faces.tolist() == [[0, 1, 2], [0, 2, 3]]
