"""The page of a document in a real browser: tables sort by mouse and keyboard, and it does not scroll sideways."""

import json

import pytest

from graticule.web.document import Chapter, Document, Figure, Grid, Section, Shown, Table, Text
from graticule.web.document_page import write_html
from tests.web.browser import needs_browser, started, webdriver

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytestmark = needs_browser


def drawn():
    from graticule.web.figures import similarity_matrix

    return similarity_matrix([f"embedding {i}" for i in range(12)], [[0.5] * 12] * 12)


def document():
    rows = [
        ["b2", 0.5, Shown(-4.0, "−4 ± 1"), "x"],
        ["b10", None, Shown(2.0, "2 ± 1"), None],
        ["<i>a</i>", 0.7, Shown(-11.0, "−11 ± 1"), "w"],
        ["c", 0.6, None, "y"],
    ]
    short = Table(["Name", "R2", "Error", "Kind"], rows, best={"R2": "highest", "Error": "lowest"})
    wide = Table(["Name", *(f"task_{i}_with_a_name" for i in range(30))], [["a" * 60, *[0.123] * 30]] * 3, "Wide")
    hidden = Table(["Name", "x"], [["a", 1.0]], "Folded", collapsed=True)
    figures = [Figure(name, drawn, "A caption", "A matrix") for name in ("one", "two", "three")]
    filler = Text("words " * 400)
    return Document(
        "A report",
        "About " + "averyveryverylongword" * 8,
        [
            Chapter("Tables", [short, wide, hidden, filler]),
            Chapter("Figures", [Section("Part"), figures[0], Grid(figures[1:]), filler]),
            Chapter("Last", [filler]),
        ],
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_html(document(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("profile"), "--window-size=1280,900")
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, report):
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(report.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
    return browser


def names(page):
    script = "return [...document.querySelector('table').tBodies[0].rows].map((row) => row.cells[0].textContent)"
    return page.execute_script(script)


def head(page, column):
    return page.find_elements("css selector", "table:first-of-type th[scope=col]")[column]


def click(page, column):
    head(page, column).find_element("css selector", "button").click()


ORIGINAL = ["b2", "b10", "<i>a</i>", "c"]


@pytest.mark.parametrize(
    ("column", "steps"),
    [
        (0, [("ascending", ["<i>a</i>", "b2", "b10", "c"]), ("descending", ["c", "b10", "b2", "<i>a</i>"])]),
        (1, [("descending", ["<i>a</i>", "c", "b2", "b10"]), ("ascending", ["b2", "c", "<i>a</i>", "b10"])]),
        (2, [("ascending", ["<i>a</i>", "b2", "b10", "c"]), ("descending", ["b10", "b2", "<i>a</i>", "c"])]),
        (3, [("ascending", ["<i>a</i>", "b2", "c", "b10"]), ("descending", ["c", "b2", "<i>a</i>", "b10"])]),
    ],
)
def test_clicks_sort_both_ways_with_missing_last_and_then_undo(page, column, steps):
    assert names(page) == ORIGINAL
    for order, expected in steps:
        click(page, column)
        assert head(page, column).get_attribute("aria-sort") == order
        assert names(page) == expected
    click(page, column)
    assert head(page, column).get_attribute("aria-sort") is None
    assert names(page) == ORIGINAL


def test_only_one_heading_says_it_sorts(page):
    click(page, 1)
    click(page, 2)
    sorting = page.find_elements("css selector", "[aria-sort]")
    assert [each.text.strip() for each in sorting] == ["Error"]


def test_tables_sort_by_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    page.execute_script("document.querySelectorAll('th button')[1].focus()")
    webdriver.ActionChains(page).send_keys(Keys.ENTER).perform()
    assert names(page)[0] == "<i>a</i>"
    webdriver.ActionChains(page).send_keys(Keys.SPACE).perform()
    assert names(page)[0] == "b2"


def test_opening_asks_the_network_for_nothing_and_logs_nothing(page):
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []
    assert page.get_log("browser") == []
    loaded = page.execute_script("return [...document.images].map((image) => image.naturalWidth > 100)")
    assert loaded == [True] * 3


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (800, "dark"), (1280, "light")])
def test_only_tables_and_figures_scroll_sideways(page, width, scheme):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    colours = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", colours)
    script = """
        const wide = document.querySelectorAll("table")[1].parentElement;
        wide.scrollLeft = 400;
        const rgb = (part) => getComputedStyle(part).backgroundColor.match(/\\d+/g).map(Number)[0];
        return {
          fits: document.documentElement.scrollWidth <= innerWidth, inner: innerWidth,
          box: [wide.scrollLeft, wide.getBoundingClientRect().right],
          first: wide.querySelector("tbody th").getBoundingClientRect().left - wide.getBoundingClientRect().left,
          paper: rgb(document.body), card: rgb(document.querySelector(".card")),
          scale: document.images[0].getBoundingClientRect().width / document.images[0].getAttribute("width"),
        }"""
    found = page.execute_script(script)
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert found["fits"]
    assert found["inner"] == width
    assert found["box"][0] == 400
    assert found["box"][1] <= width
    assert found["first"] == pytest.approx(1, abs=1)  # the name of the row stays in sight
    assert (found["paper"] < 60) == (scheme == "dark")
    assert found["card"] == 255  # figures stay on white
    assert found["scale"] > 0.73  # and legible


def test_the_contents_follow_the_reader(page):
    current = "return [...document.querySelectorAll('nav [aria-current]')].map((link) => link.textContent)"
    assert page.execute_script(current) == ["Tables"]
    page.find_element("link text", "Figures").click()
    page.execute_script("window.dispatchEvent(new Event('scroll'))")
    assert page.execute_script(current) == ["Figures"]


def test_folded_tables_open_by_click_and_for_print(page):
    assert not page.execute_script("return document.querySelector('details').open")
    page.find_element("css selector", "summary").click()
    assert page.execute_script("return document.querySelector('details').open")
    page.find_element("css selector", "summary").click()
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script("return document.querySelector('details').open")
