"""Targets by distance against naive loops, their closed forms and special cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import DataError, SettingError
from graticule.geo.coords import great_circle_km, offset_km, uniform_places
from graticule.objectives.blocks import find_own
from graticule.objectives.contrastive import MultiPairNTXent, PairwiseInfoNCE
from graticule.objectives.geography import KERNELS, Nearness
from graticule.objectives.softmax import Pair
from tests.objectives.test_info_nce import cosine, mean, set_temperature

TEMPERATURES = {"text": 0.2, "image": 0.5}
FORMULAS = {
    "gaussian": lambda d, s: math.exp(-0.5 * (d / s) ** 2),
    "exponential": lambda d, s: math.exp(-d / s),
    "ball": lambda d, s: float(d <= s),
}


def crowded(n, seed):
    """Places some hundred km apart, over the antimeridian and the pole, the first two the same."""
    rng = np.random.default_rng(seed)
    centres = np.array([[179.9, 10.0], [0.0, 89.5]])[rng.integers(2, size=n)]
    places = offset_km(centres, rng.normal(0, 150, (n, 1)), rng.normal(0, 150, (n, 1)))[:, 0]
    places[1:2] = places[:1]
    return torch.from_numpy(places)


def pair(name, n, dim=6, seed=0, others=0):
    draw = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(rows, dim, dtype=torch.float64, generator=draw) for rows in (n, n, others)]
    places, beyond = crowded(n, seed), crowded(others, seed + 50)
    return Pair(name, *vectors[:2], None, vectors[2] if others else None, places, beyond if others else None)


def naive(pairs, near, symmetric, length=None):
    """Losses of all rows of `pairs` in one softmax, and their modalities."""
    widen = 1.0 if length is None else (pairs[0].location.shape[1] / length) ** near.coarse
    rows = [(p.name, row[:length], place) for p in pairs for row, place in zip(p.modality, p.lonlat, strict=True)]
    own = [(v[:length], place) for p in pairs for v, place in zip(p.location, p.lonlat, strict=True)]
    there = own + [
        (v[:length], place)
        for p in pairs
        if p.other_places is not None
        for v, place in zip(p.other_places, p.other_lonlat, strict=True)
    ]

    def weight(i, j):
        """Of candidate j for row i; None where it is left out."""
        name, d = rows[i][0], float(great_circle_km(rows[i][2], there[j][1]))
        if i == j:
            return 1.0
        if d < near.mask_km[name]:
            return None
        return FORMULAS[near.kernel](d, near.soft_km[name] * widen) if near.soft_km[name] else 0.0

    def logit(i, j):
        return cosine(rows[i][1], there[j][0]) / TEMPERATURES[rows[i][0]]

    def cross_entropy(weights, logits):
        kept = [(w, z) for w, z in zip(weights, logits, strict=True) if w is not None]
        total = math.log(sum(math.exp(z) for _, z in kept))
        return sum(w * (total - z) for w, z in kept) / sum(w for w, _ in kept)

    losses = []
    for i in range(len(rows)):
        loss = cross_entropy([weight(i, j) for j in range(len(there))], [logit(i, j) for j in range(len(there))])
        if symmetric:
            everyone = range(len(rows))
            back = cross_entropy([weight(k, i) for k in everyone], [logit(k, i) for k in everyone])
            loss = (loss + back) / 2
        losses.append((rows[i][0], loss))
    return losses


NEAR = {
    "soft": Nearness({"text": 200.0, "image": 80.0}, {"text": 0.0, "image": 0.0}),
    "soft for one": Nearness({"text": 200.0, "image": 0.0}, {"text": 0.0, "image": 0.0}, "exponential"),
    "positives": Nearness({"text": 150.0, "image": 150.0}, {"text": 0.0, "image": 0.0}, "ball"),
    "mask": Nearness({"text": 0.0, "image": 0.0}, {"text": 120.0, "image": 60.0}),
    "all": Nearness({"text": 300.0, "image": 200.0}, {"text": 50.0, "image": 0.0}, coarse=0.5),
}


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("near", NEAR.values(), ids=NEAR)
@pytest.mark.parametrize("prefixes", [(), (2, 3, 6)])
def test_both_objectives_equal_the_naive_loop(near, symmetric, prefixes):
    pairs = [pair("text", 9, seed=1, others=4), pair("image", 7, seed=2, others=3)]
    options = {"symmetric": symmetric, "near": near, "prefixes": prefixes}
    pairwise, fused = (kind(list(TEMPERATURES), **options) for kind in (PairwiseInfoNCE, MultiPairNTXent))
    for objective in (pairwise, fused):
        set_temperature(objective, **TEMPERATURES)

    def expected(together):
        return mean(mean(loss for _, loss in naive(together, near, symmetric, d)) for d in prefixes or (6,))

    losses = pairwise(pairs)
    for p in pairs:
        assert losses[p.name].item() == pytest.approx(expected([p]), abs=2e-6)
    assert losses["loss"].item() == pytest.approx(
        (9 * losses["text"].item() + 7 * losses["image"].item()) / 16, abs=1e-6
    )
    losses = fused(pairs)
    assert losses["loss"].item() == pytest.approx(expected(pairs), abs=2e-6)
    for name in TEMPERATURES:
        each = [mean(loss for n, loss in naive(pairs, near, symmetric, d) if n == name) for d in prefixes or (6,)]
        assert losses[name].item() == pytest.approx(mean(each), abs=2e-6)


@pytest.mark.parametrize("kind", [PairwiseInfoNCE, MultiPairNTXent])
@pytest.mark.parametrize("symmetric", [False, True])
def test_without_radii_the_losses_are_the_plain_ones(kind, symmetric):
    """Also where rows share their place, and with a scale so small that only the same place would count."""
    nothing = Nearness(dict.fromkeys(TEMPERATURES, 0.0), dict.fromkeys(TEMPERATURES, 0.0))
    pairs = [pair("text", 9, seed=1, others=4), pair("image", 7, seed=2)]
    plain, same = (kind(list(TEMPERATURES), symmetric=symmetric, near=near)(pairs) for near in (None, nothing))
    for name, value in plain.items():
        torch.testing.assert_close(same[name], value, atol=1e-12, rtol=1e-12)
    tiny = Nearness(dict.fromkeys(TEMPERATURES, 1e-6), dict.fromkeys(TEMPERATURES, 0.0))
    apart = [p._replace(lonlat=torch.from_numpy(uniform_places(len(p.lonlat), seed=len(p.name)))) for p in pairs]
    found = kind(list(TEMPERATURES), symmetric=symmetric, near=tiny)(apart)
    torch.testing.assert_close(found["loss"], plain["loss"], atol=1e-12, rtol=1e-12)


def test_the_whole_vector_is_its_own_only_prefix():
    pairs = [pair("text", 9, seed=1, others=4), pair("image", 7, seed=2)]
    for kind in (PairwiseInfoNCE, MultiPairNTXent):
        whole, prefix = (kind(list(TEMPERATURES), prefixes=lengths)(pairs) for lengths in ((), (6,)))
        assert all(torch.equal(prefix[name], value) for name, value in whole.items())


def test_places_that_several_pairs_share_are_candidates_once():
    text, image = pair("text", 5, seed=1, others=4), pair("image", 3, seed=2)
    both = image._replace(other_places=text.other_places, other_lonlat=text.other_lonlat)
    objective = MultiPairNTXent(list(TEMPERATURES), near=NEAR["soft"])
    torch.testing.assert_close(objective([text, both])["loss"], objective([text, image])["loss"])


def test_positives_alike_are_supcon():
    """Khosla 2020, eq. 2: -1/|P(i)| sum over positives p of log softmax_p, P(i) all within the radius of place i."""
    text = pair("text", 12, seed=3)
    near = NEAR["positives"]
    objective = PairwiseInfoNCE(["text"], temperature=0.3, symmetric=False, near=near)
    losses = []
    for i, row in enumerate(text.modality):
        km = [float(great_circle_km(text.lonlat[i], place)) for place in text.lonlat]
        logits = [cosine(row, place) / 0.3 for place in text.location]
        total = math.log(sum(map(math.exp, logits)))
        positives = [j for j, d in enumerate(km) if d <= 150]
        assert i in positives
        losses.append(-sum(logits[p] - total for p in positives) / len(positives))
    assert objective([text])["loss"].item() == pytest.approx(mean(losses), abs=1e-6)
    assert max(sum(k <= 150 for k in great_circle_km(text.lonlat[i], text.lonlat)) for i in range(12)) > 2


@pytest.mark.parametrize("near", NEAR.values(), ids=NEAR)
def test_closed_forms(near):
    """One row costs nothing; rows alike at one place cost the logarithm of those not left out."""
    one = pair("text", 1)
    assert PairwiseInfoNCE(["text"], near=near)([one])["loss"].item() == pytest.approx(0, abs=1e-12)
    ones, here = torch.ones(9, 3, dtype=torch.float64), torch.tensor([[-180.0, 90.0]]).double().expand(9, 2)
    alike = Pair("text", ones, 2 * ones, lonlat=here)
    left = 1 if near.mask_km["text"] else 9
    assert PairwiseInfoNCE(["text"], near=near)([alike])["loss"].item() == pytest.approx(math.log(left), abs=1e-6)


def test_everything_is_one_place_under_a_scale_as_wide_as_the_world():
    """All weights alike: the loss is the mean over candidates of -log softmax, whatever belongs to whom."""
    text = pair("text", 6, seed=4)
    near = Nearness({"text": 1e9}, {"text": 0.0})
    objective = PairwiseInfoNCE(["text"], temperature=1.0, symmetric=False, near=near)
    turned = text._replace(location=text.location.roll(1, dims=0))
    torch.testing.assert_close(objective([text])["loss"], objective([turned])["loss"])


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_targets_are_fair(data):
    """Rows sum to 1 once normalised, nearer candidates never weigh less, the own one weighs most and stays."""
    n, others = data.draw(st.integers(1, 12)), data.draw(st.integers(0, 5))
    km = st.floats(0, 20_000)
    near = Nearness({"a": data.draw(km)}, {"a": data.draw(km)}, data.draw(st.sampled_from(sorted(KERNELS))))
    degrees = st.tuples(st.floats(-180, 179.9), st.sampled_from([-90.0, -89.9, 0.0, 45.0, 90.0]))
    places = torch.tensor(data.draw(st.lists(degrees, min_size=n + others, max_size=n + others)), dtype=torch.float64)
    (targets,) = near.targets([("a", places[:n])], [places[n:]])
    target = targets.block(slice(0, n), slice(0, n + others))
    distance = great_circle_km(places[:n, None], places[None])
    assert target.weights.shape == target.left_out.shape == (n, n + others)
    assert (target.weights >= 0).all()
    assert (target.weights.diagonal() == 1).all()
    assert not target.left_out.diagonal().any()
    beyond = ~torch.eye(n, n + others, dtype=torch.bool)
    clear = (distance - near.mask_km["a"]).abs() > 0.01
    assert (target.left_out == (distance < near.mask_km["a"]))[beyond & clear].all()
    assert (target.weights[target.left_out] == 0).all()
    kept = target.weights.masked_fill(target.left_out, math.nan)
    for weights, d in zip(kept, distance, strict=True):
        order = d.argsort()
        assert not (weights[order].diff()[d[order].diff() > 0.01] > 1e-6).any()
    losses = find_own(torch.randn(n, 4), torch.randn(n + others, 4), back=data.draw(st.booleans()), targets=targets)
    assert torch.isfinite(losses).all()
    assert (losses >= -1e-5).all()


def test_wider_for_shorter_prefixes():
    places = crowded(8, 0)
    near = Nearness({"a": 100.0}, {"a": 30.0}, coarse=0.5)
    quarter, whole, twice = (
        targets.block(slice(0, 8), slice(0, 8))
        for targets in (
            *near.targets([("a", places)], shares=(0.25, 1.0)),
            *Nearness({"a": 200.0}, {"a": 30.0}).targets([("a", places)]),
        )
    )
    torch.testing.assert_close(quarter.weights, twice.weights)
    assert (quarter.weights >= whole.weights).all()
    assert torch.equal(quarter.left_out, whole.left_out)


def test_what_cannot_be_is_refused():
    with pytest.raises(SettingError, match="Did you mean 'gaussian'"):
        Nearness({}, {}, "gausian")
    for km in (-1.0, math.nan, math.inf):
        with pytest.raises(
            SettingError, match=f"soft_km of 'text' must be a finite number of km, 0 or more, got {km:g}"
        ):
            Nearness({"text": km}, {})
    objective = PairwiseInfoNCE(["text"], near=NEAR["soft"])
    with pytest.raises(DataError, match="places of 'text' in degrees"):
        objective([pair("text", 3)._replace(lonlat=None)])
    with pytest.raises(DataError, match="places of 'text' in degrees"):
        objective([pair("text", 3, others=2)._replace(other_lonlat=None)])
