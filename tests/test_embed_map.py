import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from graticule import embed_map
from graticule.data.source import Row, Skip, Source
from graticule.embed_map import GeoJepaEmbedder, MapModel, between, gather, like, load_map, write_map
from graticule.encoders import region_vectors
from graticule.errors import CacheError, DataError, SettingError
from graticule.files import read_json, write_json
from graticule.geo.region import Region
from tests.map_model import model as make_model
from tests.map_model import save_model

shapely = pytest.importorskip("shapely")
gpd = pytest.importorskip("geopandas")

TAGS = (
    {"building": "yes"},
    {"highway": "residential"},
    {"amenity": "cafe", "cuisine": "pizza"},
    {"landuse": "grass"},
    {},
)
FREQUENT = (("amenity", "cafe"), ("building", "yes"))  # of the table of the model


def square(x, y, size=1.0):
    return shapely.box(x, y, x + size, y + size)


def region(outline, entities):
    """A region of entities {id: (geometry, tags)}, clipped as a reader clips them."""
    parts, shares = {}, {}
    for name, (shape, _) in entities.items():
        part = shapely.intersection(shape, outline)
        if not part.is_empty:
            whole = shape.area or shape.length
            parts[name], shares[name] = part, (part.area or part.length) / whole if whole else 1.0
    return Region(
        shapely.to_wkb(outline),
        tuple(parts),
        tuple(entities[name][1] for name in parts),
        tuple(shapely.to_wkb(part) for part in parts.values()),
        tuple(shares.values()),
    )


def world(columns=4, rows=3, seed=0, many=12):
    """A grid of regions of one degree with points, lines and squares, some over the edges."""
    rng = np.random.default_rng(seed)
    entities = {}
    for i in range(many * columns):
        x, y = rng.uniform(0, [columns - 0.6, rows - 0.6])
        shape = (
            shapely.Point(x, y),
            shapely.LineString([(x, y), (x + 0.5, y + rng.uniform(0.1, 0.5))]),
            square(x, y, rng.uniform(0.05, 0.5)),
        )[i % 3]
        entities[f"{('node', 'way', 'relation')[i % 3]}/{i + 1}"] = (shape, TAGS[i % 5])
    cells = {f"{x}/{y}": square(x, y) for y in range(rows) for x in range(columns)}
    return {name: region(outline, entities) for name, outline in cells.items()}, entities


def source(regions, ledger=None, **options):
    def records(start):
        for name, content in list(regions.items())[start:]:
            x, y = shapely.from_wkb(content.outline).centroid.coords[0]
            yield Row(name, x, y, content) if len(content) else Skip("no entities", name)

    return Source("region", records, {"reader": "made"}, licence="ODbL", total=len(regions), ledger=ledger, **options)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def regions():
    return world()[0]


@pytest.fixture(scope="module")
def out(model, regions, tmp_path_factory):
    """A finished folder; no test changes it."""
    folder = tmp_path_factory.mktemp("out") / "city"
    write_map(model, source(regions), folder)
    return folder


def mean_by_hand(model, regions, name):
    """The mean of the vectors of an entity over its regions, weighted by share, as a naive loop."""
    total, weight = np.zeros(model.width), 0.0
    for content in regions.values():
        for i, own in enumerate(content.ids):
            if own == name:
                total += content.shares[i] * model.embed_regions([content])[1][0][i]
                weight += content.shares[i]
    return total / weight


# One region


def test_shapes(model, regions):
    some = list(regions.values())
    whole, parts = model.embed_regions(some)
    assert whole.shape == (len(some), model.dim)
    assert whole.dtype == np.float32
    assert [part.shape for part in parts] == [(len(one), model.width) for one in some]
    assert np.isfinite(whole).all()
    assert "regions 11-d, entities 16-d" in repr(model)
    for one, vector in zip(some, whole, strict=True):
        counted = [sum(tags.get(key) == value for tags in one.tags) for key, value in FREQUENT]
        np.testing.assert_allclose(vector[:3], np.log1p([len(one), *counted]), rtol=1e-6)


@pytest.mark.parametrize("batch_tokens", [1, 17, 10_000])
def test_neighbours_in_a_batch_change_nothing(model, regions, batch_tokens):
    some = list(regions.values())
    whole, parts = model.embed_regions(some, batch_tokens=batch_tokens)
    for i, one in enumerate(some):
        alone, (part,) = model.embed_regions([one])
        np.testing.assert_allclose(whole[i], alone[0], atol=2e-6)
        np.testing.assert_allclose(parts[i], part, atol=2e-6)
    turned, _ = model.embed_regions(some[::-1], batch_tokens=batch_tokens)
    np.testing.assert_allclose(turned[::-1], whole, atol=2e-6)


def test_no_regions_and_empty_regions(model, regions):
    whole, parts = model.embed_regions([])
    assert (whole.shape, parts) == ((0, model.dim), [])
    empty = Region(shapely.to_wkb(square(0, 0)))
    whole, parts = model.embed_regions([empty, next(iter(regions.values())), empty])
    assert parts[0].shape == parts[2].shape == (0, model.width)
    assert np.isfinite(whole).all()
    with pytest.raises(SettingError, match="batch_tokens must be at least 1"):
        model.embed_regions([empty], batch_tokens=0)


def test_a_model_of_images_takes_regions_without(regions):
    with_images = make_model(patches=4)
    one = next(iter(regions.values()))
    plain, _ = with_images.embed_regions([one])
    image = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    seen, _ = with_images.embed_regions([replace(one, image=image, covered=np.ones((8, 8), bool))])
    unseen, _ = with_images.embed_regions([replace(one, image=image, covered=np.zeros((8, 8), bool))])
    np.testing.assert_allclose(plain, unseen, atol=1e-6)
    assert np.abs(plain - seen).max() > 1e-3
    assert (with_images.image_pixels, make_model().image_pixels) == (8, None)


# Frames


def test_frames(model, regions):
    vectors = model.embed_map(source(regions))
    named = {name for content in regions.values() for name in content.ids}
    assert vectors.regions.index.name == "region_id"
    assert list(vectors.regions.index) == list(regions)
    assert vectors.features.index.name == "feature_id"
    assert set(vectors.features.index) == named
    assert vectors.features.index.is_unique
    assert vectors.joint.index.names == ["region_id", "feature_id"]
    assert len(vectors.joint) == sum(map(len, regions.values()))
    assert vectors.regions["n_entities"].tolist() == [len(content) for content in regions.values()]
    columns = [f"vector_{i}" for i in range(model.dim)]
    whole, _ = model.embed_regions(list(regions.values()))
    np.testing.assert_allclose(vectors.regions[columns].to_numpy(), whole, atol=2e-6)
    assert set(vectors.features["kind"]) == {"node", "way", "relation"}


def test_an_entity_in_several_regions_is_one_row(model):
    regions, entities = world()
    vectors = model.embed_map(source(regions))
    counts = vectors.joint.groupby(level="feature_id").size()
    assert counts.max() > 1
    for name, (shape, tags) in entities.items():
        row = vectors.features.loc[name]
        assert row["tags"] == tags
        assert row.geometry.symmetric_difference(shape).area < 1e-9
        np.testing.assert_allclose(row.geometry.length, shape.length, rtol=1e-9)
        np.testing.assert_allclose(row["vector"], mean_by_hand(model, regions, name), atol=5e-6)
        np.testing.assert_allclose(vectors.joint.xs(name, level="feature_id")["share"].sum(), 1)


def test_nothing_to_embed(model):
    with pytest.raises(DataError, match="gave no region"):
        model.embed_map(source({}))
    wrong = Source("text", lambda start: iter([Row("a", 0, 0, "text")]), {})
    with pytest.raises(DataError, match="Row 'a' holds no region"):
        model.embed_map(wrong)


# Files


def test_files_are_geoparquet(model, regions, out):
    duckdb = pytest.importorskip("duckdb")
    frame = gpd.read_parquet(out / "regions.parquet")
    assert frame["region_id"].tolist() == list(regions)
    assert frame.crs.is_geographic
    assert [shapely.from_wkb(c.outline).equals(g) for c, g in zip(regions.values(), frame.geometry, strict=True)]
    whole, _ = model.embed_regions(list(regions.values()))
    np.testing.assert_allclose(np.stack(frame["embedding"]), whole, atol=2e-6)
    inside = gpd.read_parquet(out / "entities.parquet", bbox=(0, 0, 1, 1))
    assert 0 < len(inside) < len(gpd.read_parquet(out / "entities.parquet"))
    for name, width in (("regions", model.dim), ("entities", model.width)):
        path = out / f"{name}.parquet"
        schema = pq.read_schema(path)
        assert schema.field("embedding").type.list_size == width
        geo, emb = (json.loads(schema.metadata[key]) for key in (b"geo", b"emb"))
        assert geo["version"] == "1.1.0"
        assert geo["columns"]["geometry"]["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]
        assert (emb["dimensions"], emb["model_hash"], emb["map_licence"]) == (width, "hash", "ODbL")
        assert emb["source"] == {"osm": "ODbL-1.0"}
        key = "region_id" if name == "regions" else "id"
        asked = f"select count(*), count(distinct {key}), min(bbox.xmin) from read_parquet('{path}')"
        ((count, distinct, lowest),) = duckdb.sql(asked).fetchall()
        assert count == distinct == pq.read_metadata(path).num_rows
        assert lowest >= 0
    asked = f"select id from read_parquet('{out}/entities.parquet') where tags['amenity'] = 'cafe'"
    assert duckdb.sql(asked).fetchall()


def test_files_and_frames_agree(model, regions, out):
    vectors = model.embed_map(source(regions))
    frame = gpd.read_parquet(out / "entities.parquet").set_index("id").loc[vectors.features.index]
    np.testing.assert_allclose(np.stack(frame["embedding"]), np.stack(vectors.features["vector"]), atol=5e-6)
    assert frame.geometry.to_crs(4326).geom_equals(vectors.features.geometry).all()
    joint = frame[["regions", "shares"]].explode(["regions", "shares"]).set_index("regions", append=True)["shares"]
    there = vectors.joint["share"].swaplevel().sort_index()
    np.testing.assert_allclose(joint.sort_index().to_numpy(float), there.to_numpy())


def test_buckets_and_chunks_change_nothing(model, regions, out, tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "BUFFER", 5)
    monkeypatch.setattr(embed_map.frames, "CHUNK_REGIONS", 2)
    monkeypatch.setattr(embed_map.write, "ROW_GROUP", 3)
    write_map(model, source(regions), tmp_path)
    for name in ("regions", "entities"):
        small, plain = (gpd.read_parquet(folder / f"{name}.parquet") for folder in (tmp_path, out))
        assert small.drop(columns="embedding").equals(plain.drop(columns="embedding"))
        np.testing.assert_allclose(np.stack(small["embedding"]), np.stack(plain["embedding"]), atol=5e-6)
    assert pq.read_metadata(tmp_path / "entities.parquet").num_row_groups > 2


def test_entities_are_in_order_within_a_file_of_parts():
    names = ["way/10", "relation/1", "way/9", "node/100", "node/20", "other/1"]
    assert sorted(names, key=gather.by_number) == ["node/20", "node/100", "way/9", "way/10", "relation/1", "other/1"]


def told(found, kept, dropped=None):
    """A ledger as the reader of OpenStreetMap gives it."""
    entities = {"found": found, "kept": kept, "dropped": dropped or {}, "noted": {}, "examples": {}}
    return lambda: {"entities": entities, "regions": {"noted": {"in several regions": 7}, "empty": 3}}


def test_ledger_and_summary(model, regions, tmp_path):
    of_kind = {kind: sum(name.startswith(kind) for name in world()[1]) for kind in ("node", "way", "relation")}
    found = {kind: n + 10 for kind, n in of_kind.items()}
    dropped = {kind: {"without tags": 10} for kind in of_kind}
    some = {**regions, "empty": Region(shapely.to_wkb(square(9, 9)))}
    written = write_map(model, source(some, told(found, of_kind, dropped)), tmp_path)
    ledger = read_json(tmp_path / "ledger.json")
    assert ledger == written.ledger
    assert ledger["written"] == of_kind
    assert ledger["not_written"] == {}
    assert ledger["skipped"] == {"no entities": 1}
    assert ledger["skipped_examples"] == {"no entities": ["empty"]}
    assert (ledger["licence"], ledger["model_hash"]) == ("ODbL", "hash")
    said = str(written)
    assert f"{tmp_path}: 12 regions, 48 entities" in said
    assert "ids found          26 nodes, 26 ways, 26 relations" in said
    assert "dropped            30 without tags" in said
    assert "in several regions" in said
    assert "regions left out   1 no entities" in said
    assert len(said.splitlines()) <= 10


def test_kept_ids_that_lie_in_no_region_are_said(model, regions, tmp_path):
    found = {"node": 999}
    written = write_map(model, source(regions, told(found, found)), tmp_path)
    assert written.ledger["not_written"] == {"node": 999 - written.ledger["written"]["node"]}
    assert "kept, not written  983 nodes" in str(written)


def test_nothing_to_write(model, tmp_path):
    empty = {"a": Region(shapely.to_wkb(square(0, 0)))}
    ledger = told({"node": 5}, {}, {"node": {"without tags": 5}})
    with pytest.raises(DataError, match=r"no entity is in any region \(5 nodes without tags, .*1 regions with no ent"):
        write_map(model, source(empty, ledger), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_unwritable(model, regions, tmp_path):
    (tmp_path / "file").write_text("here")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(DataError, match=r"cannot be written .*choose another folder"):
            write_map(model, source(regions), folder)


def test_the_antimeridian(model, tmp_path):
    outline = shapely.box(179.5, -17, 180.5, -16)
    land = {
        "way/1": (shapely.box(179.8, -16.8, 180.2, -16.2), {"natural": "wood"}),
        "way/2": (shapely.LineString([(179.9, -16.5), (180.1, -16.5)]), {"highway": "track"}),
        "node/3": (shapely.Point(180.25, -16.5), {"amenity": "cafe"}),
    }
    regions = {"fiji": region(outline, land), "west": region(square(-150, -17), {"way/9": (square(-150, -17), {})})}
    write_map(model, source(regions), tmp_path)
    frame = gpd.read_parquet(tmp_path / "entities.parquet").set_index("id")
    assert (frame.bounds.abs().max()[["minx", "maxx"]] <= 180).all()
    np.testing.assert_allclose(frame.geometry["way/1"].area, 0.4 * 0.6)
    np.testing.assert_allclose(frame.geometry["way/2"].length, 0.2)
    np.testing.assert_allclose(frame.geometry["node/3"].x, -179.75)
    (answer,) = like(tmp_path, "west", 1)
    assert (answer.name, answer.lon, answer.lat) == ("fiji", -180, -16.5)


KILLED = """
import os, signal, sys
from pathlib import Path
from graticule.embed_map import write_map
from tests.map_model import model
from tests.test_embed_map import source, world

def records(start, plain=source(world()[0]).records):
    for i, row in enumerate(plain(start)):
        if i == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        yield row

from dataclasses import replace
from graticule.embed_map import frames, write
frames.CHUNK_REGIONS = write.ROW_GROUP = 2
write_map(model(), replace(source(world()[0]), records=records), Path(sys.argv[1]))
"""


def test_killed_leaves_the_files_of_before(model, regions, tmp_path):
    write_map(model, source(regions), tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == old
    assert any((tmp_path / ".unfinished").iterdir())
    write_map(model, source(regions), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"regions.parquet", "entities.parquet", "ledger.json"}


def test_an_error_keeps_what_was_there(model, regions, tmp_path):
    write_map(model, source(regions), tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def records(start):
        yield from source(regions).records(start)
        raise DataError("city.osm.pbf ends too early.")

    with pytest.raises(DataError, match="ends too early"):
        write_map(model, replace(source(regions), records=records), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


# Search


def test_like_by_hand(out):
    frame = gpd.read_parquet(out / "entities.parquet")
    vectors = np.stack(frame["embedding"]).astype(np.float64)
    unit = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    asked = frame.index[frame["id"] == "way/2"][0]
    order = [i for i in np.argsort(-unit @ unit[asked], kind="stable") if i != asked][:4]
    found = like(out, "way/2", 4)
    assert [one.name for one in found] == frame["id"][order].tolist()
    np.testing.assert_allclose([one.similarity for one in found], (unit @ unit[asked])[order], atol=1e-6)
    assert [one.tags for one in found] == [dict(frame["tags"][i]) for i in order]
    assert all(one.distance_km > 0 for one in found)


def test_like_regions_and_another_map(model, regions, out, tmp_path):
    found = like(out, "1/1", 20)
    assert len(found) == 11
    assert "1/1" not in [one.name for one in found]
    scores = [one.similarity for one in found]
    assert scores == sorted(scores, reverse=True)
    other = {f"copy of {name}": content for name, content in regions.items()}
    write_map(model, source(other), tmp_path)
    best = like(out, "1/1", 1, other=tmp_path)[0]
    assert best.name == "copy of 1/1"
    np.testing.assert_allclose(best.similarity, 1, atol=1e-5)
    far = like(out, "0/0", 20, apart_km=150)
    assert {one.name for one in far} <= set(regions)
    assert all(one.distance_km >= 150 for one in far)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda out: like(out, "9/9/9"), "regions.parquet has no '9/9/9'; it has 12 rows"),
        (lambda out: like(out, "way/123456"), "entities.parquet has no 'way/123456'"),
        (lambda out: like(out, "1/1", 0), "at least one answer"),
        (lambda out: like(out / "none", "1/1"), "holds no finished map"),
        (lambda out: like(out, "1/1", other=out / "none"), "holds no finished map"),
        (lambda out: between(out, "1/1", "none"), "has no 'none'"),
        (lambda out: between(out, "1/1", "0/0", steps=1), "at least two steps"),
    ],
)
def test_wrong_questions(out, ask, said):
    with pytest.raises((DataError, SettingError), match=said):
        ask(out)


def test_vectors_of_two_models(regions, out, tmp_path):
    write_map(make_model(width=16), source(regions), tmp_path)
    with pytest.raises(DataError, match="vectors of different models"):
        like(out, "1/1", other=tmp_path)


def test_a_damaged_file_is_named(model, regions, tmp_path):
    write_map(model, source(regions), tmp_path)
    path = tmp_path / "regions.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"regions.parquet is damaged .*Run the same"):
        like(tmp_path, "1/1")


def test_one_region_has_no_like(model, regions, tmp_path):
    write_map(model, source({"1/1": regions["1/1"]}), tmp_path)
    assert like(tmp_path, "1/1") == []
    assert [one.name for one in between(tmp_path, "1/1", "1/1", 3)] == ["1/1"] * 3


def test_between(out):
    way = between(out, "0/0", "3/2", steps=6)
    assert [way[0].name, way[-1].name] == ["0/0", "3/2"]
    assert not {"0/0", "3/2"} & {one.name for one in way[1:-1]}
    np.testing.assert_allclose([way[0].similarity, way[-1].similarity], 1, atol=1e-6)
    assert [one.name for one in between(out, "3/2", "0/0", steps=6)] == [one.name for one in way[::-1]]


def test_the_points_between_lie_evenly_on_the_great_circle():
    a, b = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    points = embed_map.search._great_circle(a, b, np.linspace(0, 1, 4))
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(points, np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1), atol=1e-12)
    assert np.isfinite(embed_map.search._great_circle(a, -a, np.linspace(0, 1, 3))).all()
    np.testing.assert_allclose(embed_map.search._great_circle(a, a, np.linspace(0, 1, 3)), [a] * 3)


# srai's interface


@pytest.fixture
def srai_frames():
    """Frames as srai's loaders, regionalizers and joiners make them, and the regions by our reader's rules."""
    regions, entities = world()
    keys = sorted({key for tags in TAGS for key in tags})
    features = gpd.GeoDataFrame(
        {key: [tags.get(key) for _, tags in entities.values()] for key in keys},
        geometry=[shape for shape, _ in entities.values()],
        index=list(entities),
        crs=4326,
    ).rename_axis("feature_id")
    outlines = gpd.GeoDataFrame(
        geometry=[shapely.from_wkb(content.outline) for content in regions.values()], index=list(regions), crs=4326
    ).rename_axis("region_id")
    pd = pytest.importorskip("pandas")
    pairs = [(name, own) for name, content in regions.items() for own in content.ids]
    joint = gpd.GeoDataFrame(index=pd.MultiIndex.from_tuples(pairs, names=["region_id", "feature_id"]))
    return outlines, features, joint, regions


def test_transform_is_the_same_as_regions(model, srai_frames):
    outlines, features, joint, regions = srai_frames
    embedder = GeoJepaEmbedder(model)
    assert embedder.fit(outlines, features, joint) is embedder
    frame = embedder.transform(outlines, features, joint)
    assert frame.index.equals(outlines.index)
    whole, _ = model.embed_regions(list(regions.values()))
    np.testing.assert_allclose(frame.to_numpy(), whole, atol=1e-4)
    assert embedder.fit_transform(outlines, features, joint).equals(frame)


def test_our_frames_go_through_the_embedder(model, srai_frames):
    vectors = model.embed_map(source(srai_frames[-1]))
    frame = GeoJepaEmbedder(model).transform(vectors.regions, vectors.features, vectors.joint)
    columns = [f"vector_{i}" for i in range(model.dim)]
    np.testing.assert_allclose(frame.to_numpy(), vectors.regions[columns].to_numpy(), atol=1e-4)


def test_regions_without_features_have_a_vector(model, srai_frames):
    outlines, features, joint, _ = srai_frames
    frame = GeoJepaEmbedder(model).transform(outlines, features, joint.iloc[:0])
    assert len(frame) == len(outlines)
    assert np.isfinite(frame.to_numpy()).all()


def test_cells_as_tags():
    tag = embed_map.embedder._tag
    assert tag("building", "yes") == {"building": "yes"}
    assert tag("sustenance", "amenity=cafe") == {"amenity": "cafe"}
    assert tag("website", "https://a.b/?c=d") == {"website": "https://a.b/?c=d"}
    assert tag("bridge", True) == {"bridge": "yes"}
    assert [tag("a", value) for value in (None, False, float("nan"), "")] == [{}] * 4
    assert tag("lanes", 2) == {"lanes": "2"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r, f, j: (r.rename_axis(None), f, j), "frame of regions must have a named index"),
        (lambda r, f, j: (r, f.drop(columns="geometry"), j), "frame of features must have"),
        (lambda r, f, j: (r, f, j.reset_index(drop=True)), "must have the levels"),
        (lambda r, f, j: (r.iloc[1:], f, j), "'0/0', which is no region_id"),
        (lambda r, f, j: (r.to_crs(3857), f, j), "expected degrees"),
        (lambda r, f, j: (r.iloc[[0, *range(len(r))]], f, j), "names '0/0' twice"),
    ],
)
def test_frames_that_do_not_fit(model, srai_frames, spoil, said):
    with pytest.raises(DataError, match=said):
        GeoJepaEmbedder(model).transform(*spoil(*srai_frames[:3]))


# Loading


@pytest.fixture
def saved(tmp_path):
    return save_model(tmp_path / "run")


def test_load(saved, regions):
    folder, made = saved
    loaded = load_map(folder)
    assert isinstance(loaded, MapModel)
    some = list(regions.values())
    for a, b in zip(loaded.embed_regions(some)[1], made.embed_regions(some)[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not any(parameter.requires_grad for parameter in loaded.encoder.parameters())


def test_load_errors(saved, tmp_path, monkeypatch):
    folder, _ = saved
    monkeypatch.setattr(region_vectors, "INSIDE", tmp_path / "inside")
    with pytest.raises(DataError, match=r"holds no trained run \(run.json is missing\)"):
        load_map()
    with pytest.raises(DataError, match=r"holds no trained run \(run.json is missing\)"):
        load_map(tmp_path)
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(DataError, match="unfinished one: run the same `train` again"):
        load_map(tmp_path)
    about = read_json(folder / "run.json")
    write_json(folder / "run.json", {**about, "encoder": {**about["encoder"], "width": 16}})
    with pytest.raises(CacheError, match=r"model.safetensors does not fit .*run.json"):
        load_map(folder)
    write_json(folder / "run.json", {k: v for k, v in about.items() if k != "encoder"} | {"recipe": "melt"})
    with pytest.raises(DataError, match="holds a run of melt: it embeds places"):
        load_map(folder)
    write_json(folder / "run.json", {**about, "format": 99})
    with pytest.raises(CacheError, match="is of format 99, this version reads 1"):
        load_map(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    write_json(folder / "run.json", about)
    with pytest.raises(CacheError, match="damaged"):
        load_map(folder)


def test_the_inside_model_is_small_when_it_is_there():
    inside = Path(region_vectors.INSIDE)
    assert sum(path.stat().st_size for path in inside.glob("*")) <= 8 << 20
