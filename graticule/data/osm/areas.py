"""Which closed ways are areas."""

from __future__ import annotations

from collections.abc import Mapping

# Keys that make a closed way an area, after the wiki's "Overpass turbo/Polygon Features" (whose walls, hedges and
# ditches stay lines here): with any value but the named ones, or with the named ones only.
ANY_VALUE_BUT: dict[str, frozenset[str]] = {
    key: frozenset({"no", *values.split()})
    for key, values in {
        "building": "",
        "building:part": "",
        "landuse": "",
        "amenity": "",
        "leisure": "track slipway",
        "natural": "coastline cliff ridge arete tree_row valley gully earth_bank strait",
        "man_made": "cutline embankment pipeline dyke goods_conveyor",
        "aeroway": "taxiway runway jet_bridge navigationaid",
        "boundary": "",
        "place": "",
        "shop": "",
        "office": "",
        "craft": "",
        "tourism": "yes",
        "historic": "citywalls railway yes",
        "public_transport": "",
        "military": "trench",
        "ruins": "",
        "golf": "hole path cartpath",
        "indoor": "wall yes",
        "area:highway": "",
        "healthcare": "",
        "emergency": "yes designated official destination private",  # these are about access
        "aquaculture": "",
        "water": "",
        "wetland": "",
        "cemetery": "",
        "allotments": "",
        "playground": "",
        "club": "",
        "abandoned:building": "",
        "disused:building": "",
    }.items()
}
ONLY_VALUES: dict[str, frozenset[str]] = {
    key: frozenset(values.split())
    for key, values in {
        "highway": "services rest_area escape elevator platform",
        "waterway": "riverbank dock boatyard dam fuel",
        "railway": "station turntable roundhouse platform wash",
        "power": "plant substation generator transformer",
        "barrier": "city_wall block",
        "advertising": "board billboard",
    }.items()
}


def is_area(tags: Mapping[str, str]) -> bool:
    """Whether a closed way with these tags is an area and not a line that ends where it began.

    area=no and area=yes decide. Without them a key of ANY_VALUE_BUT or ONLY_VALUES does: a closed highway=residential
    is a line, a closed building=yes an area.
    """
    area = tags.get("area")
    if area is not None:
        return area != "no"
    for key, value in tags.items():
        if key in ANY_VALUE_BUT:
            if value not in ANY_VALUE_BUT[key]:
                return True
        elif key in ONLY_VALUES and value in ONLY_VALUES[key]:
            return True
    return False
