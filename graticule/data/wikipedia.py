"""Wikipedia: the official article dumps as texts with coordinates, in any language."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from graticule.data.columns import wrapped
from graticule.data.compressed import opened
from graticule.data.source import Row, Skip, Source
from graticule.data.wikisql import GeoTags
from graticule.data.wikisql import geo_tags as read_geo_tags
from graticule.data.wikitext import NO_TITLE, lead_text, subject_coordinates
from graticule.errors import DataError

CHUNK = 1 << 18
_REDIRECT = re.compile(r"\s*#\s*\w+\s*:?\s*\[\[")


@dataclass(frozen=True)
class Page:
    """One page of a dump; `namespaces` are the lower-case names of the wiki's namespaces but the main one."""

    id: int
    title: str
    is_article: bool
    is_redirect: bool
    wikitext: str
    namespaces: frozenset[str]


def wikipedia(
    path: str | Path,
    *,
    geo_tags: str | Path | None = None,
    page: str | Path | None = None,
    licence: str = "CC BY-SA 4.0, Wikipedia contributors",
    max_characters: int = 2000,
    max_dim_km: float | None = None,
) -> Source:
    """The leads of the articles of a pages-articles dump (.xml, .bz2 also multistream, .gz) that have a place.

    Content: the title, ". ", the plain text of the lead, cut between words at `max_characters`.
    Coordinates are those of the article's subject, on Earth: read from {{Coord}} / {{Coordinate}} in the XML,
    or, with `geo_tags` (geo_tags.sql(.gz)) and optionally `page` (page.sql(.gz)), joined by page id; then
    `max_dim_km` leaves out things larger than that. Redirects, other namespaces, pages without a place or
    lead are skipped, each counted. Raises DataError for a truncated or damaged file, with the pages read.
    """
    if geo_tags is None and (page is not None or max_dim_km is not None):
        raise DataError("page= and max_dim_km= belong to geo_tags=: give the geo_tags.sql(.gz) of the same dump.")
    paths = [Path(p) for p in (path, geo_tags, page) if p is not None]
    for each in paths:
        if not each.is_file():
            raise DataError(f"{each} does not exist.")
    dump = paths[0]

    @cache
    def tags() -> GeoTags | None:
        return None if geo_tags is None else read_geo_tags(Path(geo_tags), Path(page) if page else None, max_dim_km)

    def records(start: int) -> Iterator[Row | Skip]:
        return (_record(dump, one, tags(), max_characters) for one in islice(pages(dump), start, None))

    about = {
        "reader": "wikipedia",
        "files": [p.name for p in paths],
        "coordinates": "wikitext" if geo_tags is None else "geo_tags",
        "max_characters": max_characters,
        "max_dim_km": max_dim_km,
    }
    return Source("text", records, about, tuple(paths), licence)


def _record(dump: Path, page: Page, tags: GeoTags | None, max_characters: int) -> Row | Skip:
    at = f"{dump}:{page.title}"
    if not page.is_article:
        return Skip("not an article", at)
    if page.is_redirect:
        return Skip("redirect", at)
    if tags is None:
        found = subject_coordinates(page.wikitext)
    else:
        found = tags.get(page.id) or tags.dropped.get(page.id, NO_TITLE)
    if isinstance(found, str):
        return Skip(found, at)
    lead = lead_text(page.wikitext, page.namespaces)
    if not lead:
        return Skip("empty text", at)
    return Row(str(page.id), wrapped(found[0]), found[1], _cut(f"{page.title}. {lead}", max_characters))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length + 1].rpartition(" ")[0] or text[:length]


def pages(path: Path) -> Iterator[Page]:
    """All pages of a MediaWiki XML export, streamed; UTF-8 or UTF-16 whatever its declaration says.

    Raises DataError with the number of pages read when the file is truncated, damaged or no such export.
    """
    count = 0
    namespaces = {"file", "image", "category", "media"}
    root: Element | None = None
    with opened(path, lambda: f"after {count:,} pages") as file:
        parser: XMLPullParser[Any] = XMLPullParser(("start", "end"))
        try:
            for chunk in _characters(file):
                parser.feed(chunk)
                for event, element in cast(Iterator[tuple[str, Element]], parser.read_events()):
                    name = _local(element)
                    if event == "start":
                        root = element if root is None else root
                        continue
                    if name == "namespace" and element.get("key") != "0" and element.text:
                        namespaces.add(element.text.lower())
                    elif name == "page":
                        count += 1
                        yield _page(element, frozenset(namespaces), path)
                        if root is not None:
                            root.clear()
            parser.close()
        except (ParseError, UnicodeError) as error:
            raise DataError(f"{path} is truncated or no MediaWiki XML, after {count:,} pages: {error}.") from error
    if root is None or _local(root) != "mediawiki":
        raise DataError(f"{path} is no MediaWiki export: its XML does not start with <mediawiki>.")


def _characters(file: BinaryIO) -> Iterator[str]:
    """The file as text. Handed over as str, the parser heeds no (possibly wrong) encoding declaration."""
    head = file.read(4)
    wide = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    bare = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}.get(head[:2], "utf-8-sig")
    decoder = codecs.getincrementaldecoder("utf-16" if wide else bare)()
    yield decoder.decode(head)
    for chunk in iter(lambda: file.read(CHUNK), b""):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _page(element: Element, namespaces: frozenset[str], path: Path) -> Page:
    parts = {_local(child): child for child in element}
    title, identity = _text(parts, "title"), _text(parts, "id")
    if not identity.isdigit():
        raise DataError(f"{path}: page {title!r} has no id. Is it a MediaWiki export?")
    inner = {_local(child): child for child in parts["revision"]} if "revision" in parts else {}
    wikitext = _text(inner, "text")
    if "ns" in parts:
        is_article = _text(parts, "ns") == "0"
    else:  # exports before version 0.6
        prefix, colon, _ = title.partition(":")
        is_article = not (colon and prefix.lower() in namespaces)
    is_redirect = "redirect" in parts or _REDIRECT.match(wikitext) is not None
    return Page(int(identity), title, is_article, is_redirect, wikitext, namespaces)


def _text(parts: dict[str, Element], name: str) -> str:
    return (parts[name].text or "") if name in parts else ""
