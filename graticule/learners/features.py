"""The trunk pass: prepared rows -> features, once, cached on disk in float16 under a hash of rows and trunk.

Most trunks give one array a row; the one of regions gives ragged `Tokens`. What the features of a modality say on
their own, before anything is learned: their standardised form, and how far on the ground they resemble each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graticule.data.store import Table
from graticule.encoders.region import RegionTrunk
from graticule.encoders.trunk import Trunk
from graticule.errors import DataError, SettingError
from graticule.files import atomic_write, digest_file, digest_json, read_json, write_json
from graticule.geo.placed import Placed
from graticule.geo.tokens import Tokens, join
from graticule.geo.variogram import FIT_KM, semivariogram
from graticule.progress import Progress

logger = logging.getLogger(__name__)
Format = tuple[str, Callable[..., Any], Callable[..., Any], Callable[..., Any], Callable[..., Any]]
LARGEST = {"f": float(np.finfo(np.float16).max), "i": np.inf, "b": np.inf}
CHUNK = 256  # contents given to a trunk at once; its result for a row does not depend on the others


def cached_features(table: Table, trunk: Trunk) -> Placed:
    """Features of all rows of a table by a frozen trunk: (n, dim) float16, or Tokens, with the rows' places and ids.

    Computed part by part; each finished part is kept, so that a killed pass goes on where it was. A
    damaged part is named in a warning and computed again.
    """
    if trunk.kind != table.kind:
        raise DataError(f"Modality {table.name!r} holds {table.kind} rows, but its trunk reads {trunk.kind}.")
    identity = {"trunk": trunk.identity(), "table": table.fingerprint}
    folder = table.folder / "features" / digest_json(identity)
    index_path = folder / "features.json"
    index: dict[str, Any] = read_json(index_path) if index_path.exists() else {**identity, "parts": {}}
    suffix, compute, save, load, concatenate = TOKENS if isinstance(trunk, RegionTrunk) else ARRAY
    features: list[Any] = []
    with Progress(f"features of {table.name}", len(table)) as progress:
        for part in table.parts():
            path = folder / f"{Path(part['file']).stem}{suffix}"
            if not _is_whole(path, index["parts"].get(path.name)):
                atomic_write(path, partial(save, values=compute(table, part, trunk, progress)))
                index["parts"][path.name] = digest_file(path)
                write_json(index_path, index)
            else:
                progress.skip(part["rows"])
            features.append(load(path))
    return Placed(table.lonlat, concatenate(features), table.ids)


def _save(path: Path, values: NDArray[np.float16]) -> None:
    with path.open("wb") as file:
        np.save(file, values)


def _tokens(table: Table, part: dict[str, Any], trunk: Trunk, progress: Progress) -> Tokens:
    tokens = cast(Tokens, trunk(table.contents(part)))
    progress.advance(len(tokens))
    for name, values in tokens.arrays().items():
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > LARGEST[values.dtype.kind]:
            raise DataError(f"The {name} of {table.folder / part['file']} hold values that float16 cannot hold.")
    return tokens


def _save_tokens(path: Path, values: Tokens) -> None:
    arrays = values.arrays()
    with path.open("wb") as file:
        np.savez(file, **{n: a.astype(np.float16) if a.dtype.kind == "f" else a for n, a in arrays.items()})


def _load_tokens(path: Path) -> Tokens:
    with np.load(path) as arrays:
        return Tokens(**{n: arrays[n] for n in arrays.files})


def _is_whole(path: Path, digest: str | None) -> bool:
    if digest is None or not path.exists():
        return False
    if digest_file(path) == digest:
        return True
    logger.warning("%s is damaged and is computed again.", path)
    return False


def _compute(table: Table, part: dict[str, Any], trunk: Trunk, progress: Progress) -> NDArray[np.float16]:
    contents = table.contents(part)
    chunks = []
    for start in range(0, len(contents), CHUNK):
        chunk = trunk(contents[start : start + CHUNK])
        if not np.isfinite(chunk).all() or np.abs(chunk).max(initial=0) > np.finfo(np.float16).max:
            raise DataError(
                f"The trunk gave values that float16 cannot hold for {table.folder / part['file']}, rows {start}..."
            )
        chunks.append(chunk.astype(np.float16))
        progress.advance(len(chunk))
    return np.concatenate(chunks)


ARRAY: Format = (".npy", _compute, _save, partial(np.load, mmap_mode="r"), np.concatenate)
TOKENS: Format = (".npz", _tokens, _save_tokens, _load_tokens, join)


def standardised(name: str, rows: Placed) -> NDArray[np.float32]:
    """(n, d) features of the modality `name` with mean 0 and deviation 1 in every column; constant columns are 0.

    Raises SettingError where a trunk trains along or rows are ragged, DataError without rows.
    """
    if isinstance(rows.features, Tokens) or np.ndim(rows.features) != 2:
        raise SettingError(f"Features of a frozen trunk are needed, one row a place; {name!r} has none.")
    if len(rows) == 0:
        raise DataError(f"Modality {name!r} has 0 rows: it says nothing of any place.")
    features = np.asarray(rows.features, dtype=np.float32)
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    standard: NDArray[np.float64] = (features - mean) / np.where(deviation < 1e-6, 1.0, deviation)
    return standard.astype(np.float32)


def resemblance_km(name: str, rows: Placed, seed: int = 0) -> float:
    """The range of the semivariogram of a modality's standardised features (`Semivariogram.range_km`).

    Raises what `standardised` does, and DataError where no range can be fitted.
    """
    features = standardised(name, rows)
    found = semivariogram(rows.lonlat, features, FIT_KM, seed=seed).range_km if len(rows) > 1 else None
    if found is None:
        raise DataError(
            f"No range can be fitted to {name!r}: its {len(rows)} rows are too few, or those near each other do not "
            "resemble each other more. Give kilometres instead of fitted."
        )
    logger.info("%s: rows resemble each other over %.0f km", name, found)
    return found


def raw_features(table: Table) -> Placed:
    """The rows' own arrays as features (n, bands, height, width), for a trunk that trains with the run."""
    if table.kind != "image":
        raise DataError(f"Only image rows can feed a trainable trunk; modality {table.name!r} holds {table.kind}.")
    arrays = [np.stack([np.asarray(c) for c in table.contents(part)]) for part in table.parts()]
    return Placed(table.lonlat, np.concatenate(arrays), table.ids)
