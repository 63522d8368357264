"""`anatomix-convexadam` with a tiny random network, where convexAdam is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.shifted_pair import DIRECTION, shifted_pair

from methods.base import Grid, Method, Pair
from methods.checks import missing
from methods.peers.anatomix_network import AnatomixNetwork
from methods.peers.convexadam import PACKAGE
from methods.registry import create_method

OBLIQUE = Grid((36, 44, 40), (1.5, 1.0, 2.0), (12.0, -30.0, 5.0), DIRECTION)


def test_missing_weights_and_package_are_named_in_one_line() -> None:
    reason = create_method("anatomix-convexadam").unavailable("cpu")
    assert reason is not None and "\n" not in reason
    assert "download anatomix.pth (neel-dey/anatomix, folder model-weights)" in reason
    assert missing(PACKAGE) is None or "convexAdam is not installed; pip install 'rigidbench[anatomix]'" in reason


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose features are about as large as those of MIND."""
    torch.manual_seed(0)
    network = AnatomixNetwork(2, 4, 8)
    with torch.no_grad():
        network.model[-1].weight.mul_(300)
    file = tmp_path_factory.mktemp("weights") / "anatomix.pth"
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture
def row(weights: Path) -> Method:
    if reason := missing(PACKAGE):
        pytest.skip(reason)
    method = create_method("anatomix-convexadam", {"weights": weights, "iterations": 40})
    assert method.unavailable("cpu") is None
    method.prepare("cpu", 1, 0)
    return method


def same_contrast(pair: Pair) -> Pair:
    """Random features depend on contrast, unlike those that were learned."""
    return Pair(pair.case, replace(pair.fixed, image=(1 - pair.fixed.image).astype(np.float32)), pair.moving)


def test_a_shift_is_found_by_features_on_an_oblique_grid(row: Method) -> None:
    registration = row.register(same_contrast(shifted_pair(OBLIQUE, (1.0, -2.0, 1.5))))
    registration.check(OBLIQUE)
    found = np.median(registration.displacement_mm[10:-10, 10:-10, 10:-10].reshape(-1, 3), axis=0)
    np.testing.assert_allclose(found, OBLIQUE.matrix @ np.array([2.25, -2.0, 2.0]), atol=0.8)


def test_mind_is_computed_again_after_a_registration(row: Method) -> None:
    from convexAdam import convex_adam_MIND

    before = convex_adam_MIND.extract_features
    row.register(shifted_pair(OBLIQUE, (0.0, 1.0, 0.0)))
    assert convex_adam_MIND.extract_features is before


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    if reason := missing(PACKAGE):
        pytest.skip(reason)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    method = create_method("anatomix-convexadam", {"weights": tmp_path / "other.pth"})
    with pytest.raises(ValueError, match="expected the UNet of anatomix"):
        method.prepare("cpu", 1, 0)
