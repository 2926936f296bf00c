"""The map: an embedding of the world as one HTML page that works offline, by double-click."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import DataError, SettingError
from graticule.geo import coords
from graticule.geo.coords import Points

SERIES = ("scales", "middles", "means", "shares")  # a number for each component
COMPONENTS = 64  # vectors are reduced to at most this many numbers a place
STRETCH_PERCENT = (2.0, 98.0)  # colours are stretched between these percentiles by area
MAX_PIXELS = 1_500_000
WHOLE = 32767  # a cosine of 1, as int16

Floats = NDArray[np.floating[Any]]
Overlays = Mapping[str, tuple[ArrayLike, Sequence[str] | None]]


def world_lattice(step_deg: float = 1.0) -> Points:
    """Cell centres of a plate-carrée grid, row by row from the north-west: (n, 2) lon/lat degrees.

    One degree gives 360 x 180 = 64,800 places and a page below 6 MB. `step_deg` must divide 180.
    """
    rows = round(180 / step_deg) if step_deg > 0 else 0
    if rows < 1 or abs(rows * step_deg - 180) > 1e-6:
        raise SettingError(f"step_deg must be positive and divide 180 degrees, got {step_deg:g}. Try 1, 1.5 or 2.")
    lon, lat = np.meshgrid(*_cell_centres(2 * rows, rows))
    return coords.lonlat(lon=lon, lat=lat)


def write_map(
    path: str | Path,
    *,
    lonlat: ArrayLike,
    vectors: ArrayLike,
    title: str,
    names: Sequence[str] | None = None,
    about: str | None = None,
    points: Overlays | None = None,
    questions: Mapping[str, ArrayLike] | None = None,
) -> Path:
    """Write one self-contained page that shows `vectors` (n, d) of the places `lonlat` (n, 2) on a world map.

    The places should cover the world evenly (`world_lattice`, `fibonacci_lattice`); where none is near, the map
    stays blank. `names`: one a place. `about`: a paragraph under the title. `points`: dots to overlay,
    name -> (lonlat (m, 2), m names or None). `questions`: name -> vector (d,), of a text, a picture or anything else in
    the space of the places; the page opens with how similar every place is to the first. It asks the network for
    nothing; the browser computes cosine similarity between places from int8 scores on at most 64 principal components,
    those of questions are exact to 1/32767.

    Raises DataError for NaN, zero or identical vectors, lengths or widths that differ, fewer than 3 places.
    """
    places, values = _checked(lonlat, vectors, names)
    raster = nearest_rows(places)
    scores = quantise(values, area_weights(raster, len(places)))
    if not len(scores.shares):
        raise DataError("vectors must differ, but all point in the same direction: there is nothing to draw.")
    data = {
        **scores_entry(scores),
        "dimensions": values.shape[1],
        "cosine_error": round(cosine_error(values, scores), 5),
        "places": {"count": len(places), "centidegrees": pack(np.rint(places * 100).astype("<i2"))},
        "raster": _raster_entry(raster, len(places)),
        "names": names_entry(names),
        "points": [_overlay_entry(name, *overlay) for name, overlay in (points or {}).items()],
        "questions": [_question_entry(name, vector, values) for name, vector in (questions or {}).items()],
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(filled("map.html", title, about, data), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Scores:
    """Scores on orthonormal axes as int8: value = codes * scales + means.

    `codes` (n, k) int8; `scales`, `middles`, `means` (k,), where codes * scales + middles are centred scores;
    `shares` (m <= k,) explained variance of the principal components;
    `limits` (m, 2) percentiles by area, about the mean. An axis beyond m carries what is left of the mean vector, so
    that cosines of the uncentred vectors survive.
    """

    codes: NDArray[np.int8]
    scales: Floats
    middles: Floats
    means: Floats
    shares: Floats
    limits: Floats

    def values(self) -> Floats:
        """The (n, k) scores the browser sees."""
        return self.codes * self.scales + self.means


def quantise(vectors: Floats, weights: Floats, components: int = COMPONENTS) -> Scores:
    """(n, d) vectors -> int8 scores of their directions on the leading principal components, one scale a component."""
    unit = unit_vectors(vectors)
    mean = weights @ unit
    axes, shares = principal_components(unit, weights, components)
    axes, shown = _with_mean(axes, mean, components)
    centred = (unit - mean) @ axes
    low, high = centred.min(axis=0), centred.max(axis=0)
    middles, scales = (low + high) / 2, np.maximum((high - low) / 2, 1e-12) / 127
    limits = np.array([percentiles(column, weights) for column in centred.T[:shown]]).reshape(-1, 2)
    codes = np.rint((centred - middles) / scales).astype(np.int8)
    return Scores(codes, scales, middles, mean @ axes + middles, shares[:shown], limits)


def principal_components(vectors: Floats, weights: Floats, components: int) -> tuple[Floats, Floats]:
    """(n, d) vectors, (n,) weights that sum to 1 -> orthonormal axes (d, k), shares of variance (k,); leading first.

    Axes without variance are left out; the largest loading of an axis is positive, so the sign is the same every time.
    """
    centred = vectors - weights @ vectors
    covariance = (centred * weights[:, None]).T @ centred
    variance, axes = np.linalg.eigh(covariance.astype(np.float64))
    variance, axes = np.maximum(variance[::-1], 0), axes[:, ::-1]
    if not variance.sum() > 1e-12:
        return axes[:, :0], variance[:0]
    shares = variance / variance.sum()
    kept = min(components, int((shares > 1e-7).sum()))
    axes = axes[:, :kept]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return axes * np.sign(largest), shares[:kept]


def cosine_error(vectors: Floats, scores: Scores, pairs: int = 4000) -> float:
    """The 95th percentile of |cosine of the page - cosine of the vectors| over random pairs of places (seeded)."""
    a, b = np.random.default_rng(0).integers(0, len(vectors), (2, pairs))
    unit, page = unit_vectors(vectors), unit_vectors(scores.values())
    difference = (unit[a] * unit[b]).sum(axis=1) - (page[a] * page[b]).sum(axis=1)
    return float(np.percentile(np.abs(difference), 95))


def nearest_rows(places: Points) -> NDArray[np.int64]:
    """(n, 2) lon/lat degrees -> (rows, columns) plate-carrée raster of the row number of the nearest place.

    Cells hold n (blank) where no place is nearer than 1.5 times the spacing of n even places. Places on
    the cell centres of a regular grid get exactly that grid.
    """
    n = len(places)
    if shape := _grid_shape(places):
        rows, columns = shape
        raster = np.full(shape, n)
        x, y = (places[:, 0] + 180) / 360 * columns, (90 - places[:, 1]) / 180 * rows
        raster[y.astype(int), x.astype(int)] = np.arange(n)
        return raster
    spacing_deg = np.degrees(np.sqrt(4 * np.pi / n))
    rows = int(np.clip(round(1.5 * 180 / spacing_deg), 90, 360))
    return _search_nearest(places, rows, 1.5 * spacing_deg)


def area_weights(raster: NDArray[np.int64], n: int) -> Floats:
    """The share of the Earth's mapped surface that each of n places stands for, from `nearest_rows`: (n,), sum 1."""
    lat = _cell_centres(raster.shape[1], raster.shape[0])[1]
    area = np.repeat(np.cos(np.radians(lat)), raster.shape[1])
    weights = np.bincount(raster.ravel(), area, minlength=n + 1)[:n]
    return np.asarray(weights / weights.sum())


def _checked(lonlat: ArrayLike, vectors: ArrayLike, names: Sequence[str] | None) -> tuple[Points, Floats]:
    places = _points(lonlat, "lonlat")
    values = number_table(vectors)
    for what, count in (("vectors", len(values)), ("names", len(places) if names is None else len(names))):
        if count != len(places):
            raise DataError(f"write_map needs one of {what} a place: {len(places)} places, {count} {what}.")
    if len(places) < 3:
        raise DataError(f"A map needs at least 3 places, got {len(places)}.")
    check_directions(values)
    return places, values


def number_table(vectors: ArrayLike, what: str = "vectors") -> Floats:
    """Vectors as an (n, d) array of float32, or DataError."""
    try:
        values = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be an (n, d) array of numbers: {error}.") from error
    if values.ndim != 2 or not values.shape[1]:
        raise DataError(f"{what} must be an (n, d) array of numbers, got shape {values.shape}.")
    return values


def check_directions(vectors: Floats, what: str = "vectors") -> None:
    """DataError for rows of (n, d) numbers that have no direction."""
    for problem, bad in (("NaN or infinity", ~np.isfinite(vectors).all(axis=1)), ("only zeros", ~vectors.any(axis=1))):
        if bad.any():
            raise DataError(f"{what} must have a direction; row {bad.argmax()} has {problem} ({bad.sum()} such rows).")


def _points(lonlat: ArrayLike, what: str) -> Points:
    array = np.asarray(lonlat)
    if array.ndim != 2 or array.shape[1] != 2:
        raise DataError(f"{what} must be an (n, 2) array of lon/lat degrees, got shape {array.shape}.")
    return coords.lonlat(lon=array[:, 0], lat=array[:, 1], where=f"{what} row")


def unit_vectors(vectors: Floats) -> Floats:
    """(n, d) vectors, none of them zero -> the same at length 1."""
    scaled = vectors / np.abs(vectors).max(axis=1, keepdims=True)
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))


def _with_mean(axes: Floats, mean: Floats, components: int) -> tuple[Floats, int]:
    """The axes and, in the last column, the direction of what they miss of the mean; how many are components."""

    def missed(kept: Floats) -> Floats:
        return np.asarray(mean - kept @ (kept.T @ mean))

    if np.linalg.norm(missed(axes)) < 1e-6:
        return axes, axes.shape[1]
    axes = axes[:, : components - 1]
    rest = missed(axes)
    return np.column_stack([axes, rest / np.linalg.norm(rest)]), axes.shape[1]


def percentiles(values: Floats, weights: Floats) -> Floats:
    """The two STRETCH_PERCENT percentiles of (n,) values with (n,) weights that sum to 1."""
    order = np.argsort(values, kind="stable")
    position = np.cumsum(weights[order]) - weights[order] / 2
    return np.asarray(np.interp(np.array(STRETCH_PERCENT) / 100, position, values[order]))


def _cell_centres(columns: int, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (np.arange(columns) + 0.5) * 360 / columns - 180, 90 - (np.arange(rows) + 0.5) * 180 / rows


def _grid_shape(places: Points) -> tuple[int, int] | None:
    """Rows and columns of the whole-world grid whose cell centres hold all places, or None."""
    counts = []
    for values, span_deg in ((places[:, 1], 180), (places[:, 0], 360)):
        steps = np.diff(np.unique(values.round(6)))
        count = round(span_deg / steps.min()) if len(steps) else 0
        position = (values + span_deg / 2) / span_deg * count - 0.5
        if np.abs(position - position.round()).max() > 1e-3:
            return None
        counts.append(count)
    rows, columns = counts
    return (rows, columns) if 0 < rows * columns <= MAX_PIXELS else None


def _search_nearest(places: Points, rows: int, reach_deg: float) -> NDArray[np.int64]:
    """Per raster row, compare with the places of the latitudes within reach."""
    order = np.argsort(places[:, 1])
    lat_sorted, xyz = places[order, 1], coords.unit_sphere(places[order])
    raster = np.full((rows, 2 * rows), len(places))
    lon, lats = _cell_centres(2 * rows, rows)
    for row, lat in enumerate(lats):
        first, last = np.searchsorted(lat_sorted, [lat - reach_deg, lat + reach_deg])
        if first == last:
            continue
        centres = np.column_stack([lon, np.full_like(lon, lat)])
        cosine = coords.unit_sphere(centres) @ xyz[first:last].T
        near = cosine.max(axis=1) >= np.cos(np.radians(min(reach_deg, 180)))
        raster[row, near] = order[first + cosine.argmax(axis=1)[near]]
    return raster


def pack(array: NDArray[Any]) -> str:
    """The bytes of an array, compressed, as text: `unpack` in shared.js reads them."""
    return base64.b64encode(gzip.compress(array.tobytes(), 6, mtime=0)).decode("ascii")


def scores_entry(scores: Scores) -> dict[str, Any]:
    """Scores as JSON: what `similarities` in shared.js computes with."""
    rounded = {
        name: [float(f"{v:.7g}") for v in getattr(scores, name)] for name in ("scales", "middles", "means", "shares")
    }
    return {**rounded, "limits": scores.limits.round(6).tolist(), "codes": pack(np.ascontiguousarray(scores.codes.T))}


def _raster_entry(raster: NDArray[np.int64], n: int) -> dict[str, Any]:
    kind = "Uint16" if n < 2**16 else "Uint32"
    cells = pack(raster.astype("<u2" if kind == "Uint16" else "<u4"))
    return {"rows": raster.shape[0], "columns": raster.shape[1], "kind": kind, "cells": cells}


def names_entry(names: Sequence[str] | None) -> dict[str, Any] | None:
    """One name a row as JSON: each name once, and the number of the name of each row."""
    if names is None:
        return None
    labels, rows = np.unique(np.array([str(name) for name in names]), return_inverse=True)
    return {"labels": labels.tolist(), "rows": pack(rows.astype("<u4"))}


def _overlay_entry(name: str, lonlat: ArrayLike, names: Sequence[str] | None) -> dict[str, Any]:
    places = _points(lonlat, f"points[{name!r}]")
    if names is not None and len(names) != len(places):
        raise DataError(f"points[{name!r}] needs one name a place: {len(places)} places, {len(names)} names.")
    return {
        "name": name,
        "lonlat": places.round(4).tolist(),
        "names": None if names is None else [str(n) for n in names],
    }


def _question_entry(name: str, vector: ArrayLike, places: Floats) -> dict[str, Any]:
    """The cosines of all places with one vector, as int16."""
    asked = number_table(np.asarray(vector)[None], f"questions[{name!r}]")
    if asked.shape[1] != places.shape[1]:
        raise DataError(f"questions[{name!r}] needs {places.shape[1]} numbers, as a place has, got {asked.shape[1]}.")
    check_directions(asked, f"questions[{name!r}]")
    cosine = unit_vectors(places) @ unit_vectors(asked)[0]
    return {"name": name, "similarity": pack(np.rint(np.clip(cosine, -1, 1) * WHOLE).astype("<i2"))}


def filled(template: str, title: str, about: str | None, data: dict[str, Any]) -> str:
    """An HTML template of this folder with {{title}}, {{about}}, {{data}} and the files it names put in."""
    folder = resources.files("graticule.web")
    parts = {
        "title": html.escape(title),
        "about": f'<p class="about">{html.escape(about)}</p>' if about else "",
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }

    def part(match: re.Match[str]) -> str:
        return parts[match[1]] if match[1] in parts else (folder / match[1]).read_text("utf-8")

    return re.sub(r"\{\{([\w.]+)\}\}", part, (folder / template).read_text("utf-8"))
