"""Prediction of a displacement: on the pair's grid, in pieces and in bf16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.short_training import strong_network

from methods.base import Grid, Pair, Scan
from methods.voxelmorph.inference import REACH, for_inference, in_pieces, predict
from methods.voxelmorph.network import VelocityUNet


def test_the_prediction_is_on_the_pairs_grid_for_any_size() -> None:
    grid = Grid((21, 35, 18))
    image, labels = np.random.default_rng(0).random(grid.shape, np.float32), np.ones(grid.shape, np.uint16)
    pair = Pair("a", Scan(image, None, grid), Scan(image, labels, grid))
    assert predict(VelocityUNet(), pair, 2).shape == (1, 3, 21, 35, 18)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pieces_give_the_velocity_of_the_whole_volume(axis: int) -> None:
    sizes = [16, 16, 16]
    sizes[axis] = 240
    network, images = strong_network(), torch.rand(1, 2, *sizes)
    with torch.inference_mode():
        whole = in_pieces(network, images)
        pieces = in_pieces(network, images, largest=16 * 16 * 176)
        smallest = in_pieces(network, images, largest=1)
    assert whole.abs().mean() > 0.1
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(smallest, whole, rtol=1e-4, atol=1e-4)


def test_the_receptive_field_is_within_reach() -> None:
    images = torch.rand(1, 2, 16 * 12, 16, 16, requires_grad=True)
    for row in (48, 55):  # of the half resolution; a multiple of 16 voxels, and just before the next
        (gradient,) = torch.autograd.grad(strong_network().velocity_of(images)[:, :, row].abs().sum(), images)
        used = gradient.abs().amax(dim=(0, 1, 3, 4)).nonzero()[:, 0]
        assert 2 * row - used.min() <= REACH and used.max() - (2 * row + 1) <= REACH


def test_bf16_changes_the_displacement_by_less_than_5_percent() -> None:
    grid = Grid((32, 32, 32))
    image = np.random.default_rng(0).random((2, *grid.shape), np.float32)
    pair = Pair("a", Scan(image[0], None, grid), Scan(image[1], np.ones(grid.shape, np.uint16), grid))
    network = for_inference(strong_network())
    fp32, bf16 = (predict(network, pair, 1, precision=p) for p in ("fp32", "bf16"))
    assert fp32.norm(dim=1).mean() > 0.5
    assert 0 < (fp32 - bf16).norm(dim=1).mean() < 0.05 * fp32.norm(dim=1).mean()
