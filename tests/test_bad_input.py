"""Bad and odd input from end to end: the right result, or exit code 1 and one clear sentence."""

import bz2
import gzip
import html
import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from graticule import runs
from graticule.data.store import open_dataset
from graticule.data.synthetic import write_s2_folder, write_wiki_dump
from graticule.errors import GraticuleError
from graticule.geo.coords import uniform_places
from graticule.web import examination
from tests.small_run import TRAINED

SETTINGS = [f"{key}={value}" for key, value in TRAINED.items()]


@pytest.fixture
def embed(run, refused, tmp_path):
    """Write a table, embed it, expect a refusal that leaves no output; returns the sentence."""

    def refused_embed(text, name="points.csv", encoding="utf-8"):
        (tmp_path / name).write_text(text, encoding=encoding)
        said = refused("embed", tmp_path / name, "-o", tmp_path / "out.parquet", "--model", run.folder)
        assert [p.name for p in tmp_path.iterdir()] == [name]
        assert name in said
        return said

    return refused_embed


# Tables of coordinates


def test_swapped_where_a_latitude_proves_it(embed):
    said = embed("lon,lat\n48.1,11.6\n23.1,113.4\n")
    assert "points.csv:1 has lon=23.1, lat=113.4" in said
    assert "Are lon and lat swapped?" in said


@pytest.mark.parametrize("cell", ["nan", "NaN", "", "null"])
def test_missing_coordinates(embed, cell):
    assert "finite numbers; " in (said := embed(f"lon,lat\n1,2\n3,{cell}\n"))
    assert "points.csv:1 has lon=3, lat=nan" in said


def test_infinite_coordinates(embed):
    assert "points.csv:0 has lon=inf" in embed("lon,lat\ninf,2\n")


def test_latitude_91(embed):
    said = embed("name,lon,lat\na,100,5\nb,120,91\n")
    assert "lat must lie in [-90, 90] degrees" in said
    assert "points.csv:1 has lon=120, lat=91" in said
    assert "swapped" not in said


def test_longitude_190_is_wrapped(run, command, tmp_path):
    (tmp_path / "points.csv").write_text("lon,lat\n190,5\n-190,5\n360,5\n-360,5\n")
    code, *_ = command("embed", tmp_path / "points.csv", "-o", tmp_path / "out.parquet", "--model", run.folder)
    assert code == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["lon"].to_pylist() == [190, -190, 360, -360]  # the user's own column stays
    assert [box["xmin"] for box in table["bbox"].to_pylist()] == [-170, 170, 0, 0]
    expected = run.embed(lon=[-170, 170, 0, 0], lat=[5, 5, 5, 5])
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), expected, atol=1e-6)


@pytest.mark.parametrize("lon", [361, -360.5, 4_500_000])
def test_longitude_beyond_a_turn(embed, lon):
    said = embed(f"lon,lat\n{lon},5\n")
    assert "lon must lie in [-360, 360] degrees" in said
    assert "points.csv:0" in said


def test_without_coordinates(embed):
    assert "points.csv has no coordinates. Its columns: city, people." in embed("city,people\nKiel,250000\n")


def test_words_as_coordinates(embed):
    assert "points.csv:1 has '54 N'" in embed("lon,lat\n1,2\n10,54 N\n")


def test_ragged_rows(embed):
    assert "not a clean CSV file" in embed("lon,lat\n1,2\n3\n")


def test_empty_files(embed):
    assert "is empty: expected a header line" in embed("")


def test_no_rows_in_jsonl(embed):
    assert "holds no rows" in embed("", name="points.jsonl")


def test_geojson_that_ends_early(embed):
    feature = '{"type":"Feature","properties":{},"geometry":{"type":"Point","coordinates":[1,2]}}'
    assert "truncated" in embed('{"type":"FeatureCollection","features":[' + feature + ",", name="points.geojson")


def test_other_encodings(embed):
    assert "UTF" in embed("name,lon,lat\nMünchen,11,48\n", encoding="latin-1")


def test_no_table_at_all(embed):
    assert "cannot be read as Parquet" in embed("nothing of the kind", name="points.parquet")


def test_no_such_file(run, refused, tmp_path):
    said = refused("embed", tmp_path / "none.csv", "-o", tmp_path / "out.parquet", "--model", run.folder)
    assert "none.csv does not exist" in said


def test_only_a_header(run, command, tmp_path):
    (tmp_path / "points.csv").write_text("name,lon,lat\n")
    out = tmp_path / "out.parquet"
    code, said, err = command("embed", "-q", tmp_path / "points.csv", "-o", out, "--model", run.folder)
    assert (code, said, err) == (0, f"{out}: 0 rows\n", "")
    assert pq.read_table(out).num_rows == 0


# Wikipedia dumps

PAGES = [(3, "Kiel", "'''Kiel''' is a port."), (4, "Übersee", "A place in Bavaria."), (5, "Idea", "No place.")]
COORDINATES = "{{Coord|54|20|N|10|8|E|display=title}}"
PLACED = [(number, title, f"{COORDINATES} {text}") for number, title, text in PAGES]


def texts(folder):
    table = open_dataset(folder)["text"]
    return dict(zip(table.ids.tolist(), table.all_contents(), strict=True)), table


def test_truncated_bz2(refused, tmp_path):
    dump = tmp_path / "dump.xml.bz2"
    write_wiki_dump(tmp_path / "dump.xml", [(i, f"Page {i}", f"{COORDINATES} Text {i * 7919}.") for i in range(400)])
    whole = (tmp_path / "dump.xml").read_bytes()
    streams = [bz2.compress(whole[i : i + 20_000]) for i in range(0, len(whole), 20_000)]
    dump.write_bytes(b"".join(streams)[:-30])
    said = refused("prepare", f"text={dump}", "--to", tmp_path / "data")
    assert "dump.xml.bz2 is truncated" in said
    assert "pages" in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_dump(encoding, command, tmp_path):
    write_wiki_dump(tmp_path / "plain.xml", PLACED)
    (tmp_path / "wide.xml").write_bytes((tmp_path / "plain.xml").read_text(encoding="utf-8").encode(encoding))
    code, _, err = command("prepare", f"text={tmp_path}/wide.xml", "--to", tmp_path / "data")
    assert code == 0, err
    contents, table = texts(tmp_path / "data")
    assert contents == {"3": "Kiel. Kiel is a port.", "4": "Übersee. A place in Bavaria.", "5": "Idea. No place."}
    np.testing.assert_allclose(table.lonlat, [[10 + 8 / 60, 54 + 20 / 60]] * 3)


OLD = ["id", "page_id", "globe", "primary", "lat", "lon", "dim", "type", "name", "country", "region"]
NEW = [*OLD, "lat_int", "lon_int"]
VALUES = {"globe": "'earth'", "type": "'city'", "name": "'O''Kiel, (D)'", "country": "'DE'", "region": "NULL"}


def geo_tags(columns, *, per_line):
    def tag(number, page, lat, lon, primary=1, globe="'earth'"):
        values = VALUES | {"id": number, "page_id": page, "primary": primary, "lat": lat, "lon": lon, "globe": globe}
        return "(" + ",".join(str(values.get(column, 7)) for column in columns) + ")"

    tags = [tag(1, 3, 54.3, 10.1), tag(2, 4, 1, 2, primary=0), tag(3, 4, 47.8, 12.5), tag(4, 5, 3, 4, globe="'moon'")]
    lines = "".join(f"  `gt_{c}` varbinary(32) DEFAULT NULL,\n" for c in columns)
    create = f"CREATE TABLE `geo_tags` (\n{lines}  PRIMARY KEY (`gt_id`)\n) ENGINE=InnoDB;\n"
    return (
        create
        + "INSERT INTO `geo_tags` VALUES"
        + ("\n" if per_line else " ")
        + (",\n" if per_line else ",").join(tags)
        + ";\n"
    )


@pytest.mark.parametrize("columns", [OLD, NEW], ids=["11 columns", "13 columns"])
@pytest.mark.parametrize("per_line", [False, True], ids=["one line", "one tuple a line"])
def test_geo_tags_of_every_age(columns, per_line, command, tmp_path):
    assert len(columns) in (11, 13)
    write_wiki_dump(tmp_path / "dump.xml.bz2", PAGES)
    (tmp_path / "tags.sql.gz").write_bytes(gzip.compress(geo_tags(columns, per_line=per_line).encode()))
    dump, tags = tmp_path / "dump.xml.bz2", tmp_path / "tags.sql.gz"
    code, out, err = command("prepare", f"text={dump}", "--to", tmp_path / "data", "--set", f"text.geo_tags={tags}")
    assert code == 0, err
    assert "1 not on Earth" in out
    contents, table = texts(tmp_path / "data")
    assert list(contents) == ["3", "4"]
    np.testing.assert_allclose(table.lonlat, [[10.1, 54.3], [12.5, 47.8]])


def test_geo_tags_that_end_early(refused, tmp_path):
    write_wiki_dump(tmp_path / "dump.xml", PAGES)
    (tmp_path / "tags.sql").write_text(geo_tags(NEW, per_line=True)[:-40])
    said = refused(
        "prepare", f"text={tmp_path}/dump.xml", "--to", tmp_path / "d", "--set", f"text.geo_tags={tmp_path}/tags.sql"
    )
    assert "tags.sql" in said
    assert "truncated" in said


# Rasters and patches


def write_raster(path, bands=3, **georeference):
    pixels = np.arange(bands * 18 * 36, dtype=np.uint16).reshape(bands, 18, 36)
    shape = {"count": bands, "height": 18, "width": 36, "dtype": "uint16"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **georeference) as dataset:
            dataset.write(pixels)
    return path


def test_raster_without_georeference(refused, command, tmp_path):
    path = write_raster(tmp_path / "world.tif")
    prepare = ("prepare", f"sky={path}", "--to", tmp_path / "data", "--set", "sky.places=uniform:5")
    said = refused(*prepare)
    assert "world.tif" in said
    assert "bounds" in said
    code, out, err = command(*prepare, "sky.bounds=world", "sky.size_km=3000")
    assert code == 0, err
    assert "5 rows of image" in out


def test_patch_with_4_bands(refused, tmp_path):
    write_s2_folder(tmp_path / "patches", n=2, seed=0, size=8, bands=4)
    said = refused("prepare", f"image={tmp_path}/patches", "--to", tmp_path / "data")
    assert "must have 12 bands" in said
    assert "it has 4" in said
    assert "patch_0.tif" in said


def test_question_with_other_bands_than_the_model(run, refused, tmp_path):
    path = write_raster(tmp_path / "a.tif", bands=5, transform=rasterio.Affine(1, 0, 0, 0, -1, 0))
    said = refused("nearest", run.folder, "--image", path)
    assert "features of shape" in said


def test_folder_without_patches(refused, tmp_path):
    (tmp_path / "patches" / "images").mkdir(parents=True)
    assert "holds no patch" in refused("prepare", f"image={tmp_path}/patches", "--to", tmp_path / "data")


# Names and settings


def test_unknown_recipe(refused, data, tmp_path):
    said = refused("train", "cylic", data.folder, "--to", tmp_path / "run")
    assert "Unknown recipe 'cylic'. Did you mean 'cyclic'" in said
    assert "Valid: all-to-all, csp, cyclic, distil, geoclip, geojepa, geojepa-paper, imagebind, melt, satclip." in said


def test_unknown_key(refused, data, tmp_path):
    said = refused("train", "melt", data.folder, "--to", tmp_path / "run", "--set", "learning-rate=1")
    assert "Unknown setting 'learning-rate'. Did you mean 'learning_rate'" in said
    assert not (tmp_path / "run").exists()


# A modality with 0 rows


def test_modality_with_no_rows(refused, tmp_path):
    write_wiki_dump(tmp_path / "dump.xml", PAGES)
    said = refused("prepare", f"text={tmp_path}/dump.xml", "--to", tmp_path / "data")
    assert "Modality 'text' has 0 rows (3 " in said
    said = refused("train", "melt", tmp_path / "data", "--to", tmp_path / "run", "--set", "trunk.text=ngram")
    assert "Modality 'text' in " in said
    assert "has 0 rows" in said


# What the library wrote itself and something else has damaged


@pytest.fixture
def prepared(command, tmp_path):
    """A folder of prepared texts of one's own, to damage."""
    lines = [f"{i},{i / 2},a text about {i}" for i in range(40)]
    (tmp_path / "raw.csv").write_text("\n".join(["lon,lat,text", *lines]))
    assert command("prepare", f"text={tmp_path}/raw.csv", "--to", tmp_path / "data")[0] == 0
    return tmp_path / "data"


def flip(path):
    """Change one bit in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def train(prepared, to):
    return ("train", "imagebind", prepared, "--to", to, "--set", *SETTINGS)


@pytest.mark.parametrize("name", ["part-00000.parquet", "manifest.json"])
def test_damaged_data_is_refused(name, prepared, refused, tmp_path):
    flip(prepared / "text" / name)
    said = refused(*train(prepared, tmp_path / "run"))
    assert f"{name} is " in said
    assert "damaged" in said
    assert not (tmp_path / "run" / "run.json").exists()


def test_damaged_features_are_computed_again(prepared, command, tmp_path):
    assert command(*train(prepared, tmp_path / "a"))[0] == 0
    (cache,) = prepared.glob("text/features/*/part-00000.npy")
    whole = cache.read_bytes()
    flip(cache)
    code, _, err = command(*train(prepared, tmp_path / "b"))
    assert code == 0
    assert f"{cache} is damaged and is computed again." in err
    assert cache.read_bytes() == whole
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]


def test_damaged_index_of_features_is_refused(prepared, command, refused, tmp_path):
    assert command(*train(prepared, tmp_path / "a"))[0] == 0
    (index,) = prepared.glob("text/features/*/features.json")
    flip(index)
    assert "features.json is damaged" in refused(*train(prepared, tmp_path / "b"))


def test_damaged_checkpoint_is_refused_and_a_whole_one_goes_on(prepared, command, refused, tmp_path, monkeypatch):
    def power_cut(*arguments):
        raise GraticuleError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_finish", power_cut)
        assert "power cut" in refused(*train(prepared, tmp_path / "run"))
    resume = tmp_path / "run" / "resume.safetensors"
    whole = resume.read_bytes()
    flip(resume)
    said = refused(*train(prepared, tmp_path / "run"))
    assert "resume.safetensors is " in said
    assert "damaged" in said
    assert "unfinished one: run the same `train` again" in refused("map", tmp_path / "run")
    resume.write_bytes(whole)
    assert command(*train(prepared, tmp_path / "run"))[0] == 0
    assert command(*train(prepared, tmp_path / "straight"))[0] == 0
    finished = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "straight")]
    assert finished[0] == finished[1]


@pytest.mark.parametrize("name", ["model.safetensors", "run.json"])
def test_damaged_run_is_refused(name, prepared, command, refused, tmp_path):
    assert command(*train(prepared, tmp_path / "run"))[0] == 0
    flip(tmp_path / "run" / name)
    for verb in (train(prepared, tmp_path / "run"), ("map", tmp_path / "run", "-o", tmp_path / "map.html")):
        said = refused(*verb)
        assert f"{name} is " in said
        assert "damaged" in said
    assert not (tmp_path / "map.html").exists()


def test_a_task_that_is_cut_short(run, refused, tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "soil.parquet").write_bytes(b"PAR1 and no more")
    assert "soil.parquet: not a readable parquet table" in refused("evaluate", run.folder, "--tasks", folder)
    (folder / "soil.json").write_text(json.dumps({"type": "regression"}))
    assert "soil.parquet" in refused("evaluate", run.folder, "--tasks", folder)


# Tasks


def write_task(folder, name, label, kind="regression", points=None, **columns):
    """NAME.parquet and NAME.json with these labels."""
    folder.mkdir(exist_ok=True)
    points = uniform_places(len(label), seed=6) if points is None else points
    columns = {"lon": points[:, 0], "lat": points[:, 1]} | ({} if label is None else {"label": label}) | columns
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    (folder / f"{name}.json").write_text(json.dumps({"type": kind}))


def write_bad_tasks(folder):
    """Tasks that cannot be read; name -> what is said of them."""
    places, number = uniform_places(80, seed=6), np.arange(80.0)
    write_task(folder, "gaps", [None if i in (7, 9) else float(i) for i in range(80)])
    write_task(folder, "unlabelled", np.arange(80.0), points=places)
    pq.write_table(pa.table({"lon": number, "lat": number}), folder / "unlabelled.parquet")
    write_task(folder, "constant", np.full(80, 3.5))
    write_task(folder, "one_class", ["wood"] * 80, "classification")
    write_task(folder, "words", ["1"] * 5 + ["many"] + ["2"] * 74)
    write_task(folder, "infinite", np.where(number == 11, np.inf, number))
    write_task(folder, "off_earth", number, points=np.where(np.arange(80)[:, None] == 3, [[5.0, 95.0]], places))
    write_task(folder, "unknown_kind", number, "ranking")
    write_task(folder, "short", number)
    (folder / "short.json").write_text(json.dumps({"type": "regression", "n": 90}))
    write_task(folder, "odd_json", number)
    (folder / "odd_json.json").write_text('{"type": ')
    write_task(folder, "odd_folds", number, fold_block10=np.where(number == 4, np.nan, 1.0))
    write_task(folder, "cut", number)
    (folder / "cut.parquet").write_bytes((folder / "cut.parquet").read_bytes()[:700])
    write_task(folder, "empty", number[:0], points=places[:0])
    return {
        "gaps": "gaps.parquet:row 7: column label is empty; 2 of 80 rows are",
        "unlabelled": "unlabelled.parquet: expected columns lon, lat, label; missing label",
        "constant": "constant.parquet: column label is 3.5 in all 80 rows from row 0 on",
        "one_class": "one_class.parquet: column label is class 'wood' in all 80 rows from row 0 on",
        "words": "words.parquet:row 5: column label of a regression must hold numbers, got 'many'",
        "infinite": "infinite.parquet:row 11: column label must be finite, got inf",
        "off_earth": "off_earth.parquet:row 3 has lat=95",
        "unknown_kind": "unknown_kind.parquet: a task is a regression or a classification, got type 'ranking'",
        "short": "short.parquet: 80 rows, but short.json says n=90",
        "odd_json": "odd_json.json: not valid JSON",
        "odd_folds": "odd_folds.parquet: column fold_block10 must hold whole fold numbers",
        "cut": "cut.parquet: not a readable parquet table",
        "empty": "empty.parquet: the table has no rows",
    }


def test_tasks_that_cannot_be_examined_are_listed_and_the_others_go_on(run, command, tmp_path, monkeypatch):
    monkeypatch.setattr(examination, "PLACES", 300)
    folder, out = tmp_path / "tasks", tmp_path / "report"
    expected = {(name, "table"): said for name, said in write_bad_tasks(folder).items()}
    places = uniform_places(100, seed=6)
    write_task(folder, "good", places[:, 1])
    write_task(folder, "few", np.arange(4.0))
    write_task(folder, "one_sided", places[:, 1], fold_block10=np.zeros(100, np.int64))
    write_task(folder, "doubled", np.tile(np.arange(50.0) % 7, 2), points=np.tile(places[:50], (2, 1)))
    expected |= {
        ("few", "random"): "fold 0 has 4 training and 0 test rows",
        ("few", "blocks"): "5 folds need as many blocks; the 4 places lie in 4",
        ("one_sided", "blocks"): "fold 0 has 0 training and 100 test rows",
    }
    code, said, err = command("evaluate", run.folder, "--tasks", folder, "-o", out, "--workers", 1)
    assert code == 0, err
    assert "Traceback" not in err
    scores, page = json.loads((out / "scores.json").read_text()), (out / "report.html").read_text(encoding="utf-8")
    _, _, listed = said.partition("\nNot examined:\n")
    assert len(listed.splitlines()) == len(scores["failures"]) == len(expected)
    assert f"{len(expected)} parts could not be examined" in page
    for (name, where), words in expected.items():
        (line,) = [line for line in listed.splitlines() if line.startswith(f"{name} ({where}): ")]
        (reason,) = [f["reason"] for f in scores["failures"] if (f["task"], f["where"]) == (name, where)]
        assert words in reason
        assert line == f"{name} ({where}): {reason}"
        assert page.count(html.escape(reason)) == 1
    table = {(row["task"], row["split"]) for row in pq.read_table(out / "scores.parquet").to_pylist()}
    assert table == {(n, s) for n in ("good", "doubled", "one_sided") for s in ("random", "blocks")} - {
        ("one_sided", "blocks")
    }
    leaks = {(leak["task"], leak["split"]): leak for leak in scores["leaks"]}
    assert set(leaks) == table
    assert leaks["doubled", "random"]["same_place"] > 10
    assert leaks["doubled", "random"]["score"] > 0.3
    assert leaks["doubled", "blocks"]["same_place"] == leaks["good", "random"]["same_place"] == 0
    assert ">doubled, random<" in page


def test_tasks_none_of_which_can_be_examined(run, refused, tmp_path):
    write_bad_tasks(tmp_path / "tasks")
    out = tmp_path / "report"
    arguments = ("evaluate", run.folder, "--tasks", tmp_path / "tasks", "-o", out, "--workers", 1)
    assert ".parquet" in refused(*arguments)
    write_task(tmp_path / "tasks", "few", np.arange(4.0))
    assert "Nothing could be examined: " in refused(*arguments)
    for name in ("report.html", "scores.json", "scores.parquet"):
        assert not (out / name).exists()


@pytest.mark.parametrize("which", [0, 1, -1])
def test_answers_that_something_has_damaged_are_named(run, command, tmp_path, monkeypatch, which):
    monkeypatch.setattr(examination, "PLACES", 300)
    write_task(tmp_path / "tasks", "good", uniform_places(100, seed=6)[:, 1])
    out = tmp_path / "report"
    arguments = ("evaluate", run.folder, "--tasks", tmp_path / "tasks", "--split", "random", "-o", out, "--workers", 1)
    assert command(*arguments)[0] == 0
    whole = (out / "scores.parquet").read_bytes()
    path = sorted((out / "answers").rglob("*.npz"))[which]
    flip(path)
    code, said, _ = command(*arguments)
    assert code == 0
    assert f"{path} is damaged" in said
    assert said.count("Delete it and run again") == 1
    path.unlink()
    assert command(*arguments)[0] == 0
    assert (out / "scores.parquet").read_bytes() == whole
