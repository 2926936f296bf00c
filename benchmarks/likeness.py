"""What a run of GeoJEPA finds alike in cities of other continents, to be judged by eye, beside TagPool.

    python -m benchmarks.likeness MAPS RUN -o docs/results/geojepa-likeness.html [--seed 0]

MAPS is made by benchmarks.maps, RUN is a folder of a run that was trained on MAPS/europe. Asks about twelve regions and
twelve entities of twelve kinds, drawn from cities outside of Europe with the seed, and writes for each the five most
alike in other cities, and three ways from one region to another. Two minutes on one core. A path that ends in .md is
written as Markdown.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.maps import cities, some
from graticule.cli.osm import label
from graticule.embed_map import MapModel, load_map
from graticule.embed_map.search import standardised
from graticule.evaluation.predictors import Array
from graticule.evaluation.regions import baselines
from graticule.evaluation.regions.places import centres
from graticule.geo.region import Region
from graticule.web.document_markdown import write_markdown
from graticule.web.document_page import write_html
from graticule.web.likeness import (
    Answer,
    Interpolation,
    Sight,
    likeness_document,
    nearest_elsewhere,
    rows_between,
    unit_or_zero,
)

QUERIES, ANSWERS, LINES, STEPS = 12, 5, 3, 7
LEAST_ENTITIES = 30  # of a region, so that there is something to see
MOST_REGIONS = 100  # of a city, so that no large one gives all the answers
MOST_ALIKE = 30  # entities with one label of a city: 20,000 bare buildings are no choice
LEAST_SHARE = 0.5  # of an entity that lies in the region
KINDS = (  # of the entities asked about: labels that count as one kind
    ("amenity=school",),
    ("leisure=park",),
    ("building=apartments", "building=residential", "building=house"),
    ("highway=motorway", "highway=trunk"),
    ("waterway=river",),
    ("shop=supermarket", "shop=convenience"),
    ("amenity=place_of_worship",),
    ("landuse=industrial", "building=industrial"),
    ("leisure=pitch",),
    ("natural=beach", "natural=coastline"),
    ("highway=footway", "highway=path"),
    ("amenity=restaurant", "amenity=fast_food"),
)
NAMES = {
    "bengaluru-krcircle": "Bengaluru",
    "bogota": "Bogotá",
    "danane-man": "Danané and Man",
    "eqguinea": "Equatorial Guinea",
    "nyc-manhattan": "Manhattan",
    "saopaulo": "São Paulo",
}
ABOUT = """The model was trained on maps of Europe alone ({run}); every region and entity on this page lies in one of
{cities} places elsewhere. For {regions} regions and {entities} single entities, drawn with a seed and not chosen by
what came out, the page shows the five most alike in other cities: by the model, and by TagPool, the mean and maximum
of frozen text vectors of tags, which learns nothing from maps.

Similarity is the cosine between vectors of which each number has mean 0 and deviation 1 over the {region_candidates}
candidate regions (at least {least} entities each, at most {most} of a city) or the {entity_candidates} candidate
entities (at most {alike} of a label and city). Both methods are treated alike. The median
cosine between two regions is {plain} without this step and {standard} with it (the model first, TagPool second).

Maps are tiles of zoom 16, up to 600 m wide. Map data: © OpenStreetMap contributors, ODbL 1.0."""


@dataclass(frozen=True)
class Candidates:
    """What may be asked about and found, and its vectors by each method."""

    sights: Sequence[Sight]
    cities: Sequence[str]
    vectors: Mapping[str, Array]

    def standardised(self) -> Candidates:
        """The same with vectors of which each number has mean 0 and deviation 1 over all candidates."""
        plain = {name: standardised(v, v).astype(np.float32) for name, v in self.vectors.items()}
        return Candidates(self.sights, self.cities, plain)

    def answers(self, row: int, method: str) -> list[Answer]:
        """The most alike in other cities."""
        found = zip(*nearest_elsewhere(self.vectors[method], self.cities, row, ANSWERS), strict=True)
        return [Answer(self.sights[other], float(similarity)) for other, similarity in found]


def city_name(file: str) -> str:
    """ "porto-alegre-2020" -> "Porto Alegre"."""
    name = file.rstrip("0123456789").rstrip("-")
    return NAMES.get(name, name.replace("-", " ").title())


def place_name(lon: float, lat: float) -> str:
    """A place as "12.97° N 77.59° E"."""
    return f"{abs(lat):.2f}° {'N' if lat >= 0 else 'S'} {abs(lon):.2f}° {'E' if lon >= 0 else 'W'}"


def regions_of(maps: Path) -> tuple[list[Region], list[str]]:
    """Regions outside of Europe with enough entities, and the city of each."""
    large = {city: [r for r in own if len(r) >= LEAST_ENTITIES] for city, own in cities(maps, "rest").items()}
    pairs = [(region, city_name(city)) for city, own in large.items() for region in some(own, MOST_REGIONS)]
    return [region for region, _ in pairs], [city for _, city in pairs]


def candidates(model: MapModel, regions: Sequence[Region], towns: Sequence[str]) -> tuple[Candidates, Candidates]:
    """Regions and single entities, with the vectors of the model and of TagPool."""
    whole, parts = model.embed_regions(regions)
    bags = baselines.tag_parts(regions, model.trunk.tags)
    names = [place_name(*place) for place in centres(regions).tolist()]
    sights = [Sight(region, name, city) for region, name, city in zip(regions, names, towns, strict=True)]
    pairs = list(some_entities(regions, towns))
    entities = [
        Sight(regions[region], label(regions[region].tags[entity]), towns[region], regions[region].ids[entity])
        for region, entity in pairs
    ]
    own = {
        "GeoJEPA": np.array([parts[region][entity] for region, entity in pairs]),
        "TagPool": np.array([bags[region][entity] for region, entity in pairs]),
    }
    of_regions = Candidates(sights, towns, {"GeoJEPA": whole, "TagPool": baselines.pooled(bags)})
    return of_regions, Candidates(entities, [sight.city for sight in entities], own)


def some_entities(regions: Sequence[Region], towns: Sequence[str], seed: int = 0) -> Iterator[tuple[int, int]]:
    """Numbers of regions and of entities in them: at most MOST_ALIKE of a label and city, each of which once."""
    pairs = [(i, k) for i, region in enumerate(regions) for k in range(len(region)) if region.shares[k] >= LEAST_SHARE]
    seen: set[tuple[str, str]] = set()
    counts: Counter[tuple[str, str]] = Counter()
    for row in np.random.default_rng(seed).permutation(len(pairs)):
        region, entity = pairs[row]
        identity = (towns[region], regions[region].ids[entity])
        kind = (towns[region], label(regions[region].tags[entity]))
        if kind[1] and identity not in seen and counts[kind] < MOST_ALIKE:
            seen.add(identity)
            counts[kind] += 1
            yield region, entity


def spread_over_cities(rows: Sequence[int], towns: Sequence[str], used: Counter[str]) -> int:
    """The first of shuffled rows whose city was used least; it is noted as used."""
    row = min(rows, key=lambda row: used[towns[row]])
    used[towns[row]] += 1
    return row


def asked_regions(found: Candidates, seed: int) -> list[int]:
    """Rows of regions in as many cities as there are."""
    order, used = np.random.default_rng(seed).permutation(len(found.sights)).tolist(), Counter[str]()
    return [spread_over_cities(order, found.cities, used) for _ in range(QUERIES)]


def asked_entities(found: Candidates, seed: int) -> list[int]:
    """Rows of one entity of each of KINDS, in as many cities as there are."""
    order, used = np.random.default_rng(seed).permutation(len(found.sights)).tolist(), Counter[str]()
    return [
        spread_over_cities([row for row in order if found.sights[row].name in kind], found.cities, used)
        for kind in KINDS
    ]


def interpolations(found: Candidates, rows: Sequence[int]) -> list[Interpolation]:
    """From each of the first regions asked about to the one of the others that the model finds least alike."""
    vectors, lines, free = found.vectors["GeoJEPA"], [], list(rows)
    unit = unit_or_zero(vectors)
    for _ in range(LINES):
        first = free.pop(0)
        last = min(free, key=lambda row: float(unit[row] @ unit[first]))
        free.remove(last)
        between, shares = rows_between(vectors, first, last, STEPS)
        sights = [found.sights[row] for row in between]
        lines.append(Interpolation(f"{sights[0].city} to {sights[-1].city}", sights, shares.tolist()))
    return lines


def median_cosines(found: Candidates, pairs: int = 20_000) -> str:
    """Of random pairs, by each method."""
    a, b = np.random.default_rng(0).integers(0, len(found.sights), (2, pairs))
    medians = []
    for vectors in found.vectors.values():
        unit = unit_or_zero(vectors)
        medians.append(f"{np.median((unit[a] * unit[b]).sum(axis=1)):.2f}")
    return " and ".join(medians)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("maps", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    regions, towns = regions_of(asked.maps)
    plain_regions, plain_entities = candidates(load_map(asked.run), regions, towns)
    of_regions, of_entities = plain_regions.standardised(), plain_entities.standardised()
    region_rows, entity_rows = asked_regions(of_regions, asked.seed), asked_entities(of_entities, asked.seed)
    answers = {
        method: [
            *(of_regions.answers(row, method) for row in region_rows),
            *(of_entities.answers(row, method) for row in entity_rows),
        ]
        for method in of_regions.vectors
    }
    about = ABOUT.format(
        run=asked.run.name,
        cities=len(set(towns)),
        regions=len(region_rows),
        entities=len(entity_rows),
        region_candidates=f"{len(regions):,}",
        entity_candidates=f"{len(of_entities.sights):,}",
        least=LEAST_ENTITIES,
        most=MOST_REGIONS,
        alike=MOST_ALIKE,
        plain=median_cosines(plain_regions),
        standard=median_cosines(of_regions),
    )
    queries = [*(of_regions.sights[row] for row in region_rows), *(of_entities.sights[row] for row in entity_rows)]
    title = "What GeoJEPA finds alike on other continents"
    document = likeness_document(queries, answers, interpolations(of_regions, region_rows), title=title, about=about)
    (write_markdown if asked.out.suffix == ".md" else write_html)(document, asked.out)


if __name__ == "__main__":
    main()
