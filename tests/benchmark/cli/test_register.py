"""`register`: the files it writes, and the files it refuses."""

from __future__ import annotations

import os
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.command_line import invoke, refused
from support.dicom_series import write_series

from benchmark.cli.register import PairFiles, phantom_networks, register
from benchmark.datasets.io.images import read_displacement, read_image, read_labels, write_image, write_labels
from methods.base import Grid
from methods.registry import create_method

GRID = Grid((40, 40, 40))


def arguments(scans: dict[str, Path], out: Path, method: str = "initial") -> list[object]:
    return ["register", "--method", method, "--fixed", scans["mr"], "--moving", scans["ct"], "--moving-labels",
            scans["labels"], "--out", out]  # fmt: skip


def test_the_result_is_written_on_one_grid(scans: dict[str, Path], tmp_path: Path) -> None:
    result = invoke(*arguments(scans, tmp_path / "out"))
    assert result.exit_code == 0, result.output
    field, grid = read_displacement(tmp_path / "out" / "displacement.nii.gz")
    labels, labels_grid = read_labels(tmp_path / "out" / "warped_labels.nii.gz")
    assert not field.any() and grid == labels_grid and (labels == 20).sum() == 16**3
    assert "in HU" not in result.output


def test_a_dicom_series_and_other_formats_are_registered(scans: dict[str, Path], tmp_path: Path) -> None:
    """Both scans are on one grid and the field is 0, so that what is written equals what was read."""
    others = {"ct": tmp_path / "ct.mhd", "labels": tmp_path / "labels.nrrd", "mr": tmp_path / "mr"}
    image, grid = read_image(scans["ct"])
    write_image(others["ct"], image, grid)
    write_labels(others["labels"], *read_labels(scans["labels"]))
    write_series(others["mr"], *read_image(scans["mr"]))
    result = invoke(*arguments(others, tmp_path / "out"))
    assert result.exit_code == 0, result.output
    warped, warped_grid = read_image(tmp_path / "out" / "warped_ct.nii.gz")
    np.testing.assert_allclose(warped, image, atol=0.01)
    np.testing.assert_allclose(warped_grid.origin_mm, grid.origin_mm, atol=1e-4)
    assert (read_labels(tmp_path / "out" / "warped_labels.nii.gz")[0] == 20).sum() == 16**3


def test_a_moving_image_that_is_no_ct_is_mentioned(scans: dict[str, Path], tmp_path: Path) -> None:
    swapped = scans | {"mr": scans["ct"], "ct": scans["mr"]}
    result = invoke(*arguments(swapped, tmp_path / "out"))
    assert result.exit_code == 0 and "mr.nii.gz: expected a CT in HU, found no value below" in result.output


def test_a_warning_of_the_method_is_shown(scans: dict[str, Path], tmp_path: Path, tiny: Path) -> None:
    result = invoke(*arguments(scans, tmp_path / "out", "doubtful"), "--plugin", tiny)
    assert result.exit_code == 0 and "doubtful: the units look odd" in result.output


@pytest.mark.parametrize(
    ("method", "networks"),
    [("pc", ["pc"]), ("refined", ["voxelmorph"]), ("smoothed", ["voxelmorph"]), ("deformable-pc+oc", [])],
)
def test_networks_that_know_phantoms_alone_are_found(method: str, networks: list[str]) -> None:
    assert phantom_networks(create_method(method)) == networks


def test_released_weights_on_a_pair_of_files_are_a_doubt(scans: dict[str, Path], tmp_path: Path) -> None:
    result = invoke(*arguments(scans, tmp_path / "out", "voxelmorph"))
    assert "voxelmorph: its weights were trained on phantoms alone" in result.output


def test_a_terminal_shows_each_step(scans: dict[str, Path], tmp_path: Path) -> None:
    screen = StringIO()
    files = PairFiles(scans["mr"], scans["ct"], scans["labels"])
    register("initial", files, tmp_path / "out", "cpu", "fixed", [], Console(file=screen, force_terminal=True))
    for step in ("Reading the files", "Registering with initial", "Warping the files"):
        assert step in screen.getvalue()


def test_an_unknown_method_is_refused(scans: dict[str, Path], tmp_path: Path) -> None:
    line = refused(*arguments(scans, tmp_path / "out", "inital"))
    assert "unknown method 'inital'; did you mean 'initial'?" in line


@pytest.mark.parametrize("missing", ["ct", "labels", "mr"])
def test_a_missing_file_is_refused(scans: dict[str, Path], tmp_path: Path, missing: str) -> None:
    scans[missing].unlink()
    line = refused(*arguments(scans, tmp_path / "out"))
    assert f"{missing}.nii.gz: expected an image file, found nothing" in line
    assert not (tmp_path / "out").exists()


def test_an_unknown_grid_is_refused(scans: dict[str, Path], tmp_path: Path) -> None:
    assert "--grid 2mm: expected fixed or 1mm" in refused(*arguments(scans, tmp_path / "out"), "--grid", "2mm")


@pytest.mark.parametrize("option", ["--fixed-labels", "--fixed-centroids"])
def test_a_missing_file_of_an_option_is_refused(scans: dict[str, Path], tmp_path: Path, option: str) -> None:
    line = refused(*arguments(scans, tmp_path / "out"), option, tmp_path / "gone.nii.gz")
    assert "gone.nii.gz: expected a file, found nothing" in line


def test_an_mr_of_another_place_is_refused(scans: dict[str, Path], tmp_path: Path) -> None:
    write_image(scans["mr"], read_image(scans["mr"])[0], replace(GRID, origin_mm=(500.0, 0.0, 0.0)))
    line = refused(*arguments(scans, tmp_path / "out"))
    assert "mr.nii.gz: expected a scan that covers the labels" in line and "or give --fixed-centroids" in line


def narrowed(scans: dict[str, Path], columns: int, padded: bool = False) -> dict[str, Path]:
    """The pair with an MR that ends after some columns; the vertebra lies in the columns 10 to 25 (37 with padding)."""
    image, grid = read_image(scans["mr"])
    if padded:  # as tools write an MR that they resampled onto the CT's grid
        image[:, :, columns:] = 0
    else:
        image, grid = image[:, :, :columns], replace(grid, shape=(*grid.shape[:2], columns))
    write_image(scans["mr"], image, grid)
    return scans


@pytest.mark.parametrize("padded", [False, True])
def test_a_pair_that_hardly_overlaps_is_refused_or_doubted(
    scans: dict[str, Path], tmp_path: Path, padded: bool
) -> None:
    doubted = invoke(*arguments(narrowed(scans, 16, padded), tmp_path / "out"))
    assert doubted.exit_code == 0
    assert (
        f"38 % of the volume of {scans['labels']} lies in the field of view of {scans['mr']} (no vertebra at least"
        in (doubted.output)
    )
    assert "align them first, or give --fixed-centroids" in doubted.output
    line = refused(*arguments(narrowed(scans, 10, padded), tmp_path / "out"))
    assert "expected a scan that covers the moving labels; 0 % of the volume" in line and "--fixed-centroids" in line


def test_a_pair_that_overlaps_raises_no_doubt(scans: dict[str, Path], tmp_path: Path) -> None:
    result = invoke(*arguments(narrowed(scans, 20), tmp_path / "out"))
    assert result.exit_code == 0 and "field of view" not in result.output


def test_one_vertebra_in_view_of_many_is_not_refused(tmp_path: Path) -> None:
    """A CT of the whole spine and an MR of its lowest vertebra: 4 % of the volume, and all of that vertebra."""
    grid = Grid((24 * 14, 24, 24))
    labels = np.zeros(grid.shape, np.uint16)
    for i, v in enumerate(range(19, -4, -1)):
        labels[4 + 14 * i : 16 + 14 * i, 6:18, 6:18] = v if v > 0 else 0
    labels[4:14, 6:9, 6:9] = 19
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("ct", "mr", "labels")}
    noise = np.random.default_rng(0).normal(0, 50, grid.shape).astype(np.float32)
    write_image(files["ct"], noise + 600 * (labels > 0), grid)
    write_image(files["mr"], noise[:16], replace(grid, shape=(16, 24, 24)))
    write_labels(files["labels"], labels, grid)
    result = invoke(*arguments(files, tmp_path / "out"))
    assert result.exit_code == 0 and "(T12 at least by half)" in result.output, result.output


def test_fixed_labels_pre_align_as_in_a_run(scans: dict[str, Path], tmp_path: Path) -> None:
    """The vertebra of the MR lies 2 mm aside; after pre-alignment on its label nothing is left."""
    labels, grid = read_labels(scans["labels"])
    write_labels(tmp_path / "mr_labels.nii.gz", np.roll(labels, 2, 2), grid)
    result = invoke(*arguments(scans, tmp_path / "out"), "--fixed-labels", tmp_path / "mr_labels.nii.gz")
    assert result.exit_code == 0
    assert f"on the centroids of the labels in {tmp_path / 'mr_labels.nii.gz'}: 2.0 mm, 0.0 degrees" in result.output
    assert "│ L1 (20)  │ 1          │ 1   │" in result.output, result.output
    np.testing.assert_allclose(read_displacement(tmp_path / "out" / "displacement.nii.gz")[0][..., 0], -2, atol=1e-3)


def test_a_vertebra_outside_the_methods_grid_is_not_called_absent(scans: dict[str, Path], tmp_path: Path) -> None:
    """T12 is a small label in the CT; its label in the MR lies far above."""
    grid = replace(GRID, shape=(120, 40, 40))
    image, labels = (np.zeros(grid.shape, dtype) for dtype in (np.float32, np.uint16))
    labels[:40] = read_labels(scans["labels"])[0]
    image[:] = np.random.default_rng(0).random(grid.shape)
    write_image(scans["mr"], image, replace(grid, origin_mm=read_image(scans["ct"])[1].origin_mm))
    fixed = labels.copy()
    fixed[100:116, 12:28, 10:26] = 19
    write_labels(tmp_path / "mr_labels.nii.gz", fixed, read_image(scans["mr"])[1])
    moving, ct_grid = read_labels(scans["labels"])
    moving[30:38, 12:28, 10:26] = 19
    write_labels(scans["labels"], moving, ct_grid)
    points = tmp_path / "points.json"
    points.write_text('{"20": [27.5, -0.5, 24.5]}', encoding="utf-8")
    result = invoke(*arguments(scans, tmp_path / "out"), "--fixed-labels", tmp_path / "mr_labels.nii.gz",
                    "--fixed-centroids", points)  # fmt: skip
    assert "T12 (19) is not measured: its fixed label lies outside the methods' grid" in result.output, result.output


def test_a_read_only_folder_is_refused_before_the_work(
    scans: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda _, mode, **__: not mode & os.W_OK)
    line = refused(*arguments(scans, tmp_path / "out"))
    assert "out: expected a folder to write into, found a read-only folder" in line


def test_paths_may_have_spaces_and_accents(scans: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "Étude du rachis 1"
    folder.mkdir()
    moved = {name: file.rename(folder / f"é {name}.nii.gz") for name, file in scans.items()}
    assert invoke(*arguments(moved, folder / "ergebnis ü")).exit_code == 0
    assert (folder / "ergebnis ü" / "displacement.nii.gz").is_file()
