"""An external sort against the sort in memory, whatever the places and the sizes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.bulk import curve, staged
from graticule.geo.coords import lonlat, uniform_places
from graticule.geo.hilbert import hilbert_keys
from graticule.progress import Progress


def clusters(seed, spread_deg, n):
    rng = np.random.default_rng(seed)
    centre = uniform_places(3, seed=rng)[rng.integers(0, 3, n)]
    near = centre + rng.normal(scale=spread_deg, size=(n, 2))
    return lonlat(lon=near[:, 0].clip(-180, 180), lat=near[:, 1].clip(-90, 90))


@pytest.fixture(autouse=True)
def few_pieces(monkeypatch):
    """Counts are refined at once: 64 pieces, cut into 4."""
    monkeypatch.setattr(curve, "COARSE", 64)
    monkeypatch.setattr(curve, "FINE", 4)


@settings(max_examples=40)
@given(
    st.integers(0, 5),
    st.sampled_from([0.0, 1e-6, 1e-3, 1.0, 40.0]),
    st.integers(1, 80),
    st.integers(1, 30),
    st.integers(1, 40),
)
def test_shards_are_pieces_of_the_whole_sort(tmp_path_factory, seed, spread_deg, n, at_most, batch):
    places = clusters(seed, spread_deg, n)
    located = [
        (pa.RecordBatch.from_pydict({"k": np.arange(n)[i : i + batch]}), places[i : i + batch])
        for i in range(0, n, batch)
    ]
    cut = curve.runs(lambda: iter([points for _, points in located]), at_most)
    folder = tmp_path_factory.mktemp("rows")
    curve.distribute(iter(located), cut, folder, 2000, Progress("sort"))
    rows = []
    for number, count in enumerate(cut.rows):
        batch, points = curve.sorted_rows(list(staged.read(folder / f"{number:05d}.arrow")))
        assert len(batch) == count
        assert 0 < count <= at_most
        np.testing.assert_array_equal(points, places[batch["row"].to_numpy()])
        np.testing.assert_array_equal(batch["k"].to_numpy(), batch["row"].to_numpy())
        rows.extend(batch["row"].to_pylist())
    np.testing.assert_array_equal(rows, np.lexsort((np.arange(n), hilbert_keys(places))))
    assert len(list(folder.iterdir())) == len(cut.rows)
