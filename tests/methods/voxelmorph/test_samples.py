"""Training patients as tensors: shrinking and caching."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from methods.voxelmorph.network import pad_to_multiple
from methods.voxelmorph.samples import Samples, make_sample, samples_of


def test_shrinking_keeps_the_mean_intensity_and_the_position_of_labels(learner: ModuleType) -> None:
    pair = learner.block_case(0).pair
    sample = make_sample(pair, 2)
    assert sample.moving.shape == (1, 1, 16, 16, 16) and sample.labels.shape == (16, 16, 16)
    assert sample.moving.mean().item() == pytest.approx(float(pair.moving.image.mean()), rel=1e-5)
    assert sample.labels[4:12, 4:12, 5:12].eq(20).all() and sample.labels.eq(20).sum() == 8 * 8 * 7
    padded = pad_to_multiple(torch.arange(17.0).view(1, 1, 17, 1, 1).expand(1, 1, 17, 16, 5))
    assert padded.shape == (1, 1, 32, 16, 16) and padded[0, 0, 16:].unique().tolist() == [16], (
        "padded with the last voxels, not with zeros"
    )


def test_samples_are_kept_up_to_the_memory_limit(learner: ModuleType) -> None:
    pairs = [learner.block_case(i).pair for i in range(2)]
    one_sample_gb = make_sample(pairs[0], 1).bytes / 2**30
    samples = Samples(pairs, 1, "cpu", 1.5 * one_sample_gb)
    assert samples[0] is samples[0] and samples[1] is not samples[1]
    torch.testing.assert_close(samples[1].moving, samples[1].moving)


def test_the_rows_of_one_command_share_their_samples(learner: ModuleType) -> None:
    pairs = [learner.block_case(0).pair]
    assert samples_of(pairs, 1, "cpu", 6.0) is samples_of(pairs, 1, "cpu", 6.0)
    assert samples_of(pairs, 1, "cpu", 6.0) is not samples_of(pairs, 2, "cpu", 6.0)
