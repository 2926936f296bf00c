import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graticule.data.vectors import VectorTable
from graticule.errors import DataError
from graticule.geo.coords import uniform_places
from graticule.geo.geoparquet import write_geoparquet
from graticule.geo.int8 import column_scales, to_int8

SIZES = (7, 1, 12, 5)  # of row groups


def write(path, vectors, points, names=None, **about):
    column = {"id": pa.array(range(100, 100 + len(points)))} if names is None else {"name": pa.array(names)}
    batches = []
    start = 0
    for size in SIZES:
        rows = slice(start, start + size)
        values = {name: values[rows] for name, values in column.items()}
        batches.append((pa.RecordBatch.from_pydict(values), points[rows], vectors[rows]))
        start += size
    write_geoparquet(path, batches, about={"model": "m", "model_hash": "h", **about})


@pytest.fixture
def points():
    return uniform_places(sum(SIZES), seed=3)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(sum(SIZES), 6)).astype(np.float32)


def joined(table, start=0):
    parts = list(table.batches(start))
    return tuple(np.concatenate([part[i] for part in parts]) for i in (0, 1))


def test_rows_come_in_order_from_any_row_on(tmp_path, points, vectors, monkeypatch):
    monkeypatch.setattr("graticule.data.vectors.ROWS", 4)
    path = tmp_path / "v.parquet"
    write(path, vectors, points)
    table = VectorTable(path)
    assert (len(table), table.dim) == (25, 6)
    for start in range(25):
        found = joined(table, start)
        np.testing.assert_array_equal(found[0], points[start:])
        np.testing.assert_array_equal(found[1], vectors[start:])
    assert list(table.batches(25)) == []


def test_int8_comes_back_by_its_scales(tmp_path, points, vectors):
    scales = column_scales(vectors)
    path = tmp_path / "v.parquet"
    write(path, to_int8(vectors, scales), points, quantization={"type": "int8", "scale": scales.tolist()})
    np.testing.assert_allclose(joined(VectorTable(path))[1], vectors, atol=float(scales.max()) / 2 + 1e-6)


def test_float16_is_read(tmp_path, points, vectors):
    path = tmp_path / "v.parquet"
    write(path, vectors, points)
    table = pq.read_table(path)
    half = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).reshape(-1)), 6)
    place = table.schema.get_field_index("embedding")
    changed = table.set_column(place, "embedding", half)
    pq.write_table(changed, path)
    np.testing.assert_array_equal(joined(VectorTable(path))[1], vectors.astype(np.float16).astype(np.float32))


def test_names_by_the_number_of_the_row(tmp_path, points, vectors):
    names = [f"spot {i}" for i in range(25)]
    write(tmp_path / "named.parquet", vectors, points, names)
    write(tmp_path / "numbered.parquet", vectors, points)
    asked = [24, 0, 7, 8, 7]
    assert VectorTable(tmp_path / "named.parquet").names(asked) == [names[i] for i in asked]
    assert VectorTable(tmp_path / "numbered.parquet").names(asked) == [str(100 + i) for i in asked]
    bare = pq.read_table(tmp_path / "numbered.parquet").drop_columns("id")
    pq.write_table(bare, tmp_path / "bare.parquet")
    assert VectorTable(tmp_path / "bare.parquet").names([3, 1]) == ["row 3", "row 1"]
    assert VectorTable(tmp_path / "bare.parquet").names([]) == []


def test_a_folder_of_files_is_one_table(tmp_path, points, vectors):
    write(tmp_path / "b.parquet", vectors + 1, points, [f"b{i}" for i in range(25)])
    write(tmp_path / "a.parquet", vectors, points, [f"a{i}" for i in range(25)])
    table = VectorTable(tmp_path)
    assert len(table) == 50
    np.testing.assert_array_equal(joined(table, 20)[1], np.concatenate([vectors[20:], vectors + 1]))
    assert table.names([30, 2]) == ["b5", "a2"]
    write(tmp_path / "c.parquet", vectors, points, model_hash="other")
    with pytest.raises(DataError, match="vectors of different models"):
        _ = VectorTable(tmp_path).emb


def test_what_holds_no_vectors_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no .parquet file"):
        len(VectorTable(tmp_path))
    path = tmp_path / "x.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"x.parquet is no Parquet file of vectors: write one by `graticule embed`"):
        len(VectorTable(path))
    pq.write_table(pa.table({"lon": [1.0]}), path)
    with pytest.raises(DataError, match="does not say which model made its vectors"):
        _ = VectorTable(path).emb
