import gzip
import json
import math
import os
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.data.columns import wkb_points
from graticule.data.source import Row, Skip
from graticule.data.tables import read_points, table
from graticule.errors import CoordinateError, DataError

ROWS = [
    {"pageid": 7, "title": "Harbour", "text": "Boats, nets\nand gulls.", "Latitude": 54.3, "LNG": 10.1},
    {"pageid": 8, "title": "Dune", "text": 'Sand "soft".', "Latitude": -23.5, "LNG": 359.0},
    {"pageid": 9, "title": "Peak", "text": "Snow.", "Latitude": 46.0, "LNG": -120.25},
]


def write_csv(path, rows, separator=","):
    quoted = [[f'"{str(v).replace(chr(34), chr(34) * 2)}"' for v in row.values()] for row in rows]
    text = "\n".join(separator.join(line) for line in [list(rows[0]), *quoted]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_jsonl(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def write_geojson(path, rows):
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [row["LNG"], row["Latitude"]]},
            "properties": {k: v for k, v in row.items() if k not in ("LNG", "Latitude")},
        }
        for row in rows
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "name": "x", "features": features}, indent=1))
    return path


WRITERS = {
    "a.csv": write_csv,
    "a.csv.gz": write_csv,
    "a.tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "semicolon.csv": lambda path, rows: write_csv(path, rows, ";"),
    "a.jsonl": write_jsonl,
    "a.jsonl.gz": write_jsonl,
    "a.parquet": write_parquet,
    "a.geojson": write_geojson,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows_and_resumes_anywhere(tmp_path, name):
    source = table(WRITERS[name](tmp_path / name, ROWS), text=["title", "text"])
    assert source.kind == "text"
    assert list(source.records(0)) == [
        Row("7", 10.1, 54.3, "Harbour. Boats, nets\nand gulls."),
        Row("8", -1.0, -23.5, 'Dune. Sand "soft".'),
        Row("9", -120.25, 46.0, "Peak. Snow."),
    ]
    for start in range(5):
        assert list(source.records(start)) == list(source.records(0))[start:]


@pytest.mark.parametrize("name", WRITERS)
def test_read_points_keeps_every_column(tmp_path, name):
    batches = list(read_points(WRITERS[name](tmp_path / name, ROWS)))
    points = np.concatenate([points for _, points in batches])
    np.testing.assert_allclose(points, [[10.1, 54.3], [-1, -23.5], [-120.25, 46]])
    columns = pa.Table.from_batches([batch for batch, _ in batches]).to_pydict()
    assert columns["pageid"] == [7, 8, 9]
    assert columns["text"] == [row["text"] for row in ROWS]
    if "geojson" not in name:
        assert columns["LNG"] == [10.1, 359.0, -120.25]


def test_text_is_guessed_and_a_table_without_text_gives_points(tmp_path):
    described = write_jsonl(tmp_path / "a.jsonl", [{"name": "Ys", "Description": "Sunken.", "x": 1, "y": 2}])
    assert next(table(described).rows()).content == "Sunken."
    bare = write_jsonl(tmp_path / "b.jsonl", [{"elevation": 3, "x": 1, "y": 2}])
    assert table(bare).kind == "point"
    assert list(table(bare).records(0)) == [Row("0", 1.0, 2.0, None)]


def test_chained_files_have_unique_ids_and_their_own_columns(tmp_path):
    (tmp_path / "sub").mkdir()
    first = write_jsonl(tmp_path / "wiki.jsonl", [{"id": 1, "title": "A", "text": "a", "lat": 1, "lon": 2}])
    second = write_jsonl(tmp_path / "voyage.jsonl.gz", [{"id": 1, "title": "B", "byline": "b", "lat": 1, "lng": 2}])
    twin = write_jsonl(tmp_path / "sub" / "wiki.jsonl", [{"id": 1, "title": "C", "text": "", "lat": 1, "lon": 2}])
    source = table([first, second], text=["title", "text", "byline"])
    assert [(row.id, row.content) for row in source.rows()] == [("wiki:1", "A. a"), ("voyage:1", "B. b")]
    assert list(source.records(1)) == list(source.records(0))[1:]
    records = list(table([first, twin], text=["title", "text"]).records(0))
    assert isinstance(records[1], Skip)
    assert records[1].reason == "empty text"
    assert len({row.id for row in table([first, second, twin], text="title").rows()}) == 3


def test_rows_without_place_or_text_are_skipped_with_the_reason(tmp_path):
    lines = [
        '{"text": "a", "lat": null, "lon": 3}',
        '{"text": "a", "lon": 3}',
        '{"text": "a", "lat": NaN, "lon": 3}',
        '{"text": "a", "lat": "", "lon": 3}',
        '{"text": "a", "lat": "north", "lon": 3}',
        '{"text": "a", "lat": true, "lon": [3]}',
        '{"text": "  ", "lat": 1, "lon": 3}',
        '{"text": "cut',
        "[1, 2]",
        "",
        '{"text": "good", "lat": "1.5", "lon": 3}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = table(tmp_path / "a.jsonl", text="text")
    reasons = [r.reason if isinstance(r, Skip) else r.content for r in source.records(0)]
    bad = ["coordinates are not numbers"] * 2
    assert reasons == ["no coordinates"] * 4 + bad + ["empty text", "not JSON", "not a JSON object", "good"]
    assert all(f"a.jsonl:{i}" in r.where for i, r in enumerate(source.records(0)) if isinstance(r, Skip))
    (tmp_path / "a.csv").write_text("lon,lat,text\n1,2,a\n1,2\n\n1,2,a,b\n3,4,\n5,6,f\n")
    found = [r.reason if isinstance(r, Skip) else r.lon for r in table(tmp_path / "a.csv").records(0)]
    assert found == [1.0, "ragged row", "ragged row", "empty text", 5.0]


@pytest.mark.parametrize(
    ("lon", "lat", "says"),
    [(22.5, 113.4, "swapped"), (4e5, 5e6, "metres"), (361, 10, "360"), ("inf", 10, "finite"), (10, 361, "metres")],
)
def test_impossible_coordinates_stop_the_reading_with_file_and_row(tmp_path, lon, lat, says):
    path = write_csv(tmp_path / "p.csv", [{"lon": 1, "lat": 2, "name": "a"}, {"lon": lon, "lat": lat, "name": "b"}])
    for reading in (lambda: list(table(path).records(0)), lambda: list(read_points(path))):
        with pytest.raises(CoordinateError, match=rf"(?=.*p\.csv:1 ).*{says}"):
            reading()


@pytest.mark.parametrize("cell", ["", "NaN", "north"])
def test_read_points_drops_nothing(tmp_path, cell):
    rows = [{"lon": i % 90, "lat": 2} for i in range(400_000)]
    text = "lon,lat\n" + "".join(f"{r['lon']},{r['lat']}\n" for r in rows) + f"1,{cell}\n"
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(CoordinateError, match=r"p\.csv:400000"):
        list(read_points(tmp_path / "p.csv"))


def test_read_points_gives_one_schema_and_keeps_codes(tmp_path):
    n = 600_000  # several blocks: the kinds of the first do not hold for the last
    lines = [f"{i},{'' if i < n - 2 else 1.5},007,{i},{12345678901234567890},1.0,2\n" for i in range(n - 1)]
    text = "n,late,code,mixed,long,lon,lat\n" + "".join(lines) + "9,3,7,word,3,1,2\n"
    (tmp_path / "p.csv").write_text(text)
    batches = list(read_points(tmp_path / "p.csv"))
    assert len(batches) > 1
    whole = pa.Table.from_batches([batch for batch, _ in batches])
    kinds = ["int64", "double", "string", "string", "string", "double", "int64"]
    assert [str(kind) for kind in whole.schema.types] == kinds
    assert whole["late"].null_count == n - 2
    assert whole["code"][0].as_py() == "007"
    assert whole["long"][0].as_py() == "12345678901234567890"
    assert sum(len(points) for _, points in batches) == n


def test_read_points_of_json_unites_the_columns_of_all_batches(tmp_path):
    rows = [{"lon": 1, "lat": 2, "a": 1} for _ in range(20_000)] + [{"lon": 1, "lat": 2, "a": 1.5, "b": "x"}]
    batches = list(read_points(write_jsonl(tmp_path / "p.jsonl", rows)))
    whole = pa.Table.from_batches([batch for batch, _ in batches])
    assert whole.to_pylist()[-1] == {"lon": 1, "lat": 2, "a": 1.5, "b": "x"}
    assert whole["b"].null_count == 20_000
    (tmp_path / "cut.jsonl").write_text('{"lon": 1, "lat": 2}\n{"lon": 1')
    with pytest.raises(DataError, match=r"cut\.jsonl:1 is not JSON"):
        list(read_points(tmp_path / "cut.jsonl"))


def test_missing_columns_are_named(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"east": 1, "north": 2, "word": "w"}])
    with pytest.raises(DataError, match=r"a\.csv has no coordinates. Its columns: east, north, word.*lon=NAME"):
        table(path)
    with pytest.raises(DataError, match="no column 'eats'"):
        next(read_points(path, lon="eats", lat="north"))
    with pytest.raises(DataError, match="no column text"):
        table(path, lon="east", lat="north", text="text")
    with pytest.raises(DataError, match="text column 'wrod'"):
        table(path, lon="east", lat="north", text=["word", "wrod"])
    with pytest.raises(DataError, match="no column 'key'"):
        table(path, lon="east", lat="north", id="key")
    source = table(path, lon="east", lat="north", text="word", id="word")
    assert list(source.records(0)) == [Row("w", 1.0, 2.0, "w")]


def test_a_damaged_file_is_named(tmp_path):
    rows = [{"id": i, "lon": 1, "lat": 2, "text": f"{i * 7919 % 1000}"} for i in range(5000)]
    whole = write_jsonl(tmp_path / "a.jsonl.gz", rows).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    source = table(tmp_path / "cut.jsonl.gz")
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz is truncated"):
        list(source.records(0))
    (tmp_path / "plain.csv.gz").write_text("lon,lat\n1,2\n")
    with pytest.raises(DataError, match=r"plain\.csv\.gz cannot be read"):
        table(tmp_path / "plain.csv.gz")
    (tmp_path / "latin.csv").write_bytes("lon,lat,text\n1,2,Malmö\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        list(table(tmp_path / "latin.csv").records(0))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match=r"bad\.parquet cannot be read as Parquet"):
        table(tmp_path / "bad.parquet")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        table(tmp_path / "empty.csv")
    (tmp_path / "ragged.csv").write_text("lon,lat\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match=r"ragged\.csv"):
        list(read_points(tmp_path / "ragged.csv"))
    with pytest.raises(DataError, match="does not exist"):
        table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="Endings"):
        table(tmp_path / "a.xlsx")


def test_cells_longer_than_the_csv_module_allows_by_default(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"lon": 1, "lat": 2, "text": "w" * 200_000}])
    assert len(next(table(path).rows()).content) == 200_000


def test_geojson_takes_a_point_on_other_geometries(tmp_path):
    horseshoe = shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9), (0, 8), (8, 8), (8, 1), (0, 1)])
    shapes = [shapely.geometry.mapping(horseshoe), None, {"type": "Point", "coordinates": []}, {"type": "Heap"}]
    features = [{"type": "Feature", "id": i, "geometry": g, "properties": {"x": 5}} for i, g in enumerate(shapes)]
    document = {"features": [*features, "odd"], "type": "FeatureCollection"}
    (tmp_path / "a.geojson").write_text(json.dumps(document))
    row, *skips = table(tmp_path / "a.geojson").records(0)
    assert shapely.contains_xy(horseshoe, row.lon, row.lat)
    reasons = ["no coordinates", "no coordinates", "coordinates are not numbers", "not a feature"]
    assert [skip.reason for skip in skips] == reasons
    (tmp_path / "cut.geojson").write_text(json.dumps(document)[:-40])
    with pytest.raises(DataError, match="truncated"):
        list(table(tmp_path / "cut.geojson").records(0))
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="FeatureCollection"):
        table(tmp_path / "other.json")


def test_geojson_larger_than_a_chunk_streams_whole(tmp_path):
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [i % 180, 1]}, "properties": {"text": "ü" * i}}
        for i in range(1, 2500)
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"features": features}, ensure_ascii=False), encoding="utf-8")
    assert [len(row.content) for row in table(tmp_path / "a.geojson").rows()] == list(range(1, 2500))


def test_wkb_of_points_and_shapes():
    line = shapely.LineString([(0, 0), (2, 2)])
    big_endian = struct.pack(">BIdd", 0, 1, 3.0, 4.0)
    values = [struct.pack("<BIdd", 1, 1, 1.0, 2.0), None, shapely.to_wkb(line), big_endian, shapely.Point().wkb]
    points = wkb_points(values)
    np.testing.assert_allclose(points[[0, 3]], [[1, 2], [3, 4]])
    assert np.isnan(points[[1, 4]]).all()
    assert line.distance(shapely.Point(points[2])) < 1e-9


def test_geoparquet_places_come_from_the_geometry(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.GeoDataFrame({"name": ["a", "b"]}, geometry=geopandas.points_from_xy([1, 2], [3, 4]), crs=4326)
    frame.to_parquet(tmp_path / "a.parquet")
    assert list(table(tmp_path / "a.parquet").records(0)) == [Row("0", 1.0, 3.0, "a"), Row("1", 2.0, 4.0, "b")]
    ((batch, points),) = read_points(tmp_path / "a.parquet")
    assert batch.schema.names == ["name", "geometry"]
    assert points.tolist() == [[1, 3], [2, 4]]
    frame.to_crs(3857).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="expected degrees"):
        table(tmp_path / "m.parquet")


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.floats(-360, 360),
            st.floats(-90, 90),
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_csv_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_csv(path, [{"lon": x, "lat": y, "text": words} for x, y, words in rows])
    for (x, y, words), record in zip(rows, table(path, text="text").records(0), strict=True):
        if words.strip():
            assert record.content == words.strip()
            assert record.lat == y
            assert -180 <= record.lon < 180
            assert math.isclose(math.cos(math.radians(record.lon - x)), 1, abs_tol=1e-9)
        else:
            assert record.reason == "empty text"
    points = np.concatenate([points for _, points in read_points(path)])
    np.testing.assert_array_equal(points[:, 1], [y for _, y, _ in rows])


@pytest.mark.skipif("GRATICULE_DATA" not in os.environ, reason="GRATICULE_DATA does not name the folder of real data")
def test_the_real_texts():
    folder = Path(os.environ["GRATICULE_DATA"]) / "text"
    chain = [folder / "wikipedia_en_geo_balanced.jsonl.gz", folder / "wikivoyage_en_2024.jsonl.gz"]
    source = table(chain, text=["title", "text", "byline"])
    records = list(source.records(0))
    counts = Counter(r.reason if isinstance(r, Skip) else "row" for r in records)
    assert counts == {"row": 28_484 + 17_402, "empty text": 26}
    assert len({r.id for r in records if isinstance(r, Row)}) == 45_886
    assert list(source.records(len(records) - 3)) == records[-3:]
    assert sum(1 for _ in table(folder / "factbook.jsonl.gz").rows()) == 255
