"""Asking an index: the graph proposes rows by their int8 vectors, the finer numbers of these rows decide."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graticule.data.vectors import VectorTable, parquet_files
from graticule.errors import CacheError, DataError, SettingError
from graticule.files import is_as_stamped, read_json
from graticule.geo.coords import Points, great_circle_km
from graticule.geo.directions import coarse, fine, unit
from graticule.geo.ranking import Found, best_apart
from graticule.index.build import FORMAT, MANIFEST, PLACES, ROWS, empty_graph, refuse_damaged

if TYPE_CHECKING:
    from graticule.embed import Model

logger = logging.getLogger(__name__)
PROPOSED = 8  # rows asked of every graph for each answer,
LEAST_PROPOSED = 64  # and at least so many
WIDER = 8  # times as many, when too few of them lie apart
WIDEST = 32_768  # more than that are found faster by comparing all rows
BLOCK = 32_768  # rows compared at a time


@dataclass(frozen=True, repr=False)
class PlaceIndex:
    """A finished index, its files mapped into memory: only what is touched is read."""

    folder: Path
    manifest: dict[str, Any]
    graphs: list[Any]
    rows: NDArray[np.int16]
    lonlat: Points
    table: VectorTable | None

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"PlaceIndex({str(self.folder)!r}, {len(self):,} rows, {self.dim}-d, {self.space})"

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self.manifest["dim"])

    @property
    def space(self) -> str:
        """The space of the vectors: "shared", where texts and pictures are too, or "own", that of places alone."""
        return str(self.manifest["of"].get("space") or "own")

    def fitting(self, model: Model) -> Model:
        """The model, cut to the length of the vectors; DataError where they were made by another model."""
        of = self.manifest["of"]
        if of.get("model_hash") != model.about["weights"]:
            made = f"of the model {of['model']!r}" if of.get("model") else "that do not say which model made them"
            raise DataError(
                f"{self.folder} holds vectors {made}, the question would be one of {model.about['name']!r}: they "
                "cannot be compared. Name the run that made them: graticule nearest RUN --index."
            )
        return model.prefix(self.dim) if self.space == "own" else model

    def search(
        self,
        asked: NDArray[Any],
        k: int = 5,
        *,
        place: Points | None = None,
        apart_km: float = 0.0,
        proposed: int | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers and cosines (at most k) of the rows most similar to the (dim,) vector `asked`, best first.

        `place` and `apart_km` as in `nearest`: the search widens until enough rows lie apart. `proposed` rows of each
        graph are compared at first: more find more and take longer.
        """
        if k < 1:
            raise SettingError(f"Ask for at least one answer, got k={k}.")
        if asked.shape != (self.dim,) or not np.isfinite(asked).all():
            raise DataError(f"{self.folder} answers vectors of {self.dim} finite numbers, got {asked.shape}.")
        direction = unit(asked[None])[0]
        count = proposed or max(LEAST_PROPOSED, PROPOSED * k)
        while True:
            everything = count > min(len(self), WIDEST) or not direction.any()
            rows = np.arange(len(self)) if everything else self._proposed(direction, count)
            scores = self._cosines(None if everything else rows, direction)
            lonlat = self.lonlat if everything else self.lonlat[rows]
            best = list(best_apart(scores, lonlat, k, place=place, apart_km=apart_km))
            if everything or len(best) == k:
                return rows[best], scores[best]
            count *= WIDER
            logger.debug("%d answers lie apart: %d rows are looked at", len(best), count)

    def nearest(
        self, asked: NDArray[Any], k: int = 5, *, place: Points | None = None, apart_km: float = 0.0
    ) -> list[Found]:
        """The same rows by their names in the table, with their places and distances, as `graticule.nearest` has it."""
        rows, scores = self.search(asked, k, place=place, apart_km=apart_km)
        names = self.table.names(rows.tolist()) if self.table else [f"row {row}" for row in rows]
        found = []
        for name, score, (lon, lat) in zip(names, scores.tolist(), self.lonlat[rows], strict=True):
            away = None if place is None else float(great_circle_km(place, np.array([[lon, lat]]))[0])
            found.append(Found(name, float(lon), float(lat), score, away))
        return found

    def _proposed(self, direction: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Numbers of about `count` rows that come nearest in one byte a number, ascending, so that ties keep order."""
        asked = coarse(fine(direction[None]))[0]
        found = [graph.search(asked, count, threads=1) for graph in self.graphs]
        rows = np.concatenate([matches.keys for matches in found]).astype(np.int64)
        distances = np.concatenate([matches.distances for matches in found])
        best = np.argpartition(distances, count)[:count] if len(rows) > count else slice(None)
        return np.sort(rows[best])

    def _cosines(self, rows: NDArray[np.int64] | None, direction: NDArray[np.float32]) -> NDArray[np.float32]:
        if rows is not None:
            return unit(self.rows[rows]) @ direction
        parts = [unit(self.rows[i : i + BLOCK]) @ direction for i in range(0, len(self), BLOCK)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def open_index(folder: str | Path, *, table: str | Path | None = None) -> PlaceIndex:
    """The index in a folder, without reading it; `table` says where its table of vectors is, when it was moved.

    Raises DataError for a folder without a finished index and a table that is missing or another, CacheError for files
    that are damaged: whole files are read for that only when they were changed or copied since.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise DataError(f"{folder} holds no index ({MANIFEST} is missing): build one by `graticule index`.")
    manifest = read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CacheError(f"{folder / MANIFEST} is of format {manifest.get('format')}, this version reads {FORMAT}.")
    if not manifest["complete"]:
        raise DataError(f"{folder} holds an unfinished index. Run the same `graticule index` again: it goes on.")
    refuse_damaged(folder, manifest)
    count, dim = manifest["rows"], manifest["dim"]
    graphs = []
    for name in manifest["graphs"]:
        graphs.append(empty_graph(dim, manifest["connectivity"], manifest["expansion"]))
        graphs[-1].view(str(folder / name))
    rows, lonlat = _mapped(folder / ROWS, np.int16, (count, dim)), _mapped(folder / PLACES, np.float64, (count, 2))
    return PlaceIndex(folder, manifest, graphs, rows, lonlat, _table(folder, manifest, table))


def _mapped(path: Path, kind: Any, shape: tuple[int, int]) -> NDArray[Any]:
    return np.memmap(path, kind, "r", shape=shape) if shape[0] else np.zeros(shape, kind)


def _table(folder: Path, manifest: dict[str, Any], given: str | Path | None) -> VectorTable | None:
    """The table whose rows were put in: where it was, beside the index, or where the caller says."""
    if "table" not in manifest["of"]:
        if given is not None:
            raise SettingError(f"{folder} was made of arrays: it has no table of places, got {given}.")
        return None
    stamped = manifest["of"]["table"]
    was = Path(stamped["path"])
    path = Path(given) if given is not None else was if was.exists() else folder.parent / was.name
    if not path.exists():
        raise DataError(f"{was}, whose rows {folder} holds, is not there any more: say where it is by --places.")
    files = parquet_files(path)
    if len(files) != len(stamped["files"]) or not all(map(is_as_stamped, files, stamped["files"])):
        raise DataError(f"{path} is not what it was when {folder} was made of it: build the index again.")
    return VectorTable(path)
