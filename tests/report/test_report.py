"""The page as text: whole, escaped, within bounds, and from outputs of every kind."""

import json
import re
from html.parser import HTMLParser

import pytest
from report_outputs import MARKUP, RUN, write_output
from result_rows import put, result

from refine_batch.errors import UsageError
from refine_batch.io.storage import Storage
from refine_batch.report import write_report
from refine_batch.report.page import SCRIPTS, json_for_script
from refine_batch.results import live
from refine_batch.results.schema import HEAVY_COLUMNS

SHOWN = MARKUP.replace("\u2028", "\ufffd").replace("\u202e", "\ufffd")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        self._open.append(tag)

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    output = write_output(folder)
    write_report(output.uri, str(folder / "new folder" / "report.html"), sample=8)
    return (folder / "new folder" / "report.html").read_text(encoding="utf-8")


def test_markup_of_a_dataset_stays_text(text):
    page = Page(text)
    assert page.tags.count("script") == 1 + len(SCRIPTS)
    assert not [a for a in page.attributes if a[1].startswith("on")]
    headings = [data for _, data in page.texts if "onerror" in data and "src=x" in data]
    assert SHOWN in headings
    assert "49" not in [data.strip() for _, data in page.texts]


def test_the_data_of_the_scripts_is_json_and_ends_no_script(text):
    [block] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(block)
    data = json.loads(block)
    assert SHOWN in [curve["id"] for curve in data["curves"]]
    assert SHOWN in [category["name"] for category in data["categories"]]


def test_json_for_script_is_the_same_to_a_parser():
    value = {"a": MARKUP, "b": [1.5, None, "ü\u2029"]}
    assert json.loads(json_for_script(value)) == value
    with pytest.raises(ValueError):
        json_for_script({"a": float("nan")})


def test_nothing_is_asked_of_a_network(text):
    page = Page(text)
    addresses = [value for _, name, value in page.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    [policy] = [v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "default-src" in v]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "script-src 'unsafe" not in policy
    assert "http" not in policy


def test_it_says_what_was_run(text):
    assert RUN in text
    assert "large-steps" in text
    assert "missing_file" in text
    assert "seed 7" in text


def test_size(text):
    # 24 instances at most: these are 6, and of the libraries there is one copy.
    assert len(text.encode()) < 15e6 / 24 * 6 + 1e6


def test_neither_many_categories_nor_long_texts_make_it_large(tmp_path):
    storage = Storage(str(tmp_path / "output"))
    figures = {"iou_2d_before": 0.5, "iou_2d_after": 0.6}
    ids = [f"{n}" + "x" * 100_000 * (n < 3) for n in range(300)]
    rows = [result(name, n, category=f"c{n}", **figures) for n, name in enumerate(ids)]
    for row in rows[:3]:
        row |= dict.fromkeys(("mesh_uri", "image_uri", "ground_truth_uri"), "/" + "y" * 100_000)
        row |= {"status": "failed", "error_kind": "storage", "error_message": "z" * 100_000}
    put(storage, rows)
    write_report(storage.uri, str(tmp_path / "r.html"), sample=6)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The 200 largest of 300 categories" in text
    assert len(text) < 1.2e6


def test_inputs_that_are_gone_are_named(tmp_path):
    storage = Storage(str(tmp_path / "output"))
    put(storage, [result("a", mesh_uri="/nowhere/a.obj", image_uri="s3://user:secret@bucket/a.png")])
    write_report(storage.uri, str(tmp_path / "r.html"))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "/nowhere/a.obj is no longer there" in text
    assert "needs credentials that a result does not keep" in text
    assert "secret@" not in text
    assert "No run record" in text


def test_what_got_worse_stands_out_and_a_failure_is_told_once(tmp_path):
    storage = Storage(str(tmp_path / "output"))
    figures = {"iou_2d_before": 0.6, "iou_2d_after": 0.9, "emd_before": 0.25, "emd_after": 0.35}
    lost = f"{tmp_path}/lost.obj: no such file (column mesh_uri)"
    failed = {
        "status": "failed",
        "error_kind": "missing_file",
        "error_message": lost,
        "mesh_uri": f"{tmp_path}/lost.obj",
    }
    put(storage, [result("a", **figures), result("b", **failed)])
    write_report(storage.uri, str(tmp_path / "r.html"))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<b class="worse">0.3500</b>' in text
    assert '<b class="worse">0.900</b>' not in text
    assert text.count(lost) == 2, "in the table of failures and on its card"
    assert "is no longer there" not in text


def test_meshes_are_read_of_the_sample_only(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path / "output"))
    for n in range(30):
        put(storage, [result(f"i{n}", n, iou_2d_before=0.5, iou_2d_after=0.5 + n / 100)])
    heavy = []
    original = live.read_row_groups

    def read(file, groups, columns):
        table = original(file, groups, columns)
        if set(columns) & set(HEAVY_COLUMNS):
            heavy.extend(table["instance_id"].to_pylist())
        return table

    monkeypatch.setattr(live, "read_row_groups", read)
    write_report(storage.uri, str(tmp_path / "r.html"), sample=5)
    assert len(heavy) == 5


def test_what_cannot_be_reported_is_said(tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        write_report(str(tmp_path / "nothing"), str(tmp_path / "r.html"))
    assert not (tmp_path / "r.html").exists()
    put(Storage(str(tmp_path / "output")), [result("a")])
    with pytest.raises(UsageError, match="not the path of a file"):
        write_report(str(tmp_path / "output"), f"{tmp_path}/folder/")


def test_to_and_from_s3(s3_folder):
    put(s3_folder, [result("a")])
    write_report(s3_folder.uri, f"{s3_folder.uri}/report.html", s3_endpoint=s3_folder.s3_endpoint)
    assert s3_folder.read("report.html").startswith(b"<!doctype html>")
