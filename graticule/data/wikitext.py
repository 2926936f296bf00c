"""Wikitext: the coordinate of an article's subject, and the plain text of its lead."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import mwparserfromhell
from mwparserfromhell.nodes import Node, Tag, Wikilink

HEMISPHERE = {"N": 1, "S": -1, "E": 1, "W": -1}
NO_TITLE, NO_EARTH, UNREADABLE = "no coordinates of the subject", "not on Earth", "unreadable coordinates"
ZERO, RANGE = "coordinates 0, 0", "coordinates out of range"

_HIDDEN = re.compile(
    r"<!--.*?(?:-->|$)|<ref\b[^>]*/>|<(nowiki|ref|math|gallery|timeline|score|pre)\b[^>]*(?<!/)>.*?</\1\s*>",
    re.I | re.S,
)
_OPEN = re.compile(r"\{\{\s*(coord|coordinate|infobox[^|{}]*|geobox[^|{}]*)\s*\|", re.I)
_BRACES = re.compile(r"\{\{|\}\}|\[\[|\]\]|\|")
_GLOBE = re.compile(r"globe\s*[:=]\s*(\w+)", re.I)
_HEADING = re.compile(r"^==", re.M)
_MEDIA = re.compile(r"\.(jpe?g|png|svg|gif|tiff?|webp|ogg|ogv|oga|webm|pdf|djvu|wav|mid)\s*$", re.I)
_REMOVED_TAGS = {"table", "ref", "references", "gallery", "math", "timeline", "score", "imagemap", "style"}


@dataclass(frozen=True)
class Template:
    """One `{{name|...}}` of wikitext: its positional and named arguments, stripped."""

    name: str
    positional: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)


def templates(wikitext: str) -> Iterator[Template]:
    """The coordinate and infobox templates of a page, in order, also those nested in others."""
    for start in _OPEN.finditer(wikitext):
        depth, links, parts, begin = 1, 0, [], start.end()
        for mark in _BRACES.finditer(wikitext, begin):
            token = mark[0]
            depth += (token == "{{") - (token == "}}")
            links += (token == "[[") - (token == "]]")
            if depth == 0 or (token == "|" and depth == 1 and links <= 0):
                parts.append(wikitext[begin : mark.start()])
                begin = mark.end()
            if depth == 0:
                yield _template(start[1].strip().lower(), parts)
                break


def _template(name: str, parts: list[str]) -> Template:
    positional, named = [], {}
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and "{{" not in key:
            named[key.strip().lower()] = value.strip()
        else:
            positional.append(part.strip())
    return Template(name, positional, named)


def subject_coordinates(wikitext: str) -> tuple[float, float] | str:
    """(lon, lat) in degrees of what the article is about, or why it has none.

    The first of: {{Coord}} with display=title (or inline,title, t, it); German {{Coordinate}} with article=,
    or without article= and text=; an infobox whose own coordinate goes into the title.
    Coordinates of things merely mentioned (a splashdown, a capital) do not count.
    """
    plain = _HIDDEN.sub("", wikitext)
    reason = NO_TITLE
    for template in templates(plain):
        if template.name == "coord":
            found = _coord(template)
        elif template.name == "coordinate":
            found = _coordinate(template)
        else:
            found = _infobox(template)
        if isinstance(found, tuple):
            return found
        reason = found or reason
    return reason


def _coord(template: Template) -> tuple[float, float] | str:
    """English {{Coord|d|m|s|N|d|m|s|E|...|display=title}}: degrees, minutes, seconds or decimals."""
    display = re.split(r"[\s,]+", template.named.get("display", "").lower())
    if not {"title", "t", "it", "ti"} & set(display):
        return ""
    others = [*template.positional, *(f"{key}={value}" for key, value in template.named.items())]
    if not _on_earth(others):
        return NO_EARTH
    words = [word.upper().replace("O", "W") if len(word) == 1 else word for word in template.positional]
    numbers: list[list[str]] = [[]]
    for word in words:
        if word in HEMISPHERE:
            numbers[-1].append(word)
            numbers.append([])
        elif _is_number(word):
            numbers[-1].append(word)
        elif word:
            break
    if len(numbers) == 1 and len(numbers[0]) == 2:
        lat, lon = numbers[0]
        return _pair([lon], [lat])
    if len(numbers) == 3:
        return _pair(numbers[1], numbers[0])
    return UNREADABLE


def _coordinate(template: Template) -> tuple[float, float] | str:
    """German {{Coordinate|NS=52/31/7/N|EW=13/24/30/E}}: article= puts it into the title, text= into the line."""
    named = template.named
    if not named.get("article") and named.get("text"):
        return ""
    if not _on_earth([f"{key}={value}" for key, value in named.items()]):
        return NO_EARTH
    return _slashed(named.get("ew", ""), named.get("ns", ""))


def _infobox(template: Template) -> tuple[float, float] | str:
    """German infoboxes with Breitengrad and Längengrad; English ones only when coordinates_display says title."""
    named = template.named
    if named.get("breitengrad") and named.get("längengrad"):
        return _slashed(named["längengrad"], named["breitengrad"])
    if "title" not in named.get("coordinates_display", "").lower():
        return ""
    for lat, lon in (("lat", "long"), ("lat_", "long_"), ("lat_", "lon_")):
        parts = [
            [named.get(axis + unit, "") for unit in ("d", "m", "s", hemisphere)]
            for axis, hemisphere in ((lon, "ew"), (lat, "ns"))
        ]
        if all(part[0] for part in parts):
            return _pair(*([word for word in part if word] for part in parts))
    return ""


def _on_earth(arguments: list[str]) -> bool:
    globes = (globe for argument in arguments for globe in _GLOBE.findall(argument))
    return all(globe.lower() in ("earth", "erde") for globe in globes)


def _slashed(lon: str, lat: str) -> tuple[float, float] | str:
    """Degrees as 52/31/7/N or 52.5186; German O is east."""
    east, north = ([word.strip() for word in text.split("/") if word.strip()] for text in (lon, lat))
    return _pair([word.upper().replace("O", "E") if len(word) == 1 else word for word in east], north)


def _pair(lon: list[str], lat: list[str]) -> tuple[float, float] | str:
    x, y = _degrees(lon, "EW"), _degrees(lat, "NS")
    if x is None or y is None:
        return UNREADABLE
    if x == 0 and y == 0:
        return ZERO
    return (x, y) if abs(x) <= 360 and abs(y) <= 90 else RANGE


def _degrees(words: list[str], hemispheres: str) -> float | None:
    """[degrees, minutes?, seconds?, hemisphere?] -> signed degrees; None when it is not that."""
    *numbers, last = [word.replace("−", "-") for word in words] or [""]
    sign = HEMISPHERE[last.upper()] if last and last.upper() in hemispheres else 0
    values = numbers if sign else [*numbers, last]
    if not 1 <= len(values) <= 3 or not all(map(_is_number, values)):
        return None
    degrees, minutes, seconds = [*map(_number, values), 0.0, 0.0][:3]
    if not (0 <= minutes < 60 and 0 <= seconds < 60) or (sign and degrees < 0):
        return None
    size = abs(degrees) + minutes / 60 + seconds / 3600
    return sign * size if sign else (-size if values[0].startswith("-") else size)


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[+\-−]?(\d+\.?\d*|\.\d+)", word) is not None


def _number(word: str) -> float:
    return float(word.replace("−", "-"))


def lead_text(wikitext: str, namespaces: frozenset[str] = frozenset()) -> str:
    """Plain text of the lead: templates, tables, references, files and categories removed, blanks collapsed.

    `namespaces` are the lower-case names of the wiki's namespaces: links into them are no text.
    """
    plain = _HIDDEN.sub("", wikitext)
    heading = _HEADING.search(plain)
    code = mwparserfromhell.parse(plain[: heading.start()] if heading else plain, skip_style_tags=True)
    for node in [node for node in code.nodes if _removed(node, namespaces)]:
        code.remove(node)
    text = code.strip_code(normalize=True, collapse=True)
    text = re.sub(r"\{\{.*|\[\[[^\[\]]*$|^\s*[{|!].*$|'{2,}|__[A-Z]+__|\}\}|\]\]", "", html.unescape(text), flags=re.M)
    text = re.sub(r"\(\s*[,;:\s]*\)", "", re.sub(r"([(])[\s,;:]+", r"\1", text))
    return re.sub(r"\s+([,.;:])", r"\1", re.sub(r"\s+", " ", text)).strip()


def _removed(node: Node, namespaces: frozenset[str]) -> bool:
    if isinstance(node, Tag):
        return str(node.tag).strip().lower() in _REMOVED_TAGS
    if not isinstance(node, Wikilink):
        return False
    title = str(node.title).strip()
    prefix, colon, _ = title.partition(":")
    return bool(_MEDIA.search(title)) or bool(colon and prefix.strip().lower() in namespaces)
