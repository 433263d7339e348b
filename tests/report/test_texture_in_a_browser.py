"""Textures in a real browser: the views are in the texture's colours, and plain where that is asked for."""

from __future__ import annotations

import time

from test_report_in_a_browser import SCREENSHOTS, browser, in_view, painted, pytestmark, show
from test_texture import write_textured_output

from refine_batch.report import write_report

__all__ = ["browser", "pytestmark"]

# Mean colour of the painted pixels of a canvas's left and right half.
HALVES = """
const [canvas] = arguments, {width, height} = canvas;
const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
const sums = [[0, 0, 0, 0], [0, 0, 0, 0]];
for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
  const at = 4 * (y * width + x), half = sums[x < width / 2 ? 0 : 1];
  if (data[at + 3] === 255) { for (let i = 0; i < 3; i++) half[i] += data[at + i]; half[3]++; }
}
return sums.map(([r, g, b, n]) => [r / n, g / n, b / n]);
"""


def test_the_views_are_in_the_textures_colours(browser, tmp_path):
    write_report(write_textured_output(tmp_path).uri, str(tmp_path / "report.html"))
    show(browser, tmp_path / "report.html")
    for name in ("small", "fine"):
        [card] = [
            c for c in browser.find_elements("css selector", ".card") if c.find_element("tag name", "h3").text == name
        ]
        canvases = card.find_elements("css selector", "canvas")
        in_view(browser, canvases[0])
        for canvas in canvases:
            (left, right), end = ([0, 0, 0], [0, 0, 0]), time.monotonic() + 100
            while not (left[0] > 1.5 * left[1] and right[1] > 1.5 * right[0]) and time.monotonic() < end:
                painted(browser, canvas)
                left, right = browser.execute_script(HALVES, canvas)
                time.sleep(0.1)
            assert left[0] > 1.5 * left[1], f"{name}: red on the left, not {left}"
            assert right[1] > 1.5 * right[0], f"{name}: green on the right, not {right}"
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SCREENSHOTS / f"report-texture-{name}.png"))
    was = painted(browser, canvases[0])
    browser.find_element("id", "texture").click()
    assert painted(browser, canvases[0], unlike=was) != was
    left, right = browser.execute_script(HALVES, canvases[0])
    assert max(abs(a - b) for a, b in zip(left, right, strict=True)) < 60
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
