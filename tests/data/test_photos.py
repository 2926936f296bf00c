import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from graticule.data.photos import photos
from graticule.data.source import Row, Skip
from graticule.errors import DataError

GPS = {1: "S", 2: (33.0, 51.0, 30.0), 3: "W", 4: (70.0, 30.0, 0.0)}


def picture(path, gps=None, size=(80, 40), orientation=None, mode="RGB"):
    """A picture that is red on its left half and blue on its right."""
    path.parent.mkdir(exist_ok=True, parents=True)
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    if gps:
        exif.get_ifd(0x8825).update(gps)
    if orientation:
        exif[0x0112] = orientation
    image.convert(mode).save(path, exif=exif.tobytes())
    return path


def opened(row):
    image = Image.open(io.BytesIO(row.content))
    assert image.format == "JPEG"
    assert image.mode == "RGB"
    assert not image.getexif()
    return image


@pytest.mark.parametrize("name", ["a.jpg", "sub/a.JPEG", "a.png", "a.tif"])
def test_place_and_pixels(tmp_path, name):
    picture(tmp_path / name, GPS)
    (row,) = photos(tmp_path, size=20).records(0)
    assert (row.id, row.lon, row.lat) == (name, -70.5, pytest.approx(-(33 + 51 / 60 + 30 / 3600)))
    assert opened(row).size == (40, 20)
    left, right = (np.array(opened(row))[10, x] for x in (5, 35))
    assert left[0] > 200 > 60 > left[2]
    assert right[2] > 200 > 60 > right[0]


def test_a_picture_is_turned_upright_and_never_enlarged(tmp_path):
    picture(tmp_path / "a.jpg", GPS, orientation=6)  # to be turned by 90 degrees clockwise: left becomes top
    (row,) = photos(tmp_path, size=4000).records(0)
    image = np.array(opened(row))
    assert image.shape == (80, 40, 3)
    assert image[5, 20, 0] > 200
    assert image[75, 20, 2] > 200


def test_reasons_to_skip(tmp_path):
    picture(tmp_path / "1.jpg")
    picture(tmp_path / "2.jpg", {**GPS, 2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)})
    picture(tmp_path / "3.jpg", {2: GPS[2], 4: GPS[4]})
    picture(tmp_path / "4.jpg", {**GPS, 2: (IFDRational(0, 0), 1.0, 1.0)})
    picture(tmp_path / "5.jpg", {**GPS, 2: (95.0, 0.0, 0.0)})
    (tmp_path / "6.jpg").write_bytes(b"\xff\xd8 nothing")
    (tmp_path / "7.jpg").write_bytes(picture(tmp_path / "7.jpg", GPS, size=(600, 600)).read_bytes()[:1500])
    picture(tmp_path / "8.tif", GPS, mode="I;16")
    (tmp_path / "notes.txt").write_text("not a picture")
    found = {Path(r.where).name: r.reason for r in photos(tmp_path).records(0)}
    assert found == {
        "1.jpg": "no GPS",
        "2.jpg": "GPS 0, 0",
        "3.jpg": "unreadable GPS",
        "4.jpg": "unreadable GPS",
        "5.jpg": "unreadable GPS",
        "6.jpg": "unreadable picture",
        "7.jpg": "unreadable picture",
        "8.tif": "pixels of more than 8 bits",
    }


def test_a_table_of_photos(tmp_path):
    picture(tmp_path / "img" / "a.png", mode="P")
    picture(tmp_path / "img" / "b.png", mode="RGBA")
    lines = ["filename,lon,lat", "img/a.png,190,2", "img/none.png,1,2", ",1,2", "img/b.png,,2", "img/b.png,5,6"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    source = photos(tmp_path / "t.csv", size=10)
    found = [r.reason if isinstance(r, Skip) else (r.id, r.lon, r.lat) for r in source.records(0)]
    assert found == [("img/a.png", -170, 2), "no such file", "no path", "no coordinates", ("img/b.png", 5, 6)]
    assert [opened(row).size for row in source.rows()] == [(20, 10)] * 2
    assert list(source.records(4)) == list(source.records(0))[4:]


def test_what_is_no_source_of_photos(tmp_path):
    with pytest.raises(DataError, match="no pictures"):
        photos(tmp_path)
    (tmp_path / "t.csv").write_text("lon,lat\n1,2\n")
    with pytest.raises(DataError, match="no column path"):
        photos(tmp_path / "t.csv")
    with pytest.raises(DataError, match="at least 1 pixel"):
        photos(tmp_path, size=0)


def test_order_and_resuming(tmp_path):
    for name in ("b/2.jpg", "a/9.jpg", "c.jpg", "a/1.jpg"):
        picture(tmp_path / name, GPS)
    source = photos(tmp_path)
    assert [row.id for row in source.rows()] == ["a/1.jpg", "a/9.jpg", "b/2.jpg", "c.jpg"]
    assert (source.total, len(source.files)) == (4, 4)
    for start in range(6):
        assert list(source.records(start)) == list(source.records(0))[start:]


@pytest.mark.skipif("GRATICULE_DATA" not in os.environ, reason="GRATICULE_DATA does not name the folder of real data")
def test_the_real_photos():
    rows = list(photos(Path(os.environ["GRATICULE_DATA"]) / "photos").records(0))
    assert len(rows) == 10
    assert all(isinstance(row, Row) for row in rows)
    places = {"berlin": (13.40, 52.52), "lund": (13.195, 55.698)}
    for row in rows:
        np.testing.assert_allclose([row.lon, row.lat], places[row.id.split("/")[0]], atol=0.005)
        assert min(opened(row).size) == 336
