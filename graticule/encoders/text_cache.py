"""Texts that a trunk has read, kept in a file: each is read once, also when the process is killed in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.trunk import Trunk
from graticule.errors import CacheError
from graticule.files import digest_json
from graticule.progress import Progress

CHUNK = 256  # texts read at once, and written in one transaction
TABLE = "CREATE TABLE IF NOT EXISTS vectors (trunk TEXT, text TEXT, vector BLOB, PRIMARY KEY (trunk, text))"


def text_vectors(texts: Sequence[str], trunk: Trunk, cache: str | Path | None = None) -> NDArray[np.float32]:
    """`n` texts -> (n, dim) vectors of a text trunk, rounded to float16; equal texts are read once.

    `cache` names an SQLite file, made when it is not there, that may serve several trunks and processes.
    CacheError when it is no such file.
    """
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    if cache is None:
        return _looked_up(texts, dict(_read(sorted(set(texts)), trunk)), trunk)
    name = digest_json(trunk.identity())
    try:
        Path(cache).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(cache, timeout=60)) as file:
            file.execute(TABLE)
            stored = file.execute("SELECT text, vector FROM vectors WHERE trunk = ?", (name,))
            known = {text: np.frombuffer(vector, dtype=np.float16) for text, vector in stored}
            missing = sorted(set(texts) - set(known))
            with Progress("vectors of tags", len(missing), unit="tags") as progress:
                for start in range(0, len(missing), CHUNK):
                    new = _read(missing[start : start + CHUNK], trunk)
                    rows = [(name, text, vector.tobytes()) for text, vector in new]
                    with file:
                        file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
                    known.update(new)
                    progress.advance(len(new))
    except sqlite3.Error as error:
        raise CacheError(f"{cache}: expected a cache of text vectors ({error}). Delete it and run again.") from error
    return _looked_up(texts, known, trunk)


def _read(texts: Sequence[str], trunk: Trunk) -> list[tuple[str, NDArray[np.float16]]]:
    return list(zip(texts, np.asarray(trunk(texts)).astype(np.float16), strict=True))


def _looked_up(texts: Sequence[str], known: dict[str, NDArray[np.float16]], trunk: Trunk) -> NDArray[np.float32]:
    rows = np.stack([known[text] for text in texts]) if texts else np.asarray(trunk([]))
    return rows.astype(np.float32)
