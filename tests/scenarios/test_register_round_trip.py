"""What `register` writes, used in SimpleITK: the stored scan warped once gives the written results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.analytic_patient import MOTION
from support.command_line import invoke
from support.self_labelled import oblique_grid, self_labelled_ct

from benchmark.datasets.io.images import (
    corners_mm,
    read_displacement,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from benchmark.datasets.preprocessing import centroids_mm
from methods.base import Pair, Scan
from methods.precomputed import Precomputed

PLUGIN = Path(__file__).parents[1] / "plugins" / "bent.py"
CT_GRID = oblique_grid((0.9, 0.8, 2.1))
MR_GRID = oblique_grid((2.7, 0.7, 0.9), (-8, 5, 7), (3.1, -4.7, 2.2))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CT and an MR of the same spine on different oblique grids, labels of both, and the MR of a moved patient."""
    folder = tmp_path_factory.mktemp("scans")
    files = {name: folder / f"{name}.nii.gz" for name in ("ct", "ct_seg", "mr", "mr_seg", "far", "far_seg")}
    back = MOTION.inverse()
    far = replace(MR_GRID, origin_mm=tuple(back(np.array(MR_GRID.origin_mm))),
                  direction=tuple((back.rotation @ MR_GRID.matrix).ravel()))  # fmt: skip
    for name, grid, stored in (("ct", CT_GRID, CT_GRID), ("mr", MR_GRID, MR_GRID), ("far", MR_GRID, far)):
        image, labels = self_labelled_ct(grid)
        write_image(files[name], image - 200 if name == "ct" else image + 300, stored)
        write_labels(files[f"{name}_seg"], labels, stored)
    points = {str(v): p.tolist() for v, p in centroids_mm(self_labelled_ct(MR_GRID)[1], far).items()}
    files["centroids"] = folder / "centroids.json"
    files["centroids"].write_text(json.dumps(points), encoding="utf-8")
    return files


def run(scans: dict[str, Path], out: Path, method: str, *more: object, fixed: str = "mr") -> tuple[Path, str]:
    """Register with a method of the plugin; the output folder and what was printed."""
    result = invoke(
        "register", "--plugin", PLUGIN, "--method", method, "--fixed", scans[fixed], "--moving", scans["ct"],
        "--moving-labels", scans["ct_seg"], "--out", out, *more,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return out, result.output


@pytest.fixture(scope="module")
def bent(scans: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return run(scans, tmp_path_factory.mktemp("bent"), "bent", "--fixed-labels", scans["mr_seg"])


@pytest.fixture(scope="module")
def turned(scans: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The moved patient, pre-aligned on centroids and registered with one rigid transform."""
    more = ("--fixed-centroids", scans["centroids"])
    return run(scans, tmp_path_factory.mktemp("turn"), "turn", *more, fixed="far")[0]


def warped_by_itk(labels_file: Path, reference: Path, transform: sitk.Transform) -> np.ndarray:
    """The stored labels warped once: the largest of the one-hot maps, each interpolated linearly, and of background."""
    image, onto = sitk.ReadImage(str(labels_file)), sitk.ReadImage(str(reference))
    ids = [20, 21, 22, 23, 24]
    soft = [
        sitk.GetArrayFromImage(sitk.Resample(sitk.Cast(image == v, sitk.sitkFloat32), onto, transform)) for v in ids
    ]
    every = np.stack([1 - sum(soft), *soft])
    return np.array([0, *ids])[every.argmax(axis=0)]


def dsc(a: np.ndarray, b: np.ndarray) -> float:
    """The least Dice coefficient of the five vertebrae."""
    return min(2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in range(20, 25))


def field_transform(out: Path) -> sitk.Transform:
    """SimpleITK's transform of the written displacement."""
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(out / "displacement.nii.gz"), sitk.sitkVectorFloat64))


READERS: list[Callable[[Path], sitk.Transform]] = [
    field_transform, lambda out: sitk.ReadTransform(str(out / "displacement.h5"))
]  # fmt: skip


@pytest.mark.parametrize("read", READERS, ids=["nii.gz", "h5"])
def test_the_warped_labels_are_the_stored_labels_warped_once(
    scans: dict[str, Path], bent: tuple[Path, str], read: Callable[[Path], sitk.Transform]
) -> None:
    out = bent[0]
    written, grid = read_labels(out / "warped_labels.nii.gz")
    np.testing.assert_allclose(corners_mm(grid), corners_mm(read_image(scans["mr"])[1]), atol=1e-3)
    assert dsc(written, warped_by_itk(scans["ct_seg"], scans["mr"], read(out))) > 0.999


def test_the_transform_file_holds_the_same_field(bent: tuple[Path, str]) -> None:
    a, b = (read(bent[0]) for read in READERS)
    for index in np.random.default_rng(0).uniform(1, np.array(MR_GRID.shape[::-1]) - 2, (200, 3)):
        point = MR_GRID.to_points_mm(index).tolist()
        np.testing.assert_allclose(a.TransformPoint(point), b.TransformPoint(point), atol=1e-3)


def test_the_warped_ct_has_air_only_where_the_ct_has_no_voxel(scans: dict[str, Path], bent: tuple[Path, str]) -> None:
    written, _ = read_image(bent[0] / "warped_ct.nii.gz")
    ct, onto = sitk.ReadImage(str(scans["ct"])), sitk.ReadImage(str(scans["mr"]))
    expected = sitk.GetArrayFromImage(sitk.Resample(ct, onto, field_transform(bent[0]), sitk.sitkLinear, -1000.0))
    assert np.abs(written - expected).max() < 0.5
    displacement, grid = read_displacement(bent[0] / "displacement.nii.gz")
    index = CT_GRID.to_indices_xyz(grid.points_mm() + displacement)
    has_data = ((index > 0) & (index < np.array(CT_GRID.shape[::-1]) - 1)).all(axis=-1)
    assert written[has_data].min() > -300 and (~has_data).any()


def test_a_rigid_transform_file_holds_the_same_motion_with_its_pre_alignment(
    scans: dict[str, Path], turned: Path
) -> None:
    """Both files warp the labels alike. Beyond the methods' grid the field is continued and no longer rigid."""
    rigid, field = sitk.ReadTransform(str(turned / "rigid.tfm")), field_transform(turned)
    written, grid = read_labels(turned / "warped_labels.nii.gz")
    for transform in (rigid, field):
        assert dsc(written, warped_by_itk(scans["ct_seg"], scans["far"], transform)) > 0.999
    for index in np.argwhere(written > 0)[::500]:
        point = grid.to_points_mm(index[::-1]).tolist()
        np.testing.assert_allclose(field.TransformPoint(point), rigid.TransformPoint(point), atol=1e-3)


def test_learn2regs_field_is_read_back_by_its_convention(bent: tuple[Path, str]) -> None:
    expected, grid = read_displacement(bent[0] / "displacement.nii.gz")
    scan = Scan(np.random.default_rng(0).random(grid.shape, np.float32), np.ones(grid.shape, np.uint16), grid)
    found = Precomputed("fields", dir=bent[0], convention="learn2reg").register(Pair("mr--ct", scan, scan))
    np.testing.assert_allclose(found.displacement_mm, expected, atol=1e-3)


def test_the_measures_are_printed_with_fixed_labels(bent: tuple[Path, str]) -> None:
    assert "pre-aligned rigidly on the centroids of the labels in" in bent[1]
    assert all(title in bent[1] for title in ("DSC before", "Δvol [%]", "HD95 [mm]", "|J|≤0 [%]"))
    assert "Δvol: volume of the warped over that of the moving label, + is larger, 0 is best" in bent[1]
    assert all(f"│ L{v - 19} ({v}) " in bent[1] for v in range(20, 25))


def test_a_picture_is_drawn(bent: tuple[Path, str]) -> None:
    from matplotlib.image import imread

    picture = imread(bent[0] / "quality.png")
    assert picture.shape[0] > 500 and picture.std() > 0.1


def test_the_methods_grid_is_written_on_request(scans: dict[str, Path], tmp_path: Path) -> None:
    out, _ = run(scans, tmp_path / "out", "bent", "--grid", "1mm")
    written, grid = read_labels(out / "warped_labels.nii.gz")
    assert grid.spacing_mm == (1.0, 1.0, 1.0) and np.allclose(grid.matrix, np.eye(3))
    assert dsc(written, warped_by_itk(scans["ct_seg"], out / "warped_ct.nii.gz", field_transform(out))) > 0.999


def test_given_centroids_pre_align_a_patient_who_lies_elsewhere(scans: dict[str, Path], tmp_path: Path) -> None:
    more = ("--fixed-centroids", scans["centroids"])
    aligned, _ = read_labels(run(scans, tmp_path / "out", "initial", *more, fixed="far")[0] / "warped_labels.nii.gz")
    assert dsc(aligned, read_labels(scans["far_seg"])[0]) > 0.93
    unaligned, _ = read_labels(run(scans, tmp_path / "as is", "initial", fixed="far")[0] / "warped_labels.nii.gz")
    assert dsc(unaligned, read_labels(scans["far_seg"])[0]) < 0.5
