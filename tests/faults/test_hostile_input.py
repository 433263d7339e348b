"""Inputs that are broken or meant to do harm, all in one manifest: each is a failed row, its neighbours are refined."""

from __future__ import annotations

import csv
import io
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_dataset import COLUMNS, result_rows, write_manifest

from refine_batch.config import RefineConfig
from refine_batch.job import driver
from refine_batch.job.options import RunOptions
from refine_batch.job.progress import Lines

ODD_IDS = (
    *("../../escape", "a/b\\c", "..", "/etc/passwd", "two words", "\N{CHAIR}", "<script>alert(1)</script>"),
    *("[bold red]x[/]", "x" * 300, "NULL", "NaN", "-rf", "%2e%2e%2f", "a\u202eb", "tab\there"),
)
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


@pytest.fixture
def visitors():
    """A web server, and the paths that it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def png_of_zeros(width, height):
    """A picture of one colour: a few kilobytes that unfold to width × height."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = bytes(1 + width)
    rows = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def glb(document):
    text = document.encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text


def write_hostile_files(folder: Path, elsewhere: str) -> dict[str, tuple[dict[str, str], str | None]]:
    """By instance: what its row has in place of the usual, and the kind of error (None: it is refined)."""
    sphere = (folder / "sphere.obj").read_text()
    (folder / "names-files.obj").write_text(f"mtllib {elsewhere}/x.mtl\nmtllib /etc/passwd\nusemtl x\n{sphere}")
    (folder / "nan.obj").write_text(TRIANGLE.replace("1 0 0", "nan 0 0"))
    (folder / "huge-numbers.obj").write_text(TRIANGLE.replace("1 0 0", "1e300 0 0"))
    (folder / "out-of-range.obj").write_text(TRIANGLE.replace("f 1 2 3", "f 1 2 9"))
    (folder / "empty.obj").write_text("")
    (folder / "binary.obj").write_bytes(bytes(range(256)) * 16)
    many = "".join(f"f {1 + i % 3} {1 + (i + 1) % 3} {1 + (i + 2) % 3}\n" for i in range(30))
    (folder / "many-faces.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n" + many * 170_000)
    with (folder / "sparse.stl").open("wb") as file:  # ten million triangles of which none was ever written
        file.write(bytes(80) + struct.pack("<I", 10_000_000))
        file.truncate(84 + 50 * 10_000_000)
    outside = """{{"asset": {{"version": "2.0"}}, "scene": 0, "scenes": [{{"nodes": [0]}}],
        "nodes": [{{"mesh": 0}}], "meshes": [{{"primitives": [{{"attributes": {{"POSITION": 0}}}}]}}],
        "accessors": [{{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}}],
        "bufferViews": [{{"buffer": 0, "byteLength": 36}}], "buffers": [{{"byteLength": 36, "uri": "{}"}}]}}"""
    (folder / "url.glb").write_bytes(glb(outside.format(f"{elsewhere}/buffer.bin")))
    (folder / "file.glb").write_bytes(glb(outside.format("../../../etc/passwd")))
    (folder / "bomb.png").write_bytes(png_of_zeros(9000, 9000))
    whole = (folder / "disc.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    page = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(page, "GIF")
    (folder / "picture.gif").write_bytes(page.getvalue())
    (folder / "folder.obj").mkdir()
    secret = elsewhere.replace("http://", "http://user:geheim@")
    return {
        "names-files": ({"mesh_uri": "names-files.obj"}, None),
        "nan-vertex": ({"mesh_uri": "nan.obj"}, "mesh_broken"),
        "huge-numbers": ({"mesh_uri": "huge-numbers.obj"}, "mesh_broken"),
        "out-of-range": ({"mesh_uri": "out-of-range.obj"}, "mesh_broken"),
        "empty": ({"mesh_uri": "empty.obj"}, "mesh_empty"),
        "binary": ({"mesh_uri": "binary.obj"}, "mesh_broken"),
        "many-faces": ({"mesh_uri": "many-faces.obj"}, "mesh_too_large"),
        "sparse": ({"mesh_uri": "sparse.stl"}, "mesh_too_large"),
        "url": ({"mesh_uri": "url.glb"}, "mesh_broken"),
        "file": ({"mesh_uri": "file.glb"}, "mesh_broken"),
        "bomb": ({"image_uri": "bomb.png"}, "image_too_large"),
        "torn": ({"image_uri": "torn.png"}, "image_broken"),
        "gif": ({"image_uri": "picture.gif"}, "image_broken"),
        "folder": ({"mesh_uri": "folder.obj"}, "missing_file"),
        "no-file": ({"mesh_uri": "nowhere.obj"}, "missing_file"),
        "secret": ({"mesh_uri": f"{secret}/mesh.obj?X-Amz-Signature=abcdef0123"}, "missing_file"),
        "nan-camera": ({"azimuth": "nan"}, "camera_invalid"),
        "inside": ({"distance": "-1"}, "camera_invalid"),
        "odd-axis": ({"symmetry_axis": "w"}, "row_invalid"),
    }


@pytest.mark.usefixtures("lasting_actors")
def test_each_is_a_failed_row_and_its_neighbours_are_refined(tmp_path, visitors):
    folder, elsewhere, asked = tmp_path / "data", *visitors
    write_manifest(folder, [])
    hostile = write_hostile_files(folder, elsewhere)
    usual = {"mesh_uri": "sphere.obj", "image_uri": "disc.png", "azimuth": 30, "elevation": 20, "distance": 1.2}
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        sheet = csv.DictWriter(file, (*COLUMNS, "symmetry_axis"))
        sheet.writeheader()
        for name in ODD_IDS:
            sheet.writerow(usual | {"instance_id": name})
        for name, (columns, _) in hostile.items():
            sheet.writerow(usual | columns | {"instance_id": name})
    before = everything(tmp_path)

    log = io.StringIO()
    outcome = driver.run(
        str(folder / "manifest.csv"),
        str(tmp_path / "out"),
        RefineConfig(method="stub_methods:swell", image_size=32, figure_samples=100),
        RunOptions(actors=1, batch_size=8, max_failed_fraction=0.6, instance_timeout=60.0),
        reporter=Lines(log, interval=0.1),
    )

    assert outcome.exit_status == 0, outcome.record.message
    rows = result_rows(tmp_path / "out")
    expected = dict.fromkeys(ODD_IDS) | {name: kind for name, (_, kind) in hostile.items()}
    assert len(rows) == len(expected)
    found = {row["instance_id"]: row["error_kind"] for row in rows}
    assert found == expected, {row["instance_id"]: row["error_message"] for row in rows if row["error_message"]}
    assert {row["attempts"] for row in rows} == {1}

    assert not [path for path in asked if path != "/mesh.obj?X-Amz-Signature=abcdef0123"], "a mesh file made it ask"
    made = everything(tmp_path) - before
    assert {path.partition("/")[0] for path in made} == {"out"}
    assert all(part.count("/") == 2 and ".." not in part for part in made if part.startswith("out/results/"))
    record = next((tmp_path / "out" / "runs").iterdir()).read_text()
    for text in (log.getvalue(), record, str(rows)):
        assert "geheim" not in text
        assert "abcdef0123" not in text
    assert log.getvalue().isprintable() or all(line.isprintable() for line in log.getvalue().splitlines())


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
