"""Four questions about single map entities, with the answer removed from all entities of the region.

| task | label | what is removed |
|---|---|---|
| building_type | eight classes of `building` | keys of buildings but form, material, address; value "yes" |
| highway_class | seven classes of `highway` | keys of roads but surface, light, structure; value "yes"; routes |
| roof_material | six classes of `roof:material` | keys with material, colour, cladding, structure, ...; `wall` |
| levels | log(1 + building:levels) | keys with level, height, storey, floor or flats |

The two classes of uses keep a short list of keys, since so many others repeat the answer (amenity, operator, ref,
lanes, tracktype, sidewalk, tiger:cfcc, ...); names are not among them. Other entities keep their tags: that an
amenity lies in a building, or a bus stop on a road, may be learned from the map.
"""

from __future__ import annotations

import numpy as np

from graticule.evaluation.regions.answers import EntityTask, Tags, words

BUILDING_TYPES: dict[str, frozenset[str]] = {
    name: words(values)
    for name, values in {
        "house": "house residential bungalow detached terrace semidetached_house semi hut cabin chalet villa "
        "static_caravan stilt_house allotment_house houseboat water_bungalows",
        "apartments": "apartments apartment dormitory block flats",
        "commercial": "commercial retail office offices kiosk hotel hostel supermarket mall shop bank restaurant pub",
        "industrial": "industrial warehouse hangar storage_tank container factory manufacture silo",
        "garage": "garage garages carport shed service parking parking_garage",
        "farm": "farm farm_auxiliary barn stable cowshed sty greenhouse glasshouse greenhouse_horticulture",
        "public": "school university college kindergarten hospital public civic government fire_station museum "
        "train_station transportation stadium sports_centre sports_hall library theatre administration",
        "religious": "church chapel mosque cathedral temple synagogue shrine wayside_shrine convent monastery parish",
    }.items()
}
HIGHWAY_CLASSES: dict[str, frozenset[str]] = {
    name: words(values)
    for name, values in {
        "motorway": "motorway motorway_link trunk trunk_link",
        "main": "primary primary_link secondary secondary_link",
        "tertiary": "tertiary tertiary_link",
        "residential": "residential living_street unclassified",
        "service": "service",
        "path": "footway path pedestrian steps cycleway corridor",
        "track": "track bridleway trail",
    }.items()
}
ROOF_MATERIALS: dict[str, frozenset[str]] = {
    name: words(values)
    for name, values in {
        "metal": "metal metal_sheet metal_sheets copper zinc tin gold corrugated",
        "tiles": "roof_tiles tile tiles clay_tiles slate eternit",
        "concrete": "concrete concerte cement rcc",
        "plants": "thatch thatchi palm_leaves wood bamboo grass plants",
        "tar": "tar_paper asphalt asphalt_shingle bitumen gravel",
        "glass": "glass acrylic_glass",
    }.items()
}
KEPT_OF_BUILDINGS = frozenset({"material", "height", "min_height", "est_height", "layer", "wall", "start_date"})
KEPT_PREFIXES = ("addr:housenumber", "addr:street", "building:levels", "building:material", "building:colour",
                 "building:min_level", "roof:")  # fmt: skip
KEPT_OF_ROADS = frozenset(
    {"surface", "smoothness", "lit", "bridge", "tunnel", "covered", "layer", "incline", "oneway", "junction", "area"}
)
POINT_FEATURES = words(
    "crossing bus_stop traffic_signals street_lamp stop give_way turning_circle turning_loop mini_roundabout "
    "speed_camera platform passing_place milestone elevator emergency_access_point traffic_mirror"
)
MATERIAL_WORDS = ("material", "colour", "color", "cladding", "facade", "texture", "structure", "tin_roof", "green_roof",
                  "roof_type", "cons_type")  # fmt: skip
LEVEL_WORDS = ("level", "height", "storey", "stories", "floor", "flats", "apartments")
HIGHEST = 200  # levels; more is a slip of the pen


def building_type(tags: Tags) -> int | None:
    """The class of a building; None for "yes" and rare values."""
    return _class(tags.get("building"), BUILDING_TYPES)


def highway_class(tags: Tags) -> int | None:
    """The class of a road or path; None for what else has the key."""
    return _class(tags.get("highway"), HIGHWAY_CLASSES)


def roof_material(tags: Tags) -> int | None:
    """The class of a roof of a building or part of one."""
    return _class(tags.get("roof:material"), ROOF_MATERIALS) if _is_building(tags) else None


def log_levels(tags: Tags) -> float | None:
    """log(1 + levels) of a building or part of one; None without a number from 0 to 200."""
    try:
        levels = float(tags["building:levels"]) if _is_building(tags) else -1.0
    except (KeyError, ValueError):
        return None
    return float(np.log1p(levels)) if 0 <= levels <= HIGHEST else None


def without_building_type(tags: Tags) -> Tags | None:
    """See the table above."""
    if not _is_building(tags):
        return {k: v for k, v in tags.items() if "building" not in k} if tags.get("type") != "building" else None
    shape = {k: v for k, v in tags.items() if k in KEPT_OF_BUILDINGS or k.startswith(KEPT_PREFIXES)}
    return shape | {k: "yes" for k in ("building", "building:part") if k in tags}


def without_highway_class(tags: Tags) -> Tags | None:
    """See the table above. Nodes on roads (crossings, bus stops, ...) stay as they are."""
    if tags.get("type") == "route" or tags.get("highway") == "motorway_junction":
        return None
    if "highway" not in tags:
        return {k: v for k, v in tags.items() if "highway" not in k and k != "route"}
    if tags["highway"] in POINT_FEATURES:
        return {k: v for k, v in tags.items() if k == "highway" or "highway" not in k}
    return {k: v for k, v in tags.items() if k in KEPT_OF_ROADS} | {"highway": "yes"}


def without_roof_material(tags: Tags) -> Tags | None:
    """See the table above."""
    return {k: v for k, v in tags.items() if not any(word in k.lower() for word in MATERIAL_WORDS) and k != "wall"}


def without_levels(tags: Tags) -> Tags | None:
    """See the table above."""
    return {k: v for k, v in tags.items() if not any(word in k.lower() for word in LEVEL_WORDS)}


def _is_building(tags: Tags) -> bool:
    return "building" in tags or "building:part" in tags


def _class(value: str | None, classes: dict[str, frozenset[str]]) -> int | None:
    return next((i for i, values in enumerate(classes.values()) if value in values), None)


ENTITY_TASKS: dict[str, EntityTask] = {
    task.name: task
    for task in (
        EntityTask("building_type", building_type, without_building_type, tuple(BUILDING_TYPES)),
        EntityTask("highway_class", highway_class, without_highway_class, tuple(HIGHWAY_CLASSES)),
        EntityTask("roof_material", roof_material, without_roof_material, tuple(ROOF_MATERIALS)),
        EntityTask("levels", log_levels, without_levels),
    )
}
