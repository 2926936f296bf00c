"""Train the GeoJEPA that ships inside the package.

    python -m benchmarks.maps DATA MAPS && python -m benchmarks.train_geojepa MAPS RUNS

Tags and shapes of the extracts of Europe, so that every city elsewhere stays held out; about three minutes on one quiet
core. Writes graticule/geojepa/{run.json, model.safetensors, tags.safetensors}; MODEL_CARD.md describes it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.train_model import release
from graticule.encoders.region_vectors import INSIDE
from graticule.runs import train

SETTINGS: dict[str, Any] = {
    "checkpoint_every": 50,
    "log_every": 10,
    "threads": 1,
    "device": "cpu",
    "jepa": {"modalities": "TG"},
}


def main() -> None:
    maps, runs = Path(sys.argv[1]), Path(sys.argv[2])
    train("geojepa", maps / "europe", to=runs / "geojepa-released", **SETTINGS)
    release(runs / "geojepa-released", INSIDE, "geojepa-small", beside=("tags.safetensors",))


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
