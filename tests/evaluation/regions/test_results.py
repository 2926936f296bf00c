import numpy as np
import pytest
from scipy.stats import ttest_rel

from graticule.errors import CacheError, DataError, SettingError
from graticule.evaluation.regions.results import Result, ResultStore, by_city, compare, summary, task_means

REGION, ENTITY, EXTERNAL = "region tasks", "entity tasks", "external labels"


def rows(method, values, task="signals", group=REGION, metric="skill", seed=0):
    return [Result(method, seed, task, group, f"city{i:02}", metric, v) for i, v in enumerate(values)]


def test_a_file_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "deep" / "results.jsonl"
    store = ResultStore(path)
    scores = {"a": {"skill": 0.25, "spearman": float("nan")}, "ü": {"skill": -0.5, "spearman": 0.1}}
    store.add("ours", 0, "signals", REGION, scores)
    store.add("ours", 1, "signals", REGION, {})
    again = ResultStore(path)
    assert again.rows == store.rows == [
        Result("ours", 0, "signals", REGION, "a", "skill", 0.25),
        Result("ours", 0, "signals", REGION, "ü", "skill", -0.5),
        Result("ours", 0, "signals", REGION, "ü", "spearman", 0.1),
    ]  # fmt: skip
    assert again.done("ours", 1, "signals")
    assert not again.done("ours", 2, "signals")
    assert len(again) == 3
    with pytest.raises(DataError, match="are there already"):
        again.add("ours", 1, "signals", REGION, {})
    with pytest.raises(SettingError, match="Unknown group"):
        again.add("ours", 3, "signals", "region", {})


def test_every_cut_of_the_file_leaves_whole_pieces(tmp_path):
    path = tmp_path / "results.jsonl"
    for seed in range(2):
        ResultStore(path).add("m", seed, "t", ENTITY, {"c": {"accuracy": 0.5}})
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for cut in range(0, len(whole) + 1, 5):
        path.write_bytes(whole[:cut])
        store = ResultStore(path)
        assert len(store) == sum(end <= cut for end in ends)
        store.add("m", 9, "t", ENTITY, {"c": {"accuracy": 0.5}})
        assert len(ResultStore(path)) == len(store)
    path.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(CacheError, match="line 1 is damaged"):
        ResultStore(path)


def test_means_over_seeds_then_tasks_then_cities():
    table = [
        *rows("m", [0.2, 0.4], seed=0), *rows("m", [0.4, 0.6], seed=1), *rows("m", [0.9], task="speed"),
        *rows("m", [-7.0], task="bridges", group=EXTERNAL), *rows("m", [0.1, 0.3], "type", ENTITY, "macro-F1"),
        *rows("m", [0.8, 0.8], "type", ENTITY, "accuracy"), *rows("n", [0.5]),
    ]  # fmt: skip
    assert by_city(table, "m", group=REGION) == pytest.approx({"city00": (0.3 + 0.9) / 2, "city01": 0.5})
    assert by_city(table, "m", task="speed") == pytest.approx({"city00": 0.9})
    assert by_city(table, "m", metric="accuracy") == pytest.approx({"city00": 0.8, "city01": 0.8})
    assert summary(table) == {
        "m": pytest.approx({REGION: 0.55, ENTITY: 0.2, EXTERNAL: -1.0}),  # the floor
        "n": pytest.approx({REGION: 0.5}),
    }
    assert task_means(table)["signals"] == pytest.approx({"m": 0.4, "n": 0.5})
    assert task_means(table, "accuracy")["type"] == pytest.approx({"m": 0.8})


def test_differences_against_naive_bootstrap_and_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(size=15), rng.uniform(size=15) - 0.3
    got = compare(rows("a", a) + rows("b", b), "a", "b")
    test = ttest_rel(a, b)
    assert got.difference == pytest.approx(np.mean(a - b))
    assert got.p == pytest.approx(test.pvalue)
    assert (got.t_low, got.t_high) == pytest.approx(tuple(test.confidence_interval()))
    means = [np.mean(rng.choice(a - b, 15)) for _ in range(9999)]
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)
    assert got.cities == 15
    assert compare(rows("a", a) + rows("b", b), "b", "a").difference == pytest.approx(-got.difference)


def test_only_what_both_have_is_compared():
    table = rows("a", [0.5, 0.5]) + rows("a", [0.0, 0.0], task="speed") + rows("b", [0.4, 0.3, 0.9])
    got = compare(table, "a", "b", group=REGION)
    assert (got.difference, got.cities) == (pytest.approx(0.15), 2)
    with pytest.raises(DataError, match="No city has scores of both 'a' and 'c'; the methods are a, b"):
        compare(table, "a", "c")


def test_seeds_are_no_further_cities():
    table = [row for seed in range(5) for row in rows("a", [0.5, 0.7, 0.2], seed=seed)] + rows("b", [0.4, 0.4, 0.4])
    assert compare(table, "a", "b") == compare(rows("a", [0.5, 0.7, 0.2]) + rows("b", [0.4, 0.4, 0.4]), "a", "b")


def test_one_city_and_no_difference():
    one = compare(rows("a", [0.5]) + rows("b", [0.2]), "a", "b")
    assert (one.low, one.high, one.p, one.cities) == (-np.inf, np.inf, 1, 1)
    same = compare(rows("a", [0.5, 0.7]) + rows("b", [0.5, 0.7]), "a", "b")
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng, hits, wide = np.random.default_rng(0), 0, 0
    for _ in range(50):
        gain = 0.1 + 0.2 * rng.normal(size=16)
        got = compare(rows("a", gain) + rows("b", np.zeros(16)), "a", "b")
        hits += got.t_low <= 0.1 <= got.t_high
        wide += got.low <= 0.1 <= got.high
    assert hits >= 44
    assert wide >= 42
