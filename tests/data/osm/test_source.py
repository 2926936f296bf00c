"""Extracts as regions: every entity in every region it touches, the same rows from memory, from disk and resumed."""

import json
import os
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import shapely

from graticule.data import store
from graticule.data.osm import source as module
from graticule.data.osm import spill
from graticule.data.osm.entities import Entities
from graticule.data.osm.rows import Choice
from graticule.data.osm.source import osm
from graticule.data.source import Row, Skip
from graticule.errors import DataError, SettingError
from graticule.geo.partition import partition

AT = np.array([24.94, 60.17])


def town(n=300, seed=0, at=AT):
    """Nodes, houses, streets and a large lake, some of them with the same tags."""
    rng = np.random.default_rng(seed)
    ids, tags, shapes = ["relation/1"], [{"natural": "water", "name": "järvi"}], [shapely.Point(at).buffer(0.008)]
    for i in range(n):
        x, y = at + rng.uniform(-0.02, 0.02, 2)
        kind = i % 3
        ids.append(f"{('node', 'way', 'way')[kind]}/{i}")
        tags.append(({"amenity": "bench"}, {"building": "yes", "levels": str(i % 4)}, {})[kind])
        line = np.array([x, y]) + np.cumsum(rng.normal(0, 0.001, (5, 2)), axis=0)
        shapes.append((shapely.Point(x, y), shapely.box(x, y, x + 3e-4, y + 2e-4), shapely.LineString(line))[kind])
    return Entities(tuple(ids), tuple(tags), np.array(shapes, dtype=object))


def chunks(entities, size):
    for start, end in pairwise([*range(0, len(entities), size), len(entities)]):
        yield Entities(entities.ids[start:end], entities.tags[start:end], entities.geometry[start:end])


@pytest.fixture
def extract(monkeypatch, tmp_path):
    """A function that puts entities in the place of a file's."""
    held = {}

    def reader(dropped_keys):
        def read(path, ledger):
            for chunk in chunks(held[path], 37):
                ledger.found.update(name.partition("/")[0] for name in chunk.ids)
                ledger.kept.update(name.partition("/")[0] for name in chunk.ids)
                yield chunk

        return read

    monkeypatch.setattr(module, "_reader", reader)

    def put(entities, name="town.osm.pbf"):
        path = tmp_path / name
        path.write_text("")
        held[path] = entities
        return path

    return put


def plain(records):
    """Records in values that can be compared."""
    return [(r.id, r.lon, r.lat, {**vars(r.content)}) if isinstance(r, Row) else (r.reason, r.where) for r in records]


def test_rows_are_the_parts_of_entities(extract):
    entities, grid = town(), partition("slippy:15")
    rows = list(osm(extract(entities), cells="slippy:15").records(0))
    members = grid.members(entities.geometry)
    want = defaultdict(list)
    for i, key, part, share in zip(members.rows, members.keys, members.geometry, members.shares, strict=True):
        want[key].append((entities.ids[i], entities.tags[i], part.wkb, share))
    assert [row.id for row in rows] == grid.ids(np.array(sorted(want)))
    for row, key in zip(rows, sorted(want), strict=True):
        region = row.content
        assert list(zip(region.ids, region.tags, region.geometries, region.shares, strict=True)) == want[key]
        assert shapely.equals(shapely.from_wkb(region.outline), grid.outlines(np.array([key]))[0])
        assert [row.lon, row.lat] == grid.centre(np.array([key]))[0].tolist()
        assert region.image is None


def test_shares_add_up_over_the_rows(extract):
    entities = town()
    total = defaultdict(float)
    for row in osm(extract(entities), cells="h3:9", least=0).rows():
        for name, share in zip(row.content.ids, row.content.shares, strict=True):
            total[name] += share
    assert total == pytest.approx(dict.fromkeys(entities.ids, 1.0), abs=1e-7)


@pytest.mark.parametrize("cells", ["slippy:15", "h3:9"])
def test_from_disk_as_from_memory(extract, monkeypatch, cells):
    source = osm(extract(town()), cells=cells, least=2, most=9)
    memory, ledger = plain(source.records(0)), source.ledger()
    monkeypatch.setattr(spill, "RUN_BYTES", 5000)
    monkeypatch.setattr(spill, "BATCH_ROWS", 7)
    assert plain(source.records(0)) == memory
    assert source.ledger() == ledger
    assert len(memory) > 20


def test_goes_on_anywhere(extract):
    source = osm(extract(town(100)), cells="slippy:15", least=3, most=8)
    whole, ledger = plain(source.records(0)), source.ledger()
    for start in (1, 5, len(whole) - 1, len(whole), len(whole) + 3):
        assert plain(source.records(start)) == whole[start:]
        assert source.ledger() == ledger


def test_least_and_most(extract):
    path = extract(town())
    everything = {row.id: row.content for row in osm(path, cells="slippy:15", least=0).rows()}
    source = osm(path, cells="slippy:15", least=4, most=12)
    kept = {r.id: r.content for r in source.records(0) if isinstance(r, Row)}
    reason = "fewer than 4 entities of its own"
    skips = {r.where for r in source.records(0) if r == Skip(reason, getattr(r, "where", ""))}
    own = {name: sum(share >= 0.02 for share in region.shares) for name, region in everything.items()}
    assert skips <= {name for name in everything if own[name] < 4}
    assert any(own[name] < 4 <= len(region) for name, region in everything.items())
    assert set(kept) == {name for name in everything if own[name] >= 4}
    over = {name for name, region in everything.items() if len(region) > 12}
    assert over
    assert skips
    for name, region in kept.items():
        assert len(region) == min(12, len(everything[name]))
        places = [everything[name].ids.index(identity) for identity in region.ids]
        assert places == sorted(places)
    ledger = source.ledger()["regions"]
    assert ledger["kept"] == len(kept)
    assert ledger["skipped"] == {reason: len(skips)}
    assert ledger["noted"]["overfull regions"] == len(over)
    lost = sum(len(everything[name]) - 12 for name in over)
    assert ledger["noted"]["parts sampled out of overfull regions"] == lost
    assert json.loads(json.dumps(source.ledger())) == source.ledger()


def sea(seed):
    """A town, and what spans many regions: a border, an archipelago, a ferry, a crooked coast and a bow-tie."""
    rng, land = np.random.default_rng(seed), town(300, seed)
    coast = AT + np.cumsum(rng.normal(0, 0.003, (300, 2)), axis=0)
    islands = [shapely.Point(AT + rng.uniform(-0.05, 0.05, 2)).buffer(rng.uniform(1e-4, 3e-3)) for _ in range(40)]
    x, y = AT
    bow = shapely.Polygon([(x, y), (x + 0.05, y + 0.05), (x + 0.05, y), (x, y + 0.05)])
    wide = [
        shapely.Point(AT + 0.05).buffer(0.1),
        shapely.union_all(islands),
        shapely.LineString([(x, y), (x + 0.3, y + 0.1)]),
        shapely.LineString(coast),
        bow,
    ]
    shapes, order = np.array([*land.geometry, *wide], dtype=object), rng.permutation(len(land) + len(wide))
    ids, tags = (
        [*land.ids, *(f"relation/{i + 2}" for i in range(5))],
        [*land.tags, *({"sea": str(i)} for i in range(5))],
    )
    return Entities(tuple(ids[i] for i in order), tuple(tags[i] for i in order), shapes[order])


@pytest.mark.parametrize("cells", ["slippy:15", "slippy:17", "h3:9"])
@pytest.mark.parametrize("seed", range(3))
def test_what_waits_for_the_end_is_cut_as_at_once(extract, cells, seed):
    path = extract(sea(seed))
    own = {}
    everything = list(osm(path, cells=cells, least=0).rows())
    for row in everything:
        own[row.id] = sum(share >= 0.02 for share in row.content.shares)
    for least in (1, 2, 3):
        source = osm(path, cells=cells, least=least)
        kept = plain(source.rows())
        assert kept == plain(row for row in everything if own[row.id] >= least)
        told = source.ledger()["regions"]
        assert told["noted"]["in many regions, cut to those that are kept"] >= 4
        assert told["kept"] + sum(told["skipped"].values()) <= len(everything)
    assert len(kept) > 2


def test_the_draw_depends_on_seed_and_region_only():
    drawn = Choice(most=5, seed=1).rows(100, "16/1/2")
    assert len(set(drawn.tolist())) == 5
    assert (drawn == Choice(most=5, seed=1, least=3).rows(100, "16/1/2")).all()
    assert (drawn != Choice(most=5, seed=2).rows(100, "16/1/2")).any()
    assert (drawn != Choice(most=5, seed=1).rows(100, "16/1/3")).any()
    assert Choice(most=5).rows(5, "a").tolist() == [0, 1, 2, 3, 4]


def test_empty_tiles_and_entities_outside(extract):
    places = [shapely.Point(0.01, 0.01), shapely.Point(0.05, 0.01), shapely.Point(0, 89)]
    source = osm(extract(Entities(("node/1", "node/2", "node/3"), ({}, {}, {}), np.array(places, dtype=object))))
    assert len(list(source.records(0))) == 2
    ledger = source.ledger()
    assert ledger["entities"]["kept"] == {"node": 3}
    assert ledger["regions"]["noted"] == {"outside of all regions": 1}
    assert ledger["regions"]["examples"] == {"outside of all regions": ["node/3"]}
    assert ledger["regions"]["empty"] == 7


def test_an_id_counts_once_a_region(extract):
    at = [shapely.Point(1, 1), shapely.Point(1, 1.00001), shapely.Point(1, 1)]
    source = osm(extract(Entities(("node/1", "node/2", "node/1"), ({"a": "1"}, {}, {"a": "2"}), np.array(at, object))))
    (row,) = source.records(0)
    assert row.content.ids == ("node/1", "node/2")
    assert row.content.tags == ({"a": "1"}, {})
    assert source.ledger()["regions"]["noted"] == {"parts of ids that came again, left out": 1}


def test_names_of_files_begin_the_ids(extract):
    first, second = extract(town(20)), extract(town(20, seed=1), "village-2020.osm.gz")
    rows = list(osm([first, second], cells="slippy:14").rows())
    alone = list(osm(second, cells="slippy:14", named=True).rows())
    assert {row.id.split("/")[0] for row in rows} == {"town", "village-2020"}
    assert plain(row for row in rows if row.id.startswith("village")) == plain(alone)
    assert [row.id for row in osm(second, cells="slippy:14").rows()] == [row.id.partition("/")[2] for row in alone]
    assert osm([first, second]).about["paths"] == ["town.osm.pbf", "village-2020.osm.gz"]


def own(path):
    boxes = [shapely.box(*(AT + d), *(AT + d + 0.01)) for d in (0.5, 0, 0.6, -0.005, 0.7)]
    features = [
        {"type": "Feature", "properties": {"region_id": name}, "geometry": shapely.geometry.mapping(box)}
        for name, box in zip("abcde", boxes, strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_own_polygons_without_entities_are_told(extract, tmp_path):
    polygons = own(tmp_path / "own.geojson")
    source = osm(extract(town()), cells=polygons)
    records = list(source.records(0))
    assert [r.id if isinstance(r, Row) else r for r in records] == [
        Skip("no entities", "a"),
        "b",
        Skip("no entities", "c"),
        "d",
        Skip("no entities", "e"),
    ]
    assert source.total == 5
    assert polygons in source.files
    assert len(records[1].content) + len(records[3].content) > 20
    assert "relation/1" in set(records[1].content.ids) & set(records[3].content.ids)
    assert plain(source.records(2)) == plain(records[2:])
    assert source.ledger()["regions"]["skipped"] == {"no entities": 3}


def test_no_entities_at_all(extract, tmp_path):
    nothing = extract(Entities((), (), np.empty(0, object)))
    assert list(osm(nothing).records(0)) == []
    assert list(osm(nothing, cells="h3:8").records(0)) == []
    assert len(list(osm(nothing, cells=own(tmp_path / "own.geojson")).records(0))) == 5


class East:
    """Images that have pixels east of the middle of the town."""

    about: ClassVar = {"images": 1}
    files = ()
    bands = ("red", "green", "blue")

    def __call__(self, outline):
        return np.full((3, 8, 8), 7, np.uint8), np.full((8, 8), outline.bounds[0] > AT[0])


def test_images(extract, monkeypatch):
    monkeypatch.setattr(module, "_region_images", lambda images, pixels, window_km, bands: East())
    source = osm(extract(town(60)), cells="slippy:14", images="ortho")
    rows = list(source.rows())
    assert {row.content.image.shape for row in rows} == {(3, 8, 8)}
    assert {bool(row.content.covered.all()) for row in rows} == {True, False}
    assert source.ledger()["regions"]["covered"] == sum(row.content.covered.all() for row in rows)
    assert source.about["images"] == East.about
    assert source.bands == East.bands
    far = extract(town(60, at=AT - 1), "far.osm.pbf")
    with pytest.raises(DataError, match=r"show none of the \d+ regions"):
        list(osm(far, images="ortho").records(0))


def test_prepared_and_read_back(extract, tmp_path):
    source = osm(extract(town()), cells="slippy:15", most=20)
    table = store.prepare({"osm": source}, to=tmp_path / "data")["osm"]
    assert [vars(content) for content in table.all_contents()] == [vars(row.content) for row in source.rows()]
    assert table.manifest["ledger"] == source.ledger()
    assert table.manifest["licence"] == "ODbL-1.0, OpenStreetMap contributors"


def test_the_folder_of_runs_is_gone(extract, monkeypatch, tmp_path):
    monkeypatch.setattr(spill, "RUN_BYTES", 5000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    records = osm(extract(town()), cells="slippy:15").records(0)
    next(records)
    assert len(list((tmp_path / "runs").rglob("run-*.arrow"))) > 1
    records.close()
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_refused(extract, tmp_path):
    path = extract(town(5))
    with pytest.raises(DataError, match=r"no OpenStreetMap extract .*absent"):
        osm(tmp_path / "absent.osm.pbf")
    with pytest.raises(DataError, match="at least one extract"):
        osm([])
    with pytest.raises(DataError, match="same name 'town'"):
        osm([path, extract(town(5), "town.osm.gz")])
    with pytest.raises(SettingError, match="slippy:0"):
        osm(path, cells="hexagons")
    with pytest.raises(DataError, match="least 5 and most 3"):
        osm(path, least=5, most=3)


def test_a_real_extract():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA names no folder")
    path = Path(os.environ["GRATICULE_DATA"]) / "osm" / "sydney-2020.osm.pbf"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    source = osm(path, named=True)
    rows = list(source.rows())
    ledger = source.ledger()
    ids = {name for row in rows for name in row.content.ids}
    outside = ledger["regions"]["noted"].get("outside of all regions", 0)
    assert len(ids) + outside == sum(ledger["entities"]["kept"].values())
    assert all(row.id.startswith("sydney-2020/16/") for row in rows)
