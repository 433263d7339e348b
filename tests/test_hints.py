"""Depth and normals from files: every way to write them, brought to the working image, left out by name if bad."""

import io
from dataclasses import replace

import numpy as np
import pytest
from mask_files import encode

from refine_batch.config import RefineConfig
from refine_batch.dataset.load import load_instance
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.synth import SynthOptions, make_instance
from refine_batch.dataset.synth.hints import surface
from refine_batch.errors import ErrorKind, InstanceError
from refine_batch.io.hints import (
    HintError,
    check_depth,
    check_normals,
    depth_in,
    normals_in,
    parse_depth,
    parse_normals,
)
from refine_batch.io.meshes import write_mesh
from refine_batch.io.resample import Frame
from refine_batch.refinement.known import known_pixels

SIZE = 96
CONFIG = RefineConfig(image_size=SIZE)
# A torus and a car: round, and with flat sides.
OBJECTS = {name: make_instance(i, seed=5, image_size=SIZE) for i, name in ((1, "torus"), (3, "car"))}
TRUTH = {name: surface(x.ground_truth, x.camera, SIZE) for name, x in OBJECTS.items()}


def npy(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def levels(depth: np.ndarray) -> np.ndarray:
    """Relative depth in 16 bits."""
    low, high = np.nanmin(depth), np.nanmax(depth)
    return np.nan_to_num((depth - low) / (high - low) * 50_000 + 7_000).astype(np.uint16)


def colours(normals: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(normals), 0, np.round((normals + 1) * 127.5)).astype(np.uint8)


def load(tmp_path, name: str, files: dict[str, bytes], **changes):
    found = OBJECTS[name]
    files = {"m.obj": write_mesh(found.coarse, "obj"), "i.png": encode(found.image)} | files
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    camera = found.camera
    row = ManifestRow("a", str(tmp_path / "m.obj"), str(tmp_path / "i.png"), None)
    row = replace(row, azimuth=camera.azimuth, elevation=camera.elevation, distance=camera.distance)
    return load_instance(
        replace(row, **{k: str(tmp_path / v) if k.endswith("_uri") else v for k, v in changes.items()}), CONFIG
    )


@pytest.mark.parametrize("name", OBJECTS)
def test_hints_as_files_come_to_the_instance(tmp_path, name):
    depth, normals = TRUTH[name]
    files = {"d.png": encode(levels(depth)), "n.png": encode(colours(normals))}
    files |= {"d.npy": npy(depth.astype(np.float32)), "n.npy": npy(normals)}
    files["m.png"] = encode(np.nan_to_num(depth * 20_000).astype(np.uint16))
    files["v.npy"] = npy(normals * [1, -1, -1])
    known = np.isfinite(depth)

    relative = load(tmp_path, name, files, depth_uri="d.png", normals_uri="n.png")
    assert relative.notes == ()
    assert relative.depth.kind == "relative"
    assert np.corrcoef(relative.depth.values[known], depth[known])[0, 1] > 0.9999
    np.testing.assert_array_equal(np.isfinite(relative.depth.values), known)
    np.testing.assert_allclose(relative.normals[known], normals[known], atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(relative.normals[known], axis=1), 1, atol=1e-5)

    exact = load(tmp_path, name, files, depth_uri="d.npy", normals_uri="n.npy", depth_kind="metric")
    np.testing.assert_allclose(exact.depth.values[known], depth[known], rtol=1e-6)
    np.testing.assert_allclose(exact.normals[known], normals[known], atol=1e-5)
    assert exact.normals.dtype == exact.depth.values.dtype == np.float32

    scaled = load(
        tmp_path, name, files, depth_uri="m.png", depth_kind="metric", depth_scale=1 / 20_000,
        normals_uri="v.npy", normals_axes="opencv",
    )  # fmt: skip
    np.testing.assert_allclose(scaled.depth.values[known], depth[known], atol=1e-4)
    np.testing.assert_allclose(scaled.normals[known], normals[known], atol=1e-5)


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("size", [40, 300])
def test_hints_of_another_resolution_are_brought_to_the_working_image(name, size):
    found = OBJECTS[name]
    depth, normals = surface(found.ground_truth, found.camera, size)
    frame = Frame(SIZE, SIZE, SIZE)
    near, straight = depth_in(frame, depth.astype(np.float32)), normals_in(frame, normals.astype(np.float32))
    true_depth, true_normals = TRUTH[name]
    both = np.isfinite(near) & np.isfinite(true_depth)
    assert both.sum() > 0.75 * np.isfinite(true_depth).sum()
    assert np.median(np.abs(near - true_depth)[both]) < (0.01 if size == 40 else 0.003)
    both = np.isfinite(straight).all(axis=2) & np.isfinite(true_depth)
    assert both.sum() > 0.7 * np.isfinite(true_depth).sum()
    assert np.median((straight * true_normals).sum(axis=2)[both]) > 0.99


def test_a_pixel_on_a_depth_edge_has_no_depth():
    fine = np.full((300, 300), 1.0, np.float32)
    fine[:, 150:] = 2.0
    fine += np.random.default_rng(0).normal(scale=1e-3, size=fine.shape)
    found = depth_in(Frame(300, 300, 100), fine)
    assert np.isfinite(found).all()  # the edge is between pixels
    found = depth_in(Frame(300, 300, 100), np.roll(fine, 1, axis=1))
    assert np.isnan(found[:, 50]).all()
    assert np.abs(found[:, 1:50] - 1).max() < 0.01


DEPTH, NORMALS = TRUTH["torus"]
SOMETHING = np.ones((SIZE, SIZE))
BAD_DEPTHS = {
    "all zero": (encode((SOMETHING * 0).astype(np.uint16)), {}, "0% of the object"),
    "the same everywhere": (npy(SOMETHING), {}, "the same everywhere"),
    "not a number": (npy(SOMETHING * np.nan), {}, "0% of the object"),
    "another shape": (npy(np.ones((SIZE, 50))), {}, "50×96 pixels, its picture 96×96"),
    "a vector": (npy(np.ones(7)), {}, "the shape (H, W)"),
    "colours": (encode(colours(NORMALS)), {}, "one channel"),
    "metric without a scale": (encode(levels(DEPTH)), {"depth_kind": "metric"}, "needs depth_scale"),
    "metric below 0": (npy(-DEPTH), {"depth_kind": "metric"}, "must be above 0"),
    "not a picture": (b"nothing", {}, "not a PNG"),
    "a pickle": (npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), {}, "must hold numbers"),
    "cut short": (npy(DEPTH)[:5000], {}, "cannot be read"),
    "a bomb": (npy(DEPTH)[:8] + npy(DEPTH)[8:128].replace(b"(96, 96)", b"(96000000, 96000000)"), {}, "NPY file"),
}


@pytest.mark.parametrize("case", BAD_DEPTHS)
def test_a_bad_depth_is_left_out_by_name(tmp_path, case):
    data, changes, says = BAD_DEPTHS[case]
    instance = load(tmp_path, "torus", {"d": data}, depth_uri="d", **changes)
    assert instance.depth is None
    [note] = instance.notes
    assert note.startswith("depth_uri left out: ")
    assert says in note


BAD_NORMALS = {
    "inverted": (npy(-NORMALS), "look away from the viewer"),
    "opencv's": (npy(NORMALS * [1, -1, -1]), "look away from the viewer"),
    "up and down exchanged": (encode(colours(NORMALS * [1, -1, 1])), "up and down are exchanged"),
    "left and right exchanged": (encode(colours(NORMALS * [-1, 1, 1])), "left and right are exchanged"),
    "black": (encode(colours(NORMALS) * 0), "0% of the object"),
    "the same everywhere": (npy(np.dstack([SOMETHING * 0, SOMETHING * 0, SOMETHING])), "the same everywhere"),
    "grey": (encode(levels(DEPTH)), "three channels"),
    "two channels": (npy(NORMALS[..., :2]), "the shape (H, W, 3)"),
    "another shape": (npy(NORMALS[:50]), "96×50 pixels"),
}


@pytest.mark.parametrize("case", BAD_NORMALS)
def test_bad_normals_are_left_out_by_name(tmp_path, case):
    data, says = BAD_NORMALS[case]
    instance = load(tmp_path, "torus", {"n": data}, normals_uri="n")
    assert instance.normals is None
    [note] = instance.notes
    assert note.startswith("normals_uri left out: ")
    assert says in note


def test_hints_of_views_and_files_that_are_not_there(tmp_path):
    camera = '"azimuth": 1, "elevation": 2, "distance": 1.3'
    listed = f'[{{"image_uri": "i.png", "normals_uri": "n.npy", "depth_uri": "d.npy", {camera}}}]'
    files = {"v.json": listed.encode(), "d.npy": npy(DEPTH), "n.npy": npy(-NORMALS)}
    instance = load(tmp_path, "torus", files, views_uri="v.json")
    [view] = instance.views
    assert view.depth is not None
    assert view.normals is None
    assert instance.notes[0].startswith("views[0].normals_uri left out: ")
    with pytest.raises(InstanceError, match=r"column depth_uri") as caught:
        load(tmp_path, "torus", {}, depth_uri="gone.npy")
    assert caught.value.kind == ErrorKind.MISSING_FILE


def test_what_a_network_would_guess_is_taken_for_what_it_is():
    """Noise of 5 % and 10° on every family is no reason to leave a hint out, nor is a picture cut by its frame; an axis
    that was exchanged is, where the outline tells."""
    found = 0
    for index in range(24):
        options = SynthOptions(cut=index % 2 == 0, depth=True, normals=True)
        [taken] = make_instance(index, seed=2, image_size=SIZE, options=options).pictures
        frame = Frame(SIZE, SIZE, SIZE)
        depth = depth_in(frame, parse_depth(encode(taken.depth), "d"))
        normals = normals_in(frame, parse_normals(encode(taken.normals), "n"))
        mask = taken.image[..., 3] > 0
        known = known_pixels(mask)
        check_depth(depth, mask & known, "relative")
        check_normals(normals, mask & known, known)
        for flip in ([-1, 1, 1], [1, -1, 1]):
            try:
                check_normals(normals * np.float32(flip), mask & known, known)
            except HintError:
                found += 1
    assert found >= 28  # of 48
