"""Preprocessing: steps against values by hand, and one patient stored in several ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from support.analytic_patient import VERTEBRAE, lps_case, lps_patient, mr_to_ct, restored, stored_patient

from benchmark.datasets.intensities import scale_mr
from benchmark.datasets.label_resampling import resample_labels
from benchmark.datasets.preprocessing import (
    centroids_mm,
    label_ends_mm,
    pre_align,
    preprocess,
)
from benchmark.datasets.resampling import (
    IDENTITY,
    crop_grid,
    resample_displacement,
    resample_image,
)
from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import to_voxels
from metrics.label_warping import warp_labels

# Index x runs along +y of the patient, index y along -x, index z along +z.
QUARTER_TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
TURNED_GRID = Grid((4, 3, 2), (2.0, 3.0, 4.0), (10.0, 20.0, 30.0), QUARTER_TURN)


def dice(a: np.ndarray, b: np.ndarray, vertebra: int) -> float:
    return 2 * ((a == vertebra) & (b == vertebra)).sum() / ((a == vertebra).sum() + (b == vertebra).sum())


# Centroids and intensities


def test_a_centroid_on_a_turned_anisotropic_grid() -> None:
    labels = np.zeros((4, 3, 2), np.uint16)
    labels[3, 2, 0] = labels[3, 2, 1] = 7  # indices (0, 2, 3) and (1, 2, 3), the mean (0.5, 2, 3)
    labels[0, 0, 0] = 65535
    centroids = centroids_mm(labels, TURNED_GRID)
    assert sorted(centroids) == [7, 65535]
    np.testing.assert_allclose(centroids[7], (10 - 2 * 3, 20 + 0.5 * 2, 30 + 3 * 4))
    np.testing.assert_allclose(centroids[65535], (10, 20, 30))


def test_label_ends_span_every_labelled_voxel() -> None:
    grid = Grid((9, 8, 7), (1.5, 0.7, 3.0), (1.0, 2.0, 3.0), tuple(Rotation.random(rng=0).as_matrix().ravel()))
    labels = (np.random.default_rng(0).random(grid.shape) < 0.02).astype(np.uint16)
    every, ends = grid.points_mm()[labels > 0], label_ends_mm(labels, grid)
    np.testing.assert_allclose(ends.min(axis=0), every.min(axis=0))
    np.testing.assert_allclose(ends.max(axis=0), every.max(axis=0))


# Pre-alignment


def spine(count: int = 5, bow_mm: float = 0.0) -> np.ndarray:
    """Centroids 35 mm apart along z. bow_mm: offset of the middle from the ends, along y."""
    s = np.linspace(-1, 1, count)
    return np.stack([0 * s, bow_mm * (1 - s**2), -35.0 * np.arange(count)], axis=1)


def centroids(points: np.ndarray) -> dict[int, np.ndarray]:
    return {20 + i: p for i, p in enumerate(points)}


def turn_deg(rotation: np.ndarray) -> float:
    return float(np.degrees(Rotation.from_matrix(rotation).magnitude()))


def test_pre_alignment_takes_fixed_points_to_moving_points() -> None:
    found = pre_align(centroids(spine()), centroids(spine() + np.array([1.0, 2.0, 3.0])))
    np.testing.assert_allclose(found(np.zeros(3)), (1, 2, 3), atol=1e-9)
    np.testing.assert_allclose(found.inverse()(np.array([1.0, 2.0, 3.0])), 0, atol=1e-9)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0.6, 0.8, 0)])
def test_a_tilt_of_the_spine_is_found_exactly(axis: tuple) -> None:
    """A rotation about an axis at right angles to a straight spine has no twist, so the fit is exact."""
    tilt = Rotation.from_rotvec(np.radians(25) * np.array(axis)).as_matrix()
    moving = spine() @ tilt.T + (5.0, -40.0, 12.0)
    found = pre_align(centroids(spine()), centroids(moving))
    np.testing.assert_allclose(found.rotation, tilt, atol=1e-9)
    np.testing.assert_allclose(found(spine()), moving, atol=1e-9)


def test_twist_stays_small_if_centroids_do_not_determine_it() -> None:
    """With errors of 2 mm and a spine 5 mm off a line, a plain fit has tens of degrees of twist."""
    rng = np.random.default_rng(0)
    plain, ours = [], []
    for _ in range(40):
        moving = spine(bow_mm=7.0) + rng.normal(0, 2, (5, 3))
        fixed = spine(bow_mm=7.0) + rng.normal(0, 2, (5, 3))
        kabsch, _ = Rotation.align_vectors(moving - moving.mean(axis=0), fixed - fixed.mean(axis=0))
        plain.append(np.degrees(kabsch.magnitude()))
        ours.append(turn_deg(pre_align(centroids(fixed), centroids(moving)).rotation))
    assert max(plain) > 30
    assert max(ours) < 6


def test_a_bow_that_changes_sides_is_not_a_half_turn() -> None:
    """A spine may curve to the other side between standing and lying; a plain fit would rotate by 180 degrees."""
    fixed, moving = spine(bow_mm=6.0), spine(bow_mm=-6.0)
    kabsch, _ = Rotation.align_vectors(moving - moving.mean(axis=0), fixed - fixed.mean(axis=0))
    assert np.degrees(kabsch.magnitude()) > 170
    assert turn_deg(pre_align(centroids(fixed), centroids(moving)).rotation) < 1


def test_a_rotation_that_the_centroids_determine_is_found() -> None:
    """Centroids far off a line, as in a strong scoliosis, have more weight than the four additional points."""
    fixed = np.array([[0.0, 0, 0], [60, 10, -60], [-50, 30, -120], [40, -20, -180], [-60, 0, -240]])
    turn = Rotation.from_euler("xyz", [8, 6, 10], degrees=True).as_matrix()
    found = pre_align(centroids(fixed), centroids(fixed @ turn.T))
    assert turn_deg(found.rotation.T @ turn) < 2


def test_two_vertebrae_give_the_smallest_rotation() -> None:
    fixed, moving = np.array([[0.0, 0, 0], [0, 0, -35]]), np.array([[10.0, 0, 0], [10, -35, 0]])
    found = pre_align(centroids(fixed), centroids(moving))
    np.testing.assert_allclose(found(fixed), moving, atol=1e-9)
    assert turn_deg(found.rotation) == pytest.approx(90)
    np.testing.assert_allclose(found.rotation[:, 0], (1, 0, 0), atol=1e-9)


def test_one_common_vertebra_gives_a_translation() -> None:
    found = pre_align({20: np.array([1.0, 2, 3]), 21: np.zeros(3)}, {20: np.array([4.0, 6, 8]), 19: np.zeros(3)})
    np.testing.assert_allclose(found.rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found.translation, (3, 4, 5), atol=1e-9)


# Whole patients


def test_a_case_has_the_form_that_methods_expect() -> None:
    case = lps_case()
    grid = case.pair.grid
    assert grid.spacing_mm == (1.0, 1.0, 1.0) and all(n % 16 == 0 for n in grid.shape)
    assert case.pair.case == "p1"
    assert case.pair.fixed.labels is not None and case.pair.moving.labels is not None
    for scan in (case.pair.fixed, case.pair.moving):
        assert scan.image.dtype == np.float32 and scan.image.min() >= 0 and scan.image.max() <= 1
        assert set(np.unique(scan.labels)) == {0, *VERTEBRAE}
    assert (case.pair.moving.labels > 0).sum() == pytest.approx((lps_patient().ct_labels > 0).sum(), rel=0.01)


def test_the_voxels_of_an_mr_on_a_1_mm_grid_do_not_change() -> None:
    patient, fixed = lps_patient(), lps_case().pair.fixed
    index = fixed.grid.to_indices_xyz(np.array(patient.mr_grid.origin_mm))
    np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
    x, y, z = np.rint(index).astype(int)
    assert min(z, fixed.grid.shape[0] - 168 - z) > 0, "the crop includes every slice of this MR"
    ours = fixed.image[z : z + 168, y + 20 : y + 60, x + 20 : x + 40]
    np.testing.assert_allclose(ours, scale_mr(patient.mr)[:, 20:60, 20:40], atol=1e-5)


def test_the_grid_beyond_a_scan_is_not_seen() -> None:
    patient, fixed = lps_patient(), lps_case().pair.fixed
    index = fixed.grid.to_indices_xyz(np.array(patient.mr_grid.origin_mm))
    z = int(np.rint(index[2]))
    assert fixed.inside is not None and fixed.modality == "mr" and lps_case().pair.moving.modality == "ct"
    assert not fixed.inside[:z].any() and fixed.inside[z].any()
    np.testing.assert_array_equal(fixed.image[:z], np.broadcast_to(fixed.image[z], fixed.image[:z].shape))


@pytest.mark.parametrize("padding", [-2000.0, -3024.0, -32768.0])
def test_padding_of_the_ct_changes_nothing_where_it_is_seen(padding: float) -> None:
    patient, moving = lps_patient(), lps_case().pair.moving
    ct = patient.ct.copy()
    ct[:, :6] = padding
    padded = preprocess(replace(patient, ct=ct)).pair.moving
    assert padded.inside is not None and not padded.inside.all()
    assert padded.image.min() >= moving.image.min()
    both = padded.inside if moving.inside is None else padded.inside & moving.inside
    np.testing.assert_allclose(padded.image[both], moving.image[both], atol=0.02)


def test_padding_of_the_mr_has_no_influence_on_its_scale() -> None:
    patient, fixed = lps_patient(), lps_case().pair.fixed
    mr = patient.mr + 50
    mr[:10] = -1000
    padded = preprocess(replace(patient, mr=mr)).pair.fixed
    assert padded.inside is not None and fixed.inside is not None and padded.inside.sum() < fixed.inside.sum()
    both = padded.inside & fixed.inside
    np.testing.assert_allclose(padded.image[both], fixed.image[both], atol=1e-4)


def test_a_few_millimetres_remain_after_pre_alignment() -> None:
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (lps_case().pair.moving, lps_case().pair.fixed))
    apart = [np.linalg.norm(moving[v] - fixed[v]) for v in VERTEBRAE]
    assert max(apart) < 3
    patient = lps_patient()
    before = centroids_mm(patient.ct_labels, patient.ct_grid)[22] - centroids_mm(patient.mr_labels, patient.mr_grid)[22]
    assert np.linalg.norm(before) > 20


def test_true_displacement_warps_the_moving_labels_onto_the_fixed_ones() -> None:
    case = lps_case()
    assert case.true_displacement_mm is not None
    grid, moving, fixed = case.pair.grid, case.pair.moving.labels, case.pair.fixed.labels
    u = to_voxels(case.true_displacement_mm, grid)
    warped = warp_labels(torch.from_numpy(moving.astype(np.int32)), u, list(VERTEBRAE)).numpy()
    for vertebra in VERTEBRAE:
        assert dice(warped, fixed, vertebra) > 0.97 > 0.94 > dice(moving, fixed, vertebra)


def test_true_displacement_and_pre_alignment_give_the_true_ct_point() -> None:
    patient, case = lps_patient(), lps_case()
    to_ct = pre_align(
        centroids_mm(patient.mr_labels, patient.mr_grid), centroids_mm(patient.ct_labels, patient.ct_grid)
    )
    inside = case.pair.fixed.labels > 0
    p = case.pair.grid.points_mm()[inside]
    np.testing.assert_allclose(to_ct(p + case.true_displacement_mm[inside]), mr_to_ct(p), atol=0.01)


@pytest.mark.parametrize("code", ["RAS", "LPI", "PIR", "IRP"])
def test_the_case_does_not_depend_on_the_orientation(code: str) -> None:
    """The same voxels in another order give the same case, except for rounding of positions."""
    case = preprocess(restored(lps_patient(), lambda image: sitk.DICOMOrient(image, code)))
    expected = lps_case()
    assert case.pair.grid == expected.pair.grid
    for ours, theirs in ((case.pair.fixed, expected.pair.fixed), (case.pair.moving, expected.pair.moving)):
        assert (ours.labels != theirs.labels).mean() < 1e-5
        np.testing.assert_allclose(ours.image, theirs.image, atol=1e-5)
    np.testing.assert_allclose(case.true_displacement_mm, expected.true_displacement_mm, atol=1e-4)


@pytest.mark.parametrize(
    ("angles", "spacing"),
    [((0, 0, 0), (0.8, 0.8, 2.0)), ((12, -9, 15), (1.0, 1.0, 1.0)), ((9, 7, -8), (2.0, 1.0, 1.0))],
)
def test_oblique_and_anisotropic_scans_differ_by_the_resampling_error(angles: tuple, spacing: tuple) -> None:
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    case = preprocess(stored_patient(direction, spacing, (88.0, 108.0, 184.0)))
    expected = lps_case()
    onto = crop_grid(expected.pair.grid, label_ends_mm(expected.pair.fixed.labels, expected.pair.grid), 0.0)
    for ours, theirs in ((case.pair.fixed, expected.pair.fixed), (case.pair.moving, expected.pair.moving)):
        a, b = (resample_labels(s.labels, s.grid, onto) for s in (ours, theirs))
        assert min(dice(a, b, v) for v in VERTEBRAE) > 0.93
        a, b = (
            resample_image(s.image, s.grid, onto)[resample_labels(s.labels, s.grid, onto) > 0] for s in (ours, theirs)
        )
        assert abs(a.mean() - b.mean()) < 0.01 and abs(a.std() - b.std()) < 0.01
    truth = [resample_displacement(c.true_displacement_mm, c.pair.grid, onto, IDENTITY) for c in (case, expected)]
    inside = resample_labels(expected.pair.fixed.labels, expected.pair.grid, onto) > 0
    assert np.linalg.norm(truth[0] - truth[1], axis=-1)[inside].mean() < 0.15


def test_the_grid_does_not_depend_on_the_fixed_labels() -> None:
    """If centroids are given, other MR labels do not change the grid or the images."""
    patient = lps_patient()
    given = centroids_mm(patient.mr_labels, patient.mr_grid)
    other = np.zeros_like(patient.mr_labels)
    other[5:9, 5:9, 5:9] = 22
    case = preprocess(replace(patient, mr_labels=other, mr_centroids=given))
    assert case.pair.grid == lps_case().pair.grid
    np.testing.assert_array_equal(case.pair.fixed.image, lps_case().pair.fixed.image)
    np.testing.assert_array_equal(case.pair.moving.image, lps_case().pair.moving.image)


def test_given_centroids_are_used_instead_of_the_labels() -> None:
    patient = lps_patient()
    moved = {v: p + np.array([0.0, 4.0, 0.0]) for v, p in centroids_mm(patient.mr_labels, patient.mr_grid).items()}
    pair = preprocess(replace(patient, mr_centroids=moved)).pair
    shift = centroids_mm(pair.moving.labels, pair.grid)[22] - centroids_mm(pair.fixed.labels, pair.grid)[22]
    expected = lps_case().pair
    usual = (
        centroids_mm(expected.moving.labels, expected.grid)[22] - centroids_mm(expected.fixed.labels, expected.grid)[22]
    )
    np.testing.assert_allclose(shift - usual, (0, 4, 0), atol=0.1)


def test_a_patient_without_mr_labels_gives_a_case_without() -> None:
    patient = lps_patient()
    given = centroids_mm(patient.mr_labels, patient.mr_grid)
    case = preprocess(replace(patient, mr_labels=None, mr_centroids=given, displacement_mm=None))
    assert case.pair.fixed.labels is None and case.true_displacement_mm is None
    np.testing.assert_array_equal(case.pair.moving.image, lps_case().pair.moving.image)


def test_patients_that_cannot_be_aligned_are_refused() -> None:
    patient = lps_patient()
    with pytest.raises(BadInput, match="found neither"):
        preprocess(replace(patient, mr_labels=None))
    with pytest.raises(BadInput, match="found 20, 21, 22, 23, 24 in the moving label map and 5 in the fixed"):
        preprocess(replace(patient, mr_labels=np.where(patient.mr_labels > 0, 5, 0).astype(np.uint16)))
    with pytest.raises(BadInput, match="check mr_centroids"):
        preprocess(replace(patient, mr_centroids={20: np.array([0.0, 0.0, 900.0])}))
