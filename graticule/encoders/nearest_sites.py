"""The sites nearest to a place, exactly: by SciPy's tree where it is installed, else by halving places and sites."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Xyz = NDArray[np.float64]
Numbers = NDArray[np.intp]
PAIRS = 1 << 14  # distances of one group that are cheaper to compute than to avoid
PLACES = 16  # of a group that is not halved again


def nearest_sites(xyz: Xyz, sites: Xyz, nearest: int) -> Numbers:
    """(n, 3) points, (s, 3) sites -> (n, nearest) numbers of the nearest sites by straight distance, nearest first."""
    try:
        from scipy.spatial import cKDTree
    except ImportError:
        return halving(xyz, sites, nearest)
    found: Numbers = cKDTree(sites).query(xyz, nearest)[1].reshape(len(xyz), nearest)
    return found


def halving(xyz: Xyz, sites: Xyz, nearest: int) -> Numbers:
    """The same in numpy alone.

    A group of places within r of its centre, whose k-th nearest site is d away, finds all its answers within d + 2 r of
    the centre, by the triangle inequality. Groups are halved along their widest axis, each with the sites that its
    parent kept, until little is left to compare. Works for places and sites however dense, and needs no tree.
    """
    found = np.empty((len(xyz), nearest), dtype=np.intp)
    groups = [(np.arange(len(xyz)), np.arange(len(sites)))] if len(xyz) else []
    while groups:
        places, near = groups.pop()
        if len(places) * len(near) > PAIRS:
            near = _within_reach(xyz[places], sites, near, nearest)
        if len(places) > PLACES and len(places) * len(near) > PAIRS:
            points = xyz[places]
            axis = np.argmax(np.ptp(points, axis=0))
            order = np.argpartition(points[:, axis], len(places) // 2)
            groups += [(half, near) for half in np.split(places[order], [len(places) // 2])]
        else:
            found[places] = near[_compared(xyz[places], sites[near], nearest)]
    return found


def _within_reach(points: Xyz, sites: Xyz, near: Numbers, nearest: int) -> Numbers:
    centre = points.mean(axis=0)
    reach = np.sqrt(((points - centre) ** 2).sum(axis=1).max())
    away = np.sqrt(((sites[near] - centre) ** 2).sum(axis=1))
    farthest = np.partition(away, nearest - 1)[nearest - 1] + 2 * reach
    kept: Numbers = near[away <= farthest * (1 + 1e-12)]
    return kept


def _compared(points: Xyz, sites: Xyz, nearest: int) -> Numbers:
    squares = (sites**2).sum(axis=1) - 2 * points @ sites.T  # less that of the point, which is the same for all
    first = np.argpartition(squares, nearest - 1, axis=1)[:, :nearest]
    order = np.argsort(np.take_along_axis(squares, first, axis=1), axis=1, kind="stable")
    return np.take_along_axis(first, order, axis=1)
