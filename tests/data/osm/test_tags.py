import pytest

from graticule.data.osm.areas import is_area
from graticule.data.osm.entities import Ledger
from graticule.data.osm.tags import ADDRESS, DROPPED_KEYS, keeper, kept_tags, note_cut


@pytest.mark.parametrize(
    "key",
    [
        *("name", "name:en", "name_1", "alt_name", "old_name:de", "bridge:name", "operator", "description", "wikidata"),
        *("brand:wikidata", "tiger:cfcc", "source", "source:name", "addr:city", "ref", "ref:FR:insee", "int_ref"),
        *("us.fo:Postnr", "nycdoitt:bin", "note", "FIXME", "created_by", "website", "contact:phone", "phone"),
        *("is_in:country", "gnis:feature_id", "fhrs:id", "gns_uni", "TMC:cid_58:tabcd_1:Class", "check_date"),
        *("heritage:website:sipa", "name:etymology:wikidata", "survey:date", "wikimedia_commons"),
    ],
)
def test_keys_that_tell_nothing_about_the_kind_of_thing_are_dropped(key):
    assert kept_tags({key: "x", "highway": "path"}) == {"highway": "path"}


@pytest.mark.parametrize(
    "key",
    [
        *(
            "building",
            "building:levels",
            "generator:source",
            "crossing_ref",
            "noname",
            "brand",
            "start_date",
            "surface",
        ),
        *("opening_hours", "maxspeed", "roof:shape", "traffic_sign", "cuisine", "network", "type", "area", "height"),
    ],
)
def test_keys_that_tell_the_kind_of_thing_are_kept(key):
    assert kept_tags({key: "x"}) == {key: "x"}


def test_values_are_kept_as_they_are_in_any_script_and_lists_stay_together():
    tags = {"cuisine": "寿司;ラーメン", "shop": "Бäckerei", "höhe": "3"}
    assert kept_tags(tags) == tags


def test_long_values_are_cut_and_long_keys_and_empty_values_dropped():
    tags = {"shop": "x" * 10_000, "k" * 256: "v", "amenity": ""}
    kept = kept_tags(tags)
    assert kept == {"shop": "x" * 255}
    ledger = Ledger()
    note_cut(ledger, "node/1", tags, kept)
    note_cut(ledger, "node/2", {"shop": "x" * 255}, {"shop": "x" * 255})
    assert ledger.noted == {"value cut to 255 characters": 1}


def test_an_address_and_nothing_else_is_an_address():
    assert kept_tags({"addr:street": "Ny-Vej", "addr:housenumber": "3", "source": "x"}) == ADDRESS
    assert kept_tags(ADDRESS) == ADDRESS
    assert kept_tags({"addr:street": "Ny-Vej", "building": "yes"}) == {"building": "yes"}
    assert kept_tags({"source": "x"}) == {} == kept_tags({})


def test_own_patterns_replace_the_list():
    assert kept_tags({"name": "x", "building": "yes"}, ["build*"]) == {"name": "x"}
    assert kept_tags({"name": "x"}, ()) == {"name": "x"}
    assert kept_tags({"a.b": "x", "acb": "y"}, ["a.b"]) == {"acb": "y"}
    assert keeper() is keeper(DROPPED_KEYS) or keeper()({"name": "x"}) == {}


@pytest.mark.parametrize(
    ("tags", "area"),
    [
        ({"building": "yes"}, True),
        ({"building": "no"}, False),
        ({"highway": "residential"}, False),
        ({"highway": "pedestrian", "area": "yes"}, True),
        ({"highway": "services"}, True),
        ({"building": "yes", "area": "no"}, False),
        ({"natural": "water"}, True),
        ({"natural": "coastline"}, False),
        ({"natural": "tree_row"}, False),
        ({"barrier": "fence"}, False),
        ({"barrier": "hedge", "area": "yes"}, True),
        ({"barrier": "fence", "leisure": "park"}, True),
        ({"waterway": "stream"}, False),
        ({"waterway": "riverbank"}, True),
        ({"railway": "rail"}, False),
        ({"leisure": "track"}, False),
        ({"power": "line"}, False),
        ({"highway": "service", "emergency": "yes"}, False),
        ({}, False),
    ],
)
def test_closed_ways_are_areas_by_their_tags(tags, area):
    assert is_area(tags) is area
