"""Items whose displacement is known: it aligns the images that were made, and no fixed label is used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.voxelmorph import known_motion
from methods.voxelmorph.known_motion import CHANGES, KnownItem, draw_item, known_item
from methods.voxelmorph.network import upsampled
from methods.voxelmorph.random_fields import motion_field
from methods.voxelmorph.samples import Sample
from methods.voxelmorph.settings import Training
from methods.voxelmorph.stages import STAGES
from metrics.fields import warp

SHAPE = (64, 48, 48)
STAGE = replace(STAGES["compare"], patch=(32, 32, 32))
PLAIN = Training(appearance=False)


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def smooth_image(seed: int) -> torch.Tensor:
    noise = torch.from_numpy(rng(seed).random((1, 1, 11, 8, 8), dtype=np.float32))
    return F.interpolate(noise, SHAPE, mode="trilinear", align_corners=True)


@pytest.fixture
def sample() -> Sample:
    """A column of cubes in a smooth image, with 2 mm voxels; both images are the same."""
    labels = torch.zeros(SHAPE, dtype=torch.int32)
    centres = {}
    for i in range(4):
        labels[6 + 14 * i : 16 + 14 * i, 18:30, 18:30] = 20 - i
        centres[20 - i] = (10.5 + 14 * i, 23.5, 23.5)
    image = smooth_image(0)
    return Sample("anna", image, image, labels, (2.0, 2.0, 2.0), centres)


@pytest.fixture(autouse=True)
def _same_marrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, changes in CHANGES.items():
        monkeypatch.setitem(known_motion.CHANGES, kind, replace(changes, marrow=0.0, anatomy=1.0, moves=1.0))


def misalignment(item: KnownItem) -> tuple[float, float]:
    """Mean absolute difference of the images before and after the known displacement, away from the border."""
    inner = (..., slice(12, -12), slice(12, -12), slice(12, -12))
    warped = warp(item.sample.moving, upsampled(item.displacement), padding="border")
    differences = [(image - item.sample.fixed)[inner].abs().mean().item() for image in (item.sample.moving, warped)]
    return differences[0], differences[1]


@pytest.mark.parametrize("seed", range(4))
def test_the_displacement_of_a_moved_pair_aligns_it(sample: Sample, seed: int) -> None:
    before, after = misalignment(known_item(sample, "moved", rng(seed)))
    assert after < 0.12 * before


@pytest.mark.parametrize("seed", range(4))
def test_the_teachers_displacement_is_composed_with_anatomy_and_motion(sample: Sample, seed: int) -> None:
    teacher = torch.zeros(1, 3, *(n // 2 for n in SHAPE))
    teacher[:, 0], teacher[:, 1] = 2.0, -1.0
    teacher[:, 2] = torch.linspace(-1.0, 1.5, SHAPE[0] // 2).view(-1, 1, 1)
    pair = replace(sample, fixed=warp(sample.moving, upsampled(teacher), padding="border"))
    _, after = misalignment(known_item(pair, "taught", rng(seed), teacher))
    before, without = misalignment(known_item(pair, "taught", rng(seed), torch.zeros_like(teacher)))
    assert after < 0.2 * before
    assert after < 0.3 * without, "the teacher is used"


def test_an_unmoved_pair_has_the_teachers_displacement(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    still = replace(CHANGES["taught"], anatomy=0.0, moves=0.0)
    monkeypatch.setitem(known_motion.CHANGES, "taught", still)
    teacher = torch.randn(1, 3, 32, 24, 24, generator=torch.Generator().manual_seed(0))
    mirrored = teacher.flip(-1) * torch.tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1, 1)
    found = [known_item(sample, "taught", rng(seed), teacher).displacement for seed in range(8)]
    kinds = {next(i for i, t in enumerate((teacher, mirrored)) if torch.allclose(t, u, atol=1e-5)) for u in found}
    assert kinds == {0, 1}, "as it is, or with left and right exchanged"


def test_a_synthetic_mr_is_made_from_the_ct_alone(sample: Sample) -> None:
    other = replace(sample, fixed=torch.full_like(sample.fixed, torch.nan), fixed_inside=torch.zeros(1, 1, *SHAPE) > 0)
    for seed in range(3):
        items = [known_item(s, "synthetic", rng(seed)) for s in (sample, other)]
        assert torch.equal(items[0].sample.fixed, items[1].sample.fixed)
        assert items[1].sample.fixed_inside is None or items[1].sample.fixed_inside.any()


def test_positions_and_bone_of_a_real_mr_have_no_weight(sample: Sample) -> None:
    made, real = (known_item(sample, kind, rng(0)).reading_weight for kind in ("synthetic", "moved"))
    assert made.shape == real.shape == (1, 14, 32, 24, 24)
    assert made[:, 7:].amax((0, 2, 3, 4)).min() > 0
    assert real[:, 7:].max() == 0 < real[:, :7].amax((0, 2, 3, 4)).min()


def test_the_weight_is_largest_at_fixed_bones(sample: Sample) -> None:
    item = known_item(sample, "moved", rng(1))
    labels = (item.sample.labels > 0).float()[None, None]
    fixed_bone = F.avg_pool3d(warp(labels, upsampled(item.displacement)), 2)
    assert item.weight[fixed_bone > 0.9].min() > 0.8
    assert item.weight.min().item() == pytest.approx(0.02)
    assert item.weight.max() <= 1 + 1e-6


def test_a_patch_is_a_part_of_the_whole_item(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images warped in the patch alone equal the same part of the whole volume, for the same motion."""
    monkeypatch.setattr(known_motion, "motion_field", lambda *arguments: motion_field(*arguments[:4]))
    for seed in range(4):
        whole = known_item(sample, "moved", rng(seed))
        part = known_item(sample, "moved", rng(seed), stage=replace(STAGE, ends=0.0))
        found = [
            (z, y, x)
            for z in range(17) for y in range(9) for x in range(9)
            if torch.equal(whole.displacement[:, :, z : z + 16, y : y + 16, x : x + 16], part.displacement)
        ]  # fmt: skip
        assert len(found) == 1
        z, y, x = found[0]
        full = tuple(slice(2 * s, 2 * s + 32) for s in (z, y, x))
        for name in ("moving", "fixed"):
            expected = getattr(whole.sample, name)[(..., *full)]
            torch.testing.assert_close(getattr(part.sample, name), expected, atol=1e-5, rtol=0)
        # A voxel that lies halfway between two labels gets either by rounding.
        assert (part.sample.labels != whole.sample.labels[full]).sum() <= 1


def test_seed_stage_and_number_determine_an_item(sample: Sample) -> None:
    def drawn(seed: int, number: int, index: int) -> torch.Tensor:
        item = draw_item(lambda _: sample, no_teacher, 1, STAGE, number, Training(), seed, index)
        assert item.sample.network_input is not None
        return torch.cat([*item.sample.network_input, item.displacement.mean((1, 2, 3, 4)).view(1, 1, 1, 1, 1).expand(
            1, 1, 32, 32, 32)])  # fmt: skip

    first = drawn(0, 1, 3)
    assert torch.equal(first, drawn(0, 1, 3))
    for other in (drawn(1, 1, 3), drawn(0, 2, 3), drawn(0, 1, 4)):
        assert not torch.equal(first, other)


def no_teacher(patient: int) -> torch.Tensor:
    raise AssertionError(f"a teacher was asked for patient {patient}")


def test_a_stage_draws_its_kinds_of_items_and_every_patient(sample: Sample) -> None:
    asked: list[int] = []

    def sample_of(patient: int) -> Sample:
        asked.append(patient)
        return sample

    stage = replace(STAGE, items={"taught": 1.0})
    draw_item(sample_of, lambda _: torch.zeros(1, 3, 32, 24, 24), 3, stage, 0, PLAIN, 0, 0)
    for index in range(1, 3):
        draw_item(sample_of, no_teacher, 3, STAGE, 0, PLAIN, 0, index)
    assert sorted(asked) == [0, 1, 2]


def test_nothing_is_read_or_compared_where_an_image_shows_nothing(sample: Sample) -> None:
    seen = {"both": 0, "less": 0}
    for index in range(8):
        item = draw_item(lambda _: sample, no_teacher, 1, STAGE, 1, Training(), 0, index)
        masks = (item.sample.network_moving_inside, item.sample.network_inside)
        for channels, mask in zip((slice(0, 7), slice(7, 14)), masks, strict=True):
            hidden = torch.zeros(1, 1, 16, 16, 16) if mask is None else 1 - F.avg_pool3d(mask.float(), 2)
            assert item.reading_weight[:, channels][:, :, hidden[0, 0] > 0.5].sum() == 0
            seen["less" if hidden.any() else "both"] += 1
        if masks[1] is not None:
            assert item.weight[F.avg_pool3d(masks[1].float(), 2) == 0].max().item() == pytest.approx(0.02)
    assert min(seen.values()) > 0, "images with and without a limited view were drawn"


def test_unseen_voxels_of_the_scans_have_no_weight_without_another_appearance(sample: Sample) -> None:
    inside = torch.ones(1, 1, *SHAPE, dtype=torch.bool)
    inside[..., 24:] = False
    cut = replace(sample, moving_inside=inside)
    item = draw_item(lambda _: cut, no_teacher, 1, replace(STAGE, items={"moved": 1.0}), 0, PLAIN, 0, 0)
    assert item.sample.moving_inside is not None
    hidden = F.avg_pool3d(item.sample.moving_inside.float(), 2)[0, 0] == 0
    assert hidden.any() and item.reading_weight[:, :7][:, :, hidden].sum() == 0
