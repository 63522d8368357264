"""`polyrigid` and `edt-interpolation`: each block's own motion is found, and the field follows it exactly inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from methods.base import Grid, Pair, Registration, Scan
from methods.bones.chain import choose
from methods.bones.fusion import MARGIN_MM, BoneDistance, in_voxels, shares
from methods.bones.lattice import Pose, seen, surroundings
from methods.bones.match import best_shifts
from methods.bones.method import Bones
from methods.bones.polyrigid import Polyrigid
from methods.bones.search import SearchSettings, find_bones
from methods.geometry import spacing_zyx, to_voxels
from methods.registry import create_method
from metrics.fields import jacobian, jacobian_determinant

PLAIN = Grid((64, 52, 48), (1.0, 1.0, 1.0), (10.0, -20.0, 5.0))
_TURN = Rotation.from_euler("xz", [20, -35], degrees=True).as_matrix()
OBLIQUE = Grid((40, 44, 52), (1.0, 1.2, 1.7), (-12.0, 31.0, 5.0), tuple(_TURN.ravel().tolist()))
ROWS = ("polyrigid", "edt-interpolation")
# Per bone: turn in degrees and shift in mm, fixed -> moving, about its centre, along the grid's own axes x, y, z.
MOTION = {20: ((6.0, 0.0, -3.0), (3.0, -2.0, 2.0)), 21: ((-4.0, 2.0, 0.0), (-2.0, 3.0, 1.0))}


def spine(grid: Grid) -> np.ndarray:
    """Two bones of a body and an arch, 20 above 21, each about 20 x 24 x 16 mm."""
    centre = grid.to_points_mm((np.array(grid.shape[::-1]) - 1) / 2)
    x, y, z = np.moveaxis((grid.points_mm() - centre) @ grid.matrix, -1, 0)
    labels = np.zeros(grid.shape, np.uint16)
    for label, height in ((20, 13.0), (21, -13.0)):
        flat = np.abs(z - height)
        body = (np.abs(x) < 10) & (y > -12) & (y < 4) & (flat < 8)
        arch = (np.abs(x) < 3.5) & (y >= 4) & (y < 13) & (flat < 5)
        labels[body | arch] = label
    return labels


def pull_of(label: int, labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The bone's true transform, fixed -> moving, 4 x 4, LPS millimetres."""
    turn, shift = MOTION[label]
    rotation = grid.matrix @ Rotation.from_rotvec(turn, degrees=True).as_matrix() @ grid.matrix.T
    centre = grid.points_mm()[labels == label].mean(axis=0)
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = centre - rotation @ centre + grid.matrix @ np.array(shift)
    return result


def apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ transform[:3, :3].T + transform[:3, 3]


def moved_pair(grid: Grid, keep: tuple[int, ...] = (20, 21)) -> Pair:
    """Texture with bones, and the same in another contrast with every bone (and what is nearest to it) moved."""
    labels = spine(grid)
    labels[~np.isin(labels, keep)] = 0
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.standard_normal(grid.shape), [1.5 / s for s in spacing_zyx(grid)])
    moving = 0.3 + 0.08 * texture / texture.std() + 0.35 * gaussian_filter((labels > 0).astype(float), 0.6)
    points = grid.points_mm()
    ends = np.stack([apply(pull_of(v, labels, grid), points) for v in keep])
    away = [
        BoneDistance(labels, v, grid)(torch.from_numpy(index_of(e, grid)).float())
        for v, e in zip(keep, ends, strict=True)
    ]
    nearest = torch.stack(away).argmin(dim=0).numpy()
    goes_to = np.take_along_axis(ends, nearest[None, ..., None], axis=0)[0]
    fixed = 1 - 0.8 * map_coordinates(moving, index_of(goes_to, grid), order=1, mode="nearest")
    scans = [np.clip(image, 0, 1).astype(np.float32) for image in (fixed, moving)]
    return Pair("small", Scan(scans[0], None, grid), Scan(scans[1], labels, grid))


def index_of(points_mm: np.ndarray, grid: Grid) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(grid.to_indices_xyz(points_mm)[..., ::-1], -1, 0))


def fixed_place(label: int, pair: Pair, pull: np.ndarray, erosions: int = 0) -> np.ndarray:
    """Where a bone, less some voxels of its rim, is on the fixed grid: bool (z, y, x)."""
    bone = pair.moving.labels == label
    if erosions:
        bone = binary_erosion(bone, iterations=erosions)
    points = torch.from_numpy(index_of(apply(pull, pair.grid.points_mm()), pair.grid)).float()
    return (BoneDistance(bone, 1, pair.grid)(points) == 0).numpy()


def rotation_deg(transform: np.ndarray) -> float:
    return float(np.degrees(Rotation.from_matrix(transform[:3, :3]).magnitude()))


def register(row: str, pair: Pair, **settings: float) -> Registration:
    method = create_method(row, settings)
    method.prepare("cpu", 1, 0)
    registration = method.register(pair)
    registration.check(pair.grid)
    return registration


def lowest_jacobian(registration: Registration, grid: Grid) -> float:
    displacement = to_voxels(registration.displacement_mm, grid)
    return float(jacobian_determinant(jacobian(displacement, spacing_zyx(grid))).min())


# ------------------------------------------------------------------------------------------------------- both rows


@pytest.mark.parametrize("grid", [PLAIN, OBLIQUE], ids=["plain", "oblique"])
def test_each_bones_own_motion_is_found(grid: Grid) -> None:
    """From identity, up to 4 mm and 7 degrees away, within 0.3 mm and 0.5 degrees."""
    pair = moved_pair(grid)
    found = find_bones(pair, SearchSettings())
    assert list(found.pulls) == [20, 21] and not found.borrowed
    for v, pull in found.pulls.items():
        truth = pull_of(v, pair.moving.labels, grid)
        points = grid.points_mm()[fixed_place(v, pair, truth)]
        assert np.linalg.norm(apply(truth, points) - points, axis=1).mean() > 3, "there is something to find"
        assert np.linalg.norm(apply(pull, points) - apply(truth, points), axis=1).mean() < 0.3
        assert rotation_deg(np.linalg.inv(truth) @ pull) < 0.5


@pytest.mark.parametrize("grid", [PLAIN, OBLIQUE], ids=["plain", "oblique"])
@pytest.mark.parametrize("row", ROWS)
def test_field_is_rigid_in_every_bone_and_unfolded(row: str, grid: Grid) -> None:
    pair = moved_pair(grid)
    registration = register(row, pair)
    points = grid.points_mm()
    for v in (20, 21):
        truth = pull_of(v, pair.moving.labels, grid)
        inside = fixed_place(v, pair, truth, erosions=1)
        error = registration.displacement_mm[inside] - (apply(truth, points[inside]) - points[inside])
        assert np.linalg.norm(error, axis=1).mean() < 0.3, "the direction is fixed -> moving, in LPS millimetres"
    assert lowest_jacobian(registration, grid) > 0
    assert registration.notes["lowest_jacobian"] == pytest.approx(lowest_jacobian(registration, grid))
    worst = registration.notes["rigidity_deviation_worst_vertebra_mm"]
    assert worst < {"polyrigid": 0.05, "edt-interpolation": 1e-4}[row]


@pytest.mark.parametrize("row", ROWS)
def test_one_vertebra_is_one_rigid_transform_of_everything(row: str) -> None:
    """With weight 1 everywhere the field is affine: its second differences are 0."""
    registration = register(row, moved_pair(PLAIN, keep=(20,)))
    inner = registration.displacement_mm[8:-8, 8:-8, 8:-8]
    assert max(np.abs(np.diff(inner, n=2, axis=a)).max() for a in range(3)) < 1e-3
    assert "not_found" not in registration.notes


def test_another_label_order_or_contrast_changes_nothing() -> None:
    pair = moved_pair(PLAIN)
    negative = Pair("n", Scan(1 - pair.fixed.image, None, PLAIN), pair.moving)
    both = [find_bones(p, SearchSettings()).pulls for p in (pair, negative)]
    for v in (20, 21):
        np.testing.assert_allclose(both[0][v], both[1][v], atol=1e-2)


def test_a_second_run_gives_the_same() -> None:
    pair = moved_pair(PLAIN)
    np.testing.assert_array_equal(*(register("polyrigid", pair).displacement_mm for _ in range(2)))


def test_a_vertebra_outside_of_the_view_moves_as_its_neighbour_and_is_named() -> None:
    pair = moved_pair(PLAIN)
    image = pair.fixed.image.copy()
    image[34:] = 0  # all of 20, at the top
    registration = register("edt-interpolation", Pair("p", Scan(image, None, PLAIN), pair.moving))
    assert registration.notes["not_found"] == "20: moved as 21"
    assert "20:" not in registration.notes["match_distances"]


def test_a_vertebra_cut_by_the_border_is_found() -> None:
    """The grid ends in the middle of 20: what remains of it, and of 21, is still found."""
    whole = moved_pair(PLAIN)
    grid = replace(PLAIN, shape=(48, 52, 48))
    scans = [Scan(s.image[:48], None if s.labels is None else s.labels[:48], grid) for s in (whole.fixed, whole.moving)]
    found = find_bones(Pair("cut", *scans), SearchSettings())
    for v, within_mm in ((20, 1.0), (21, 0.3)):
        truth = pull_of(v, whole.moving.labels, PLAIN)
        points = grid.points_mm()[scans[1].labels == v]
        assert np.linalg.norm(apply(found.pulls[v], points) - apply(truth, points), axis=1).mean() < within_mm


def test_a_volume_smaller_than_a_descriptor_is_refused() -> None:
    """4 x 5 x 6 voxels of 1 mm: no descriptor of 7 voxels rests on what the image shows."""
    grid = Grid((4, 5, 6))
    rng = np.random.default_rng(0)
    labels = np.zeros(grid.shape, np.uint16)
    labels[1:3, 1:4, 1:5] = 7
    scans = [rng.random(grid.shape, np.float32) for _ in range(2)]
    with pytest.raises(ValueError, match="pair tiny: the fixed image shows none of the 1 labelled vertebrae"):
        register("polyrigid", Pair("tiny", Scan(scans[0], None, grid), Scan(scans[1], labels, grid)))


@pytest.mark.parametrize("row", ROWS)
def test_pairs_that_cannot_be_registered_are_refused(row: str) -> None:
    pair = moved_pair(PLAIN)
    unlabelled = Scan(pair.moving.image, np.zeros_like(pair.moving.labels), PLAIN)
    with pytest.raises(ValueError, match=f"pair p: the moving label map is empty; {row} needs"):
        register(row, Pair("p", pair.fixed, unlabelled))
    flat = Scan(np.full(PLAIN.shape, 0.5, np.float32), None, PLAIN)
    with pytest.raises(ValueError, match=r"the fixed image has one value everywhere, 0\.5"):
        register(row, Pair("p", flat, pair.moving))
    elsewhere = np.zeros(PLAIN.shape, np.float32)
    elsewhere[:4, :4, :4] = pair.fixed.image[:4, :4, :4]
    with pytest.raises(ValueError, match="shows none of the 2 labelled vertebrae"):
        register(row, Pair("p", Scan(elsewhere, None, PLAIN), pair.moving))


# ------------------------------------------------------------------------------------------------------- the parts


def test_shift_of_a_pattern_is_found_exactly() -> None:
    """Noise moved by (x, y, z) = (2, -1, 3) steps: distance 0 there, and only there."""
    rng = np.random.default_rng(0)
    bone = torch.from_numpy(rng.random((2, 20, 20, 20), np.float32))
    scene = torch.roll(bone, (3, -1, 2), (1, 2, 3))
    mask = torch.zeros(20, 20, 20, dtype=torch.bool)
    mask[8:12, 8:12, 8:12] = True
    (shift, distance), (_, second) = best_shifts(bone, mask, scene, torch.ones(20, 20, 20), 4, 2)
    assert shift.tolist() == [2, -1, 3]
    assert distance == pytest.approx(0, abs=1e-5) and second > 0.05
    assert best_shifts(bone, mask, scene, torch.zeros(20, 20, 20), 4, 2) == []


def shifted(*heights: float) -> np.ndarray:
    """Shifts along z as transforms (k, 4, 4)."""
    result = np.tile(np.eye(4), (len(heights), 1, 1))
    result[:, 2, 3] = heights
    return result


def test_neighbours_decide_between_two_matches() -> None:
    """The middle bone matches 25 mm away somewhat better; beside its neighbours it stays where they are."""
    centres = np.array([[0, 0, 0], [0, 0, 30], [0, 0, 60.0]])
    sure = (shifted(1.0), np.array([0.1]))
    assert choose(centres, [sure, (shifted(26, 2), np.array([0.1, 0.15])), sure]) == [0, 1, 0]
    assert choose(centres, [sure, (shifted(4, 2), np.array([0.1, 0.15])), sure]) == [0, 0, 0]
    assert choose(centres[:1], [(shifted(26, 2), np.array([0.1, 0.15]))]) == [0]


def test_a_vertebra_without_a_fitting_match_is_left_out() -> None:
    """25 mm off its neighbours costs 6.25 a side, being left out 3; 10 mm off the only neighbour costs 1."""
    centres = np.array([[0, 0, 0], [0, 0, 30], [0, 0, 60.0]])
    sure, away, near = ((shifted(h), np.array([0.1])) for h in (1.0, 26.0, 11.0))
    assert choose(centres, [sure, away, sure]) == [0, None, 0]
    assert choose(centres, [sure, sure, near]) == [0, 0, 0]


def test_distance_to_a_bone_is_in_millimetres_and_goes_on_beyond_its_box() -> None:
    """One voxel at (z, y, x) = (5, 6, 7), spacing (x, y, z) = (1, 2, 3): three voxels along z are 9 mm."""
    grid = Grid((10, 12, 14), (1.0, 2.0, 3.0))
    labels = np.zeros(grid.shape, np.uint16)
    labels[5, 6, 7] = 3
    points = torch.tensor([[5.0, 6, 7], [8, 6, 7], [5, 4, 7], [5, 6, 9.5], [45, 6, 7], [5, 6, -60]]).T[:, :, None, None]
    expected = [0, 9, 4, 2.5, 120, 67]
    assert MARGIN_MM < 60
    np.testing.assert_allclose(BoneDistance(labels, 3, grid)(points).flatten(), expected, atol=1e-4)


def test_shares_are_inverse_powers_of_distance() -> None:
    """1 mm and 2 mm: 4/5 and 1/5 squared; inside a bone all of it; inside two, half each."""
    distances = torch.tensor([[1.0, 0.0, 0.0, 1e6], [2.0, 5.0, 0.0, 1e6]])
    np.testing.assert_allclose(shares(distances, 2.0), [[0.8, 1, 0.5, 0.5], [0.2, 0, 0.5, 0.5]], atol=1e-6)


def test_transform_in_voxels_takes_voxels_where_millimetres_go() -> None:
    pull = pull_of(20, spine(OBLIQUE), OBLIQUE)
    index_zyx = np.array([3.0, 10.0, 20.0])
    goes_to = apply(pull, OBLIQUE.to_points_mm(index_zyx[::-1]))
    np.testing.assert_allclose(apply(in_voxels(pull, OBLIQUE), index_zyx), OBLIQUE.to_indices_xyz(goes_to)[::-1])


def test_flow_of_one_logarithm_is_its_transform() -> None:
    """A turn of 20 degrees about the middle of the grid: integrated and by 4 x 4 matrix, within 0.02 mm."""
    labels = spine(PLAIN)
    log = np.zeros((4, 4))
    log[0, 1], log[1, 0] = -np.deg2rad(20), np.deg2rad(20)
    centre = PLAIN.points_mm().reshape(-1, 3).mean(axis=0)
    log[:3, 3] = -log[:3, :3] @ centre
    bones = Bones(labels, PLAIN, {20: expm(log)})
    displacement = Polyrigid("polyrigid").fuse(bones)
    apart = (displacement[0] - bones.displacement(0))[:, 16:-16, 16:-16, 16:-16]
    assert bones.displacement(0).abs().max() > 5
    assert apart.abs().max() < 0.02
    assert bones.deviations_mm(bones.displacement(0)[None] + 1.0) == pytest.approx([np.sqrt(3)], rel=1e-5)


def test_a_bone_on_a_long_way_stays_rigid() -> None:
    """A cube of 8 mm goes 24 mm past a bone 3 mm above it, which is nearer than the ends of its way, not the middle."""
    labels = np.zeros((40, 24, 48), np.uint16)
    labels[10:18, 8:16, 30:38], labels[21:29, 8:16, 14:30] = 20, 21
    away = np.eye(4)
    away[0, 3] = 24.0
    bones = Bones(labels, Grid(labels.shape), {20: away, 21: np.eye(4)})
    assert bones.deviations_mm(Polyrigid("polyrigid").fuse(bones))[0] < 1.0


def test_poses_follow_one_another() -> None:
    """First a shift by 2 mm along x, then a quarter turn about z: (1, 0, 0) goes to (3, 0, 0), then to (0, 3, 0)."""
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])[None]
    shift = Pose(torch.eye(3)[None], torch.tensor([[2.0, 0, 0]]))
    both = Pose(turn, torch.tensor([[0.0, 0, 5]])).after(shift)
    np.testing.assert_allclose(both.move(torch.tensor([[1.0, 0, 0]]))[0], [[0, 3, 5]], atol=1e-6)


def test_surroundings_are_a_rim_without_other_bones() -> None:
    """Spacing (x, y, z) = (1, 1, 2), a rim of 2 mm: two voxels along x, one along z, none of the neighbour's."""
    labels = np.zeros((7, 7, 9), np.uint16)
    labels[3, 3, 4], labels[3, 3, 6:] = 20, 21
    row = surroundings(labels, 20, Grid(labels.shape, (1.0, 1.0, 2.0)), 2.0)[0]
    assert row[3, 3].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert row[:, 3, 4].tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_what_has_one_value_shows_nothing() -> None:
    image = np.random.default_rng(0).random((12, 12, 12), np.float32)
    image[6:] = 0
    assert seen(image)[0, :6].all() and not seen(image)[0, 9:].any()
