"""Three numbers of each map entity that become its colour: what it is, rather than where it lies.

The vectors of neighbours have their surroundings in common, and these vary more than what tells a park from a pond.
So directions in which squares of the map differ are scaled down first; what is left is laid out in three dimensions so
that like lies beside like. Nothing but vectors and places is used: no tags.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.geo.coords import Points
from graticule.web.page import principal_components

SQUARE_KM = 0.2
LEAST_ENTITIES = 5  # of a square whose mean says something of the surroundings
RIDGE = 0.03  # of the mean variance between squares: no direction is stretched without bound
CENTRES = 400  # of like entities, which are laid out; entities go between them
SAMPLE = 8192  # entities that the centres are sought in
ROUNDS = 10  # of k-means
BETWEEN = 4  # centres that an entity goes between
PERPLEXITY = 20.0
STEPS = 400  # of t-SNE
TINY = 1e-12

Floats = NDArray[np.floating[Any]]


def colour_space(vectors: Floats, places_km: Points) -> Floats:
    """(n, d) vectors of entities and (n, 2) where they lie -> (n, 3), the widest first; the same each time.

    DataError where the numbers of rows differ.
    """
    if len(vectors) != len(places_km):
        raise DataError(f"Each entity needs a place: {len(vectors)} vectors, {len(places_km)} places.")
    if not len(vectors):
        return np.zeros((0, 3))
    plain = without_surroundings(vectors, places_km)
    known = centres(plain, CENTRES)
    return between(plain, known, laid_out(known))


def without_surroundings(vectors: Floats, places_km: Points) -> Floats:
    """(n, d) vectors in axes of which each varies at most by 1 between squares of the map."""
    centred = np.asarray(vectors - vectors.mean(axis=0, dtype=np.float64), dtype=np.float64)
    _, square, counts = np.unique(np.floor(places_km / SQUARE_KM), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(square.ravel(), kind="stable")
    sums = np.add.reduceat(centred[order], counts.cumsum() - counts, axis=0)
    full = counts >= LEAST_ENTITIES
    means, weights = sums[full] / counts[full, None], counts[full, None] / max(1, counts[full].sum())
    covariance = (means * weights).T @ means
    least = RIDGE * covariance.trace() / len(covariance) + TINY
    variance, axes = np.linalg.eigh(covariance + least * np.eye(len(covariance)))
    return np.asarray(centred @ (axes / np.sqrt(variance)))


def centres(vectors: Floats, most: int) -> Floats:
    """(m, d) means of like vectors, at most so many: k-means on a sample."""
    some = vectors[np.sort(np.random.default_rng(0).permutation(len(vectors))[:SAMPLE])]
    count = min(most, len(np.unique(some, axis=0)))
    means = need("sklearn.cluster", "train").KMeans(count, n_init=1, max_iter=ROUNDS, random_state=0).fit(some)
    return np.asarray(means.cluster_centers_)


def laid_out(vectors: Floats) -> Floats:
    """(m, d) vectors -> (m, 3), so that those alike lie side by side (t-SNE, van der Maaten & Hinton 2008)."""
    start = _principal(vectors)
    if len(vectors) < 4:
        return start
    layout = need("sklearn.manifold", "train").TSNE(
        3,
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
        learning_rate=len(vectors) / 12,
        init=(1e-2 * start / max(start.std(), TINY)).astype(np.float32),
        method="exact",
        max_iter=STEPS,
        random_state=0,
    )
    return _principal(layout.fit_transform(vectors))


def between(vectors: Floats, known: Floats, placed: Floats) -> Floats:
    """(n, 3) places of (n, d) vectors: means of those of the most alike of `known`, by distance to the power of -4."""
    count = min(BETWEEN, len(known))
    out = np.zeros((len(vectors), placed.shape[1]))
    for start in range(0, len(vectors), SAMPLE):
        apart = _squares(vectors[start : start + SAMPLE], known)
        rows = np.argpartition(apart, count - 1, axis=1)[:, :count]
        weights = 1 / np.square(np.take_along_axis(apart, rows, axis=1) + 1e-9)
        weights /= weights.sum(axis=1, keepdims=True)
        out[start : start + SAMPLE] = (placed[rows] * weights[:, :, None]).sum(axis=1)
    return out


def _squares(a: Floats, b: Floats) -> Floats:
    """(n, m) squared distances."""
    return np.asarray(np.maximum(np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T, 0))


def _principal(values: Floats) -> Floats:
    """(m, 3) scores on the leading principal components; zeros where there are fewer."""
    centred = values - values.mean(axis=0)
    axes, _ = principal_components(centred, np.full(len(values), 1 / len(values)), 3)
    return np.pad(centred @ axes, [(0, 0), (0, 3 - axes.shape[1])])
