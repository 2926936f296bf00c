"""What a finished run says about itself; read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graticule.errors import CacheError, DataError
from graticule.files import read_json

FORMAT = 1


def about_run(folder: Path, part: str, otherwise: str) -> dict[str, Any]:
    """The run.json of a finished run that has a `part`, "location" or "encoder".

    DataError when the folder holds no finished run, or one of the other family (`otherwise` says what to do then);
    CacheError for another version's format.
    """
    if not (folder / "run.json").exists():
        unfinished = " It holds an unfinished one: run the same `train` again." * (folder / "log.jsonl").exists()
        raise DataError(f"{folder} holds no trained run (run.json is missing).{unfinished}")
    about: dict[str, Any] = read_json(folder / "run.json")
    if about.get("format") != FORMAT:
        raise CacheError(f"{folder}/run.json is of format {about.get('format')}, this version reads {FORMAT}.")
    if part not in about:
        raise DataError(f"{folder} holds a run of {about.get('recipe')}: {otherwise}")
    return about


def origin(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of vectors says about the run that made them, from its run.json."""
    return {
        "model": about["name"],
        "model_hash": about["weights"],
        "recipe": about["recipe"],
        "graticule": about["graticule"],
        "source": {name: entry["licence"] for name, entry in about["data"].items()},
    }
