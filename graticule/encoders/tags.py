"""Tags of map entities as vectors: a text trunk reads each tag once, after that a table is enough."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from graticule.encoders.text_cache import text_vectors
from graticule.encoders.trunk import Trunk
from graticule.errors import CacheError, DataError, SettingError
from graticule.files import atomic_write, digest_json

Float32 = NDArray[np.float32]
FORMAT = "graticule-tags-1"
LONGEST = 120  # characters of a tag that are read


class TagTable:
    """Vectors of tags "key=value" and of plain keys "key", with an answer for every other tag.

    A tag that is not in the table is, in this order: read by the text `trunk` where one is given ("trunk"), as its
    key ("key"), as the longest beginning of its key that is in the table, "roof" for roof:angle ("part"), as the mean
    of all keys ("mean"). `fallbacks` counts them. Without a trunk a table gives the same on every machine.
    """

    def __init__(
        self,
        tags: Sequence[str],
        vectors: NDArray[Any],
        made_by: Mapping[str, Any],
        projection: Float32 | None = None,
        trunk: Trunk | None = None,
    ) -> None:
        """`tags` (n,), their vectors (n, dim), identity of the trunk that read them, (text dim, dim) projection."""
        if vectors.ndim != 2 or len(vectors) != len(tags):
            raise DataError(f"Expected a vector for each of {len(tags)} tags, got an array of shape {vectors.shape}.")
        if trunk is not None and digest_json(trunk.identity()) != digest_json(dict(made_by)):
            raise SettingError(
                f"The tags were read by the text trunk {dict(made_by)}, not by the one given, {trunk.identity()}."
            )
        self.tags, self.made_by, self.projection, self.trunk = tuple(tags), dict(made_by), projection, trunk
        self.vectors: Float32 = vectors.astype(np.float16).astype(np.float32)  # as they are kept
        self.dim = self.vectors.shape[1]
        self.fallbacks: Counter[str] = Counter()
        self._rows = {tag: row for row, tag in enumerate(self.tags)}
        self._found: dict[tuple[str, str], tuple[int, str]] = {}
        keys = [row for row, tag in enumerate(self.tags) if "=" not in tag]
        mean = self.vectors[keys].mean(axis=0, keepdims=True) if keys else np.zeros((1, self.dim), np.float32)
        self._matrix = np.concatenate([self.vectors, mean])  # more rows follow when the trunk reads more

    @classmethod
    def build(
        cls,
        counts: Mapping[str, int],
        trunk: Trunk,
        dim: int | None = None,
        *,
        least: int = 2,
        cache: str | Path | None = None,
    ) -> TagTable:
        """The table of the tags "key=value" with at least `least` occurrences, and of the keys with as many.

        With `dim` the vectors are projected on their leading principal axes, about zero, so that a sum of tags stays
        a sum and no tags stay zero; each tag weighs as the square root of its count. `cache` names a file that keeps
        what the trunk has read: a killed build goes on where it was. The table itself holds no trunk: see `reading`.
        """
        keys: Counter[str] = Counter()
        for tag, count in counts.items():
            keys[tag.partition("=")[0]] += count
        both = {**counts, **{key: count for key, count in keys.items() if key not in counts}}
        ranked = sorted((-count, tag) for tag, count in both.items() if count >= least)
        tags = [tag for _, tag in ranked]
        vectors = text_vectors([as_text(*tag.partition("=")[::2]) for tag in tags], trunk, cache)
        projection = None
        if dim is not None:
            weights = np.sqrt([counts.get(tag, 0) for tag in tags], dtype=np.float64)
            projection = _axes(vectors, weights, dim)
            vectors = vectors @ projection
        return cls(tags, vectors, trunk.identity(), projection)

    def reading(self, trunk: Trunk) -> TagTable:
        """The same table with the text trunk that made it at hand, which reads tags that are not in it."""
        return TagTable(self.tags, self.vectors, self.made_by, self.projection, trunk)

    def __len__(self) -> int:
        return len(self.tags)

    def identity(self) -> dict[str, Any]:
        """What the sums depend on: a digest of tags and vectors, the text trunk, and whether it reads unknown tags."""
        digest = hashlib.blake2b(json.dumps(self.tags).encode() + self.vectors.tobytes(), digest_size=16).hexdigest()
        return {"tags": digest, "made_by": self.made_by, "reads_unknown": self.trunk is not None}

    def sums(self, tags: Sequence[Mapping[str, str]]) -> tuple[NDArray[np.int64], Float32]:
        """Tags of t entities -> (t,) rows of (s, dim) sums of tag vectors; entities with equal tags share a row.

        Row 0 is all zeros: no tags. Rows are in order of appearance; the sum does not depend on the order of tags.
        """
        rows, numbers = _numbered(tags)
        sets = [sorted(one) for one in numbers][1:]
        self._read(sets)
        found = [[self._row(key, value) for key, value in one] for one in sets]
        for one, times in zip(found, np.bincount(rows, minlength=len(numbers))[1:], strict=True):
            self.fallbacks.update({kind: int(times) * n for kind, n in Counter(k for _, k in one if k).items()})
        sums = np.zeros((len(numbers), self.dim), dtype=np.float32)
        if found:
            starts = np.cumsum([0, *(len(one) for one in found[:-1])])
            sums[1:] = np.add.reduceat(self._matrix[[row for one in found for row, _ in one]], starts)
        return rows, sums

    def frequent(self, most: int) -> tuple[str, ...]:
        """The `most` tags "key=value" of the table with the most occurrences, or as many as it has."""
        return tuple(islice((tag for tag in self.tags if "=" in tag), most))

    def held(self, tags: Sequence[Mapping[str, str]], most: int) -> Float32:
        """Tags of t entities -> (s, most): 1 where a set, in the order of `sums`, holds a tag of `frequent(most)`.

        Columns beyond the tags of the table stay 0. A tag that the table does not know counts nowhere.
        """
        column = {tag: i for i, tag in enumerate(self.frequent(most))}
        _, numbers = _numbered(tags)
        found = np.zeros((len(numbers), most), dtype=np.float32)
        for row, one in enumerate(numbers):
            found[row, [column[tag] for key, value in one if (tag := f"{key}={value}") in column]] = 1
        return found

    def save(self, path: str | Path) -> None:
        """Write the table as safetensors, vectors in float16; whole or not at all."""
        packed = zlib.compress(json.dumps(self.tags, ensure_ascii=False).encode("utf-8", "surrogatepass"), 9)
        tensors: dict[str, NDArray[Any]] = {"tags": np.frombuffer(packed, dtype=np.uint8)}
        tensors["vectors"] = self.vectors.astype(np.float16)
        if self.projection is not None:
            tensors["projection"] = self.projection
        metadata = {"format": FORMAT, "made_by": json.dumps(self.made_by, sort_keys=True), "dim": str(self.dim)}
        atomic_write(Path(path), lambda temporary: save_file(tensors, temporary, metadata))

    @classmethod
    def load(cls, path: str | Path, trunk: Trunk | None = None) -> TagTable:
        """Read a saved table; with the text `trunk` that made it, tags that are not in it are read by the trunk."""
        if not Path(path).exists():
            raise DataError(f"{path}: expected a table of tags, found no such file.")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise CacheError(f"{path}: expected the format {FORMAT}, got {metadata.get('format')}.")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tags = json.loads(zlib.decompress(tensors["tags"].tobytes()).decode("utf-8", "surrogatepass"))
            made_by = json.loads(metadata["made_by"])
        except (SafetensorError, OSError, ValueError, KeyError, zlib.error) as error:
            raise CacheError(f"{path}: this table of tags is damaged ({error}). Build it again.") from error
        return cls(tags, tensors["vectors"], made_by, tensors.get("projection"), trunk)

    def _row(self, key: str, value: str) -> tuple[int, str]:
        """Row of the matrix, and the kind of fallback, "" for none."""
        if (row := self._rows.get(f"{key}={value}")) is not None:
            return row, ""
        if (key, value) not in self._found:
            self._found[key, value] = self._fallback(key)
        return self._found[key, value]

    def _fallback(self, key: str) -> tuple[int, str]:
        if key in self._rows:
            return self._rows[key], "key"
        for end in reversed([match.start() for match in re.finditer("[:_]", key)]):
            if key[:end] in self._rows:
                return self._rows[key[:end]], "part"
        return len(self.tags), "mean"

    def _read(self, sets: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Let the trunk, if there is one, read what is neither in the table nor was read before."""
        if self.trunk is None:
            return
        every = {pair: None for one in sets for pair in one}
        new = [pair for pair in every if pair not in self._found and f"{pair[0]}={pair[1]}" not in self._rows]
        if new:
            vectors = text_vectors([as_text(*pair) for pair in new], self.trunk)
            vectors = vectors if self.projection is None else vectors @ self.projection
            self._found |= {pair: (len(self._matrix) + i, "trunk") for i, pair in enumerate(new)}
            self._matrix = np.concatenate([self._matrix, vectors.astype(np.float16).astype(np.float32)])


def _numbered(tags: Sequence[Mapping[str, str]]) -> tuple[NDArray[np.int64], list[frozenset[tuple[str, str]]]]:
    """(t,) number of the set of tags of each entity, and the sets in order of appearance after the empty one."""
    numbers: dict[frozenset[tuple[str, str]], int] = {frozenset(): 0}
    rows = np.array([numbers.setdefault(frozenset(one.items()), len(numbers)) for one in tags], dtype=np.int64)
    return rows, list(numbers)


def as_text(key: str, value: str = "") -> str:
    """What the text trunk reads: "building: apartments", "roof shape: gabled", "addr street" for a key alone."""
    words = [" ".join(re.sub("[:_;=]+", " ", part).split()) for part in (key, value)]
    return ": ".join(word for word in words if word)[:LONGEST]


def _axes(vectors: Float32, weights: NDArray[np.float64], dim: int) -> Float32:
    """(n, d) vectors -> (d, dim) leading eigenvectors of their weighted second moments about zero, signs fixed."""
    if not 1 <= dim <= vectors.shape[1]:
        raise SettingError(f"Expected a dim of tags from 1 to {vectors.shape[1]}, the width of the text, got {dim}.")
    wide = vectors.astype(np.float64)
    _, axes = np.linalg.eigh(wide.T @ (wide * weights[:, None]))
    leading = axes[:, ::-1][:, :dim]
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(dim)])
    projection: Float32 = (leading * signs).astype(np.float32)
    return projection
