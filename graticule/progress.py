"""One way to show how far long work has come: a bar on a terminal, a log line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0
EARLIEST_SHARE = 0.02  # of the work, before which the time left is not guessed


def _bar(**options: Any) -> Any:
    """A bar, or None in an installation that has none: lines then."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(**options)


class Progress:
    """Count up to `total` (None if unknown): `with Progress("prepare text", 1000) as p: p.advance()`."""

    def __init__(self, what: str, total: int | None = None, *, start: int = 0, unit: str = "rows") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.start = self.done = start
        self.bar: Any = None
        if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
            self.bar = _bar(total=total, initial=start, desc=what, unit=f" {unit}", dynamic_ncols=True)
        self.began = self.last = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more are done; `note` stands beside the count."""
        self.done += n
        if self.bar is not None:
            self.bar.update(n)
            if note:
                self.bar.set_postfix_str(note, refresh=False)
        elif (now := time.monotonic()) - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            logger.info("%s", self.line(note))

    def skip(self, n: int) -> None:
        """`n` were done before: they count, but not for the speed."""
        self.start += n
        self.done += n
        if self.bar is not None:
            self.bar.update(n)

    def line(self, note: str = "") -> str:
        """The state in one line, with the time left where the total is known."""
        seconds = time.monotonic() - self.began
        new = self.done - self.start
        left = f" of {self.total:,}" if self.total is not None else ""
        known = self.total is not None and new >= EARLIEST_SHARE * (self.total - self.start) and new > 0
        eta = f", {((self.total or 0) - self.done) * seconds / new:.0f} s left" if known else ""
        return f"{self.what}: {self.done:,}{left} {self.unit} in {seconds:.0f} s{eta}" + (f", {note}" if note else "")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None and time.monotonic() - self.began > 1:
            logger.info("%s", self.line())
