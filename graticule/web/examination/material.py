"""What the chapters of an examination are written from, and how numbers are shown in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from graticule.evaluation.report import Report
from graticule.evaluation.residuals import Residuals
from graticule.evaluation.study import Study
from graticule.web.document import Shown
from graticule.web.figures import Look, looks_of

FOREMOST = 7  # embeddings that fit into one figure of curves
INTERPOLATION = "kriging"  # the baseline that figures and tests set beside the embeddings


@dataclass(frozen=True)
class Material:
    """Numbers of one examination.

    report     scores of all embeddings and baselines; chapters speak of its `first_probe` where they name none
    study      what stands beside the scores
    drawn      plain names of the embeddings that figures show
    residuals  geography of errors by plain name and task
    probes     a report of further probes, on fewer tasks
    curves     a report that has few-shot curves, on fewer tasks
    """

    report: Report
    study: Study
    drawn: Sequence[str]
    residuals: Mapping[tuple[str, str], Residuals] = field(default_factory=dict)
    probes: Report | None = None
    curves: Report | None = None

    @cached_property
    def names(self) -> dict[str, str]:
        """Names in the report under the first probe, by the plain name of each embedding and baseline."""
        return self.report.by_probe(self.report.first_probe)

    @cached_property
    def figured(self) -> list[str]:
        """Plain names that figures of curves show: the drawn embeddings and the interpolation beside them."""
        return [*self.drawn[:FOREMOST], *([INTERPOLATION] if INTERPOLATION in self.names else [])]

    @cached_property
    def looks(self) -> dict[str, Look]:
        """One colour for each of them, the same in all figures."""
        return looks_of([*self.figured, *self.names])


def with_interval(value: float, interval: tuple[float, float]) -> Shown:
    """0.712 [0.64, 0.78]."""
    return Shown(value, f"{value:.3f} [{interval[0]:.2f}, {interval[1]:.2f}]".replace("-", "−"))


def slug(*words: str) -> str:
    """The file name of a figure."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
