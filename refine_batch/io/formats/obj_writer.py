"""OBJ with moved positions; texture coordinates, materials, groups and comments as they were."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from refine_batch.io.formats.common import Sibling, fans
from refine_batch.io.formats.normals import Shading, renewed
from refine_batch.io.formats.obj import coordinate_words, obj_blocks, read_obj, resolved
from refine_batch.io.formats.text import Block
from refine_batch.io.formats.written import Written, check_count, replaced, texts

_LIBRARY = re.compile(rb"(?m)^[ \t]*mtllib[ \t]+([^\r\n]+?)[ \t]*\r?$")
# Normals that lie nearer than this stay one line of the file.
_SAME = 1e-3


@dataclass(frozen=True)
class _Lines:
    """Where the words of a file are that may change.

    Parameters
    ----------
    vertices : (V, 3) int64
        Bytes at which coordinates begin.
    normal_places, normals : (N, 3)
        The same of `vn` lines, and their values.
    corner_vertex, corner_normal, corner_place : (C,) int64
        Of each corner of a polygon its vertex, its normal (−1: none) and the byte at which the normal's index begins.
    counts : (P,) int64
        Corners of each polygon.
    first_face, normals_above_it
        The byte at which the first `f` line begins, and how many `vn` lines stand above it.
    """

    vertices: np.ndarray
    normal_places: np.ndarray
    normals: np.ndarray
    corner_vertex: np.ndarray
    corner_normal: np.ndarray
    corner_place: np.ndarray
    counts: np.ndarray
    first_face: int
    normals_above_it: int


def write_obj(data: bytes, vertices: np.ndarray, max_faces: int, sibling: Sibling | None, stem: str) -> Written:
    """`v` lines of what moved, and the `vn` lines about it.

    A normal's line that serves places which now lie differently is joined by others, put before the first face, and
    the `f` lines name them; else no `f` line changes.
    """
    found = read_obj(data, max_faces)
    check_count(vertices, len(found.vertices))
    lines = _lines(data)
    moved = (vertices != found.vertices.astype(np.float32)).any(axis=1)
    starts, words = [lines.vertices[moved].reshape(-1)], texts(vertices[moved].astype(np.float64))
    extra = np.zeros((0, 3))
    if len(lines.normals) and moved.any():
        after = vertices.astype(np.float64)
        before = np.where(moved[:, None], found.vertices, after)
        renewal = _Renewal(lines, before, after, found.faces, max_faces)
        changed = (renewal.normals != lines.normals).any(axis=1)
        starts.append(lines.normal_places[changed].reshape(-1))
        words += texts(renewal.normals[changed])
        if len(renewal.extra):
            extra = renewal.extra
            corners = np.flatnonzero(lines.corner_normal >= 0)
            starts.append(lines.corner_place[corners])
            words += texts(renewal.corner_index[corners])
    at = np.concatenate(starts)
    if len(extra):
        head, tail = at < lines.first_face, at >= lines.first_face
        numbers = texts(extra)
        rows = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        inserted = b"".join(b"vn %b %b %b\n" % row for row in rows)
        data = b"".join([
            replaced(data[: lines.first_face], at[head], _chosen(words, head)),
            inserted,
            replaced(data[lines.first_face :], at[tail] - lines.first_face, _chosen(words, tail)),
        ])  # fmt: skip
    else:
        data = replaced(data, at, words)
    references = dict.fromkeys(name.decode("utf-8", "surrogateescape") for name in _LIBRARY.findall(data))
    return Written(data, references=tuple(references))


def _chosen(words: list[bytes], which: np.ndarray) -> list[bytes]:
    return [words[i] for i in np.flatnonzero(which).tolist()]


class _Renewal:
    """New normals: those that stay on their lines, those that need further ones, and which each corner then names."""

    def __init__(self, lines: _Lines, before: np.ndarray, after: np.ndarray, faces: np.ndarray, max_faces: int):
        # A slot is a normal at a vertex.
        keys = lines.corner_vertex * (len(lines.normals) + 1) + lines.corner_normal + 1
        pairs, slot_of_corner = np.unique(keys, return_inverse=True)
        vertex, normal = np.divmod(pairs, len(lines.normals) + 1)
        normal -= 1
        old = np.where(normal[:, None] >= 0, lines.normals[normal], 0.0)
        slots = fans(slot_of_corner.reshape(-1), lines.counts, max_faces)
        new, _ = renewed(before, after, faces, Shading(old, vertex, slots))
        named = np.flatnonzero(normal >= 0)
        _, first = np.unique(normal[named], return_index=True)
        keeper = np.full(len(lines.normals), -1)
        keeper[normal[named[first]]] = named[first]
        self.normals = np.where(keeper[:, None] >= 0, new[keeper], lines.normals)
        apart = (normal >= 0) & (np.abs(new - self.normals[normal]).max(axis=1) > _SAME)
        self.extra = new[apart]
        number = normal + np.where(normal >= lines.normals_above_it, len(self.extra), 0)
        number[apart] = lines.normals_above_it + np.arange(len(self.extra))
        self.corner_index = number[slot_of_corner.reshape(-1)] + 1


def _lines(data: bytes) -> _Lines:
    vertices, normal_places, normals = [], [], [np.zeros((0, 3))]
    corners: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    counts = []
    seen = seen_normals = 0
    first_face, above = -1, 0
    for block in obj_blocks(data):
        is_vertex, is_normal, is_face = (block.begins_with(key) for key in (b"v", b"vn", b"f"))
        vertices.append(block.starts[coordinate_words(block, is_vertex)] + block.offset)
        words = coordinate_words(block, is_normal)
        normal_places.append(block.starts[words] + block.offset)
        normals.append(block.numbers(words).reshape(-1, 3))
        if first_face < 0 and is_face.any():
            row = int(np.flatnonzero(is_face)[0])
            word = int(block.first[row])
            first_face = data.rfind(b"\n", 0, block.offset + int(block.starts[word])) + 1
            above = seen_normals + int(is_normal[:row].sum())
        corners.append(_corners(block, is_face, seen + np.cumsum(is_vertex), seen_normals + np.cumsum(is_normal)))
        counts.append(block.counts[is_face] - 1)
        seen += int(is_vertex.sum())
        seen_normals += int(is_normal.sum())
    vertex, normal, place = (np.concatenate(parts) for parts in zip(*corners, strict=True))
    values = np.concatenate(normals)
    # One that names no line says nothing.
    normal[normal >= len(values)] = -1
    return _Lines(
        np.concatenate(vertices).reshape(-1, 3),
        np.concatenate(normal_places).reshape(-1, 3),
        values,
        vertex,
        normal,
        place,
        np.concatenate(counts),
        first_face,
        above,
    )


def _corners(
    block: Block, is_face: np.ndarray, seen: np.ndarray, seen_normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertex, normal and the place of the normal's index, of each corner in the block."""
    words = is_face[block.row] & (block.place >= 1)
    where, indices, _ = block.fields(words, 0)
    vertex = resolved(block, where, indices, seen, "vertex")
    normal, place = np.full(len(vertex), -1), np.zeros(len(vertex), dtype=np.int64)
    with_normal, indices, at = block.fields(words, 2)
    if len(with_normal):
        corner = np.searchsorted(where, with_normal)
        normal[corner] = resolved(block, with_normal, indices, seen_normals, "normal")
        place[corner] = at + block.offset
    return vertex, normal, place
