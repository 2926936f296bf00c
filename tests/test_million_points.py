"""A large table through `graticule embed`: nothing lost, in order, and other programs read the vectors.

20,000 rows; with GRATICULE_LARGE set, a million.
"""

import os

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from graticule.geo.coords import uniform_places

ROWS = 1_000_000 if os.environ.get("GRATICULE_LARGE") else 20_000
DIM = 16


@pytest.fixture(scope="module")
def places():
    return uniform_places(ROWS, seed=6)


@pytest.fixture
def embedded(run, places, command, tmp_path):
    """The file that the command wrote for a CSV of id, lon and lat."""
    columns = {"id": np.arange(ROWS), "lon": places[:, 0], "lat": places[:, 1]}
    pc.write_csv(pa.table(columns), tmp_path / "points.csv")
    out = tmp_path / "points.parquet"
    code, said, err = command("embed", tmp_path / "points.csv", "-o", out, "--model", run.folder, "-q")
    assert (code, err) == (0, "")
    assert said == f"{out}: {ROWS:,} rows\n"
    return out


def checked_rows():
    return np.r_[0, np.random.default_rng(0).integers(0, ROWS, 200), ROWS - 1]


def test_every_row_in_order_with_its_own_vector(run, places, embedded):
    file = pq.ParquetFile(embedded)
    assert file.metadata.num_rows == ROWS
    kind = file.schema_arrow.field("embedding").type
    assert (kind.list_size, kind.value_type) == (DIM, pa.float32())
    table = file.read()
    np.testing.assert_array_equal(table["id"].to_numpy(), np.arange(ROWS))
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(ROWS, DIM)
    rows = checked_rows()
    np.testing.assert_allclose(vectors[rows], run.embed_points(places[rows]), rtol=1e-4, atol=1e-5)


def test_geopandas_reads_it(places, embedded):
    frame = geopandas.read_parquet(embedded, columns=["id", "geometry"])
    assert (len(frame), frame.crs.to_epsg() or frame.crs.to_authority()[1]) == (ROWS, "CRS84")
    assert frame["id"].tolist() == list(range(ROWS))
    np.testing.assert_allclose(np.c_[frame.geometry.x, frame.geometry.y], places, atol=1e-12)
    some = geopandas.read_parquet(embedded, bbox=(0, 0, 30, 30))
    inside = (places >= 0).all(axis=1) & (places <= 30).all(axis=1)
    assert some["id"].tolist() == np.flatnonzero(inside).tolist()


def test_duckdb_reads_it(run, places, embedded):
    with duckdb.connect() as database:
        kinds = dict(database.sql(f"select column_name, column_type from (describe from '{embedded}')").fetchall())
        assert kinds["geometry"].startswith("GEOMETRY")
        assert kinds["embedding"].startswith("FLOAT[")
        count = database.sql(
            f"select count(*), min(len(embedding)), max(len(embedding)), count(distinct id) from '{embedded}'"
        )
        assert count.fetchall() == [(ROWS, DIM, DIM, ROWS)]
        asked = int(checked_rows()[5])
        query = f"""
            with v as (select id, embedding::float[{DIM}] as e from '{embedded}')
            select b.id from v a, v b where a.id = {asked} order by array_distance(a.e, b.e), b.id limit 1
        """
        assert database.sql(query).fetchall() == [(asked,)]
        boxes = database.sql(f"select count(*) from '{embedded}' where bbox.xmin <> lon or bbox.ymax <> lat")
        assert boxes.fetchall() == [(0,)]
