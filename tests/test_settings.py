import ast
import inspect
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graticule import settings as module
from graticule.errors import SettingError
from graticule.settings import Settings, literal, parse_settings, prefix_lengths
from graticule.training.trainer import Schedule

PLAIN = {"int": st.integers(1, 10**6), "float": st.floats(0, 0.99), "bool": st.booleans(), "str": st.text(max_size=8)}


def test_nothing_given_leaves_the_defaults():
    assert parse_settings({}) == Settings()
    assert parse_settings({}, Settings(steps=7)) == Settings(steps=7)


@given(st.data())
def test_texts_and_values_mean_the_same(data):
    field = data.draw(st.sampled_from([f for f in fields(Settings) if str(f.type) in PLAIN]))
    value = data.draw(PLAIN[str(field.type)])
    found = parse_settings({field.name: str(value)})
    assert found == parse_settings({field.name: value})
    assert getattr(found, field.name) == value
    assert type(getattr(found, field.name)) is type(value)
    changed = {name for name, v in asdict(found).items() if v != asdict(Settings())[name]}
    assert changed <= {field.name}


def test_dotted_keys_reach_into_the_dictionaries():
    asked = {"location": "harmonics", "location.max_degree": "40", "location.body": "siren", "trunk.text": "ngram"}
    found = parse_settings(asked)
    assert found.location == "harmonics"
    assert found.location_options == {"max_degree": 40, "body": "siren"}
    assert found.trunks == {"text": "ngram"}
    more = parse_settings({"location.max_degree": 10, "location_options": {"width": 8}}, found)
    assert more.location_options == {"max_degree": 10, "body": "siren", "width": 8}
    assert found.location_options["max_degree"] == 40


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("siren", "siren"),
        ("", ""),
        (None, None),
    ],
)
def test_literal(text, value):
    assert literal(text) == value
    assert type(literal(text)) is type(value)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("step", "'steps'"),
        ("learning-rate", "'learning_rate'"),
        ("locations.width", "OPTION"),
        ("trunks", "trunk.OPTION"),
    ],
)
def test_unknown_settings_name_the_nearest(key, near):
    with pytest.raises(SettingError, match=f"Unknown setting {key!r}.*{near}"):
        parse_settings({key: "1"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", "many"),
        ("steps", 1.5),
        ("steps", True),
        ("learning_rate", "fast"),
        ("shuffle", "perhaps"),
        ("shuffle", 1),
        ("symmetric", "both"),
        ("holdout", 3),
        ("ema", None),
    ],
)
def test_wrong_types_are_refused_by_name(key, value):
    with pytest.raises(SettingError, match=f"{key!r} must be of type .*{value!r}"):
        parse_settings({key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("rows_at_once", -1),
        ("log_every", 0),
        ("checkpoint_every", -1),
        ("steps", -1),
        ("learning_rate", "nan"),
        ("clip", -1),
    ],
)
def test_impossible_values_are_refused_by_name(key, value):
    with pytest.raises(SettingError, match=f"{key!r} must be at least"):
        parse_settings({key: value})


def test_paths_are_texts_and_none_means_by_recipe():
    assert parse_settings({"start": Path("runs") / "a"}).start == str(Path("runs") / "a")
    assert parse_settings({"symmetric": None}).symmetric is None
    assert parse_settings({"symmetric": "false"}).symmetric is False


def test_settings_of_the_schedule_have_its_defaults_and_types():
    ours = {f.name: f for f in fields(Settings)}
    for other in fields(Schedule):
        if other.name in ours and other.name != "steps":
            assert ours[other.name].default == other.default, other.name
            assert ours[other.name].type == other.type, other.name
    assert {"faster", "batch_rows"} == {f.name for f in fields(Schedule)} - set(ours)


def test_every_limit_belongs_to_a_number():
    numbers = {f.name for f in fields(Settings) if str(f.type) in ("int", "float")}
    assert set(module.LEAST) <= numbers
    assert all(getattr(Settings(), name) >= least for name, least in module.LEAST.items())


def test_every_setting_is_used():
    """A setting that no file reads would be a promise nobody keeps."""
    used = set()
    home = Path(inspect.getfile(module)).parent
    for path in (home / "recipes.py", home / "parts.py", *(home / "runs").glob("*.py")):
        tree = ast.parse(path.read_text())
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {f.name for f in fields(Settings)} - {f.name for f in fields(Schedule)} <= used


def test_kilometres_are_numbers_or_fitted_for_all_or_one_modality():
    found = parse_settings({"soft_km": "300", "soft_km.text": "fitted", "mask_km": "fitted", "mask_km.image": "20"})
    assert (found.soft_km, found.soft_km_of) == (300.0, {"text": "fitted"})
    assert (found.mask_km, found.mask_km_of) == ("fitted", {"image": 20})
    assert isinstance(found.soft_km, float)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [("", ()), ("16", (16, 64)), ("32, 16", (16, 32, 64)), ("64", (64,)), ("1,64,1", (1, 64))],
)
def test_prefixes_are_in_order_and_end_with_the_whole(text, lengths):
    assert prefix_lengths(text, 64) == lengths


@pytest.mark.parametrize("text", ["0", "65", "16,x", "1.5", "-3"])
def test_impossible_prefixes_are_refused(text):
    with pytest.raises(SettingError, match="whole number from 1 to 64, the length of the vector, got"):
        prefix_lengths(text, 64)


@pytest.mark.parametrize("key", ["dropout", "ema", "warmup"])
def test_a_share_of_one_or_more_is_refused(key: str) -> None:
    with pytest.raises(SettingError, match=f"{key!r} must be below 1, got '1'"):
        parse_settings({key: "1"})
