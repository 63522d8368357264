"""Vertebral bodies: cut from labels of whole vertebrae, or read from subregions; and the comparison of bodies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from benchmark.datasets.io.images import read_labels
from benchmark.datasets.preprocessing import Patient, centroids_mm, preprocess
from benchmark.datasets.vertebral_bodies import bodies_by_cut, bodies_by_subregion
from benchmark.errors import BadInput
from benchmark.evaluation import describe_pair, evaluate
from methods.base import Grid, Registration
from methods.geometry import from_sitk, to_sitk

GRID = Grid((110, 90, 60), (1.0, 1.0, 1.0), (-30.0, -30.0, 0.0))
BACK_WALL_MM = 12.0  # y of the last voxels of every body


def vertebrae_and_bodies() -> tuple[np.ndarray, np.ndarray]:
    """Three vertebrae: a block of 30 x 25 x 21 mm as body, two bars as pedicles, a plate and a process behind."""
    labels, bodies = np.zeros(GRID.shape, np.uint16), np.zeros(GRID.shape, np.uint16)
    x, y, z = np.moveaxis(GRID.points_mm(), -1, 0)
    for vertebra, low in ((20, 78), (21, 44), (22, 10)):
        level = (z >= low) & (z <= low + 20)
        body = level & (abs(x) <= 15) & (y >= -12) & (y <= BACK_WALL_MM)
        upper = level & (z >= low + 10)
        pedicles = upper & (abs(abs(x) - 12) <= 3) & (y > BACK_WALL_MM) & (y <= 27)
        plate = upper & (abs(x) <= 15) & (y > 27) & (y <= 31)
        process = upper & (abs(x) <= 3) & (y > 31) & (y <= 50)
        labels[body | pedicles | plate | process], bodies[body] = vertebra, vertebra
    return labels, bodies


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_cut_is_at_the_back_wall() -> None:
    labels, bodies = vertebrae_and_bodies()
    cut = bodies_by_cut(labels, GRID)
    np.testing.assert_array_equal(cut, bodies)
    assert cut.dtype == np.uint16


@pytest.mark.parametrize("code", ["RAS", "PIR"])
def test_the_cut_does_not_depend_on_the_orientation(code: str) -> None:
    labels, _ = vertebrae_and_bodies()
    stored, grid = from_sitk(sitk.DICOMOrient(to_sitk(labels, GRID), code))
    back = sitk.DICOMOrient(to_sitk(bodies_by_cut(stored, grid), grid), "LPS")
    assert (from_sitk(back)[0] != bodies_by_cut(labels, GRID)).mean() < 1e-4


def test_one_vertebra_alone_is_cut_and_c1_has_no_body() -> None:
    labels, bodies = vertebrae_and_bodies()
    alone = bodies_by_cut(np.where(labels == 21, 21, 0).astype(np.uint16), GRID)
    assert dice(alone == 21, bodies == 21) > 0.95
    assert set(np.unique(bodies_by_cut(np.where(labels == 20, 1, labels), GRID))) == {0, 21, 22}


def test_bodies_are_read_from_subregions() -> None:
    labels, bodies = vertebrae_and_bodies()
    subregions = np.where(bodies > 0, np.where(np.indices(labels.shape)[0] % 2, 49, 50), 41).astype(np.uint16)
    np.testing.assert_array_equal(bodies_by_subregion(Path("sub"), subregions, labels), bodies)
    with pytest.raises(BadInput, match="sub: expected vertebral bodies"):
        bodies_by_subregion(Path("sub"), np.full_like(subregions, 41), labels)


def test_cut_and_mask_agree_on_a_real_ct(shared_data: Path) -> None:
    folder = shared_data / "tptbox"
    labels, grid = read_labels(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    subregions, _ = read_labels(folder / "sub-ct_seg-subreg_label-22_msk.nii.gz")
    cut, mask = bodies_by_cut(labels, grid), bodies_by_subregion(folder, subregions, labels)
    for vertebra in (21, 22, 23):
        assert dice(cut == vertebra, mask == vertebra) > 0.98


def patient(bodies_compared: bool) -> Patient:
    """The MR is the CT with labels of the bodies alone, so that no displacement remains."""
    labels, bodies = vertebrae_and_bodies()
    ct = np.where(labels > 0, 500, -50) + np.random.default_rng(0).normal(0, 20, GRID.shape)
    compared = bodies if bodies_compared else None
    return Patient("p", ct.astype(np.float32), labels, GRID, ct.astype(np.float32), bodies, GRID, ct_bodies=compared)


def test_bodies_are_compared_and_methods_get_whole_vertebrae() -> None:
    case = preprocess(patient(bodies_compared=True))
    field = np.zeros((*case.pair.grid.shape, 3), np.float32)
    rows = {r["vertebra"]: r for r in describe_pair(case, rigid_fit=False)}
    _, vertebrae, warped = evaluate(case, Registration(field))
    assert [v["dsc"] for v in vertebrae] == [1, 1, 1] and rows[21]["initial_dsc"] == 1
    np.testing.assert_array_equal(warped, case.pair.fixed.labels)
    assert (case.pair.moving.labels > 0).sum() > 1.2 * (warped > 0).sum()


def test_pre_alignment_uses_centroids_of_the_same_kind() -> None:
    """Centroids of bodies are aligned; without the setting the arch shifts the centroids of the CT backwards."""
    of_bodies, of_vertebrae = preprocess(patient(True)), preprocess(patient(False))
    inside = [(c.pair.moving.labels > 0)[c.pair.fixed.labels > 0].mean() for c in (of_bodies, of_vertebrae)]
    assert inside[0] == 1 and inside[1] < 0.9
    _, bodies = vertebrae_and_bodies()
    annotated, of_ct = centroids_mm(bodies, GRID), centroids_mm(bodies, GRID)
    case = preprocess(replace(patient(False), mr_centroids=annotated, ct_centroids=of_ct))
    assert (case.pair.moving.labels > 0)[case.pair.fixed.labels > 0].all()
