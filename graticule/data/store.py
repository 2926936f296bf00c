"""Prepared data on disk: one folder a modality, Parquet parts and a manifest; killed at any moment, it goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graticule.data import contents
from graticule.data.source import Content, Row, Skip, Source
from graticule.errors import CacheError, DataError, SettingError
from graticule.files import atomic_write, digest_file, digest_json, read_json, write_json
from graticule.geo.coords import Points, lonlat
from graticule.progress import Progress

logger = logging.getLogger(__name__)
PART_BYTES = 32 << 20  # raw content of one part; with PART_ROWS the upper bound of what a kill costs
PART_ROWS = 2048
EXAMPLES = 3  # places of skipped records kept a reason


@dataclass(frozen=True)
class Table:
    """The prepared rows of one modality, read part by part."""

    name: str
    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Source, licence, hashes, counts of rows and of what was skipped and why."""
        manifest: dict[str, Any] = read_json(self.folder / "manifest.json")
        if not manifest["complete"]:
            raise DataError(f"{self.folder} was not prepared to the end. Run the same `prepare` again: it goes on.")
        return manifest

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @property
    def kind(self) -> str:
        """text, image, photo, region or point."""
        return str(self.manifest["kind"])

    @property
    def fingerprint(self) -> str:
        """Digest of all parts: equal for equal rows in equal order."""
        return digest_json([part["blake2b"] for part in self.manifest["parts"]])

    def _read(self, part: Mapping[str, Any], columns: list[str]) -> pa.Table:
        path = self.folder / part["file"]
        if not path.exists() or digest_file(path) != part["blake2b"]:
            raise CacheError(f"{path} is missing or damaged. Delete the folder {self.folder} and prepare it again.")
        return pq.read_table(path, columns=columns)

    @cached_property
    def _places(self) -> tuple[Points, NDArray[np.str_]]:
        parts = [self._read(part, ["id", "lon", "lat"]) for part in self.manifest["parts"]]
        if not parts:
            return lonlat(lon=[], lat=[]), np.array([], dtype=np.str_)
        table = pa.concat_tables(parts)
        points = lonlat(lon=table["lon"].to_numpy(), lat=table["lat"].to_numpy(), where=f"{self.folder}:row")
        return points, np.array(table["id"].to_pylist(), dtype=np.str_)

    @property
    def lonlat(self) -> Points:
        """(n, 2) degrees."""
        return self._places[0]

    @property
    def ids(self) -> NDArray[np.str_]:
        """(n,) names of the rows as the source gave them."""
        return self._places[1]

    def parts(self) -> list[dict[str, Any]]:
        """File, number of rows and digest of every part, in order; DataError for a table without rows."""
        if not self.manifest["parts"]:
            raise DataError(
                f"Modality {self.name!r} in {self.folder} has 0 rows. Delete it or choose other modalities."
            )
        return list(self.manifest["parts"])

    def contents(self, part: Mapping[str, Any]) -> list[Content]:
        """The contents of one part, in order."""
        return contents.decode(self._read(part, ["content"])["content"], self.manifest)

    def all_contents(self) -> Iterator[Content]:
        """The contents of all rows, in order."""
        for part in self.parts():
            yield from self.contents(part)


@dataclass(frozen=True)
class Dataset:
    """A folder of prepared modalities."""

    folder: Path
    tables: dict[str, Table] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def __str__(self) -> str:
        lines = [f"{self.folder}:"]
        for name, table in self.tables.items():
            skipped = ", ".join(f"{n:,} {reason}" for reason, n in table.manifest["skipped"].items()) or "nothing"
            lines.append(f"  {name:12s} {len(table):>9,} rows of {table.kind}; skipped: {skipped}")
        return "\n".join(lines)


def open_dataset(folder: str | Path) -> Dataset:
    """The prepared modalities in `folder`; DataError when there are none."""
    folder = Path(folder)
    tables = {path.parent.name: Table(path.parent.name, path.parent) for path in sorted(folder.glob("*/manifest.json"))}
    if not tables:
        raise DataError(
            f"{folder} holds no prepared data (no */manifest.json). Run `graticule prepare ... --to {folder}`."
        )
    return Dataset(folder, tables)


def prepare(sources: Mapping[str, Source], *, to: str | Path) -> Dataset:
    """Write every source as a table of Parquet parts with a manifest under the folder `to`; returns the dataset.

    Killed at any moment, the same call goes on after the last whole part and ends with the same files.
    Raises DataError for a modality that ends with no rows, or when `to` already holds other data under its name.
    """
    for name in sources:
        if not name.isidentifier():
            raise SettingError(f"A modality's name must be a plain word (letters, digits, _), got {name!r}.")
    tables = {name: _prepare_one(name, source, Path(to) / name) for name, source in sources.items()}
    return Dataset(Path(to), {**open_dataset(to).tables, **tables})


def _prepare_one(name: str, source: Source, folder: Path) -> Table:
    about: dict[str, Any] = {
        "modality": name,
        "kind": source.kind,
        "source": source.about,
        "licence": source.licence,
        "bands": list(source.bands),
        "files": [
            {"path": str(path), "bytes": path.stat().st_size, "blake2b": digest_file(path)} for path in source.files
        ],
    }
    fingerprint = digest_json({**about, "files": [(f["bytes"], f["blake2b"]) for f in about["files"]]})
    path = folder / "manifest.json"
    state = read_json(path) if path.exists() else None
    if state is not None and state["fingerprint"] != fingerprint:
        raise DataError(f"{folder} holds {name!r} prepared from another source. Delete it or choose another folder.")
    if state is None:
        state = {**about, "fingerprint": fingerprint, "complete": False, "position": 0, "rows": 0}
        state |= {"skipped": {}, "skipped_examples": {}, "parts": []}
        write_json(path, state)
    if not state["complete"]:
        _drop_strays(folder, state)
        _continue(name, source, folder, state)
    if state["rows"] == 0:
        why = ", ".join(f"{n:,} {reason}" for reason, n in state["skipped"].items()) or "the source is empty"
        raise DataError(
            f"Modality {name!r} has 0 rows ({why}). Nothing can be tied to position by it: check the source."
        )
    logger.info("prepared %s: %s rows in %s", name, f"{state['rows']:,}", folder)
    return Table(name, folder)


def _drop_strays(folder: Path, state: dict[str, Any]) -> None:
    known = {part["file"] for part in state["parts"]}
    for stray in (*folder.glob("part-*"), *folder.glob(".*.tmp")):
        if stray.name not in known:
            stray.unlink()


def _continue(name: str, source: Source, folder: Path, state: dict[str, Any]) -> None:
    rows: list[Row] = []
    size = 0
    with Progress(f"prepare {name}", source.total, start=state["position"], unit="records") as progress:
        for record in source.records(state["position"]):
            state["position"] += 1
            progress.advance()
            if isinstance(record, Skip):
                state["skipped"][record.reason] = state["skipped"].get(record.reason, 0) + 1
                examples = state["skipped_examples"].setdefault(record.reason, [])
                if len(examples) < EXAMPLES:
                    examples.append(record.where)
                continue
            rows.append(record)
            size += contents.size(record.content)
            if len(rows) == PART_ROWS or size >= PART_BYTES:
                _write_part(folder, state, rows)
                rows, size = [], 0
        if rows:
            _write_part(folder, state, rows)
    if source.ledger is not None:
        state["ledger"] = source.ledger()
    write_json(folder / "manifest.json", state | {"complete": True})
    state["complete"] = True


def _write_part(folder: Path, state: dict[str, Any], rows: list[Row]) -> None:
    lonlat(
        lon=[r.lon for r in rows],
        lat=[r.lat for r in rows],
        where=f"{state['modality']}, part {len(state['parts'])}, row",
    )
    columns = {
        "id": pa.array([r.id for r in rows], pa.string()),
        "lon": pa.array([r.lon for r in rows], pa.float64()),
        "lat": pa.array([r.lat for r in rows], pa.float64()),
    }
    if state["kind"] != "point":
        columns["content"] = contents.encode([r.content for r in rows], state)
    path = folder / f"part-{len(state['parts']):05d}.parquet"
    atomic_write(path, lambda temporary: pq.write_table(pa.table(columns), temporary, compression="zstd"))
    state["parts"].append({"file": path.name, "rows": len(rows), "blake2b": digest_file(path)})
    state["rows"] += len(rows)
    write_json(folder / "manifest.json", state)


def head(source: Source, n: int) -> list[Row]:
    """The first `n` rows of a source: a look before preparing it."""
    return list(islice(source.rows(), n))
