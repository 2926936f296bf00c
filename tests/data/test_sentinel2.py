import logging
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from sklearn.linear_model import RidgeCV

from graticule.data.sentinel2 import BANDS, ORDERS, band_name, has_offset, sentinel2, stated_offset, without_offset
from graticule.data.source import Row, Skip
from graticule.data.synthetic import SIGNAL_BANDS, hidden_functions, patch, write_s2_folder, write_wiki_dump
from graticule.errors import DataError, SettingError
from graticule.geo.coords import great_circle_km, uniform_places

SHIFTED = {252161, 445, 57755, 70541, 74721, 75123, 766272, 770287, 8845}  # of the 23 real patches


@pytest.fixture
def real():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    return Path(os.environ["GRATICULE_DATA"]) / "satellite" / "sentinel2_patches"


def write_patch(path, pixels, *, descriptions=(), tags=(), crs=None, transform=None):
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape) as dataset:
            dataset.write(pixels)
            dataset.update_tags(**dict(tags))
            for i, text in enumerate(descriptions, start=1):
                dataset.set_band_description(i, text)
    return path


def folder_of(tmp_path, patches, *, index=True, **options):
    (tmp_path / "images").mkdir()
    for i, pixels in enumerate(patches):
        write_patch(tmp_path / "images" / f"patch_{i}.tif", pixels, **options)
    if index:
        lines = [f"{10 + i},{20 + i},patch_{i}.tif" for i in range(len(patches))]
        (tmp_path / "index.csv").write_text("\n".join(["lat,lon,fn", *lines]) + "\n")
    return tmp_path


def numbered(count, size=8):
    """Band k (from 0) holds 100 * (k + 1) everywhere."""
    return np.broadcast_to(100 * np.arange(1, count + 1, dtype="uint16")[:, None, None], (count, size, size)).copy()


def test_folder_written_is_folder_read(tmp_path):
    places, _ = write_s2_folder(tmp_path, n=6, seed=1, size=16)
    source = sentinel2(tmp_path)
    rows = list(source.records(0))
    assert [row.id for row in rows] == [f"patch_{i}" for i in range(6)]
    np.testing.assert_allclose([(row.lon, row.lat) for row in rows], places, atol=1e-12)
    assert {(row.content.shape, row.content.dtype.name) for row in rows} == {((12, 16, 16), "uint16")}
    assert source.bands == BANDS
    assert source.total == 6
    assert len(source.files) == 7


def test_thirteen_bands_lose_the_cirrus_band(tmp_path):
    (row,) = sentinel2(folder_of(tmp_path, [numbered(13)])).rows()
    assert (row.content[:, 0, 0] // 100).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13]


@pytest.mark.parametrize("count", [12, 13])
def test_eurosat_keeps_b8a_last(tmp_path, count):
    layout = [band for band in ORDERS["eurosat"] if count == 13 or band != "B10"]
    (row,) = sentinel2(folder_of(tmp_path, [numbered(count)]), band_order="eurosat").rows()
    assert [layout[i - 1] for i in (row.content[:, 0, 0] // 100).tolist()] == list(BANDS)
    assert row.content[8, 0, 0] == 100 * count


def test_band_descriptions_win_over_the_order(tmp_path):
    names = ["SCL", "B12", "B11", "B09", "B8A", "nir", "B07", "B06", "B05", "red", "B03", "blue", "B01", "QA"]
    (row,) = sentinel2(folder_of(tmp_path, [numbered(14)], descriptions=names)).rows()
    assert (row.content[:, 0, 0] // 100).tolist() == [13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("B04", "B4"),
        ("b8a", "B8A"),
        ("B08A", "B8A"),
        ("Band 11", "B11"),
        ("nir08", "B8A"),
        ("red", "B4"),
        ("B8", "B8"),
        ("B13", None),
        ("SCL", None),
        ("", None),
        (None, None),
        ("stackstac-c2eb", None),
    ],
)
def test_band_name(text, name):
    assert band_name(text) == name


def test_another_band_count_is_refused_by_name(tmp_path):
    folder = folder_of(tmp_path, [numbered(12), numbered(4)])
    with pytest.raises(DataError, match=r"patch_1\.tif must have 12 bands .* it has 4"):
        list(sentinel2(folder).records(0))
    (folder / "images" / "patch_0.tif").unlink()
    with pytest.raises(DataError, match=r"patch_1\.tif must have 12 bands .* it has 4"):
        sentinel2(folder)


def test_windows_have_their_own_places(tmp_path):
    write_s2_folder(tmp_path, n=3, seed=2, size=20)
    source = sentinel2(tmp_path, crop=8)
    rows = list(source.rows())
    (whole, *_) = sentinel2(tmp_path).rows()
    assert [row.id for row in rows[:4]] == ["patch_0/r0c0", "patch_0/r0c1", "patch_0/r1c0", "patch_0/r1c1"]
    np.testing.assert_array_equal(rows[1].content, whole.content[:, :8, 8:16])
    at = np.array([(row.lon, row.lat) for row in rows[:4]])
    assert great_circle_km(at[0], at[1]) == pytest.approx(0.08, rel=0.01)
    assert great_circle_km(at[0], at[2]) == pytest.approx(0.08, rel=0.01)
    assert at[0, 1] > at[2, 1]
    expected = np.hypot(0.06, 0.06)  # the middle of r0c0 lies 6 pixels north-west of the middle of the patch
    assert great_circle_km(at[0], np.array([whole.lon, whole.lat])) == pytest.approx(expected, rel=0.01)
    assert source.total == len(rows) == 12


def test_windows_without_georeference_move_from_the_index(tmp_path):
    folder = folder_of(tmp_path, [numbered(12, 16)])
    rows = {row.id: row for row in sentinel2(folder, crop=8).rows()}
    middle = np.array([20.0, 10.0])
    for name, east, north in (("r0c0", -1, 1), ("r1c1", 1, -1)):
        row = rows[f"patch_0/{name}"]
        assert np.sign([row.lon - 20, row.lat - 10]).tolist() == [east, north]
        assert great_circle_km(np.array([row.lon, row.lat]), middle) == pytest.approx(0.04 * 2**0.5, rel=0.01)


def test_windows_agree_with_and_without_georeference(tmp_path):
    write_s2_folder(tmp_path, n=4, seed=3, size=64)
    with_reference = list(sentinel2(tmp_path, crop=16).rows())
    for path in (tmp_path / "images").iterdir():
        with rasterio.open(path) as dataset:
            pixels = dataset.read()
        path.unlink()
        write_patch(path, pixels)
    for a, b in zip(with_reference, sentinel2(tmp_path, crop=16).rows(), strict=True):
        assert a.id == b.id
        np.testing.assert_array_equal(a.content, b.content)
        assert great_circle_km(np.array([a.lon, a.lat]), np.array([b.lon, b.lat])) < 0.03  # UTM north is not true north


def test_pixels_takes_the_middle_and_mixed_sizes_are_refused(tmp_path):
    folder = folder_of(tmp_path, [numbered(12, 16), numbered(12, 12)])
    with pytest.raises(DataError, match=r"patch_1\.tif has 12 x 12 pixels, expected 16 x 16"):
        list(sentinel2(folder).records(0))
    assert [row.content.shape for row in sentinel2(folder, pixels=10).rows()] == [(12, 10, 10)] * 2
    ramp = np.broadcast_to(np.arange(1, 17, dtype="uint16"), (12, 16, 16)).copy()
    write_patch(folder / "images" / "patch_0.tif", ramp)
    first, _ = sentinel2(folder, pixels=10).rows()
    assert first.content[0, 0].tolist() == list(range(4, 14))


def test_what_is_missing_or_damaged_is_counted(tmp_path):
    folder = folder_of(tmp_path, [numbered(12), numbered(12), numbered(12), 0 * numbered(12)])
    (folder / "images" / "patch_0.tif").unlink()
    path = folder / "images" / "patch_1.tif"
    path.write_bytes(path.read_bytes()[:300])
    write_patch(folder / "images" / "stray.tif", numbered(12))
    write_patch(
        folder / "images" / "there.tif", numbered(12), crs="EPSG:32631", transform=Affine(10, 0, 499960, 0, -10, 40)
    )
    records = list(sentinel2(folder).records(0))
    assert [type(r).__name__ for r in records] == ["Skip", "Skip", "Row", "Skip", "Skip", "Row"]
    assert records[0] == Skip("in the index but not in the folder", "patch_0")
    assert records[1] == Skip("damaged file", "patch_1")
    assert records[3] == Skip("no data", "patch_3")
    assert records[4] == Skip("no position in index or file", "stray")
    assert (records[5].lon, records[5].lat) == pytest.approx((3, 0), abs=1e-9)


def test_index_mistakes_name_the_line(tmp_path):
    folder = folder_of(tmp_path, [numbered(12)])
    (folder / "index.csv").write_text("lat,lon,fn\n1,2,patch_0.tif\n113.4,2,patch_1.tif\n")
    with pytest.raises(DataError, match=r"index\.csv:3 has lon=2, lat=113\.4"):
        sentinel2(folder)
    (folder / "index.csv").write_text("y,x,fn\n1,2,patch_0.tif\n")
    with pytest.raises(DataError, match="missing: lat, lon"):
        sentinel2(folder)
    with pytest.raises(DataError, match="not a folder"):
        sentinel2(tmp_path / "nowhere")
    (folder / "index.csv").unlink()
    with pytest.raises(SettingError, match="at most 8"):
        sentinel2(folder, crop=9)
    with pytest.raises(SettingError, match="canonical"):
        sentinel2(folder, band_order="canonicel")


def test_every_start_gives_the_same_tail(tmp_path):
    write_s2_folder(tmp_path, n=3, seed=4, size=8)
    (tmp_path / "images" / "patch_1.tif").unlink()
    source = sentinel2(tmp_path, crop=4)
    everything = list(source.records(0))
    assert source.total == len(everything) == 12
    for start in range(13):
        assert [getattr(r, "id", None) or r.where for r in source.records(start)] == [
            getattr(r, "id", None) or r.where for r in everything[start:]
        ]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([16, 32, 64]))
def test_generated_patches_show_their_offset(seed, size):
    rng = np.random.default_rng(seed)
    plain = patch(BANDS, rng.uniform(-1, 1, 2), size, rng)
    assert not has_offset(plain)
    assert has_offset(plain + np.uint16(1000))


def test_offset_of_special_patches():
    rng = np.random.default_rng(0)
    water = rng.normal(980, 30, (12, 32, 32)).astype("uint16")  # dark water of a new baseline: below the shifted zero
    assert has_offset(water)
    snow = np.concatenate([rng.normal(8000, 200, (10, 32, 32)), rng.normal(180, 10, (2, 32, 32))]).astype("uint16")
    assert not has_offset(snow)
    assert not has_offset(np.zeros((12, 8, 8), "uint16"))
    holes = water + np.uint16(500)
    holes[:, :4] = 0  # no data is not dark
    assert has_offset(holes)


def test_offset_is_subtracted_and_cut_at_zero(tmp_path, caplog):
    write_s2_folder(tmp_path / "mixed", n=10, seed=5, size=32, shifted=0.5)
    write_s2_folder(tmp_path / "plain", n=10, seed=5, size=32, shifted=0.0)
    with caplog.at_level(logging.INFO, logger="graticule.data.sentinel2"):
        mixed = list(sentinel2(tmp_path / "mixed").rows())
    plain = list(sentinel2(tmp_path / "plain").rows())
    for a, b in zip(mixed, plain, strict=True):
        np.testing.assert_array_equal(a.content, b.content)
    assert "of 10 patches" in caplog.text
    assert "from 0 of" not in caplog.text
    assert without_offset(np.array([[[0, 999, 1000, 1001, 65535]]], "uint16")).tolist() == [[[0, 0, 0, 1, 64535]]]


@pytest.mark.parametrize(
    ("tags", "stated"),
    [
        ({"s2:processing_baseline": "05.09"}, True),
        ({"PROCESSING_BASELINE": "02.12"}, False),
        ({"s2:processing_baseline": "03.01"}, False),
        ({"processing_baseline": "04.00", "earthsearch:boa_offset_applied": "True"}, False),
        ({"BOA_ADD_OFFSET": "-1000"}, True),
        ({"BOA_ADD_OFFSET": "0"}, False),
        ({"processing_baseline": "new"}, None),
        ({"AREA_OR_POINT": "Area"}, None),
    ],
)
def test_tags_win_over_the_dark_end(tmp_path, tags, stated):
    assert stated_offset(tags) is stated
    bright = numbered(12) + np.uint16(2000)  # looks shifted
    (row,) = sentinel2(folder_of(tmp_path, [bright], tags=tags)).rows()
    assert row.content[0, 0, 0] == (2100 if stated is False else 1100)


def test_planted_signal_is_found_and_lost(tmp_path):
    """Ridge on band means, held-out blocks of 30 degrees: R2 > 0.8 with the signal bands, nothing without."""
    places, hidden = write_s2_folder(tmp_path, n=400, seed=7, size=16, shifted=0.3)
    features = np.log1p([row.content.mean(axis=(1, 2)) for row in sentinel2(tmp_path).rows()])
    block = np.floor((places[:, 0] + 180) / 30) + 12 * np.floor((places[:, 1] + 90) / 30)
    held_out = block % 4 == 0

    def score(x):
        return RidgeCV().fit(x[~held_out], hidden[~held_out]).score(x[held_out], hidden[held_out])

    assert score(features) > 0.8
    features[:, [BANDS.index(band) for band in SIGNAL_BANDS]] = 0
    assert score(features) < 0.1


def test_hidden_functions_are_smooth_and_do_not_depend_on_the_other_places():
    places = uniform_places(50, seed=0)
    values = hidden_functions(places, count=2, seed=3)
    np.testing.assert_allclose(values[7:9], hidden_functions(places[7:9], count=2, seed=3))
    near = hidden_functions(places + np.array([0.01, 0]), count=2, seed=3)
    assert np.abs(near - values).max() < 0.01
    assert values.std(axis=0).min() > 0.3


@pytest.mark.parametrize("name", ["dump.xml", "dump.xml.bz2"])
def test_wiki_dump_is_xml(tmp_path, name):
    import bz2
    from xml.etree import ElementTree

    write_wiki_dump(tmp_path / name, [(1, "A & B", "{{Coord|1|2|display=title}} <ref>"), (2, "C", "")])
    text = (tmp_path / name).read_bytes()
    root = ElementTree.fromstring(bz2.decompress(text) if name.endswith("bz2") else text)
    pages = [child for child in root if child.tag.endswith("}page")]
    assert [page.findtext("{*}title") for page in pages] == ["A & B", "C"]
    assert pages[0].findtext("{*}revision/{*}text") == "{{Coord|1|2|display=title}} <ref>"


def test_real_patches(real):
    rows = list(sentinel2(real).records(0))
    assert len(rows) == 23
    assert all(isinstance(row, Row) for row in rows)
    assert {row.content.shape for row in rows} == {(12, 256, 256)}
    by_id = {row.id: row for row in rows}
    assert [rows[0].id, rows[-1].id] == ["patch_75123", "patch_8845"]
    assert (rows[0].lon, rows[0].lat) == (-68.2091418648589, -54.18078401057424)
    assert (by_id["patch_445"].lon, by_id["patch_445"].lat) == pytest.approx((-84.90729, 77.86397), abs=1e-5)
    darkest = min(np.percentile(row.content, 1) for row in rows)
    assert darkest < 100


def test_real_offsets(real):
    found = set()
    for path in real.glob("*.tif"):
        with rasterio.open(path) as dataset:
            if has_offset(dataset.read()):
                found.add(int(path.stem.removeprefix("patch_")))
    assert found == SHIFTED


def test_real_windows(real):
    source = sentinel2(real, crop=128)
    rows = list(source.rows())
    assert len(rows) == source.total == 23 * 4
    whole = {row.id: (row.lon, row.lat) for row in sentinel2(real).rows()}
    for row in rows:
        middle = np.array(whole[row.id.split("/")[0]])
        assert great_circle_km(np.array([row.lon, row.lat]), middle) == pytest.approx(0.64 * 2**0.5, rel=0.01)
