"""Chapter three: what the vectors know, without labels and beyond each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graticule.evaluation.study import LEAST_VECTORS
from graticule.web import figures
from graticule.web.document import Block, Cell, Chapter, Figure, Grid, Section, Shown, Table, Text
from graticule.web.examination.material import Material, slug, with_interval


def information(material: Material) -> Chapter:
    """Dimensions, ranks, scales, similarity, and the shared variance of a pair."""
    return Chapter("Information content", list(_blocks(material)))


def _blocks(material: Material) -> Iterator[Block]:
    yield Text(
        f"Measured without labels at {len(material.study.places):,} places. Intrinsic dimension: how many numbers a"
        " place needs; effective rank and RankMe: how many directions the vectors use; half power: the"
        " spherical-harmonic degree, and the half wavelength on the ground, below which half of the variance lies; half"
        " sill: the distance at which vectors differ by half of what unrelated places do; uniformity (lower = more"
        " spread) and alignment (lower = places up to 50 km apart more alike) after Wang and Isola 2020."
    )
    if material.study.collapsed:
        yield Text(
            f"Left out, as they give fewer than {LEAST_VECTORS} different vectors:"
            f" {', '.join(material.study.collapsed)}."
        )
    yield profiles(material)
    yield from scales(material)
    yield from dimension_maps(material)
    yield from similarity(material)
    yield from partition(material)


def profiles(material: Material) -> Table:
    """A row for every embedding."""
    rows: list[list[Cell]] = []
    for name, found in material.study.profiles.items():
        dims = [
            Shown(d["value"], f"{d['value']:.2f} ± {1.96 * d['standard_error']:.2f}")
            for d in (found["twonn"], found["mle"])
        ]
        rows.append(
            [
                name,
                found["components"],
                *dims,
                *(found[key] for key in ("effective_rank", "rankme", "participation_ratio", "uniformity", "alignment")),
                found["half_power_degree"],
                found["half_power_km"],
                found["half_sill_km"],
            ]
        )
    header = [
        "embedding", "components", "dimension (TwoNN)", "dimension (MLE)", "effective rank", "RankMe", "participation",
        "uniformity", "alignment", "half power, degree", "half power, km", "half sill, km",
    ]  # fmt: skip
    formats = dict.fromkeys(["effective rank", "RankMe", "participation"], ".1f") | {"alignment": ".4f"}
    formats |= dict.fromkeys(["half power, km", "half sill, km"], ",.0f")
    return Table(header, rows, caption="Information content without labels.", number_format=".2f", formats=formats)


def scales(material: Material) -> Iterator[Block]:
    """At which resolution the vectors carry variance."""
    found = {name: material.study.profiles[name] for name in material.drawn if name in material.study.profiles}
    spectra = {name: p["degree_fractions"] for name, p in found.items()}
    curves = {name: (p["variogram_km"], p["variogram_gamma"]) for name, p in found.items()}
    yield Grid(
        [
            Figure(
                "degrees",
                lambda: figures.degree_spectrum(spectra, looks=material.looks),
                "Share of the variance by degree of the spherical harmonics (whole sphere, sea included).",
                "Spectra by degree.",
            ),
            Figure(
                "semivariograms",
                lambda: figures.semivariograms(curves, looks=material.looks),
                "Half the mean squared difference of vectors by distance of their places, over the variance.",
                "Semivariograms.",
            ),
        ]
    )


def dimension_maps(material: Material) -> Iterator[Block]:
    """Where a place needs more numbers."""
    names = [name for name in material.drawn if name in material.study.dimension][:4]
    values = [np.array(material.study.dimension[name]) for name in names]
    finite = np.concatenate(values)[np.isfinite(np.concatenate(values))] if names else np.empty(0)
    if not len(finite):
        return
    low, high = np.percentile(finite, [2, 98])
    yield Grid(
        [
            Figure(
                slug("dimension", name),
                lambda name=name, value=value: figures.world_map(  # type: ignore[misc]
                    material.study.places[: len(value)], value, "local dimension", title=name,
                    limits=(float(low), float(high)),
                ),
                f"{name}: local intrinsic dimension (20 nearest vectors).",
                f"Map of the local dimension of {name}.",
            )
            for name, value in zip(names, values, strict=True)
        ]
    )  # fmt: skip


def similarity(material: Material) -> Iterator[Block]:
    """Which embeddings say the same."""
    names = list(material.study.profiles)
    if len(names) < 2:
        return
    yield Section("Which embeddings say the same")
    grid = [
        Figure(
            slug("similarity", measure),
            lambda measure=measure, matrix=matrix: figures.similarity_matrix(names, matrix, label=measure),  # type: ignore[misc]
            f"{measure} of every two embeddings at the same places.",
            f"Matrix of {measure}.",
        )
        for measure, matrix in material.study.similarity.items()
        if measure in ("debiased CKA", "overlap of 10 nearest")
    ]
    yield Grid(grid)
    rows: list[list[Cell]] = [
        [f"{a}, {b}", *(matrix[i][j] for matrix in material.study.similarity.values())]
        for i, a in enumerate(names)
        for j, b in enumerate(names[:i])
    ]
    yield Table(
        ["embeddings", *material.study.similarity],
        rows,
        caption="Similarity of every two embeddings (Procrustes angle in radians: 0 = the same up to rotation).",
        collapsed=len(rows) > 10,
    )


def partition(material: Material) -> Iterator[Block]:
    """What each of the pair knows that the other and coordinates do not."""
    study = material.study
    if not study.pair or not study.partitions:
        return
    first, second = study.pair
    yield Section(f"What {first} and {second} know of each other's")
    yield Text(
        f"The score of ridges on every set of {first}, {second} and coordinates (harmonics, L=10), taken apart: unique"
        " = lost when this block is taken away; shared = lost only when all its blocks are. Held out and not clipped,"
        " so a part can be negative: more columns can predict worse far from labels, and blocks can help each other."
    )
    for split in dict.fromkeys(split for by_split in study.partitions.values() for split in by_split):
        yield _bars(material, split)
        yield _parts_table(material, split)
    if study.differing:
        yield Table(
            ["place", "lat", "lon", "disagreement"],
            [[number + 1, p.lat, p.lon, p.value] for number, p in enumerate(study.differing)],
            caption=f"Places that {first} and {second} see most differently: 1 - correlation of the profiles of cosines"
            " with places all over the Earth (0 = alike, 1 = unrelated, 2 = opposite); at least 1,000 km apart.",
            number_format=".2f",
        )


def _bars(material: Material, split: str) -> Figure:
    found = {task: by[split]["parts"] for task, by in material.study.partitions.items() if split in by}
    drawn = {task: max(map(abs, parts.values())) <= 1 for task, parts in found.items()}
    keys = list(next(iter(found.values())))
    return Figure(
        slug("partition", split),
        lambda: figures.partition_bars(
            list(found),
            {_part(key): [parts[key] if drawn[task] else np.nan for task, parts in found.items()] for key in keys},
        ),
        f"Score of all blocks above that of none, taken apart; folds {split}. Tasks with a part beyond 1 or -1, where a"
        " probe fails without bound far from labels, are left blank: see the table.",
        f"Variance partition, folds {split}.",
    )


def _part(key: str) -> str:
    """Blocks "a + b" as "shared: a, b", a single block as "unique: a"."""
    return f"shared: {key.replace(' + ', ', ')}" if " + " in key else f"unique: {key}"


def _parts_table(material: Material, split: str) -> Table:
    found = {task: by[split] for task, by in material.study.partitions.items() if split in by}
    keys = list(next(iter(found.values()))["parts"])
    rows: list[list[Cell]] = [
        [
            task,
            *(with_interval(value, one["intervals"][key]) for key, value in one["parts"].items()),
            one["total"],
        ]
        for task, one in found.items()
    ]
    return Table(
        ["task", *map(_part, keys), "total"],
        rows,
        caption=f"Parts of the score, folds {split}, with 95 % intervals over spatial blocks.",
        collapsed=True,
    )
