import dataclasses

import numpy as np
import pytest
import shapely

from graticule.data.source import Row, Source
from graticule.data.store import prepare
from graticule.errors import DataError
from graticule.geo.region import Region


def region(i, image=True):
    """Region number i with i entities."""
    points = [shapely.to_wkb(shapely.Point(j, i)) for j in range(i)]
    tags = tuple({"name": "Straße \u2603", "building": "yes"} if j % 2 else {} for j in range(i))
    picture = np.full((3, 5, 7), i, np.uint16) if image else None
    covered = np.arange(35).reshape(5, 7) % (i + 2) == 0 if image else None
    ids = tuple(f"way/{j}" for j in range(i))
    return Region(shapely.to_wkb(shapely.box(0, 0, 1, 1)), ids, tags, tuple(points), (1 / 3,) * i, picture, covered)


def source(regions):
    rows = [Row(f"16/{i}/0", i, 0, r) for i, r in enumerate(regions)]
    return Source("region", lambda start: iter(rows[start:]), {}, ledger=lambda: {"kept": 7})


@pytest.mark.parametrize("image", [True, False])
def test_regions_come_back_as_they_were(image, tmp_path):
    regions = [region(i, image) for i in (0, 1, 4)]
    table = prepare({"osm": source(regions)}, to=tmp_path)["osm"]
    assert table.manifest["ledger"] == {"kept": 7}
    for found, expected in zip(table.all_contents(), regions, strict=True):
        for field in dataclasses.fields(Region):
            there, here = getattr(found, field.name), getattr(expected, field.name)
            np.testing.assert_array_equal(there, here) if isinstance(here, np.ndarray) else None
            assert isinstance(here, np.ndarray) or there == here, field.name


@pytest.mark.parametrize("images", [(True, False), (False, True)])
def test_some_regions_with_an_image_and_some_without_are_refused(images, tmp_path):
    with pytest.raises(DataError, match="must have an image or none"):
        prepare({"osm": source([region(2, image) for image in images])}, to=tmp_path)


def test_a_region_has_one_of_everything_an_entity():
    with pytest.raises(DataError, match="one id, tags, geometry and share an entity"):
        Region(b"", ids=("way/1",))


def test_take_of_entities():
    taken = region(4).take(np.array([3, 1]))
    assert taken.ids == ("way/3", "way/1")
    assert taken.image is not None
    assert len(region(4).take(np.array([], dtype=int))) == 0
