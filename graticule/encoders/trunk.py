"""What every trunk offers: raw contents of one modality in, features out, run once and cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Trunk(Protocol):
    """A frozen encoder of raw contents of one `kind` (text, image, photo, region); `trunk(**config)` rebuilds it."""

    kind: str
    config: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """Everything the features depend on, in JSON types: name, settings, hash of the weights."""
        ...

    def __call__(self, contents: Sequence[Any]) -> Any:
        """`n` contents -> (n, dim) float32 array, `n` regions -> Tokens; a row's result never depends on the others."""
        ...
