"""Map entities in columns, and the ledger of what became of every id of a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXAMPLES = 3  # ids kept a reason


@dataclass(frozen=True)
class Entities:
    """Some map entities: ids "node/1", "way/2", "relation/3", their kept tags, their shapely geometries in degrees."""

    ids: tuple[str, ...]
    tags: tuple[dict[str, str], ...]
    geometry: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> Entities:
        """The entities with these numbers, in this order."""
        return Entities(tuple(self.ids[i] for i in rows), tuple(self.tags[i] for i in rows), self.geometry[rows])


@dataclass
class Ledger:
    """What became of every id of a file: kept + dropped = ids in the file, for nodes, ways and relations each."""

    found: Counter[str] = field(default_factory=Counter)  # "node", "way", "relation" -> ids in the file
    kept: Counter[str] = field(default_factory=Counter)  # the same -> entities
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind, reason) -> ids
    noted: Counter[str] = field(default_factory=Counter)  # what was mended in entities that were kept -> entities
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason or note -> some ids

    def drop(self, identity: str, reason: str) -> None:
        """Count one id that gives no entity."""
        self.dropped[identity.partition("/")[0], reason] += 1
        self._example(identity, reason)

    def note(self, identity: str, what: str) -> None:
        """Count one entity that was kept although something was wrong with it."""
        self.noted[what] += 1
        self._example(identity, what)

    def _example(self, identity: str, reason: str) -> None:
        examples = self.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(identity)

    def as_json(self) -> dict[str, Any]:
        """The ledger in JSON types, for a manifest."""
        dropped: dict[str, dict[str, int]] = {}
        for (kind, reason), count in sorted(self.dropped.items()):
            dropped.setdefault(kind, {})[reason] = count
        return {
            "found": dict(sorted(self.found.items())),
            "kept": dict(sorted(self.kept.items())),
            "dropped": dropped,
            "noted": dict(sorted(self.noted.items())),
            "examples": {reason: list(ids) for reason, ids in sorted(self.examples.items())},
        }
