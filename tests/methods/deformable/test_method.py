"""The rows that optimise each pair: known motions, grids of any kind, limited views, folds, determinism, memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from support import bone_pairs
from support.cuda import needs_cuda
from support.shifted_pair import DIRECTION, shifted_pair
from support.slab_case import dsc, slab_case

from methods.base import Grid, Pair, Registration, Scan
from methods.deformable.settings import LEVELS
from methods.geometry import spacing_zyx, to_voxels
from methods.registry import PENALTIES, create_method, load_plugin
from metrics.rigid import rigid_field
from metrics.timing import measure

# Enough iterations where a test does not ask how well a pair is registered.
FEW = [level.model_copy(update={"iterations": 11 if level.image_mm > 1 else 3}).model_dump() for level in LEVELS]


def solve(pair: Pair, row: str = "deformable-pc+oc", seed: int = 0, **settings: object) -> Registration:
    method = create_method(row, settings)
    method.prepare("cpu", 1, seed)
    registration = method.register(pair)
    registration.check(pair.grid)
    return registration


@pytest.mark.parametrize(
    "grid",
    [
        Grid((44, 44, 36)),
        Grid((44, 30, 36), (1.0, 1.5, 1.0), (5.0, -3.0, 40.0)),
        Grid((40, 40, 36), direction=DIRECTION),
    ],
)
def test_a_translation_is_recovered_on_any_grid(grid: Grid) -> None:
    shift = (1.0, -2.0, 1.5)
    pair = shifted_pair(grid, shift)
    found = to_voxels(solve(pair).displacement_mm, grid)[0]
    labelled = torch.from_numpy(pair.moving.labels > 0)
    torch.testing.assert_close(found[:, labelled].mean(dim=1), torch.tensor(shift), atol=0.35, rtol=0)


@pytest.mark.parametrize("grid", [bone_pairs.PLAIN, bone_pairs.OBLIQUE])
def test_the_motion_of_each_bone_is_recovered(grid: Grid) -> None:
    """The displacement inside each bone against its own rigid motion, and against no registration."""
    pair = bone_pairs.moved_pair(grid)
    found = solve(pair, "deformable-rigid-field").displacement_mm
    points = grid.points_mm()
    for bone in bone_pairs.MOTION:
        transform = bone_pairs.true_transform(bone, pair.moving.labels, grid)
        inside = bone_pairs.fixed_position(bone, pair, transform, erosions=1)
        true = bone_pairs.apply(transform, points) - points
        error = np.linalg.norm(found - true, axis=-1)[inside].mean()
        assert error < 0.4 * np.linalg.norm(true, axis=-1)[inside].mean()


def test_penalties_make_bones_more_rigid() -> None:
    pair = bone_pairs.moved_pair(bone_pairs.PLAIN)
    labels = torch.stack([torch.from_numpy(pair.moving.labels == v).float() for v in bone_pairs.MOTION])
    found = {}
    for row in ("deformable", "deformable-rigid-field"):
        field = to_voxels(solve(pair, row).displacement_mm, pair.grid)
        found[row] = float(rigid_field(field, labels, spacing_zyx(pair.grid)).mean())
    assert found["deformable-rigid-field"] < 0.7 * found["deformable"]


@pytest.mark.parametrize("transform", ["displacement", "velocity"])
def test_nothing_folds(transform: str) -> None:
    """Also with no smoothness, and steps that fold the field if nothing bounds it."""
    pair = bone_pairs.moved_pair(bone_pairs.PLAIN)
    registration = solve(pair, "deformable", bending=0.0, transform=transform)
    assert bone_pairs.lowest_jacobian(registration, pair.grid) > 0
    if transform == "displacement":
        assert registration.notes["least_slack"] > 0


def test_a_slab_is_not_made_worse() -> None:
    """The fixed scan's edges pull nothing: DSC is at least that of no registration."""
    case = slab_case()
    assert dsc(case, "deformable-pc+oc") > dsc(case, "initial")


def test_nothing_moves_where_nothing_is_seen_in_both_scans() -> None:
    pair = shifted_pair(Grid((40, 40, 36)), (0.0, 2.0, 0.0))
    inside = np.zeros(pair.grid.shape, bool)
    inside[0, 0, 0] = True
    registration = solve(Pair("p", replace(pair.fixed, inside=inside), pair.moving), levels=FEW)
    np.testing.assert_array_equal(registration.displacement_mm, 0)
    assert str(registration.notes["warning"]).startswith("no point near the labels was seen in both scans")


def test_a_vertebra_that_nothing_shows_stays() -> None:
    """It does not go on with the motion of its neighbour, which the fixed scan saw."""
    grid = Grid((72, 40, 36))
    pair = shifted_pair(grid, (0.0, 4.0, 0.0))
    labels, inside = np.zeros(grid.shape, np.uint16), np.ones(grid.shape, bool)
    labels[8:20, 12:28, 10:26], labels[50:62, 12:28, 10:26] = 20, 19
    inside[32:] = False
    pair = Pair("p", replace(pair.fixed, inside=inside), replace(pair.moving, labels=labels))
    moved = to_voxels(solve(pair).displacement_mm, grid)[0, 1]
    seen, unseen = (moved[torch.from_numpy(labels == v)].abs().mean().item() for v in (20, 19))
    assert seen > 3 and unseen < seen / 2


def test_values_that_no_scan_saw_have_no_effect() -> None:
    pair, inside = shifted_pair(Grid((40, 40, 36)), (0.0, 2.0, 0.0)), np.ones((40, 40, 36), bool)
    inside[:, :, 24:] = False
    results = []
    for value in (0.0, 1.0):
        image = np.where(inside, pair.fixed.image, np.float32(value))
        results.append(solve(Pair("p", replace(pair.fixed, image=image, inside=inside), pair.moving), levels=FEW))
    np.testing.assert_array_equal(*(r.displacement_mm for r in results))


def test_one_seed_gives_one_result() -> None:
    pair = shifted_pair(Grid((40, 40, 36)), (0.0, 2.0, 0.0))
    first, again, other = (solve(pair, seed=seed, levels=FEW).displacement_mm for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_notes_say_how_far_each_level_went() -> None:
    notes = solve(shifted_pair(Grid((40, 40, 36)), (0.0, 2.0, 0.0)), levels=FEW).notes
    for name in ("iterations", "last_motion_mm", "gain"):
        assert len(str(notes[name]).split()) == 3
    assert "warning" not in notes


def test_a_large_pair_takes_less_than_two_gigabytes() -> None:
    grid = Grid((256, 128, 192))
    rng = np.random.default_rng(0)
    fixed, moving = (rng.random(grid.shape, np.float32) for _ in range(2))
    labels = np.zeros(grid.shape, np.uint16)
    for k in range(7):
        labels[10 + 34 * k : 38 + 34 * k, 40:90, 70:120] = 18 + k
    pair = Pair("p", Scan(fixed, None, grid), Scan(moving, labels, grid))
    few = [{**level, "iterations": 2} for level in FEW]
    before_mb = psutil.Process().memory_info().rss / 2**20
    _, timing = measure(lambda: solve(pair, levels=few))
    assert timing.peak_memory_mb - before_mb < 2000


def test_a_pair_without_labels_is_refused() -> None:
    pair = shifted_pair(Grid((40, 40, 36)), (0.0, 2.0, 0.0))
    empty = Scan(pair.moving.image, np.zeros(pair.grid.shape, np.uint16), pair.grid)
    with pytest.raises(ValueError, match="the moving label map is empty; deformable needs labelled vertebrae"):
        solve(Pair("p", pair.fixed, empty), "deformable")


def test_a_start_is_registered_first_and_kept_without_iterations() -> None:
    """The other row's code and weights count for the fingerprint."""
    pair = shifted_pair(Grid((40, 40, 36)), (0.0, 2.0, 0.0))
    other = create_method("deformable")
    other.prepare("cpu", 1, 0)
    expected = other.register(pair).displacement_mm
    levels = [{**level.model_dump(), "iterations": 0} for level in other.settings.levels[-1:]]
    found = solve(pair, "deformable", start="deformable", levels=levels).displacement_mm
    np.testing.assert_allclose(found, expected, atol=0.05)
    refined = create_method("refined")
    assert refined.uses == ("voxelmorph",) and other.uses == ()
    assert refined.fingerprint() != other.fingerprint() == ""


def test_a_start_or_penalty_that_is_missing_is_said() -> None:
    unknown = create_method("deformable", {"penalties": {"mine": 1.0}})
    assert unknown.unavailable("cpu") == "no penalty 'mine' (--plugin?)"
    assert create_method("deformable", {"start": "polyrigid"}).unavailable("cuda") in (
        "torch finds no CUDA device", "its start, polyrigid, does not run on cuda"
    )  # fmt: skip
    unknown = create_method("deformable", {"start": "nothing"})
    assert unknown.unavailable("cpu") == "no row 'nothing' to start from (--plugin?)"


def test_the_code_of_a_plugins_penalty_is_in_the_fingerprint(tmp_path: Path) -> None:
    prints = []
    for factor in (1, 2):
        file = tmp_path / "own_penalty.py"
        file.write_text(
            "from methods.registry import PENALTIES\n"
            f"PENALTIES.add('own-penalty', lambda warped: {factor} * warped.displacement.square().mean())\n"
        )
        load_plugin(file)
        prints.append(create_method("deformable", {"penalties": {"own-penalty": 1.0}}).fingerprint())
    PENALTIES._added.pop("own-penalty")
    assert prints[0] != prints[1]


@needs_cuda
def test_cuda_agrees_with_the_cpu() -> None:
    pair = bone_pairs.moved_pair(bone_pairs.PLAIN)
    found = []
    for device in ("cpu", "cuda"):
        method = create_method("deformable-pc+oc")
        method.prepare(device, 1, 0)
        found.append(method.register(pair).displacement_mm)
        np.testing.assert_array_equal(found[-1], method.register(pair).displacement_mm)
    inside = pair.moving.labels > 0
    assert np.linalg.norm(found[0] - found[1], axis=-1)[inside].mean() < 0.3
