"""The model under srai's interface: three frames in, one frame of vectors out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.geo.antimeridian import unwrapped
from graticule.geo.clip import clip, homogeneous
from graticule.geo.measure import measure
from graticule.geo.region import Region

if TYPE_CHECKING:
    from graticule.embed_map.model import MapModel

GROUPED = re.compile(r"([a-z][a-z0-9_:]*)=([^=]+)")  # a cell of srai's grouped filters: "amenity=cafe"


class GeoJepaEmbedder:
    """An embedder as srai's (srai 0.10): `fit`, `transform` and `fit_transform` of regions, features and joint.

    The model is trained already (`graticule train geojepa`); nothing is learnt from the frames.
    """

    def __init__(self, model: MapModel) -> None:
        self.model = model

    def fit(self, regions_gdf: Any, features_gdf: Any, joint_gdf: Any) -> GeoJepaEmbedder:
        """Check the frames, learn nothing, return self."""
        _check(regions_gdf, features_gdf, joint_gdf)
        return self

    def fit_transform(self, regions_gdf: Any, features_gdf: Any, joint_gdf: Any) -> Any:
        """The same as `transform`."""
        return self.transform(regions_gdf, features_gdf, joint_gdf)

    def transform(self, regions_gdf: Any, features_gdf: Any, joint_gdf: Any) -> Any:
        """Frames as srai's loaders, regionalizers and joiners make -> a DataFrame of vectors by region, all regions.

        regions_gdf     polygons, indexed by region_id
        features_gdf    geometries, indexed by feature_id; every other column is a tag key (srai's wide and grouped
                        forms), or one column `tags` holds dictionaries, as in `MapVectors.features`
        joint_gdf       only its MultiIndex (region_id, feature_id) is used; features are clipped to the regions here

        Raises DataError for frames that do not fit together. Regions are embedded without images.
        """
        _check(regions_gdf, features_gdf, joint_gdf)
        pd = need("pandas", "osm")
        vectors, _ = self.model.embed_regions(_regions(regions_gdf, features_gdf, joint_gdf))
        return pd.DataFrame(vectors, index=regions_gdf.index)


def _check(regions: Any, features: Any, joint: Any) -> None:
    for what, frame in (("regions", regions), ("features", features)):
        if frame.index.name is None or "geometry" not in frame.columns:
            raise DataError(f"The frame of {what} must have a named index and a column 'geometry', as srai's have.")
        if not frame.index.is_unique:
            raise DataError(f"The index of {what} names {frame.index[frame.index.duplicated()][0]!r} twice.")
        if frame.crs is not None and not frame.crs.is_geographic:
            raise DataError(f"The frame of {what} is in {frame.crs}, expected degrees: use to_crs('EPSG:4326').")
    names = [regions.index.name, features.index.name]
    if list(joint.index.names) != names:
        raise DataError(f"The index of the joint frame must have the levels {names}, got {list(joint.index.names)}.")
    for level, frame in enumerate((regions, features)):
        absent = joint.index.get_level_values(level).difference(frame.index)
        if len(absent):
            raise DataError(f"The joint frame names {absent[0]!r}, which is no {names[level]} of the other frame.")


def _regions(regions: Any, features: Any, joint: Any) -> list[Region]:
    shapely = need("shapely", "osm")
    outlines = unwrapped(np.asarray(regions.geometry, dtype=object))
    pairs = joint.index.unique()
    in_region = regions.index.get_indexer(pairs.get_level_values(0))
    of_feature = features.index.get_indexer(pairs.get_level_values(1))
    shapes = unwrapped(homogeneous(_mended(np.asarray(features.geometry, dtype=object))))
    parts = clip(shapes[of_feature], outlines[in_region])
    total = measure(shapes)[of_feature]
    points = shapely.get_dimensions(parts) == 0
    shares = np.where(points, 1, np.minimum(measure(parts) / np.where(total > 0, total, 1), 1))
    tags = _tags(features)
    ids = [str(i) for i in features.index]
    out = []
    there = np.flatnonzero(~shapely.is_missing(parts))
    there = there[np.argsort(in_region[there], kind="stable")]
    ends = np.searchsorted(in_region[there], np.arange(1, len(outlines)))
    for outline, rows in zip(outlines, np.split(there, ends), strict=True) if len(outlines) else ():
        who = of_feature[rows]
        out.append(
            Region(
                shapely.to_wkb(outline),
                tuple(ids[i] for i in who),
                tuple(tags[i] for i in who),
                tuple(shapely.to_wkb(parts[rows]).tolist()),
                tuple(shares[rows].tolist()),
            )
        )
    return out


def _mended(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    shapely = need("shapely", "osm")
    wrong = np.flatnonzero(~shapely.is_valid(shapes))
    shapes = shapes.copy()
    shapes[wrong] = shapely.make_valid(shapes[wrong])
    return shapes


def _tags(features: Any) -> list[dict[str, str]]:
    if "tags" in features.columns and all(isinstance(one, dict) for one in features["tags"]):
        return [{str(k): str(v) for k, v in one.items()} for one in features["tags"]]
    tags: list[dict[str, str]] = [{} for _ in range(len(features))]
    for key in features.columns.drop("geometry"):
        for i, value in enumerate(features[key].tolist()):
            tags[i].update(_tag(str(key), value))
    return tags


def _tag(key: str, value: Any) -> dict[str, str]:
    """One cell: nothing for missing, empty and False; "yes" for True; "key=value" of grouped filters taken apart."""
    if value is None or value is False or value != value or value == "":
        return {}
    if value is True:
        return {key: "yes"}
    grouped = GROUPED.fullmatch(str(value))
    return {grouped[1]: grouped[2]} if grouped else {key: str(value)}
