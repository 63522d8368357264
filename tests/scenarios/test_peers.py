"""The optional rows: their displacement is in LPS millimetres on an oblique grid, and a missing package is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.shifted_pair import DIRECTION, shifted_pair

from benchmark.datasets.resampling import fill_unseen
from methods import checks
from methods.base import Grid, Pair, Scan
from methods.registry import create_method

PEERS = {"ants-syn": "antspyx", "greedy": "picsl-greedy", "convexadam": "convexAdam"}
OBLIQUE = Grid((48, 56, 40), (1.5, 1.0, 2.0), (12.0, -30.0, 5.0), DIRECTION)


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> str:
    """A peer that is installed; the others are skipped."""
    reason = create_method(request.param).unavailable("cpu")
    if reason:
        pytest.skip(reason)
    return request.param


def register(name: str, pair: Pair, **settings: object) -> np.ndarray:
    method = create_method(name, settings)
    method.prepare("cpu", 1, 0)
    registration = method.register(pair)
    registration.check(pair.grid)
    return registration.displacement_mm


def middle(displacement_mm: np.ndarray) -> np.ndarray:
    """The median displacement in the middle of the volume, (3,), mm."""
    return np.median(displacement_mm[12:-12, 12:-12, 10:-10].reshape(-1, 3), axis=0)


def test_a_shift_is_found_in_lps_millimetres_on_an_oblique_anisotropic_grid(peer: str) -> None:
    """Voxels (1, -2, 1.5) along z, y, x are millimetres (2.25, -2, 2) along the grid's x, y, z axes.

    The tolerance is less than a voxel; a wrong axis or sign would be an error of 2 mm or more.
    """
    expected = OBLIQUE.matrix @ np.array([1.5 * 1.5, -2.0 * 1.0, 1.0 * 2.0])
    np.testing.assert_allclose(middle(register(peer, shifted_pair(OBLIQUE, (1.0, -2.0, 1.5)))), expected, atol=0.8)


def test_a_scan_of_limited_view_is_registered(peer: str) -> None:
    pair = shifted_pair(OBLIQUE, (1.0, -2.0, 1.5))
    inside = np.zeros(OBLIQUE.shape, bool)
    inside[:, 6:-6, 4:-4] = True
    scans = [replace(scan, image=fill_unseen(scan.image, inside), inside=inside) for scan in (pair.fixed, pair.moving)]
    expected = OBLIQUE.matrix @ np.array([1.5 * 1.5, -2.0 * 1.0, 1.0 * 2.0])
    np.testing.assert_allclose(middle(register(peer, Pair("p", *scans))), expected, atol=0.8)


@pytest.mark.parametrize("name", ["ants-syn", "greedy"])
def test_a_rigid_start_is_part_of_the_displacement_and_reproducible(name: str) -> None:
    if reason := create_method(name).unavailable("cpu"):
        pytest.skip(reason)
    expected = OBLIQUE.matrix @ np.array([2.25, -2.0, 2.0])
    displacements = [register(name, shifted_pair(OBLIQUE, (1.0, -2.0, 1.5)), rigid=True) for _ in range(2)]
    np.testing.assert_allclose(middle(displacements[0]), expected, atol=0.8)
    assert np.array_equal(*displacements)


def test_the_same_pair_gives_the_same_displacement(peer: str) -> None:
    pair = shifted_pair(Grid((32, 40, 36)), (0.5, 1.0, 0.5))
    assert np.array_equal(register(peer, pair), register(peer, pair))


def test_an_image_of_one_value_is_refused(peer: str) -> None:
    pair = shifted_pair(Grid((32, 40, 36)), (0.0, 1.0, 0.0))
    flat = Scan(np.full(pair.grid.shape, 0.5, np.float32), None, pair.grid)
    with pytest.raises(ValueError, match=r"the fixed image has one value everywhere, 0\.5"):
        register(peer, Pair("p", flat, pair.moving))


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_package_makes_the_row_unavailable_and_names_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(package: str) -> str:
        raise checks.PackageNotFoundError(package)

    monkeypatch.setattr(checks, "version", absent)
    expected = f"{PEERS[name]} is not installed; pip install 'rigidbench[peers]' (in a checkout: .venv/bin/pip)"
    assert create_method(name).unavailable("cpu") == expected
