import dataclasses
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import graticule
from graticule.cli import COMMANDS, main, parser
from graticule.cli.picture import read_picture
from graticule.data.store import open_dataset
from graticule.data.synthetic import write_s2_folder
from graticule.errors import DataError, SettingError
from graticule.files import read_json
from graticule.geo.coords import uniform_places
from graticule.web import examination
from tests.small_run import TRAINED

SETTINGS = [f"{key}={value}" for key, value in TRAINED.items()]


@pytest.fixture
def spots(tmp_path):
    places = uniform_places(30, seed=8)
    path = tmp_path / "spots.csv"
    path.write_text("\n".join(["name,lon,lat", *(f"spot {i},{x!r},{y!r}" for i, (x, y) in enumerate(places.tolist()))]))
    return path


def test_version_and_help(command):
    assert command("--version") == (0, f"graticule {graticule.__version__}\n", "")
    code, out, err = command("--help")
    assert (code, err) == (0, "")
    for verb in COMMANDS:
        assert re.search(rf"^ +{verb}\b", out, re.MULTILINE)
        code, out_of_verb, _ = command(verb, "--help")
        assert code == 0, err
        assert f"usage: graticule {verb}" in out_of_verb


@pytest.mark.parametrize(
    "wrong",
    [[], ["embde"], ["embed"], ["prepare", "text=a"], ["train", "melt"], ["nearest", "--lon", "east"], ["map", "-x"]],
)
def test_wrong_usage_is_exit_code_2(wrong, command):
    code, out, err = command(*wrong)
    assert (code, out) == (2, "")
    assert err.startswith("usage: graticule")


def test_the_parser_is_light():
    code = "import sys, graticule.cli as c; c.parser(); print({'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_as_a_program_results_and_errors_keep_apart(tmp_path, spots):
    def program(*arguments):
        return subprocess.run([sys.executable, "-m", "graticule", *arguments], capture_output=True, text=True)

    done = program("prepare", f"spots={spots}", "--to", tmp_path / "data")
    assert done.returncode == 0
    assert "spots               30 rows of text" in done.stdout
    assert done.stderr == f"prepared spots: 30 rows in {tmp_path}/data/spots\n"
    done = program("prepare", f"spots={tmp_path}/none.csv", "--to", tmp_path / "data")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("graticule prepare: ")
    assert "Traceback" not in done.stderr


def test_every_verb_has_a_command():
    verbs = next(action for action in parser()._actions if action.dest == "verb")
    assert set(verbs.choices) == set(COMMANDS)


def test_prepare_reads_what_it_is_given(tmp_path, command, spots):
    write_s2_folder(tmp_path / "patches", n=4, seed=0, size=16)
    code, out, err = command(
        "prepare", f"text={spots}", f"sky={tmp_path}/patches", f"dots=table:{spots}", "--to", tmp_path / "data",
        "--set", "sky.crop=8", "dots.text=name", "dots.licence=CC0",
    )  # fmt: skip
    assert code == 0, err
    assert "sky                 16 rows of image; skipped: nothing" in out
    assert "prepared sky: 16 rows" in err
    data = open_dataset(tmp_path / "data")
    assert data["sky"].manifest["array"]["shape"] == [12, 8, 8]
    assert data["dots"].manifest["licence"] == "CC0"
    assert {name: len(table) for name, table in data.tables.items()} == {"dots": 30, "sky": 16, "text": 30}


def test_prepare_samples_rasters_at_places(tmp_path, command, spots):
    write_s2_folder(tmp_path / "patches", n=1, seed=0, size=16)
    (index,) = (tmp_path / "patches" / "index.csv").read_text().splitlines()[1:]
    _, lat, lon = index.split(",")
    (tmp_path / "there.csv").write_text(f"lon,lat\n{lon},{lat}\n0,-60\n")
    patch = tmp_path / "patches" / "images" / "patch_0.tif"
    code, out, err = command(
        "prepare", f"sky={patch}", "--to", tmp_path / "data",
        "--set", f"sky.places={tmp_path}/there.csv", "sky.size_km=0.08", "sky.pixels=8",
    )  # fmt: skip
    assert code == 0, err
    assert "1 rows of image; skipped: 1 outside the raster" in out


def test_quiet_says_only_results(tmp_path, command, spots):
    code, out, err = command("prepare", "-q", f"text={spots}", "--to", tmp_path / "data")
    assert (code, err) == (0, "")
    assert "30 rows of text" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["text.txet=name"], r"Unknown option of the reader 'table' 'txet'. Did you mean 'text'"),
        (["txt.text=name"], "no such modality; given are text"),
        (["text"], "Expected KEY=VALUE, got 'text'"),
        (["text.places=uniform:5"], "Unknown option of the reader 'table' 'places'"),
        (["text.text=nome"], r"no column nome. Its columns: name, lon, lat"),
    ],
)
def test_prepare_refuses_unknown_options(options, said, refused, tmp_path, spots):
    assert re.search(said, refused("prepare", f"text={spots}", "--to", tmp_path / "data", "--set", *options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give NAME.places=TABLE or NAME.places=uniform:20000"),
        (["sky.places=uniform:many"], "uniform:N with a whole number N, got 'uniform:many'"),
        (["sky.places=nowhere.csv"], "nowhere.csv does not exist"),
        (["sky.places=uniform:3", "sky.bounds=1/2/3"], "west/south/east/north in degrees, got '1/2/3'"),
        (["sky.places=uniform:3", "sky.pixels=many"], "an option is of the wrong type"),
        (["sky.places=uniform:3", "sky.lon=5"], "Unknown option of the reader 'raster' 'lon'"),
    ],
)
def test_prepare_refuses_wrong_options_of_a_raster(options, said, refused, tmp_path):
    write_s2_folder(tmp_path / "p", n=1, seed=0, size=8)
    patch = tmp_path / "p" / "images" / "patch_0.tif"
    assert said in refused(
        "prepare", f"sky={patch}", "--to", tmp_path / "data", "--set", *(options or ["sky.pixels=4"])
    )


def test_prepare_refuses_paths_it_cannot_tell(refused, tmp_path, spots):
    odd = tmp_path / "a.docx"
    odd.write_text("")
    for given, said in [
        (f"text={tmp_path}/none.csv", "none.csv does not exist"),
        (f"text=tabel:{spots}", "does not exist. A reader's name may stand before a path"),
        (f"text={odd}", "Unknown kind of file '.docx'"),
        (str(odd), "Expected KEY=VALUE"),
        (f"two words={spots}", "plain word"),
    ]:
        assert said in refused("prepare", given, "--to", tmp_path / "data")
    assert "Each modality is given once" in refused("prepare", f"a={spots}", f"a={spots}", "--to", tmp_path / "data")


@pytest.fixture
def trained(tmp_path, command, data):
    folder = tmp_path / "run"
    code, out, err = command(
        "train", "melt", data.folder, "--to", folder, "--set", *SETTINGS, "symmetric=true", "ema=0.5"
    )
    assert code == 0, err
    return folder, out


def test_train_takes_settings_with_their_types(trained, command, refused, data):
    folder, out = trained
    assert out.startswith(f"{folder}: melt, 16-d, trained in ")
    settings = read_json(folder / "run.json")["settings"]
    assert (settings["steps"], settings["ema"], settings["symmetric"]) == (5, 0.5, True)
    assert settings["location_options"] == {"max_degree": 4, "width": 32, "depth": 1}
    assert settings["trunks"] == {"text": "ngram"}
    assert sorted(p.name for p in folder.iterdir()) == ["log.jsonl", "model.safetensors", "run.json"]
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    again = command("train", "melt", data.folder, "--to", folder, "--set", *SETTINGS, "symmetric=true", "ema=0.5")
    assert again[0] == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert "holds a run with other settings" in refused(
        "train", "melt", data.folder, "--to", folder, "--set", *SETTINGS
    )
    assert "holds a run with other recipe" in refused(
        "train", "imagebind", data.folder, "--to", folder, "--set", *SETTINGS, "symmetric=true", "ema=0.5"
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("stpes=5", "Unknown setting 'stpes'. Did you mean 'steps'"),
        ("steps=many", "'steps' must be of type int, got 'many'"),
        ("steps=2.5", "'steps' must be of type int"),
        ("learn_temperature=1", "'learn_temperature' must be of type bool"),
        ("locaton.max_degree=4", "Unknown setting 'locaton.max_degree'. Did you mean"),
        ("location=harmnics", "'harmnics'. Did you mean 'harmonics'"),
        ("location.max_degre=4", "'max_degre'. Did you mean 'max_degree'"),
        ("trunk.text=ngrm", "Unknown trunk 'ngrm'. Did you mean 'ngram'"),
        ("trunk.txt=ngram", "Unknown modality in trunk.NAME 'txt'. Did you mean 'text'"),
        ("modalities=text,imgae", "'imgae'. Did you mean 'image'"),
        ("batch_size=0", "'batch_size' must be at least 1, got '0'"),
        ("precision=float16", "precision must be"),
        ("steps", "Expected KEY=VALUE, got 'steps'"),
        ("trunk.text=statistics", "holds text rows, but its trunk reads image"),
        ("head=mlpp", "Unknown head 'mlpp'. Did you mean 'mlp'"),
    ],
)
def test_train_refuses_wrong_settings(setting, said, refused, tmp_path, data):
    assert said in refused("train", "melt", data.folder, "--to", tmp_path / "run", "--set", *SETTINGS, setting)


def test_train_refuses_unknown_recipes_and_folders(refused, tmp_path, data):
    assert "Unknown recipe 'metl'. Did you mean 'melt'" in refused("train", "metl", data.folder, "--to", tmp_path / "r")
    assert "holds no prepared data" in refused("train", "melt", tmp_path, "--to", tmp_path / "r")


def test_embed_says_how_many_rows(run, spots, command, tmp_path):
    out = tmp_path / "out.parquet"
    assert command("embed", spots, "-o", out, "--model", run.folder, "-q") == (0, f"{out}: 30 rows\n", "")
    assert pq.read_table(out)["name"].to_pylist() == [f"spot {i}" for i in range(30)]


def test_embed_takes_columns_by_name(run, command, refused, tmp_path):
    path, out = tmp_path / "odd.csv", tmp_path / "out.parquet"
    path.write_text("east,north\n190,5\n-3,4\n")
    arguments = (path, "-o", out, "--model", run.folder)
    assert "no coordinates. Its columns: east, north" in refused("embed", *arguments)
    assert "no column 'est'" in refused("embed", *arguments, "--lon", "est", "--lat", "north")
    assert command("embed", *arguments, "--lon", "east", "--lat", "north")[0] == 0
    found = np.array(pq.read_table(out)["embedding"].to_pylist())
    np.testing.assert_allclose(found, run.embed(lon=[-170, -3], lat=[5, 4]), atol=1e-5)


LINE = re.compile(r"^ *(-?\d\.\d{3}) +(-?\d+\.\d{3}) +(-?\d+\.\d{3})(?: +([\d,]+) km)?  (.+)$")


def test_nearest_to_a_place(run, spots, command):
    lon, lat = uniform_places(30, seed=8)[7]
    code, out, err = command("nearest", run.folder, f"--lon={lon}", f"--lat={lat}", "--places", spots, "-k", 3)
    assert code == 0, err
    assert err == ""
    rows = [LINE.match(line).groups() for line in out.splitlines()]
    assert len(rows) == 3
    assert rows[0] == ("1.000", f"{lat:.3f}", f"{lon:.3f}", "0", "spot 7")


@pytest.mark.parametrize("answer", ["place", "text", "image"])
def test_nearest_to_a_text(answer, run, spots, command):
    code, out, err = command("nearest", run.folder, "--text", "dry desert", "--answer", answer, "--places", spots)
    assert code == 0, err
    rows = [LINE.match(line).groups() for line in out.splitlines()]
    assert len(rows) == 5
    assert all(away is None for *_, away, _ in rows)
    similarities = [float(row[0]) for row in rows]
    assert similarities == sorted(similarities, reverse=True)


def test_nearest_to_a_picture_and_maps_of_two_of_one_name(run, data, command, refused, tmp_path):
    import rasterio

    picture = next(data["image"].all_contents())
    path = tmp_path / "picture.tif"
    shape = dict(zip(("count", "height", "width"), picture.shape, strict=True))
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", transform=rasterio.Affine(1, 0, 2, 0, -1, 3), **shape
    ) as f:
        f.write(picture)
    code, out, err = command("nearest", run.folder, "--image", path, "--answer", "image", "-k", 1)
    assert code == 0, err
    assert LINE.match(out.strip("\n")).groups()[0::4] == ("1.000", "image-0")
    (tmp_path / "again").mkdir()
    again, page = tmp_path / "again" / path.name, tmp_path / "heat.html"
    again.write_bytes(path.read_bytes())
    code, _, err = command("heatmap", run.folder, "--image", path, "--image", again, "-o", page)
    assert code == 0, err
    assert all(f'"name":"{one}"' in page.read_text("utf-8") for one in (path, again))
    path.write_bytes(b"no picture")
    assert "picture.tif cannot be read as a picture" in refused("nearest", run.folder, "--image", path)
    assert "none.tif does not exist" in refused("nearest", run.folder, "--image", tmp_path / "none.tif")


def test_pictures_are_read_as_the_model_reads_them(run, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"jpeg")

    def knowing(*kinds):
        return dataclasses.replace(run, about={"data": {kind: {"kind": kind} for kind in kinds}})

    assert read_picture(knowing("text", "photo"), path) == b"jpeg"
    with pytest.raises(SettingError, match="none of them reads pictures"):
        read_picture(knowing("text"), path)
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read_picture(knowing("image"), path)


def test_nearest_refuses_questions_that_are_none(run, refused, spots):
    for asked in ([], ["--lon", "5"], ["--lon", "5", "--lat", "6", "--text", "a"]):
        assert "exactly one of" in refused("nearest", run.folder, *asked)
    assert "lat must lie in [-90, 90]" in refused("nearest", run.folder, "--lon", "5", "--lat", "91")
    question = ("nearest", run.folder, "--text", "a", "--places", spots)
    assert "k=0" in refused(*question, "-k", 0)
    assert "Did you mean 'image'" in refused(*question, "--answer", "imgae")


@pytest.fixture
def tasks(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    points = uniform_places(120, seed=5)
    warm = 30 - np.abs(points[:, 1])
    half = ["north" if y > 0 else "south" for y in points[:, 1]]
    for name, kind, label in (("warmth", "regression", warm), ("half", "classification", half)):
        columns = {"lon": points[:, 0], "lat": points[:, 1], "label": label, "fold_random": np.arange(120) % 10}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        about = {"name": name, "type": kind, "n": 120, "source": "made", "licence": "CC0"}
        (folder / f"{name}.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def few_places(monkeypatch):
    """A report of vectors at 300 places, not 10,000."""
    monkeypatch.setattr(examination, "PLACES", 300)


def test_evaluate_scores_a_run_beside_the_baselines(run, tasks, command, tmp_path, few_places):
    code, out, err = command("evaluate", run.folder, "--tasks", tasks, "--split", "random", "-o", tmp_path / "report")
    assert code == 0, err
    assert re.search(r"^small +\.\d{3}|^small +1\.000", out, re.MULTILINE)
    scores = pq.read_table(tmp_path / "report" / "scores.parquet").to_pylist()
    assert {row["task"] for row in scores} == {"warmth", "half"}
    names = {row["embedding"] for row in scores}
    assert "small" in names
    assert len(names) > 3
    summary = json.loads((tmp_path / "report" / "scores.json").read_text())["scores"]
    assert summary["small"]["random"]["tasks"].keys() == {"warmth", "half"}
    written = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert written == ["answers", "report.html", "scores.json", "scores.parquet", "study.json", "table.md"]
    assert f"to open in a browser: {tmp_path}/report/report.html" in err
    table = (tmp_path / "report" / "table.md").read_text()
    assert table.splitlines()[0].startswith("| embedding |")
    assert any(line.startswith("| small |") for line in table.splitlines())


def test_evaluate_takes_named_tasks_and_refuses_unknown_names(run, tasks, command, refused):
    code, out, err = command("evaluate", run.folder, "--tasks", f"{tasks}:half", "--split", "random", "--probe", "knn")
    assert code == 0, err
    assert "classification" in out
    assert "regression" not in out
    base = ("evaluate", run.folder, "--tasks")
    assert "Unknown task 'hlaf'. Did you mean 'half'" in refused(*base, f"{tasks}:hlaf")
    assert "'randm'. Did you mean 'random'" in refused(*base, tasks, "--split", "randm")
    assert "'rige'. Did you mean 'ridge'" in refused(*base, tasks, "--probe", "rige")
    assert "expected a folder of tasks" in refused(*base, tasks.parent / "none")
    assert "holds no trained run" in refused("evaluate", tasks, "--tasks", tasks)


def test_kill_9_in_evaluate_then_the_same_command_again(run, tasks, command, tmp_path, few_places):
    def arguments(out):
        return ["evaluate", run.folder, "--tasks", tasks, "-o", out, "--workers", 1]

    assert command(*arguments(tmp_path / "whole"))[0] == 0
    answers = sorted(path.name for path in (tmp_path / "whole" / "answers").rglob("*.npz"))
    torn = tmp_path / "torn"
    program = [sys.executable, "-m", "graticule", *map(str, arguments(torn))]
    child = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while len(list((torn / "answers").rglob("*.npz"))) < 3:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in (torn / "answers").rglob("*.npz")}
    assert 3 <= len(before) < len(answers)
    assert [path.name for path in torn.iterdir()] == ["answers"]
    code, _, err = command(*arguments(torn))
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sorted(path.name for path in (torn / "answers").rglob("*.npz")) == answers
    for name in ("scores.parquet", "scores.json", "study.json", "table.md", "report.html"):
        assert (torn / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_map_writes_one_page(run, command, tmp_path):
    out = tmp_path / "deep" / "map.html"
    out.parent.mkdir()
    assert command("map", run.folder, "-o", out, "-q") == (0, f"{out}\n", "")
    page = out.read_text(encoding="utf-8")
    assert "graticule · small" in page
    assert "licence of text" in page


def test_heatmap_asks_with_texts_pictures_and_places(run, command, refused, tmp_path):
    out = tmp_path / "heat.html"
    asked = ("--text", "far hills", "--text", "a port", "--lon", "11.5", "--lat", "-48")
    assert command("heatmap", run.folder, *asked, "-o", out, "-q") == (0, f"{out}\n", "")
    page = out.read_text(encoding="utf-8")
    for name in ("far hills", "a port", "latitude -48, longitude 11.5"):
        assert f'"name":"{name}"' in page
    assert "--text" in refused("heatmap", run.folder)
    assert "lon and lat together" in refused("heatmap", run.folder, "--lat", "3")
    assert "does not exist" in refused("heatmap", run.folder, "--image", tmp_path / "none.tif")


def test_outputs_that_cannot_be_written_are_one_sentence(run, refused, spots, tmp_path):
    (tmp_path / "folder.parquet").mkdir()
    said = refused("embed", spots, "-o", tmp_path / "folder.parquet", "--model", run.folder)
    assert "folder.parquet" in said


def test_errors_that_are_bugs_are_not_hidden(monkeypatch, tmp_path):
    def bug(asked):
        raise ZeroDivisionError

    monkeypatch.setitem(COMMANDS, "map", bug)
    with pytest.raises(ZeroDivisionError):
        main(["map"])
