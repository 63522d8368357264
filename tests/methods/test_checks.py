"""Checks that several methods share."""

from __future__ import annotations

import numpy as np
import pytest

from methods.base import Grid, Pair, Scan
from methods.checks import missing, refuse_flat, refuse_unlabelled, version_of

GRID = Grid((2, 3, 4))
IMAGE = np.linspace(0, 1, 24, dtype=np.float32).reshape(GRID.shape)
FLAT = np.full(GRID.shape, 0.5, np.float32)


def pair_of(fixed: np.ndarray, moving: np.ndarray, label: int = 20) -> Pair:
    return Pair("anna", Scan(fixed, None, GRID), Scan(moving, np.full(GRID.shape, label, np.uint16), GRID))


def test_an_installed_package_is_not_missing() -> None:
    assert version_of("numpy") == np.__version__ and missing("numpy") is None


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    assert version_of("no-such-package") is None
    assert (
        missing("no-such-package")
        == "no-such-package is not installed; pip install no-such-package (in a checkout: .venv/bin/pip)"
    )
    assert (
        missing("no-such-package", "x[y]")
        == "no-such-package is not installed; pip install x[y] (in a checkout: .venv/bin/pip)"
    )


@pytest.mark.parametrize(("which", "pair"), [("fixed", pair_of(FLAT, IMAGE)), ("moving", pair_of(IMAGE, FLAT))])
def test_an_image_of_one_value_is_refused_by_name(which: str, pair: Pair) -> None:
    with pytest.raises(ValueError, match=rf"pair anna: the {which} image has one value everywhere, 0\.5"):
        refuse_flat(pair)


def test_images_that_vary_are_accepted() -> None:
    refuse_flat(pair_of(IMAGE, IMAGE))


def test_an_empty_label_map_is_refused_with_the_row_that_needs_it() -> None:
    refuse_unlabelled(pair_of(IMAGE, IMAGE), "polyrigid")
    with pytest.raises(ValueError, match="pair anna: the moving label map is empty; polyrigid needs"):
        refuse_unlabelled(pair_of(IMAGE, IMAGE, label=0), "polyrigid")
