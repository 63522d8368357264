"""The first lesson of a training: the motion is the one that was put in, and it alone is learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from methods.base import Case, Grid, Pair, Progress, Scan
from methods.voxelmorph.items import Item
from methods.voxelmorph.known_motion import (
    FAR,
    LONG,
    LONG_BLOCKS,
    NEAR,
    SMALL,
    SMALL_BLOCKS,
    Blocks,
    blocks_of,
    known_motion_loss,
)
from methods.voxelmorph.settings import Training
from methods.voxelmorph.trainer import train
from metrics.fields import lands_inside, warp

PLAIN = Training(coarsening=1, patch=(16, 32, 32), appearance=False, flips=False)


def item(
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0), vertebra: tuple[int, int, int] = (40, 20, 24)
) -> Item:
    """A smooth image as CT and MR alike, one block of a vertebra in it; spacing and places (z, y, x)."""
    shape = (64, 48, 48)
    noise = torch.from_numpy(np.random.default_rng(0).random((1, 1, *shape), dtype=np.float32))
    image = F.avg_pool3d(F.pad(noise, (3,) * 6, mode="replicate"), 7, 1)
    labels = torch.zeros(shape, dtype=torch.int32)
    z, y, x = vertebra
    labels[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] = 20
    return Item("a", image, image, labels, spacing_mm, {20: tuple(map(float, vertebra))})


@pytest.mark.parametrize("spacing_mm", [(4.0, 4.0, 4.0), (2.0, 4.0, 5.0), (4.0, 2.0, 1.0)])
@pytest.mark.parametrize("long", [False, True])
def test_the_moved_block_goes_back_through_the_displacement(spacing_mm: tuple[float, float, float], long: bool) -> None:
    blocks = blocks_of(item(spacing_mm), PLAIN, 0, 5, long)
    shape, count = (LONG, LONG_BLOCKS) if long else (SMALL, SMALL_BLOCKS)
    assert blocks.moving.shape == blocks.fixed.shape == blocks.weights.shape == (count, 1, *shape)
    assert blocks.displacement.shape == (count, 3, *shape)
    inside = torch.cat([lands_inside(d[None], shape)[None] for d in blocks.displacement]) > 0.5
    before = (blocks.moving - blocks.fixed).abs()
    after = (warp(blocks.moving, blocks.displacement) - blocks.fixed).abs()
    inside = inside.reshape(after.shape)
    assert inside.float().mean() > 0.4
    assert after[inside].mean() < 0.35 * before[inside].mean(), "what two interpolations blur is left"


def test_motions_are_rigid_in_millimetres_and_as_large_as_said() -> None:
    spacing = (2.0, 4.0, 5.0)
    blocks = blocks_of(item(spacing), PLAIN, 0, 0)
    mm = torch.tensor((4.0, 4.0, 5.0)).view(1, 3, 1, 1, 1)  # 2 mm are pooled to 4
    axes = torch.stack(torch.meshgrid(*[torch.arange(SMALL[0], dtype=torch.float32)] * 3, indexing="ij"))
    points = (axes * mm[0] + blocks.displacement * mm).flatten(2)
    start = (axes * mm[0]).flatten(1)
    for there in points:
        gaps = (there[:, 1:] - there[:, :-1]).norm(dim=0) - (start[:, 1:] - start[:, :-1]).norm(dim=0)
        assert gaps.abs().max() < 1e-3, "a rigid motion keeps every distance"
    shifts = (blocks.displacement * mm).mean((2, 3, 4))
    assert 3.5 < shifts.std() < 7, "about 5 mm along each axis, some more by turning about the vertebra"
    assert len({tuple(s.tolist()) for s in shifts}) == SMALL_BLOCKS, "every block has a motion of its own"


def test_a_vertebra_lies_in_the_middle_of_each_block() -> None:
    blocks = blocks_of(item(), PLAIN, 0, 1)
    at = torch.arange(SMALL[0], dtype=torch.float32)
    for weights in (blocks.weights == NEAR)[:, 0].float():
        for axis in range(3):
            profile = weights.sum([a for a in range(3) if a != axis])
            assert abs((profile * at).sum() / profile.sum() - (SMALL[0] - 1) / 2) < 5, "half a shift"
    assert blocks.weights.unique().tolist() == pytest.approx([FAR, NEAR])


def test_a_vertebra_at_the_border_has_a_block_too() -> None:
    blocks = blocks_of(item(vertebra=(3, 3, 44)), PLAIN, 0, 2)
    assert blocks.moving.isfinite().all() and (blocks.weights == NEAR).flatten(1).any(1).all()


def test_a_lesson_is_always_the_same_and_another_one_is_not() -> None:
    settings = replace(PLAIN, appearance=True, flips=True)
    one, again, other, seed = (blocks_of(item(), settings, s, n) for s, n in ((0, 3), (0, 3), (0, 4), (1, 3)))
    assert torch.equal(one.moving, again.moving) and torch.equal(one.fixed, again.fixed)
    assert not torch.equal(one.moving, other.moving) and not torch.equal(one.moving, seed.moving)


def test_the_loss_is_the_weighted_mean_square_in_voxels() -> None:
    known = torch.zeros(2, 3, 16, 16, 16)
    known[0, 0], known[1, 2] = 3.0, 6.0  # mean over components: 3 and 12
    weights = torch.ones(2, 1, 16, 16, 16)
    weights[1] = 0.5
    blocks = Blocks(torch.zeros(2, 1, 16, 16, 16), torch.zeros(2, 1, 16, 16, 16), known, weights)
    loss = known_motion_loss(torch.zeros(2, 3, 8, 8, 8), blocks)
    assert loss.total.item() == pytest.approx((3 + 0.5 * 12) / 1.5)
    assert loss.terms == {"known_motion": pytest.approx(6.0)}


def test_a_patient_without_vertebrae_is_named() -> None:
    with pytest.raises(ValueError, match="pair a: expected at least one vertebra"):
        blocks_of(replace(item(), centres={}), PLAIN, 0, 0)


class Terms(Progress):
    def __init__(self) -> None:
        self.names = list[set[str]]()

    def __call__(self, line: str) -> None: ...

    def step(self, name: str, step: int, last: int, terms: object) -> None:
        self.names.append(set(terms))  # type: ignore[call-overload]


def test_the_first_steps_of_a_training_learn_it_and_the_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid((32, 32, 32))
    rng = np.random.default_rng(0)
    labels = np.zeros(grid.shape, np.uint16)
    labels[10:22, 10:22, 10:22] = 20
    pair = Pair(
        "a",
        Scan(rng.random(grid.shape, np.float32), None, grid),
        Scan(rng.random(grid.shape, np.float32), labels, grid),
    )
    settings = replace(PLAIN, steps=6, branch=0.0, known_motion=4, patch=None, precision="fp32")
    progress, drawn = Terms(), list[bool]()

    def draw(item: Item, settings: Training, seed: int, sample: int, long: bool) -> Blocks:
        drawn.append(long)
        return blocks_of(item, settings, seed, sample, long)

    monkeypatch.setattr("methods.voxelmorph.trainer.blocks_of", draw)
    train([pair], [Case(pair)], tmp_path, settings, 0, progress)
    assert progress.names == [{"known_motion"}] * 4 + [{"similarity", "smoothness"}] * 2
    assert drawn == [False, False, False, True], "long blocks every other time, once half of it is done"


def test_it_must_end_before_the_variants_branch_off(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known_motion: expected at most 8 steps, those before the branch, got 9"):
        train([], [], tmp_path, replace(PLAIN, steps=10, known_motion=9), 0, Progress())
    with pytest.raises(ValueError, match="known_motion: expected a whole number of at least 0, got -1"):
        Training(known_motion=-1)
