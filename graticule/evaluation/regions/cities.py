"""Which cities train and which test, and blocks with a buffer within one city."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graticule.errors import DataError
from graticule.evaluation.regions.places import spacing_km
from graticule.evaluation.splits import Folds, Rows, balanced_folds, equal_area_block_split
from graticule.geo.cells import fitting_cells
from graticule.geo.coords import Points

EUROPE = (
    "andorra", "berlin-adlershof", "dreieich", "dublin", "duesseldorf", "faroe", "helgoland", "helsinki", "lehavre",
    "liechtenstein", "london", "monaco", "moscow", "munich", "north-bayreuth", "porto-2020", "sophia-antipolis",
    "wildau",
)  # fmt: skip
SIZES_KM = (16.0, 8.0, 4.0, 2.0, 1.0)
BLOCKS_A_FOLD = 4
BUFFER_STEPS = 2.2  # spacings between centres: more than a whole region lies between training and test

Sides = list[tuple[tuple[str, ...], tuple[str, ...]]]


def is_european(city: str) -> bool:
    """Whether a map, by the name of its file, is of Europe; `porto-2020` is, `porto-alegre-2020` is not."""
    return city.startswith(EUROPE)


def held_out_sides(cities: Iterable[str]) -> Sides:
    """Two pairs of (training cities, test cities): Europe against the rest, and the reverse.

    A probe learns from all cities of one side and is tested on each city of the other, so no continent trains and
    tests. DataError when a side is empty.
    """
    names = sorted(set(cities))
    europe, rest = (tuple(n for n in names if is_european(n) == side) for side in (True, False))
    if not europe or not rest:
        raise DataError(f"Held-out cities need some of Europe and some of the rest, got {', '.join(names) or 'none'}.")
    return [(europe, rest), (rest, europe)]


def one_city_out(cities: Iterable[str]) -> Sides:
    """Every city in turn tests what the others train; for labels that only one continent has."""
    names = sorted(set(cities))
    if len(names) < 2:
        raise DataError(f"Leaving out a city needs at least two, got {', '.join(names) or 'none'}.")
    return [(tuple(n for n in names if n != city), (city,)) for city in names]


def buffered_blocks(
    points: Points, folds: int = 5, seed: int = 0, size_km: float | None = None, buffer_km: float | None = None
) -> Folds:
    """Folds of contiguous blocks within one city; training rows nearer than the buffer to a test row are dropped.

    points (n, 2) centres of regions, lon/lat degrees. Blocks are equal-area cells of `size_km`: by default the
    largest of 16, 8, 4, 2 and 1 km of which four a fold hold regions. The buffer between centres is by default 2.2
    times the spacing of the regions, so that a whole region lies between training and test.
    """
    size = size_km or fitting_cells(points, SIZES_KM, BLOCKS_A_FOLD * folds)[0]
    buffer = BUFFER_STEPS * spacing_km(points) if buffer_km is None else buffer_km
    return equal_area_block_split(points, size, folds, seed, buffer)


def block_groups(points: Points, rows: Rows, groups: int = 5) -> Rows:
    """(k,) group numbers of training rows for the inner folds of a probe: whole blocks, as in `buffered_blocks`.

    Fewer groups where the rows lie in fewer blocks.
    """
    _, cells = fitting_cells(points[rows], SIZES_KM, BLOCKS_A_FOLD * groups)
    most = min(groups, len(np.unique(cells)))
    return balanced_folds(cells, most) if most > 1 else np.zeros(len(rows), dtype=np.int64)
