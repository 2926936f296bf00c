"""What every reader returns: a source, that is a stream of rows that can be counted and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graticule.geo.region import Region

Content = str | bytes | NDArray[np.generic] | Region | None
Kind = Literal["text", "image", "photo", "point", "region"]


@dataclass(frozen=True)
class Row:
    """One row of one modality: where it is and what it holds.

    `content` by kind: "text" a string; "image" a (bands, height, width) array, the same shape and
    dtype for all rows of a source; "photo" the bytes of an encoded picture; "region" a `Region`, all with
    images of the same shape and dtype or all without; "point" None.
    """

    id: str
    lon: float
    lat: float
    content: Content


@dataclass(frozen=True)
class Skip:
    """One raw record that gives no row: a short reason to count by, and where it was seen."""

    reason: str
    where: str


@dataclass(frozen=True)
class Source:
    """A stream of raw records of one modality.

    `records(start)` yields one `Row` or `Skip` for every raw record from number `start` on, always
    in the same order; `about` holds what was asked for in JSON types, `files` everything that is
    read (hashed into the manifest), `licence` the terms of the data, `total` the expected number of
    raw records where it is known, for the progress bar.
    """

    kind: Kind
    records: Callable[[int], Iterator[Row | Skip]]
    about: dict[str, Any]
    files: tuple[Path, ...] = ()
    licence: str = "unknown"
    total: int | None = None
    bands: tuple[str, ...] = field(default=())
    ledger: Callable[[], dict[str, Any]] | None = None  # after the last record: what became of finer things than rows

    def rows(self) -> Iterator[Row]:
        """Only the rows."""
        return (record for record in self.records(0) if isinstance(record, Row))
