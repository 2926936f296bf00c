import json
import os
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from pystac_client.warnings import DoesNotConformTo

from graticule.data.source import Row, Skip
from graticule.data.stac import connect, find_asset, reflectance_offset, scene, search, stac_search
from graticule.errors import DataError, SettingError
from tests.data.stac_server import cassette, serve

EPSG, LEFT, TOP, SIZE = 32633, 499980, 5200020, 120  # a tile of 1.2 km with 10 m pixels
CODES = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"}


@pytest.fixture
def real():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    return Path(os.environ["GRATICULE_DATA"]) / "stac"


def at(column, row):
    """Lon/lat of a pixel corner of the tile."""
    to = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    return to.transform(LEFT + 10 * column, TOP - 10 * row)


def write_tile(path, pixels, step=10, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    shape = {"count": 1, "height": height, "width": width, "dtype": pixels.dtype, "nodata": 0}
    crs, transform = f"EPSG:{EPSG}", Affine(step, 0, LEFT, 0, -step, TOP)
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **options) as dataset:
        dataset.write(pixels, 1)
    return path


def pixels_of(name, seed=0):
    rng = np.random.default_rng([seed, sorted(CODES).index(name)])
    return rng.integers(1200, 5000, (SIZE, SIZE)).astype("uint16")


def make_item(folder, name, *, cloud=1.0, clear=1.0, seed=0, keys="names", href="{server}/files/", **properties):
    """Tiles on disk and the item that points to them; `clear` is the share of rows that SCL calls vegetation."""
    classes = np.full((SIZE // 2, SIZE // 2), 9, "uint8")
    classes[: round(clear * SIZE / 2)] = 4
    write_tile(folder / name / "SCL.tif", classes, step=20)
    assets = {"scl" if keys == "names" else "SCL": {"href": f"{href}{name}/SCL.tif"}}
    for common, code in CODES.items():
        write_tile(folder / name / f"{code}.tif", pixels_of(common, seed), tiled=True, blockxsize=32, blockysize=32)
        assets[common if keys == "names" else code] = {"href": f"{href}{name}/{code}.tif", "proj:shape": [10980, 10980]}
    (west, north), (east, south) = at(0, 0), at(SIZE, SIZE)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": "2023-08-15T10:00:00Z", "eo:cloud_cover": cloud, "proj:epsg": EPSG} | properties,
        "links": [],
        "assets": assets,
    }


def ask(url, column=60, row=60, **options):
    lon, lat = at(column, row)
    defaults = {"lon": lon, "lat": lat, "collection": "sentinel-2-l2a", "datetime": "2023", "size_km": 0.32}
    return stac_search(url, **defaults | {"pixels": 32} | options)


OLD, NEW = {"s2:processing_baseline": "02.12"}, {"s2:processing_baseline": "05.09"}
APPLIED = NEW | {"earthsearch:boa_offset_applied": True}


def test_search_to_patch_over_http(tmp_path):
    item = make_item(tmp_path, "clear", **APPLIED)
    with serve([item], folder=tmp_path) as (url, log):
        source = ask(url)
        (row,) = source.records(0)
    expected = np.stack([pixels_of(name)[44:76, 44:76] for name in ("blue", "green", "red", "nir")])
    np.testing.assert_array_equal(row.content, expected)
    assert row.content.dtype == np.uint16
    assert source.bands == ("B2", "B3", "B4", "B8")
    assert row.id == "0"
    assert (row.lon, row.lat) == pytest.approx(at(60, 60))
    question = next(question for method, _, question in log if method == "POST")
    assert question["query"] == {"eo:cloud_cover": {"lte": 20}}
    assert question["intersects"]["coordinates"] == pytest.approx(at(60, 60))


def test_least_cloudy_item_that_is_clear_at_the_place(tmp_path):
    items = [
        make_item(tmp_path, "b", cloud=9, seed=1, **OLD),
        make_item(tmp_path, "c", cloud=1, seed=2, clear=0.3, **OLD),  # clear in general, clouded at the place
        make_item(tmp_path, "a", cloud=15, seed=3, **OLD),
        make_item(tmp_path, "d", cloud=60, seed=4, **OLD),
    ]
    with serve(items, folder=tmp_path, page=1) as (url, log):
        (row,) = ask(url).records(0)
        (clear_part,) = ask(url, row=17).records(0)
        (none,) = ask(url, max_cloud=5).records(0)
        (empty,) = ask(url, max_cloud=0.5).records(0)
    np.testing.assert_array_equal(row.content[2], pixels_of("red", 1)[44:76, 44:76])
    np.testing.assert_array_equal(clear_part.content[2], pixels_of("red", 2)[1:33, 44:76])
    assert none == Skip("not clear enough", "0")
    assert empty == Skip("no item", "0")
    assert sum(method == "POST" for method, _, _ in log) >= 6  # one item a page


@pytest.mark.parametrize(("properties", "offset"), [(OLD, 0), (NEW, 1000), (APPLIED, 0)])
@pytest.mark.parametrize("keys", ["names", "codes"])
def test_offset_of_the_item_reaches_the_pixels(tmp_path, properties, offset, keys):
    item = make_item(tmp_path, "x", keys=keys, **properties)
    with serve([item], folder=tmp_path) as (url, _):
        (row,) = ask(url, bands=["nir"]).records(0)
    np.testing.assert_array_equal(row.content[0], pixels_of("nir")[44:76, 44:76] - offset)


def test_places_are_rows_in_order_and_start_skips(tmp_path):
    item = make_item(tmp_path, "x", **OLD)
    places = np.array([at(40, 40), (-100.0, 40.0), at(80, 70), at(2, 2)])
    options = {"lon": places[:, 0], "lat": places[:, 1], "ids": list("abcd")}
    with serve([item], folder=tmp_path) as (url, log):
        source = ask(url, **options)
        records = list(source.records(0))
        log.clear()
        tail = list(source.records(2))
        asked = [q["intersects"]["coordinates"] for method, _, q in log if method == "POST"]
    assert source.total == 4
    assert [type(r).__name__ for r in records] == ["Row", "Skip", "Row", "Skip"]
    assert records[1] == Skip("no item", "b")
    assert records[3] == Skip("outside the scene", "d")  # three quarters of the patch lie off the tile
    np.testing.assert_array_equal(tail[0].content, records[2].content)
    np.testing.assert_allclose(asked, places[2:])


def test_sign_sees_every_href_that_is_read(tmp_path):
    item = make_item(tmp_path, "x", href="{server}/private/", **OLD)
    seen = []

    def sign(href):
        seen.append(href.rsplit("/", 1)[1])
        return href.replace("/private/", "/files/")

    with serve([item], folder=tmp_path) as (url, _):
        (unsigned,) = ask(url).records(0)
        (row,) = ask(url, sign=sign).records(0)
    assert unsigned == Skip("unreadable asset", "0")
    assert isinstance(row, Row)
    assert set(seen) == {"B02.tif", "B03.tif", "B04.tif", "B08.tif", "SCL.tif"}


def test_missing_asset_or_file_tries_the_next_item(tmp_path):
    first, second = (make_item(tmp_path, name, cloud=i, seed=i, **OLD) for i, name in enumerate("ab"))
    (tmp_path / "a" / "B04.tif").unlink()
    with serve([first, second], folder=tmp_path) as (url, _):
        (row,) = ask(url).records(0)
        del second["assets"]["red"]
        (none,) = ask(url).records(0)
    np.testing.assert_array_equal(row.content[2], pixels_of("red", 1)[44:76, 44:76])
    assert none == Skip("item without one of the bands", "0")


def test_server_that_refuses_or_is_absent(tmp_path):
    with serve(broken=True) as (url, _), pytest.raises(DataError, match="refused the search"):
        list(ask(url).records(0))
    with pytest.raises(DataError, match="does not answer"):
        list(ask(url).records(0))
    with pytest.raises(SettingError, match="B02, B8A or red"):
        ask(url, bands=["B02", "thermal"])
    with pytest.raises(SettingError, match="min_clear"):
        ask(url, min_clear=80)


def test_scene_maps_remote_hrefs_to_neighbours(tmp_path):
    item = make_item(tmp_path, "x", href="https://example.invalid/somewhere/far/", **NEW)
    path = tmp_path / "x" / "item.json"
    path.write_text(json.dumps(item))
    places = np.array([at(60, 60), at(30, 90), (15.0, 40.0)])
    source = scene(path, lon=places[:, 0], lat=places[:, 1], bands=["red", "B08"], size_km=0.32, pixels=32)
    first, second, third = source.records(0)
    np.testing.assert_array_equal(first.content[0], pixels_of("red")[44:76, 44:76] - 1000)
    np.testing.assert_array_equal(second.content[1], pixels_of("nir")[74:106, 14:46] - 1000)
    assert third == Skip("outside the scene", "2")
    assert {p.name for p in source.files} == {"item.json", "B04.tif", "B08.tif", "SCL.tif"}
    (coarse,) = scene(path, lon=places[0, 0], lat=places[0, 1], bands=["red"], size_km=0.32, pixels=16).records(0)
    means = (pixels_of("red")[44:76, 44:76].reshape(16, 2, 16, 2).mean(axis=(1, 3))) - 1000
    assert np.abs(coarse.content[0] - means).max() <= 1


def test_scene_without_classes_and_with_georeference_in_sidecars(tmp_path):
    item = make_item(tmp_path, "x", href="", **OLD)
    del item["assets"]["scl"]
    half = pixels_of("red")
    half[:, :60] = 0
    (tmp_path / "x" / "B04.tif").unlink()
    write_tile(tmp_path / "x" / "B04.tif", half, profile="BASELINE")
    assert (tmp_path / "x" / "B04.tif.aux.xml").exists()
    path = tmp_path / "item.json"
    path.write_text(json.dumps(item))
    places = np.array([at(90, 60), at(60, 60)])
    source = scene(path, lon=places[:, 0], lat=places[:, 1], bands=["red"], size_km=0.32, pixels=32)
    full, empty = source.records(0)
    np.testing.assert_array_equal(full.content[0], half[44:76, 74:106])
    assert empty == Skip("outside the scene", "1")  # half of it is no data


def test_scene_says_what_is_wrong(tmp_path):
    item = make_item(tmp_path, "x", **NEW)
    path = tmp_path / "x" / "item.json"
    del item["assets"]["red"]
    path.write_text(json.dumps(item))
    with pytest.raises(DataError, match=r"item\.json has no asset for B4; it has scl, blue"):
        scene(path, lon=0, lat=0)
    path.write_text('{"type": "Collection"}')
    with pytest.raises(DataError, match="must be a STAC item"):
        scene(path, lon=0, lat=0)
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        scene(tmp_path / "nowhere.json", lon=0, lat=0)


def described(offset=None, *, stac_1_1=False, **properties):
    scale = {} if offset is None else {"scale": 0.0001, "offset": offset}
    band = {f"raster:{k}": v for k, v in scale.items()} if stac_1_1 else scale
    return {"properties": properties, "assets": {"red": {"href": "x", "bands" if stac_1_1 else "raster:bands": [band]}}}


@pytest.mark.parametrize(
    ("item", "offset"),
    [
        (described(-0.1, **{"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.09"}), 0),
        (described(-0.1, **{"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}), 1000),
        (described(-0.1, **{"s2:processing_baseline": "05.11"}), 1000),
        (described(0, **{"s2:processing_baseline": "02.12"}), 0),
        (described(-0.1, stac_1_1=True), 1000),
        (described(0, stac_1_1=True, **{"s2:processing_baseline": "05.11"}), 0),
        (described(**{"s2:processing_baseline": "04.00"}), 1000),
        (described(**{"s2:processing_baseline": "03.01"}), 0),
        (described(**{"sentinel:product_id": "S2A_MSIL2A_20200714T115221_N0214_R123_T28QCH_20200714T191310"}), 0),
        (described(**{"s2:product_uri": "S2B_MSIL2A_20240714T115221_N0510_R123_T28QCH_20240714T191310.SAFE"}), 1000),
        (described(datetime="2021-06-01T00:00:00Z"), 0),
        (described(datetime="2022-06-01T00:00:00Z"), 1000),
        ({}, 0),
    ],
)
def test_reflectance_offset(item, offset):
    assert reflectance_offset(item) == offset


def test_find_asset_by_key_and_by_band():
    item = {"assets": {"visual": {"eo:bands": [{"name": "red"}, {"name": "green"}], "href": "rgb"}}}
    assert find_asset(item, "B4") is None
    item["assets"] |= {"red-jp2": {"bands": [{"name": "red"}]}, "ten": {"bands": [{"name": "B04"}], "href": "ten"}}
    assert find_asset(item, "B4") == item["assets"]["ten"]
    item["assets"] |= {"nir08": {"href": "narrow"}, "nir": {"href": "broad"}, "B11": {"href": "swir"}}
    assert find_asset(item, "B8A") == {"href": "narrow"}
    assert find_asset(item, "B8") == {"href": "broad"}
    assert find_asset(item, "B11") == {"href": "swir"}
    assert find_asset(item, "B1") is None


def test_every_real_item(real):
    shifted = {"S2B_T33XWJ_20220413T150756_L2A", "S2A_OPER_MSI_L2A_TL_2APS_20240108T121951_A044635_T34VEL"}
    seen = 0
    for path in [*sorted((real / "items").glob("*.json")), *real.glob("scenes/*/*.json")]:
        document = json.loads(path.read_text())
        for item in document.get("features", [document]):
            if item["type"] == "Feature":
                seen += 1
                assert reflectance_offset(item) == (1000 if item["id"] in shifted else 0), item["id"]
                assert all(find_asset(item, band) for band in ("B2", "B4", "B8A", "B12", "SCL"))
    assert seen > 20


def test_real_scene_is_read_by_the_transform_of_its_files(real):
    (path,) = real.glob("scenes/*/*.json")
    source = scene(path, lon=[15.5, 15.8, 15.02], lat=[46.5, 46.6, 46.9], size_km=7.68, pixels=64)
    first, second, third = source.records(0)
    for row in (first, second):
        blue, _, red, nir = row.content.reshape(4, -1).mean(axis=1)
        assert 1.5 < nir / red < 20  # August vegetation; the offset is not subtracted a second time
        assert 100 < blue < 1500
    assert third == Skip("outside the scene", "2")  # the part of the tile without data
    with rasterio.open(path.parent / "B08.tif") as dataset:
        x, y = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(15.5, 46.5)
        column, row = round((x - LEFT) / 120), round((TOP - y) / 120)
        window = dataset.read(1)[row - 32 : row + 32, column - 32 : column + 32]
    np.testing.assert_array_equal(first.content[3], window)


def test_recorded_searches_replay(real):
    """Answers of Earth Search and Planetary Computer, as recorded, pages included."""
    pytest.importorskip("yaml")
    recorded = list(cassette(real / "recorded" / "earth_search_filter.yaml"))
    question = recorded[1][2]
    with serve(recorded=recorded) as (url, _):
        client = connect(url)
        with pytest.warns(DoesNotConformTo, match="FILTER"):
            found = client.search(filter=question["filter"], filter_lang="cql2-json", max_items=20)
        items = list(found.items_as_dicts())
    assert len(items) == 20
    s2 = {(item["collection"], reflectance_offset(item)) for item in items if "sentinel-2" in item["collection"]}
    assert s2 == {("sentinel-2-l2a", 0), ("sentinel-2-c1-l2a", 1000), ("sentinel-2-l1c", 1000)}


def test_planetary_computer_items_at_the_antimeridian(real):
    """Recorded items of the zones 58 to 60, without any declared offset."""
    pytest.importorskip("yaml")
    recorded = cassette(real / "recorded" / "planetary_computer_datetime.yaml")
    items = [item for _, _, _, answer in recorded for item in answer.get("features", ())]
    assert {reflectance_offset(item) for item in items} == {0}
    with serve(items) as (url, _):
        client = connect(url)
        question = {"collection": "sentinel-2-l2a", "datetime": "2019-01-01", "max_cloud": 100, "max_items": 50}
        found = search(client, np.array([173.7, 57.65]), question)
    assert len(found) >= 2
    covers = [item["properties"]["eo:cloud_cover"] for item in found]
    assert covers == sorted(covers)
    assert all(find_asset(item, band) for item in found for band in ("B2", "B8A", "SCL"))
