"""Optional peers: their fields in LPS millimetres on an awkward grid; without their package they say how to get it."""

from __future__ import annotations

import numpy as np
import pytest
from support.shifted_pair import DIRECTION, shifted_pair

from methods import checks
from methods.base import Grid, Pair, Scan
from methods.peers.greedy import GreedySettings
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
    return np.median(displacement_mm[12:-12, 12:-12, 10:-10].reshape(-1, 3), axis=0)


def test_a_shift_is_found_in_lps_millimetres_on_an_oblique_anisotropic_grid(peer: str) -> None:
    """Voxels (1, -2, 1.5) along z, y, x are millimetres (2.25, -2, 2) along the grid's x, y, z axes.

    To less than a voxel: an axis or a sign that is wrong would be 2 mm and more off.
    """
    expected = OBLIQUE.matrix @ np.array([1.5 * 1.5, -2.0 * 1.0, 1.0 * 2.0])
    np.testing.assert_allclose(middle(register(peer, shifted_pair(OBLIQUE, (1.0, -2.0, 1.5)))), expected, atol=0.8)


@pytest.mark.parametrize("name", ["ants-syn", "greedy"])
def test_with_a_rigid_start_the_two_are_one_field_and_the_same_each_time(name: str) -> None:
    if reason := create_method(name).unavailable("cpu"):
        pytest.skip(reason)
    expected = OBLIQUE.matrix @ np.array([2.25, -2.0, 2.0])
    found = [register(name, shifted_pair(OBLIQUE, (1.0, -2.0, 1.5)), rigid=True) for _ in range(2)]
    np.testing.assert_allclose(middle(found[0]), expected, atol=0.8)
    assert np.array_equal(*found)


def test_the_same_pair_gives_the_same_field(peer: str) -> None:
    pair = shifted_pair(Grid((32, 40, 36)), (0.5, 1.0, 0.5))
    assert np.array_equal(register(peer, pair), register(peer, pair))


def test_an_image_of_one_value_is_refused(peer: str) -> None:
    pair = shifted_pair(Grid((32, 40, 36)), (0.0, 1.0, 0.0))
    flat = Scan(np.full(pair.grid.shape, 0.5, np.float32), None, pair.grid)
    with pytest.raises(ValueError, match=r"the fixed image has one value everywhere, 0\.5"):
        register(peer, Pair("p", flat, pair.moving))


@pytest.mark.parametrize("name", PEERS)
def test_without_its_package_it_is_unavailable_and_says_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(package: str) -> str:
        raise checks.PackageNotFoundError(package)

    monkeypatch.setattr(checks, "version", absent)
    expected = f"{PEERS[name]} is not installed; pip install -e '.[peers]'"
    assert create_method(name).unavailable("cpu") == expected


def test_greedy_takes_no_other_words_into_its_command_line() -> None:
    assert GreedySettings(metric="NCC 4x4x4").metric == "NCC 4x4x4"
    for metric in ("SSD", "NMI -o elsewhere", "NCC 4x4"):
        with pytest.raises(ValueError, match="metric"):
            GreedySettings(metric=metric)
