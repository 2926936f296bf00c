"""A document as one HTML page that works offline, by double-click: figures, style and script are inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from graticule.web import figures
from graticule.web.document import (
    Block,
    Cell,
    Document,
    Figure,
    Section,
    Table,
    Text,
    paragraphs,
    pieces,
    plain,
    value_of,
)

PIXELS_PER_POINT = 4 / 3
TAGS = {"code": "code", "bold": "strong"}


def write_html(document: Document, path: str | Path) -> Path:
    """Write a document as one page: contents, sortable tables, figures on white in both colour schemes.

    The page asks the network for nothing. The same document gives the same bytes.
    """
    folder = resources.files("graticule.web")
    parts = {name: (folder / name).read_text("utf-8") for name in ("document.css", "document.js")}
    parts["title"] = escape(document.title)
    parts["about"] = "".join(f'<p class="about">{inline(part)}</p>' for part in paragraphs(document.about))
    anchors = document.anchors()
    parts["contents"] = "".join(
        f'<li><a href="#{escape(own[0])}">{escape(chapter.title)}</a></li>'
        for chapter, own in zip(document.chapters, anchors, strict=True)
    )
    parts["chapters"] = "\n".join(
        f'<section class="chapter" id="{escape(own[0])}">\n<h2>{escape(chapter.title)}</h2>\n'
        + "\n".join(_blocks(chapter.blocks, iter(own[1:])))
        + "\n</section>"
        for chapter, own in zip(document.chapters, anchors, strict=True)
    )
    template = (folder / "document.html").read_text("utf-8")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(re.sub(r"\{\{([\w.]+)\}\}", lambda match: parts[match[1]], template), encoding="utf-8")
    return path


def inline(words: str) -> str:
    """One paragraph with its marks as HTML."""
    found = []
    for kind, text, address in pieces(words):
        if kind == "link":
            found.append(f'<a href="{escape(address)}">{escape(text)}</a>')
        else:
            tag = TAGS.get(kind)
            found.append(f"<{tag}>{escape(text)}</{tag}>" if tag else escape(text))
    return "".join(found)


def _blocks(blocks: Sequence[Block], anchors: Iterator[str]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Text):
            yield "\n".join(f"<p>{inline(part)}</p>" for part in paragraphs(block.words))
        elif isinstance(block, Section):
            yield f'<h3 id="{escape(next(anchors))}">{escape(block.title)}</h3>'
        elif isinstance(block, Table):
            yield _table(block)
        elif isinstance(block, Figure):
            yield _figure(block)
        else:
            yield '<div class="grid">\n' + "\n".join(map(_figure, block.figures)) + "\n</div>"


def _table(table: Table) -> str:
    number = [' class="number"' if table.is_number(column) else "" for column in range(len(table.header))]
    heads = "".join(_head(table.best.get(name), name, kind) for name, kind in zip(table.header, number, strict=True))
    best = table.best_texts()
    rows = ["".join(_cell(table, cell, c, number[c], best[c]) for c, cell in enumerate(row)) for row in table.rows]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    box = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(plain(table.caption) or "Table")}">'
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )
    caption = inline(table.caption)
    if table.collapsed:
        return f'<details class="table"><summary>{caption or "Table"}</summary>{box}</details>'
    return f'<figure class="table">{f"<figcaption>{caption}</figcaption>" if caption else ""}{box}</figure>'


def _head(best: str | None, name: str, number: str) -> str:
    first = "descending" if number and best != "lowest" else "ascending"
    return f'<th scope="col"{number} data-first="{first}"><span>{_breakable(name)}</span></th>'


def _breakable(name: str) -> str:
    """A name that may go on in the next line after an underscore."""
    return escape(name).replace("_", "_<wbr>")


def _cell(table: Table, cell: Cell, column: int, number: str, best: str | None) -> str:
    text, value = table.text(cell, column), value_of(cell)
    shown = _breakable(text) if column == 0 else escape(text)
    if value is not None and text == best:
        shown = f"<b>{shown}</b>"
    tag = "td" if column else 'th scope="row"'
    sorted_as = f' data-value="{value!r}"' if value is not None else "" if isinstance(cell, str) else " data-missing"
    return f"<{tag}{number}{sorted_as}>{shown}</{tag[:2]}>"


def _figure(figure: Figure) -> str:
    source, width, height = _pixels(figure) if figure.pixels else _vectors(figure)
    return (
        f'<figure id="figure-{figure.name}"><div class="scroll card" tabindex="0" role="region" '
        f'aria-label="{escape(plain(figure.caption) or figure.name)}">'
        f'<img src="{source}" width="{width}" height="{height}" style="--natural:{width}px" '
        f'alt="{escape(figure.alt)}"></div><figcaption>{inline(figure.caption)}</figcaption></figure>'
    )


def _vectors(figure: Figure) -> tuple[str, int, int]:
    """The address of the picture as SVG, its width and height in pixels of the page."""
    picture = figures.svg(figure.draw())
    picture = picture[picture.index("<svg") :]
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture)
    width, height = (round(float(side) * PIXELS_PER_POINT) for side in size.groups()) if size else (442, 300)
    return "data:image/svg+xml," + quote(picture, safe=" /:;,=+?()[]{}!*@|$"), width, height


def _pixels(figure: Figure) -> tuple[str, int, int]:
    """The same as WebP."""
    drawing = figure.draw()
    width, height = (round(72 * float(side) * PIXELS_PER_POINT) for side in drawing.get_size_inches())
    return "data:image/webp;base64," + base64.b64encode(figures.webp(drawing)).decode("ascii"), width, height
