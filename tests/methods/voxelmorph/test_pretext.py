"""The targets of reading: the phase along the spine, and the share of bone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from methods.voxelmorph.pretext import PERIOD_MM, bone_share, spine_phase, spine_position

PERIOD = 12


def column(vertebrae: int = 4, below: int = 6) -> torch.Tensor:
    """Cubes of 8 voxels a side on the z axis, 12 voxels apart, with `below` free voxels at both ends."""
    labels = torch.zeros(vertebrae * PERIOD - 4 + 2 * below, 24, 24, dtype=torch.int32)
    for i in range(vertebrae):
        start = below + PERIOD * i
        labels[start : start + 8, 8:16, 8:16] = 20 - i
    return labels


def test_phase_is_zero_at_the_middle_of_every_vertebra_and_half_a_turn_between() -> None:
    phase, weights = spine_phase(column(below=6))
    for i in range(4):
        # The middle lies between two voxels, each a twelfth of a turn from it.
        middle = (phase[:, 4 + 6 * i, 6, 6] + phase[:, 5 + 6 * i, 6, 6]) / 2
        torch.testing.assert_close(middle, torch.tensor([0.0, math.cos(2 * math.pi / PERIOD)]), atol=0.03, rtol=0)
    between = (phase[:, 7, 6, 6] + phase[:, 8, 6, 6]) / 2
    torch.testing.assert_close(between, torch.tensor([0.0, -math.cos(2 * math.pi / PERIOD)]), atol=0.03, rtol=0)
    assert weights[0, 4, 6, 6] == 1


def test_sine_grows_upwards_through_the_middle() -> None:
    phase, _ = spine_phase(column())
    assert phase[0, 3, 6, 6] < 0 < phase[0, 6, 6, 6]


def test_phase_does_not_depend_on_the_names_of_levels() -> None:
    labels = column()
    renamed = torch.where(labels > 0, 40 - labels, 0)
    for a, b in zip(spine_phase(labels), spine_phase(renamed), strict=True):
        torch.testing.assert_close(a, b)


def test_phase_follows_a_tilted_spine() -> None:
    labels = F.pad(column(), (0, 0, 0, 16))
    tilted = torch.stack([s.roll(z // 4, dims=0) for z, s in enumerate(labels)])
    phase, _ = spine_phase(tilted)
    # On a plane across the tilted axis the phase is constant: 4 voxels up for 1 to the front.
    assert phase[0, 13, 10, 6] == pytest.approx(float(phase[0, 14, 6, 6]), abs=0.12)


def test_weights_are_zero_far_from_bone_and_beyond_the_last_vertebra() -> None:
    _, weights = spine_phase(column(below=16))
    assert weights[0, 10, 6, 0] == 0
    assert weights[0, 0].max() == 0
    assert set(weights.unique().tolist()) == {0.0, 1.0}


def test_a_vertebra_that_an_end_of_the_volume_cuts_has_no_target() -> None:
    labels = column(below=6)[8:]
    _, weights = spine_phase(labels)
    assert weights[0, :2].max() == 0 < weights[0, 8, 6, 6]


@pytest.mark.parametrize("vertebrae", [0, 1])
def test_fewer_than_two_vertebrae_give_no_target(vertebrae: int) -> None:
    labels = column(1) * vertebrae
    phase, weights = spine_phase(labels)
    assert phase.shape == (2, *(n // 2 for n in labels.shape))
    assert weights.max() == 0


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels: expected even sizes, got \(9, 8, 8\); pad first"):
        spine_phase(torch.zeros(9, 8, 8, dtype=torch.int32))


def test_bone_share_is_the_share_of_labelled_voxels() -> None:
    labels = torch.zeros(4, 4, 4, dtype=torch.int32)
    labels[0, :2, :2] = 7
    share = bone_share(labels)
    assert share.shape == (1, 2, 2, 2)
    assert share[0, 0, 0, 0] == 0.5
    assert share.sum() == 0.5


def test_the_position_across_is_zero_on_the_spine_and_turns_once_in_32_mm() -> None:
    labels = column()
    position, weights = spine_position(labels, (2.0, 1.0, 2.0))
    phase, same = spine_phase(labels)
    assert torch.equal(position[:2], phase)
    assert torch.equal(weights, same)
    # The centroid lies at 11.5, between the voxels 5 and 6 of the half resolution, half a voxel of it from both.
    for axis, sine, spacing in ((0, 2, 1.0), (1, 4, 2.0)):
        for offset in (-2, 0, 3):
            voxel = [6, 6]
            voxel[axis] += offset
            turn = 2 * math.pi * (2 * offset + 1) * spacing / PERIOD_MM
            found = position[sine : sine + 2, 10, voxel[0], voxel[1]]
            torch.testing.assert_close(found, torch.tensor([math.sin(turn), math.cos(turn)]), atol=1e-3, rtol=0)


def test_the_position_across_follows_a_bent_spine() -> None:
    labels = F.pad(column(), (0, 0, 0, 16))
    tilted = torch.stack([s.roll(z // 4, dims=0) for z, s in enumerate(labels)])
    position, _ = spine_position(tilted, (2.0, 2.0, 2.0))
    assert position[2, 5, 6, 6] == pytest.approx(float(position[2, 21, 10, 6]), abs=0.12)
