"""The page of regions in a real browser: clicked, dragged, pinched, typed at, and silent on network and console."""

import json

import numpy as np
import pytest

shapely = pytest.importorskip("shapely", reason="shapely is not installed")
from graticule.web.region_page import EntityLayer, three_colours, write_region_map  # noqa: E402
from tests.web.browser import find, needs_browser, opened, started, webdriver  # noqa: E402

pytestmark = needs_browser

SIDE_DEG = 0.006
COLUMNS, ROWS = 6, 5
TWINS = (7, 28)  # regions far apart with one vector
POND, TWIN_POND, ROAD, TREE = 3, 40, 61, 62  # rows of entities


def city():
    """Squares with smooth vectors, but for the twins."""
    column, row = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    column, row = column.ravel(), row.ravel()
    outlines = shapely.box(
        *(11.5 + SIDE_DEG * column, 48 + SIDE_DEG * row, 11.5 + SIDE_DEG * (column + 1), 48 + SIDE_DEG * (row + 1))
    )
    smooth = np.column_stack([np.cos(column / 3), np.sin(row / 3), np.sin(column / 4), np.zeros(len(row))])
    smooth[list(TWINS)] = [0, 0, 0, 1]
    return list(outlines), smooth


def things():
    """Two small squares in each region, those of two rows alike; a road and a tree in the first region."""
    outlines, _ = city()
    rng = np.random.default_rng(0)
    squares = []
    for outline in outlines:
        left, bottom, right, top = outline.bounds
        for share in (0.15, 0.6):
            x, y = left + share * (right - left), bottom + 0.6 * (top - bottom)
            squares.append(shapely.box(x, y, x + 0.2 * SIDE_DEG, y + 0.2 * SIDE_DEG))
    shapes = [
        *squares,
        outlines[0].centroid,
        shapely.LineString([(11.5, 48.001), (11.506, 48.001)]),
        shapely.Point(11.5055, 48.0055),
    ]
    vectors = rng.normal(size=(len(shapes), 6))
    vectors[[POND, TWIN_POND]] = [0, 0, 9, 0, 0, 9]
    return EntityLayer(
        [f"way/{i}" for i in range(len(shapes))], shapes, vectors, [f"kind={i % 3}" for i in range(len(shapes))]
    )


@pytest.fixture(scope="module")
def map_file(tmp_path_factory):
    outlines, vectors = city()
    return write_region_map(
        tmp_path_factory.mktemp("map") / "map.html",
        outlines=outlines,
        ids=[f"16/{i}" for i in range(len(outlines))],
        vectors=vectors,
        counts=range(len(outlines)),
        entities=things(),
        title="Planted",
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("profile"), "--window-size=1200,900", "--force-prefers-reduced-motion")
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, map_file):
    return opened(browser, map_file)


def offset(page, layer, row):
    """From the middle of the canvas to that of a shape, in CSS pixels."""
    return page.execute_script(
        "const [x, y] = toScreen(...middleOf(page[arguments[0]], arguments[1]));"
        "return [x - canvas.width / 2, y - canvas.height / 2].map((v) => Math.round(v / devicePixelRatio))",
        layer,
        row,
    )


def pointer(page, layer, row):
    """The mouse on the middle of a shape."""
    return webdriver.ActionChains(page).move_to_element_with_offset(find(page, "#map"), *offset(page, layer, row))


def drawn_row(page, identity):
    return page.execute_script("return page.entities.ids.indexOf(arguments[0])", identity)


def fly(page, layer, row):
    from selenium.webdriver.support.ui import WebDriverWait

    page.execute_script("flyTo(page[arguments[0]], arguments[1])", layer, row)
    WebDriverWait(page, 5).until(lambda p: p.execute_script("return state.flight === null"))


def value(page, script):
    return page.execute_script(f"return {script}")


def pixel(page, layer, row):
    return page.execute_script(
        "draw(); const [x, y] = toScreen(...middleOf(page[arguments[0]], arguments[1]));"
        "return [...context.getImageData(x, y, 1, 1).data].slice(0, 3)",
        layer,
        row,
    )


def muted(rgb):
    shares = np.asarray(rgb) / 255
    return np.rint(14 + 232 * (0.75 * shares + 0.25 * (shares @ [0.3, 0.59, 0.11])))


def test_opening_and_clicking_ask_the_network_for_nothing_and_log_nothing(page):
    pointer(page, "regions", 8).click().perform()
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []
    assert any(url.startswith("file:") for url in asked)
    assert page.get_log("browser") == []


def test_regions_have_their_colours(page):
    colours = three_colours(city()[1])
    for row in (0, 7, 14, 29):
        np.testing.assert_allclose(pixel(page, "regions", row), muted(colours[row]), atol=1)


def test_the_browser_computes_the_cosines_of_python(page):
    vectors = city()[1]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(value(page, "[...similarities(3, page.regions)]"), unit @ unit[3], atol=0.01)


def test_a_click_on_a_region_finds_its_twin_and_the_list_leads_there(page):
    pointer(page, "regions", TWINS[0]).click().perform()
    assert value(page, "[state.mode, state.chosen.regions.row]") == ["regions", TWINS[0]]
    assert value(page, "state.chosen.regions.similar")[0] == TWINS[1]
    assert "16/7 · 7 entities" in find(page, "#chosen").text
    items = page.find_elements("css selector", "#similar button")
    assert len(items) == 10
    assert "16/28" in items[0].text
    assert "1.00" in items[0].text
    colours = value(page, "page.regions.css")
    assert colours[TWINS[0]] == colours[TWINS[1]] != colours[0]
    items[0].click()
    x, y = value(page, "[state.x, state.y]")
    middle = page.execute_script("return middleOf(page.regions, arguments[0])", TWINS[1])
    assert (x, y) == pytest.approx(middle, abs=1)
    assert find(page, "#readout").text.startswith("16/28 · 28 entities · similarity 1.00")


def test_reset_gives_the_colours_back(page):
    before = pixel(page, "regions", 0)
    pointer(page, "regions", TWINS[0]).click().perform()
    assert pixel(page, "regions", 0) != before
    find(page, "#reset").click()
    assert pixel(page, "regions", 0) == before
    assert value(page, "state.chosen.regions") is None
    assert find(page, "#modes input").is_selected()


def test_entities_appear_when_zoomed_in_and_are_compared_with_each_other(page):
    assert not value(page, "entitiesShown()")
    pond, twin = (drawn_row(page, f"way/{row}") for row in (POND, TWIN_POND))
    fly(page, "entities", pond)
    assert value(page, "entitiesShown()")
    colour = value(page, f"Array.from(page.entities.rgb.slice({3 * pond}, {3 * pond + 3}))")
    np.testing.assert_allclose(pixel(page, "entities", pond), muted(np.array(colour)), atol=1)
    pointer(page, "entities", pond).click().perform()
    assert value(page, "[state.mode, state.chosen.entities.row]") == ["entities", pond]
    assert value(page, "state.chosen.entities.similar")[0] == twin
    assert f"way/{TWIN_POND}" in find(page, "#similar").text
    assert "kind=" in find(page, "#similar small").text


@pytest.mark.parametrize("row", [ROAD, TREE])
def test_lines_and_points_are_found_under_the_mouse(page, row):
    fly(page, "entities", drawn_row(page, f"way/{row}"))
    pointer(page, "entities", drawn_row(page, f"way/{row}")).perform()
    assert find(page, "#readout").text == f"way/{row} · kind={row % 3}"


def test_hovering_tells_id_and_number_of_entities(page):
    pointer(page, "regions", 13).perform()
    assert find(page, "#readout").text == "16/13 · 13 entities"
    pointer(page, "regions", 1).perform()
    assert find(page, "#readout").text == "16/1 · 1 entity"
    webdriver.ActionChains(page).move_to_element(find(page, "h1")).perform()
    assert find(page, "#readout").text == ""


def test_zoom_keeps_the_place_under_the_mouse_and_dragging_moves_the_map(page):
    held = value(
        page, "(() => { const at = [300, 200], a = toMetres(at); zoomBy(3, at); return [a, toMetres(at)]; })()"
    )
    assert held[0] == pytest.approx(held[1], abs=1e-6)
    before = value(page, "[state.x, state.y]")
    chain = webdriver.ActionChains(page).move_to_element(find(page, "#map")).click_and_hold()
    chain.move_by_offset(60, 40).release().perform()
    after = value(page, "[state.x, state.y]")
    assert after[0] < before[0]
    assert after[1] > before[1]
    assert value(page, "state.mode") == "colours"  # a drag is not a click


def test_the_wheel_zooms_in_and_not_farther_out_than_all_regions(page):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    origin, fit = ScrollOrigin.from_element(find(page, "#map")), value(page, "state.fit")
    webdriver.ActionChains(page).scroll_from_origin(origin, 0, -300).perform()
    assert value(page, "state.scale") == pytest.approx(2 * fit, rel=0.05)
    webdriver.ActionChains(page).scroll_from_origin(origin, 0, 2000).perform()
    assert value(page, "state.scale") == pytest.approx(fit, rel=0.01)


def test_two_fingers_zoom_and_a_tap_chooses(page):
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    x, y, width, height = value(
        page, "(({x, y, width, height}) => [x, y, width, height])(canvas.getBoundingClientRect())"
    )
    middle = (x + width / 2, y + height / 2)

    def touch(kind, *points):
        points = [{"x": px, "y": py, "id": i} for i, (px, py) in enumerate(points)]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    before = value(page, "state.scale")
    touch("touchStart", (middle[0] - 30, middle[1]), (middle[0] + 30, middle[1]))
    for reach in (40, 60, 90):
        touch("touchMove", (middle[0] - reach, middle[1]), (middle[0] + reach, middle[1]))
    touch("touchEnd")
    assert value(page, "state.scale") == pytest.approx(3 * before, rel=0.15)
    assert value(page, "state.mode") == "colours"
    touch("touchStart", (middle[0] + 5, middle[1] + 5))
    touch("touchEnd")
    assert value(page, "state.mode") != "colours"
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_keys_move_zoom_choose_and_go_back(page):
    from selenium.webdriver.common.keys import Keys

    find(page, "#map").send_keys("+")
    before = value(page, "[state.x, state.y, state.scale / state.fit]")
    assert before[2] == pytest.approx(2, rel=0.01)
    find(page, "#map").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    after = value(page, "[state.x, state.y]")
    assert after[0] > before[0]
    assert after[1] > before[1]
    assert find(page, "#readout").text != ""
    find(page, "#map").send_keys(Keys.ENTER)
    assert value(page, "state.mode") != "colours"
    find(page, "#map").send_keys(Keys.ESCAPE, "0")
    assert value(page, "[state.mode, Math.round(100 * state.scale / state.fit)]") == ["colours", 100]


def test_the_scale_bar_is_true(page):
    """A region is 0.006 degrees high, 667.2 m."""
    text = find(page, "#scale").text
    metres = float(text.split()[0]) * (1000 if text.endswith("km") else 1)
    width = find(page, "#scale span").size["width"]
    high = value(page, "(page.regions.boxes[3] - page.regions.boxes[1]) * state.scale / devicePixelRatio")
    assert high / width == pytest.approx(667.2 / metres, rel=0.03)
    assert 20 < width <= 112


def test_an_area_that_would_hide_the_map_is_a_line(browser, tmp_path):
    outlines, vectors = city()
    ground = EntityLayer(["relation/1", "way/2"], [shapely.union_all(outlines), outlines[14].buffer(-0.002)], np.eye(2))
    path = write_region_map(tmp_path / "a.html", outlines=outlines, ids=range(30), vectors=vectors, entities=ground)
    opened(browser, path)
    assert value(browser, "[...page.entities.kinds]") == [1, 2]
    browser.execute_script("setMode('entities')")
    pointer(browser, "regions", 20).perform()
    assert find(browser, "#readout").text == ""
    pointer(browser, "regions", 14).perform()
    assert find(browser, "#readout").text == "way/2"


def test_the_legend_names_the_labels_of_entities(page):
    assert not find(page, "#label-colours").is_displayed()
    assert find(page, "#zoom-in").is_displayed()
    fly(page, "entities", 0)
    texts = [item.text.split() for item in page.find_elements("css selector", "#label-colours li")]
    assert sorted(texts) == [["kind=0", "21"], ["kind=1", "21"], ["kind=2", "21"]]


def test_a_page_of_one_region_without_entities(browser, tmp_path):
    path = write_region_map(tmp_path / "one.html", outlines=city()[0][:1], ids=["only"], vectors=[[1.0, 2.0]])
    opened(browser, path)
    pointer(browser, "regions", 0).click().perform()
    assert find(browser, "#readout").text == "only · similarity 1.00"
    assert browser.find_elements("css selector", "#similar li") == []
    assert not browser.find_elements("css selector", "#modes label")[2].is_displayed()
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1280, "dark")])
def test_no_window_scrolls_sideways_and_colours_follow_the_scheme(page, width, scheme):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.execute_script("select([canvas.width / 2, canvas.height / 2])")
    inner, content, paper, mode = page.execute_script(
        "const { scrollWidth } = document.documentElement;"
        "return [innerWidth, scrollWidth, getComputedStyle(document.body).backgroundColor, state.mode]"
    )
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert inner == content == width
    assert mode == "regions"
    assert (int(paper.strip("rgb()").split(",")[0]) < 60) == (scheme == "dark")
