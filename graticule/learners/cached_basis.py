"""The location basis of fixed training points: computed once, kept in float16 on disk, mapped into memory.

It pays where a basis costs more than reading two bytes a column: see benchmarks/training_speed.py.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graticule.encoders.location import LocationEncoder
from graticule.errors import DataError, SettingError
from graticule.files import digest_json, is_as_stamped, opened_at, read_json, stamp, write_json
from graticule.geo.coords import Points
from graticule.progress import Progress

logger = logging.getLogger(__name__)
PIECE_VALUES = 2**26  # between two states on disk: 128 MiB


def cached_basis(points: Points, encoder: LocationEncoder, folder: Path, name: str = "") -> NDArray[np.float16]:
    """(n, c) columns of the encoder's basis at `points` that stay as they are in training; the others are left out.

    They are kept in `folder` under a hash of the points and of all that the columns depend on. A killed pass goes on
    after its last whole piece; a damaged file is named in a warning and computed again.

    Raises SettingError for a basis that is learned as a whole, DataError for values that float16 cannot hold.
    """
    points, columns = np.ascontiguousarray(points), encoder.basis.constant_dim
    if not columns:
        raise SettingError("cache_basis keeps what is not learned of a location basis, but all of this one is.")
    key = digest_json({"points": hashlib.blake2b(points.tobytes()).hexdigest(), "basis": identity(encoder)})
    path, state_path = folder / f"{key}.float16", folder / f"{key}.json"
    new = {"rows": len(points), "columns": columns, "done": 0}
    state: dict[str, Any] = read_json(state_path) if state_path.exists() else new
    if not _is_whole(path, state, columns):
        logger.warning("%s is damaged and is computed again.", path)
        state = new
    if state["done"] < len(points):
        _compute(points, encoder, path, state, state_path, name)
    if not len(points):
        return np.zeros((0, columns), np.float16)
    return np.memmap(path, np.float16, "r", shape=(len(points), columns))


def identity(encoder: LocationEncoder) -> dict[str, Any]:
    """What the constant columns depend on: settings of the basis, and digests of its arrays that are not learned."""
    basis = encoder.basis.basis
    arrays = {
        name: hashlib.blake2b(array.detach().cpu().numpy().tobytes(), digest_size=16).hexdigest()
        for name, array in encoder.basis.named_buffers()
    }
    return {"name": encoder.config["name"], "settings": basis.settings(), "arrays": arrays, "version": 1}


def _is_whole(path: Path, state: dict[str, Any], columns: int) -> bool:
    if "file" in state:
        return is_as_stamped(path, state["file"])
    return state["done"] == 0 or (path.exists() and path.stat().st_size >= state["done"] * columns * 2)


def _compute(
    points: Points, encoder: LocationEncoder, path: Path, state: dict[str, Any], state_path: Path, name: str
) -> None:
    columns, done = state["columns"], state["done"]
    size = max(1, PIECE_VALUES // columns)
    largest = float(np.finfo(np.float16).max)
    with (
        opened_at(path, done * columns * 2) as file,
        Progress(f"basis of {name or 'places'}", len(points), start=done) as progress,
        torch.no_grad(),
    ):
        for start in range(done, len(points), size):
            piece = points[start : start + size]
            found = encoder.basis.constant(torch.from_numpy(piece)).numpy()
            if not np.isfinite(found).all() or np.abs(found).max() > largest:
                raise DataError(f"The location basis gives values that float16 cannot hold, rows {start:,}...")
            file.write(found.astype(np.float16).tobytes())
            file.flush()
            os.fsync(file.fileno())
            write_json(state_path, {**state, "done": start + len(piece)})
            progress.advance(len(piece))
    write_json(state_path, {**state, "done": len(points), "file": stamp(path)})
