"""Three numbers of each map entity that become its colour: what it is, rather than where it lies.

The vectors of neighbours have their surroundings in common, and these vary more than what tells a park from a pond.
So directions in which squares of the map differ are scaled down first; what is left is laid out in three dimensions so
that like lies beside like. Nothing but vectors and places is used: no tags.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError
from graticule.geo.coords import Points
from graticule.web.page import principal_components

SQUARE_KM = 0.2
LEAST_ENTITIES = 5  # of a square whose mean says something of the surroundings
RIDGE = 0.03  # of the mean variance between squares: no direction is stretched without bound
CENTRES = 400  # of like entities, which are laid out; entities go between them
SAMPLE = 8192  # entities that the centres are sought in
ROUNDS = 4  # of k-means
BETWEEN = 4  # centres that an entity goes between
PERPLEXITY = 20.0
STEPS, EARLY_STEPS, EARLY = 200, 80, 12.0  # of t-SNE
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
    """(m, d) means of like vectors, at most so many: k-means from seeds far apart (k-means++), on a sample."""
    rng = np.random.default_rng(0)
    some = vectors[np.sort(rng.permutation(len(vectors))[:SAMPLE])]
    found = _seeds(some, most, rng)
    for _ in range(ROUNDS):
        nearest = _squares(some, found).argmin(axis=1)
        counts = np.bincount(nearest, minlength=len(found))
        order = np.argsort(nearest, kind="stable")
        full = counts > 0
        sums = np.add.reduceat(some[order], (counts.cumsum() - counts)[full], axis=0)
        found[full] = sums / counts[full, None]
    return found


def _seeds(vectors: Floats, most: int, rng: np.random.Generator) -> Floats:
    """Rows, each drawn by its squared distance to those drawn before (Arthur & Vassilvitskii 2007)."""
    rows = [0]
    far = np.square(vectors - vectors[0]).sum(axis=1)
    while len(rows) < most and far.max() > TINY:
        rows.append(min(int(np.searchsorted(far.cumsum(), rng.random() * far.sum(), side="right")), len(far) - 1))
        far = np.minimum(far, np.square(vectors - vectors[rows[-1]]).sum(axis=1))
    return vectors[rows]


def laid_out(vectors: Floats) -> Floats:
    """(m, d) vectors -> (m, 3), so that those alike lie side by side (t-SNE, van der Maaten & Hinton 2008)."""
    if len(vectors) < 3:
        return _principal(vectors)
    near = _affinities(vectors)
    start = _principal(vectors)
    place = 1e-2 * start / max(start.std(), TINY)
    speed, rate = np.zeros_like(place), len(vectors) / 3
    for step in range(STEPS):
        early = step < EARLY_STEPS
        kernel = 1 / (1 + _squares(place, place))
        np.fill_diagonal(kernel, 0)
        pull = ((EARLY if early else 1.0) * near - kernel / max(kernel.sum(), TINY)) * kernel
        slope = 4 * (pull.sum(axis=1)[:, None] * place - pull @ place)
        speed = (0.5 if early else 0.8) * speed - (rate / 4 if early else rate) * slope
        place = place + speed
    return _principal(place)


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


def _affinities(vectors: Floats) -> Floats:
    """(m, m) symmetric shares: of each row a Gaussian of the perplexity."""
    apart = _squares(vectors, vectors)
    np.fill_diagonal(apart, np.inf)
    apart -= apart.min(axis=1, keepdims=True)
    low, high = np.full(len(apart), -40.0), np.full(len(apart), 40.0)
    target = np.log(min(PERPLEXITY, max(1.0, (len(vectors) - 1) / 3)))
    for _ in range(40):
        middle = (low + high) / 2  # of the logarithm of the Gaussian's sharpness
        shares = np.exp(-apart * np.exp(middle)[:, None])
        shares /= shares.sum(axis=1, keepdims=True)
        entropy = -(shares * np.log(shares + 1e-300)).sum(axis=1)
        low, high = np.where(entropy > target, middle, low), np.where(entropy > target, high, middle)
    return np.asarray((shares + shares.T) / (2 * len(shares)))


def _squares(a: Floats, b: Floats) -> Floats:
    """(n, m) squared distances."""
    return np.asarray(np.maximum(np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T, 0))


def _principal(values: Floats) -> Floats:
    """(m, 3) scores on the leading principal components; zeros where there are fewer."""
    centred = values - values.mean(axis=0)
    axes, _ = principal_components(centred, np.full(len(values), 1 / len(values)), 3)
    return np.pad(centred @ axes, [(0, 0), (0, 3 - axes.shape[1])])
