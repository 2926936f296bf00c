"""What the benchmarks share: jobs side by side in processes of their own, command lines, memory, and tables."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def parser(*folders: str) -> argparse.ArgumentParser:
    """What every benchmark asks for: these folders, in order, and how many processes side by side."""
    asking = argparse.ArgumentParser()
    for folder in folders:
        asking.add_argument(folder, type=Path)
    asking.add_argument("--workers", type=int, default=2)
    return asking


def side_by_side(module: str, jobs: Iterable[Sequence[str]], workers: int) -> None:
    """Run `python -m module ARGUMENTS` for every job, `workers` at a time; the first failure is raised."""

    def run(job: Sequence[str]) -> None:
        subprocess.run([sys.executable, "-m", module, *job], check=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, jobs))


def peak_mb() -> float:
    """The most resident memory this process ever had; not that of the process it came from, as rusage has it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def cpuinfo() -> dict[str, str]:
    """What the machine says of its last core; nothing where it is not asked as on Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


def processor() -> str:
    """What the machine calls its processor."""
    return cpuinfo().get("model name") or platform.machine()


def machine() -> str:
    """How many cores, and what the machine calls its processor."""
    return f"{os.cpu_count()} cores, {processor()}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
