"""Preprocessing: every step against numbers by hand, and one patient that is the same however it is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from benchmark.datasets.preprocessing import (
    MARGIN_MM,
    STAY,
    Patient,
    Rigid,
    centroids_mm,
    crop_grid,
    isotropic_grid,
    label_ends_mm,
    pre_align,
    preprocess,
    resample_displacement,
    resample_image,
    resample_labels,
    scale_ct,
    scale_mr,
)
from benchmark.errors import BadInput
from methods.base import Case, Grid
from methods.geometry import from_sitk, to_sitk, to_voxels
from metrics.fields import warp

# Index x runs along +y of the patient, index y along -x, index z along +z.
QUARTER_TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
HAND_GRID = Grid((4, 3, 2), (2.0, 3.0, 4.0), (10.0, 20.0, 30.0), QUARTER_TURN)
LPS = np.eye(3)


# A patient as functions of position: it can be stored on any grid, and its true displacement is known exactly.

VERTEBRAE = {20 + i: np.array([0.0, 6.0 * np.cos(i - 2), 30.0 * (2 - i)]) for i in range(5)}  # a bow of lumbar depth
MOTION = Rigid(Rotation.from_euler("xyz", [6, -5, 2], degrees=True).as_matrix(), np.array([11.0, -7.0, 23.0]))


def ct_labels_at(q: np.ndarray) -> np.ndarray:
    """Five ellipsoids, each with a process behind it, so that no rotation leaves them as they are."""
    labels = np.zeros(q.shape[:-1], np.uint16)
    for vertebra, centre in VERTEBRAE.items():
        d = q - centre
        body = ((d / (19.0, 14.0, 11.0)) ** 2).sum(-1) < 1
        process = (((d - (4.0, 20.0, -3.0)) / (4.0, 10.0, 5.0)) ** 2).sum(-1) < 1
        labels[body | process] = vertebra
    return labels


def ct_at(q: np.ndarray) -> np.ndarray:
    waves = np.sin(q @ (0.11, 0.03, 0.02)) + np.sin(q @ (-0.02, 0.09, 0.05)) + np.sin(q @ (0.03, -0.04, 0.12))
    return (150.0 * waves + 100.0).astype(np.float32)


def mr_to_ct(p: np.ndarray) -> np.ndarray:
    """MR point -> CT point: a rigid motion and a smooth deformation of some 3 mm."""
    bend = np.stack([1.5 * np.sin(p[..., 2] / 30), 3.0 * np.cos(p[..., 2] / 40), 1.5 * np.sin(p[..., 1] / 25)], -1)
    return MOTION(p + bend)


def box_grid(centre: np.ndarray, direction: np.ndarray, spacing: tuple[float, float, float], size_mm: tuple) -> Grid:
    shape = tuple(round(n / s) for n, s in zip(size_mm, spacing, strict=True))
    offset = (np.array(shape) - 1) / 2 * spacing
    return Grid(shape[::-1], spacing, tuple(centre - direction @ offset), tuple(direction.ravel()))


def stored_patient(
    direction: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), size: tuple = (64.0, 80.0, 168.0)
) -> Patient:
    """The patient with both scans in boxes of the given direction, spacing and size in mm around the spine."""
    in_mr = MOTION.inverse()(np.zeros(3))
    ct_grid = box_grid(np.zeros(3), direction, spacing, tuple(np.abs(direction.T @ size).round()))
    mr_grid = box_grid(np.round(in_mr) + 0.5, direction, spacing, tuple(np.abs(direction.T @ size).round()))
    q, p = ct_grid.points_mm(), mr_grid.points_mm()
    u = mr_to_ct(p) - p
    mr = 900.0 - ct_at(p + u)
    return Patient(
        "p1", ct_at(q), ct_labels_at(q), ct_grid, mr, ct_labels_at(p + u), mr_grid, None, u.astype(np.float32)
    )


@cache
def lps_patient() -> Patient:
    return stored_patient(LPS)


@cache
def lps_case() -> Case:
    return preprocess(lps_patient())


def restored(patient: Patient, change: Callable[[sitk.Image], sitk.Image]) -> Patient:
    """The same patient with every array changed by SimpleITK."""

    def changed(array: np.ndarray | None, grid: Grid) -> tuple:
        assert array is not None
        return from_sitk(change(to_sitk(array, grid)))

    ct, ct_grid = changed(patient.ct, patient.ct_grid)
    mr, mr_grid = changed(patient.mr, patient.mr_grid)
    labels = [changed(a, g)[0] for a, g in ((patient.ct_labels, patient.ct_grid), (patient.mr_labels, patient.mr_grid))]
    u = changed(patient.displacement_mm, patient.mr_grid)[0]
    return Patient(patient.name, ct, labels[0], ct_grid, mr, labels[1], mr_grid, patient.mr_centroids, u)


def dice(a: np.ndarray, b: np.ndarray, vertebra: int) -> float:
    return 2 * ((a == vertebra) & (b == vertebra)).sum() / ((a == vertebra).sum() + (b == vertebra).sum())


# Centroids and boxes


def test_centroid_by_hand_on_a_turned_anisotropic_grid() -> None:
    labels = np.zeros((4, 3, 2), np.uint16)
    labels[3, 2, 0] = labels[3, 2, 1] = 7  # indices (0, 2, 3) and (1, 2, 3), the mean (0.5, 2, 3)
    labels[0, 0, 0] = 65535
    centroids = centroids_mm(labels, HAND_GRID)
    assert sorted(centroids) == [7, 65535]
    np.testing.assert_allclose(centroids[7], (10 - 2 * 3, 20 + 0.5 * 2, 30 + 3 * 4))
    np.testing.assert_allclose(centroids[65535], (10, 20, 30))


def test_label_ends_span_every_labelled_voxel() -> None:
    grid = Grid((9, 8, 7), (1.5, 0.7, 3.0), (1.0, 2.0, 3.0), tuple(Rotation.random(rng=0).as_matrix().ravel()))
    labels = (np.random.default_rng(0).random(grid.shape) < 0.02).astype(np.uint16)
    every, ends = grid.points_mm()[labels > 0], label_ends_mm(labels, grid)
    np.testing.assert_allclose(ends.min(axis=0), every.min(axis=0))
    np.testing.assert_allclose(ends.max(axis=0), every.max(axis=0))


def test_isotropic_grid_by_hand() -> None:
    """Voxel edges of HAND_GRID: x from 10 - 7.5 to 10 + 1.5, y from 19 to 23, z from 28 to 44."""
    assert isotropic_grid(HAND_GRID) == Grid((16, 4, 9), (1.0, 1.0, 1.0), (3.0, 19.5, 28.5))


def test_isotropic_grid_of_a_1_mm_lps_volume_is_its_own() -> None:
    grid = Grid((7, 8, 9), (1.0, 1.0, 1.0), (-34.2, 0.25, 100.0))
    assert isotropic_grid(grid) == grid


def test_isotropic_grid_does_not_depend_on_the_order_and_sense_of_the_axes() -> None:
    image = to_sitk(np.zeros((5, 6, 7), np.float32), Grid((5, 6, 7), (0.9, 2.0, 3.3), (12.0, -30.4, 5.0)))
    expected = isotropic_grid(from_sitk(image)[1])
    for order, flips in product(permutations(range(3)), product([False, True], repeat=3)):
        stored = sitk.Flip(sitk.PermuteAxes(image, order), flips)
        assert isotropic_grid(from_sitk(stored)[1]) == expected


def test_crop_grid_by_hand() -> None:
    """x: voxels 10-15 and 2 mm more make 8-17, 10 voxels, so 16: 3 more before and 3 after. y: 8 exactly fit 16."""
    grid = Grid((50, 50, 50), (1.0, 1.0, 1.0), (100.0, 200.0, 300.0))
    points = np.array([[110.0, 206.0, 300.0], [115.0, 217.0, 312.5]])
    cropped = crop_grid(grid, points, margin_mm=2.0, multiple=16)
    assert cropped == Grid((32, 16, 16), (1.0, 1.0, 1.0), (105.0, 204.0, 291.0))


def test_crop_grid_has_margin_and_sizes_divisible_by_16() -> None:
    points = np.random.default_rng(0).uniform(-60, 60, (20, 3))
    grid = crop_grid(Grid((20, 20, 20), origin_mm=(0.3, 0.4, 0.5)), points)
    assert all(n % 16 == 0 for n in grid.shape)
    low, high = np.array(grid.origin_mm), grid.to_points_mm(np.array(grid.shape[::-1]) - 1)
    room = np.concatenate([points.min(axis=0) - low, high - points.max(axis=0)])
    assert MARGIN_MM == 20, "the project's decision in FACTS.md"
    assert (room >= MARGIN_MM - 1e-2).all() and (room < MARGIN_MM + 9).all()


def test_crop_grid_refuses_what_is_no_spine() -> None:
    with pytest.raises(BadInput, match=r"1200 mm.*1e\+09 mm"):
        crop_grid(Grid((2, 2, 2)), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1e9]]))


# Pre-alignment


def spine(count: int = 5, bow_mm: float = 0.0) -> np.ndarray:
    """Centroids 35 mm apart along z; bow_mm: how far the middle lies in front of the ends."""
    s = np.linspace(-1, 1, count)
    return np.stack([0 * s, bow_mm * (1 - s**2), -35.0 * np.arange(count)], axis=1)


def centroids(points: np.ndarray) -> dict[int, np.ndarray]:
    return {20 + i: p for i, p in enumerate(points)}


def turn_deg(rotation: np.ndarray) -> float:
    return float(np.degrees(Rotation.from_matrix(rotation).magnitude()))


def test_pre_alignment_goes_from_fixed_to_moving() -> None:
    found = pre_align(centroids(spine()), centroids(spine() + np.array([1.0, 2.0, 3.0])))
    np.testing.assert_allclose(found(np.zeros(3)), (1, 2, 3), atol=1e-9)
    np.testing.assert_allclose(found.inverse()(np.array([1.0, 2.0, 3.0])), 0, atol=1e-9)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0.6, 0.8, 0)])
def test_a_tilt_of_the_spine_is_found_exactly(axis: tuple) -> None:
    """A rotation about an axis at right angles to a straight spine carries no twist: nothing is left of it."""
    tilt = Rotation.from_rotvec(np.radians(25) * np.array(axis)).as_matrix()
    moving = spine() @ tilt.T + (5.0, -40.0, 12.0)
    found = pre_align(centroids(spine()), centroids(moving))
    np.testing.assert_allclose(found.rotation, tilt, atol=1e-9)
    np.testing.assert_allclose(found(spine()), moving, atol=1e-9)


def test_twist_stays_small_where_centroids_do_not_tell() -> None:
    """Annotation errors of 2 mm turn a plain fit by tens of degrees about a spine 5 mm off a line; never this one."""
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
    """Between standing and lying a spine may bow the other way; a plain fit would turn the patient round."""
    fixed, moving = spine(bow_mm=6.0), spine(bow_mm=-6.0)
    kabsch, _ = Rotation.align_vectors(moving - moving.mean(axis=0), fixed - fixed.mean(axis=0))
    assert np.degrees(kabsch.magnitude()) > 170
    assert turn_deg(pre_align(centroids(fixed), centroids(moving)).rotation) < 1


def test_a_turn_that_the_centroids_do_tell_is_found() -> None:
    """Centroids far off a line, as in a strong scoliosis, outweigh the four points that hold the twist."""
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


# Resampling and intensities


def test_resampling_onto_the_same_grid_changes_nothing() -> None:
    grid = Grid((5, 6, 7), (0.8, 1.5, 2.0), (1.0, 2.0, 3.0))
    labels = np.random.default_rng(0).integers(0, 65536, grid.shape).astype(np.uint16)
    image = labels.astype(np.float32)
    found = resample_labels(labels, grid, grid)
    assert found.dtype == np.uint16 and np.array_equal(found, labels)
    np.testing.assert_allclose(resample_image(image, grid, grid), image, rtol=1e-6)


def test_ties_between_voxels_do_not_depend_on_the_order_of_storage() -> None:
    """Points midway between two voxels: the nearest is a convention, and must be the same one for a flipped file."""
    grid, onto = Grid((4, 4, 4), (2.0, 2.0, 2.0)), Grid((3, 3, 3), (2.0, 2.0, 2.0), (1.0, 1.0, 1.0))
    labels = np.arange(1, 65, dtype=np.uint16).reshape(4, 4, 4)
    flipped, flipped_grid = from_sitk(sitk.DICOMOrient(to_sitk(labels, grid), "RAI"))
    assert not np.array_equal(flipped, labels)
    np.testing.assert_array_equal(resample_labels(flipped, flipped_grid, onto), resample_labels(labels, grid, onto))


def test_resampling_reads_at_the_moved_point() -> None:
    """image(p) = 3x at 2 mm voxels; read 1 mm further along x, 3(x + 1); beyond the last voxel the outside value."""
    grid, onto = Grid((3, 3, 6), (2.0, 2.0, 2.0)), Grid((1, 1, 14), (1.0, 1.0, 1.0), (0.0, 2.0, 2.0))
    image = (3 * grid.points_mm()[..., 0]).astype(np.float32)
    found = resample_image(image, grid, onto, Rigid(np.eye(3), np.array([1.0, 0.0, 0.0])), outside=-1000.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, -1000, -1000, -1000, -1000])


def test_true_displacement_after_pre_alignment_by_hand() -> None:
    """The truth goes 5 mm along x. Pre-alignment already goes 3 mm, turned a quarter about z: p + 5 = R q + 3."""
    grid = Grid((2, 2, 2), (10.0, 10.0, 10.0))
    u = np.zeros((2, 2, 2, 3), np.float32)
    u[..., 0] = 5.0
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = resample_displacement(u, grid, grid, Rigid(turn, np.array([3.0, 0.0, 0.0])))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0, 0], (0, -2, 0), atol=1e-6)  # R q = (2, 0, 0), q = (0, -2, 0)
    np.testing.assert_allclose(found[0, 0, 1], (-10, -12, 0), atol=1e-6)  # p = (10, 0, 0), q = (0, -12, 0)


def test_true_displacement_continues_beyond_its_grid() -> None:
    u = np.full((2, 2, 2, 3), 4.0, np.float32)
    found = resample_displacement(u, Grid((2, 2, 2)), Grid((8, 8, 8), origin_mm=(-3.0, -3.0, -3.0)), STAY)
    np.testing.assert_allclose(found, 4.0, atol=1e-6)


def test_intensities_by_hand() -> None:
    scaled = scale_ct(np.array([-3000.0, -1000, 500, 2000, 3000], np.float32))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(scale_mr(np.array([20.0, 30, 60], np.float32)), [0, 0.25, 1])


# The whole of it


def test_case_is_what_every_method_expects() -> None:
    case = lps_case()
    grid = case.pair.grid
    assert grid.spacing_mm == (1.0, 1.0, 1.0) and all(n % 16 == 0 for n in grid.shape)
    assert case.pair.case == "p1"
    assert case.pair.fixed.labels is not None and case.pair.moving.labels is not None
    for scan in (case.pair.fixed, case.pair.moving):
        assert scan.image.dtype == np.float32 and scan.image.min() >= 0 and scan.image.max() <= 1
        assert set(np.unique(scan.labels)) == {0, *VERTEBRAE}
    assert (case.pair.moving.labels > 0).sum() == pytest.approx((lps_patient().ct_labels > 0).sum(), rel=0.01)


def test_an_mr_on_a_1_mm_grid_keeps_its_voxels() -> None:
    patient, fixed = lps_patient(), lps_case().pair.fixed
    index = fixed.grid.to_indices_xyz(np.array(patient.mr_grid.origin_mm))
    np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
    x, y, z = np.rint(index).astype(int)
    assert min(z, fixed.grid.shape[0] - 168 - z) > 0, "the crop holds every slice of this MR"
    ours = fixed.image[z : z + 168, y + 20 : y + 60, x + 20 : x + 40]
    np.testing.assert_allclose(ours, scale_mr(patient.mr)[:, 20:60, 20:40], atol=1e-5)


def test_pre_alignment_leaves_a_few_millimetres() -> None:
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
    warped = warp(torch.from_numpy(moving.astype(np.float32))[None, None], u, mode="nearest")[0, 0].numpy()
    for vertebra in VERTEBRAE:
        assert dice(warped, fixed, vertebra) > 0.96 > 0.93 > dice(moving, fixed, vertebra)


def test_true_displacement_and_pre_alignment_give_the_true_ct_point() -> None:
    patient, case = lps_patient(), lps_case()
    to_ct = pre_align(
        centroids_mm(patient.mr_labels, patient.mr_grid), centroids_mm(patient.ct_labels, patient.ct_grid)
    )
    inside = case.pair.fixed.labels > 0
    p = case.pair.grid.points_mm()[inside]
    np.testing.assert_allclose(to_ct(p + case.true_displacement_mm[inside]), mr_to_ct(p), atol=0.01)


@pytest.mark.parametrize("code", ["RAS", "LPI", "PIR", "IRP"])
def test_order_and_sense_of_the_axes_do_not_matter(code: str) -> None:
    """The same voxels in another order: the same case, to the last bit but for what rounding leaves of positions."""
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
def test_oblique_and_anisotropic_storage_gives_the_same_within_resampling(angles: tuple, spacing: tuple) -> None:
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
    truth = [resample_displacement(c.true_displacement_mm, c.pair.grid, onto, STAY) for c in (case, expected)]
    inside = resample_labels(expected.pair.fixed.labels, expected.pair.grid, onto) > 0
    assert np.linalg.norm(truth[0] - truth[1], axis=-1)[inside].mean() < 0.15


def test_fixed_labels_do_not_decide_the_grid() -> None:
    """With centroids given, MR labels may be anything: the grid and both images stay as they are."""
    patient = lps_patient()
    given = centroids_mm(patient.mr_labels, patient.mr_grid)
    other = np.zeros_like(patient.mr_labels)
    other[5:9, 5:9, 5:9] = 22
    case = preprocess(replace(patient, mr_labels=other, mr_centroids=given))
    assert case.pair.grid == lps_case().pair.grid
    np.testing.assert_array_equal(case.pair.fixed.image, lps_case().pair.fixed.image)
    np.testing.assert_array_equal(case.pair.moving.image, lps_case().pair.moving.image)


def test_given_centroids_come_before_the_labels() -> None:
    patient = lps_patient()
    moved = {v: p + np.array([0.0, 4.0, 0.0]) for v, p in centroids_mm(patient.mr_labels, patient.mr_grid).items()}
    pair = preprocess(replace(patient, mr_centroids=moved)).pair
    shift = centroids_mm(pair.moving.labels, pair.grid)[22] - centroids_mm(pair.fixed.labels, pair.grid)[22]
    expected = lps_case().pair
    usual = (
        centroids_mm(expected.moving.labels, expected.grid)[22] - centroids_mm(expected.fixed.labels, expected.grid)[22]
    )
    np.testing.assert_allclose(shift - usual, (0, 4, 0), atol=0.1)


def test_a_patient_without_mr_labels_has_none() -> None:
    patient = lps_patient()
    given = centroids_mm(patient.mr_labels, patient.mr_grid)
    case = preprocess(replace(patient, mr_labels=None, mr_centroids=given, displacement_mm=None))
    assert case.pair.fixed.labels is None and case.true_displacement_mm is None
    np.testing.assert_array_equal(case.pair.moving.image, lps_case().pair.moving.image)


def test_patients_that_cannot_be_brought_together_are_refused() -> None:
    patient = lps_patient()
    with pytest.raises(BadInput, match="found neither"):
        preprocess(replace(patient, mr_labels=None))
    with pytest.raises(BadInput, match="found 20, 21, 22, 23, 24 in the CT label map and 5 in the MR"):
        preprocess(replace(patient, mr_labels=np.where(patient.mr_labels > 0, 5, 0).astype(np.uint16)))
    with pytest.raises(BadInput, match="check mr_centroids"):
        preprocess(replace(patient, mr_centroids={20: np.array([0.0, 0.0, 900.0])}))
