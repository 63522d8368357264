"""What the network is shown of a patient in a training step, and what it must not change."""

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
    laid,
    mr_appearance,
    narrow_view,
    recoloured,
    reshaped,
)
from methods.voxelmorph.items import Sample, coarsen
from methods.voxelmorph.network import standardise
from methods.voxelmorph.settings import Training

SETTINGS = Training(coarsening=1, patch=(16, 32, 32))


@pytest.fixture
def item(learner: ModuleType) -> Sample:
    return coarsen(learner.block_case(0).pair, 1)


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_the_appearance_is_only_shown_and_the_crop_stays_as_it_is(item: Sample) -> None:
    plain = replace(SETTINGS, appearance=False)
    for sample in range(6):
        shown, cropped = augment(item, SETTINGS, 0, sample), augment(item, plain, 0, sample)
        assert cropped.shown is None and shown.shown is not None
        for name in ("moving", "fixed", "labels"):
            assert torch.equal(getattr(shown, name), getattr(cropped, name)), "the same flip and crop, untouched"
        assert all(a.shape == b.shape for a, b in zip(shown.shown, (shown.moving, shown.fixed), strict=True))
        assert not torch.equal(shown.shown[1], shown.fixed)


def test_a_sample_is_always_the_same_and_another_one_is_not(item: Sample) -> None:
    def look(seed: int, sample: int) -> torch.Tensor:
        shown = augment(item, SETTINGS, seed, sample).shown
        assert shown is not None
        return torch.cat(shown)

    assert torch.equal(look(0, 3), look(0, 3))
    assert not torch.equal(look(0, 3), look(0, 4)) and not torch.equal(look(0, 3), look(1, 3))


def test_a_flip_turns_labels_and_images_together(item: Sample) -> None:
    whole = replace(SETTINGS, patch=None, appearance=False)
    flipped = next(a for a in (augment(item, whole, 0, s) for s in range(20)) if not torch.equal(a.fixed, item.fixed))
    for name in ("moving", "fixed", "labels"):
        assert torch.equal(getattr(flipped, name), getattr(item, name).flip(-1))


def test_another_body_is_the_same_for_images_and_labels_and_differs_from_sample_to_sample(item: Sample) -> None:
    bone = (item.labels > 0).float()[None, None]
    body = replace(item, moving=bone, fixed=bone)
    sizes = []
    for seed in range(30):
        other = reshaped(body, rng(seed))
        assert torch.equal(other.moving, other.fixed), "what lay at one place still does"
        sure = (other.moving < 0.01) | (other.moving > 0.99)
        assert torch.equal((other.labels > 0)[sure[0, 0]], (other.moving > 0.5)[0, 0][sure[0, 0]])
        assert set(other.centres) <= set(item.centres) and other.labels.dtype == item.labels.dtype
        for v, centre in other.centres.items():
            expected = (other.labels == v).nonzero().float().mean(0)
            assert torch.allclose(torch.tensor(centre), expected)
        sizes.append(int((other.labels > 0).sum()))
    assert min(sizes) < 0.9 * int(bone.sum()) < 1.1 * int(bone.sum()) < max(sizes)


def test_another_motion_moves_the_moving_image_and_its_labels_alone_and_keeps_volumes(item: Sample) -> None:
    bone = F.pad((item.labels > 0).float(), [20] * 6)[None, None]  # nothing leaves the image
    labels = F.pad(item.labels, [20] * 6)
    still = replace(item, moving=bone, fixed=bone.clone(), labels=labels)
    shifts = []
    for seed in range(12):
        other = reshaped(still, rng(seed), anatomy=False, motion=True)
        assert torch.equal(other.fixed, still.fixed)
        sure = (other.moving < 0.01) | (other.moving > 0.99)
        assert torch.equal((other.labels > 0)[sure[0, 0]], (other.moving > 0.5)[0, 0][sure[0, 0]])
        assert other.moving.sum().item() == pytest.approx(bone.sum().item(), rel=0.02)
        shifts += [np.subtract(other.centres[v], (labels == v).nonzero().float().mean(0)) for v in item.centres]
    spread = np.std(shifts, axis=0) * item.spacing_mm
    assert (spread > 1.5).all() and (spread < 6).all(), "millimetres along every axis"


def test_a_motion_is_rigid_but_for_a_curve_along_the_spine() -> None:
    """Without the curve distances do not change; with it, each axial slice is shifted within its plane as a whole."""
    shape, spacing = (40, 12, 10), (4.0, 2.0, 3.0)
    for seed in range(5):
        u = augmentation._other_motion(shape, spacing, rng(seed))[0] * np.array(spacing)[:, None, None, None]
        middle = u.mean((2, 3))
        within = u - middle[:, :, None, None]
        assert np.allclose(within, within[:, :1], atol=1e-4), "every slice is turned alike"
        lengths = [np.linalg.norm(u[:, 0, -1, 0] - u[:, 0, 0, 0] + [0, 11 * 2.0, 0]),
                   np.linalg.norm(u[:, 0, 0, -1] - u[:, 0, 0, 0] + [0, 0, 9 * 3.0])]  # fmt: skip
        assert lengths == pytest.approx([22.0, 27.0], rel=1e-4)
        assert np.allclose(np.diff(middle[0]), np.diff(middle[0])[0], atol=1e-4), "no curve along the axis itself"
        assert abs(np.diff(middle[1], 2)).max() > 1e-4


def test_body_and_motion_together_are_one_after_the_other(item: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """A motion of a voxel along z, then the body's: the image at p + 1 + body(p + 1)."""
    one = np.zeros((1, 3, *item.labels.shape), np.float32)
    one[:, 0] = 1
    monkeypatch.setattr(augmentation, "_other_motion", lambda shape, spacing_mm, rng: one)
    for seed in range(4):
        body, both = (reshaped(item, rng(seed), motion=motion) for motion in (False, True))
        assert torch.equal(body.fixed, both.fixed)
        assert torch.allclose(both.moving[:, :, :-1], body.moving[:, :, 1:], atol=1e-5)
        assert torch.equal(both.labels[:-1], body.labels[1:])


def test_a_spine_laid_along_another_axis_has_everything_exchanged(item: Sample) -> None:
    numbered = torch.arange(item.labels.numel()).reshape(item.labels.shape)
    upright = replace(
        item, moving=numbered[None, None].float(), fixed=-numbered[None, None].float(), spacing_mm=(3.0, 2.0, 1.0),
        labels=numbered.int(), centres={20: (4.0, 5.0, 6.0)},
    )  # fmt: skip
    seen = {}
    for seed in range(40):
        other = laid(upright, rng(seed))
        assert torch.equal(other.moving[0, 0], other.labels.float()) and torch.equal(other.moving, -other.fixed)
        seen[other.spacing_mm] = seen.get(other.spacing_mm, 0) + 1
        at = tuple(int(c) for c in other.centres[20])
        assert other.labels[at] == numbered[4, 5, 6]
    assert set(seen) == {(3.0, 2.0, 1.0), (2.0, 3.0, 1.0), (1.0, 2.0, 3.0)} and 12 < seen[3.0, 2.0, 1.0] < 28


def test_other_bodies_lie_along_other_axes_and_others_do_not(item: Sample) -> None:
    upright = replace(item, spacing_mm=(3.0, 2.0, 1.0))
    whole = replace(SETTINGS, patch=None)

    def spacings(settings: Training) -> set[tuple[float, ...]]:
        return {augment(upright, settings, 0, sample).spacing_mm for sample in range(16)}

    assert spacings(replace(whole, anatomy=True)) == {(3.0, 2.0, 1.0), (2.0, 3.0, 1.0), (1.0, 2.0, 3.0)}
    assert spacings(replace(whole, motion=True)) == {(3.0, 2.0, 1.0)}


def test_without_another_body_nothing_is_drawn_for_it(item: Sample) -> None:
    """After the draw for the flip comes the appearance's first."""
    whole = replace(SETTINGS, patch=None)
    for sample in range(4):
        draws = np.random.Generator(np.random.PCG64([0, 1, sample]))
        moving = item.moving.flip(-1) if draws.random() < 0.5 else item.moving
        shown = augment(item, whole, 0, sample).shown
        assert shown is not None
        assert torch.equal(shown[0], narrow_view(ct_appearance(moving, draws), draws)[0])
        other = augment(item, replace(whole, anatomy=True), 0, sample)
        assert not torch.equal(other.moving, moving)


def test_a_recoloured_image_keeps_black_and_its_range_and_depends_on_the_grey_value_alone() -> None:
    ramp = torch.linspace(0, 1, 256).reshape(1, 1, 4, 8, 8)
    disordered = 0
    for seed in range(40):
        curve = recoloured(ramp, rng(seed)).flatten()
        assert curve[0] == 0 and curve.min() >= 0 and curve.max() <= 1
        assert torch.equal(recoloured(ramp.flip(2), rng(seed)).flip(2).flatten(), curve)
        disordered += int((curve.diff() < -1e-6).any())
    assert 0 < disordered < 30, "half of them mixed, and of these some not monotone"


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


def test_what_a_sample_did_not_see_follows_flips_crops_and_motion(item: Sample) -> None:
    levels = item.moving.median(), item.fixed.median()
    masked = replace(item, moving_inside=item.moving > levels[0], fixed_inside=item.fixed > levels[1])
    plain = replace(SETTINGS, appearance=False)
    for sample in range(6):
        changed = augment(masked, plain, 0, sample)
        assert changed.moving_inside is not None and torch.equal(changed.moving_inside, changed.moving > levels[0])
        assert changed.fixed_inside is not None and torch.equal(changed.fixed_inside, changed.fixed > levels[1])
    moved = reshaped(item, rng(0), anatomy=False, motion=True)
    assert moved.moving_inside is not None and not moved.moving_inside.all(), "the border's values are not seen"
    assert moved.fixed_inside is None


def test_a_ct_keeps_its_hounsfield_units() -> None:
    image = torch.full((1, 1, 32, 32, 32), 0.35)
    for seed in range(10):
        shown = ct_appearance(image, rng(seed))
        assert shown.mean().item() == pytest.approx(0.35, abs=5e-4)
        assert shown.std().item() <= augmentation.CT_NOISE * 1.05


def test_an_mr_is_finite_and_about_as_large_as_it_was() -> None:
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    for seed in range(20):
        shown = mr_appearance(image, rng(seed))
        assert shown.isfinite().all() and shown.abs().max() < 4


def test_standardised_tissue_does_not_depend_on_how_much_air_surrounds_it() -> None:
    """64 voxels of 0.2 and 64 of 0.6 have mean 0.4 and SD 0.2, whatever lies around them."""
    tissue = torch.tensor([0.2, 0.6]).repeat_interleave(64).reshape(1, 1, 2, 8, 8)
    for air in (0.0, 0.01):
        for slices in (0, 2, 20):
            image = torch.cat([tissue, torch.full((1, 1, slices, 8, 8), air)], dim=2)
            mr = standardise(torch.zeros_like(image), image)[1]
            assert torch.allclose(mr[:, :, :2], (tissue - 0.4) / 0.2, atol=1e-5)


def test_standardised_tissue_does_not_depend_on_unseen_voxels() -> None:
    tissue = torch.tensor([0.2, 0.6]).repeat_interleave(64).reshape(1, 1, 2, 8, 8)
    image = torch.cat([tissue, torch.full((1, 1, 5, 8, 8), 0.9)], dim=2)
    seen = torch.zeros_like(image, dtype=torch.bool)
    seen[:, :, :2] = True
    mr = standardise(torch.zeros_like(image), image, seen)[1]
    assert torch.allclose(mr[:, :, :2], (tissue - 0.4) / 0.2, atol=1e-5)


def test_each_image_of_a_batch_is_standardised_by_itself_and_a_constant_one_is_zero() -> None:
    images = torch.stack([torch.rand(1, 4, 4, 4), torch.full((1, 4, 4, 4), 0.5), torch.zeros(1, 4, 4, 4)])
    mr = standardise(torch.zeros_like(images), images)[1]
    assert torch.equal(mr[:1], standardise(images[:1], images[:1])[1])
    assert (mr[1:] == 0).all()
