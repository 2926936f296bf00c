"""Commands that are watched while they run, and results that outlive a benchmark that is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from graticule.files import read_json, write_json

SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_NOTES = 0.5, 5.0
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


class Results:
    """What is known so far, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Any] = read_json(path) if path.exists() else {}

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of that name, worked out only if it is not known yet."""
        if name not in self.known:
            sys.stderr.write(f"{name} ...\n")
            self.keep(name, work())
        return self.known[name]

    def keep(self, name: str, value: Any) -> None:
        self.known[name] = value
        write_json(self.path, self.known)

    def watched(self, name: str, command: Sequence[str], stop: Callable[[], bool] | None = None) -> dict[str, Any]:
        """Run a command to its end or until `stop()`, when it is killed: seconds and peak memory, over all tries.

        A try is noted while it runs, so that one that ended with the benchmark itself counts as well.
        """

        def run() -> dict[str, Any]:
            before = list(self.known.get(f"{name} so far", []))
            began, peak, told = time.monotonic(), 0, 0.0
            process = psutil.Popen(
                command, env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL, preexec_fn=_end_with_parent
            )
            gone = 0.0
            while process.poll() is None:
                peak = max(peak, _resident(process))
                if (seconds := time.monotonic() - began) - told > SECONDS_BETWEEN_NOTES:
                    told = seconds
                    self.keep(f"{name} so far", [*before, {"seconds": seconds, "peak": peak}])
                if stop is not None and stop():
                    gone = _killed(process)
                time.sleep(SECONDS_BETWEEN_LOOKS)
            if stop is None and process.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
            tries = [*before, {"seconds": time.monotonic() - began, "peak": peak}]
            seconds, peak = sum(t["seconds"] for t in tries), max(int(t["peak"]) for t in tries)
            return {"seconds": seconds, "peak": peak, "gone": gone, "killed": process.returncode != 0}

        found: dict[str, Any] = self.once(name, run)
        return found


def _end_with_parent() -> None:
    """In a command, before it starts: the system kills it when the benchmark ends (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _resident(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


def _killed(process: psutil.Process) -> float:
    """Kill the parent alone; seconds until its workers are gone too."""
    workers = process.children(recursive=True)
    began = time.monotonic()
    process.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    if alive:
        raise RuntimeError(f"{len(alive)} workers outlive their parent")
    return time.monotonic() - began
