"""What is alike to a model, to be judged by eye: nearest regions in other cities, and regions between two others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError, need
from graticule.geo.region import Region
from graticule.web.document import Block, Chapter, Document, Figure, Grid, Section, Text
from graticule.web.figures.frame import INK, WIDTH_IN, shortened, style
from graticule.web.figures.small_map import draw_region

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

COLUMNS = 3  # small maps side by side in a figure of a query
TITLE_IN = 0.46  # room for three lines above each


@dataclass(frozen=True, eq=False)
class Sight:
    """A region to be drawn: its name, the city it lies in, and the id of the entity meant where one is."""

    region: Region
    name: str
    city: str
    entity: str | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """A region or entity that a method found, and how similar it is to the question."""

    sight: Sight
    similarity: float


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Regions found along the line between the vectors of two regions, which come first and last.

    `shares`: how much of the last vector is in each point of the line, from 0 to 1.
    """

    name: str
    sights: Sequence[Sight]
    shares: Sequence[float]


def likeness_document(
    queries: Sequence[Sight],
    answers_by_method: Mapping[str, Sequence[Sequence[Answer]]],
    interpolations: Sequence[Interpolation] = (),
    *,
    title: str = "What is alike",
    about: str = "",
) -> Document:
    """For each query what each method found, side by side, and a row of regions for each interpolation.

    `answers_by_method`: name of the method -> for each query its answers, the best first. Raises DataError where a
    method answers another number of queries, an answer lies in the city of its query, or a drawn entity is missing.
    """
    for method, answers in answers_by_method.items():
        if len(answers) != len(queries):
            raise DataError(f"{method!r} must answer each of the {len(queries)} queries, got {len(answers)} answers.")
        for query, found in zip(queries, answers, strict=True):
            if any(answer.sight.city == query.city for answer in found):
                raise DataError(f"{method!r} answers {query.name!r} with a place in the same city, {query.city!r}.")
    for line in interpolations:
        if len(line.sights) != len(line.shares) or len(line.sights) < 2:
            raise DataError(
                f"{line.name!r} needs two regions or more and a share of each: "
                f"{len(line.sights)} regions, {len(line.shares)} shares."
            )
    groups = {"Regions": False, "Single entities": True}
    chapters = [
        Chapter(name, blocks)
        for name, single in groups.items()
        if (blocks := _query_blocks(queries, answers_by_method, single))
    ]
    if interpolations:
        words = (
            "Between the vectors of the first and the last region: at each point of the line the nearest real region."
        )
        rows = [block for number, line in enumerate(interpolations) for block in _line_blocks(number, line)]
        chapters.append(Chapter("From one region to another", [Text(words), *rows]))
    return Document(title, about, chapters)


def nearest_elsewhere(
    vectors: NDArray[Any], cities: Sequence[str], row: int, count: int = 5
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows of (n, d) vectors in other cities than `row`, by cosine similarity to it, and these similarities."""
    unit = unit_or_zero(vectors)
    similarity = unit @ unit[row]
    similarity[np.asarray(cities) == cities[row]] = -np.inf
    order = np.argsort(-similarity, kind="stable")[:count]
    order = order[np.isfinite(similarity[order])]
    return order, similarity[order]


def rows_between(
    vectors: NDArray[Any], first: int, last: int, count: int = 7
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rows of (n, d) vectors nearest to `count` points of the line between two of them, and the share of the last.

    The line runs between the vectors at length 1; each row is taken once, and the two rows themselves come at the ends.
    """
    if count < 2 or count > len(vectors) or first == last:
        raise SettingError(
            f"A line needs two different rows and 2 to {len(vectors)} points, got {first}, {last}, {count}."
        )
    unit, shares = unit_or_zero(vectors), np.linspace(0, 1, count)
    rows, free = [first], np.ones(len(unit), dtype=bool)
    free[[first, last]] = False
    for share in shares[1:-1]:
        similarity = np.where(free, unit @ ((1 - share) * unit[first] + share * unit[last]), -np.inf)
        rows.append(int(similarity.argmax()))
        free[rows[-1]] = False
    return np.array([*rows, last]), shares


def _query_blocks(
    queries: Sequence[Sight], answers_by_method: Mapping[str, Sequence[Sequence[Answer]]], single: bool
) -> list[Block]:
    """A heading a query and below it one figure a method: the query, then its answers."""
    blocks: list[Block] = []
    for number, query in enumerate(queries):
        if (query.entity is not None) != single:
            continue
        figures = [
            Figure(
                f"query-{number + 1}-{place + 1}",
                partial(_answers_figure, query, answers[number]),
                f"**{method}**",
                f"{query.name} in {query.city}; {method} finds "
                + "; ".join(f"{a.sight.name} in {a.sight.city} ({a.similarity:.2f})" for a in answers[number]),
                pixels=True,
            )
            for place, (method, answers) in enumerate(answers_by_method.items())
        ]
        blocks += [Section(f"{query.name}, {query.city}"), Grid(figures)]
    return blocks


def _line_blocks(number: int, line: Interpolation) -> list[Block]:
    first, last = line.sights[0], line.sights[-1]
    alt = "; ".join(f"{share:.0%}: {s.name} in {s.city}" for share, s in zip(line.shares, line.sights, strict=True))
    caption = f"From {first.name}, {first.city}, to {last.name}, {last.city}."
    return [Section(line.name), Figure(f"line-{number + 1}", partial(_line_figure, line), caption, alt, pixels=True)]


@style()
def _answers_figure(query: Sight, answers: Sequence[Answer]) -> Drawing:
    titles = [("Asked for", query)] + [(f"{i + 1} · {a.similarity:.2f}", a.sight) for i, a in enumerate(answers)]
    figure = _tiles(titles, COLUMNS, WIDTH_IN / COLUMNS)
    frame = need("matplotlib.patches", "viz").Rectangle((0, 0), 1, 1, transform=figure.axes[0].transAxes, zorder=200)
    frame.set(fill=False, edgecolor=INK, linewidth=2.4, clip_on=False)
    figure.axes[0].add_patch(frame)
    return figure


@style()
def _line_figure(line: Interpolation) -> Drawing:
    titles = [(f"{share:.0%}", sight) for share, sight in zip(line.shares, line.sights, strict=True)]
    return _tiles(titles, len(titles), 1.3)


def _tiles(titles: Sequence[tuple[str, Sight]], columns: int, side_in: float) -> Drawing:
    """Small maps in rows; above each its title, city and name."""
    rows = math.ceil(len(titles) / columns)
    figure: Drawing = need("matplotlib.figure", "viz").Figure(figsize=(side_in * columns, (side_in + TITLE_IN) * rows))
    height_in = rows * (side_in + TITLE_IN)
    edges = {"left": 0.01, "right": 0.99, "bottom": 0.03 / height_in, "top": 1 - TITLE_IN / height_in}
    space = {"wspace": 0.04, "hspace": TITLE_IN / side_in}
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False, gridspec_kw=edges | space).flat):
        axes.set_axis_off()
        if place >= len(titles):
            continue
        title, sight = titles[place]
        draw_region(axes, sight.region, marked=sight.entity)
        name = f"{title}\n{shortened(sight.city, 20)}\n{shortened(sight.name, 22)}"
        axes.set_title(name, fontsize=7, fontweight="normal", pad=4)
    return figure


def unit_or_zero(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Vectors at length 1; those of zeros stay zeros and are like no other."""
    values = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(lengths, lengths, 1))
