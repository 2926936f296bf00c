"""Where the model inside finds a text: six maps.

    python -m benchmarks.heatmaps

Texts were written down before looking. Writes docs/heatmaps.png.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from graticule.embed import load
from graticule.web.page import unit_vectors, world_lattice

TEXTS = (
    "ski resort in the mountains", "rice terraces", "coral reef island",
    "nomads with yurts on the steppe", "fjord", "tropical rainforest",
)  # fmt: skip
SHOWN = (60, 99.7)  # percentiles by area between which the colours run


def main() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    model = load()
    places = world_lattice()
    vectors = unit_vectors(model.share(model.embed_points(places)))
    area = np.cos(np.radians(places[:, 1]))
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 4.6), layout="constrained")
    for axis, text, asked in zip(axes.flat, TEXTS, model.embed_contents("text", TEXTS), strict=True):
        likeness = vectors @ unit_vectors(asked[None])[0]
        order = np.argsort(likeness)
        share = np.cumsum(area[order]) / area.sum()
        low, high = np.interp(np.array(SHOWN) / 100, share, likeness[order])
        axis.imshow(likeness.reshape(180, 360), vmin=low, vmax=high, cmap="magma", extent=(-180, 180, -90, 90))
        axis.set(title=f"“{text}”", xticks=[], yticks=[])
    figure.savefig(Path(__file__).parents[1] / "docs" / "heatmaps.png", dpi=110)


if __name__ == "__main__":
    main()
