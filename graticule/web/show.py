"""From a run to its map: embed the world, write the page, open it."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from pathlib import Path

from graticule.embed import Model, Vectors, load
from graticule.web.page import world_lattice, write_map


def model_map(model: Model, out: Path, questions: Mapping[str, Vectors] | None = None) -> Path:
    """Embed an even lattice of the whole Earth and write the map page, with how similar all places are to `questions`.

    Places are compared in the space that they share with texts and images; name -> vector (k,) in it, as
    `nearest.question` gives.
    """
    places = world_lattice()
    data = model.about.get("started_from", {}).get("data", {}) | model.about["data"]
    licences = "; ".join(f"{name}: {entry['licence']}" for name, entry in data.items())
    about = f"Recipe {model.about['recipe']}, {model.dim} dimensions. Trained on {licences}."
    return write_map(
        out,
        lonlat=places,
        vectors=model.share(model.embed_points(places)),
        title=f"graticule · {model.about['name']}",
        about=about,
        questions=questions,
    )


def show(run: Model | str | Path | None = None, out: str | Path = "map.html") -> Path:
    """Write the map of a run (default: the model inside) and open it in the browser; returns the page's path."""
    page = model_map(run if isinstance(run, Model) else load(run), Path(out))
    webbrowser.open(page.resolve().as_uri())
    return page
