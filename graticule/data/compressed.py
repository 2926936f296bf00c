"""Open a file that may be compressed, and say in one sentence when it is damaged."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from graticule.errors import DataError

OPENERS: dict[str, Callable[[Path, str], object]] = {".gz": gzip.open, ".bz2": bz2.open}


@contextmanager
def opened(path: Path, progress: Callable[[], str] = str) -> Iterator[BinaryIO]:
    """The bytes of `path`, decompressed when it ends in .gz or .bz2 (also multistream).

    Damage found inside the block becomes a DataError that names the file; `progress()` may add
    how far the reading had come, e.g. "after 12 pages".
    """
    try:
        with OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:  # type: ignore[attr-defined]
            yield cast(BinaryIO, file)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except EOFError as error:
        raise DataError(f"{path} is truncated{_after(progress)}: download it again.") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read{_after(progress)}: {error}. Is it damaged or misnamed?") from error


def _after(progress: Callable[[], str]) -> str:
    return f" {text}" if (text := progress()) else ""


def stem(path: Path) -> str:
    """The file's name without the endings of format and compression: "a.jsonl.gz" -> "a"."""
    return path.name.split(".")[0] or path.name


def form(path: Path) -> str:
    """The ending that tells the format, in lower case, without compression: "a.CSV.gz" -> ".csv"."""
    bare = path.with_suffix("") if path.suffix.lower() in OPENERS else path
    return bare.suffix.lower()
