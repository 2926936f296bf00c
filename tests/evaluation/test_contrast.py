"""Places and words where two embeddings differ: naive oracles, planted differences, chance."""

import gzip
import json
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from graticule.errors import DataError, SettingError
from graticule.evaluation import contrast
from graticule.evaluation.contrast import (
    PRIOR,
    disagreement,
    distinctive_words,
    largest_differences,
    top_places,
    words,
)
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import great_circle_km, lonlat, uniform_places


def corpus(n=2000, length=30, vocabulary=400, seed=0):
    """Texts of words w0, w1, ... with falling frequencies, spread over the Earth."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, vocabulary + 1)
    drawn = rng.choice(vocabulary, size=(n, length), p=frequency / frequency.sum())
    letters = np.array([f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(vocabulary)])
    return [" ".join(row) for row in letters[drawn]], uniform_places(n, seed=seed), rng


def test_top_places_are_those_of_a_naive_walk():
    points, value = uniform_places(300, seed=1), np.random.default_rng(1).normal(size=300)
    expected = []
    for row in sorted(range(300), key=lambda i: -value[i]):
        if value[row] > 0 and all(great_circle_km(points[row], points[seen]) >= 2500 for seen in expected):
            expected.append(row)
    found = top_places(points, value, 300, 2500)
    assert [place.row for place in found] == expected
    assert [place.row for place in top_places(points, value, 3, 2500)] == expected[:3]
    assert (found[0].lon, found[0].lat, found[0].value) == (*points[expected[0]], value[expected[0]])


def test_top_places_see_across_the_antimeridian_the_poles_and_duplicates():
    points = lonlat(lon=[179.9, -179.9, 0, 180, 10, 10], lat=[0, 0, 89.9, 89.9, 10, 10])
    found = top_places(points, np.array([6.0, 5, 4, 3, 2, 1]), 6, 100)
    assert [place.row for place in found] == [0, 2, 4]
    assert [place.row for place in top_places(points, np.ones(6), 6, 0)] == list(range(6))


def test_largest_differences_finds_both_planted_places():
    points = uniform_places(3000, seed=2)
    rng = np.random.default_rng(2)
    a, b = rng.exponential(size=(2, 3000))
    here, there = lonlat(lon=[179.5], lat=[10]), lonlat(lon=[20], lat=[-89])
    b[great_circle_km(points, here) < 900] += 3
    a[great_circle_km(points, there) < 900] += 3
    better_a, better_b = largest_differences(points, a, b, 1, 1000)
    assert great_circle_km(points[better_a[0].row], here[0]) < 900
    assert great_circle_km(points[better_b[0].row], there[0]) < 900
    assert better_a[0].value > 2


def test_rows_alone_and_means_over_neighbours():
    points = lonlat(lon=[0, 1, 2, 90, 91], lat=[0, 0, 0, 0, 0])
    a, b = np.zeros(5), np.array([5.0, 0, 1, -2, -3])
    ours, theirs = largest_differences(points, a, b, 5, 0, neighbours=1)
    assert [(p.row, p.value) for p in ours] == [(0, 5), (2, 1)]
    assert [(p.row, p.value) for p in theirs] == [(4, 3), (3, 2)]
    ours, theirs = largest_differences(points, a, b, 5, 500, neighbours=2)
    assert [(p.row, p.value) for p in theirs] == [(3, 2.5)]
    assert ours[0].value == 2.5
    everything = largest_differences(points, a, b, 5, 500, neighbours=100)
    assert [p.value for p in everything[0]] == pytest.approx([0.2] * len(everything[0]))


def test_no_rows_one_row_and_no_difference():
    nowhere = lonlat(lon=[], lat=[])
    assert largest_differences(nowhere, np.zeros(0), np.zeros(0), 3, 10) == ([], [])
    one = lonlat(lon=[5], lat=[5])
    assert [p.row for p in largest_differences(one, np.zeros(1), np.ones(1), 3, 10)[0]] == [0]
    assert largest_differences(one, np.ones(1), np.ones(1), 3, 10) == ([], [])


def test_disagreement_is_one_minus_the_correlation_of_profiles():
    rng = np.random.default_rng(3)
    a, b, anchors = rng.normal(size=(40, 6)) + 2, rng.normal(size=(40, 9)), np.array([3, 8, 11, 20, 31])
    found = disagreement(a, b, anchors)
    for i in range(40):
        profiles = []
        for vectors in (a, b):
            centred = vectors - vectors[anchors].mean(0)
            profiles.append([
                centred[i] @ centred[j] / np.linalg.norm(centred[i]) / np.linalg.norm(centred[j])
                for j in anchors
                if j != i
            ])  # fmt: skip
        assert found[i] == pytest.approx(1 - np.corrcoef(*profiles)[0, 1], abs=1e-10)


def test_disagreement_ignores_motions_and_finds_the_place_that_moved(monkeypatch):
    rng = np.random.default_rng(4)
    a, anchors = rng.normal(size=(200, 8)), np.arange(0, 200, 4)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    b = 3 * a @ turn + rng.normal(size=8)
    assert np.abs(disagreement(a, b, anchors)).max() < 1e-12
    b[77] = 3 * -a[77] @ turn
    assert disagreement(a, b, anchors).argmax() == 77
    assert disagreement(a, -b, anchors)[77] > 0.5
    whole = disagreement(a, b, anchors)
    monkeypatch.setattr(contrast, "CHUNK", 7)
    np.testing.assert_allclose(disagreement(a, b, anchors), whole, atol=1e-12)


def test_disagreement_of_unrelated_vectors_is_one_and_of_no_direction_too():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(500, 20)).astype(np.float32), rng.normal(size=(500, 20))
    assert disagreement(a, b, np.arange(200)).mean() == pytest.approx(1, abs=0.02)
    assert disagreement(np.ones((9, 2)), b[:9], np.arange(5)) == pytest.approx(np.ones(9))
    assert len(disagreement(a[:5], b[:5], np.arange(5))) == 5


def test_words_are_lower_case_in_any_script():
    assert words("The O’Neill's 3 sea-side TOWNS, 2nd_rate; Ελλάδα été") == [
        "the", "o’neill's", "sea-side", "towns", "nd", "rate", "ελλάδα", "été",
    ]  # fmt: skip
    assert words("e\u0301te\u0301") == ["été"]
    assert words("") == []


def test_planted_words_are_found_and_nothing_else():
    texts, points, rng = corpus()
    score = rng.normal(size=len(texts))
    texts = [
        text + " the harbour" * bool(s > 0.5 and rng.random() < 0.4) + " desert" * bool(s < -0.5 and rng.random() < 0.4)
        for text, s in zip(texts, score, strict=True)
    ]
    found = distinctive_words(texts, score, points, k=3)
    assert {word.word for word in found[:2]} == {"the", "harbour"}
    assert found[-1].word == "desert"
    assert [word.z for word in found] == sorted((word.z for word in found), reverse=True)
    assert found[1].z > 6 > 4.5 > max(abs(word.z) for word in found[2:-1])
    assert found[0].texts == pytest.approx(0.4 * 500, abs=40)


def test_shuffled_scores_make_no_word_distinctive():
    """The largest of V |z| is below the Bonferroni limit, and z is not much narrower than a standard normal."""
    texts, points, _ = corpus()
    for seed in range(5):
        score = np.random.default_rng(seed).normal(size=len(texts))
        found = distinctive_words(texts, score, points, k=10_000)
        z = np.array([word.z for word in found])
        assert len(z) > 200
        assert np.abs(z).max() < norm.isf(0.001 / 2 / len(z))
        assert 0.6 < z.std() < 1.1


def test_z_and_counts_are_those_of_monroe_by_hand():
    texts = ["a b", "a c c c", "b d", "a a b", "c d", "d e", "b e", "a e"]
    score = np.array([8.0, 7, 6, 5, 4, 3, 2, 1])
    points = uniform_places(8)
    found = distinctive_words(texts, score, points, k=9, min_texts=0, min_cells=0)
    high, low = texts[:2], texts[6:]
    count = {w: [sum(w in t.split() for t in group) for group in (high, low, texts)] for w in "abcde"}
    total = [sum(c[i] for c in count.values()) for i in range(3)]
    assert {word.word for word in found} < set("abcde")
    for word in found:
        first, second, all_texts = count[word.word]
        prior_total = PRIOR * (total[0] + total[1])
        prior = prior_total * all_texts / total[2]
        odds = [
            np.log((y + prior) / (n + prior_total - y - prior))
            for y, n in ((first, total[0]), (second, total[1]))
        ]  # fmt: skip
        assert word.z == pytest.approx((odds[0] - odds[1]) / np.sqrt(1 / (first + prior) + 1 / (second + prior)))
        assert word.texts == first + second
    signs = {word.word: word.z > 0 for word in found}
    assert (signs["a"], signs["c"], signs["e"]) == (True, True, False)


def test_a_place_name_is_left_out_and_a_common_word_stays():
    texts, points, rng = corpus(4000)
    score = np.where(rng.random(4000) < 0.5, 1.0, 0.0)
    at_home = great_circle_km(points, np.array([10.0, 50.0])) < 2500
    score[at_home] = 1
    stray = rng.random(4000) < 0.003
    texts = [
        text + " Ruritania" * bool(home or far) + " port" * bool(s and rng.random() < 0.1)
        for text, home, far, s in zip(texts, at_home, stray, score, strict=True)
    ]
    top = {word.word: word for word in distinctive_words(texts, score, points, k=2, min_cells=1)}
    assert {"ruritania", "port"} == {name for name, word in top.items() if word.z > 0}
    cells = equal_area_cells(points, 1000)
    mentions = np.array(["Ruritania" in text and s == 1 for text, s in zip(texts, score, strict=True)])
    share = np.unique(cells[mentions], return_counts=True)[1] / mentions.sum()
    assert len(share) > top["ruritania"].cells
    assert top["ruritania"].cells == pytest.approx(1 / np.square(share).sum(), rel=0.02)
    assert "ruritania" not in {word.word for word in distinctive_words(texts, score, points, k=500, min_cells=40)}
    assert distinctive_words(texts, score, points, k=1, min_cells=40)[0].word == "port"


def test_long_texts_do_not_make_common_words_distinctive():
    texts, points, rng = corpus(4000, length=60)
    long = rng.random(4000) < 0.5
    texts = [text if whole else " ".join(text.split()[:12]) for text, whole in zip(texts, long, strict=True)]
    score = long + rng.normal(size=4000)
    assert max(abs(word.z) for word in distinctive_words(texts, score, points)) < 4.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=2, max_size=30), st.integers(0, 3))
def test_any_text_passes_and_swapping_the_score_swaps_the_signs(texts, k):
    points, score = uniform_places(len(texts)), np.arange(len(texts), dtype=float)
    found = distinctive_words(texts, score, points, k, min_texts=0, min_cells=0)
    assert sum(word.z > 0 for word in found) <= k
    everything = distinctive_words(texts, score, points, 999, min_texts=0, min_cells=0)
    turned = distinctive_words(texts, -score, points, 999, min_texts=0, min_cells=0)
    assert {w.word: round(w.z, 9) for w in everything} == {w.word: round(-w.z, 9) for w in turned}


def test_bad_input_is_named():
    points = uniform_places(4)
    good = np.arange(4.0)
    with pytest.raises(DataError, match="3 texts and 4 places"):
        distinctive_words(["a"] * 3, good, points)
    with pytest.raises(DataError, match="score for each of 4 places"):
        distinctive_words(["a"] * 4, good[:3], points)
    with pytest.raises(DataError, match=r"row 1 is nan, 1 of 4"):
        distinctive_words(["a"] * 4, np.array([0, np.nan, 1, 2]), points)
    with pytest.raises(SettingError, match=r"\(0, 0.5\), got 0.5"):
        distinctive_words(["a"] * 4, good, points, quantile=0.5)
    with pytest.raises(DataError, match="are equal"):
        distinctive_words(["a"] * 4, np.ones(4), points)
    with pytest.raises(DataError, match="got none"):
        distinctive_words([], np.zeros(0), points[:0])
    with pytest.raises(DataError, match="value for each of 4 places"):
        top_places(points, np.zeros(5), 1, 1)
    with pytest.raises(DataError, match="same shape"):
        largest_differences(points, np.zeros(4), np.zeros(5), 1, 1)
    with pytest.raises(DataError, match="got 4 and 5 rows"):
        disagreement(np.ones((4, 2)), np.ones((5, 2)), np.arange(4))
    for anchors in (np.arange(3), np.zeros(9, int)):
        with pytest.raises(SettingError, match="four or more different rows"):
            disagreement(np.ones((4, 2)), np.ones((4, 2)), anchors)


def test_real_texts_tell_the_tropics_from_the_north():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    with gzip.open(Path(os.environ["GRATICULE_DATA"]) / "text" / "wikipedia_en_geo_balanced.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in islice(file, 8000)]
    points = lonlat(lon=[row["lon"] for row in rows], lat=[row["lat"] for row in rows])
    found = distinctive_words([row["text"] for row in rows], np.abs(points[:, 1]), points, k=40, min_cells=8)
    north, tropics = ({word.word for word in found if side * word.z > 0} for side in (1, -1))
    assert north & {"ice", "arctic", "glacier", "snow", "polar"}
    assert tropics & {"tropical", "africa", "indigenous", "rice", "colonial"}
    assert not (north | tropics) & {"the", "of", "and", "norway", "poland"}
