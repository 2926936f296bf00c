"""From maps to scores: an answer that stands in the map is found, and after its removal only what goes with it."""

import numpy as np
import pytest

from graticule.evaluation.regions.answers import entity_rows, region_labels
from graticule.evaluation.regions.baselines import entity_tag_counts, entity_vectors, nothing, tag_counts
from graticule.evaluation.regions.entity_tasks import ENTITY_TASKS
from graticule.evaluation.regions.probes import Sample, score_cities
from graticule.evaluation.regions.region_tasks import REGION_TASKS
from tests.evaluation.regions.maps import tile

CITIES = [f"city{i}" for i in range(6)]
SIGNAL, SHOP, TREE = {"highway": "traffic_signals"}, {"shop": "yes"}, {"natural": "tree"}
HOUSE, SHED = {"building": "house", "height": "9"}, {"building": "shed", "height": "3"}


def cities(goes_with):
    """Tiles with signals; shops either go with the signals, or come as they like."""
    found = {}
    for i, city in enumerate(CITIES):
        rng = np.random.default_rng(i)
        counts = rng.poisson(rng.uniform(1, 6, size=3), size=(40, 3))
        found[city] = [
            tile(1000 * i + j, 22000, *[SIGNAL] * a, *[SHOP] * (a if goes_with else b), *[TREE] * c)
            for j, (a, b, c) in enumerate(counts.tolist())
        ]
    return found


def skill(maps, task, hide):
    seen = {city: [task.hidden(r) if hide else r for r in regions] for city, regions in maps.items()}
    vectors = tag_counts([r for city in CITIES[:3] for r in seen[city]])
    samples = {city: Sample(vectors(seen[city]), region_labels(task, maps[city])[1]) for city in CITIES}
    scores = score_cities({c: samples[c] for c in CITIES[:3]}, {c: samples[c] for c in CITIES[3:]})
    return np.mean([own["skill"] for own in scores.values()])


def test_the_answer_is_found_where_it_is_left_in_the_map():
    assert skill(cities(goes_with=False), REGION_TASKS["signals"], hide=False) > 0.99


def test_what_goes_with_the_answer_is_found_without_it():
    assert skill(cities(goes_with=True), REGION_TASKS["signals"], hide=True) > 0.9


def test_nothing_is_found_where_nothing_goes_with_the_answer():
    assert skill(cities(goes_with=False), REGION_TASKS["signals"], hide=True) < 0.1


@pytest.mark.parametrize(("told", "least", "most"), [(True, 0.95, 1), (False, 0, 0.6)])
def test_entities_in_cities_never_seen(told, least, most):
    """Heights that go with the type tell it; without them nothing does, and certainly not the value of `building`."""
    task, samples = ENTITY_TASKS["building_type"], {}
    maps = {}
    for i, city in enumerate(CITIES):
        kinds = np.random.default_rng(i).integers(0, 2, size=(20, 4))
        tags = [[(HOUSE, SHED)[k] if told else {"building": ("house", "shed")[k]} for k in own] for own in kinds]
        maps[city] = [
            tile(100 * i + j, 22000, *own, ids=[f"way/{i}-{j}-{k}" for k in range(4)]) for j, own in enumerate(tags)
        ]
    fit = entity_tag_counts([task.hidden(r) for city in CITIES[:3] for r in maps[city]])
    for city, regions in maps.items():
        hidden, rows = [task.hidden(r) for r in regions], entity_rows(task, regions)
        samples[city] = Sample(entity_vectors(fit(hidden), nothing(hidden), rows), rows.label)
    sides = ({c: samples[c] for c in own} for own in (CITIES[:3], CITIES[3:]))
    scores = score_cities(*sides, classes=len(task.classes))
    assert least <= np.mean([own["accuracy"] for own in scores.values()]) <= most
