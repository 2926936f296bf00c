"""The page in a real browser: drawn from a file, clicked, typed at, and silent on the network and the console."""

import json

import numpy as np
import pytest

from graticule.geo.coords import great_circle_km, unit_sphere
from graticule.web.page import world_lattice, write_map
from tests.web.browser import find, needs_browser, opened, started, webdriver

pytestmark = needs_browser


def planted(step_deg=3.0):
    """Two far islands share one vector; everything else varies smoothly with position."""
    places = world_lattice(step_deg)
    smooth = unit_sphere(places) @ np.random.default_rng(0).normal(size=(3, 8))
    islands = np.column_stack([np.zeros((len(places), 8)), np.full(len(places), 1.0)])
    here = near(places, (-100, 40)) | near(places, (135, -25))
    return places, np.where(here[:, None], islands, np.column_stack([smooth, np.zeros(len(places))]))


def near(places, centre, km=350):
    return great_circle_km(places, np.array(centre, dtype=float)) < km


@pytest.fixture(scope="module")
def map_file(tmp_path_factory):
    places, vectors = planted()
    overlay = {"Ports": ([[0.0, 0.0], [30.0, 0.0]], ["Null Island", "East"])}
    names = [f"cell {i}" for i in range(len(places))]
    path = tmp_path_factory.mktemp("map") / "map.html"
    return write_map(path, lonlat=places, vectors=vectors, title="Planted", names=names, points=overlay)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = started(tmp_path_factory.mktemp("profile"), "--window-size=1200,900")
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, map_file):
    return opened(browser, map_file)


def click(page, lon, lat):
    """A real click of the mouse on the pixel of a place."""
    dx, dy = page.execute_script(
        "const [x, y] = toScreen(arguments); return [x - canvas.width / 2, y - canvas.height / 2]"
        ".map((v) => Math.round(v / devicePixelRatio))",
        lon,
        lat,
    )
    webdriver.ActionChains(page).move_to_element_with_offset(find(page, "#map"), dx, dy).click().perform()


def press(page, *keys):
    webdriver.ActionChains(page).send_keys(*keys).perform()


def pixel(page, lon, lat):
    script = "draw(); const [x, y] = toScreen(arguments); return [...context.getImageData(x, y, 1, 1).data];"
    return page.execute_script(script, lon, lat)


def similar_rows(page):
    return page.execute_script("return state.similar")


def test_opening_asks_the_network_for_nothing_and_logs_nothing(page):
    click(page, 0, 20)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []
    assert any(url.startswith("file:") for url in asked)
    assert page.get_log("browser") == []


def test_the_browser_reads_the_same_numbers_as_python(page):
    places, vectors = planted()
    a, b = 1000, 5000
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert page.execute_script(f"return similarities({a})[{b}]") == pytest.approx(unit[a] @ unit[b], abs=0.01)
    assert page.execute_script(f"return similarities({a})[{a}]") == pytest.approx(1, abs=1e-5)
    assert page.execute_script(f"return page.lonlat({b})") == places[b].tolist()


def test_a_click_finds_the_twin_on_the_other_side_of_the_world(page):
    click(page, -100, 40)
    places, _ = planted()
    rows = similar_rows(page)
    assert near(places, (135, -25))[rows].any()
    chosen = page.execute_script("return state.row")
    assert near(places, (-100, 40))[chosen]
    spread = great_circle_km(places[[chosen, *rows]][:, None], places[[chosen, *rows]][None])
    assert len(rows) == 10
    assert spread[~np.eye(11, dtype=bool)].min() >= 300
    items = page.find_elements("css selector", "#similar li")
    assert len(items) == 10
    assert f"cell {rows[0]}" in items[0].text
    assert "1.00" in items[0].text
    twin = next(row for row in rows if near(places, (135, -25))[row])
    colours = page.execute_script("return [...arguments].map((row) => state.colours[row])", chosen, twin, 100)
    assert colours[0] == colours[1] != colours[2]


def test_a_question_colours_the_map_until_a_place_is_chosen(browser, tmp_path):
    places, vectors = planted()
    questions = {"islands": np.eye(9)[8], "the rest": -np.eye(9)[8]}
    path = write_map(tmp_path / "asked.html", lonlat=places, vectors=vectors, title="Asked", questions=questions)
    page = opened(browser, path)
    assert find(page, "section[data-mode=asked]").is_displayed()
    there = near(places, (-100, 40)) | near(places, (135, -25))
    colours = np.array(page.execute_script("return [...state.colours]"))[:-1]
    assert len(set(colours[there])) == 1
    assert not np.isin(colours[~there], colours[there]).any()
    found = page.execute_script("return asked().similar")
    assert len(found) == 10
    assert there[found[:2]].all()
    assert "1.000" in page.find_elements("css selector", "#found li")[0].text
    page.find_elements("css selector", "#found button")[0].click()
    assert page.execute_script("return [state.mode, rowAt(state.marker)]") == ["asked", found[0]]
    page.execute_script("const s = $('#question'); s.selectedIndex = 1; s.dispatchEvent(new Event('change'))")
    assert page.execute_script("return [...state.colours]")[:-1] != colours.tolist()
    assert page.execute_script("return asked().name") == "the rest"
    click(page, 0, 20)
    assert page.execute_script("return state.mode") == "similar"
    assert page.get_log("browser") == []


def test_without_questions_there_is_nothing_asked(page):
    assert not find(page, "#asked-mode").is_displayed()


def test_hash_and_click_do_the_same(browser, map_file):
    by_hash = similar_rows(opened(browser, map_file, "#-99.9,39.8"))
    click(opened(browser, map_file), -100, 40)
    assert similar_rows(browser) == by_hash
    assert len(by_hash) == 10
    assert browser.current_url.partition("#")[2] != ""


@pytest.mark.parametrize("fragment", ["#nonsense", "#500,0", "#0,91", "#1,2,3"])
def test_a_hash_that_is_no_place_is_ignored(browser, map_file, fragment):
    opened(browser, map_file, fragment)
    assert browser.execute_script("return [state.mode, state.row]") == ["colours", None]
    assert browser.get_log("browser") == []


def test_arrow_keys_move_the_marker_by_cells_and_around_the_antimeridian(page):
    from selenium.webdriver.common.keys import Keys

    click(page, 175.5, 0.5)
    before = page.execute_script("return state.marker")
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    lon, lat = page.execute_script("return state.marker")
    assert lon == pytest.approx(before[0] + 6 - 360, abs=1e-6)
    assert lat == pytest.approx(before[1] + 3, abs=1e-6)
    assert "cell" in find(page, "#announce").get_attribute("textContent")


def test_component_slider_recolours_and_shows_its_variance(page):
    from selenium.webdriver.common.keys import Keys

    find(page, "#modes label:has(input[value=component])").click()
    first, label = pixel(page, 60, 40), find(page, "#component-label").text
    find(page, "#component").send_keys(Keys.ARROW_RIGHT)
    assert find(page, "#component-label").text != label
    assert "Component 2 of" in find(page, "#component-label").text
    assert "% of variance" in label
    assert pixel(page, 60, 40) != first


@pytest.mark.parametrize("projection", ["equalEarth", "plateCarree"])
def test_projection_and_its_inverse_agree(page, projection):
    page.execute_script("state.projection = arguments[0]", projection)
    for lon, lat in [(0, 0), (-179, 0), (120, 60), (-70, -89), (10, 89.5)]:
        back = page.execute_script("return toPlace(toScreen(arguments))", lon, lat)
        assert back == pytest.approx([lon, lat], abs=1e-6)


def test_equal_earth_is_equal_area(page):
    """A degree cell at any latitude covers map area in proportion to its area on the sphere."""
    script = (
        "const p = projections.equalEarth, e = 1e-4, t = arguments[0] * radians;"
        "return p.stretch(t) * (p.y(t + e) - p.y(t - e)) / (2 * e) / Math.cos(t)"
    )
    ratios = [page.execute_script(script, lat) for lat in (0, 25, 50, 75, 85)]
    assert ratios == pytest.approx([1] * 5, rel=1e-5)


def test_zoom_keeps_the_place_under_the_mouse_and_dragging_moves_it(page):
    held = page.execute_script(
        "const at = toScreen([30, 40]); setZoom(4, at); const [lon, lat] = toPlace(at); return [lon, lat]"
    )
    assert held == pytest.approx([30, 40], abs=1e-6)
    before = page.execute_script("return [...state.centre]")
    chain = webdriver.ActionChains(page).move_to_element(find(page, "#map")).click_and_hold()
    chain.move_by_offset(80, 40).release().perform()
    after = page.execute_script("return [...state.centre]")
    assert after[0] < before[0]
    assert after[1] > before[1]
    assert page.execute_script("return state.row") is None  # a drag is not a click


def test_hovering_tells_coordinates_and_names_of_dots(page):
    webdriver.ActionChains(page).move_to_element(find(page, "#map")).perform()
    assert find(page, "#readout").text == "Ports: Null Island"
    find(page, "#overlays input").click()
    webdriver.ActionChains(page).move_to_element_with_offset(find(page, "#map"), 40, -40).perform()
    assert "° N" in find(page, "#readout").text
    assert "cell" in find(page, "#readout").text
    webdriver.ActionChains(page).move_to_element(find(page, "#map")).perform()
    assert "Null Island" not in find(page, "#readout").text


def test_a_map_of_some_places_is_blank_elsewhere(browser, tmp_path):
    places, vectors = planted()
    north = places[:, 1] > 0
    path = write_map(tmp_path / "half.html", lonlat=places[north], vectors=vectors[north], title="North")
    opened(browser, path)
    click(browser, 20, -50)
    assert browser.execute_script("return state.row") is None
    assert "no data" in find(browser, "#readout").text
    assert pixel(browser, 50, -50) == pixel(browser, -40, -20) != pixel(browser, 50, 50)
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (800, "light")])
def test_a_narrow_window_does_not_scroll_sideways_and_colours_follow_the_scheme(page, width, scheme):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    inner, content, paper = page.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]"
    )
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert inner == content == width
    assert (int(paper.strip("rgb()").split(",")[0]) < 60) == (scheme == "dark")
