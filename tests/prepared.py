"""Small sources held in memory, to be prepared: rows whose content follows their place."""

import numpy as np

from graticule.data.source import Row, Source
from graticule.geo.coords import uniform_places, unit_sphere

WORDS = ("north", "south", "harbour", "desert", "forest", "village", "river", "tower", "island", "road")


def source(kind, places, contents, about=None, **options):
    """A source of given contents at given (n, 2) places."""
    rows = [
        Row(f"{kind}-{i}", float(lon), float(lat), content)
        for i, ((lon, lat), content) in enumerate(zip(places, contents, strict=True))
    ]
    name = {"rows": len(rows)} | (about or {})
    return Source(kind, lambda start: iter(rows[start:]), name, total=len(rows), licence="CC0-1.0", **options)


def text_source(n=40, seed=0, places=None):
    """Texts of a few words, two of which follow the place."""
    places = uniform_places(n, seed=seed) if places is None else places
    rng = np.random.default_rng(seed)
    texts = [
        " ".join([WORDS[int(lat < 0)], WORDS[2 + int(lon // 90) + 2], *rng.choice(WORDS[6:], 3)]) for lon, lat in places
    ]
    return source("text", places, texts, {"seed": seed})


def image_source(n=40, seed=1, bands=3, size=4, places=None):
    """Patches whose levels follow the place."""
    places = uniform_places(n, seed=seed) if places is None else places
    rng = np.random.default_rng(seed)
    levels = 2000 + 1000 * unit_sphere(places) @ rng.normal(size=(3, bands))
    pixels = levels[:, :, None, None] + rng.normal(0, 50, (len(places), bands, size, size))
    return source("image", places, np.clip(pixels, 1, 10_000).astype(np.uint16), {"seed": seed})
