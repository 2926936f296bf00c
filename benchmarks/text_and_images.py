"""The chapter of the results that says what text knows and images do not, and whether a third modality helped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from graticule.data.store import Dataset
from graticule.embed import Model
from graticule.evaluation.contrast import Word, disagreement, distinctive_words, largest_differences, top_places
from graticule.evaluation.examine import Embed
from graticule.evaluation.gap import modality_gap
from graticule.evaluation.predictors import Array
from graticule.evaluation.report import Comparison, Report
from graticule.evaluation.study import Study
from graticule.geo.coords import Points, unit_sphere
from graticule.learners.features import cached_features
from graticule.web.document import Block, Cell, Chapter, Section, Shown, Table, Text

TEXT, IMAGE, BOTH, ALL = "text alone", "Blue Marble alone", "text and Blue Marble", "imagebind"
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {  # R2 or accuracy under random folds and blocks
    "kNN-5": {
        "main regression": (0.727, 0.495),
        "main classification": (0.788, 0.631),
        "extra regression": (0.745, 0.362),
        "extra classification": (0.804, 0.735),
    },
    "GeoCLIP, released weights": {
        "main regression": (0.642, 0.491),
        "main classification": (0.723, 0.594),
        "extra regression": (0.648, 0.400),
        "extra classification": (0.775, 0.659),
    },
}
PAIRS = 2000  # rows in a modality gap


def text_and_images(report: Report, study: Study, embeds: dict[str, Embed], world: Dataset, tied: Model) -> Chapter:
    """CKA beside that of seeds, wins, words and places, gap, third modality, earlier figures met."""
    blocks = [
        *alike(study),
        *wins(report),
        *residual_places(report, world),
        *words(embeds, world),
        *gaps(tied, world),
        *modalities(report),
        *earlier(report),
    ]
    return Chapter("Text and images", blocks)


def alike(study: Study) -> Iterator[Block]:
    """How alike text and image are, beside two seeds of the same."""
    names = list(study.profiles)
    pairs = [
        (f"{TEXT} #0", f"{TEXT} #1"),
        (f"{IMAGE} #0", f"{IMAGE} #1"),
        (f"{ALL} #0", f"{ALL} #1"),
        (f"{TEXT} #0", f"{IMAGE} #0"),
        (f"{TEXT} #1", f"{IMAGE} #1"),
        (f"{TEXT} #0", f"{BOTH} #0"),
        (f"{IMAGE} #0", f"{BOTH} #0"),
        (f"{TEXT} #0", f"{ALL} #0"),
        (f"{IMAGE} #0", f"{ALL} #0"),
    ]
    yield Section("Do text and images teach the same?")
    rows: list[list[Cell]] = [
        [f"{a} and {b}", *(matrix[names.index(a)][names.index(b)] for matrix in study.similarity.values())]
        for a, b in pairs
    ]
    value = dict(zip((row[0] for row in rows), (row[1] for row in rows), strict=True))
    yield Text(
        "No: they agree little, and seeds agree almost wholly. Linear CKA is "
        + "; ".join(
            f"**{value[f'{a} and {b}']:.2f}** between {a} and {b}" for a, b in pairs[:5] if a in names and b in names
        )
        + "."
    )
    yield Table(
        ["embeddings", *study.similarity],
        rows,
        caption="Two seeds of the same modality are the ceiling; text beside image is how alike what they teach is.",
    )


def wins(report: Report) -> Iterator[Block]:
    """The five tasks each side wins by most, under blocks; both seeds."""
    yield Section("Tasks that text wins, tasks that images win")
    for split in ("blocks", "random"):
        tests = report.compare(f"{TEXT} #0 (ridge)", f"{IMAGE} #0 (ridge)", split)
        again = {t.task: t for t in report.compare(f"{TEXT} #1 (ridge)", f"{IMAGE} #1 (ridge)", split)}
        ordered = sorted(tests, key=lambda test: -gain(report, test.task, split))
        for side, chosen in ((TEXT, ordered[:5]), (IMAGE, ordered[:-6:-1])):
            rows: list[list[Cell]] = [
                [
                    t.task,
                    *scores(report, t.task, split),
                    _difference(t),
                    t.p_value,
                    t.adjusted,
                    again[t.task].difference,
                ]
                for t in chosen
            ]
            yield Table(
                ["task", "text", "images", "text minus images, pooled", "p", "p, Holm", "the other seed"],
                rows,
                caption=f"The five tasks where {side} is ahead by most, folds {split}, ridge: scores (means over folds,"
                " clipped at 0); difference of R2 or accuracy over all test rows, with interval and p over spatial"
                " blocks, corrected for 26 tasks.",
                formats={"p": ".3f", "p, Holm": ".3f"},
            )


def residual_places(report: Report, world: Dataset) -> Iterator[Block]:
    """For the two tasks that the sides win by most under blocks: where they win, and what text stands there."""
    table = world["text"]
    titles, xyz = [title(str(content)) for content in table.all_contents()], unit_sphere(table.lonlat)
    ordered = sorted(report.tasks, key=lambda task: -gain(report, task, "blocks"))
    rows: list[list[Cell]] = []
    for task, side in ((ordered[0], 0), (ordered[-1], 1)):
        a, b = (report.outcome(f"{name} #0 (ridge)", task, "blocks") for name in (TEXT, IMAGE))
        points = a.task.points[a.answers.row]
        for place in largest_differences(points, a.loss, b.loss, k=5, apart_km=1000)[side]:
            nearest = int(np.argmax(xyz @ unit_sphere(points[place.row])))
            rows.append([f"{task}: {(TEXT, IMAGE)[side]}", place.lat, place.lon, place.value, titles[nearest]])
    yield Table(
        ["task: better side", "lat", "lon", "loss avoided", "nearest text"],
        rows,
        caption="Where the residuals differ most (loss in units of the variance, or share of wrong classes, mean of ten"
        " neighbouring rows).",
        number_format=".2f",
    )


def _difference(test: Comparison) -> Shown:
    return Shown(test.difference, f"{test.difference:+.3f} [{test.low:.2f}, {test.high:.2f}]".replace("-", "−"))


def scores(report: Report, task: str, split: str) -> list[float]:
    """Of text and of images, first seed, ridge."""
    return [report.score(f"{name} #0 (ridge)", task, split) for name in (TEXT, IMAGE)]


def gain(report: Report, task: str, split: str) -> float:
    """How far text is ahead of images."""
    text, images = scores(report, task, split)
    return text - images


def words(embeds: dict[str, Embed], world: Dataset) -> Iterator[Block]:
    """Words at places that text and image see differently, and the texts of the most extreme places."""
    table = world["text"]
    texts, points = [str(content) for content in table.all_contents()], table.lonlat
    anchors = np.sort(np.random.default_rng(0).permutation(len(points))[:2000])
    value = np.mean(
        [disagreement(embeds[f"{TEXT} #{s}"](points), embeds[f"{IMAGE} #{s}"](points), anchors) for s in (0, 1)], axis=0
    )
    yield Section("Places and words of largest difference")
    yield Text(
        "At the places of all 45,886 texts: how differently the place vectors learned from text alone and from images"
        " alone relate it to 2,000 other places (1 - correlation of cosines; mean of two seeds). Words stand more"
        " often in texts of the quarter of places with most, or least, disagreement, at equal length of text; they"
        " must spread over an effective ten cells of 1,000 km. z ranks words; neighbours are not independent, so it"
        " tests nothing."
    )
    found = distinctive_words(texts, value, points, k=20)
    for which, chosen in (("disagree", [w for w in found if w.z > 0]), ("agree", [w for w in found[::-1] if w.z < 0])):
        yield Table(
            ["word", "z", "texts", "effective cells"],
            [_word(word) for word in chosen],
            caption=f"Words of places where text and images {which} most.",
            number_format=".1f",
        )
    yield _places(texts, points, value)


def _word(word: Word) -> list[Cell]:
    return [word.word, word.z, word.texts, word.cells]


def _places(texts: Sequence[str], points: Points, value: Array) -> Table:
    rows: list[list[Cell]] = [
        [title(texts[place.row]), place.lat, place.lon, place.value]
        for place in top_places(points, value, 20, apart_km=500)
    ]
    return Table(
        ["text at the place", "lat", "lon", "disagreement"],
        rows,
        caption="The 20 places of texts, at least 500 km apart, that text and images see most differently.",
        number_format=".2f",
    )


def title(text: str) -> str:
    """The first line of a text, cut to 60 characters."""
    return text.strip().split("\n")[0].split(". ")[0][:60]


def gaps(tied: Model, world: Dataset) -> Iterator[Block]:
    """How far each modality's vectors stand from those of their places."""
    rows: list[list[Cell]] = []
    for name in ("text", "image"):
        trunk = tied.trunk(name)
        if trunk is None:
            continue
        features = cached_features(world[name], trunk)
        chosen = np.sort(np.random.default_rng(0).permutation(len(features))[:PAIRS])
        content = tied.embed_features(name, np.asarray(features.features[chosen], dtype=np.float32))
        gap = modality_gap(content, tied.embed_points(features.lonlat[chosen]))
        as_is, centred = gap.as_is, gap.centred
        numbers = [
            as_is.distance,
            centred.distance,
            gap.separability,
            as_is.segregation,
            as_is.matched,
            as_is.unmatched,
        ]
        rows.append([f"{name} and its place", *numbers])
    yield Section("Modality gap")
    yield Table(
        [
            "imagebind #0",
            "distance of centroids",
            "after centring",
            "separability",
            "segregation",
            "matched",
            "unmatched",
        ],
        rows,
        caption=f"{PAIRS:,} rows of each modality beside the vectors of their places: centroids of unit vectors;"
        " accuracy of a linear classifier of the modality (0.5 = no gap); share whose nearest vector is of the same"
        " modality; cosine of matched and unmatched pairs (Liang et al. 2022).",
    )


def modalities(report: Report) -> Iterator[Block]:
    """One, two and three modalities: paired differences, means of two seeds."""
    steps = [
        (f"{TEXT} to both", TEXT, BOTH),
        (f"{IMAGE} to both", IMAGE, BOTH),
        ("both to three (with Sentinel-2 patches)", BOTH, ALL),
    ]
    yield Section("Did another modality help?")
    rows: list[list[Cell]] = []
    means: dict[str, list[str]] = {}
    for what, fewer, more in steps:
        for split in ("random", "blocks", "continents"):
            pairs = [(f"{more} #{s} (ridge)", f"{fewer} #{s} (ridge)") for s in (0, 1)]
            gains = [report.difference(a, b, split) for a, b in pairs]
            tests = [test for a, b in pairs for test in report.compare(a, b, split)]
            won, lost = (sum(t.adjusted < 0.05 and s * t.difference > 0 for t in tests) for s in (1, -1))
            means.setdefault(what, []).append(f"{np.mean([g for g, _, _ in gains]):+.3f}".replace("-", "−"))
            cells = [Shown(g, f"{g:+.4f} [{low:.3f}, {high:.3f}]".replace("-", "−")) for g, low, high in gains]
            rows.append([f"{what}, {split}", *cells, won, lost])
    yield Text(
        "Mean gain of both seeds under random folds, blocks and continents: "
        + "; ".join(f"{what} {', '.join(values)}" for what, values in means.items())
        + "."
    )
    yield Table(
        ["step, folds", "gain, seed 0", "gain, seed 1", "tasks better", "tasks worse"],
        rows,
        caption="Gain in the mean over groups of tasks (ridge), with 95 % intervals over tasks and spatial blocks;"
        " tasks of both seeds (52) on which the difference stands after Holm's correction.",
    )


def earlier(report: Report) -> Iterator[Block]:
    """Figures measured before under the same protocol, and ours."""
    yield Section("Earlier figures under the same protocol")
    rows: list[list[Cell]] = []
    for name, groups in PUBLISHED.items():
        known = report.by_probe("ridge")
        if name in known:
            for group, figures in groups.items():
                for split, figure in zip(("random", "blocks"), figures, strict=True):
                    ours = report.group_mean(known[name], group, split)
                    rows.append([f"{name}, {group}, {split}", figure, ours, ours - figure])
    yield Table(["row", "earlier", "here", "difference"], rows, caption="kNN-5 and GeoCLIP, measured twice.")
