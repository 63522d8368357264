"""Properties that every phantom patient has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_fill_holes, center_of_mass

from benchmark.datasets.phantom import Phantom, anatomy_stream
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.motion import warp_image
from benchmark.datasets.synthesis.poses import SHIFTED_MOTION, TRAINING_MOTION
from benchmark.datasets.synthesis.ranges import SHIFTED, TRAINING
from methods.base import Case, vertebra_ids
from methods.geometry import spacing_zyx, to_voxels
from metrics.fields import jacobian, jacobian_determinant
from metrics.label_warping import warp_labels
from metrics.procrustes import fit_rigid

ROOT = Path(__file__).resolve().parents[3]
COARSE = Phantom("phantom", spacing_mm=2.0)
NAMES = ["phantom-0003", "phantom-0117", "phantom-0142"]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {name: COARSE.load(name) for name in NAMES}


@pytest.fixture(scope="module")
def fine() -> Case:
    return Phantom("phantom").load(NAMES[0])


def labels_of(case: Case) -> tuple[np.ndarray, np.ndarray, list[int]]:
    moving, fixed = case.pair.moving.labels, case.pair.fixed.labels
    assert moving is not None and fixed is not None
    return moving, fixed, list(vertebra_ids(moving))


def truth(case: Case) -> np.ndarray:
    assert case.true_displacement_mm is not None
    return case.true_displacement_mm


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def check_truth(case: Case) -> None:
    """The displacement is rigid in the core, takes moving to fixed labels there, and folds only where bones slide."""
    moving, fixed, ids = labels_of(case)
    u, grid = truth(case), case.pair.grid
    assert case.true_core is not None and (fixed[case.true_core] > 0).all()
    points = grid.points_mm()
    for vertebra in ids:
        core = case.true_core & (fixed == vertebra)
        source, target = points[core], points[core] + u[core]
        rotation, translation = (a.numpy() for a in fit_rigid(torch.from_numpy(source), torch.from_numpy(target)))
        assert np.abs(source @ rotation.T + translation - target).max() < 1e-3
    determinant = jacobian_determinant(jacobian(to_voxels(u, grid), spacing_zyx(grid)))[0].numpy()
    # On a surface on which bones slide the displacement jumps, and few voxels beside it may fold.
    assert (determinant > 0.05).mean() > 0.9999 and determinant[case.true_core].min() > 0.1
    warped = warp_labels(torch.from_numpy(moving.astype(np.int32)), to_voxels(u, grid), ids).numpy()
    assert (warped == fixed)[case.true_core].mean() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_the_true_displacement_is_rigid_invertible_and_explains_the_labels(cases: dict[str, Case], name: str) -> None:
    check_truth(cases[name])


def test_the_true_displacement_is_right_at_one_millimetre(fine: Case) -> None:
    check_truth(fine)


def test_a_patient_has_5_to_10_neighbouring_vertebrae_and_sizes_divisible_by_16(
    cases: dict[str, Case],
) -> None:
    for case in cases.values():
        moving, fixed, ids = labels_of(case)
        assert 5 <= len(ids) <= 10 and ids == list(range(ids[0], ids[-1] + 1)) and ids[0] >= 8 and ids[-1] <= 24
        assert set(vertebra_ids(fixed)) == set(ids)
        assert all(n % 16 == 0 for n in case.pair.grid.shape)
        centres = [c[0] for c in center_of_mass(moving > 0, moving, ids)]
        assert (np.diff(centres) < 0).all(), "VerSe ids count downwards, z counts upwards"
    three = Phantom("phantom", spacing_mm=4.0, vertebrae=3).load(NAMES[0])
    assert len(labels_of(three)[2]) == 3


def test_the_number_of_vertebrae_is_that_of_the_paper() -> None:
    names = [name for split in ("train", "val", "test") for name in COARSE.cases(split)]
    assert sum(len(draw_spine(anatomy_stream(name)).labelled) for name in names) == pytest.approx(1280, abs=50)


def test_the_initial_dsc_is_between_0_3_and_0_9(cases: dict[str, Case]) -> None:
    scores = []
    for case in cases.values():
        moving, fixed, ids = labels_of(case)
        scores += [dice(moving == v, fixed == v) for v in ids]
    assert 0.3 < np.mean(scores) < 0.9


def test_vertebrae_have_real_sizes_and_a_canal(fine: Case) -> None:
    moving, _, ids = labels_of(fine)
    for vertebra in ids:
        mask = moving == vertebra
        z, y, x = (np.ptp(c) + 1 for c in np.nonzero(mask))
        assert 25 < z < 65 and 45 < y < 105 and 40 < x < 110
        assert 8_000 < mask.sum() < 80_000
        # The canal: in some axial slices body, pedicles and laminae close a ring around it.
        assert any((binary_fill_holes(axial) & ~axial).sum() > 100 for axial in mask)


def test_mr_is_no_linear_function_of_ct(cases: dict[str, Case]) -> None:
    for case in cases.values():
        # The CT is warped to the position of the MR.
        ct = warp_image(case.pair.moving.image, truth(case), case.pair.grid)
        mr = case.pair.fixed.image
        body = ct > 0.2
        # A linear fit leaves more than a third of the variance.
        assert np.corrcoef(ct[body], mr[body])[0, 1] ** 2 < 2 / 3
        assert ct.min() >= 0 and ct.max() <= 1 and mr.min() == 0 and mr.max() == 1


def test_a_patient_is_the_same_every_time(cases: dict[str, Case]) -> None:
    again, first = COARSE.load(NAMES[0]), cases[NAMES[0]]
    for a, b in ((again.pair.fixed, first.pair.fixed), (again.pair.moving, first.pair.moving)):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(np.asarray(a.labels), np.asarray(b.labels))
    assert np.array_equal(truth(again), truth(first))


def test_the_ct_alone_is_the_moving_scan(cases: dict[str, Case]) -> None:
    for name, case in cases.items():
        alone = COARSE.moving_scan(name)
        assert np.array_equal(alone.image, case.pair.moving.image)
        assert np.array_equal(np.asarray(alone.labels), np.asarray(case.pair.moving.labels))


def test_a_ct_ends_within_the_margin_and_continues_by_its_last_value() -> None:
    scans = [COARSE.moving_scan(f"phantom-{n:04d}") for n in range(6)]
    cut = [s for s in scans if s.inside is not None]
    assert len(cut) > 0
    for scan in cut:
        assert scan.labels is not None and scan.inside is not None
        assert not scan.labels[~scan.inside].any()
        index = np.nonzero(scan.inside)
        low, high = [i.min() for i in index], [i.max() for i in index]
        for end in (low, high):
            z, y, x = end
            assert np.ptp(scan.image[: z + 1, y, x] if end is low else scan.image[z:, y, x]) == 0
        nearest = [np.clip(np.arange(n), a, b) for n, a, b in zip(scan.image.shape, low, high, strict=True)]
        assert np.array_equal(scan.image, scan.image[np.ix_(*nearest)])


def test_weighting_changes_the_mr_alone(cases: dict[str, Case]) -> None:
    """Labels and CT are the same; CSF in the canal is bright in T2 and dark in T1."""
    t1, t2 = cases[NAMES[0]], Phantom("phantom", spacing_mm=2.0, weighting="T2").load(NAMES[0])
    assert np.array_equal(t1.pair.moving.image, t2.pair.moving.image)
    assert np.array_equal(labels_of(t1)[1], labels_of(t2)[1])
    canal = np.stack([binary_fill_holes(s) & ~s for s in labels_of(t1)[1] > 0])
    assert canal.sum() > 50
    assert t2.pair.fixed.image[canal].mean() > 1.2 * t1.pair.fixed.image[canal].mean()


def test_patients_differ(cases: dict[str, Case]) -> None:
    volumes = {tuple((labels_of(c)[0] == v).sum() for v in labels_of(c)[2]) for c in cases.values()}
    assert len(volumes) == len(NAMES)


def test_a_coarser_grid_is_the_same_patient(cases: dict[str, Case], fine: Case) -> None:
    coarse = cases[NAMES[0]]
    for scan in (0, 1):
        a, b, ids = labels_of(coarse)[scan], labels_of(fine)[scan], labels_of(fine)[2]
        assert list(vertebra_ids(a)) == ids
        for u, v in zip(center_of_mass(a > 0, a, ids), center_of_mass(b > 0, b, ids), strict=True):
            coarse_mm, fine_mm = (
                coarse.pair.grid.to_points_mm(np.array(u[::-1])),
                fine.pair.grid.to_points_mm(np.array(v[::-1])),
            )
            assert np.linalg.norm(coarse_mm - fine_mm) < 1


def test_splits_are_disjoint_with_the_sizes_of_the_paper() -> None:
    splits = {s: COARSE.cases(s) for s in ("train", "val", "test")}
    assert [len(splits[s]) for s in ("train", "val", "test")] == [117, 25, 25]
    assert len(set().union(*splits.values())) == 167
    quick = Phantom("phantom", splits="phantom-quick")
    assert len(quick.cases("test")) == 4 and set(quick.cases("test")) <= set(splits["test"])
    assert quick.cases("train") == quick.cases("val") == []
    hard = Phantom("phantom", splits="phantom-hard")
    assert len(hard.cases("test")) == 25 and hard.cases("train") == hard.cases("val") == []
    assert hard.fingerprint(NAMES[0]) != COARSE.fingerprint(NAMES[0]), "another seed, another patient"


def test_test_patients_have_other_ranges_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[object, object, float]] = []

    def make_patient(*arguments: Any) -> None:
        drawn.append(arguments[5:])

    monkeypatch.setattr("benchmark.datasets.phantom.make_patient", make_patient)
    for splits, name in (("phantom", "phantom-0003"), ("phantom", "phantom-0142"), ("phantom-hard", "phantom-0003")):
        Phantom("phantom", splits=splits).load(name)
    Phantom("phantom", distortion_mm=0.0).load("phantom-0003")
    assert drawn == [
        (TRAINING, TRAINING_MOTION, 2.0),
        (SHIFTED, SHIFTED_MOTION, 2.0),
        (SHIFTED, SHIFTED_MOTION, 2.0),
        (TRAINING, TRAINING_MOTION, 0.0),
    ]


def test_impossible_requests_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected one of train, val, test, got 'all'"):
        COARSE.cases("all")
    with pytest.raises(ValueError, match="expected phantom-NNNN"):
        COARSE.load("patient-1")
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        Phantom("phantom", splits="nowhere").cases("test")
    with pytest.raises(ValueError, match="spacing"):
        Phantom("phantom", spacing=1.0)
    twice = {"dataset": "phantom", "seed": 0, "train": ["phantom-0001"], "val": ["phantom-0001"], "test": []}
    (tmp_path / "twice.json").write_text(json.dumps(twice))
    monkeypatch.setattr("benchmark.datasets.phantom.SPLIT_DIR", tmp_path)
    with pytest.raises(ValueError, match="every patient once"):
        Phantom("phantom", splits="twice").cases("test")


def test_the_phantom_needs_neither_itk_nor_simpleitk() -> None:
    script = """
import sys
for name in ("itk", "SimpleITK", "yaml"):
    sys.modules[name] = None
from benchmark.datasets.synthesis.motion import warp_image
from benchmark.datasets.phantom import Phantom
print(Phantom("phantom", spacing_mm=4.0).load("phantom-0003").pair.grid.shape)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stderr


def test_the_number_of_voxels_is_known_without_making_the_case() -> None:
    dataset = Phantom("phantom", splits="phantom-quick", spacing_mm=4.0)
    case = dataset.cases("test")[0]
    assert dataset.voxels(case) == np.prod(dataset.load(case).pair.grid.shape)
