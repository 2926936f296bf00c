"""A small document: chapters of paragraphs, tables and figures, written as a page or as Markdown by its neighbours.

`write_html` and `write_markdown` write the same content; the same document gives the same bytes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Literal, NamedTuple

from graticule.errors import DataError, SettingError, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


class Shown(NamedTuple):
    """A number of a table with its own text, such as 0.71 as "0.71 ± 0.02": sorted and compared as the number."""

    value: float
    text: str


Cell = str | float | Shown | None
Best = Literal["highest", "lowest"]
Piece = tuple[Literal["text", "code", "bold", "link"], str, str]  # kind, text, address

MISSING = "–"
LINK = r"\[([^\]]+)\]\(((?:https?://|#|[\w./-]+(?=[)#]))[^\s()]*)\)"
MARKUP = re.compile(r"`([^`]+)`|\*\*(?=\S)(.+?)(?<=\S)\*\*|" + LINK, re.DOTALL)
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Text:
    """Paragraphs, a blank line between them; `code`, **bold** and [links](https://...) are the only marks."""

    words: str


@dataclass(frozen=True)
class Section:
    """A heading inside a chapter."""

    title: str


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of which names the row. None and NaN are shown as a dash.

    formats   column name -> format of its floats, e.g. {"B": ".2f"}; `number_format` is that of the other columns
    best      column name -> "highest" or "lowest": this value, and those that read the same, are set in bold
    collapsed  whether the page shows only the caption until it is clicked
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    number_format: str = ".3f"
    formats: Mapping[str, str] = field(default_factory=dict)
    best: Mapping[str, Best] = field(default_factory=dict)
    collapsed: bool = False

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise DataError(f"A table of {len(self.header)} columns has {len(row)} cells in row {number}: {row!r}.")
        for name in (*self.formats, *self.best):
            if name not in self.header:
                raise unknown("column", name, self.header)
        for way in self.best.values():
            if way not in ("highest", "lowest"):
                raise unknown("kind of best", way, ("highest", "lowest"))

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers and nothing else, missing ones apart."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and not any(isinstance(cell, str) for cell in cells)

    def text(self, cell: Cell, column: int) -> str:
        """A cell as it is read."""
        if isinstance(cell, str):
            return cell
        if isinstance(cell, Shown):
            return cell.text
        if value_of(cell) is None:
            return MISSING
        spec = ",d" if isinstance(cell, Integral) else self.formats.get(self.header[column], self.number_format)
        text = format(cell, spec)
        return text.replace("-", "−") if re.search("[1-9i]", text) else text.lstrip("-")

    def best_texts(self) -> list[str | None]:
        """For each column what its cells read that are set in bold."""
        return [self._best_text(column) for column in range(len(self.header))]

    def _best_text(self, column: int) -> str | None:
        way = self.best.get(self.header[column])
        cells = [(v, row[column]) for row in self.rows if (v := value_of(row[column])) is not None]
        if way is None or not cells:
            return None
        choose = max if way == "highest" else min
        return self.text(choose(cells, key=lambda cell: cell[0])[1], column)


@dataclass(frozen=True)
class Figure:
    """A picture: `draw` is called by each writer; `name` becomes that of its file; `alt` says it in words.

    With `pixels` the page holds it as pixels, which is smaller where a picture has thousands of shapes.
    """

    name: str
    draw: Callable[[], Drawing]
    caption: str
    alt: str
    pixels: bool = False

    def __post_init__(self) -> None:
        if not FILE_NAME.fullmatch(self.name):
            raise SettingError(
                f"The name of a figure becomes that of a file: small letters, digits, - and _, got {self.name!r}."
            )


@dataclass(frozen=True)
class Grid:
    """Small multiples: figures side by side as far as there is room."""

    figures: Sequence[Figure]


Block = Text | Section | Table | Figure | Grid


@dataclass(frozen=True)
class Chapter:
    """A heading in the table of contents and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A title, paragraphs about the whole (marks as in `Text`), and chapters."""

    title: str
    about: str
    chapters: Sequence[Chapter]

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(figure.name for figure in self.figures()).items() if count > 1]
        if repeated:
            raise SettingError(f"Each figure needs a name of its own, but {repeated[0]!r} is used more than once.")

    def figures(self) -> Iterator[Figure]:
        """All figures, in order."""
        for block in (block for chapter in self.chapters for block in chapter.blocks):
            if isinstance(block, Grid):
                yield from block.figures
            elif isinstance(block, Figure):
                yield block

    def anchors(self) -> list[list[str]]:
        """For each chapter its anchor and those of its sections, as GitHub makes them from the headings."""
        seen: Counter[str] = Counter([_slug(self.title)])
        found = []
        for chapter in self.chapters:
            sections = [block.title for block in chapter.blocks if isinstance(block, Section)]
            found.append([_unique(title, seen) for title in (chapter.title, *sections)])
        return found


def value_of(cell: Cell) -> float | None:
    """The number of a cell; None for text and for what is missing."""
    number = cell.value if isinstance(cell, Shown) else cell
    return None if isinstance(number, str) or number is None or math.isnan(number) else float(number)


def paragraphs(words: str) -> list[str]:
    """Split at blank lines; line ends inside a paragraph are spaces."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", words.strip()) if part.strip()]


def pieces(words: str) -> Iterator[Piece]:
    """Plain text and marks in turn. A link leads to http(s), to an #anchor or to a relative path; else it is text."""
    end = 0
    for match in MARKUP.finditer(words):
        yield "text", words[end : match.start()], ""
        code, bold, link, address = match.groups()
        yield ("code", code, "") if code else ("bold", bold, "") if bold else ("link", link, address)
        end = match.end()
    yield "text", words[end:], ""


def plain(words: str) -> str:
    """Text without its marks."""
    return "".join(text for _, text, _ in pieces(words))


def _slug(title: str) -> str:
    kept = [letter for letter in title.lower() if letter.isalpha() or letter.isdecimal() or letter in " -_"]
    return "".join(kept).replace(" ", "-")


def _unique(title: str, seen: Counter[str]) -> str:
    slug = _slug(title)
    seen[slug] += 1
    return slug if seen[slug] == 1 else f"{slug}-{seen[slug] - 1}"
