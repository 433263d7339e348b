"""A mesh file's texture and colours on the page: at the right places, within bounds, and never at the row's cost."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import trimesh
from PIL import Image
from report_outputs import write_output
from result_rows import put, result
from test_geometry import decoded

from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.meshes import parse_mesh
from refine_batch.io.paint import linear, read_paint, srgb_bytes
from refine_batch.io.storage import Storage
from refine_batch.mesh import Mesh
from refine_batch.report import write_report
from refine_batch.report.geometry import MAX_BYTES, MAX_PAINTED_BYTES, MAX_TEXTURE_BYTES, encode, materials

RED, GREEN = (200, 30, 20), (20, 180, 60)


def halves(size: int = 64) -> Image.Image:
    """Red on the left, green on the right."""
    picture = np.empty((size, size, 3), np.uint8)
    picture[:, : size // 2], picture[:, size // 2 :] = RED, GREEN
    return Image.fromarray(picture)


def textured(shape: trimesh.Trimesh, picture: Image.Image | None = None, **material) -> bytes:
    """A GLB: u is 0.25 for x < 0, else 0.75, so that it is red on its left and green on its right."""
    uv = np.stack([np.where(shape.vertices[:, 0] < 0, 0.25, 0.75), np.full(len(shape.vertices), 0.5)], axis=1)
    look = trimesh.visual.material.PBRMaterial(baseColorTexture=picture or halves(), **material)
    made = trimesh.Trimesh(shape.vertices, shape.faces, process=False)
    made.visual = trimesh.visual.TextureVisuals(uv=uv, material=look)
    return made.export(file_type="glb")


def edited(data: bytes, change) -> bytes:
    """A GLB with its description changed."""
    size = int.from_bytes(data[12:16], "little")
    description = json.loads(data[20 : 20 + size])
    change(description)
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    head = b"glTF" + (2).to_bytes(4, "little") + (20 + len(text) + len(rest)).to_bytes(4, "little")
    return head + len(text).to_bytes(4, "little") + b"JSON" + text + rest


def colours_by_side(mesh: Mesh, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = mesh.vertices[:, 0]
    return colours[x < -0.1], colours[x > 0.1]


def paint_of(data: bytes, name: str = "it.glb"):
    mesh = parse_mesh(data, name)
    return mesh, read_paint(data, name, mesh)


def array(made: dict, name: str, dtype: str, width: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(made[name]), dtype).reshape(-1, width)


def test_srgb_there_and_back():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(srgb_bytes(linear(levels)), levels)
    assert linear(np.uint8(188)) == pytest.approx(0.5029, abs=1e-4)


def test_the_texture_is_where_the_file_puts_it():
    """Two materials would be two groups; here one, its UVs at the file's own corners."""
    mesh, paint = paint_of(textured(trimesh.creation.icosphere(2)))
    left, right = colours_by_side(mesh, srgb_bytes(paint.of_vertices(mesh)))
    assert (left == RED).all()
    assert (right == GREEN).all()
    moved = Mesh(mesh.vertices * np.float32(0.9), mesh.faces)
    for shown in (mesh, moved):
        made = encode(shown, paint)
        assert made["of"] is None
        vertices, faces = decoded(made)
        uv = np.array(made["uvLow"]) + np.array(made["uvSize"]) * array(made, "uv", "<u2", 2) / 65_535
        np.testing.assert_allclose(uv[:, 0], np.where(vertices[:, 0] < -1e-3, 0.25, 0.75), atol=1e-4)
        np.testing.assert_allclose(vertices[faces], shown.vertices[mesh.faces], atol=1e-4)
        assert made["groups"] == [[0, 0, 3 * len(mesh.faces)]]
    look = materials(paint)
    [uri] = look["textures"]
    assert look["materials"][0] == {"colour": [1.0, 1.0, 1.0], "texture": 0}
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"), np.int16)
    assert np.abs(picture[:, 8] - RED).max() < 12
    assert np.abs(picture[:, -8] - GREEN).max() < 12


def test_a_simplified_mesh_has_the_colours_at_its_vertices():
    mesh, paint = paint_of(textured(trimesh.creation.icosphere(5)))
    made = encode(mesh, paint)
    assert made["of"] == len(mesh.faces) == 20_480
    assert "uv" not in made
    vertices, faces = decoded(made)
    assert len(faces) > 4000
    left, right = colours_by_side(Mesh(vertices, faces), array(made, "colours", "u1", 3))
    assert (left == RED).all()
    assert (right == GREEN).all()
    assert sum(len(made[name]) for name in ("vertices", "faces", "colours")) <= MAX_PAINTED_BYTES * 4 / 3 + 8


def test_texture_and_all_a_mesh_stays_within_bounds():
    """Loose triangles, each corner with its own place in the texture; the textures take what the meshes give up."""
    random = np.random.default_rng(0)
    vertices, faces = random.normal(size=(27_000, 3)), np.arange(27_000).reshape(-1, 3)
    mesh, paint = paint_of(textured(trimesh.Trimesh(vertices, faces, process=False)))
    made = encode(mesh, paint)
    assert sum(len(made[name]) for name in ("vertices", "faces", "colours")) <= MAX_PAINTED_BYTES * 4 / 3 * 1.02
    assert 2 * MAX_PAINTED_BYTES * 4 / 3 + MAX_TEXTURE_BYTES <= 2 * MAX_BYTES * 4 / 3 + 8


def test_vertex_colours_and_materials_of_several_meshes():
    """A transform that mirrors turns faces round, and their corners' colours with them."""
    one, two = trimesh.creation.icosphere(1), trimesh.creation.box()
    random = np.random.default_rng(0)
    one.visual.vertex_colors = random.integers(0, 256, (len(one.vertices), 4), dtype=np.uint8) | [0, 0, 0, 255]
    blue = trimesh.visual.material.PBRMaterial(baseColorFactor=[0, 0, 255, 255])
    two.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(two.vertices), 2)), material=blue)
    scene = trimesh.Scene()
    scene.add_geometry(one, transform=np.diag([-1.0, 1.0, 1.0, 1.0]))
    scene.add_geometry(two, transform=trimesh.transformations.translation_matrix([3, 0, 0]))
    mesh, paint = paint_of(scene.export(file_type="glb"))
    found = paint.of_vertices(mesh)
    expected = one.visual.vertex_colors[:, :3] / 255.0  # linear, as the format has them
    first = slice(0, len(one.vertices)) if mesh.vertices[0, 0] < 2 else slice(len(two.vertices), None)
    np.testing.assert_allclose(found[first], expected, atol=1e-6)
    others = np.delete(np.arange(len(found)), np.arange(len(found))[first])
    np.testing.assert_allclose(found[others], np.tile([0.0, 0.0, 1.0], (len(others), 1)), atol=1e-6)
    made = encode(mesh, paint)
    assert sum(count for _, _, count in made["groups"]) == 3 * len(mesh.faces)
    assert len(made["groups"]) == 2


def test_colours_of_a_ply():
    shape = trimesh.creation.icosphere(2)
    shape.visual.vertex_colors = np.where(shape.vertices[:, :1] < 0, RED, GREEN).astype(np.uint8)
    data = shape.export(file_type="ply")
    mesh, paint = paint_of(data, "it.ply")
    np.testing.assert_array_equal(srgb_bytes(paint.of_vertices(mesh)), shape.visual.vertex_colors[:, :3])


@pytest.mark.parametrize("polygons", [False, True])
def test_the_texture_of_an_obj_s_material_library(polygons):
    """Two materials, one with a texture and one with a colour; a face of four corners, seams between the corners."""
    picture = io.BytesIO()
    halves().save(picture, "png")
    beside = {
        "skin lib.mtl": b"newmtl skin\nKd 0 0 0\nmap_Kd -s 1 1 1 sub/red green.png\n\nnewmtl plain\nKd 0 0 1\n",
        "sub/red green.png": picture.getvalue(),
    }
    quad = b"f 1/1 2/2 3/2 4/1\n" if polygons else b"f 1/1 2/2 3/2\nf 1/1 3/2 4/1\n"
    text = (
        b"mtllib skin lib.mtl\nv -1 0 0\nv 1 0 0\nv 1 1 0\nv -1 1 0\nvt 0.25 0.9\nvt 0.75 0.9\nvt 0.1 0.1 0\n"
        b"usemtl skin\n" + quad + b"usemtl plain\nf 1 2 -1\nusemtl skin\nf -4/-3 -3/-3 -2/-3\n"
    )
    mesh = parse_mesh(text, "it.obj")
    paint = read_paint(text, "it.obj", mesh, sibling=lambda name, most: beside[name])
    assert paint.problems == ()
    assert [bool(paint.texture[m] >= 0) for m in paint.material] == [True, True, False, True]
    np.testing.assert_allclose(paint.uv[0], [[0.25, 0.1], [0.75, 0.1], [0.75, 0.1]], atol=1e-6)
    np.testing.assert_allclose(paint.uv[1], [[0.25, 0.1], [0.75, 0.1], [0.25, 0.1]], atol=1e-6)
    np.testing.assert_allclose(paint.uv[3], [[0.25, 0.1]] * 3, atol=1e-6)
    assert paint.factors[paint.material[2]].tolist() == [0, 0, 1]
    assert paint.factors[paint.material[0]].tolist() == [1, 1, 1]


def test_a_material_library_that_is_gone_is_a_problem_only():
    def sibling(name, most):
        raise InstanceError(ErrorKind.MISSING_FILE, f"{name}: no such file")

    text = b"mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl a\nf 1 2 3\n"
    paint = read_paint(text, "it.obj", parse_mesh(text, "it.obj"), sibling=sibling)
    assert paint.problems == ("gone.mtl: no such file",)
    assert not paint.says_something
    assert read_paint(text, "it.obj", parse_mesh(text, "it.obj")) is None


def test_a_transform_of_the_texture_is_followed():
    """Half a turn about the origin and 1 along u: what was red is green."""

    def turn(description):
        reference = description["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
        reference["extensions"] = {"KHR_texture_transform": {"scale": [-1, 1], "offset": [1, 0]}}

    mesh, paint = paint_of(edited(textured(trimesh.creation.icosphere(1)), turn))
    left, right = colours_by_side(mesh, srgb_bytes(paint.of_vertices(mesh)))
    assert (left == GREEN).all()
    assert (right == RED).all()


def test_what_has_no_look_is_shown_plainly():
    shape = trimesh.creation.icosphere(1)
    for kind in ("glb", "obj", "ply", "stl"):
        assert paint_of(_bytes(shape, kind), f"it.{kind}")[1] is None


def _bytes(shape: trimesh.Trimesh, kind: str) -> bytes:
    data = trimesh.Trimesh(shape.vertices, shape.faces, process=False).export(file_type=kind)
    return data.encode() if isinstance(data, str) else data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["images"][0].update(bufferView=0), "not a PNG"),
        (lambda d: d["images"].__setitem__(0, {"uri": "elsewhere.png"}), "another file"),
        (lambda d: d["images"].__setitem__(0, {"uri": "data:image/png;base64,%%"}), "cannot be decoded"),
        (lambda d: d["textures"][0].update(source=7), "does not hold together"),
    ],
)
def test_a_texture_that_cannot_be_read_is_a_problem_only(change, says):
    _, paint = paint_of(edited(textured(trimesh.creation.icosphere(1)), change))
    [problem] = paint.problems
    assert problem.startswith("it.glb, texture")
    assert says in problem
    assert not paint.says_something


def test_a_description_that_does_not_hold_together_is_said():
    data = edited(textured(trimesh.creation.icosphere(1)), lambda d: d["meshes"][0]["primitives"][0].update(material=9))
    mesh = parse_mesh(data, "it.glb")
    with pytest.raises(InstanceError, match=r"it\.glb: broken mesh: its description does not hold together"):
        read_paint(data, "it.glb", mesh)


def test_textures_are_reduced_to_what_a_page_takes():
    noise = np.random.default_rng(0).integers(0, 256, (1024, 700, 3), dtype=np.uint8)
    _, paint = paint_of(textured(trimesh.creation.icosphere(1), Image.fromarray(noise)))
    [uri] = materials(paint)["textures"]
    assert len(uri) <= MAX_TEXTURE_BYTES
    assert max(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size) >= 128


def write_textured_output(folder) -> Storage:
    """Rows about textured files: a small one, one that is simplified, one whose texture is broken, one replaced."""
    output = Storage(str(folder / "output"))
    ball, fine = trimesh.creation.icosphere(3, 0.5), trimesh.creation.icosphere(5, 0.5)
    broken = edited(textured(ball), lambda d: d["images"].__setitem__(0, {"uri": "gone.png"}))
    rows = []
    files = {"small": textured(ball), "fine": textured(fine), "broken": broken, "replaced": textured(ball)}
    for at, (name, data) in enumerate(files.items()):
        (folder / f"{name}.glb").write_bytes(data)
        mesh = parse_mesh(data, f"{name}.glb")
        faces = mesh.faces[::2] if name == "replaced" else mesh.faces
        values = {"mesh_uri": str(folder / f"{name}.glb"), "vertices": mesh.vertices * np.float32([1.2, 0.8, 1])}
        rows.append(result(name, at) | values | {"faces": faces, "azimuth": 0.0, "elevation": 10.0, "distance": 2.0})
    put(output, rows)
    return output


def test_the_page_shows_what_can_be_read(tmp_path):
    output = write_textured_output(tmp_path)
    write_report(output.uri, str(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    [block] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    titles = re.findall(r"<h3 [^>]*><bdi>(.*?)</bdi>", text)
    views = dict(zip(titles, json.loads(block)["views"], strict=True))
    assert {"uv", "groups"} <= views["small"]["meshes"]["refined"].keys()
    assert "colours" in views["fine"]["meshes"]["refined"]
    assert views["broken"]["look"] is None
    assert "colours" not in views["broken"]["meshes"]["coarse"]
    assert "gone.png" in text
    assert "uv" in views["replaced"]["meshes"]["coarse"]
    assert "uv" not in views["replaced"]["meshes"]["refined"]
    assert 'id="texture"' in text


def test_a_page_without_textures_offers_none(tmp_path):
    write_report(write_output(tmp_path, 2).uri, str(tmp_path / "report.html"))
    assert 'id="texture"' not in (tmp_path / "report.html").read_text(encoding="utf-8")
