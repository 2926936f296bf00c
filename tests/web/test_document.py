"""The document as a page and as Markdown: everything is escaped, marked and sorted right, and the same again."""

import re
from html import escape, unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graticule.errors import DataError, SettingError
from graticule.web.document import Chapter, Document, Figure, Grid, Section, Shown, Table, Text, paragraphs, plain
from graticule.web.document_markdown import escaped, write_markdown
from graticule.web.document_markdown import inline as markdown_inline
from graticule.web.document_page import inline, write_html

NASTY = "<script>alert(1)</script> & \"quotes\" 'too' | bar *star* _under_ a_b `tick` [x](y) $m$"


def drawn():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from graticule.web.figures import sentence

    return sentence("Nothing to see.")


def document(*blocks, title="A title"):
    return Document(title, "About it.", [Chapter("One", blocks)])


def page(tmp_path, *blocks, **changes):
    return write_html(document(*blocks, **changes), tmp_path / "page.html").read_text("utf-8")


def markdown(tmp_path, *blocks, **changes):
    return write_markdown(document(*blocks, **changes), tmp_path / "README.md").read_text("utf-8")


def cells(text):
    """The rows of all tables as the page has them: (text, attributes) of each cell."""

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.rows, self.inside = [], False

        def handle_starttag(self, tag, attributes):
            if tag == "tr":
                self.rows.append([])
            if tag in ("td", "th"):
                self.rows[-1].append(["", dict(attributes)])
                self.inside = True

        def handle_endtag(self, tag):
            self.inside = self.inside and tag not in ("td", "th")

        def handle_data(self, data):
            if self.inside:
                self.rows[-1][-1][0] += data

    reader = Reader()
    reader.feed(text)
    return reader.rows


TABLE = Table(
    ["Name", "R2", "Error, km", "Rows", "Kind"],
    [
        ["a", 0.70049, Shown(12.0, "12 ± 3"), 1200, "x"],
        ["b", 0.70041, Shown(-3.5, "−3.5 ± 1"), 7, "y"],
        ["c", float("nan"), None, 12, None],
        ["d", -0.25, Shown(40.0, "40"), 0, "z"],
    ],
    caption="Scores of **all**",
    formats={"R2": ".3f"},
    best={"R2": "highest", "Error, km": "lowest"},
)


def test_cells_of_the_page_hold_text_number_and_what_is_missing(tmp_path):
    rows = cells(page(tmp_path, TABLE))
    assert [[text for text, _ in row] for row in rows[1:]] == [
        ["a", "0.700", "12 ± 3", "1,200", "x"],
        ["b", "0.700", "−3.5 ± 1", "7", "y"],
        ["c", "–", "–", "12", "–"],
        ["d", "−0.250", "40", "0", "z"],
    ]
    assert [row[1][1].get("data-value") for row in rows[1:]] == ["0.70049", "0.70041", None, "-0.25"]
    assert [row[2][1].get("data-value") for row in rows[1:]] == ["12.0", "-3.5", None, "40.0"]
    assert ["data-missing" in row[1][1] for row in rows[1:]] == [False, False, True, False]
    assert [attributes.get("class") for _, attributes in rows[0]] == [None, "number", "number", "number", None]
    assert [attributes["data-first"] for _, attributes in rows[0]] == [
        "ascending", "descending", "ascending", "descending", "ascending",
    ]  # fmt: skip
    assert all(row[0][1] == {"scope": "row"} for row in rows[1:])


def test_best_cells_are_bold_and_so_are_those_that_read_the_same(tmp_path):
    assert re.findall("<b>(.*?)</b>", page(tmp_path, TABLE)) == ["0.700", "0.700", "−3.5 ± 1"]
    assert re.findall(r"\*\*(.*?)\*\*", markdown(tmp_path, TABLE)) == ["all", "0.700", "0.700", "−3.5 ± 1"]


def test_markdown_tables_align_numbers_to_the_right(tmp_path):
    text = markdown(tmp_path, TABLE)
    assert "| --- | ---: | ---: | ---: | --- |" in text
    assert "| d | −0.250 | 40 | 0 | z |" in text


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (-0.0001, ".3f", "0.000"),
        (0.0, ".2f", "0.00"),
        (-1.5, ".1f", "−1.5"),
        (0.314, ".0%", "31%"),
        (1234567, ".3f", "1,234,567"),
        (np.int64(-1000), ".3f", "−1,000"),
        (np.float32(0.5), ".3f", "0.500"),
        (float("-inf"), ".2f", "−inf"),
        (None, ".3f", "–"),
        (np.float64("nan"), ".3f", "–"),
    ],
)
def test_numbers_are_written_as_they_are_read(value, spec, text):
    assert Table(["x"], [[value]], number_format=spec).text(value, 0) == text


def test_a_table_refuses_what_does_not_fit():
    with pytest.raises(DataError, match="2 columns has 1 cells in row 1"):
        Table(["a", "b"], [["x", 1.0], ["y"]])
    with pytest.raises(SettingError, match=r"Unknown column 'scoer'\. Did you mean 'score'"):
        Table(["name", "score"], [], formats={"scoer": ".2f"})
    with pytest.raises(SettingError, match="'max'"):
        Table(["name", "score"], [], best={"score": "max"})


def test_tables_without_rows_are_written(tmp_path):
    empty = Table(["a", "b"], [], best={"a": "highest"})
    assert len(cells(page(tmp_path, empty))) == 1
    assert "| a | b |\n| --- | --- |" in markdown(tmp_path, empty)


def test_long_tables_can_be_folded(tmp_path):
    folded = Table(["a"], [["x"]], caption="All `rows` & more", collapsed=True)
    summary = "<summary>All <code>rows</code> &amp; more</summary>"
    assert f'<details class="table">{summary}' in page(tmp_path, folded)
    assert f"<details>{summary}\n\n| a |\n| --- |\n| x |\n\n</details>" in markdown(tmp_path, folded)


def test_names_come_through_the_page_unchanged_and_harmless(tmp_path):
    text = page(tmp_path, Section(NASTY), Table([NASTY], [[NASTY]], caption="Plain"), title=NASTY)
    assert text.count("<script>") == 1  # ours
    assert [[cell for cell, _ in row] for row in cells(text)] == [[NASTY], [NASTY]]
    assert unescape(re.search("<h1>(.*?)</h1>", text)[1]) == NASTY
    assert unescape(re.search('<h3 id=".*?">(.*?)</h3>', text)[1]) == NASTY


def test_names_come_through_markdown_tables_in_one_cell(tmp_path):
    text = markdown(tmp_path, Table([NASTY, "b"], [[NASTY, "line\nbreak"]]))
    (row,) = [line for line in text.splitlines() if "break" in line]
    parts = re.split(r"(?<!\\)\|", row)
    assert [part.strip() for part in parts[2:]] == ["line break", ""]
    assert "<script>" not in text.replace(r"\<script", "")
    assert re.sub(r"\\([\W_])", r"\1", parts[1]).replace("&amp;", "&").strip() == NASTY


def test_words_inside_names_keep_their_underscores(tmp_path):
    assert "| human_development_pct |" in markdown(tmp_path, Table(["human_development_pct"], []))


@pytest.mark.parametrize(
    ("words", "html", "text"),
    [
        ("a **b c** d", "a <strong>b c</strong> d", "a **b c** d"),
        ("`x < y_z`!", "<code>x &lt; y_z</code>!", "`x < y_z`!"),
        ("[a & b](https://e.org/?q=1&r=2)", '<a href="https://e.org/?q=1&amp;r=2">a &amp; b</a>',
         "[a &amp; b](https://e.org/?q=1&r=2)"),
        ("[here](#one)", '<a href="#one">here</a>', "[here](#one)"),
        ("[log](docs/LOG.md#x)", '<a href="docs/LOG.md#x">log</a>', "[log](docs/LOG.md#x)"),
        ("[x](javascript:alert)", "[x](javascript:alert)", r"\[x\](javascript:alert)"),
        ("2 ** 3 ** 4", "2 ** 3 ** 4", r"2 \*\* 3 \*\* 4"),
        ("# no heading", "# no heading", r"\# no heading"),
        ("1. no list", "1. no list", r"1\. no list"),
        ("0.7 is -0.2", "0.7 is -0.2", "0.7 is -0.2"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_marks_of_paragraphs(words, html, text):
    assert inline(words) == html
    assert markdown_inline(words) == text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
@example("1) _a_ ~~b~~ <b> &amp; \\* |")
@example("__0__")
@example("a__b_")
@example("-")
@example("===")
def test_plain_text_survives_a_reader_of_markdown(words):
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    reader = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    words = " ".join(words.split())
    if words:
        assert (
            reader.render(escaped(words)).strip() == f"<p>{escape(words, quote=False).replace(chr(34), '&quot;')}</p>"
        )
        table = reader.render(f"| {escaped(words)} | b |\n| --- | --- |")
        assert unescape(re.findall("<th>(.*?)</th>", table)[0]) == words


def test_paragraphs_are_split_at_blank_lines_and_read_without_marks():
    assert paragraphs("\n one\ntwo \n\n \n three\n") == ["one two", "three"]
    assert paragraphs("  ") == []
    assert plain("a **b** `c` [d](#e)") == "a b c d"


def test_contents_lead_to_chapters_with_anchors_as_github_makes_them(tmp_path):
    chapters = [Chapter("What's new, R²?", [Section("Part")]), Chapter("Part", []), Chapter("Title", [])]
    found = Document("Title", "", chapters)
    assert found.anchors() == [["whats-new-r", "part"], ["part-1"], ["title-1"]]
    text = write_html(found, tmp_path / "page.html").read_text("utf-8")
    links = re.findall('<li><a href="#(.*?)">', text)
    assert links == [own[0] for own in found.anchors()]
    assert set(links) <= set(re.findall('id="(.*?)"', text))
    assert "- [Part](#part-1)" in write_markdown(found, tmp_path / "README.md").read_text("utf-8")


def test_the_same_document_gives_the_same_bytes_and_asks_for_nothing(tmp_path):
    figure = Figure("one", drawn, "A `caption`", 'Words "about" it')
    grid = Grid([Figure(name, drawn, "A | b", "Small") for name in ("two", "three", "four", "five")])
    whole = document(TABLE, figure, grid, Text("Words."))
    pages = [write_html(whole, tmp_path / name / "page.html").read_bytes() for name in "ab"]
    texts = [write_markdown(whole, tmp_path / name / "README.md").read_bytes() for name in "ab"]
    pictures = [(tmp_path / name / "figures" / "one.png").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]
    assert texts[0] == texts[1]
    assert pictures[0] == pictures[1]
    assert {path.name for path in (tmp_path / "a" / "figures").iterdir()} == {
        f"{name}.png" for name in ("one", "two", "three", "four", "five")
    }
    text = pages[0].decode()
    assert re.findall('(?:src|href)="(?!data:|#)', text) == []
    assert text.count('src="data:image/svg+xml,') == 5
    assert 'alt="Words &quot;about&quot; it"' in text
    lines = texts[0].decode().splitlines()
    assert '![Words "about" it](figures/one.png)' in lines
    rows = [line for line in lines if "two.png" in line or "five.png" in line]
    assert [len(re.split(r"(?<!\\)\|", row)) for row in rows] == [5, 5]  # three columns, the last row filled up


def test_figures_need_names_of_their_own_that_can_be_files():
    with pytest.raises(SettingError, match="'a' is used more than once"):
        document(Figure("a", drawn, "", ""), Grid([Figure("a", drawn, "", "")]))
    with pytest.raises(SettingError, match=r"got '\.\./a'"):
        Figure("../a", drawn, "", "")
