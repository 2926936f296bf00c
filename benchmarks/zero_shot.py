"""Does a text find its places? Twenty queries and the classes that they should find, written down before any scoring.

    python -m benchmarks.zero_shot DATA [RUN]

Every place of a task is ranked by the cosine of its vector to the vector of the text; the figure is the area under the
ROC of that ranking for the classes named. No label is used but to score. Writes benchmarks/zero_shot.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.running import markdown
from graticule.embed import load
from graticule.evaluation.tasks import Task, load_tasks

QUERIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("tropical rainforest", "koppen", ("Af",)),
    ("savanna", "koppen", ("Aw",)),
    ("hot desert", "koppen", ("BWh",)),
    ("cold desert", "koppen", ("BWk",)),
    ("steppe", "koppen", ("BSk",)),
    ("Mediterranean climate", "koppen", ("Csa", "Csb")),
    ("humid subtropical climate", "koppen", ("Cfa",)),
    ("oceanic climate", "koppen", ("Cfb",)),
    ("monsoon", "koppen", ("Am", "Cwa")),
    ("subarctic", "koppen", ("Dfc", "Dfd")),
    ("ice cap", "koppen", ("EF",)),
    ("boreal forest", "biome", ("Boreal Forests/Taiga",)),
    ("tundra", "biome", ("Tundra",)),
    ("jungle", "biome", ("Tropical & Subtropical Moist Broadleaf Forests",)),
    ("prairie grassland", "biome", ("Temperate Grasslands, Savannas & Shrublands",)),
    ("Brazil", "country", ("Brazil",)),
    ("village in India", "country", ("India",)),
    ("Australian outback", "country", ("Australia",)),
    ("Greenland", "country", ("Greenland",)),
    ("nuclear power station", "power_plant_fuel", ("Nuclear",)),
)


def area(vectors: NDArray[np.float32], task: Task, text: NDArray[np.float32], classes: tuple[str, ...]) -> float:
    """Area under the ROC of a text's vector for the places of these classes."""
    cosine = vectors @ text / np.linalg.norm(vectors, axis=1)
    return float(roc_auc_score(np.isin(task.label, [task.classes.index(name) for name in classes]), cosine))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path, nargs="?", help="a run with texts; the model inside without one")
    parser.add_argument("--print", action="store_true", help="print the table, write nothing")
    asked = parser.parse_args()
    model = load(asked.run)
    tasks = {task.name: task for task in load_tasks(asked.data / "tasks", sorted({task for _, task, _ in QUERIES}))}
    vectors = {name: model.share(model.embed_points(task.points)) for name, task in tasks.items()}
    texts = model.embed_contents("text", [query for query, _, _ in QUERIES])
    areas = [
        area(vectors[task], tasks[task], text, classes) for (_, task, classes), text in zip(QUERIES, texts, strict=True)
    ]
    rows = [
        [query, task, ", ".join(classes), f"{value:.3f}"]
        for (query, task, classes), value in zip(QUERIES, areas, strict=True)
    ]
    rows.append(["mean", "", "", f"{np.mean(areas):.3f}"])
    text = markdown(["text", "task", "should find", "area under the ROC"], rows)
    if asked.print:
        print(text)
        return
    Path(__file__).with_suffix(".md").write_text(NOTE.format(name=model.about["name"]) + text)


NOTE = """# From a text to its places

`python -m benchmarks.zero_shot DATA` ({name})

Twenty queries and the classes that they should find, written down before any scoring. Every place of a task is ranked
by the cosine of its vector to the vector of the text; the figure is the area under the ROC of that ranking for the
classes named. Labels only score.

"""


if __name__ == "__main__":
    main()
