"""A place, a text or a picture as the question; places or rows of any modality as the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.data.store import Table
from graticule.data.vectors import NAMES
from graticule.embed import Model, Vectors
from graticule.errors import DataError, SettingError, unknown
from graticule.geo.coords import Points, fibonacci_lattice, great_circle_km, lonlat
from graticule.geo.ranking import Found, best_apart
from graticule.learners.features import cached_features, raw_features

PLACES = 50_000  # lattice points when no table of places is given: about 100 km apart
LABEL = 60  # characters of a text shown


@dataclass(frozen=True)
class Gallery:
    """What can be found: one row each with a name, a place and a vector."""

    modality: str
    names: list[str]
    lonlat: Points
    vectors: Vectors


def gallery(model: Model, modality: str = "place", *, table: Path | None = None) -> Gallery:
    """The rows of a modality the model was trained on, or places: of `table`, else an even lattice of the Earth."""
    if modality == "place":
        names, points = _places(table)
        return Gallery(modality, names, points, model.share(model.embed_points(points)))
    entry = model.about["data"].get(modality)
    if entry is None:
        raise unknown("modality of this model", modality, ["place", *model.about["data"]])
    folder = Path(entry["folder"]) if "folder" in entry else None
    if folder is None or not (folder / "manifest.json").exists():
        raise DataError(
            f"The rows of {modality!r} that this model was trained on are not on this machine; "
            f"it knows {', '.join(model.modalities)}. Ask for places instead."
        )
    rows = Table(modality, folder)
    trunk = model.trunk(modality)
    features = raw_features(rows) if trunk is None else cached_features(rows, trunk)
    return Gallery(modality, _labels(rows), rows.lonlat, model.embed_features(modality, features.features))


def _labels(rows: Table) -> list[str]:
    if rows.kind != "text":
        return [str(i) for i in rows.ids]
    texts = (" ".join(str(text).split()) for text in rows.all_contents())
    return [text if len(text) <= LABEL else text[: LABEL - 1] + "…" for text in texts]


def _places(table: Path | None) -> tuple[list[str], Points]:
    if table is None:
        points = fibonacci_lattice(PLACES)
        return [f"{abs(y):.1f}{'NS'[y < 0]} {abs(x):.1f}{'EW'[x < 0]}" for x, y in points.tolist()], points
    from graticule.data.tables import read_points

    names: list[str] = []
    parts = []
    for rows, points in read_points(table):
        column = next((c for c in NAMES if c in rows.schema.names), None)
        names += (
            [str(v) for v in rows[column].to_pylist()]
            if column
            else [f"row {len(names) + i}" for i in range(len(points))]
        )
        parts.append(points)
    return names, np.concatenate(parts) if parts else lonlat(lon=[], lat=[])


def question(
    model: Model, *, lon: float | None = None, lat: float | None = None, text: str | None = None, image: Any = None,
    space: str = "shared",
) -> Vectors:  # fmt: skip
    """(k,) vector of exactly one of: a place (degrees), a text, a picture (bytes or an array).

    It is in the shared space; a place alone has a vector in its own, `space` "own", too.
    """
    place = lon is not None or lat is not None
    if place + (text is not None) + (image is not None) != 1 or (lon is None) != (lat is None):
        raise SettingError("Ask with exactly one of: lon and lat together, text, or image.")
    if space == "own" and not place and model.shared is not None:
        raise SettingError(
            "Texts and pictures are compared with places in the shared space, these are the places' own vectors: "
            "write others by `graticule embed --space shared`."
        )
    if lon is not None and lat is not None:
        vectors = model.embed(lon=[lon], lat=[lat])
        vectors = model.share(vectors) if space == "shared" else vectors
    elif text is not None:
        vectors = model.embed_contents(_modality(model, ("text",)), [text])
    else:
        vectors = model.embed_contents(_modality(model, ("photo", "image")), [image])
    vector: Vectors = vectors[0]
    return vector


def _modality(model: Model, kinds: tuple[str, ...]) -> str:
    for name in model.modalities:
        if model.about["data"][name]["kind"] in kinds:
            return name
    known = ", ".join(model.modalities)
    said = f"knows {known}; none of them" if known else "embeds places alone: nothing in it"
    raise SettingError(f"This model {said} reads {' or '.join(kinds)}.")


def nearest(
    asked: NDArray[Any], among: Gallery, k: int = 5, *, place: Points | None = None, apart_km: float = 0.0
) -> list[Found]:
    """The k rows of a gallery most similar (cosine) to the (k,) vector `asked`, best first.

    `place` (1, 2) adds each answer's great-circle distance from there. With `apart_km` an answer lies at
    least so far from `place` and from every better answer: what is alike elsewhere, not what is near.
    """
    if k < 1:
        raise SettingError(f"Ask for at least one answer, got k={k}.")
    unit = among.vectors / np.maximum(np.linalg.norm(among.vectors, axis=1, keepdims=True), 1e-12)
    scores = unit @ (asked / max(float(np.linalg.norm(asked)), 1e-12))
    found: list[Found] = []
    for i in best_apart(scores, among.lonlat, k, place=place, apart_km=apart_km):
        lon, lat = among.lonlat[i]
        away = None if place is None else float(great_circle_km(place, among.lonlat[i : i + 1])[0])
        found.append(Found(among.names[i], float(lon), float(lat), float(scores[i]), away))
    return found
