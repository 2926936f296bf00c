"""Are four land uses told apart by the colours of the page, and by the vectors that these are made of?

    python -m benchmarks.land_use MAPS RUN [--cities liechtenstein-2021 nassau-2018 ...]

Areas of one city that are residential, industrial, park or water, told apart by the five nearest others: by the three
colours of their page, by the entity vectors, by these without their surroundings, and by their tags one by one as a
reference. Writes balanced accuracies over five folds to benchmarks/land_use.md. About half a minute on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.maps import SETS, cities
from benchmarks.running import markdown
from graticule.embed_map import MapModel, load_map
from graticule.embed_map.gather import parts_table, whole_entities
from graticule.evaluation.inner import inner_folds
from graticule.evaluation.predictors import Array
from graticule.geo.coords import Points, local_km
from graticule.geo.geoparquet import vectors_of
from graticule.geo.region import Region
from graticule.web.colouring import without_surroundings
from graticule.web.region_page import AREA, entity_colours, three_colours

CITIES = (
    "liechtenstein-2021", "maldives-2023", "bogota-2023", "ankara-2019", "nassau-2018", "reisterstown-2016",
)  # fmt: skip
CLASSES = ("residential", "industrial", "park", "water")
NEIGHBOURS, FOLDS = 5, 5
NOTE = f"""# Land uses told apart by the colours of a map page

`python -m benchmarks.maps DATA MAPS && python -m benchmarks.land_use MAPS RUN`

RUN is a GeoJEPA of tags and geometry trained on the extracts of Europe (`geojepa TG`, seed 0), Liechtenstein among
them; no label of land use was used but the tags that it reads. Areas: {", ".join(CLASSES)}, so many of
each. Balanced accuracy of the {NEIGHBOURS} nearest, {FOLDS} folds: by the three colours of the page, by three principal
components as colours, by the entity vectors, by these without their surroundings, by tags one by one. The size of the
squares whose differences are scaled down was chosen on Bogota.

"""
HEADER = ("City", "Areas", "Colours", "Principal components", "Vectors", "Without surroundings", "Tags")


@dataclass(frozen=True)
class Entities:
    """Each entity of a city once: tags, number of dimensions, middle, and the mean of its vectors by share."""

    tags: Sequence[Mapping[str, str]]
    kinds: NDArray[np.int64]
    places: Points
    vectors: Array


def land_use(tags: Mapping[str, str]) -> int | None:
    """The number of its class; None for other tags and for those of two classes."""
    landuse = tags.get("landuse")
    water = tags.get("natural") == "water" or tags.get("waterway") == "riverbank" or landuse == "reservoir"
    is_class = (landuse == "residential", landuse == "industrial", tags.get("leisure") == "park", water)
    return is_class.index(True) if sum(is_class) == 1 else None


def entities_of(model: MapModel, regions: Sequence[Region]) -> Entities:
    """As on the page of the city."""
    _, parts = model.embed_regions(regions)
    names = map(str, range(len(regions)))
    table = whole_entities(parts_table(list(zip(names, regions, parts, strict=True)), model.width))
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    places = shapely.get_coordinates(shapely.centroid(shapes))
    tags = [dict(pairs) for pairs in table["tags"].to_pylist()]
    return Entities(tags, shapely.get_dimensions(shapes), places, vectors_of(table["embedding"]))


def neighbours_accuracy(vectors: Array, labels: NDArray[np.int64]) -> float:
    """Balanced accuracy of the vote of the nearest, over folds with equal parts of each class."""
    fold = inner_folds(labels, FOLDS, len(CLASSES))
    values = np.asarray(vectors, dtype=np.float64)
    said = np.zeros(len(labels), dtype=np.int64)
    votes = 1 + 1e-3 / (1 + np.arange(NEIGHBOURS))
    for test in range(FOLDS):
        known, asked = fold != test, fold == test
        apart = np.square(values[known]).sum(axis=1) - 2 * values[asked] @ values[known].T
        near = labels[known][np.argsort(apart, axis=1, kind="stable")[:, :NEIGHBOURS]]
        said[asked] = np.array([(near == one) @ votes[: near.shape[1]] for one in range(len(CLASSES))]).argmax(axis=0)
    return float(np.mean([(said[labels == one] == one).mean() for one in np.unique(labels)]))


def one_hot(tags: Sequence[Mapping[str, str]]) -> Array:
    """1 where an entity has a tag."""
    column = {tag: i for i, tag in enumerate(sorted({tag for one in tags for tag in one.items()}))}
    held = np.zeros((len(tags), len(column)), dtype=np.float32)
    for row, one in enumerate(tags):
        held[row, [column[tag] for tag in one.items()]] = 1
    return held


def measured(city: str, found: Entities) -> list[str]:
    """A row of the table."""
    classes = [land_use(tags) if kind == AREA else None for tags, kind in zip(found.tags, found.kinds, strict=True)]
    rows = np.array([row for row, one in enumerate(classes) if one is not None])
    labels = np.array([one for one in classes if one is not None])
    places_km = local_km(found.places, found.places.mean(axis=0, keepdims=True))
    tables = (
        entity_colours(found.vectors, places_km)[rows],
        three_colours(found.vectors)[rows],
        found.vectors[rows],
        without_surroundings(found.vectors, places_km)[rows],
        one_hot([found.tags[row] for row in rows]),
    )
    counts = " + ".join(str(n) for n in np.bincount(labels, minlength=len(CLASSES)))
    return [city, counts, *(f"{neighbours_accuracy(table, labels):.2f}" for table in tables)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("maps", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--cities", nargs="+", default=CITIES)
    asked = parser.parse_args()
    model = load_map(asked.run)
    every = {city: regions for name in SETS[:2] for city, regions in cities(asked.maps, name).items()}
    rows = [measured(city, entities_of(model, every[city])) for city in asked.cities]
    Path("benchmarks/land_use.md").write_text(NOTE + markdown(HEADER, rows))


if __name__ == "__main__":
    main()
