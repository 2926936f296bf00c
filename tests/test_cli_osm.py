import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from graticule.cli import osm as cli_osm
from graticule.embed_map import write
from graticule.files import read_json
from tests.map_model import save_model

osmium = pytest.importorskip("osmium")
shapely = pytest.importorskip("shapely")
gpd = pytest.importorskip("geopandas")

SOUTH_WEST = (24.94, 60.17)  # of the small city, degrees
STEP = 0.0005


def write_city(path, *, side=12, tagged=True):
    """A grid of nodes, houses between them, streets along it, a lake as a relation; as a small .osm.pbf."""
    from osmium.osm import mutable

    def node(x, y):
        return 1 + y * (side + 1) + x

    tags = (lambda **given: given) if tagged else (lambda **given: {})
    with osmium.SimpleWriter(str(path)) as out:
        for y in range(side + 1):
            for x in range(side + 1):
                place = (SOUTH_WEST[0] + x * STEP, SOUTH_WEST[1] + y * STEP)
                cafe = tags(amenity="cafe", name="Ekberg") if (x + y) % 9 == 4 else {}
                out.add_node(mutable.Node(id=node(x, y), location=place, tags=cafe))
        way = 0
        for y in range(side):
            for x in range(side):
                if (x + y) % 2:
                    way += 1
                    ring = [node(x, y), node(x + 1, y), node(x + 1, y + 1), node(x, y + 1), node(x, y)]
                    out.add_way(mutable.Way(id=way, nodes=ring, tags=tags(building=("yes", "house")[x % 2])))
            way += 1
            street = [node(x, y) for x in range(side + 1)]
            out.add_way(mutable.Way(id=way, nodes=street, tags=tags(highway="residential")))
        shore = [node(0, side), node(side, side), node(side, side - 1), node(0, side)]
        out.add_way(mutable.Way(id=900, nodes=shore))
        members = [osmium.osm.RelationMember(900, "w", "outer")]
        out.add_relation(mutable.Relation(id=7, members=members, tags=tags(type="multipolygon", natural="water")))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "run")[0]


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return write_city(tmp_path_factory.mktemp("city") / "small.osm.pbf")


@pytest.fixture(scope="module")
def done(model, city, tmp_path_factory):
    """A finished folder; no test changes it."""
    from graticule.cli import main

    out = tmp_path_factory.mktemp("done") / "out"
    assert main(["osm", "-q", str(city), "--model", str(model), "-o", str(out)]) == 0
    return out


def test_osm_says_what_became_of_every_id(command, model, city, tmp_path):
    code, out, err = command("osm", city, "--model", model, "--cells", "slippy:16", "-o", tmp_path / "out")
    assert code == 0, err
    ledger = read_json(tmp_path / "out" / "ledger.json")
    reader = ledger["reader"]["entities"]
    assert reader["found"] == {"node": 169, "way": 85, "relation": 1}
    for kind, found in reader["found"].items():
        assert found == reader["kept"].get(kind, 0) + sum(reader["dropped"].get(kind, {}).values())
    assert ledger["written"] == reader["kept"]
    assert ledger["not_written"] == {}
    first, *lines = out.splitlines()
    assert first == f"{tmp_path}/out: {ledger['regions']:,} regions, {ledger['entities']:,} entities"
    said = "\n".join(lines)
    for line in ("ids found          169 nodes", "kept ", "dropped ", "empty regions", "regions left out   none"):
        assert f"  {line}" in said
    assert re.search(r"regions.parquet, entities.parquet, ledger.json in \d+\.\d s", said)
    assert f"{tmp_path}/out/map.html: open it in a browser" in said
    assert len(out.splitlines()) < 12
    page = (tmp_path / "out" / "map.html").read_text()
    assert "small" in page
    assert "ODbL" in page


def test_every_kept_id_is_in_the_file(done, city):
    from graticule.data.osm.entities import Ledger
    from graticule.data.osm.reader import read_entities

    kept = {name for chunk in read_entities(city, ledger=Ledger()) for name in chunk.ids}
    frame = gpd.read_parquet(done / "entities.parquet")
    assert set(frame["id"]) == kept
    assert frame["id"].is_unique
    regions = gpd.read_parquet(done / "regions.parquet")
    for name in frame["regions"].explode().unique():
        assert name in set(regions["region_id"])
    shares = frame.explode(["regions", "shares"])
    areas = shares[shares["kind"] != "node"].groupby("id")["shares"].sum()
    np.testing.assert_allclose(areas.astype(float), 1, atol=1e-6)
    assert (frame["regions"].map(len) > 1).any()


def test_the_same_command_again_gives_the_same_files(command, done, model, city, tmp_path):
    code, _, err = command("osm", "-q", city, "--model", model, "-o", tmp_path)
    assert (code, err) == (0, "")
    for name in ("regions.parquet", "entities.parquet", "ledger.json"):
        assert (tmp_path / name).read_bytes() == (done / name).read_bytes()


def test_h3_and_own_polygons(command, model, city, tmp_path):
    pytest.importorskip("h3")
    code, out, err = command("osm", city, "--model", model, "--cells", "h3:9", "-o", tmp_path / "h3")
    assert code == 0, err
    names = pq.read_table(tmp_path / "h3" / "regions.parquet")["region_id"].to_pylist()
    assert all(name.startswith("89") for name in names)
    frame = gpd.GeoDataFrame({"name": ["west"]}, geometry=[shapely.box(24.93, 60.16, 24.943, 60.18)], crs=4326)
    frame.to_file(tmp_path / "own.geojson")
    code, out, err = command("osm", city, "--model", model, "--cells", tmp_path / "own.geojson", "-o", tmp_path / "own")
    assert code == 0, err
    assert "1 regions" in out
    ledger = read_json(tmp_path / "own" / "ledger.json")
    assert sum(ledger["not_written"].values()) > 0
    assert "outside of all regions" in out
    assert "kept, not written" in out


def test_two_extracts(command, model, city, tmp_path):
    twin = tmp_path / "twin.osm.pbf"
    twin.write_bytes(city.read_bytes())
    code, _, err = command("osm", city, twin, "--model", model, "-o", tmp_path / "out")
    assert code == 0, err
    regions = pq.read_table(tmp_path / "out" / "regions.parquet")["region_id"].to_pylist()
    assert {name.partition("/")[0] for name in regions} == {"small", "twin"}
    frame = gpd.read_parquet(tmp_path / "out" / "entities.parquet")
    assert frame["id"].is_unique


# nearest


def test_nearest_region_and_entity(command, done):
    regions = pq.read_table(done / "regions.parquet")["region_id"].to_pylist()
    code, out, err = command("nearest", done, "--like", regions[0], "-k", 2)
    assert code == 0, err
    assert len(out.splitlines()) == min(2, len(regions) - 1)
    assert re.match(r" *-?\d\.\d{3} +60\.\d{4} +24\.\d{4} +\d+\.\d\d km  16/", out)
    code, out, err = command("nearest", done, "--like", "way/1", "-k", 3)
    assert code == 0, err
    assert len(out.splitlines()) == 3
    assert all(re.search(r"km  (node|way|relation)/\d+  \w+=\w+", line) for line in out.splitlines())
    code, other, err = command("nearest", done, "--like", "way/1", "-k", 1, "--among", done)
    assert code == 0, err
    assert other.split()[5] == "way/1"


def test_nearest_wrong_questions(refused, done, tmp_path):
    assert "ask with --like" in refused("nearest", done)
    assert "entities.parquet has no 'way/77777'" in refused("nearest", done, "--like", "way/77777")
    assert "--like needs the folder" in refused("nearest", "--like", "way/1")
    assert "--among needs --like" in refused("nearest", "--among", done, "--lon", 1, "--lat", 2)
    assert "Ask with exactly one of" in refused("nearest", done, "--like", "way/1", "--text", "a lake")
    assert "holds no finished map" in refused("nearest", tmp_path, "--like", "way/1")
    assert "at least one answer" in refused("nearest", done, "--like", "way/1", "-k", 0)


# Bad input


def test_missing_and_damaged_files(refused, model, city, tmp_path):
    out = ("--model", model, "-o", tmp_path / "out")
    assert "none.osm.pbf" in refused("osm", tmp_path / "none.osm.pbf", *out)
    short = tmp_path / "short.osm.pbf"
    short.write_bytes(city.read_bytes()[:-100])
    assert "short.osm.pbf" in refused("osm", short, *out)
    words = tmp_path / "words.osm.pbf"
    words.write_text("not a map")
    assert "words.osm.pbf" in refused("osm", words, *out)
    assert not (tmp_path / "out" / "ledger.json").exists()


def test_no_entity_kept(refused, model, tmp_path):
    path = write_city(tmp_path / "bare.osm.pbf", tagged=False)
    said = refused("osm", path, "--model", model, "-o", tmp_path / "out")
    assert "bare.osm.pbf: no entity is in any region" in said
    assert "169 nodes" in said


@pytest.mark.parametrize(
    ("cells", "said"),
    [("slippy:99", "zoom of 0 to 20, got 99"), ("s2:4", "s2"), ("nowhere.geojson", "nowhere.geojson")],
)
def test_unknown_cells(refused, model, city, tmp_path, cells, said):
    assert said in refused("osm", city, "--model", model, "--cells", cells, "-o", tmp_path / "out")


def test_unwritable(refused, model, city, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("osm", city, "--model", model, "-o", tmp_path / "file")


def test_without_a_model(refused, city, tmp_path, monkeypatch):
    monkeypatch.setattr("graticule.encoders.region_vectors.INSIDE", tmp_path / "inside")
    assert "holds no trained run" in refused("osm", city, "-o", tmp_path / "out")
    assert "holds no trained run" in refused("osm", city, "--model", tmp_path, "-o", tmp_path / "out")


# Images


def write_raster(path, west, south, side_deg=0.02, pixels=256):
    rasterio = pytest.importorskip("rasterio")
    step = side_deg / pixels
    transform = rasterio.Affine(step, 0, west, 0, -step, south + side_deg)
    values = np.random.default_rng(0).integers(1, 255, (3, pixels, pixels)).astype(np.uint8)
    options = {"driver": "GTiff", "width": pixels, "height": pixels, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:4326", transform=transform, **options) as file:
        file.write(values)


def test_images(command, refused, model, city, tmp_path):
    with_images, _ = save_model(tmp_path / "run", patches=4)
    (tmp_path / "here").mkdir()
    write_raster(tmp_path / "here" / "a.tif", SOUTH_WEST[0] - 0.005, SOUTH_WEST[1] - 0.005)
    asked = (city, "--images", tmp_path / "here", "-o", tmp_path / "out")
    code, _, err = command("osm", *asked, "--model", with_images)
    assert code == 0, err
    assert "was trained without images" in refused("osm", *asked, "--model", model)
    (tmp_path / "away").mkdir()
    write_raster(tmp_path / "away" / "a.tif", 0, 0)
    said = refused("osm", city, "--images", tmp_path / "away", "--model", with_images, "-o", tmp_path / "out")
    assert "overlap" in said
    said = refused("osm", city, "--images", tmp_path / "none", "--model", with_images, "-o", tmp_path / "out")
    assert "none does not exist" in said
    assert "--image-km needs --images" in refused(
        "osm", city, "--image-km", 1, "--model", model, "-o", tmp_path / "out"
    )


# The page


def test_labels():
    assert cli_osm.label({"name": "Ekberg", "amenity": "cafe"}) == "amenity=cafe"
    assert cli_osm.label({"bench": "yes", "colour": "red"}) == "bench=yes"
    assert cli_osm.label({}) == ""


def test_a_page_of_many_entities_shows_regions_only(done, monkeypatch, tmp_path):
    for name in (write.REGIONS, write.ENTITIES, write.LEDGER):
        (tmp_path / name).write_bytes((done / name).read_bytes())
    whole = cli_osm.write_page(tmp_path, title="a").stat().st_size
    monkeypatch.setattr(cli_osm, "MOST_ON_PAGE", 3)
    assert cli_osm.write_page(tmp_path, title="a").stat().st_size < whole
