import bz2
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.data.source import Row, Skip
from graticule.data.wikipedia import pages, wikipedia
from graticule.data.wikisql import geo_tags, sql_rows, table_columns
from graticule.data.wikitext import NO_EARTH, NO_TITLE, RANGE, UNREADABLE, ZERO, lead_text, subject_coordinates
from graticule.errors import DataError

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11"><siteinfo><namespaces>'
    '<namespace key="0"/><namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace>'
    "</namespaces></siteinfo>"
)
COORD = "{{Coord|54|20|N|10|8|E|display=title}}"


def page(number, title, text, namespace=0, redirect=""):
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f"<page><title>{title}</title><ns>{namespace}</ns><id>{number}</id>{redirect}"
        f"<revision><id>{number + 9000}</id><text>{text}</text></revision></page>\n"
    )


KIEL = page(3, "Kiel", f"{COORD}'''Kiel''' is a [[port|harbour]].\n== History ==\nLater.")
DUMP = (
    HEAD
    + page(1, "Old", "#REDIRECT [[New]]", redirect='<redirect title="New"/>')
    + page(2, "Talk:Kiel", f"{COORD} Talk.", namespace=1)
    + KIEL
    + page(4, "Idea", "No place.")
    + page(5, "Empty", COORD)
    + page(6, "Crater", "{{coord|1|N|2|E|globe:moon|display=title}} Round.")
    + page(7, "Grün", "{{coord|−12.5|190|display=inline,title}} Ä&nbsp;ö.")
    + "</mediawiki>"
)


def outcomes(path, **options):
    return [r.reason if isinstance(r, Skip) else r.content for r in wikipedia(path, **options).records(0)]


EXPECTED = ["redirect", "not an article", "Kiel. Kiel is a harbour.", NO_TITLE, "empty text", NO_EARTH, "Grün. Ä ö."]


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("d.xml", DUMP.encode()),
        ("d.xml.gz", gzip.compress(DUMP.encode())),
        ("d.xml.bz2", b"".join(bz2.compress(DUMP.encode()[i : i + 400]) for i in range(0, len(DUMP.encode()), 400))),
        ("bom.xml", DUMP.encode("utf-8-sig")),
        ("wide.xml.bz2", bz2.compress(DUMP.encode("utf-16"))),
        ("bare.xml", DUMP.encode("utf-16-be")),
        ("lying.xml", ('<?xml version="1.0" encoding="UTF-8"?>' + DUMP).encode("utf-16")),
        ("lying8.xml", ('<?xml version="1.0" encoding="UTF-16"?>' + DUMP).encode()),
        ("version.xml", DUMP.replace("export-0.11", "export-0.3").encode()),
    ],
)
def test_every_wrapping_of_a_dump_reads_the_same_and_resumes(tmp_path, name, encoded):
    (tmp_path / name).write_bytes(encoded)
    source = wikipedia(tmp_path / name)
    assert outcomes(tmp_path / name) == EXPECTED
    kiel, green = source.rows()
    assert (kiel.id, kiel.lat, kiel.lon) == ("3", pytest.approx(54 + 20 / 60), pytest.approx(10 + 8 / 60))
    assert (green.lat, green.lon) == (-12.5, -170.0)
    for start in range(9):
        assert list(source.records(start)) == list(source.records(0))[start:]


def test_exports_without_namespace_and_redirect_elements(tmp_path):
    old = DUMP.replace("<ns>0</ns>", "").replace("<ns>1</ns>", "").replace('<redirect title="New"/>', "")
    (tmp_path / "d.xml").write_text(old.replace("Talk:Kiel", "Datei:Kiel"))
    assert outcomes(tmp_path / "d.xml") == EXPECTED


def test_text_is_cut_between_words(tmp_path):
    (tmp_path / "d.xml").write_text(DUMP)
    assert next(wikipedia(tmp_path / "d.xml", max_characters=13).rows()).content == "Kiel. Kiel is"
    assert next(wikipedia(tmp_path / "d.xml", max_characters=12).rows()).content == "Kiel. Kiel"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("d.xml", lambda b: b[: b.index(b"<title>Idea")]),
        ("d.xml.bz2", lambda b: bz2.compress(b[: b.index(b"<title>Idea")]) + bz2.compress(b)[:40]),
        ("d.xml.gz", lambda b: gzip.compress(b[: b.index(b"<title>Idea")])),
        ("bad.xml", lambda b: b.replace("Grün".encode(), b"Gr\xfcn")),
    ],
)
def test_damage_names_the_file_and_the_pages_read(tmp_path, name, damage):
    (tmp_path / name).write_bytes(damage(DUMP.encode()))
    with pytest.raises(DataError, match=rf"{name}.*truncated.*after \d pages"):
        list(wikipedia(tmp_path / name).records(0))


def test_what_is_no_dump(tmp_path):
    (tmp_path / "a.xml").write_text("<html><page/></html>".replace("<page/>", ""))
    with pytest.raises(DataError, match="no MediaWiki export"):
        list(wikipedia(tmp_path / "a.xml").records(0))
    with pytest.raises(DataError, match="does not exist"):
        wikipedia(tmp_path / "none.xml")
    with pytest.raises(DataError, match="belong to geo_tags"):
        wikipedia(tmp_path / "a.xml", max_dim_km=3)


def test_memory_does_not_grow_with_the_pages(tmp_path):
    import tracemalloc

    (tmp_path / "d.xml").write_text(HEAD + "".join(page(i, f"T{i}", "w " * 2000) for i in range(1, 2001)))
    reading = pages(tmp_path / "d.xml")
    next(reading)
    tracemalloc.start()
    for _ in range(1900):
        next(reading)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6  # the pages together are 8 MB of text


@pytest.mark.parametrize(
    ("wikitext", "expected"),
    [
        ("{{Coord|57|18|22|N|4|27|32|W|display=title}}", (-(4 + 27 / 60 + 32 / 3600), 57 + 18 / 60 + 22 / 3600)),
        ("{{coord|57|18|n|4|27|w|display=inline,title}}", (-4.45, 57.3)),
        ("{{coord |12|S|18.5|E|region:AO|display = title }}", (18.5, -12)),
        ("{{Coord|40.3|-47.7|dim:300000_region:AZ|display=it}}", (-47.7, 40.3)),
        ("{{Coord|−33.9|151.2|display=title,inline}}", (151.2, -33.9)),
        ("{{coord|48|51|N|2|21|O|display=title}}", (-2.35, 48.85)),
        ("{{Infobox x|coordinates={{coord|1|N|2|E|display=inline,title}}|a=[[b|c]]}}", (2, 1)),
        ("{{Coord|64|N|150|W|notes=<ref>{{Cite|a|display=x}}</ref>|display=title}}", (-150, 64)),
        ("{{Coord|9|N|9|E}} {{Coord|1|N|2|E|display=title}}", (2, 1)),
        ("<!-- {{Coord|9|N|9|E|display=title}} -->{{Coord|1|N|2|E|display=title}}", (2, 1)),
        ("{{Coordinate|NS=52/31/7/N|EW=13/24/30/E|type=city}}", (13 + 24 / 60 + 30 / 3600, 52 + 31 / 60 + 7 / 3600)),
        ("{{Coordinate|article=/DMS|text=/DMS|NS=52/31/N|EW=13/24/O}}", (13.4, 52 + 31 / 60)),
        ("{{Coordinate|article=DMS|NS=-12.5|EW=-70.25|pop={{a|b}}}}", (-70.25, -12.5)),
        ("{{Infobox Gemeinde\n|Breitengrad = 48/08/14/N\n|Längengrad = 11/34/31/E}}", (11.575278, 48.137222)),
        (
            "{{Infobox settlement|latd=1|latm=30|latNS=S|longd=2|longEW=W|coordinates_display=inline,title}}",
            (-2, -1.5),
        ),
        ("{{Coord|8|N|165|W|name=splashdown}}", NO_TITLE),
        ("{{Coord|8|N|165|W|display=inline}}", NO_TITLE),
        ("{{Coordinate|text=DMS|NS=52/30/N|EW=13/24/E}}", NO_TITLE),
        ("{{Infobox country|capital=Kabul|latd=34|latm=31|latNS=N|longd=69|longm=8|longEW=E}}", NO_TITLE),
        ("<nowiki>{{Coord|1|N|2|E|display=title}}</nowiki>", NO_TITLE),
        ("{{coord missing|Spain}} {{coord|1|N|2|E|display=title", NO_TITLE),
        ("{{Coord|1|N|2|E|globe:moon_type:landmark|display=title}}", NO_EARTH),
        ("{{Coord|1|N|2|E|globe=Mars|display=title}}", NO_EARTH),
        ("{{Coord|LAT|LONG|display=title}}", UNREADABLE),
        ("{{Coord|display=title}}", UNREADABLE),
        ("{{Coord|1|75|N|2|0|E|display=title}}", UNREADABLE),
        ("{{Coord|1|2|3|4|display=title}}", UNREADABLE),
        ("{{Coord|1|E|2|N|display=title}}", UNREADABLE),
        ("{{Coordinate|NS=|EW=}}", UNREADABLE),
        ("{{Coord|0|N|0|E|display=title}}", ZERO),
        ("{{Coord|95|N|0|E|display=title}}", RANGE),
        ("{{Coord|1|N|2|E|globe:earth|display=title}}", (2, 1)),
    ],
)
def test_subject_coordinates(wikitext, expected):
    found = subject_coordinates(wikitext)
    assert found == (expected if isinstance(expected, str) else pytest.approx(expected, abs=1e-6))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 89), st.integers(0, 59), st.integers(1, 59), st.integers(0, 179), st.booleans(), st.booleans())
def test_degrees_minutes_seconds_agree_in_both_templates(d, m, s, e, south, west):
    ns, ew = "NS"[south], "EW"[west]
    expected = ((-1 if west else 1) * (e + m / 60 + s / 3600), (-1 if south else 1) * (d + m / 60 + s / 3600))
    for wikitext in (
        f"{{{{coord|{d}|{m}|{s}|{ns}|{e}|{m}|{s}|{ew}|display=title}}}}",
        f"{{{{Coordinate|NS={d}/{m}/{s}/{ns}|EW={e}/{m}/{s}/{ew}}}}}",
        f"{{{{coord|{expected[1]:.9f}|{expected[0]:.9f}|display=title}}}}",
    ):
        assert subject_coordinates(wikitext) == pytest.approx(expected, abs=1e-8)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                "{{",
                "}}",
                "[[",
                "]]",
                "|",
                "=",
                "coord",
                "Coord|",
                "display=title",
                "N",
                "1",
                "<ref>",
                "</ref>",
                "<!--",
                "==",
                "\n",
                "{|",
                "|}",
                "a",
            ]
        )
    )
)
def test_no_wikitext_breaks_the_readers(pieces):
    wikitext = " ".join(pieces)
    assert isinstance(subject_coordinates(wikitext), tuple | str)
    assert "\n" not in lead_text(wikitext)


def test_the_lead_is_plain_text():
    wikitext = (
        "{{Infobox|a={{b|c}}|d=[[e]]}}\n[[Datei:X.jpg|mini|A [[cat]] here]]\n[[Bild:y.PNG|alt]]\n"
        "{| class=x\n! head\n|-\n| cell\n|}\n"
        "'''Kiel''' ({{lang|da|Kil}}; ) is ''the'' [[capital city|capital]]&nbsp;of [[Holstein]]<ref>no {{x}}</ref>"
        "<ref name=a /> , 5 km<sup>2</sup>.<!-- no -->\n\nIt [https://a.b has ships].__NOTOC__ [[Kategorie:Stadt]]\n"
        "== History ==\nNot this."
    )
    text = lead_text(wikitext, frozenset({"datei", "kategorie"}))
    assert text == "Kiel is the capital of Holstein, 5 km2. It has ships."


COLUMNS_11 = [
    "gt_id",
    "gt_page_id",
    "gt_globe",
    "gt_primary",
    "gt_lat",
    "gt_lon",
    "gt_dim",
    "gt_type",
    "gt_name",
    "gt_country",
    "gt_region",
]
COLUMNS_13 = [*COLUMNS_11[:4], "gt_lat_int", "gt_lon_int", *COLUMNS_11[4:]]


def sql_table(name, columns, tuples, *, one_a_line):
    definition = ",\n".join(f"  `{column}` int(11) DEFAULT NULL COMMENT 'a, b'" for column in columns)
    joined = (",\n" if one_a_line else ",").join(f"({','.join(t)})" for t in tuples)
    start = f"INSERT INTO `{name}` VALUES" + ("\n" if one_a_line else " ")
    return (
        f"-- MySQL dump\n/*!40101 SET NAMES utf8 */;\nDROP TABLE IF EXISTS `{name}`;\nCREATE TABLE `{name}` (\n"
        f"{definition},\n  PRIMARY KEY (`{columns[0]}`),\n  KEY `k` (`a`,`b`)\n) ENGINE=InnoDB;\n"
        f"/*!40000 ALTER TABLE `{name}` DISABLE KEYS */;\n{start}{joined};\nUNLOCK TABLES;\n"
    )


def tag(columns, **values):
    usual = {"gt_globe": "'earth'", "gt_primary": "1", "gt_name": r"_binary 'a),(\'b\\'", "gt_dim": "1000"}
    return [str({**usual, **values}.get(column, "NULL")) for column in columns]


def tags_file(path, columns, one_a_line):
    tuples = [
        tag(columns, gt_id=1, gt_page_id=7, gt_lat="-12.50000000", gt_lon="190.0"),
        tag(columns, gt_id=2, gt_page_id=3, gt_lat="54.3", gt_lon="10.1", gt_name="'O''Hara; (x'"),
        tag(columns, gt_id=3, gt_page_id=3, gt_lat="1", gt_lon="1", gt_primary=0),
        tag(columns, gt_id=4, gt_page_id=3, gt_lat="2", gt_lon="2"),
        tag(columns, gt_id=5, gt_page_id=6, gt_lat="2", gt_lon="2", gt_globe="'moon'"),
        tag(columns, gt_id=6, gt_page_id=4, gt_lat="0", gt_lon="0.0"),
        tag(columns, gt_id=7, gt_page_id=8, gt_lat="91", gt_lon="0"),
        tag(columns, gt_id=8, gt_page_id=5, gt_lat="9", gt_lon="9", gt_dim="1000000"),
    ]
    text = sql_table("geo_tags", columns, tuples, one_a_line=one_a_line).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("columns", [COLUMNS_11, COLUMNS_13], ids=["11", "13"])
@pytest.mark.parametrize("one_a_line", [False, True])
@pytest.mark.parametrize("name", ["t.sql", "t.sql.gz"])
def test_geo_tags(tmp_path, columns, one_a_line, name):
    path = tags_file(tmp_path / name, columns, one_a_line)
    tags = geo_tags(path)
    assert tags.pages.tolist() == [3, 5, 7]
    assert tags.lonlat.tolist() == [[10.1, 54.3], [9, 9], [-170, -12.5]]
    assert tags.get(3) == (10.1, 54.3)
    assert tags.get(4) is tags.get(99) is None
    assert tags.counts == {
        "not primary": 1,
        NO_EARTH: 1,
        ZERO: 1,
        RANGE: 1,
        "a second primary tag of the page": 1,
    }
    assert geo_tags(path, max_dim_km=100).pages.tolist() == [3, 7]


def test_the_join(tmp_path):
    (tmp_path / "d.xml").write_text(DUMP)
    tags = tags_file(tmp_path / "t.sql.gz", COLUMNS_13, True)
    found = outcomes(tmp_path / "d.xml", geo_tags=tags, max_dim_km=100)
    assert found == [*EXPECTED[:3], ZERO, "larger than max_dim_km", NO_EARTH, "Grün. Ä ö."]
    columns = [
        "page_id",
        "page_namespace",
        "page_title",
        "page_is_redirect",
        "page_is_new",
        "page_random",
        "page_touched",
        "page_links",
    ]
    rows = [["3", "0", r"'K\'iel'", "0"], ["7", "0", "'G'", "1"], ["5", "1", "'G'", "0"], ["9", "0", "'G'", "0"]]
    full = [[*row, "0", "0.5", "'20240101'", "NULL", "1", "2", "'wikitext'", "NULL"] for row in rows]
    names = [*columns, "page_latest", "page_len", "page_content_model", "page_lang"]
    (tmp_path / "p.sql").write_text(sql_table("page", names, full, one_a_line=False))
    source = wikipedia(tmp_path / "d.xml", geo_tags=tags, page=tmp_path / "p.sql")
    assert [(row.id, row.lon) for row in source.rows()] == [("3", 10.1)]
    assert len(source.files) == 3


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(), st.text(max_size=8) | st.none()), min_size=1, max_size=6), st.booleans())
def test_sql_strings_round_trip(tmp_path_factory, rows, one_a_line):
    def quoted(word):
        if word is None:
            return "NULL"
        escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\x1a": "\\Z"}
        return "'" + "".join(escapes.get(c, c) for c in word) + "'"

    path = tmp_path_factory.mktemp("sql") / "a.sql"
    tuples = [[str(n), quoted(word)] for n, word in rows]
    text = sql_table("a", ["n", "word"], tuples, one_a_line=one_a_line)
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    assert list(sql_rows(path, "a", ["word", "n"])) == [(word, str(n)) for n, word in rows]


def test_damaged_sql_is_named(tmp_path):
    whole = tags_file(tmp_path / "t.sql", COLUMNS_11, True).read_text()

    def refused(text, says, table="geo_tags"):
        (tmp_path / "bad.sql").write_text(text)
        with pytest.raises(DataError, match=rf"bad\.sql.*{says}"):
            list(sql_rows(tmp_path / "bad.sql", table, ["gt_id"]))

    refused(whole[: whole.index("(5,")], "ends inside")
    refused(whole[: whole.index("'moon'")], "truncated")
    refused(whole.replace("(5,", "(5,5,"), "11 SQL values")
    refused(whole[: whole.index("INSERT")], "no rows")
    refused(whole[whole.index("INSERT") :], "no CREATE TABLE")
    refused(whole.replace("`gt_id` int", "`other` int"), "no column gt_id")
    refused(whole, "no rows of the table 'page'", table="page")
    packed = gzip.compress(whole.encode())
    (tmp_path / "cut.sql.gz").write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"cut\.sql\.gz is truncated"):
        list(sql_rows(tmp_path / "cut.sql.gz", "geo_tags", ["gt_id"]))


real = pytest.mark.skipif(
    "GRATICULE_DATA" not in os.environ, reason="GRATICULE_DATA does not name the folder of real data"
)


def dump(name):
    return Path(os.environ["GRATICULE_DATA"]) / "text" / "dumps" / name


@real
def test_the_english_dump_has_eleven_places_and_no_splashdown():
    path = dump("enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2")
    records = list(wikipedia(path).records(0))
    titles = {row.content.split(". ")[0] for row in records if isinstance(row, Row)}
    places = [
        "Alabama",
        "Alaska",
        "Alberta",
        "Algeria",
        "Andorra",
        "Angola",
        "Aruba",
        "Afghanistan",
        "Albania",
        "Azerbaijan",
    ]
    assert len(records) == 206
    assert titles == {*places, "Atlantic Ocean"}
    assert Counter(r.reason for r in records if isinstance(r, Skip))["redirect"] >= 99
    for row in (r for r in records if isinstance(r, Row)):
        assert not set("{}[]|<>") & set(row.content)
        assert len(row.content) <= 2000


@real
def test_the_german_dump_knows_where_berlin_is():
    (berlin,) = wikipedia(dump("dbpedia_minidump_dewiki.xml.bz2")).rows()
    np.testing.assert_allclose([berlin.lon, berlin.lat], [13.40, 52.52], atol=0.01)
    assert berlin.content.startswith("Berlin. Berlin ist ")


@real
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("bgwiki-latest-pages-articles-shortened.xml.bz2", 3),
        ("enwiki-table-markup.xml.bz2", 5),
        ("tiny_dump.xml.bz2", 70),
    ],
)
def test_the_other_dumps_read_to_the_end(name, number):
    assert len(list(wikipedia(dump(name)).records(0))) == number


@real
def test_the_columns_of_the_official_table():
    name, columns = table_columns(dump("GeoData_geo_tags_ddl.sql").read_text())
    assert name == "geo_tags"
    assert columns == [*COLUMNS_13]
