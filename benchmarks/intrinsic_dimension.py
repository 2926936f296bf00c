"""Intrinsic dimension: time and estimate of ours and of scikit-dimension's TwoNN, on the same vectors.

    OMP_NUM_THREADS=2 python -m benchmarks.intrinsic_dimension

Needs `pip install scikit-dimension`. Writes benchmarks/intrinsic_dimension.md.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.running import markdown
from graticule.evaluation.information.dimension import mle, twonn

TRUTH, LENGTH = 5, 256
ROWS = (10_000, 20_000, 100_000)
COMPARED = 20_000  # rows up to which scikit-dimension, which compares and sorts all with all, is run
REPEATS = {10_000: 5, 20_000: 3, 100_000: 3}


def vectors(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """A flat torus of 5 dimensions, rotated into 256."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, (rows, TRUTH))
    basis = np.linalg.qr(rng.normal(size=(LENGTH, LENGTH)))[0][: 2 * TRUTH]
    return np.asarray(np.hstack([np.cos(angle), np.sin(angle)]) @ basis, dtype=np.float32)


def timed(estimate: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Median seconds, and the estimate."""
    seconds, value = [], 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        value = estimate()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), value


def theirs(x: NDArray[np.float32]) -> float:
    import skdim

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(skdim.id.TwoNN().fit(x).dimension_)


def main() -> None:
    header = ["rows", "estimator", "median s", "estimate", "scikit-dimension's time over this"]
    lines = []
    for rows in ROWS:
        x = vectors(rows)
        other = timed(lambda x=x: theirs(x), REPEATS[rows]) if rows <= COMPARED else None  # type: ignore[misc]
        ours: dict[str, Callable[[], float]] = {
            "ours, TwoNN": lambda x=x: twonn(x).value,  # type: ignore[misc]
            "ours, TwoNN of the paper (interior=1)": lambda x=x: twonn(x, interior=1).value,  # type: ignore[misc]
            "ours, MLE": lambda x=x: mle(x).value,  # type: ignore[misc]
        }
        for name, estimate in ours.items():
            seconds, value = timed(estimate, REPEATS[rows])
            ratio = f"{other[0] / seconds:.1f}" if other else "–"
            lines.append([f"{rows:,}", name, f"{seconds:.2f}", f"{value:.3f}", ratio])
            print(lines[-1], file=sys.stderr, flush=True)
        if other:
            lines.append([f"{rows:,}", "scikit-dimension, TwoNN", f"{other[0]:.2f}", f"{other[1]:.3f}", "1"])
            print(lines[-1], file=sys.stderr, flush=True)
    load = f"{os.cpu_count()} cores, load average of the last 5 minutes {os.getloadavg()[1]:.1f} (ours included)"
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    Path(__file__).with_suffix(".md").write_text(NOTE.format(threads=threads, load=load) + markdown(header, lines))


NOTE = """# Intrinsic dimension: time

`OMP_NUM_THREADS={threads} python -m benchmarks.intrinsic_dimension`

A flat torus of 5 dimensions in 256, float32. Ours asks 10,000 rows for their neighbours among all rows, and
by default uses the 40 percent of them that lie inside; scikit-dimension asks all rows.
{load}.

"""

if __name__ == "__main__":
    main()
