"""What a shape looks like and where it lies, as numbers in closed form: nothing is learned, nothing is random."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.encoders.shape_edges import Array, Edges, edges
from graticule.errors import DataError

OWN_DIRECTIONS, OWN_OCTAVES, OWN_LOWEST = 8, 4, 0.75  # wavenumbers .75, 1.5, 3, 6 by radius of gyration
MAP_DIRECTIONS, MAP_OCTAVES, MAP_LONGEST_KM = 4, 4, 1.024  # wavelengths 1024, 256, 64, 16 m
MEASURES = 13
SHAPE_DIM = MEASURES + 4 * OWN_OCTAVES + 2 * MAP_DIRECTIONS * MAP_OCTAVES  # 61
POSITION_DIM = 8
SERIES = 1e-4  # phase along an edge, at the lowest wavenumber, below which its mean is a power series
CHUNK = 1024  # shapes at once: their edges stay in the processor's cache
Float32 = NDArray[np.float32]


def shapes(geometries: Any, centre_lonlat: ArrayLike, size_km: ArrayLike) -> tuple[Float32, Float32]:
    """(t,) shapely geometries in degrees -> (t, SHAPE_DIM) what they look like, (t, POSITION_DIM) where they lie.

    `centre_lonlat` (t, 2) and `size_km` (t,) are those of the region of each; lengths are metric in its azimuthal
    frame. A logarithm of a length is log10(1 + metres) / 2, of an area log10(1 + m^2) / 4: about 1 for 100 m.

    Geometry, which does not depend on where the shape lies, on the order of parts, holes and vertices or on the
    direction of rings: 0-2 point, line or polygon; 3 several parts; 4 log(parts); 5 log(1 + holes); 6 log area;
    7 log length or perimeter; 8-9 log extents along the principal axes (sqrt(12) deviations: the sides of a rectangle);
    10 compactness 4 pi A / P^2; 11 convexity, length around the hulls by length (lines: twice) around the parts;
    12 elongation, 1 - minor / major. Then the Fourier transform F of the shape about its centroid, of mass 1:

    - 13-28 at wavenumbers relative to the shape's radius of gyration, on a ring of directions, as what does not change
      with rotation: for each wavenumber the mean of |F|, the root mean square of Im F (how far from symmetric about
      its centre), and how much |F| varies with the 2nd and the 4th angular harmonic (oblong, square);
    - 29-60 at wavelengths in metres, in directions of the map (east, north-east, north, north-west): Re F, then Im F.
    A point has F = 1.

    Position: 0-1 centroid east and north of the region's centre in half sizes; 2-3 log extents; 4-5 (cos 2t, sin 2t)
    of the long axis, times its elongation (xx - yy) / (xx + yy), so 0 for points and squares; 6 log10 region size in
    km; 7 long extent in half sizes, at most 8.

    The transform follows Poly2Vec (Siampou et al. 2024, arXiv 2408.14806), with the divergence theorem along edges in
    place of a triangulation, so holes cost nothing. A flat polygon counts as its boundary, a line without length as a
    point. DataError for a shape that is missing, empty or not finite.
    """
    geometries = np.asarray(geometries, dtype=object).reshape(-1)
    centres, sizes = np.asarray(centre_lonlat, dtype=np.float64), np.asarray(size_km, dtype=np.float64)
    if centres.shape != (len(geometries), 2) or sizes.shape != (len(geometries),) or not (sizes > 0).all():
        raise DataError(
            f"Expected a centre and a positive size for each of {len(geometries)} shapes, got shapes {centres.shape} "
            f"and {sizes.shape}{'' if (sizes > 0).all() else ', a size that is not positive'}."
        )
    geometry = np.zeros((len(geometries), SHAPE_DIM), dtype=np.float32)
    position = np.zeros((len(geometries), POSITION_DIM), dtype=np.float32)
    for start in range(0, len(geometries), CHUNK):
        rows = slice(start, start + CHUNK)
        shape = edges(geometries[rows], centres[rows])
        geometry[rows] = looks(shape)
        position[rows] = place(shape, sizes[rows])
    return geometry, position


def looks(shape: Edges) -> Array:
    """(t, SHAPE_DIM) float64: measures, then the transform by own size, then by metres."""
    return np.concatenate([_measures(shape), _by_own_size(shape), _by_metres(shape)], axis=1)


def place(shape: Edges, size_km: Array) -> Array:
    """(t, POSITION_DIM) float64."""
    xx, yy, xy = shape.moments.T
    major, minor = extents_km(shape)
    axis = np.stack([xx - yy, 2 * xy], axis=-1) / np.where(xx + yy > 0, xx + yy, 1)[:, None]
    return np.column_stack(
        [
            shape.centroid / (size_km / 2)[:, None],
            _log_length(major),
            _log_length(minor),
            np.clip(axis, -1, 1),
            np.log10(size_km),
            np.minimum(major / (size_km / 2), 8),
        ]
    )


def extents_km(shape: Edges) -> tuple[Array, Array]:
    """(t,) sqrt(12) standard deviations along the long and the short principal axis."""
    xx, yy, xy = shape.moments.T
    difference = np.hypot(xx - yy, 2 * xy)
    major = np.maximum((xx + yy + difference) / 2, 0)
    minor = np.maximum((xx + yy - difference) / 2, 1e-12 * major)  # above what rounding leaves of a straight line
    return np.sqrt(12 * major), np.sqrt(12 * minor)


def fourier(shape: Edges, wavenumber: Array, directions: int, factors: list[int]) -> tuple[Array, Array]:
    """Real and imaginary part, (factors, t, directions), of F(k) = integral of exp(-i k x) over the shape by its mass.

    k has the length wavenumber (t,), per km, times a factor, each a power of two in ascending order; its directions
    divide the half circle from east. Over a segment from a to b the mean of exp(-i k x) is
    m = (exp(-i k b) - exp(-i k a)) / (-i k (b - a)), a series where k (b - a) is small. A line has the sum of m by
    length, a polygon by the divergence theorem i / |k|^2 times the sum of m (kx (by - ay) - ky (bx - ax)).
    """
    angle = np.pi * np.arange(directions) / directions
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    wide = (wavenumber > 0) & (shape.moments[:, :2].sum(axis=1) > 0)
    found = np.ones((len(factors), directions, len(wide)), dtype=np.complex128)
    if wide.any():
        found[:, :, wide] = _sums_of_edges(shape, wavenumber, unit, factors, wide)
    found = found.transpose(0, 2, 1)
    return np.clip(found.real, -1, 1), np.clip(found.imag, -1, 1)


def _sums_of_edges(
    shape: Edges, wavenumber: Array, unit: Array, factors: list[int], wide: NDArray[np.bool_]
) -> NDArray[np.complex128]:
    """(factors, directions, k) transforms of the k shapes that are `wide`; unit: (directions, 2).

    The sum over edges of w (z(b) - z(a)), z = exp(i k x), goes over corners: z times w of the edge that ends there
    less w of the edge that starts. With each octave z becomes its square.
    """
    inside = wide[shape.entity]
    entity = (np.cumsum(wide) - 1)[shape.entity[inside]]
    first = np.flatnonzero(np.diff(entity, prepend=-1))
    solid, area, k = shape.solid[wide], shape.area[wide], wavenumber[wide]
    step = shape.step[inside].T
    half_phase, turn = unit @ (shape.xy[inside].T * (k / 2)[entity]), unit @ (step * k[entity])  # turn: k (b - a)
    flux = shape.sign[inside] * np.where(solid, 1 / (k * np.where(solid, area, 1)), 0)[entity]
    weight = unit @ (np.stack([step[1], -step[0]]) * flux)
    np.copyto(weight, shape.mass[inside], where=~solid[entity])
    low = np.nonzero((np.abs(turn) < SERIES) & (weight != 0))
    low_turn, low_weight, low_sum = turn[low], weight[low], (low[0], entity[low[1]])
    weight[low] = 0
    weight /= np.where(turn == 0, 1, turn)
    z = _turned(half_phase)
    terms = np.negative(weight)
    terms[:, 1:] += weight[:, :-1]  # nothing from shape to shape: the last edge of each piece has no weight
    terms = z * terms

    out, now = np.empty((len(factors), len(unit), len(first)), dtype=np.complex128), 1
    for row, factor in enumerate(factors):
        while now < factor:
            terms *= z
            z *= z
            now *= 2
        sums = np.add.reduceat(terms, first, axis=1) / factor
        t = low_turn * factor
        series = low_weight * ((1 - t * t / 6) * 1j - (t / 2 - t * t * t / 24))  # (exp(i t) - 1) / t
        np.add.at(sums, low_sum, z[low] * series)
        out[row] = np.where(solid, -1 / factor, 1j) * sums.conj()
    return out


def _turned(half_phase: Array) -> NDArray[np.complex128]:
    """exp(2 i half_phase) by the tangent: one slow function instead of two."""
    out = np.empty(half_phase.shape, dtype=np.complex128)
    tangent = np.tan(half_phase)
    half = tangent * tangent
    half += 1
    np.divide(2, half, out=half)
    np.subtract(half, 1, out=out.real)
    np.multiply(tangent, half, out=out.imag)
    return out


def _measures(shape: Edges) -> Array:
    major, minor = extents_km(shape)
    around = np.where(shape.dimension == 2, shape.length, 2 * shape.length)
    long = around > 1e-8
    return np.column_stack(
        [
            shape.dimension[:, None] == [0, 1, 2],
            shape.parts > 1,
            np.log(shape.parts),
            np.log1p(shape.holes),
            np.log10(1 + shape.area * 1e6) / 4,
            _log_length(shape.length),
            _log_length(major),
            _log_length(minor),
            np.where(long, 4 * np.pi * shape.area / np.where(long, shape.length, 1) ** 2, 0),
            np.where(long, np.minimum(shape.hull / np.where(long, around, 1), 1), 1),
            1 - np.where(major > 0, minor / np.where(major > 0, major, 1), 1),
        ]
    )


def _by_own_size(shape: Edges) -> Array:
    """(t, 4 * octaves): what of the transform does not change when the shape is rotated, scaled or mirrored."""
    radius = np.sqrt(np.maximum(shape.moments[:, :2].sum(axis=1), np.where(shape.solid, shape.area / (2 * np.pi), 0)))
    wavenumber = np.where(radius > 0, OWN_LOWEST / np.where(radius > 0, radius, 1), 0)
    real, imaginary = fourier(shape, wavenumber, OWN_DIRECTIONS, [2**octave for octave in range(OWN_OCTAVES)])
    size = np.hypot(real, imaginary)
    angle = 2 * np.pi * np.outer(np.arange(OWN_DIRECTIONS), [1, 2]) / OWN_DIRECTIONS
    harmonics = 2 * np.hypot(size @ np.cos(angle), size @ np.sin(angle)) / OWN_DIRECTIONS
    parts = [size.mean(axis=2), np.sqrt(np.square(imaginary).mean(axis=2)), harmonics[..., 0], harmonics[..., 1]]
    return np.concatenate(parts).T


def _by_metres(shape: Edges) -> Array:
    """(t, 2 * directions * octaves): the transform in directions of the map."""
    wavenumber = np.full(len(shape.first), 2 * np.pi / MAP_LONGEST_KM)
    parts = fourier(shape, wavenumber, MAP_DIRECTIONS, [4**octave for octave in range(MAP_OCTAVES)])
    return np.concatenate([part.transpose(1, 0, 2).reshape(len(shape.first), -1) for part in parts], axis=1)


def _log_length(km: Array) -> Array:
    return np.log10(1 + 1000 * km) / 2
