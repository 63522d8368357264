"""The measure of following: 1 for a displacement that moves with the CT, 0 for one that does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from methods.base import Grid, Pair, Scan
from methods.voxelmorph.following import follows, shifted

# x and y of the voxels are exchanged in space.
OBLIQUE = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((12, 14, 16), spacing_mm=(1.0, 2.0, 4.0), direction=OBLIQUE)


@pytest.fixture
def pair() -> Pair:
    labels = np.zeros(GRID.shape, np.uint16)
    labels[4:8, 5:9, 6:10] = 20
    image = (labels > 0).astype(np.float32)
    return Pair("a", Scan(image, None, GRID), Scan(image, labels, GRID, inside=image > 0))


def by_centroid(shares: tuple[float, float, float], pairs: Iterable[Pair]) -> Iterator[np.ndarray]:
    """Move every point by a share, for z, y and x, of the motion of the moving label's centroid, plus a constant."""
    for p in pairs:
        assert p.moving.labels is not None
        index = np.argwhere(p.moving.labels > 0).mean(0)
        along = (index - [5.5, 6.5, 7.5]) * GRID.spacing_mm[::-1] * shares
        field = np.empty((*GRID.shape, 3), np.float32)
        field[...] = GRID.matrix @ np.add(along[::-1], (1.0, 2.0, 3.0))
        yield field


def test_a_displacement_that_moves_with_the_ct_follows_by_one(pair: Pair) -> None:
    for shares in ((1.0, 1.0, 1.0), (0.0, 0.5, 2.0)):
        found = follows(lambda pairs, s=shares: by_centroid(s, pairs), [pair, pair])
        np.testing.assert_allclose(found, shares, atol=1e-5)


def test_more_shifts_fit_one_slope(pair: Pair) -> None:
    found = follows(lambda pairs: by_centroid((1.0, 0.5, 0.0), pairs), [pair], (-4.0, 0.0, 4.0, 8.0))
    np.testing.assert_allclose(found, (1.0, 0.5, 0.0), atol=1e-5)


def test_a_shift_below_a_voxel_is_one_voxel(pair: Pair) -> None:
    found = follows(lambda pairs: by_centroid((1.0, 1.0, 1.0), pairs), [pair], (-0.1, 0.1))
    np.testing.assert_allclose(found, 1.0, atol=1e-5)


def test_image_labels_and_view_are_shifted_alike(pair: Pair) -> None:
    moved = shifted(pair, 1, 2).moving
    assert moved.labels is not None and moved.inside is not None
    assert np.array_equal(moved.image > 0, moved.labels > 0) and np.array_equal(moved.inside, moved.labels > 0)
    assert np.argwhere(moved.labels > 0).min(0).tolist() == [4, 7, 6]
