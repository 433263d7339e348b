"""The page in a real browser: no error, everything painted, cameras linked, markup still text.

Screenshots for a person to look at are kept in `build/screenshots`.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from report_outputs import MARKUP, write_output

from refine_batch.report import write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium: install chromium and chromium-driver to look at the report"
)

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage"),
)
# Pixels of a canvas that are not the background, and a number that changes with the picture.
PAINTED = """
const [canvas] = arguments, context = canvas.getContext("2d");
const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
let painted = 0, sum = 0;
for (let i = 0; i < data.length; i += 4) if (data[i + 3]) { painted++; sum = (sum * 31 + data[i] + i) % 1000003; }
return [painted / Math.max(canvas.width * canvas.height, 1), sum];
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_report(write_output(folder).uri, str(folder / "report.html"))
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page):
    """The page at a desktop's size; no test may leave an error in the console."""
    show(browser, page)
    yield browser
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def show(browser, page, width=1280, height=900, *, colours="light"):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = [{"name": "prefers-color-scheme", "value": colours}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.get(page.as_uri())


def canvases(browser, card):
    return browser.find_elements("css selector", f"#instance-{card} canvas")


def in_view(browser, element):
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)


def painted(browser, canvas, *, unlike=None, seconds=100):
    """[share of painted pixels, what they look like], once there are some and they differ from `unlike`."""
    end = time.monotonic() + seconds
    while True:
        found = browser.execute_script(PAINTED, canvas)
        if (found[0] > 0 and found != unlike) or time.monotonic() > end:
            return found
        time.sleep(0.1)


def cards(browser):
    return [card for card in browser.find_elements("css selector", ".card") if card.is_displayed()]


def test_every_view_is_painted(opened):
    assert len(cards(opened)) == 6
    for canvas in opened.find_elements("css selector", "canvas"):
        in_view(opened, canvas)
        share, _ = painted(opened, canvas)
        assert 0.005 < share < 0.95


def test_pictures_and_charts_are_there(opened):
    for image in opened.find_elements("css selector", ".card img"):
        assert opened.execute_script("return arguments[0].complete && arguments[0].naturalWidth", image) == 224
    assert len(opened.find_elements("css selector", "[data-histogram] svg rect")) >= 2
    assert len(opened.find_elements("css selector", "[data-categories] svg circle")) >= 4
    assert len(opened.find_elements("css selector", "[data-curves] svg path")) >= 4


def test_meshes_turn_together_and_those_of_others_do_not(opened):
    first, second = canvases(opened, 1), canvases(opened, 2)
    in_view(opened, first[0])
    before = [painted(opened, canvas) for canvas in (*first, *second)]
    webdriver.ActionChains(opened).click_and_hold(first[0]).move_by_offset(60, 15).release().perform()
    for canvas, was in zip(first, before, strict=False):
        assert painted(opened, canvas, unlike=was) != was
    assert [opened.execute_script(PAINTED, canvas) for canvas in second] == before[len(first) :]


def test_the_keyboard_turns_and_goes_home(opened):
    [first, *others] = canvases(opened, 1)
    in_view(opened, first)
    home = [painted(opened, canvas) for canvas in (first, *others)]
    keys = webdriver.Keys
    opened.execute_script("arguments[0].focus()", first)
    for key in (keys.ARROW_LEFT, keys.ARROW_UP, "+"):
        was = [opened.execute_script(PAINTED, canvas) for canvas in (first, *others)]
        opened.switch_to.active_element.send_keys(key)
        assert all(painted(opened, c, unlike=w) != w for c, w in zip((first, *others), was, strict=True))
    opened.switch_to.active_element.send_keys(keys.HOME)
    end = time.monotonic() + 100
    while [opened.execute_script(PAINTED, c) for c in (first, *others)] != home and time.monotonic() < end:
        time.sleep(0.1)
    assert [opened.execute_script(PAINTED, c) for c in (first, *others)] == home


def test_everything_is_reached_by_the_keyboard(opened):
    keys = webdriver.Keys
    reached = set()
    for _ in range(120):
        opened.switch_to.active_element.send_keys(keys.TAB)
        active = opened.switch_to.active_element
        reached.add((active.tag_name, active.get_attribute("id") or active.get_attribute("data-filter")))
        if active.tag_name == "body":
            break
    assert ("button", "theme") in reached
    assert ("button", "failed") in reached
    assert ("input", "wireframe") in reached
    assert {"a", "canvas", "summary"} <= {tag for tag, _ in reached}


def test_a_group_can_be_shown_alone(opened):
    [button] = opened.find_elements("css selector", "[data-filter=failed]")
    in_view(opened, button)
    button.click()
    [card] = cards(opened)
    assert "lost" in card.text
    assert "missing_file" in card.text
    assert button.get_attribute("aria-pressed") == "true"


def test_an_id_of_markup_stays_text(opened):
    shown = MARKUP.replace("\u2028", "\ufffd").replace("\u202e", "\ufffd")
    titles = [card.find_element("css selector", "h3").text for card in cards(opened)]
    assert " ".join(shown.split()) in [" ".join(title.split()) for title in titles]
    assert opened.execute_script("return window.broken === undefined")
    sources = opened.execute_script("return [...document.images].map(image => image.src)")
    assert all(source.startswith("data:") for source in sources)


def test_a_script_that_got_in_would_not_run(opened):
    """The last line of defence: the policy in the page itself."""
    blocked = opened.execute_async_script("""
        const done = arguments[arguments.length - 1];
        document.addEventListener("securitypolicyviolation", event => done([event.violatedDirective, window.broken]));
        const script = document.createElement("script");
        script.textContent = "window.broken = 1";
        document.body.append(script);
    """)
    assert blocked[0].startswith("script-src")
    assert blocked[1] is None
    opened.get_log("browser")  # the refusal itself is reported there


def test_no_network_is_reached(opened):
    resources = opened.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in resources if not name.startswith("data:")] == []
    refused = opened.execute_async_script("""
        const done = arguments[arguments.length - 1];
        document.addEventListener("securitypolicyviolation", event => done(event.violatedDirective));
        fetch("http://127.0.0.1:9/").catch(() => {});
    """)
    assert refused == "connect-src"
    opened.get_log("browser")


def test_colours_follow_the_system_and_the_button(opened, page):
    def background():
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    light = background()
    show(opened, page, colours="dark")
    dark = background()
    assert light != dark
    button = opened.find_element("id", "theme")
    button.click()
    assert (button.text, background()) == ("Light", light)
    button.click()
    assert (button.text, background()) == ("Dark", dark)
    button.click()


@pytest.mark.parametrize(
    ("name", "width", "colours"), [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")]
)
def test_nothing_is_wider_than_the_screen(opened, page, name, width, colours):
    show(opened, page, width, colours=colours)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    text = opened.execute_script("return parseFloat(getComputedStyle(document.querySelector('.note')).fontSize)")
    assert text >= 12
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    opened.save_screenshot(str(SCREENSHOTS / f"report-{name}.png"))
    canvas = canvases(opened, 1)[0]
    in_view(opened, canvas)
    painted(opened, canvas)
    opened.save_screenshot(str(SCREENSHOTS / f"report-{name}-gallery.png"))
