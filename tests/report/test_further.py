"""Views and hints beside the input in the report."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from result_rows import put, result

from refine_batch.config import PictureOptions
from refine_batch.dataset.manifest import Manifest
from refine_batch.dataset.row import ManifestRow
from refine_batch.dataset.synth import SynthOptions, write_dataset
from refine_batch.io.storage import Storage
from refine_batch.report import pictures, write_report
from refine_batch.report.gallery import exhibits

OPTIONS = SynthOptions(views=3, occluders=True, depth=True, normals=True)
COLUMNS = ("mesh_uri", "image_uri", "ignore_uri", "depth_uri", "normals_uri", "views")


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


@pytest.fixture(scope="module")
def row(tmp_path_factory) -> ManifestRow:
    folder = tmp_path_factory.mktemp("data")
    [batch] = Manifest.open(str(write_dataset(str(folder), 1, seed=3, image_size=64, options=OPTIONS))).batches()
    return ManifestRow.from_batch(batch, 0)


def test_views_and_hints_are_shown_and_what_was_left_out_is_said(row, tmp_path):
    storage = Storage(str(tmp_path / "output"))
    values = {name: getattr(row, name) for name in COLUMNS}
    put(storage, [result("a", **values, notes=["depth left out: it grows where that of the coarse mesh falls"])])
    [exhibit] = exhibits(storage, [("a", "best")])
    assert [what for what, _ in exhibit.further] == ["depth", "normals", "not ignored", "view 2", "view 3"]
    assert exhibit.problems == []
    write_report(storage.uri, str(tmp_path / "r.html"))
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert all(f"<figcaption>{what}</figcaption>" in page for what, _ in exhibit.further)
    assert "depth left out: it grows where" in page


def test_views_of_a_file_and_what_cannot_be_shown(row, tmp_path):
    listed = [{"image_uri": json.loads(row.views)[0]["image_uri"]}, {"image_uri": "gone.png"}]
    (tmp_path / "views.json").write_text(json.dumps(listed * 6))
    (tmp_path / "flat.npy").write_bytes(b"nothing")
    storage = Storage(str(tmp_path / "output"))
    more = {"views_uri": str(tmp_path / "views.json"), "depth_uri": str(tmp_path / "flat.npy")}
    put(storage, [result("a", mesh_uri=row.mesh_uri, image_uri=row.image_uri, **more)])
    [exhibit] = exhibits(storage, [("a", "best")])
    assert [what for what, _ in exhibit.further] == [f"view {n} of 13" for n in (2, 4, 6, 8)]
    assert f"{tmp_path / 'gone.png'} is no longer there (image_uri of view 3)" in exhibit.problems
    assert any("flat.npy: " in problem for problem in exhibit.problems)


def test_masks_are_found_as_the_run_found_them(row, tmp_path):
    """A picture on a white ground, without alpha."""
    picture = Image.open(row.image_uri)
    Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB").save(tmp_path / "white.png")
    storage = Storage(str(tmp_path / "output"))
    camera = {name: getattr(row, name) for name in ("azimuth", "elevation", "distance")} | {"fov": 60.0, "roll": 0.0}
    put(storage, [result("a", mesh_uri=row.mesh_uri, image_uri=str(tmp_path / "white.png"), **camera)])
    [lacking] = exhibits(storage, [("a", "best")])
    [found] = exhibits(storage, [("a", "best")], PictureOptions(mask_from="background"))
    assert lacking.overlay_before is None
    assert len(lacking.problems) == 1
    assert found.problems == []
    assert found.overlay_before is not None


def test_masks_are_cut_where_the_run_cut_them(row, tmp_path):
    """Alpha of 0.8 on the object and 0.3 about it."""
    alpha = np.where(np.asarray(Image.open(row.image_uri).getchannel("A")) > 0, 204, 77).astype(np.uint8)
    alpha[0, 0] = 0
    picture = Image.open(row.image_uri)
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "soft.png")
    storage = Storage(str(tmp_path / "output"))
    put(storage, [result("a", mesh_uri=row.mesh_uri, image_uri=str(tmp_path / "soft.png"))])
    shown = [
        pixels(exhibits(storage, [("a", "best")], PictureOptions(mask_threshold=threshold))[0].photo)[..., 3]
        for threshold in (0.5, 0.2)
    ]
    # What is no object is faded.
    assert (shown[0] < 255).mean() > 0.3
    assert (shown[1] < 255).mean() < 0.01


def test_near_is_bright_and_what_is_unknown_transparent():
    values = np.full((pictures.SIZE, pictures.SIZE), np.nan)
    values[:, :100], values[:, 100:200] = 2.0, 5.0
    shown = pixels(pictures.depth(values))
    assert shown[50, 50, 0] > shown[50, 150, 0] + 100
    assert shown[50, 50, 3] == 255
    assert shown[50, 215, 3] == 0
    normals = np.where(np.isfinite(values)[..., None], [0.0, 0.0, 1.0], np.nan)
    shown = pixels(pictures.normals(normals))
    np.testing.assert_allclose(shown[50, 50], [128, 128, 255, 255], atol=8)
    assert shown[50, 215, 3] == 0
