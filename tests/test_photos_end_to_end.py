"""Photos with GPS, from a folder through a CLIP-shaped trunk into a run, and found again by picture and by place."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graticule.data.photos import photos
from graticule.data.store import prepare
from graticule.nearest import gallery, nearest, question
from graticule.runs import train
from tests.photo_model import write_clip_folder

SETTINGS = {
    "steps": 60,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "dim": 16,
    "location": "harmonics",
    "location.max_degree": 8,
    "location.width": 32,
    "location.depth": 1,
    "device": "cpu",
}
PLACES = {  # lon, lat
    "dar": (39.2833, -6.8),
    "lima": (-77.0333, -12.05),
    "lund": (13.1953, 55.6983),
    "nome": (-165.4, 64.5),
    "perth": (115.8667, -31.95),
    "quebec": (-71.2, 46.8167),
    "suva": (178.45, -18.1333),
}


def exif(lon, lat):
    """GPS of a place: degrees, minutes and seconds with their hemispheres."""

    def parts(value):
        minutes, seconds = divmod(round(abs(value) * 3600), 60)
        return (float(minutes // 60), float(minutes % 60), float(seconds))

    tags = Image.Exif()
    tags.get_ifd(0x8825).update({1: "NS"[lat < 0], 2: parts(lat), 3: "EW"[lon < 0], 4: parts(lon)})
    return tags


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder of generated photos, patches of colour, at the places above; one has no GPS."""
    folder = tmp_path_factory.mktemp("album")
    rng = np.random.default_rng(0)
    for name, place in PLACES.items():
        colours = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        colours.resize((500, 400), Image.Resampling.BICUBIC).save(folder / f"{name}.jpg", exif=exif(*place))
    colours.save(folder / "no_gps.png")
    return folder


@pytest.fixture(scope="module")
def real():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    return Path(os.environ["GRATICULE_DATA"]) / "photos"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip_folder(tmp_path_factory.mktemp("clip"))


def run_of(folder, clip, to):
    data = prepare({"photo": photos(folder)}, to=to / "data")
    return train("imagebind", data, to=to / "run", **SETTINGS, **{"trunk.photo": f"photo:{clip}"})


@pytest.fixture(scope="module")
def run(album, clip, tmp_path_factory):
    return run_of(album, clip, tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def real_run(real, clip, tmp_path_factory):
    return run_of(real, clip, tmp_path_factory.mktemp("real"))


def answers(command, *arguments):
    """Similarity, latitude, longitude, and name of every answer of `graticule nearest`."""
    code, out, err = command("nearest", *arguments, "-q")
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    return [(float(words[0]), float(words[1]), float(words[2]), words[-1]) for words in lines]


def finds_every_photo_by_itself(model):
    found = gallery(model, "photo")
    contents = list(photos_of(model))
    assert len(found.names) == len(contents)
    for name, content in zip(found.names, contents, strict=True):
        best, second, *_ = nearest(question(model, image=content), found, k=2)
        assert best.name == name
        assert best.similarity == pytest.approx(1, abs=1e-3)
        assert second.similarity < best.similarity


def photos_of(model):
    from graticule.data.store import Table

    return Table("photo", Path(model.about["data"]["photo"]["folder"])).all_contents()


def test_generated_photos_are_prepared_and_embedded(album, run):
    found = gallery(run, "photo")
    assert found.names == [f"{name}.jpg" for name in PLACES]
    np.testing.assert_allclose(found.lonlat, list(PLACES.values()), atol=1 / 3600)
    assert found.vectors.shape == (len(PLACES), 16)
    assert run.about["towers"]["photo"]["trunk"]["name"] == "photo"


def test_a_photo_finds_itself(run):
    finds_every_photo_by_itself(run)


def test_a_place_finds_its_photo_and_a_photo_its_place(run):
    """What training has tied together; not so before it."""
    found = gallery(run, "photo")
    for name, (lon, lat) in PLACES.items():
        assert nearest(question(run, lon=lon, lat=lat), found, k=1)[0].name == f"{name}.jpg"
    places = run.embed_points(found.lonlat)
    for row, vector in enumerate(found.vectors):
        similarity = places @ vector / np.linalg.norm(places, axis=1)
        assert similarity.argmax() == row


def test_by_the_command_line(album, run, command):
    for name, (lon, lat) in PLACES.items():
        best, *others = answers(command, run.folder, "--image", album / f"{name}.jpg", "--answer", "photo", "-k", 3)
        assert best[3] == f"{name}.jpg"
        assert best[1:3] == pytest.approx((lat, lon), abs=2e-3)
        assert len(others) == 2
        assert best[0] > others[0][0] >= others[1][0]
    lon, lat = PLACES["suva"]
    asked = answers(command, run.folder, f"--lon={lon}", f"--lat={lat}", "--answer", "photo", "-k", 1)
    assert asked[0][3] == "suva.jpg"


def test_a_photo_is_placed_by_the_command_line(album, run, command, tmp_path):
    table = tmp_path / "towns.csv"
    table.write_text("\n".join(["name,lon,lat", *(f"{name},{lon},{lat}" for name, (lon, lat) in PLACES.items())]))
    for name in PLACES:
        found = answers(command, run.folder, "--image", album / f"{name}.jpg", "--places", table, "-k", 1)
        assert found[0][3] == name


def test_a_picture_that_is_none_is_refused(run, command, tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    for name, expected in (("a.jpg", "Expected the bytes of a picture"), ("b.jpg", "does not exist")):
        code, out, err = command("nearest", run.folder, "--image", tmp_path / name)
        assert (code, out) == (1, "")
        assert err.splitlines()[-1].startswith("graticule nearest: ")
        assert expected in err.splitlines()[-1]


def test_real_photos_find_themselves(real_run):
    found = gallery(real_run, "photo")
    assert found.names == ["berlin/01.jpg", *(f"lund/0{i}.jpg" for i in range(1, 10))]
    finds_every_photo_by_itself(real_run)


def test_real_photos_by_the_command_line(real, real_run, command):
    for name in ("berlin/01.jpg", "lund/01.jpg", "lund/05.jpg"):
        best, *_ = answers(command, real_run.folder, "--image", real / name, "--answer", "photo", "-k", 2)
        assert best[3] == name


def test_real_photos_are_found_by_their_towns(real_run, command):
    """The nine of Lund lie within 50 m of each other: their places tell them from Berlin, not from one another."""
    at_berlin = answers(command, real_run.folder, "--lon=13.4", "--lat=52.52", "--answer", "photo", "-k", 10)
    at_lund = answers(command, real_run.folder, "--lon=13.195", "--lat=55.698", "--answer", "photo", "-k", 10)
    assert at_berlin[0][3] == "berlin/01.jpg"
    assert at_lund[-1][3] == "berlin/01.jpg"
    assert len(at_lund) == 10
