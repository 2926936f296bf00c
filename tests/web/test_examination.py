"""The report of an examination: what is written, of which reports, and how it opens in a browser."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pyarrow import parquet

from graticule.evaluation.examine import evaluate
from graticule.evaluation.residuals import plain
from graticule.evaluation.study import study
from graticule.evaluation.tasks import Task
from graticule.geo.coords import uniform_places
from graticule.web import examination
from graticule.web.document import value_of
from graticule.web.document_markdown import write_markdown
from graticule.web.examination import Material, document, geography, land, write_examination
from graticule.web.examination.quality import per_task, summary
from tests.evaluation.planted import planted_tasks, waves

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
FILES = ["report.html", "scores.json", "scores.parquet", "study.json", "table.md"]
SPLITS = ("random", "blocks", "continents", "few-shot")


def weak(points):
    return waves(points, seed=1)[:, :5]


EMBEDS = {"one": waves, "two": weak}


@pytest.fixture(autouse=True, scope="module")
def few_places():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examination, "PLACES", 300)
        yield


def planted(rows=100):
    """Regressions and classifications with continents."""
    east = (uniform_places(rows, seed=3)[:, 0] > 0).astype(np.int64)
    soil, biome = (replace(task, folds={"continent": east}) for task in planted_tasks(rows))
    return [soil, biome, replace(soil, name="my own", label=soil.label**2)]


def flat(rows=100):
    return Task("flat", uniform_places(rows), np.ones(rows), "regression")


def written(folder, embeds, tasks, **settings):
    """The report and the page of an examination."""
    report = evaluate(embeds, tasks, cache=folder / "answers", **settings)
    page = write_examination(report, embeds, folder)
    assert page == folder / "report.html"
    assert sorted(path.name for path in folder.iterdir()) == ["answers", *FILES]
    return report, page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def large(few_places, tmp_path_factory):
    """Two embeddings, several splits with a curve, one task that fails."""
    folder = tmp_path_factory.mktemp("large")
    return folder, *written(folder, EMBEDS, [*planted(), flat()], split=SPLITS)


def chapters(page):
    return re.findall(r"<h2>(.+?)</h2>", page)


def test_one_task_and_one_embedding(tmp_path):
    report, page = written(tmp_path, {"mine": waves}, planted()[:1], split="random")
    assert chapters(page) == ["Contents", "Representation quality", "Generalisation", "Information content"]
    assert "Examination of mine" in page
    assert "mean minus kriging" in page
    assert "which embeddings say the same" not in page.lower()
    found = json.loads((tmp_path / "study.json").read_text())
    assert (found["pair"], list(found["profiles"]), len(found["places"])) == ([], ["mine"], 300)
    assert report.score("mine", "soil_ph", "random") > 0.9


def test_without_baselines(tmp_path):
    _, page = written(tmp_path, {"mine": waves}, planted()[:1], split="blocks", baselines=False)
    assert "minus kriging" not in page


def test_every_number_is_written(large):
    folder, report, page = large
    assert parquet.read_table(folder / "scores.parquet").to_pylist() == report.rows
    scores = json.loads((folder / "scores.json").read_text())
    assert scores == json.loads(json.dumps(plain(report.summary())))
    assert set(scores) >= {"scores", "failures", "leaks"}
    assert (folder / "table.md").read_text() == report.to_markdown()
    embeds = study(report, EMBEDS, land())
    assert json.loads((folder / "study.json").read_text()) == json.loads(json.dumps(plain(embeds.to_json())))
    material = Material(report, embeds, list(EMBEDS))
    for split in report.whole:
        for table in (per_task(material, split), summary(report, split)):
            for row in table.rows:
                for column, cell in enumerate(row):
                    if not isinstance(cell, str) and value_of(cell) is not None:
                        assert f">{table.text(cell, column)}<" in page
        for name in report.names:
            for task, cell in zip(report.tasks, per_task(material, split).rows, strict=True):
                shown = dict(zip(["task", "kind", "rows", *material.names], cell, strict=True))[name]
                assert shown.value == report.score(name, task, split)
    for parts in embeds.partitions.values():
        assert all(f"{one['total']:.3f}".replace("-", "−") in page for one in parts.values())


def test_splits_and_curves_are_shown(large):
    _, report, page = large
    for split in SPLITS[:3]:
        assert f"Every task, folds {split}:" in page
        assert (f"Critical-difference diagram, folds {split}" in page) == (split != "continents")
    assert "one continent left out at a time" in page
    assert "Few labels" in page
    assert "few-shot 1:" not in page
    assert report.curves == [f"few-shot {shots}" for shots in (1, 3, 10, 30)]
    assert "Geography of error" in page
    assert "What one and two know of each other" in page


def test_what_failed_is_listed(large):
    folder, report, page = large
    failures = json.loads((folder / "scores.json").read_text())["failures"]
    assert {failure["task"] for failure in failures if "few-shot" not in failure["where"]} == {"flat"}
    assert len(failures) == len(report.failures) == 3 + 7 + 3 * 3
    assert f"{len(failures)} parts could not be examined" in page
    for failure in failures:
        assert f">{failure['where']}<" in page
        assert failure["reason"].replace("'", "&#x27;") in page


def test_the_page_asks_the_network_for_nothing(large):
    _, _, page = large
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"'\s>]+""", page) == []
    assert re.findall(r"url\((?!#|%23|data:).{20}", page) == []
    assert "@import" not in page
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", page)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    quick = {"split": "random", "baselines": False}
    for name in "ab":
        written(tmp_path / name, EMBEDS, planted(60)[:2], **quick)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "answers").rglob("*.*")}
    written(tmp_path / "a", EMBEDS, planted(60)[:2], **quick)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "answers").rglob("*.*")}
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_the_same_document_as_markdown(tmp_path):
    report = evaluate({"mine": waves}, planted(100)[:2], split="random", baselines=False)
    material = Material(report, study(report, {"mine": waves}, land()), ["mine"], geography(report, ["mine"]))
    made = document(material, "A title")
    text = write_markdown(made, tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# A title\n")
    assert text.count("\n## ") == 3
    pictures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert pictures == {figure.name for figure in made.figures()}
    assert all(f"figures/{name}.png" in text for name in pictures)
    assert f"{report.score('mine', 'soil_ph', 'random'):.3f} \\[" in text


@pytest.mark.parametrize("probes", ["logistic", ("logistic", "knn")])
def test_a_probe_of_classes_only_comes_first(probes, tmp_path):
    """It has no regressions, and says nothing about those; another probe that has them speaks for the embedding."""
    report, page = written(tmp_path, {"mine": waves}, planted(80)[1::-1], split="random", probes=probes)
    names = ["mine"] if probes == "logistic" else ["mine (knn)", "mine (logistic)"]
    assert set(names) < set(report.names)
    assert report.first_probe == ("logistic" if probes == "logistic" else "knn")
    for name in names:
        assert f">{name}<" in page
    assert "Map of the errors of mine on biome" in page
    assert ("Map of the errors of mine on soil_ph" in page) == (probes != "logistic")


def test_only_a_curve(tmp_path):
    report, page = written(tmp_path, {"mine": waves}, planted(100)[:1], split="few-shot", baselines=False)
    assert report.whole == ["few-shot 30"]
    assert "Few-shot curves of soil_ph" in page


def test_a_task_without_one_of_the_splits(tmp_path):
    """One cannot be cut at random (so it has no curve), another has no blocks."""
    tasks, one = planted(100), np.zeros(100, np.int64)
    tasks = [
        replace(tasks[0], folds={"fold_random": one}),
        replace(tasks[1], folds={"fold_block10": one}),
        *tasks[2:],
        replace(tasks[2], name="another"),
    ]
    report, page = written(tmp_path, EMBEDS, tasks, split=("random", "blocks", "few-shot"), baselines=False)
    assert {(f.task, f.where) for f in report.failures if "few" not in f.where} == {
        ("soil_ph", "random"), ("biome", "blocks"),
    }  # fmt: skip
    assert "Few-shot curves of biome" in page
    assert "Few-shot curves of soil_ph" not in page
    parts = json.loads((tmp_path / "study.json").read_text())["partitions"]
    assert {task: list(by) for task, by in parts.items()} == {
        "soil_ph": ["blocks"], "biome": ["random"], "my own": ["random", "blocks"], "another": ["random", "blocks"],
    }  # fmt: skip


def test_names_that_are_alike_as_files_or_hold_marks(tmp_path):
    """Figures of `a b` and `a-b`, and those in scripts without a-z, need names of their own."""
    soil = planted(100)[0]
    names = ["a b", "a-b", "почва", "лес", "<b>&amp;</b>"]
    embeds = {"runs/a_b": waves, "runs a b": weak}
    _, page = written(tmp_path, embeds, [replace(soil, name=name) for name in names], split="random", baselines=False)
    assert "&lt;b&gt;&amp;amp;&lt;/b&gt;" in page
    assert "<b>&amp;" not in page


def test_a_collapsed_embedding_does_not_spoil_the_report(tmp_path):
    embeds = {"one": waves, "flat": lambda points: np.ones((len(points), 4))}
    _, page = written(tmp_path, embeds, planted(100)[:2], split="random")
    assert "Left out, as they give fewer than 12 different vectors: flat." in page
    assert json.loads((tmp_path / "study.json").read_text())["collapsed"] == ["flat"]


def test_places_on_land_or_everywhere(monkeypatch):
    assert land().shape == (300, 2)
    monkeypatch.setattr(examination, "find_spec", lambda name: None)
    np.testing.assert_array_equal(land(), uniform_places(300))


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (BROWSER and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_it_fits_and_its_tables_sort(large, browser, width):
    folder, _, _ = large
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get((folder / "report.html").as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "true"
    browser.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true })")
    wide, window = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window == width
    drawn = browser.execute_script("return [...document.images].map((image) => image.naturalWidth)")
    assert len(drawn) > 20
    assert min(drawn) > 100
    rows = "[...document.querySelector('table').tBodies[0].rows]"
    first = browser.find_element("css selector", "table")
    last = len(first.find_elements("css selector", "th[scope=col]")) - 1
    first.find_elements("css selector", "th button")[last].click()
    values = [
        float(text.split(" ")[0])
        for text in browser.execute_script(f"return {rows}.map((row) => row.cells[{last}].innerText)")
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
    assert browser.get_log("browser") == []
