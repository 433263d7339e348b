"""How long files of each format take to read and to write back refined, and what memory reading takes.

    python benchmarks/formats.py --faces 500000

CPU seconds on one core; memory as a multiple of the file's size, as tracemalloc counts it (numpy's arrays included).
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Iterator

import DracoPy
import numpy as np
import trimesh

from refine_batch.io.meshes import parse_mesh, write_mesh
from refine_batch.io.write_like import refined_file
from refine_batch.mesh import Mesh


def wave(faces: int) -> Mesh:
    """A grid of about so many triangles, bent, so that coordinates have all their digits."""
    side = max(int(np.sqrt(faces / 2)), 1)
    x, y = (axis.ravel() for axis in np.meshgrid(*[np.linspace(0, 1, side + 1)] * 2))
    first = np.arange(side * (side + 1)).reshape(side, side + 1)[:, :-1].ravel()
    last = first + side + 2
    return Mesh(
        np.stack([x, y, np.sin(9 * x) * np.cos(7 * y)], axis=1),
        np.concatenate([np.stack([first, first + 1, last], axis=1), np.stack([first, last, last - 1], axis=1)]),
    )


def files(mesh: Mesh) -> Iterator[tuple[str, str, bytes]]:
    """Name, extension and bytes of the mesh in each format."""
    plain = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    yield "OBJ", "obj", write_mesh(mesh, "obj")
    yield "OBJ with vt and vn", "obj", _full_obj(mesh, plain.vertex_normals)
    yield "OFF", "off", plain.export(file_type="off").encode()
    yield "PLY, text", "ply", plain.export(file_type="ply", encoding="ascii")
    yield "PLY", "ply", write_mesh(mesh, "ply")
    yield "STL, text", "stl", plain.export(file_type="stl_ascii").encode()
    yield "STL", "stl", plain.export(file_type="stl")
    yield "GLB", "glb", write_mesh(mesh, "glb")
    yield "GLB with normals", "glb", plain.export(file_type="glb", include_normals=True)
    yield "GLB, Draco", "glb", _draco_glb(mesh)


def _full_obj(mesh: Mesh, normals: np.ndarray) -> bytes:
    def lines(pattern: str, rows: np.ndarray) -> str:
        return pattern * len(rows) % tuple(rows.ravel().tolist())

    corners = np.repeat(mesh.faces + 1, 3, axis=1)
    text = lines("v %.6f %.6f %.6f\n", mesh.vertices) + lines("vt %.6f %.6f\n", mesh.vertices[:, :2])
    return (text + lines("vn %.4f %.4f %.4f\n", normals) + lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners)).encode()


def _draco_glb(mesh: Mesh) -> bytes:
    import json
    import struct

    data = DracoPy.encode(mesh.vertices, faces=mesh.faces.astype(np.uint32), quantization_bits=14)
    data += b"\x00" * (-len(data) % 4)
    packed = {"bufferView": 0, "attributes": {"POSITION": 0}}
    primitive = {
        "attributes": {"POSITION": 0},
        "indices": 1,
        "extensions": {"KHR_draco_mesh_compression": packed},
    }
    description = {
        "asset": {"version": "2.0"},
        "extensionsRequired": ["KHR_draco_mesh_compression"],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": [
            {"componentType": 5126, "count": len(mesh.vertices), "type": "VEC3"},
            {"componentType": 5125, "count": mesh.faces.size, "type": "SCALAR"},
        ],
        "bufferViews": [{"buffer": 0, "byteLength": len(data)}],
        "buffers": [{"byteLength": len(data)}],
    }
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\x00") + data
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=500_000)
    parser.add_argument("--no-write", action="store_true", help="read only")
    options = parser.parse_args()
    print(f"{'':20}{'MB':>7}{'faces':>9}{'read, s':>9}{'memory':>8}{'write, s':>10}")
    for name, extension, data in files(wave(options.faces)):
        start = time.process_time()
        mesh = parse_mesh(data, f"mesh.{extension}")
        seconds = time.process_time() - start
        tracemalloc.start()
        parse_mesh(data, f"mesh.{extension}")
        peak = tracemalloc.get_traced_memory()[1] / len(data)
        tracemalloc.stop()
        written = ""
        if not options.no_write:
            start = time.process_time()
            refined_file(data, f"mesh.{extension}", mesh.vertices * np.float32(1.25))
            written = f"{time.process_time() - start:.2f}"
        print(f"{name:20}{len(data) / 1e6:7.1f}{len(mesh.faces):9}{seconds:9.2f}{peak:7.1f}×{written:>10}", flush=True)


if __name__ == "__main__":
    main()
