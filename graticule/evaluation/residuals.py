"""Where an embedding errs: clusters of errors, regions, distance to what was known, and a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graticule.evaluation.autocorrelation import Moran, SelfInformation, geo_bias_score, morans_i
from graticule.evaluation.geography import ByDistance, GeoBias, by_distance, error_grid, geo_bias, nearest_km
from graticule.evaluation.leakage import nearest_training
from graticule.evaluation.outcomes import Outcome
from graticule.evaluation.plain import plain
from graticule.evaluation.predictors import Array
from graticule.evaluation.splits import Folds
from graticule.evaluation.uncertainty import resampling_blocks
from graticule.geo.coords import Points

CELLS_KM = (500.0, 250.0, 100.0, 50.0, 25.0)  # sides of cells of a map, the largest that makes LEAST_CELLS
LEAST_CELLS = 60
SPACING_NEIGHBOUR = 10  # the density of training rows is the distance to this neighbour


@dataclass(frozen=True)
class Residuals:
    """The geography of the errors of one outcome.

    moran          autocorrelation of the residuals (regression), or of being wrong (classification)
    score          Geo-Bias Scores; a number is right when it misses by less than the deviation of the truth
    bias           by continent and by density of the training rows
    by_label       skill by distance to the nearest training row
    by_pretraining the same for the nearest sample of each modality the encoder was trained on
    cells, loss    centres (m, 2) of equal-area cells and the mean loss there
    """

    moran: Moran
    score: SelfInformation
    bias: GeoBias
    by_label: ByDistance
    by_pretraining: dict[str, ByDistance]
    cells: Points
    loss: Array

    def to_json(self) -> dict[str, Any]:
        """Everything in JSON types, None where a number is not defined."""
        return plain(asdict(self))  # type: ignore[no-any-return]


def residuals(outcome: Outcome, folds: Folds, pretraining: Mapping[str, Points] | None = None) -> Residuals:
    """Everything about where the errors of an outcome lie.

    folds        those that the outcome was asked under
    pretraining  places (n, 2) of the training rows of the encoder, by modality
    """
    task, said = outcome.task, outcome.answers
    points, truth, classes = task.points[said.row], outcome.truth, len(task.classes)
    continent = task.folds.get("continent", np.full(len(task), -1))[said.row]
    block = resampling_blocks(task.points)[said.row]
    signed = outcome.loss if classes else truth - said.predicted
    spacing = np.concatenate(
        [nearest_km(task.points[test], task.points[train], SPACING_NEIGHBOUR) for train, test in folds]
    )

    grids = [error_grid(points, outcome.loss, size_km)[:2] for size_km in CELLS_KM]
    cells, loss = next((grid for grid in grids if len(grid[0]) >= LEAST_CELLS), grids[-1])

    def by(distance_km: Array) -> ByDistance:
        return by_distance(truth, said.predicted, distance_km, block, classes)

    return Residuals(
        moran=morans_i(signed, points),
        score=geo_bias_score(points, outcome.loss < 1),
        bias=geo_bias(truth, said.predicted, continent, spacing, classes, least_rows=25),
        by_label=by(nearest_training(task.points, folds)[0]),
        by_pretraining={name: by(nearest_km(points, to)) for name, to in (pretraining or {}).items()},
        cells=cells,
        loss=loss,
    )
