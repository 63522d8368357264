"""Extreme pairs give a valid displacement or an error of one line. For elastix see tests/methods/elastix."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from methods.base import Grid, Pair, Scan
from methods.registry import create_method

ROWS = ("sitk-bspline", "polyrigid", "edt-interpolation", "ants-syn", "greedy", "convexadam")


def textured(shape: tuple[int, int, int], labelled: tuple[slice, slice, slice] | None) -> Pair:
    """Smooth texture in two contrasts on 1 mm voxels, and one box of label 21, or none."""
    texture = gaussian_filter(np.random.default_rng(0).random(shape), 1.5)
    texture = ((texture - texture.min()) / np.ptp(texture)).astype(np.float32)
    labels = np.zeros(shape, np.uint16)
    if labelled is not None:
        labels[labelled] = 21
    grid = Grid(shape)
    return Pair("edge", Scan(1 - 0.8 * texture, None, grid), Scan(texture, labels, grid))


def constant() -> Pair:
    """A pair whose fixed image has one value."""
    pair = textured((32, 36, 28), (slice(10, 22), slice(10, 26), slice(8, 20)))
    return Pair("edge", Scan(np.full(pair.grid.shape, 0.5, np.float32), None, pair.grid), pair.moving)


PAIRS = {
    "one vertebra": textured((32, 36, 28), (slice(10, 22), slice(10, 26), slice(8, 20))),
    "cut by the border": textured((32, 36, 28), (slice(22, 32), slice(10, 26), slice(8, 20))),
    "no label": textured((32, 36, 28), None),
    "smaller than a control point's distance": textured((5, 6, 7), (slice(2, 4), slice(2, 4), slice(2, 5))),
    "one value": constant(),
}
REFUSED = {
    ("no label", "polyrigid"): "the moving label map is empty",
    ("no label", "edt-interpolation"): "the moving label map is empty",
    ("smaller than a control point's distance", "polyrigid"): "shows none of the 1 labelled vertebrae",
    ("smaller than a control point's distance", "edt-interpolation"): "shows none of the 1 labelled vertebrae",
    **{("one value", row): "the fixed image has one value everywhere, 0.5" for row in ROWS},
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("row", ROWS)
def test_an_extreme_pair_gives_a_displacement_or_an_error_of_one_line(row: str, kind: str) -> None:
    method = create_method(row)
    if reason := method.unavailable("cpu"):
        pytest.skip(reason)
    method.prepare("cpu", 1, 0)
    if (kind, row) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[kind, row]) as caught:
            method.register(PAIRS[kind])
        assert "\n" not in str(caught.value)
    else:
        registration = method.register(PAIRS[kind])
        registration.check(PAIRS[kind].grid)
        assert np.abs(registration.displacement_mm).max() < 40
