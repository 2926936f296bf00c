"""A document as GitHub Markdown, with its figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from graticule.web import figures
from graticule.web.document import Block, Cell, Document, Figure, Section, Table, Text, paragraphs, pieces, value_of
from graticule.web.document_page import inline as html_inline

FOLDER = "figures"
GRID_COLUMNS = 3
SPECIAL = re.compile(r"[\\`*\[\]<>~$|]|(?<![^\W_])_|_(?![^\W_])")  # GitHub's marks; _ between letters or digits is none
LINE_START = re.compile(r"^(\s*)(\d*)([-+#=.)])(?=[-=#\s]|$)")  # a list, a heading


def write_markdown(document: Document, path: str | Path) -> Path:
    """Write a document as GitHub Markdown and its figures as PNG files into the folder `figures` beside it.

    The same document gives the same bytes. Files of earlier figures are left where they are.
    """
    path = Path(path)
    (path.parent / FOLDER).mkdir(parents=True, exist_ok=True)
    for figure in document.figures():
        (path.parent / FOLDER / f"{figure.name}.png").write_bytes(figures.png(figure.draw()))
    parts = [f"# {escaped(document.title)}", *map(inline, paragraphs(document.about))]
    contents = zip(document.chapters, document.anchors(), strict=True)
    parts.append("\n".join(f"- [{escaped(chapter.title)}](#{anchors[0]})" for chapter, anchors in contents))
    for chapter in document.chapters:
        parts += [f"## {escaped(chapter.title)}", *_blocks(chapter.blocks)]
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def escaped(text: str) -> str:
    """Plain text that GitHub shows as it is, on one line."""
    return LINE_START.sub(r"\1\2\\\3", _marked(" ".join(text.split())))


def inline(words: str) -> str:
    """One paragraph with its marks as Markdown."""
    found = []
    for kind, text, address in pieces(words):
        if kind == "code":
            found.append(f"`{text}`")
        elif kind == "bold":
            found.append(f"**{_marked(text)}**")
        elif kind == "link":
            found.append(f"[{_marked(text)}]({address})")
        else:
            found.append(_marked(text))
    return LINE_START.sub(r"\1\2\\\3", "".join(found))


def _marked(text: str) -> str:
    """A backslash before whatever GitHub would read as a mark."""
    return SPECIAL.sub(lambda match: "\\" + match[0], text.replace("&", "&amp;"))


def _blocks(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Text):
            yield from map(inline, paragraphs(block.words))
        elif isinstance(block, Section):
            yield f"### {escaped(block.title)}"
        elif isinstance(block, Table):
            yield from _table(block)
        elif isinstance(block, Figure):
            yield from (_image(block), inline(block.caption))
        else:
            yield _grid(block.figures)


def _table(table: Table) -> Iterator[str]:
    best = table.best_texts()
    lines = [list(map(escaped, table.header)), ["---:" if table.is_number(c) else "---" for c in range(len(best))]]
    lines += [[_cell(table, cell, c, best[c]) for c, cell in enumerate(row)] for row in table.rows]
    if table.collapsed:
        yield f"<details><summary>{html_inline(table.caption) or 'Table'}</summary>"
    else:
        yield inline(table.caption)
    yield _lines(lines)
    yield "</details>" if table.collapsed else ""


def _cell(table: Table, cell: Cell, column: int, best: str | None) -> str:
    text = table.text(cell, column)
    return f"**{escaped(text)}**" if value_of(cell) is not None and text == best else escaped(text)


def _image(figure: Figure) -> str:
    return f"![{escaped(figure.alt)}]({FOLDER}/{figure.name}.png)"


def _grid(shown: Sequence[Figure]) -> str:
    """A table of pictures with their captions below them."""
    columns = max(1, min(GRID_COLUMNS, len(shown)))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    lines = [[" "] * columns, ["---"] * columns]
    for row in rows:
        cells = [f"{_image(figure)}<br>{_in_cell(inline(figure.caption))}" for figure in row]
        lines.append(cells + [" "] * (columns - len(cells)))
    return _lines(lines)


def _in_cell(markdown: str) -> str:
    """With a backslash before the bars inside code, too."""
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(markdown.split()))


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
