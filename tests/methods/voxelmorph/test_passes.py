"""Several passes of a network: composed, and kept only where the images near the bones become more similar."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.base import Grid, Pair, Scan
from methods.voxelmorph import passes
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.passes import predict_in_passes

GRID = Grid((30, 32, 36))  # padded to multiples of 16 for the network
SHIFT = 4  # voxels of the CT along y


@pytest.fixture
def pair() -> Pair:
    """A CT whose points lie 4 voxels behind those of the fixed image, with a bone in the middle."""
    noise = torch.rand(1, 1, 10, 12, 12, generator=torch.Generator().manual_seed(0))
    fixed = F.interpolate(noise, GRID.shape, mode="trilinear")[0, 0].numpy()
    labels = np.zeros(GRID.shape, np.uint16)
    labels[10:20, 12:22, 12:24] = 20
    return Pair("a", Scan(fixed, None, GRID), Scan(np.roll(fixed, SHIFT, 1), labels, GRID))


def answers(monkeypatch: pytest.MonkeyPatch, *shifts: float) -> list[Pair]:
    """Let the passes predict these shifts along y; returns the pairs that they are given."""
    given: list[Pair] = []

    def predict(network: VelocityUNet, pair: Pair, *_: object) -> torch.Tensor:
        displacement = torch.zeros(1, 3, *GRID.shape)
        displacement[:, 1] = shifts[len(given)]
        given.append(pair)
        return displacement

    monkeypatch.setattr(passes, "predict", predict)
    return given


@pytest.mark.parametrize("shrink_factor", [1, 2])
def test_passes_that_bring_the_images_closer_are_composed(
    shrink_factor: int, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = answers(monkeypatch, 2.0, 1.5, 0.5)
    displacement, kept = predict_in_passes(VelocityUNet(), pair, 3, shrink_factor)
    assert kept == 3
    torch.testing.assert_close(displacement[:, 1], torch.full_like(displacement[:, 1], 4.0))
    inner = (slice(None), slice(8, -8))
    np.testing.assert_allclose(given[1].moving.image[inner], np.roll(pair.moving.image, -2, 1)[inner], atol=1e-6)
    assert given[1].fixed is pair.fixed


def test_a_pass_that_takes_the_images_apart_is_dropped_and_ends_the_series(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = answers(monkeypatch, 3.0, -3.0, 1.0)
    displacement, kept = predict_in_passes(VelocityUNet(), pair, 3, 1)
    assert kept == 1 and len(given) == 2
    assert displacement[:, 1].unique().tolist() == [3.0]


def test_one_pass_is_the_prediction_itself(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    given = answers(monkeypatch, 9.0)
    displacement, kept = predict_in_passes(VelocityUNet(), pair, 1, 1)
    assert kept == len(given) == 1
    assert displacement[:, 1].unique().tolist() == [9.0]


def test_images_far_from_bone_have_no_say(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the images agree without a displacement; near the bone they need one."""
    image = pair.fixed.image.copy()
    image[6:24, 4:30, 6:30] = pair.moving.image[6:24, 4:30, 6:30]
    mixed = Pair("a", pair.fixed, Scan(image, pair.moving.labels, GRID))
    answers(monkeypatch, 0.0, 4.0)
    assert predict_in_passes(VelocityUNet(), mixed, 2, 1)[1] == 2


def test_a_pair_that_no_scan_saw_near_the_bones_keeps_the_first_pass(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = np.zeros(GRID.shape, bool)
    inside[0] = True
    unseen = Pair("a", Scan(pair.fixed.image, None, GRID, inside=inside), pair.moving)
    answers(monkeypatch, 0.0, 4.0)
    assert predict_in_passes(VelocityUNet(), unseen, 2, 1)[1] == 1
