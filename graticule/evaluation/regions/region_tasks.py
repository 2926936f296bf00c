"""Five questions about regions, with the answer removed from the map.

| task | label | what is removed |
|---|---|---|
| buildings | log(1 + sum of the shares of buildings) | buildings, parts, entrances, doors, as wholes; `roof:*` |
| signals | log(1 + nodes of signals) | signals as wholes; `crossing*`, `traffic_signals*`, `button_operated` |
| bridges | log(1 + sum of the shares of ways on bridges) | bridge areas as wholes; bridge keys and values; `layer` |
| speed | mean km/h of roads, by length | keys and values with "speed"; `zone:*`, `traffic_sign*`; signs as wholes |
| amenities | log(1 + count) of six kinds of places | such places as wholes; details; building values: "yes" |

"As a whole" takes the entity away with all its tags, since what is left of a signal, say `tactile_paving`, would tell
that there was one. What remains can hint at the answer, as maps do (a short straight piece of road is often a
bridge); no key or value that is left says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from graticule.errors import need
from graticule.evaluation.regions.answers import Label, RegionTask, Tags, words
from graticule.geo.measure import length_km
from graticule.geo.region import Region

NOT_THERE = frozenset({"no", "demolished", "razed", "entrance", "ruins", "construction", "proposed"})
KMH = {"": 1.0, "km/h": 1.0, "kmh": 1.0, "kph": 1.0, "mph": 1.609344, "knots": 1.852}
SPEED = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z/]*)")
PLACE_KEYS = frozenset({"amenity", "shop", "tourism", "leisure", "office", "craft", "healthcare"})
PLACE_DETAILS = words(
    "brand cuisine religion denomination sport operator opening_hours phone fax email website url contact stars rooms "
    "payment internet_access takeaway delivery drive_through outdoor_seating smoking diet beer name social_facility "
    "dispensing government school clothes service_times fuel information artwork_type medical building:use"
)
FOOD = frozenset({"restaurant", "cafe", "fast_food", "bar", "pub", "food_court", "ice_cream", "biergarten"})
CARE = words(
    "school kindergarten college university library childcare hospital clinic doctors dentist pharmacy "
    "social_facility community_centre"
)
LODGING = frozenset({"hotel", "guest_house", "hostel", "motel", "chalet", "apartment", "camp_site", "resort"})
SERVICES = frozenset({"bank", "atm", "bureau_de_change", "post_office", "police", "townhall", "courthouse", "fuel"})
KINDS: dict[str, Callable[[Tags], bool]] = {
    "food": lambda tags: tags.get("amenity") in FOOD,
    "shops": lambda tags: tags.get("shop", "no") not in ("no", "vacant"),
    "care": lambda tags: tags.get("amenity") in CARE or "healthcare" in tags,
    "lodging": lambda tags: tags.get("tourism") in LODGING,
    "leisure": lambda tags: "leisure" in tags,
    "services": lambda tags: tags.get("amenity") in SERVICES or "office" in tags,
}


def is_building(tags: Tags) -> bool:
    """A building that stands, not a part of one."""
    return tags.get("building", "no") not in NOT_THERE


def is_bridge(tags: Tags) -> bool:
    """A way on a bridge."""
    return tags.get("bridge", "no") != "no"


def is_signal(tags: Tags) -> bool:
    """A traffic signal, also one for pedestrians."""
    return "traffic_signals" in (tags.get("highway"), tags.get("crossing"))


def kmh(value: str) -> float | None:
    """A value of maxspeed in km/h, the mean where it names several; None without a number from 1 to 400 km/h."""
    speeds = [
        float(found[1]) * KMH[found[2]]
        for part in value.lower().split(";")
        if (found := SPEED.fullmatch(part.strip())) and found[2] in KMH
    ]
    return float(np.mean(speeds)) if speeds and all(1 <= speed <= 400 for speed in speeds) else None


def without_buildings(tags: Tags) -> Tags | None:
    """See the table above."""
    if tags.get("type") == "building" or any(re.split("[:_]", key).count("building") for key in tags):
        return None
    if "entrance" in tags or "door" in tags:
        return None
    return {k: v for k, v in tags.items() if "building" not in k and "building" not in v and not k.startswith("roof:")}


def without_signals(tags: Tags) -> Tags | None:
    """See the table above. All values of `crossing` go: otherwise those without one would be the signals."""
    if tags.get("highway") == "traffic_signals":
        return None
    told = ("traffic_signals", "crossing", "button_operated")
    return {k: v for k, v in tags.items() if not k.startswith(told) and "signals" not in k and "signals" not in v}


def without_bridges(tags: Tags) -> Tags | None:
    """See the table above."""
    if "bridge" in (tags.get("man_made"), tags.get("building"), tags.get("area:highway"), tags.get("historic")):
        return None
    told = ("bridge", "viaduct", "flyover", "overpass")
    return {k: v for k, v in tags.items() if k != "layer" and not any(word in k or word in v.lower() for word in told)}


def without_speed(tags: Tags) -> Tags | None:
    """See the table above."""
    if "traffic_sign" in (tags.get("highway"), tags.get("man_made")) or tags.get("highway") == "speed_camera":
        return None
    told = ("zone:", "traffic_sign", "traffic_zone")
    return {k: v for k, v in tags.items() if not k.startswith(told) and "speed" not in k and "speed" not in v.lower()}


def without_places(tags: Tags) -> Tags | None:
    """See the table above. Places that were, `disused:shop`, go as well."""
    if any(PLACE_KEYS & set(key.split(":")) for key in tags):
        return None
    kept = {k: v for k, v in tags.items() if k not in PLACE_DETAILS and k.split(":")[0] not in PLACE_DETAILS}
    return {k: "yes" if k in ("building", "building:part") else v for k, v in kept.items()}


def _counted(counts: Callable[[Tags], bool], kinds: tuple[str, ...]) -> Callable[[Region], Label]:
    """log(1 + sum of shares) of entities of these kinds of ids."""

    def label(region: Region) -> float:
        shares = (
            share
            for identity, tags, share in zip(region.ids, region.tags, region.shares, strict=True)
            if identity.startswith(kinds) and counts(tags)
        )
        return float(np.log1p(sum(shares)))

    return label


def mean_speed(region: Region) -> float | None:
    """Mean maxspeed of roads in km/h, weighted by their length in the region; None where no road has one."""
    speed = [kmh(tags.get("maxspeed", "")) if "highway" in tags else None for tags in region.tags]
    known = [i for i, value in enumerate(speed) if value is not None]
    if not known:
        return None
    length = length_km(need("shapely", "osm").from_wkb(np.array([region.geometries[i] for i in known], dtype=object)))
    return float(np.average([speed[i] for i in known], weights=length)) if length.any() else None


def place_mix(region: Region) -> tuple[float, ...]:
    """log(1 + count) of every kind of `KINDS`."""
    return tuple(float(np.log1p(sum(map(is_kind, region.tags)))) for is_kind in KINDS.values())


REGION_TASKS: dict[str, RegionTask] = {
    task.name: task
    for task in (
        RegionTask("buildings", _counted(is_building, ("node/", "way/", "relation/")), without_buildings),
        RegionTask("signals", _counted(is_signal, ("node/",)), without_signals),
        RegionTask("bridges", _counted(is_bridge, ("way/",)), without_bridges),
        RegionTask("speed", mean_speed, without_speed),
        RegionTask("amenities", place_mix, without_places, tuple(KINDS)),
    )
}
