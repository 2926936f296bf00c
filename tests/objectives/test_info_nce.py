"""Contrastive objectives against naive loops written from the papers, and in closed form."""

import math

import pytest
import torch

from graticule.errors import DataError, SettingError
from graticule.objectives.contrastive import AllToAllInfoNCE, CspLoss, MultiPairNTXent, PairwiseInfoNCE
from graticule.objectives.softmax import MAX_LOGIT_SCALE, Pair, Temperature


def pair(name="text", n=5, dim=4, seed=0, views=False, others=0):
    torch.manual_seed(seed)
    drawn = [torch.randn(rows, dim, dtype=torch.float64) for rows in (n, n, n, others)]
    return Pair(name, drawn[0], drawn[1], drawn[2] if views else None, drawn[3] if others else None)


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def nce(query, keys, own, temperature):
    """-log of the softmax share of key number `own`: van den Oord 2018, eq. 4."""
    exponentials = [math.exp(cosine(query, key) / temperature) for key in keys]
    return -math.log(exponentials[own] / sum(exponentials))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def set_temperature(objective, **temperatures):
    with torch.no_grad():
        for name, value in temperatures.items():
            objective.scale.log_scale[name].fill_(-math.log(value))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("others", [0, 3])
def test_pairwise_equals_the_naive_loop(symmetric, others):
    pairs = [pair("text", 5, seed=1, others=others), pair("image", 7, seed=2)]
    temperatures = {"text": 0.2, "image": 0.5}
    objective = PairwiseInfoNCE(list(temperatures), symmetric=symmetric)
    set_temperature(objective, **temperatures)
    expected = {}
    for p in pairs:
        t = temperatures[p.name]
        places = [*p.location, *(p.other_places if p.other_places is not None else [])]
        there = mean(nce(row, places, i, t) for i, row in enumerate(p.modality))
        back = mean(nce(place, p.modality, i, t) for i, place in enumerate(p.location))
        expected[p.name] = (there + back) / 2 if symmetric else there
    losses = objective(pairs)
    assert set(losses) == {"loss", "text", "image"}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-6)
    assert losses["loss"].item() == pytest.approx((5 * expected["text"] + 7 * expected["image"]) / 12, abs=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_multi_pair_equals_the_naive_loop(symmetric):
    """Every row of every modality is one of sum(n) pairs; its negatives are the places of all other pairs."""
    pairs = [pair("text", 4, seed=1), pair("image", 3, seed=2), pair("photo", 2, seed=3)]
    temperatures = {"text": 0.2, "image": 0.5, "photo": 1.0}
    objective = MultiPairNTXent(list(temperatures), symmetric=symmetric)
    set_temperature(objective, **temperatures)
    rows = [(row, temperatures[p.name], p.name) for p in pairs for row in p.modality]
    places = [place for p in pairs for place in p.location]
    each = []
    for k, (row, temperature, name) in enumerate(rows):
        loss = -math.log(
            math.exp(cosine(row, places[k]) / temperature)
            / sum(math.exp(cosine(row, place) / temperature) for place in places)
        )
        if symmetric:  # every row keeps its own modality's temperature when places look for rows
            shares = [math.exp(cosine(other, places[k]) / t) for other, t, _ in rows]
            loss = (loss - math.log(shares[k] / sum(shares))) / 2
        each.append((name, loss))
    losses = objective(pairs)
    assert set(losses) == {"loss", *temperatures}
    assert losses["loss"].item() == pytest.approx(mean(loss for _, loss in each), abs=1e-6)
    for modality in temperatures:
        expected = mean(loss for name, loss in each if name == modality)
        assert losses[modality].item() == pytest.approx(expected, abs=1e-6)


def test_csp_equals_the_naive_loop():
    """Mai 2023: L = L_batch + a L_random + b L_dropout, each the multi-class form over cosine similarities."""
    pairs = [pair("image", 5, seed=1, views=True, others=6), pair("photo", 3, seed=2, views=True, others=2)]
    temperatures = {"image": 0.3, "photo": 0.7}
    objective = CspLoss(list(temperatures), random_weight=0.5, view_weight=2.0)
    set_temperature(objective, **temperatures)
    terms = {"in_batch": [], "random_places": [], "views": []}
    for p in pairs:
        t = temperatures[p.name]
        terms["in_batch"].append(mean(nce(row, p.location, i, t) for i, row in enumerate(p.modality)))
        far = [nce(row, [p.location[i], *p.other_places], 0, t) for i, row in enumerate(p.modality)]
        terms["random_places"].append(mean(far))
        terms["views"].append(mean(nce(place, p.second_view, i, t) for i, place in enumerate(p.location)))
    losses = objective(pairs)
    assert set(losses) == {"loss", *terms}
    for name, values in terms.items():
        assert losses[name].item() == pytest.approx(mean(values), abs=1e-6)
    total = mean(terms["in_batch"]) + 0.5 * mean(terms["random_places"]) + 2 * mean(terms["views"])
    assert losses["loss"].item() == pytest.approx(total, abs=1e-6)


def test_all_to_all_equals_the_naive_loop():
    pairs = [pair(name, 5, seed=i) for i, name in enumerate(["text", "image", "photo"])]
    temperatures = {"text": 0.2, "image": 0.5, "photo": 1.0}
    objective = AllToAllInfoNCE(list(temperatures))
    set_temperature(objective, **temperatures)
    expected = {}

    def couple(a, b, temperature):
        there = mean(nce(row, b, i, temperature) for i, row in enumerate(a))
        return (there + mean(nce(row, a, i, temperature) for i, row in enumerate(b))) / 2

    for i, a in enumerate(pairs):
        expected[f"location-{a.name}"] = couple(a.location, a.modality, temperatures[a.name])
        for b in pairs[i + 1 :]:
            geometric = math.sqrt(temperatures[a.name] * temperatures[b.name])
            expected[f"{a.name}-{b.name}"] = couple(a.modality, b.modality, geometric)
    losses = objective(pairs)
    assert set(losses) == {"loss", *expected}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-6)
    assert losses["loss"].item() == pytest.approx(mean(expected.values()), abs=1e-6)


@pytest.mark.parametrize("kind", [PairwiseInfoNCE, MultiPairNTXent])
@pytest.mark.parametrize("symmetric", [False, True])
def test_closed_forms(kind, symmetric):
    same = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    cold = kind(["text"], temperature=1e-3, learn_temperature=False, symmetric=symmetric)
    assert cold([Pair("text", same, same)])["loss"].item() == pytest.approx(0, abs=1e-12)
    plain = kind(["text"], symmetric=symmetric)
    assert plain([pair(n=1)])["loss"].item() == pytest.approx(0, abs=1e-12)
    ones = torch.ones(9, 3, dtype=torch.float64)
    assert plain([Pair("text", ones, 2 * ones)])["loss"].item() == pytest.approx(math.log(9), abs=1e-6)
    wrong = cold([Pair("text", same, same.roll(1, dims=0))])["loss"].item()
    assert wrong == pytest.approx(1 / 1e-3, rel=1e-5)


def test_closed_forms_of_csp_and_all_to_all():
    ones = torch.ones(9, 3, dtype=torch.float64)
    losses = CspLoss(["a"])([Pair("a", ones, ones, ones, torch.ones(4, 3, dtype=torch.float64))])
    assert losses["in_batch"].item() == pytest.approx(math.log(9), abs=1e-6)
    assert losses["random_places"].item() == pytest.approx(math.log(5), abs=1e-6)
    assert losses["views"].item() == pytest.approx(math.log(9), abs=1e-6)
    both = AllToAllInfoNCE(["a", "b"])([Pair("a", ones, ones), Pair("b", ones, ones)])
    assert all(value.item() == pytest.approx(math.log(9), abs=1e-6) for value in both.values())


@pytest.mark.parametrize("symmetric", [False, True])
def test_multi_pair_of_one_modality_is_pairwise(symmetric):
    one, other = (kind(["text"], symmetric=symmetric) for kind in (MultiPairNTXent, PairwiseInfoNCE))
    batch = [pair(n=8)]
    torch.testing.assert_close(one(batch)["loss"], other(batch)["loss"])


def test_pairwise_does_not_mix_modalities_and_multi_pair_does():
    text, image = pair("text", 4, seed=1), pair("image", 4, seed=2)
    separate, fused = PairwiseInfoNCE(["text", "image"], symmetric=False), MultiPairNTXent(["text", "image"])
    assert separate([text, image])["text"].item() == pytest.approx(separate([text])["text"].item())
    assert fused([text, image])["text"].item() > fused([text])["text"].item() + 0.01


@pytest.mark.parametrize("symmetric", [False, True])
def test_other_places_only_burden_the_way_there(symmetric):
    """A negative place opposite to a row costs nothing; the row's own place once more costs log 2 of the way there."""
    p = pair(n=1)
    objective = PairwiseInfoNCE(["text"], symmetric=symmetric)
    loss = objective([p._replace(other_places=p.location)])["loss"].item()
    assert loss == pytest.approx(math.log(2) / (2 if symmetric else 1), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -0.07, math.nan])
def test_impossible_temperatures_are_refused(value):
    with pytest.raises(SettingError, match="must be positive"):
        Temperature(["text"], value, learned=True)


def test_temperature_starts_where_asked_and_is_clamped_only_when_learned():
    assert Temperature(["a"], 0.07, learned=True)("a").item() == pytest.approx(1 / 0.07, rel=1e-6)
    assert Temperature(["a"], 1e-3, learned=True)("a").item() == MAX_LOGIT_SCALE
    assert Temperature(["a"], 1e-3, learned=False)("a").item() == pytest.approx(1000, rel=1e-5)


def test_learned_temperature_moves_and_a_fixed_one_does_not():
    for learned in (True, False):
        objective = PairwiseInfoNCE(["text"], learn_temperature=learned)
        objective([pair()._replace(location=torch.randn(5, 4, dtype=torch.float64, requires_grad=True))])[
            "loss"
        ].backward()
        gradient = objective.scale.log_scale["text"].grad
        assert (gradient is not None and abs(gradient.item()) > 1e-4) == learned


def test_a_learned_temperature_stays_clamped_while_its_phase_is_frozen():
    scale = Temperature(["a"], 1e-3, learned=True).requires_grad_(False)
    assert scale("a").item() == MAX_LOGIT_SCALE


def test_shape_errors_say_what_came():
    p = pair("text", 5)
    for objective in (PairwiseInfoNCE(["text"]), MultiPairNTXent(["text"]), AllToAllInfoNCE(["text"])):
        with pytest.raises(DataError, match=r"'text'.*\(5, 4\) and \(4, 4\)"):
            objective([p._replace(modality=p.modality[:4])])
        with pytest.raises(DataError, match="at least one modality"):
            objective([])
    with pytest.raises(DataError, match=r"equally many.*'text': 5, 'image': 3"):
        AllToAllInfoNCE(["text", "image"])([p, pair("image", 3)])
    with pytest.raises(DataError, match="second view and random places of 'text'"):
        CspLoss(["text"])([p])
