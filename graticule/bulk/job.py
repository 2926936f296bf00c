"""A bulk job on disk: what is asked for, how it is cut into shards, and which of them are done."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from graticule.errors import CacheError, DataError
from graticule.files import digest_file, read_json, write_json

logger = logging.getLogger(__name__)
FORMAT = 1
MANIFEST = "_manifest.json"  # programs that read a folder of Parquet files leave out names that begin so
STAGED = "_rows"  # folder of rows that wait to be embedded, where they are not read from the input itself
RECORD = ("vectors", "blake2b", "bytes", "box")  # what is known of a shard that is done
ASKED = {  # in the order in which a difference is told
    "model": "model",
    "model_hash": "model of that name",
    "dimensions": "length of vectors",
    "precision": "precision",
    "numbers": "kind of numbers",
    "input": "input",
    "lon": "column of longitudes",
    "lat": "column of latitudes",
    "order": "order of rows",
    "space": "space",
    "shard_rows": "size of shards",
    "bounds": "extent",
    "pixel": "size of pixels",
}


@dataclass(frozen=True)
class Shard:
    """The rows of one output file: row groups of a Parquet file, or without groups all rows of a staged file."""

    file: str
    source: str
    rows: int
    groups: tuple[int, ...] = ()
    row: int = 0  # number of its first row in the input, where order is that of the input


@dataclass(frozen=True)
class Job:
    """A job and how far it has come, as the manifest in its folder has it.

    `asked` is what makes it this job and no other; `about` stands in every shard; `done` holds for each
    finished shard, by its file, its digests, its box and its size.
    """

    folder: Path
    asked: dict[str, Any]
    about: dict[str, Any]
    model: str | None  # folder of the run; None: the model inside the package
    shards: tuple[Shard, ...] = ()  # none before the input is laid out
    done: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def left(self) -> list[Shard]:
        """The shards that are not done, in order."""
        return [shard for shard in self.shards if shard.file not in self.done]

    def write(self) -> Job:
        """Write the manifest; returns itself."""
        shards = [asdict(shard) | self.done.get(shard.file, {}) for shard in self.shards]
        manifest = {"format": FORMAT, "complete": not self.left, "rows": self.rows}
        write_json(
            self.folder / MANIFEST,
            manifest | {"asked": self.asked, "about": self.about, "model": self.model, "shards": shards},
        )
        return self

    def finished(self, shard: Shard, record: dict[str, Any]) -> Job:
        """The job with one more shard done, written."""
        return replace(self, done={**self.done, shard.file: record}).write()


def open_job(folder: Path, asked: dict[str, Any], path: Path) -> Job | None:
    """The job on the input at `path` that waits in `folder`, or None where there is none.

    Raises DataError when it is another job, or when the folder holds Parquet files of none.
    """
    if not (folder / MANIFEST).exists():
        if strays := sorted(folder.glob("*.parquet")):
            raise DataError(f"{folder} holds {strays[0].name}, which is of no such job. Choose another folder.")
        return None
    state = read_json(folder / MANIFEST)
    if state.get("format") != FORMAT:
        raise CacheError(f"{folder / MANIFEST} is of format {state.get('format')}, this version reads {FORMAT}.")
    refuse_other(folder, state["asked"], asked)
    shards = []
    for entry in state["shards"]:
        source = path if entry["groups"] else folder / STAGED / Path(entry["source"]).name
        given = {"source": str(source.resolve()), "groups": tuple(entry["groups"])}
        shards.append(Shard(**{field.name: entry[field.name] for field in fields(Shard)} | given))
    done = {entry["file"]: {k: entry[k] for k in RECORD} for entry in state["shards"] if "blake2b" in entry}
    return Job(folder, asked, state["about"], state["model"], tuple(shards), done)


def refuse_other(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """DataError where what is in the folder was asked for in other words than what is asked for now."""
    for name, words in ASKED.items():
        if there.get(name) != now.get(name):
            raise DataError(
                f"{folder} holds vectors of another {words}: {_short(there.get(name))} there, "
                f"{_short(now.get(name))} now. Delete it or choose another place."
            )


def _short(value: Any) -> str:
    return (
        f"{value['name']} ({value['bytes']:,} bytes, {value['blake2b'][:8]})" if isinstance(value, dict) else str(value)
    )


def whole(job: Job) -> Job:
    """The job without the shards whose files are missing or not what was written, which are then embedded again."""
    bad = list(_damaged(job))
    for name in bad:
        logger.warning("%s is missing or damaged: its rows are embedded again.", job.folder / name)
    return replace(job, done={name: r for name, r in job.done.items() if name not in bad}) if bad else job


def _damaged(job: Job) -> Iterator[str]:
    for name, record in job.done.items():
        path = job.folder / name
        if not path.exists() or path.stat().st_size != record["bytes"] or digest_file(path) != record["blake2b"]:
            yield name
