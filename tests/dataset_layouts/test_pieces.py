"""The pieces that layouts share: names, paths, JSON in part, pictures, and writing a manifest as a stream."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_batch.cameras.conversions import from_opencv
from refine_batch.cameras.picture import Picture, cut_out
from refine_batch.dataset.layouts import build
from refine_batch.dataset.layouts.derived import file_name
from refine_batch.dataset.layouts.entry import LeftOut, LeftOutError, Reason
from refine_batch.dataset.layouts.json_items import CutShortError, json_items
from refine_batch.dataset.layouts.options import LayoutOptions
from refine_batch.dataset.layouts.paths import StemIndex, file_names, safe_path
from refine_batch.dataset.layouts.writer import whole_file
from refine_batch.dataset.manifest import Manifest
from refine_batch.errors import InstanceError, UsageError
from refine_batch.io.storage import Storage, StorageError

# --- Names and paths ------------------------------------------------------------------------------------------------


def test_files_are_listed_in_order_and_hidden_ones_left_out(storage):
    for path in ("b/2.png", "b/10.png", "a.png", ".git/x", "b/.hidden/y", "b/.z", "ü/c d.png"):
        storage.write(path, b"1")
    assert list(file_names(storage)) == ["a.png", "b/10.png", "b/2.png", "ü/c d.png"]
    assert list(file_names(storage, "b")) == ["b/10.png", "b/2.png"]
    assert list(file_names(storage, "nothing")) == []


def test_links_that_lead_back_are_followed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"1")
    (tmp_path / "a" / "up").symlink_to(tmp_path / "a")
    assert "a/x.png" in (names := list(file_names(Storage(str(tmp_path)))))
    assert len(names) <= 2


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "s3://b/x", "file:///x", "C:\\x", "..\\x", "", "\0", None, 3]
)
def test_paths_that_lead_out_are_refused(path):
    with pytest.raises(LeftOutError) as caught:
        safe_path(path, "img")
    assert caught.value.reason is Reason.PATH_UNSAFE


def test_paths_inside_are_cleaned():
    assert safe_path("./img//chair\\1.png", "img") == "img/chair/1.png"
    assert safe_path("a..b/...png", "img") == "a..b/...png"


def test_two_files_of_a_stem_are_ambiguous_when_asked_for():
    index = StemIndex(["a.obj", "a.PLY", "b.c.obj", "b.mtl", "d/e.off"], (".obj", ".ply", ".off"))
    assert list(index) == ["a", "b.c", "d/e"]
    assert (index.path("b.c"), index.path("d/e"), index.path("b")) == ("b.c.obj", "d/e.off", None)
    assert index.first(("nothing", "d/e", "a")) == "d/e.off"
    with pytest.raises(LeftOutError, match="same stem") as caught:
        index.path("a")
    assert caught.value.reason is Reason.AMBIGUOUS


@given(st.lists(st.text(max_size=150), unique=True, min_size=1, max_size=20))
def test_file_names_are_safe_and_never_meet(names):
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(
        f and "/" not in f and not f.startswith(".") and len(f.encode()) < 200 and f.isprintable() for f in found
    )
    assert file_name("chair_0001") == "chair_0001"


# --- JSON in part ---------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(values) | st.dictionaries(st.text(), values), st.sampled_from([None, 2]))
def test_whole_json_gives_every_item(content, indent):
    items = list(json_items(json.dumps(content, indent=indent)))
    assert items == list(content.items() if isinstance(content, dict) else enumerate(content))


@given(st.lists(values, min_size=1), st.data())
def test_json_cut_anywhere_gives_a_true_beginning(content, data):
    text = json.dumps(content)
    cut = data.draw(st.integers(0, len(text) - 1))
    found = []
    with pytest.raises(CutShortError) as caught:
        found.extend(value for _, value in json_items(text[:cut]))
    # A list that is extended keeps what came before the error.
    assert found == content[: len(found)]
    assert caught.value.items == len(found)


@pytest.mark.parametrize("text", ["[7, 1e", "[7, 1E+", "[7, 1.", "[7, 1.5e-", "[7, 1", "[7, -"])
def test_a_number_that_is_cut_short_is_no_other_number(text):
    found = []
    with pytest.raises(CutShortError):
        found.extend(value for _, value in json_items(text))
    assert found == [7]


@pytest.mark.parametrize("text", ["", "3", '"a"', "[1 2]", '{"a" 1}', "{1: 2}", "[" * 100_000, '{"a": 1,}'])
def test_what_is_no_list_or_object_of_json(text):
    with pytest.raises(CutShortError):
        list(json_items(text))


# --- Pictures -------------------------------------------------------------------------------------------------------


def picture(aside: float = 0.0, mask: tuple[int, int, int, int] = (40, 60, 90, 100)) -> Picture:
    """A 160×120 picture whose mask is the box (left, top, right, bottom), red inside."""
    left, top, right, bottom = mask
    pixels = np.zeros((120, 160), bool)
    pixels[top:bottom, left:right] = True
    rgb = np.where(pixels[..., None], [200, 0, 0], [0, 0, 200]).astype(np.uint8)
    pinhole = from_opencv(np.eye(3), [aside * 2, 0, 2], [[150, 0, 80], [0, 150, 60], [0, 0, 1]], (160, 120))
    return Picture(rgb, pixels, pinhole)


def test_a_straight_cut_out_copies_pixels():
    cut = cut_out(picture(), margin=0.1, largest=500)
    # 50 wide, so 60 with the margins; its middle is that of the box, (65, 80): rows 50 to 110, columns 35 to 95.
    assert cut.mask.shape == (60, 60)
    assert np.array_equal(cut.rgb, picture().rgb[50:110, 35:95])
    np.testing.assert_allclose(cut.pinhole.project([[0, 0, 0]])[0, :2], [80 - 35, 60 - 50])


def test_a_cut_out_beyond_the_edge_is_padded():
    cut = cut_out(picture(mask=(0, 10, 20, 90)), margin=0.25, largest=500)
    assert cut.mask.shape == (120, 120)
    assert not cut.rgb[:, :50].any()
    assert cut.mask.sum() == 20 * 80


def test_a_large_cut_out_is_reduced_with_its_camera():
    cut = cut_out(picture(), margin=0.1, largest=30)
    assert cut.mask.shape == (30, 30) == (cut.pinhole.height, cut.pinhole.width)
    np.testing.assert_allclose(cut.pinhole.project([[0, 0, 0]])[0, :2], [22.5, 5])
    assert cut.mask.sum() == pytest.approx(50 * 40 / 4, rel=0.05)


def test_a_huge_cut_out_is_never_held_whole(monkeypatch):
    monkeypatch.setattr("refine_batch.cameras.picture._WIDEST", 30)
    cut = cut_out(picture(), margin=0.1, largest=500)
    assert cut.mask.shape == (30, 30) == (cut.pinhole.height, cut.pinhole.width)
    np.testing.assert_allclose(cut.pinhole.project([[0, 0, 0]])[0, :2], [22.5, 5], atol=0.01)
    assert cut.mask.sum() == pytest.approx(50 * 40 / 4, rel=0.05)


def test_a_turned_picture_sees_each_ray_where_its_camera_says():
    original = picture(aside=0.3)
    turned = cut_out(original, margin=0.1, largest=500)
    assert turned.pinhole.off_axis == pytest.approx(0, abs=1e-6)
    # Corners of the mask, as rays, through both cameras.
    rays = np.array([[x, y, 1.0] for x in (40, 90) for y in (60, 100)]) @ np.linalg.inv(original.pinhole.intrinsics).T
    points = (rays * 3 - original.pinhole.translation) @ original.pinhole.rotation
    seen = turned.pinhole.project(points)[:, :2]
    ys, xs = np.nonzero(turned.mask)
    np.testing.assert_allclose([xs.min(), xs.max() + 1], [seen[:, 0].min(), seen[:, 0].max()], atol=1.0)
    np.testing.assert_allclose([ys.min(), ys.max() + 1], [seen[:, 1].min(), seen[:, 1].max()], atol=1.0)
    assert turned.rgb[turned.mask][:, 0].mean() > 190


def test_what_cannot_be_turned_to_is_refused():
    with pytest.raises(InstanceError, match="the limit"):
        cut_out(picture(aside=3.0), margin=0.1, largest=500)


# --- Writing --------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(storage):
    uri = storage.path_of("a/b.bin")

    def fail() -> None:
        with whole_file(uri, storage.s3_endpoint) as sink:
            sink.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not storage.list()
    with whole_file(uri, storage.s3_endpoint) as sink:
        sink.write(b"whole")
    assert storage.read("a/b.bin") == b"whole"
    assert [file.path for file in storage.list()] == ["a/b.bin"]


class Numbers:
    """A layout of any number of rows, every tenth of which is left out."""

    extra_fields = (pa.field("number", pa.int64()),)

    def __init__(self, count, fault=None):
        self.count, self.fault = count, fault

    def entries(self):
        for number in range(self.count):
            yield LeftOut(str(number), Reason.MESH_MISSING, "no mesh") if number % 10 == 9 else number

    def rows(self, number):
        if number == self.fault:
            raise StorageError("cannot write s3://bucket/x: the disk is full")
        return [
            {
                "instance_id": f"{number:09d}",
                "mesh_uri": f"/data/{number}.obj",
                "image_uri": "/data/i.png",
                "number": number,
            }
        ]


def build_numbers(tmp_path, monkeypatch, layout, name="m.parquet"):
    monkeypatch.setitem(build.LAYOUTS, "folder", lambda options: layout)
    return build.build_manifest("folder", LayoutOptions("/data", "/meshes", str(tmp_path / name)))


def test_rows_stream_in_order_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("refine_batch.dataset.layouts.writer.BATCH_ROWS", 500)
    peaks = []
    for count in (2_000, 20_000):
        tracemalloc.start()
        built = build_numbers(tmp_path, monkeypatch, Numbers(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (built.rows, built.left_out[Reason.MESH_MISSING]) == (count * 9 // 10, count // 10)
        numbers = pq.read_table(tmp_path / "m.parquet")["number"].to_pylist()
        assert numbers == [n for n in range(count) if n % 10 != 9]
    # Only the ids' hashes grow: about 100 bytes a row, of more than 300 that a row is.
    assert peaks[1] - peaks[0] < 18_000 * 150
    assert Manifest.open(str(tmp_path / "m.parquet")).check_ids() == 18_000


def test_csv_reads_back_the_same(tmp_path, monkeypatch):
    build_numbers(tmp_path, monkeypatch, Numbers(20), "m.csv")
    manifest = Manifest.open(str(tmp_path / "m.csv"))
    [batch] = manifest.batches(["instance_id", "mesh_uri"])
    assert batch.column("instance_id").to_pylist()[:2] == ["000000000", "000000001"]
    assert batch.column("mesh_uri").to_pylist()[1] == "/data/1.obj"
    assert manifest.ignored_columns == ("number",)
    assert (tmp_path / "m.left_out.csv").read_text().splitlines() == [
        "name,reason,message",
        "9,mesh_missing,no mesh",
        "19,mesh_missing,no mesh",
    ]


def test_a_store_that_fails_ends_it_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="disk is full"):
        build_numbers(tmp_path, monkeypatch, Numbers(500, fault=300))
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_our_own_is_counted_against_its_entry(tmp_path, monkeypatch):
    layout = Numbers(30)
    row = layout.rows

    class Entry(str):
        name = property(str)

    layout.entries = lambda: iter([Entry("0"), Entry("x"), Entry("1")])
    layout.rows = lambda entry: row(int(entry))
    built = build_numbers(tmp_path, monkeypatch, layout)
    assert built.rows == 2
    [broken] = built.examples[Reason.ENTRY_BROKEN]
    assert (broken.name, broken.message.startswith("ValueError")) == ("x", True)


def test_an_id_that_stands_twice_is_left_out(tmp_path, monkeypatch):
    layout = Numbers(0)
    layout.entries = lambda: iter([3, 4, 3])
    built = build_numbers(tmp_path, monkeypatch, layout)
    assert (built.rows, built.left_out) == (2, {Reason.AMBIGUOUS: 1})


def test_a_source_without_anything(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="holds nothing that --layout folder knows"):
        build_numbers(tmp_path, monkeypatch, Numbers(0))
    assert list(tmp_path.iterdir()) == []
