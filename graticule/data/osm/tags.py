"""Which tags of map entities are kept: those that tell what a thing is, not its name, number, address or source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache

from graticule.data.osm.entities import Ledger

Keep = Callable[[Mapping[str, str]], dict[str, str]]

LONGEST = 255  # characters of a value; the OpenStreetMap database allows no more

ADDRESS = {"address": "yes"}  # what is kept of an entity that is an address and nothing else

# Patterns of keys, case does not count. A key that tells what a thing is stays although it looks like one of these:
# crossing_ref=zebra, generator:source=solar, noname=yes, brand=*, start_date=1894, opening_hours=*.
DROPPED_KEYS: tuple[str, ...] = (
    # names
    *("name", "name:*", "name_*", "*_name", "*_name:*", "*:name", "*:name:*", "name1", "name2", "*:etymology*"),
    *("operator", "operator:short", "old_railway_operator", "artist*", "architect*", "from", "to", "via"),
    *("destination", "destination:*", "inscription*", "description*", "*:description*", "branch", "network:*"),
    # addresses and what lies round the place
    *("addr:*", "address", "is_in*", "postal_code", "*:postal_code", "old_addr:*", "addr2:*"),
    # numbers and identifiers
    *("ref", "ref:*", "*:ref", "*:ref:*", "ref_*", "int_ref", "nat_ref", "reg_ref", "loc_ref", "local_ref", "old_ref"),
    *("uic_ref", "route_ref", "alt_ref", "official_ref", "unsigned_ref", "bridge_ref", "tunnel_ref", "iata", "icao"),
    *("id", "*:id", "*_id", "uuid", "*:uuid", "*_uuid", "guid", "*:guid", "objectid", "osmc:symbol", "code"),
    *("wikidata", "*:wikidata", "wikipedia*", "*:wikipedia*", "wikimedia_commons*", "*:wikimedia_commons"),
    # ways to get in touch, pictures
    *("website*", "*:website*", "url*", "*:url", "phone*", "*:phone", "fax*", "*:fax", "email*", "*:email", "mobile"),
    *("contact:*", "facebook", "twitter", "instagram", "image*", "mapillary*", "panoramax*", "picture", "photo"),
    # what mappers say to each other, and where it comes from
    *("source", "source:*", "source_*", "*:source:*", "note", "note:*", "note_*", "fixme*", "*:fixme", "todo*"),
    *("comment*", "created_by", "attribution*", "import", "import_*", "import:*", "upload*", "history", "openGeoDB:*"),
    *("check_date*", "*:check_date", "survey:date", "survey_date", "*:date", "date", "timestamp", "user", "version"),
    *("public_transport:version", "project", "projet:*", "copyright", "license", "licence"),
    # imports
    *("tiger:*", "us.fo:*", "nycdoitt:*", "gnis:*", "gns_*", "gns:*", "fhrs:*", "tmc", "tmc:*", "ksj2:*", "nhd:*"),
    *("massgis:*", "kms:*", "osak:*", "canvec:*", "geobase:*", "linz:*", "linz2osm:*", "naptan:*", "teryt:*"),
    *("nysgissam:*", "ngbe:*", "cladr:*", "kladr:*", "okato:*", "yh:*", "lojic:*", "dcgis:*", "chicago:*", "bag:*"),
    *("wroclawgis:*", "3dshapes:*", "at_bev:*", "it:fvg:*", "clc:*", "statscan:*", "sotm", "gps:*"),
)


def kept_tags(tags: Mapping[str, str], dropped_keys: Sequence[str] = DROPPED_KEYS) -> dict[str, str]:
    """The tags that are kept of one entity.

    Left out are keys of `dropped_keys` (patterns as of a file name: `*` any text, `?` one character), tags without a
    value, and keys of more than 255 characters; longer values are cut to 255. "a;b" and text of any script stay as
    they are. Of an entity that is an address and nothing else, ADDRESS is kept, so that it is still a thing of the
    map: {"addr:street": "Ny-Vej", "addr:housenumber": "3"} -> {"address": "yes"}.
    """
    return keeper(tuple(dropped_keys))(tags)


@lru_cache(maxsize=8)
def keeper(dropped_keys: tuple[str, ...] = DROPPED_KEYS) -> Keep:
    """`kept_tags` of these patterns as a function of the tags; it remembers the keys it has seen."""
    pattern = re.compile("|".join(map(translate, dropped_keys)) or r"(?!)", re.IGNORECASE)

    @lru_cache(maxsize=1 << 16)
    def stays(key: str) -> bool:
        return 0 < len(key) <= LONGEST and not pattern.match(key)

    def keep(tags: Mapping[str, str]) -> dict[str, str]:
        kept = {key: value[:LONGEST] for key, value in tags.items() if value and stays(key)}
        if not kept and any(key.lower().startswith("addr") for key in tags):
            return dict(ADDRESS)
        return kept

    return keep


def kept_or_dropped(ledger: Ledger, identity: str, tags: Mapping[str, str] | None, keep: Keep) -> dict[str, str]:
    """The kept tags of an entity; without any it is dropped. tags: None when they are not UTF-8."""
    if tags is None:
        ledger.drop(identity, "tags are not UTF-8")
        return {}
    kept = keep(tags)
    if not kept:
        ledger.drop(identity, "no tags left" if tags else "no tags")
    return kept


def note_cut(ledger: Ledger, identity: str, tags: Mapping[str, str], kept: Mapping[str, str]) -> None:
    """Note an entity of which a value was cut."""
    if max(map(len, kept.values())) == LONGEST and any(len(tags.get(key, "")) > LONGEST for key in kept):
        ledger.note(identity, f"value cut to {LONGEST} characters")
