"""Which regions or entities of a written map are like one of them, and the way from one region to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.embed_map.write import ENTITIES, LEDGER, REGIONS
from graticule.errors import DataError, SettingError, need
from graticule.geo.antimeridian import unwrapped
from graticule.geo.coords import Points, great_circle_km
from graticule.geo.geoparquet import vectors_of
from graticule.geo.measure import middles
from graticule.geo.ranking import Found, best_apart

KINDS = ("node", "way", "relation")
LEAST_SPREAD = 1e-6  # of a number over all rows, below which it says nothing


@dataclass(frozen=True)
class _Rows:
    """The rows of one file of vectors."""

    path: Path
    names: list[str]
    lonlat: Points
    vectors: NDArray[np.float32]

    def row(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError as error:
            raise DataError(f"{self.path} has no {name!r}; it has {len(self.names):,} rows.") from error


def like(
    out: str | Path, name: str, k: int = 5, *, other: str | Path | None = None, apart_km: float = 0.0
) -> list[Found]:
    """The k regions (or entities) most like the region (or entity) `name` of the map in the folder `out`, best first.

    They are those of the same map without the one asked for, or of the map in the folder `other`. Similarity is the
    cosine between vectors standardised over the map that is searched. With `apart_km` an answer lies at least so far
    from the one asked for and from every better answer.
    """
    if k < 1:
        raise SettingError(f"Ask for at least one answer, got k={k}.")
    file = ENTITIES if name.partition("/")[0] in KINDS else REGIONS
    asked = _read(Path(out), file)
    among = asked if other is None else _read(Path(other), file)
    if asked.vectors.shape[1] != among.vectors.shape[1]:
        raise DataError(f"{asked.path} and {among.path} hold vectors of different models: they cannot be compared.")
    i = asked.row(name)
    vector = _directions(asked.vectors[i : i + 1], among.vectors)[0]
    scores = _directions(among.vectors, among.vectors) @ vector
    if other is None:
        scores[i] = -np.inf
    place = asked.lonlat[i : i + 1]
    rows = list(best_apart(scores, among.lonlat, k, place=place, apart_km=apart_km))
    return _found(among, rows, scores, place)


def between(out: str | Path, a: str, b: str, steps: int = 5) -> list[Found]:
    """From region `a` to region `b` in `steps`: `a`, the actual regions nearest to the points between, `b`.

    The points lie evenly on the great circle between the two standardised vectors; each is answered by the most
    similar region but `a` and `b`, so that a region may come twice.
    """
    if steps < 2:
        raise SettingError(f"Ask for at least two steps, both ends among them, got {steps}.")
    rows = _read(Path(out), REGIONS)
    start, end = rows.row(a), rows.row(b)
    vectors = _directions(rows.vectors, rows.vectors)
    scores = vectors @ _great_circle(vectors[start], vectors[end], np.linspace(0, 1, steps)).T
    inner = scores[:, 1:-1].copy()
    if len(rows.names) > 2:
        inner[[start, end]] = -np.inf
    chosen = [start, *inner.argmax(axis=0).tolist(), end]
    place = rows.lonlat[start : start + 1]
    return [_found(rows, [i], scores[:, step], place)[0] for step, i in enumerate(chosen)]


def _great_circle(a: NDArray[Any], b: NDArray[Any], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors at the fractions `t` of the way from a to b (Shoemake 1985, slerp)."""
    angle = np.arccos(np.clip(a @ b, -1, 1))
    if np.sin(angle) < 1e-6:  # the same direction, or the opposite, to which no way is the shortest
        return np.asarray((1 - t)[:, None] * a + t[:, None] * b)
    way = np.sin((1 - t) * angle)[:, None] * a + np.sin(t * angle)[:, None] * b
    return np.asarray(way / np.sin(angle))


def standardised(vectors: NDArray[np.float32], over: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, d) vectors, each number with mean 0 and deviation 1 over the rows of `over`, or 0 where it hardly varies."""
    spread = over.std(axis=0, dtype=np.float64)
    centred = vectors - over.mean(axis=0, dtype=np.float64)
    return np.asarray(centred / np.where(spread > LEAST_SPREAD, spread, np.inf))


def _directions(vectors: NDArray[np.float32], over: NDArray[np.float32]) -> NDArray[np.float64]:
    """Standardised vectors at length 1."""
    plain = standardised(vectors, over)
    unit: NDArray[np.float64] = plain / np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-12)
    return unit


def _found(rows: _Rows, chosen: list[int], scores: NDArray[Any], place: Points) -> list[Found]:
    tags = _tags(rows.path, [rows.names[i] for i in chosen])
    away = great_circle_km(place, rows.lonlat[chosen])
    found = []
    for i, km in zip(chosen, away.tolist(), strict=True):
        lon, lat = rows.lonlat[i].tolist()
        found.append(Found(rows.names[i], lon, lat, float(scores[i]), km, tags.get(rows.names[i], {})))
    return found


def _tags(path: Path, names: list[str]) -> dict[str, dict[str, str]]:
    import pyarrow.parquet as pq

    if path.name != ENTITIES:
        return {}
    table = pq.read_table(path, columns=["id", "tags"], filters=[("id", "in", names)])
    return {row["id"]: dict(row["tags"]) for row in table.to_pylist()}


def _read(folder: Path, file: str) -> _Rows:
    import pyarrow.parquet as pq

    path = folder / file
    if not (folder / LEDGER).exists() or not path.exists():
        raise DataError(f"{folder} holds no finished map ({LEDGER} is missing): run `graticule osm ... -o {folder}`.")
    try:
        table = pq.read_table(path, columns=["id" if file == ENTITIES else "region_id", "geometry", "embedding"])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}). Run the same `graticule osm` again.") from error
    name = table["id" if file == ENTITIES else "region_id"].to_pylist()
    return _Rows(path, name, _middles(table["geometry"].to_pylist()), vectors_of(table["embedding"]))


def _middles(geometry: list[bytes]) -> Points:
    """(n, 2) middles of the bounding boxes, also of shapes that were cut at the antimeridian."""
    shapely = need("shapely", "osm")
    return middles(unwrapped(shapely.from_wkb(geometry), short_way=False))
