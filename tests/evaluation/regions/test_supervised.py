from dataclasses import replace

import numpy as np
import pytest

from graticule.errors import DataError
from graticule.evaluation.regions.supervised import Labelled, joined, score_supervised, thinned
from tests.region_tokens import planted

SMALL = {"width": 16, "depth": 1, "heads": 2, "modalities": "TG"}
COUNTED, CLASSES = 5, 3


def float32(tokens):
    return replace(tokens, **{n: v.astype(np.float32) for n, v in tokens.arrays().items() if v.dtype == np.float16})


def counts(tokens):
    return np.log1p([np.sum(own <= COUNTED) for own in np.split(tokens.tags, tokens.offsets[1:-1])])


def city(seed, entities=False, permuted=False, regions=60):
    """Regions labelled with how many entities have one of five tag sets, or entities with the class of their tags."""
    tokens = float32(planted(regions, seed=seed))
    rng = np.random.default_rng(seed)
    region = np.arange(regions)
    if entities:
        entity = rng.integers(np.diff(tokens.offsets))
        label = tokens.tags[tokens.offsets[region] + entity] % CLASSES
    else:
        entity, label = None, counts(tokens)
    return Labelled(tokens, region, rng.permutation(label) if permuted else label, entity)


def cities(seeds, **options):
    return {f"city{seed}": city(seed, **options) for seed in seeds}


def mean(scores, metric):
    return np.mean([own[metric] for own in scores.values()])


def test_a_count_that_is_planted_is_found_in_cities_never_seen_and_permuted_labels_are_not():
    test = cities(range(6, 9))
    found = score_supervised(cities(range(6)), test, steps=240, **SMALL)
    assert list(found) == list(test)
    assert mean(found, "skill") > 0.6
    assert mean(found, "spearman") > 0.7
    noise = score_supervised(cities(range(6), permuted=True), test, steps=60, **SMALL)
    assert mean(noise, "skill") < 0.1


def test_classes_of_entities_are_found_and_permuted_ones_are_not():
    test = cities(range(6, 9), entities=True)
    found = score_supervised(cities(range(6), entities=True), test, CLASSES, steps=120, **SMALL)
    assert mean(found, "macro-F1") > 0.7
    noise = score_supervised(cities(range(6), entities=True, permuted=True), test, CLASSES, steps=60, **SMALL)
    assert mean(noise, "macro-F1") < 0.5


def test_the_same_seed_gives_the_same_scores_and_several_columns_are_answered():
    def twice(own):
        return replace(own, label=np.stack([own.label, -own.label, np.ones(len(own))], axis=1))

    train, test = ({c: twice(own) for c, own in cities(seeds).items()} for seeds in (range(4), (4,)))
    first, second, other = (score_supervised(train, test, seed=seed, steps=80, **SMALL) for seed in (0, 0, 1))
    assert first == second
    assert first != other


def test_no_steps_say_the_mean():
    scores = score_supervised(cities(range(2), regions=25), cities((3,), regions=25), steps=0, **SMALL)
    assert scores["city3"]["skill"] == pytest.approx(0, abs=1e-6)


def test_no_rows_and_one_class():
    some, none = city(0, regions=25), Labelled(city(1, regions=3).tokens, np.zeros(0, int), np.zeros(0))
    with pytest.raises(DataError, match="No training city has labelled rows, of 1"):
        score_supervised({"none": none}, {"some": some}, **SMALL)
    assert score_supervised({"some": some}, {"none": none}, steps=1, **SMALL) == {}
    entities = city(0, entities=True, regions=25)
    one = replace(entities, label=np.full(25, 2))
    both = replace(entities, label=np.arange(25) % 2 + 1)
    assert score_supervised({"a": one}, {"b": both}, CLASSES, **SMALL)["b"]["accuracy"] == 12 / 25
    with pytest.raises(DataError, match=r"got \[2, 3\] of them"):
        Labelled(some.tokens, np.arange(2), np.zeros(3))


def test_regions_without_entities_are_answered():
    own = city(0, regions=25)
    empty = replace(own, tokens=own.tokens.where(np.arange(own.tokens.offsets[-1]) >= own.tokens.offsets[20]))
    assert np.isfinite(score_supervised({"a": empty}, {"b": empty}, steps=2, **SMALL)["b"]["skill"])


def test_thinned_regions_keep_labelled_entities_and_their_labels():
    own = city(3, entities=True)
    small = thinned(own, seed=0, most=4)
    assert np.diff(small.tokens.offsets).max() == 4
    for a, b in ((own, small), (joined([own, own]), joined([small, small]))):
        at = [rows.tokens.offsets[rows.region] + rows.entity for rows in (a, b)]
        np.testing.assert_array_equal(a.tokens.position[at[0]], b.tokens.position[at[1]])
    many = Labelled(own.tokens, np.zeros(6, int), np.zeros(6), np.arange(6) % np.diff(own.tokens.offsets)[0])
    assert np.diff(thinned(many, seed=0, most=2).tokens.offsets)[0] == len(set(many.entity))
