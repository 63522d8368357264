"""Random changes of a sample: reproducible, consistent between images and labels, and limited to what they claim."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.voxelmorph import augmentation
from methods.voxelmorph.augmentation import (
    augment,
    ct_appearance,
    deformed,
    mr_appearance,
    narrow_view,
    with_random_curve,
    with_swapped_axes,
)
from methods.voxelmorph.samples import Sample, make_sample
from methods.voxelmorph.settings import Training
from metrics.label_warping import warp_labels

SETTINGS = Training(shrink_factor=1, patch=(16, 32, 32))


@pytest.fixture
def sample(learner: ModuleType) -> Sample:
    return make_sample(learner.block_case(0).pair, 1)


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_the_appearance_changes_only_the_networks_input(sample: Sample) -> None:
    plain = replace(SETTINGS, appearance=False)
    for index in range(6):
        shown, cropped = augment(sample, SETTINGS, 0, index), augment(sample, plain, 0, index)
        assert cropped.network_input is None and shown.network_input is not None
        for name in ("moving", "fixed", "labels"):
            assert torch.equal(getattr(shown, name), getattr(cropped, name)), "the same flip and crop"
        assert all(a.shape == b.shape for a, b in zip(shown.network_input, (shown.moving, shown.fixed), strict=True))
        assert not torch.equal(shown.network_input[1], shown.fixed)


def test_seed_and_number_determine_a_sample(sample: Sample) -> None:
    def network_input(seed: int, index: int) -> torch.Tensor:
        shown = augment(sample, SETTINGS, seed, index).network_input
        assert shown is not None
        return torch.cat(shown)

    assert torch.equal(network_input(0, 3), network_input(0, 3))
    assert not torch.equal(network_input(0, 3), network_input(0, 4)) and not torch.equal(
        network_input(0, 3), network_input(1, 3)
    )


def test_a_flip_changes_images_and_labels_alike(sample: Sample) -> None:
    whole = replace(SETTINGS, patch=None, appearance=False)
    flipped = next(
        a for a in (augment(sample, whole, 0, s) for s in range(20)) if not torch.equal(a.fixed, sample.fixed)
    )
    for name in ("moving", "fixed", "labels"):
        assert torch.equal(getattr(flipped, name), getattr(sample, name).flip(-1))


def test_another_anatomy_deforms_images_and_labels_alike_and_varies(sample: Sample) -> None:
    bone = (sample.labels > 0).float()[None, None]
    body = replace(sample, moving=bone, fixed=bone)
    sizes = []
    for seed in range(30):
        other = deformed(body, rng(seed))
        assert torch.equal(other.moving, other.fixed), "corresponding voxels still correspond"
        certain = (other.moving < 0.01) | (other.moving > 0.99)
        assert torch.equal((other.labels > 0)[certain[0, 0]], (other.moving > 0.5)[0, 0][certain[0, 0]])
        assert set(other.centres) <= set(sample.centres) and other.labels.dtype == sample.labels.dtype
        for v, centre in other.centres.items():
            expected = (other.labels == v).nonzero().float().mean(0)
            assert torch.allclose(torch.tensor(centre), expected)
        sizes.append(int((other.labels > 0).sum()))
    assert min(sizes) < 0.9 * int(bone.sum()) < 1.1 * int(bone.sum()) < max(sizes)


def test_another_motion_moves_only_the_moving_image_and_its_labels_and_keeps_volumes(sample: Sample) -> None:
    bone = F.pad((sample.labels > 0).float(), [20] * 6)[None, None]  # nothing leaves the image
    labels = F.pad(sample.labels, [20] * 6)
    still = replace(sample, moving=bone, fixed=bone.clone(), labels=labels)
    shifts = []
    for seed in range(12):
        other = deformed(still, rng(seed), anatomy=False, motion=True)
        assert torch.equal(other.fixed, still.fixed)
        certain = (other.moving < 0.01) | (other.moving > 0.99)
        assert torch.equal((other.labels > 0)[certain[0, 0]], (other.moving > 0.5)[0, 0][certain[0, 0]])
        assert other.moving.sum().item() == pytest.approx(bone.sum().item(), rel=0.02)
        shifts += [np.subtract(other.centres[v], (labels == v).nonzero().float().mean(0)) for v in sample.centres]
    spread = np.std(shifts, axis=0) * sample.spacing_mm
    assert (spread > 1.5).all() and (spread < 6).all(), "millimetres along every axis"


def test_a_motion_by_a_part_of_a_voxel_moves_labels_as_the_image(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = np.zeros((1, 3, *sample.labels.shape), np.float32)
    shift[:, 2] = 0.5
    monkeypatch.setattr(augmentation, "motion_field", lambda *_: shift)
    moved = deformed(sample, rng(0), anatomy=False, motion=True)
    assert torch.equal(moved.labels, warp_labels(sample.labels, torch.from_numpy(shift), [20]))
    assert moved.labels.sum() < sample.labels.sum()


def test_the_anatomy_is_applied_after_the_motion(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """A motion of one voxel along z shifts the deformed image by one voxel: it is read at p + 1 + anatomy(p + 1)."""
    one = np.zeros((1, 3, *sample.labels.shape), np.float32)
    one[:, 0] = 1
    monkeypatch.setattr(augmentation, "motion_field", lambda shape, spacing_mm, rng: one)
    for seed in range(4):
        body, both = (deformed(sample, rng(seed), motion=motion) for motion in (False, True))
        assert torch.equal(body.fixed, both.fixed)
        assert torch.allclose(both.moving[:, :, :-1], body.moving[:, :, 1:], atol=1e-5)
        assert torch.equal(both.labels[:-1], body.labels[1:])


def test_swapped_axes_apply_to_images_labels_spacing_and_centres(sample: Sample) -> None:
    numbered = torch.arange(sample.labels.numel()).reshape(sample.labels.shape)
    upright = replace(
        sample, moving=numbered[None, None].float(), fixed=-numbered[None, None].float(), spacing_mm=(3.0, 2.0, 1.0),
        labels=numbered.int(), centres={20: (4.0, 5.0, 6.0)},
    )  # fmt: skip
    seen = {}
    for seed in range(40):
        other = with_swapped_axes(upright, rng(seed))
        assert torch.equal(other.moving[0, 0], other.labels.float()) and torch.equal(other.moving, -other.fixed)
        seen[other.spacing_mm] = seen.get(other.spacing_mm, 0) + 1
        at = tuple(int(c) for c in other.centres[20])
        assert other.labels[at] == numbered[4, 5, 6]
    assert set(seen) == {(3.0, 2.0, 1.0), (2.0, 3.0, 1.0), (1.0, 2.0, 3.0)} and 12 < seen[3.0, 2.0, 1.0] < 28


def test_axes_are_swapped_with_another_anatomy_only(sample: Sample) -> None:
    upright = replace(sample, spacing_mm=(3.0, 2.0, 1.0))
    whole = replace(SETTINGS, patch=None)

    def spacings(settings: Training) -> set[tuple[float, ...]]:
        return {augment(upright, settings, 0, index).spacing_mm for index in range(16)}

    assert spacings(replace(whole, anatomy=True)) == {(3.0, 2.0, 1.0), (2.0, 3.0, 1.0), (1.0, 2.0, 3.0)}
    assert spacings(replace(whole, motion=True)) == {(3.0, 2.0, 1.0)}


def test_an_unselected_anatomy_draws_no_random_numbers(sample: Sample) -> None:
    """The first number after the flip's is the appearance's first."""
    whole = replace(SETTINGS, patch=None)
    for index in range(4):
        draws = np.random.Generator(np.random.PCG64([0, 1, index]))
        moving = sample.moving.flip(-1) if draws.random() < 0.5 else sample.moving
        shown = augment(sample, whole, 0, index).network_input
        assert shown is not None
        assert torch.equal(shown[0], narrow_view(ct_appearance(moving, draws), draws)[0])
        other = augment(sample, replace(whole, anatomy=True), 0, index)
        assert not torch.equal(other.moving, moving)


def test_a_random_curve_keeps_zero_and_the_range_and_depends_on_intensity_only() -> None:
    ramp = torch.linspace(0, 1, 256).reshape(1, 1, 4, 8, 8)
    not_monotone = 0
    for seed in range(40):
        curve = with_random_curve(ramp, rng(seed)).flatten()
        assert curve[0] == 0 and curve.min() >= 0 and curve.max() <= 1
        assert torch.equal(with_random_curve(ramp.flip(2), rng(seed)).flip(2).flatten(), curve)
        not_monotone += int((curve.diff() < -1e-6).any())
    assert 0 < not_monotone < 30, "half of the curves are mixed, and some of these are not monotone"


def test_a_narrow_view_contains_the_middle_and_continues_by_edge_values() -> None:
    image = torch.rand(1, 1, 24, 20, 16, generator=torch.Generator().manual_seed(0)) + 0.1
    shares = []
    for seed in range(60):
        shown, seen = narrow_view(image, rng(seed))
        if seen is None:
            assert torch.equal(shown, image)
            continue
        assert torch.equal(shown[seen], image[seen])
        assert seen[0, 0, 10:14, 9:11, 7:9].all(), "the middle stays"
        assert shown.min() >= 0.1, "no value is made up"
        shares.append(1 - seen.float().mean().item())
    assert 10 < len(shares) < 50 and 0.05 < max(shares) < 0.95


def test_an_upright_narrow_view_has_constant_values_beyond_its_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "VIEW_TURN_DEG", 0.0)
    image = torch.rand(1, 1, 24, 20, 16, generator=torch.Generator().manual_seed(0))
    compared = 0
    for seed in range(20):
        shown, seen = narrow_view(image, rng(seed))
        if seen is None:
            continue
        last = int(seen[0, 0].nonzero()[:, 0].max())
        beyond = shown[0, 0, last + 1 :]
        assert torch.allclose(beyond, beyond[:1].expand_as(beyond), atol=1e-4)
        compared += len(beyond)
    assert compared > 10


def test_what_a_sample_did_not_see_follows_flips_crops_and_motion(sample: Sample) -> None:
    levels = sample.moving.median(), sample.fixed.median()
    masked = replace(sample, moving_inside=sample.moving > levels[0], fixed_inside=sample.fixed > levels[1])
    plain = replace(SETTINGS, appearance=False)
    for index in range(6):
        changed = augment(masked, plain, 0, index)
        assert changed.moving_inside is not None and torch.equal(changed.moving_inside, changed.moving > levels[0])
        assert changed.fixed_inside is not None and torch.equal(changed.fixed_inside, changed.fixed > levels[1])
    moved = deformed(sample, rng(0), anatomy=False, motion=True)
    assert moved.moving_inside is not None and not moved.moving_inside.all(), "the border's values are not seen"
    assert moved.fixed_inside is None


def test_a_ct_keeps_its_mean_intensity(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.full((1, 1, 32, 32, 32), 0.35)
    for seed in range(10):
        shown = ct_appearance(image, rng(seed))
        assert shown.mean().item() == pytest.approx(0.35, abs=5e-4)
        assert shown.std().item() <= augmentation.CT_NOISE * 1.05


def test_an_mr_stays_finite_and_of_the_same_magnitude() -> None:
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    for seed in range(20):
        shown = mr_appearance(image, rng(seed))
        assert shown.isfinite().all() and shown.abs().max() < 4
