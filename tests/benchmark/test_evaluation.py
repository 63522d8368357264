"""Sanity rows through the whole evaluation: identity, ceiling and true field of a phantom, and what they must give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmark.datasets.phantom import Phantom
from benchmark.evaluation import describe_pair, evaluate, label_tensor
from methods.base import Case, Grid, Pair, Registration, Scan
from methods.geometry import spacing_zyx, to_millimetres
from metrics import _closest_rigid, boxes, label_warping, overlap, regularity
from metrics.fields import identity_grid
from metrics.rigid import closest_rigid


@pytest.fixture(scope="module")
def case() -> Case:
    return Phantom("phantom", spacing_mm=2.0).load("phantom-0117")


def test_identity_moves_nothing(case: Case) -> None:
    u = np.zeros((*case.pair.grid.shape, 3), np.float32)
    figures, vertebrae, warped = evaluate(case, Registration(u))
    np.testing.assert_array_equal(warped, case.pair.moving.labels)
    initial = {row["vertebra"]: row["initial_dsc"] for row in describe_pair(case, ceiling=False)}
    for row in vertebrae:
        assert row["dsc"] == pytest.approx(initial[row["vertebra"]])
        assert row["rigid_dsc"] == pytest.approx(1) and row["volume_change_pct"] == 0
    assert figures["folding_voxels"] == 0 and figures["sd_log_jacobian"] == 0 and figures["sd_log_jacobian_l2r"] == 0
    assert figures["properness"] == pytest.approx(0, abs=1e-9)
    assert figures["orthonormality"] == pytest.approx(0, abs=1e-9)


def test_the_true_field_is_right_rigid_and_without_error(case: Case) -> None:
    figures, vertebrae, _ = evaluate(case, Registration(case.true_displacement_mm))
    ceiling = {row["vertebra"]: row["ceiling_dsc"] for row in describe_pair(case)}
    for row in vertebrae:
        # The fixed label is a reader's: no rigid motion fits it much better than the least squared difference does.
        assert ceiling[row["vertebra"]] - 0.05 < row["dsc"] < ceiling[row["vertebra"]] + 0.02
        # The motion is rigid in the label's core alone: where neighbours come close, its rim bends.
        assert row["rigid_dsc"] > 0.985 and row["volume_change_pct"] < 4
        assert row["tre_mm"] == pytest.approx(0, abs=1e-4)
        assert row["rotation_error_deg"] == pytest.approx(0, abs=1e-2)
    assert figures["folding_voxels"] == 0


def test_the_ceiling_is_what_a_rigid_field_for_each_vertebra_reaches(case: Case) -> None:
    """Each voxel moves with the nearest vertebra of the fixed label: rigid in each, torn in between."""
    moving, fixed = (label_tensor(s.labels) for s in (case.pair.moving, case.pair.fixed))
    ceiling = {row["vertebra"]: row["ceiling_dsc"] for row in describe_pair(case)}
    ids, spacing_mm = list(ceiling), spacing_zyx(case.pair.grid)
    fit = closest_rigid(moving, fixed, ids, spacing_mm)
    assert fit.converged.all()
    nearest = ndimage.distance_transform_edt(fixed.numpy() == 0, return_distances=False, return_indices=True)
    which = torch.searchsorted(torch.tensor(ids), torch.from_numpy(fixed.numpy()[tuple(nearest)]).long()).flatten()
    spacing = torch.tensor(spacing_mm).view(3, 1)
    x = identity_grid(fixed.shape).flatten(2)[0] * spacing
    moved = torch.einsum("pij,jp->ip", fit.rotation[which], x) + fit.translation[which].T
    u = ((moved - x) / spacing).view(1, 3, *fixed.shape)
    figures, vertebrae, _ = evaluate(case, Registration(to_millimetres(u, case.pair.grid)))
    for row in vertebrae:
        # Not to the digit: the ceiling counts a voxel from a half on, and warped labels compete with their neighbours.
        assert row["dsc"] == pytest.approx(ceiling[row["vertebra"]], abs=0.01)
        assert row["rigid_dsc"] > 0.98 and row["volume_change_pct"] < 5
    assert figures["folding_voxels"] > 0


def test_no_truth_no_small_vertebra_no_missing_label_means_null_not_zero() -> None:
    grid = Grid((20, 20, 20))
    moving, fixed = np.zeros(grid.shape, np.uint16), np.zeros(grid.shape, np.uint16)
    moving[2:12, 2:12, 2:12] = fixed[2:12, 2:12, 2:12] = 20
    moving[14:18, 14:18, 14:18] = fixed[14:18, 14:18, 14:18] = 21  # 64 mm3
    moving[0, 0, 0] = 22
    image = np.linspace(0, 1, fixed.size, dtype=np.float32).reshape(grid.shape)
    case = Case(Pair("a", Scan(image, fixed, grid), Scan(image, moving, grid)))
    rows = {row["vertebra"]: row for row in describe_pair(case)}
    assert rows[20]["excluded_reason"] is None and rows[20]["ceiling_dsc"] == pytest.approx(1, abs=1e-3)
    assert rows[21]["excluded_reason"] == "under 500 mm3 in the moving labels" and rows[21]["ceiling_dsc"] is None
    assert rows[22]["excluded_reason"] == "only in the moving labels" and rows[22]["touches_border"]
    _, vertebrae, _ = evaluate(case, Registration(np.zeros((*grid.shape, 3), np.float32)))
    assert [v["vertebra"] for v in vertebrae] == [20]
    assert vertebrae[0]["dsc"] == 1 and vertebrae[0]["tre_mm"] is None


def test_the_boxes_of_each_label_map_are_found_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    for name in ("label_boxes", "bounding_box"):
        original = getattr(boxes, name)

        def counting(labels: torch.Tensor, *ids: object, original: Callable = original) -> object:
            seen.append(labels)
            return original(labels, *ids)

        for module in (boxes, _closest_rigid, label_warping, overlap, regularity):
            monkeypatch.setattr(module, name, counting, raising=False)
    u = np.zeros((*case.pair.grid.shape, 3), np.float32)
    evaluate(case, Registration(u))
    # The moving, the warped and the fixed map, and each soft warped label.
    assert len(seen) == 3 + len(case.counted)
    assert len({volume.data_ptr() for volume in seen}) == len(seen)
