"""The paper's table against numbers worked out by hand, in each of its formats."""

from __future__ import annotations

import csv
import io

import pytest
from click.testing import CliRunner
from result_rows import put, result

from refine_batch.cli import main
from refine_batch.io.storage import Storage

# 2D IoU: chairs 0.5 → 0.8 and 0.7 → 0.6, a lamp 0.4 → 0.5. Chamfer of one chair only.
ROWS = [
    result("a", category="chair", iou_2d_before=0.5, iou_2d_after=0.8, chamfer_l2_before=10.0, chamfer_l2_after=8.0),
    result("b", category="chair", iou_2d_before=0.7, iou_2d_after=0.6),
    result("c", category="lamp_50% & <b>|", iou_2d_before=0.4, iou_2d_after=0.5),
    result("d", category="chair", status="failed", error_kind="timeout"),
]


@pytest.fixture
def output(tmp_path) -> str:
    put(Storage(str(tmp_path)), ROWS)
    return str(tmp_path)


def invoke(*arguments):
    return CliRunner().invoke(main, ["status", *arguments])


def test_csv_holds_every_number(output):
    found = invoke(output, "--by", "category", "--paper-table", "--format", "csv")
    assert found.exit_code == 0
    rows = {(row["figure"], row["group"]): row for row in csv.DictReader(io.StringIO(found.stdout))}
    assert list(rows) == [
        ("iou_2d", "chair"),
        ("iou_2d", "lamp_50% & <b>|"),
        ("iou_2d", "mean of categories"),
        ("iou_2d", "all instances"),
        ("chamfer_l2", "all instances"),
    ]

    def numbers(*key):
        return [float(value) if value else None for name, value in rows[key].items() if name not in ("figure", "group")]

    # instances, before, after, change, improved, by, worsened, by
    assert numbers("iou_2d", "chair") == pytest.approx([2, 0.6, 0.7, 0.7 / 0.6 - 1, 0.5, 0.3, 0.5, 0.1])
    lamp = numbers("iou_2d", "lamp_50% & <b>|")
    assert lamp[:-1] == pytest.approx([1, 0.4, 0.5, 0.25, 1, 0.1, 0])
    assert lamp[-1] is None
    mean = numbers("iou_2d", "mean of categories")
    assert mean == pytest.approx([3, 0.5, 0.6, (0.25 + 1 / 6) / 2, 0.75, 0.2, 0.25, 0.1])
    overall = numbers("iou_2d", "all instances")
    assert overall == pytest.approx([3, 1.6 / 3, 1.9 / 3, 0.3 / 1.6, 2 / 3, 0.2, 1 / 3, 0.1])
    assert numbers("chamfer_l2", "all instances")[:5] == pytest.approx([1, 10, 8, -0.2, 1])
    assert "1 failed instances" in found.stderr


def test_text_and_markdown_and_latex(output):
    text = [" ".join(line.split()) for line in invoke(output, "--by", "category", "--paper-table").stdout.splitlines()]
    assert "chair 2 0.600 0.700 +16.7% 50% 0.300 50% 0.100" in text
    assert "Chamfer-L2 ×1000 ↓ instances before after change improved by worsened by" in text
    assert "all instances 1 10.00 8.00 -20.0% 100% 2.00 0% –" in text
    lines = invoke(output, "--by", "category", "--paper-table", "--format", "markdown").stdout.splitlines()
    assert "| chair | 2 | 0.600 | 0.700 | +16.7% | 50% | 0.300 | 50% | 0.100 |" in lines
    assert any(line.startswith(r"| lamp\_50% &amp; &lt;b>\| | 1 |") for line in lines)
    assert "| **all instances** | 1 | 10.00 | 8.00 | -20.0% | 100% | 2.00 | 0% | – |" in lines
    latex = invoke(output, "--by", "category", "--paper-table", "--format", "latex").stdout
    assert r"chair & 2 & 0.600 & 0.700 & +16.7\% & 50\% & 0.300 & 50\% & 0.100 \\" in latex
    assert r"lamp\_50\% \& <b>| & 1" in latex
    assert r"all instances & 1 & 10.00 & 8.00 & $-$20.0\% & 100\% & 2.00 & 0\% & -- \\" in latex
    assert latex.count(r"\begin{tabular}{lrrrrrrrr}") == latex.count(r"\end{tabular}") == 2


def test_without_categories_there_is_one_row_a_figure(output):
    rows = invoke(output, "--paper-table", "--format", "csv").stdout.splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["iou_2d", "all instances"], ["chamfer_l2", "all instances"]]


def test_by_category_alone_shows_even_a_single_one(tmp_path):
    put(Storage(str(tmp_path)), [result("a", category="chair", iou_2d_before=0.5, iou_2d_after=0.8)])
    assert "chair" not in invoke(str(tmp_path)).stdout
    assert "chair" in invoke(str(tmp_path), "--by", "category").stdout


def test_options_that_do_not_go_together(output):
    assert "--paper-table" in invoke(output, "--format", "csv").output
    assert invoke(output, "--format", "csv").exit_code == 2
    assert invoke(output, "--paper-table", "--json").exit_code == 2


def test_an_output_without_figures_says_so(tmp_path):
    put(Storage(str(tmp_path)), [result("a", status="failed", error_kind="timeout")])
    found = invoke(str(tmp_path), "--paper-table")
    assert (found.exit_code, found.stdout) == (0, "")
    assert "no instance has a figure" in found.stderr
