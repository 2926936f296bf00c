import bz2

import numpy as np
import pytest
from PIL import Image

from graticule import read
from graticule.data.synthetic import write_s2_folder, write_wiki_dump
from graticule.errors import DataError, SettingError
from graticule.geo.coords import uniform_places

COORDINATES = "{{Coord|54|20|N|10|8|E|display=title}}"


@pytest.fixture
def world(tmp_path):
    """One raw thing for every reader that reads files."""
    write_wiki_dump(tmp_path / "dump.xml", [(1, "Kiel", f"{COORDINATES} A port.")])
    (tmp_path / "dump.xml.bz2").write_bytes(bz2.compress((tmp_path / "dump.xml").read_bytes()))
    write_s2_folder(tmp_path / "patches", n=2, seed=0, size=8)
    (tmp_path / "spots.csv").write_text("name,lon,lat\na,1,2\nb,190,4\n")
    (tmp_path / "more.jsonl").write_text('{"name": "c", "lon": 5, "lat": 6}\n')
    (tmp_path / "holiday").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "holiday" / "a.jpg")
    (tmp_path / "a.tif").write_bytes(b"")
    (tmp_path / "a.odd").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("dump.xml", "wikipedia"),
        ("dump.xml.bz2", "wikipedia"),
        ("patches", "sentinel2"),
        ("patches/images", "sentinel2"),
        ("spots.csv", "table"),
        ("more.jsonl", "table"),
        ("holiday", "photos"),
        ("holiday/a.jpg", "raster"),
        ("a.tif", "raster"),
    ],
)
def test_the_reader_is_told_from_the_path(world, name, reader):
    assert read.guess(world / name) == reader


def test_paths_that_tell_no_reader(world):
    with pytest.raises(DataError, match=r"does not exist. A reader's name may stand before a path"):
        read.guess(world / "none.csv")
    with pytest.raises(SettingError, match=r"Unknown kind of file '.odd'"):
        read.guess(world / "a.odd")


def test_readers_are_public_and_listed():
    for name in read.READERS.keys() - {"stac"}:
        assert read.READERS[name] is getattr(read, name)
    assert read.__all__ == sorted(read.__all__)
    assert all(hasattr(read, name) for name in read.__all__)


def test_a_path_or_a_named_reader_or_several_paths(world):
    assert [row.content for row in read.source(f"{world}/dump.xml").rows()] == ["Kiel. A port."]
    spec = f"{world}/spots.csv"
    assert read.source(spec).about == read.source(f"table:{spec}").about
    chained = read.source(f"{spec},{world}/more.jsonl", text="name")
    assert [(row.id, row.lon, row.content) for row in chained.rows()] == [
        ("spots:0", 1, "a"),
        ("spots:1", -170, "b"),
        ("more:0", 5, "c"),
    ]
    assert [row.content.shape for row in read.source(f"{world}/patches", pixels=4).rows()] == [(12, 4, 4)] * 2


def test_options_are_checked_by_name(world):
    with pytest.raises(SettingError, match=r"option of the reader 'sentinel2' 'crpo'. Did you mean 'crop'"):
        read.source(f"{world}/patches", crpo=4)
    with pytest.raises(SettingError, match=r"Unknown option of the reader 'table' ''"):
        read.source(f"{world}/spots.csv", **{"": 4})
    with pytest.raises(SettingError, match=r"'sentinel2' of .*patches: an option is of the wrong type"):
        read.source(f"{world}/patches", crop="small")


def test_places_to_sample_at(world):
    np.testing.assert_array_equal(read.places("uniform:30", "it"), uniform_places(30, seed=0))
    np.testing.assert_array_equal(read.places(f"{world}/spots.csv", "it"), [[1, 2], [-170, 4]])
    (world / "empty.csv").write_text("lon,lat\n")
    for spec, kind, said in [
        (None, DataError, "it is sampled at places: give NAME.places=TABLE"),
        ("uniform:x", SettingError, "whole number N, got 'uniform:x'"),
        ("uniform:-3", SettingError, "whole number"),
        (f"{world}/empty.csv", DataError, "no place to sample it at"),
    ]:
        with pytest.raises(kind, match=said):
            read.places(spec, "it")


def test_a_raster_is_sampled_at_places(world):
    Image.fromarray(np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)).save(world / "earth.png")
    for bounds in ("world", "-180/-90/180/90"):
        made = read.source(f"{world}/earth.png", places="uniform:4", bounds=bounds, pixels=2, size_km=50)
        assert made.about["bounds"] == [-180, -90, 180, 90]
        rows = list(made.rows())
        np.testing.assert_allclose([(row.lon, row.lat) for row in rows], uniform_places(4, seed=0))
        assert {row.content.shape for row in rows} == {(3, 2, 2)}
    for bounds in ("1/2/3", "1/2/3/east", "1/2/3/4/5"):
        with pytest.raises(SettingError, match="west/south/east/north"):
            read.source(f"{world}/earth.png", places="uniform:4", bounds=bounds)
