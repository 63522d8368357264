"""`rigid`: one rigid transform, that of the bones; on oblique grids, in slabs, amid tissue that moves another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.bone_pairs import OBLIQUE, PLAIN, apply, fixed_position, moved_pair, register, true_transform
from support.elastix_pairs import bone, in_other_tissue
from support.slab_case import mean_dsc, slab_case
from support.slab_case import register as register_case

from methods.base import Grid


@pytest.mark.parametrize("grid", [PLAIN, OBLIQUE], ids=["plain", "oblique"])
def test_the_transform_of_one_bone_is_found_and_reported(grid: Grid) -> None:
    pair = moved_pair(grid, keep=(20,))
    registration = register("rigid", pair)
    truth = true_transform(20, pair.moving.labels, grid)
    points = grid.points_mm()
    inside = fixed_position(20, pair, truth, erosions=1)
    error = registration.displacement_mm[inside] - (apply(truth, points[inside]) - points[inside])
    assert np.linalg.norm(error, axis=1).mean() < 0.3, "the direction is fixed -> moving, in LPS millimetres"
    assert list(registration.rigid_transforms) == [0], "the transform of the whole image"
    ends = apply(registration.rigid_transforms[0], points)
    assert np.abs(points + registration.displacement_mm - ends).max() < 1e-3, "the field is this transform everywhere"


def test_bones_that_move_apart_have_one_transform() -> None:
    registration = register("rigid", moved_pair(PLAIN))
    inner = registration.displacement_mm[2:-2, 2:-2, 2:-2]
    assert max(np.abs(np.diff(inner, n=2, axis=a)).max() for a in range(3)) < 1e-3
    assert 0 < registration.notes["match_distance"] < 1


def test_it_follows_the_bones_and_not_the_tissue_around_them() -> None:
    pair, of_bone = in_other_tissue()
    error = np.linalg.norm(register("rigid", pair).displacement_mm - of_bone, axis=-1)[bone(pair)].mean()
    assert error < 0.3 < np.linalg.norm(of_bone)


def test_it_is_not_worse_than_initial_on_a_slab() -> None:
    case = slab_case("phantom-0118", 2.0)
    assert mean_dsc(case, register_case(case, "rigid")) >= mean_dsc(case, register_case(case, "initial"))


def test_the_start_is_kept_where_the_fixed_scan_saw_no_bone(capsys: pytest.CaptureFixture[str]) -> None:
    pair = moved_pair(PLAIN, keep=(20,))
    inside = np.zeros(PLAIN.shape, bool)
    inside[:8] = True
    registration = register("rigid", replace(pair, fixed=replace(pair.fixed, inside=inside)))
    assert not registration.displacement_mm.any()
    assert "it needs bone that the fixed scan saw, and found none" in str(registration.notes["warning"])
    assert "the start was kept" in capsys.readouterr().err


def test_it_needs_labels_to_know_where_the_bones_are() -> None:
    pair = moved_pair(PLAIN)
    unlabelled = replace(pair.moving, labels=np.zeros(PLAIN.shape, np.uint16))
    with pytest.raises(ValueError, match="the moving label map is empty; rigid needs labelled vertebrae"):
        register("rigid", replace(pair, moving=unlabelled))
