"""What the README shows is true: its Python prints what it says, its commands and settings exist."""

import contextlib
import inspect
import io
import re
import shlex
from pathlib import Path

import pytest

from graticule.cli import parser
from graticule.embed import INSIDE
from graticule.errors import GraticuleError
from graticule.read import READERS
from graticule.recipes import DEFAULTS, JEPA_RECIPES, RECIPES
from graticule.settings import parse_settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^(?:<!-- (?P<marker>[\w ]+) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def fences(text):
    """(marker, language, body) of every fenced block; the marker is that of a comment line directly before it."""
    return [(m["marker"], m["language"], m["body"]) for m in FENCE.finditer(text)]


def commands(text):
    """The words after `graticule` of every command in a console, bash or unnamed block."""
    bodies = [body for _, language, body in fences(text) if language in ("", "bash", "console", "sh")]
    lines = "\n".join(bodies).replace("\\\n", " ").splitlines()
    parts = [part.strip().removeprefix("$ ") for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("graticule ")]


def mentions(text):
    """The words after `graticule` of every command in running text, which may be shortened."""
    plain = FENCE.sub("", text)
    return [span.split()[1:] for span in re.findall(r"`(graticule [^`]+)`", plain)]


def verbs():
    """The options of every verb."""
    action = next(action for action in parser()._actions if action.dest == "verb")
    return {name: set(verb._option_string_actions) for name, verb in action.choices.items()}


def demand_parses(words):
    """A whole command: its words are understood, its recipe and settings exist."""
    try:
        asked = parser().parse_args(words)
    except SystemExit as stop:
        if stop.code:
            raise AssertionError(f"graticule {' '.join(words)} is not understood") from None
        return
    pairs = dict(item.split("=", 1) for item in getattr(asked, "set", []))
    if asked.verb == "train":
        assert asked.recipe in {**RECIPES, **JEPA_RECIPES}, f"there is no recipe {asked.recipe}"
        parse_settings(pairs, DEFAULTS.get(asked.recipe))
    if asked.verb == "prepare":
        demand_reader_options(pairs, [source.split("=", 1)[0] for source in asked.sources])


def demand_reader_options(pairs, names):
    options = {"places"} | {o for reader in READERS.values() for o in inspect.signature(reader).parameters}
    for key in pairs:
        name, _, option = key.partition(".")
        assert name in names, f"--set {key}: no modality {name}"
        assert option in options, f"--set {key}: no reader has the option {option}"


def demand_exists(words):
    """A mention: the verb and all its options exist."""
    verb, *rest = words
    known = {"graticule", *verbs()} | set(parser()._option_string_actions)
    assert verb in known, f"graticule {verb}: there is no such verb"
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in verbs()[verb], f"graticule {verb} has no option {word}"


def run_python(text):
    """Run the Python blocks one after another in one namespace; yields (shown, printed) where output is shown."""
    namespace, printed = {"__name__": "readme"}, ""
    for marker, language, body in fences(text):
        if language == "python":
            stream = io.StringIO()
            with contextlib.redirect_stdout(stream):
                exec(compile(body, "README.md", "exec"), namespace)
            printed = stream.getvalue()
        elif marker == "output":
            yield body, printed


def demand_same(shown, printed):
    """Equal but for spaces at the ends, and numbers that differ by at most 0.01."""
    there, here = shown.rstrip(), printed.rstrip()
    assert NUMBER.sub("#", there) == NUMBER.sub("#", here), f"the README shows\n{there}\nbut it prints\n{here}"
    for a, b in zip(NUMBER.findall(there), NUMBER.findall(here), strict=True):
        assert float(a) == pytest.approx(float(b), abs=0.0101), f"the README shows {a} where {b} is printed"


@pytest.fixture(scope="module")
def readme():
    if not README.exists():
        pytest.skip("README.md is not there")
    return README.read_text(encoding="utf-8")


def test_python_prints_what_is_shown(readme, tmp_path, monkeypatch):
    if not (INSIDE / "run.json").exists():
        pytest.skip("graticule/model/run.json, the model inside, is not there")
    monkeypatch.chdir(tmp_path)
    compared = 0
    for shown, printed in run_python(readme):
        demand_same(shown, printed)
        compared += 1
    assert compared == sum(marker == "output" for marker, *_ in fences(readme)) > 0


def test_commands_are_understood(readme):
    found = commands(readme)
    assert {words[0] for words in found} >= {"prepare", "train", "embed", "nearest", "quickstart"}
    for words in found:
        demand_parses(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mentioned_verbs_and_options_exist(page):
    text = page.read_text(encoding="utf-8")
    for words in [*commands(text), *mentions(text)]:
        demand_exists(words)


FAULTY = {
    "a verb": "graticule embde a.csv -o b.parquet",
    "an option": "graticule embed a.csv --output b.parquet",
    "a missing argument": "graticule train melt data",
    "a recipe": "graticule train mel data --to run",
    "a setting": "graticule train melt data --to run --set step=5",
    "a value": "graticule train melt data --to run --set steps=many",
    "a reader's option": "graticule prepare image=a --to b --set image.corp=64",
    "a modality": "graticule prepare image=a --to b --set text.crop=64",
}


@pytest.mark.parametrize("line", FAULTY.values(), ids=FAULTY)
def test_a_faulty_command_is_noticed(line):
    for text in (f"```console\n$ {line}\n```\n", f"```\npip install x && {line}  # why\n```\n"):
        (words,) = commands(text)
        with pytest.raises((AssertionError, GraticuleError)):
            demand_parses(words)


@pytest.mark.parametrize("line", ["graticule embde", "graticule embed --output x", "graticule map -k 5"])
def test_a_faulty_mention_is_noticed(line):
    (words,) = mentions(f"Call `{line}` now.")
    with pytest.raises(AssertionError):
        demand_exists(words)


def test_blocks_are_read_and_compared():
    text = (
        "```python\na = 0.123\nprint('a', a)\n```\nthen\n\n```python\nprint(f'{a + 1:.2f} b')\n```\n\n"
        "<!-- output -->\n```text\n1.13 b\n```\n```console\ngraticule map \\\n  -o x.html\n```\n"
    )
    ((shown, printed),) = run_python(text)
    demand_same(shown, printed)
    assert commands(text) == [["map", "-o", "x.html"]]
    for wrong in ("1.15 b\n", "1.12 c\n", "1.12 b\n1.12 b\n", ""):
        with pytest.raises(AssertionError):
            demand_same(wrong, printed)
