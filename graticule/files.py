"""Files that are whole or absent, and the digests that tell whether they still are what was written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from graticule.errors import CacheError

SEAL = "blake2b"  # the key of a JSON object that holds the digest of all others


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file beside `path`, then move it there in one step: a kill leaves old or new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.chmod(0o644)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def opened_at(path: Path, size: int) -> BinaryIO:
    """A file to append to, made where there is none, cut back to `size` bytes; CacheError for one that is shorter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    if path.stat().st_size < size:
        raise CacheError(f"{path} is damaged: it is shorter than it was. Delete {path.parent} and run again.")
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file


def digest_file(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def stamp(path: Path) -> dict[str, Any]:
    """What a file is now, in JSON types: its size, when it was changed last, its digest."""
    about = path.stat()
    return {"bytes": about.st_size, "changed_ns": about.st_mtime_ns, "blake2b": digest_file(path)}


def is_as_stamped(path: Path, stamped: dict[str, Any]) -> bool:
    """Whether a file still is what `stamp` saw; it is read as a whole only when its time of change is another."""
    if not path.is_file() or path.stat().st_size != stamped["bytes"]:
        return False
    return bool(path.stat().st_mtime_ns == stamped["changed_ns"]) or digest_file(path) == stamped["blake2b"]


def digest_json(value: Any) -> str:
    """BLAKE2b-128 of a value in JSON types, independent of the order of keys."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an indented JSON object atomically, sealed with a digest of itself."""
    text = json.dumps(value | {SEAL: digest_json(value)}, indent=1, ensure_ascii=False) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read JSON written by the library, without its seal; CacheError names the file when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and SEAL in value and value.pop(SEAL) != digest_json(value):
            raise ValueError("its digest does not match")
    except ValueError as error:
        raise CacheError(
            f"{path} is damaged ({error}). Delete it, or the folder it describes, and run again."
        ) from error
    return value
