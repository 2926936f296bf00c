"""How the contents of rows lie in a Parquet column: texts, photos, arrays, regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graticule.data.source import Content
from graticule.errors import DataError
from graticule.geo.region import Region

REGION = pa.struct(
    [
        ("outline", pa.binary()),
        ("ids", pa.list_(pa.string())),
        ("tags", pa.list_(pa.map_(pa.string(), pa.string()))),
        ("geometries", pa.list_(pa.binary())),
        ("shares", pa.list_(pa.float64())),
        ("image", pa.binary()),
        ("covered", pa.binary()),
    ]
)


def size(content: Content) -> int:
    """About how many bytes a content takes."""
    if isinstance(content, np.ndarray):
        return int(content.nbytes)
    if isinstance(content, Region):
        return (
            sum(map(len, content.geometries))
            + 100 * len(content)
            + (content.image is not None and content.image.nbytes)
        )
    return len(content or "")


def encode(contents: Sequence[Content], state: dict[str, Any]) -> pa.Array:
    """One Parquet column of contents of a modality; the layout of arrays is set in `state` by the first row."""
    kind = state["kind"]
    if kind == "image":
        return pa.array(_array_bytes(contents, state), pa.binary())
    if kind == "region":
        return _regions(contents, state)
    return pa.array(contents, pa.string() if kind == "text" else pa.binary())


def decode(column: pa.ChunkedArray, manifest: dict[str, Any]) -> list[Content]:
    """The inverse of `encode`."""
    if manifest["kind"] == "image":
        return [_array(value.as_buffer(), manifest["array"]) for value in column]
    if manifest["kind"] == "region":
        return [_region(row, manifest.get("array")) for row in column.to_pylist()]
    return list(column.to_pylist())


def _array_bytes(contents: Sequence[Any], state: dict[str, Any]) -> list[bytes]:
    arrays = [np.ascontiguousarray(content) for content in contents]
    for i, array in enumerate(arrays):
        layout = state.setdefault("array", {"shape": list(array.shape), "dtype": array.dtype.str})
        if [list(array.shape), array.dtype.str] != [layout["shape"], layout["dtype"]]:
            raise DataError(
                f"All images of a modality must be alike: expected {layout['shape']} {layout['dtype']}, "
                f"row {state['rows'] + i} of {state['modality']!r} is {list(array.shape)} {array.dtype.str}."
            )
    return [array.tobytes() for array in arrays]


def _array(buffer: Any, layout: dict[str, Any]) -> NDArray[Any]:
    return np.frombuffer(buffer, np.dtype(layout["dtype"])).reshape(layout["shape"])


def _regions(contents: Sequence[Any], state: dict[str, Any]) -> pa.Array:
    with_image = [region.image is not None for region in contents]
    if state.setdefault("images", with_image[0]) != all(with_image) or any(with_image) != all(with_image):
        raise DataError(f"All regions of {state['modality']!r} must have an image or none: some have one, others not.")
    images = _array_bytes([region.image for region in contents], state) if all(with_image) else [None] * len(contents)
    rows = [
        {
            "outline": region.outline,
            "ids": region.ids,
            "tags": [list(tags.items()) for tags in region.tags],
            "geometries": region.geometries,
            "shares": region.shares,
            "image": image,
            "covered": None if region.covered is None else np.packbits(region.covered).tobytes(),
        }
        for region, image in zip(contents, images, strict=True)
    ]
    return pa.array(rows, REGION)


def _region(row: dict[str, Any], layout: dict[str, Any] | None) -> Region:
    image: NDArray[Any] | None = None
    covered: NDArray[np.bool_] | None = None
    if layout is not None and row["image"] is not None:
        image = _array(row["image"], layout)
        height, width = layout["shape"][-2:]
        bits = np.unpackbits(np.frombuffer(row["covered"], np.uint8), count=height * width)
        covered = bits.astype(bool).reshape(height, width)
    tags = tuple(dict(pairs) for pairs in row["tags"])
    return Region(
        row["outline"], tuple(row["ids"]), tags, tuple(row["geometries"]), tuple(row["shares"]), image, covered
    )
