"""What the runs of `benchmarks.geojepa` lost and how their rank went, kept after the runs are gone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.geojepa_methods import SEEDS, TRAINED, folder
from benchmarks.running import markdown
from graticule.files import atomic_write

LOSSES = Path("docs/results/geojepa-losses.jsonl")
SHOWN = ("prediction", "prediction/entities", "prediction/patches", "variance", "covariance", "rank")
Row = dict[str, Any]


def collect(runs: Path, sides: Sequence[str]) -> list[Row]:
    """Rows of all runs, by name, side and seed: those in the file, and anew those whose folder is there."""
    known = [json.loads(line) for line in LOSSES.read_text().splitlines()] if LOSSES.exists() else []
    rows = {(row["run"], row["side"], row["seed"]): row for row in known}
    for name in TRAINED:
        for side in sides:
            for seed in SEEDS:
                path = folder(runs, name, side, seed)
                if (path / "model.safetensors").exists() and (path / "log.jsonl").exists():
                    rows[name, side, seed] = {"run": name, "side": side, "seed": seed, **summary(path / "log.jsonl")}
    ordered = [rows[key] for key in sorted(rows)]
    atomic_write(LOSSES, lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ordered)))
    return ordered


def summary(log: Path) -> Row:
    """The last entry of a log, and the least rank of all."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    last = {name: value for name, value in entries[-1].items() if name not in ("spread", "left_out")}
    return last | {"least_rank": min(entry["rank"] for entry in entries)}


def table(rows: Sequence[Row]) -> str:
    """Markdown: means over sides and seeds."""
    body = []
    for name in TRAINED:
        own = [row for row in rows if row["run"] == name]
        if own:
            cells = [_mean(own, column) for column in (*SHOWN, "least_rank")]
            body.append([name, str(len(own)), *cells, f"{np.mean([row['seconds'] for row in own]):.0f}"])
    return markdown(["run", "trained", *SHOWN, "least rank", "seconds"], body)


def _mean(rows: Sequence[Row], column: str) -> str:
    values = [row[column] for row in rows if column in row]
    return f"{np.mean(values):.3f}" if values else ""
