import numpy as np
import pytest

from graticule.errors import DataError
from graticule.evaluation.regions import baselines as b
from graticule.evaluation.regions.answers import EntityRows
from graticule.evaluation.regions.hex2vec import _strangers, _within_two, hex2vec
from graticule.evaluation.regions.places import touching
from graticule.geo.coords import lonlat
from tests.evaluation.regions.maps import region, tile

TREE, BENCH, ROAD = {"natural": "tree"}, {"amenity": "bench"}, {"highway": "primary", "surface": "asphalt"}


class Table:
    """Frozen random vectors of tags; equal sets share a row."""

    def sums(self, tags):
        keys = sorted({tuple(sorted(own.items())) for own in tags} - {()})
        number = {key: i + 1 for i, key in enumerate(keys)} | {(): 0}
        vectors = [self.vector(key) for key in keys]
        rows = np.array([number[tuple(sorted(own.items()))] for own in tags], dtype=np.int64)
        return rows, np.array([np.zeros(8), *vectors], dtype=np.float32)

    def vector(self, pairs):
        return sum(np.random.default_rng([*f"{k}={v}".encode()]).normal(size=8) for k, v in pairs)


def test_tag_counts_are_of_training_tags_only():
    count = b.tag_counts([region(TREE, TREE, ROAD), region(BENCH, TREE)], most=3)
    got = count([region(TREE, ROAD, {"unheard": "of"}), region()])
    # trees are the most frequent; then amenity=bench and highway=primary by the alphabet; surface is the fourth
    np.testing.assert_allclose(got, np.log1p([[1, 0, 1, 3], [0, 0, 0, 0]]), rtol=1e-6)
    np.testing.assert_allclose(b.tag_counts([])([region(TREE)]), [[np.log(2)]], rtol=1e-6)


def test_entity_tag_counts():
    (own,) = b.entity_tag_counts([region(TREE, ROAD)])([region(ROAD, BENCH, TREE)])
    assert own.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_tag_pool_against_naive_loops():
    import torch

    regions = [region(TREE, ROAD, {}), region(), region(BENCH)]
    got = b.tag_pool(regions, Table())
    for row, own in zip(got, regions, strict=True):
        vectors = []
        for tags in own.tags:
            total = torch.zeros(8)
            for key, value in tags.items():
                total = total + torch.tensor(Table().vector([(key, value)]), dtype=torch.float32)
            vectors.append(torch.nn.functional.layer_norm(total, (8,)))
        expected = torch.zeros(16)
        if vectors:
            expected = torch.cat([torch.stack(vectors).max(0).values, torch.stack(vectors).mean(0)])
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)
    assert b.tag_pool([], Table()).shape == (0, 0)
    assert b.tag_pool([region()], Table()).shape == (1, 16)


def test_pool_of_shapes_counts():
    parts = [np.array([[1.0, 5.0], [3.0, 1.0]]), np.zeros((0, 2))]
    np.testing.assert_allclose(b.pooled(parts, count=True), [[3, 5, 2, 3, np.log(3)], [0] * 5], rtol=1e-6)
    with pytest.raises(DataError, match="same number of columns"):
        b.pooled([np.zeros((1, 2)), np.zeros((1, 3))])


def test_batch_mates_change_nothing():
    regions = [region(TREE, ROAD), region(BENCH), region(ROAD, ROAD)]
    together = b.tag_pool(regions, Table())
    alone = np.concatenate([b.tag_pool([own], Table()) for own in regions])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_entities_stand_beside_their_region():
    own = [np.arange(6.0).reshape(3, 2), np.zeros((0, 2)), 10 + np.arange(2.0).reshape(1, 2)]
    pool = np.array([[0.5], [0.6], [0.7]])
    rows = EntityRows(np.array([2, 0, 0]), np.array([0, 2, 0]), np.zeros(3))
    np.testing.assert_allclose(b.entity_vectors(own, pool, rows), [[10, 11, 0.7], [4, 5, 0.5], [0, 1, 0.5]])
    none = EntityRows(*[np.zeros(0, np.int64)] * 3)
    assert b.entity_vectors(own, pool, none).shape == (0, 3)
    with pytest.raises(DataError, match="same regions"):
        b.entity_vectors(own[:2], pool, rows)


def test_patch_statistics_see_only_what_is_seen():
    patches = np.random.default_rng(0).normal(size=(2, 5, 3))
    seen = np.array([[True, True, False, True, True], [False] * 5])
    got = b.patch_statistics(patches, seen)
    kept = patches[0, seen[0]]
    np.testing.assert_allclose(got[0], np.concatenate([kept.mean(0), kept.std(0)]), rtol=1e-5)
    assert not got[1].any()
    np.testing.assert_allclose(b.patch_statistics(patches)[:, :3], patches.mean(1), rtol=1e-5)


def test_image_statistics():
    image = np.random.default_rng(0).integers(0, 255, (2, 6, 5)).astype(np.uint8)
    covered = np.ones((6, 5), bool)
    covered[:, 3:] = False
    full, part, none = (region(image=image), region(image=image, covered=covered), region())
    dark = region(image=image, covered=np.zeros((6, 5), bool))
    got = b.image_statistics([full, part, none, dark])
    assert got.shape == (4, 16)
    np.testing.assert_allclose(got[0, :2], image.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(got[1], b.image_statistics([region(image=image[:, :, :3])])[0], rtol=1e-5)
    assert not got[2:].any()
    steps = [abs(int(image[0, y, x]) - int(image[0, v, u])) for y in range(6) for x in range(5)
             for v, u in ((y + 1, x), (y, x + 1)) if v < 6 and u < 5]  # fmt: skip
    assert got[0, -2] == pytest.approx(np.mean(steps))
    with pytest.raises(DataError, match=r"one number of bands, got \[2, 3\]"):
        b.image_statistics([full, region(image=np.zeros((3, 2, 2)))])
    with pytest.raises(DataError, match="got none"):
        b.image_statistics([none])


def test_places_and_nothing():
    points = lonlat(lon=[0, 180, 20], lat=[90, 0, 10])
    assert b.location_harmonics(points).shape == (3, 441)
    assert b.nothing([region()] * 3).shape == (3, 0)
    assert b.side_by_side(np.zeros((3, 2)), np.ones((3, 1))).tolist() == [[0, 0, 1]] * 3


def town(x0):
    """A grid of tiles, one half woods and one half streets."""
    kinds = [[TREE] * 6, [ROAD] * 6]
    return [tile(x0 + x, 22000 + y, *kinds[x >= 5]) for x in range(10) for y in range(5)]


def test_hex2vec_finds_neighbours_alike():
    cities = [town(34000), town(40000)]
    vectors = hex2vec(cities, epochs=8)(town(50000))
    assert vectors.shape == (50, 50)
    woods, streets = vectors[0], vectors[-1]
    assert woods @ woods > 1 > woods @ streets
    np.testing.assert_array_equal(hex2vec(cities, epochs=1)(town(1)), hex2vec(cities, epochs=1)(town(1)))
    assert not np.array_equal(hex2vec(cities, epochs=1)(town(1)), hex2vec(cities, epochs=1, seed=1)(town(1)))


def test_strangers_are_more_than_two_steps_away():
    tiles = town(34000)
    near = _within_two(touching(tiles), len(tiles))
    anchor = np.repeat(np.arange(len(tiles)), 20)
    drawn = _strangers(anchor, near, len(tiles), np.random.default_rng(0))
    steps = np.abs(np.stack(np.divmod(anchor, 5)) - np.stack(np.divmod(drawn, 5))).max(0)
    assert steps[drawn >= 0].min() == 3
    assert (drawn >= 0).mean() > 0.95
    assert set(_strangers(np.zeros(3, int), [{0, 1}] * 2, 2, np.random.default_rng(0))) == {-1}


def test_hex2vec_needs_neighbours():
    with pytest.raises(DataError, match="no two do"):
        hex2vec([[tile(5, 5, TREE)], [tile(9, 9, TREE)], []])
    two = hex2vec([[tile(5, 5, TREE), tile(5, 6, ROAD)]], epochs=1)  # no strangers at all
    assert np.isfinite(two([tile(7, 7)])).all()
