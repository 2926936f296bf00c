"""Figures of an evaluation: plain arrays in, a matplotlib figure out, readable when a phone shows it 350 px wide.

`looks_of(names)` once for a report, given to the figures as `looks`, keeps the colours of the embeddings.
"""

from graticule.web.figures.by_task import paired_differences, partition_bars, score_dots
from graticule.web.figures.curves import by_distance, degree_spectrum, few_shot_curves, semivariograms
from graticule.web.figures.embeddings import critical_difference, similarity_matrix
from graticule.web.figures.frame import Look, key, looks_of, png, sentence, svg, webp
from graticule.web.figures.maps import world_map

__all__ = [
    "Look",
    "by_distance",
    "critical_difference",
    "degree_spectrum",
    "few_shot_curves",
    "key",
    "looks_of",
    "paired_differences",
    "partition_bars",
    "png",
    "score_dots",
    "semivariograms",
    "sentence",
    "similarity_matrix",
    "svg",
    "webp",
    "world_map",
]
