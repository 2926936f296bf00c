"""A map's vectors as two GeoParquet files and a ledger, streamed; killed at any moment, whole files or none."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from graticule.data.source import Row, Skip, Source
from graticule.embed_map.frames import embedded
from graticule.embed_map.gather import Parts, wrapped
from graticule.errors import DataError, need
from graticule.files import atomic_write, write_json
from graticule.finished import origin
from graticule.geo.geoparquet import box_column, file_metadata, vector_column, vectors_of
from graticule.geo.region import Region
from graticule.progress import Progress

if TYPE_CHECKING:
    from graticule.embed_map.model import MapModel, Vectors

REGIONS, ENTITIES, LEDGER = "regions.parquet", "entities.parquet", "ledger.json"
ROW_GROUP = 50_000
EXAMPLES = 3  # skipped regions named a reason


@dataclass(frozen=True)
class Written:
    """What `write_map` wrote into `folder`; `ledger` is what its ledger.json holds."""

    folder: Path
    ledger: dict[str, Any]
    seconds: float

    def __str__(self) -> str:
        ledger = self.ledger
        lines = [f"{self.folder}: {ledger['regions']:,} regions, {ledger['entities']:,} entities"]
        lines += [f"  {what:18s} {_counted(counts)}" for what, counts in _summary(ledger)]
        lines.append(f"  {REGIONS}, {ENTITIES}, {LEDGER} in {self.seconds:.1f} s")
        return "\n".join(lines)


def _summary(ledger: dict[str, Any]) -> Iterator[tuple[str, dict[str, int]]]:
    if ledger["reader"] is not None:
        reader, regions = ledger["reader"]["entities"], ledger["reader"]["regions"]
        dropped: Counter[str] = Counter()
        for reasons in reader["dropped"].values():
            dropped.update(reasons)
        yield "ids found", _plural(reader["found"])
        yield "kept", _plural(reader["kept"])
        yield "dropped", dropped
        yield "of the kept", regions["noted"]
        yield "empty regions", {"in the bounding box": regions.get("empty", 0)}
    yield "regions left out", ledger["skipped"]
    if ledger["not_written"]:
        yield "kept, not written", _plural(ledger["not_written"])


def _plural(counts: Mapping[str, int]) -> dict[str, int]:
    return {f"{kind}s": n for kind, n in counts.items()}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items()) or "none"


@dataclass
class _Skipped:
    """Regions that a source left out."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def watch(self, records: Iterator[Row | Skip]) -> Iterator[Row | Skip]:
        for record in records:
            if isinstance(record, Skip):
                self.counts[record.reason] = self.counts.get(record.reason, 0) + 1
                examples = self.examples.setdefault(record.reason, [])
                if len(examples) < EXAMPLES:
                    examples.append(record.where)
            yield record


def write_map(model: MapModel, source: Source, out: str | Path) -> Written:
    """Embed every region of a source into the folder `out`: regions.parquet, entities.parquet, ledger.json.

    GeoParquet 1.1 with `geo` and `emb` metadata. Regions: region_id, geometry, bbox, n_entities, embedding.
    Entities, each once: id ("way/123"), kind, tags, geometry (union of its parts), bbox, regions, shares,
    embedding (mean over its regions, weighted by share). Memory is bounded by a chunk of regions and 1/64 of
    the entities, which wait in `out`/.unfinished, about (4 width + 200) bytes for every entity of a region.
    A killed run leaves the files of before or none, and starts over; ledger.json comes last.

    Raises DataError when no entity was kept, or `out` cannot be written.
    """
    began = time.monotonic()
    out = Path(out)
    work = out / ".unfinished"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}): choose another folder.") from error
    skipped = _Skipped()
    watched = replace(source, records=lambda start: skipped.watch(source.records(start)))
    try:
        about = {**origin(model.about), "map": source.about, "map_licence": source.licence}
        regions, parts = _write_regions(model, watched, work, about)
        counts = _write_entities(model, parts, work, about)
        reader = None if source.ledger is None else source.ledger()
        if not counts:
            raise DataError(_nothing(source, reader, skipped))
        kept = {} if reader is None else reader["entities"]["kept"]
        ledger = {
            "regions": regions,
            "entities": sum(counts.values()),
            "written": counts,
            "not_written": {k: n - counts.get(k, 0) for k, n in kept.items() if n > counts.get(k, 0)},
            "reader": reader,
            "skipped": skipped.counts,
            "skipped_examples": skipped.examples,
            "source": source.about,
            "licence": source.licence,
            "model": model.about["name"],
            "model_hash": model.about["weights"],
        }
        (out / LEDGER).unlink(missing_ok=True)
        for name in (REGIONS, ENTITIES):
            atomic_write(out / name, (work / name).replace)
        write_json(out / LEDGER, ledger)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Written(out, ledger, time.monotonic() - began)


def _write_regions(model: MapModel, source: Source, work: Path, about: dict[str, Any]) -> tuple[int, Parts]:
    import pyarrow as pa

    parts = Parts(work, model.width)
    count = 0
    with (
        Progress("embed map", source.total, unit="regions") as progress,
        _Writer(work / REGIONS, ["Polygon", "MultiPolygon"], model.dim, about) as writer,
    ):
        for rows, vectors, of_regions in embedded(model, source, progress):
            contents = [cast(Region, row.content) for row in rows]
            names = {"region_id": pa.array([row.id for row in rows], pa.string())}
            entities = {"n_entities": pa.array([len(c) for c in contents], pa.int32())}
            writer.write(names, [c.outline for c in contents], entities, vectors)
            parts.add(of_regions)
            count += len(rows)
    return count, parts


def _write_entities(model: MapModel, parts: Parts, work: Path, about: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    with _Writer(work / ENTITIES, [], model.width, about) as writer:
        for table in parts.entities():
            before = {name: table[name].combine_chunks() for name in ("id", "kind", "tags")}
            after = {name: table[name].combine_chunks() for name in ("regions", "shares")}
            writer.write(before, table["geometry"].to_pylist(), after, vectors_of(table["embedding"]))
            for kind in table["kind"].to_pylist():
                counts[kind] = counts.get(kind, 0) + 1
    return counts


def _nothing(source: Source, reader: dict[str, Any] | None, skipped: _Skipped) -> str:
    dropped = {} if reader is None else reader["entities"]["dropped"]
    why = [f"{n:,} {kind}s {reason}" for kind, reasons in dropped.items() for reason, n in reasons.items()]
    why += [f"{n:,} entities {what}" for what, n in ({} if reader is None else reader["regions"]["noted"]).items()]
    why += [f"{n:,} regions with {reason}" for reason, n in skipped.counts.items()]
    files = ", ".join(path.name for path in source.files) or "The source"
    return f"{files}: no entity is in any region ({', '.join(why) or 'there are none'}), so there is nothing to embed."


class _Writer:
    """A GeoParquet file written table by table in row groups of at least ROW_GROUP rows, but for the last."""

    def __init__(self, path: Path, geometry_types: Sequence[str], dimensions: int, about: dict[str, Any]) -> None:
        self.metadata = file_metadata(geometry_types, dimensions, about)
        self.path = path
        self.waiting: list[Any] = []
        self.writer: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._flush()
        if self.writer is not None:
            self.writer.close()

    def write(self, before: dict[str, Any], geometry: Sequence[bytes], after: dict[str, Any], vectors: Vectors) -> None:
        """Columns, WKB (longitudes may run on past 180), further columns and (n, d) vectors."""
        import pyarrow as pa

        shapely = need("shapely", "osm")
        inside = wrapped(geometry)
        box = box_column(shapely.bounds(shapely.from_wkb(inside)))
        placed = {"geometry": pa.array(inside, pa.binary()), "bbox": box}
        table = pa.table({**before, **placed, **after, "embedding": vector_column(vectors)})
        self.waiting.append(table.replace_schema_metadata(self.metadata))
        if sum(map(len, self.waiting)) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.waiting:
            return
        table = pa.concat_tables(self.waiting)
        self.writer = self.writer or pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self.writer.write_table(table, row_group_size=2 * ROW_GROUP)
        self.waiting = []
