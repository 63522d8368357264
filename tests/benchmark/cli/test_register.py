"""`register`: the files it writes, and the files it refuses."""

from __future__ import annotations

import os
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from support.command_line import invoke, refused

from benchmark.cli.register import PairFiles, register
from benchmark.datasets.io.images import read_displacement, read_image, read_labels, write_image
from methods.base import Grid

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


def test_a_moving_image_that_is_no_ct_is_mentioned(scans: dict[str, Path], tmp_path: Path) -> None:
    swapped = scans | {"mr": scans["ct"], "ct": scans["mr"]}
    result = invoke(*arguments(swapped, tmp_path / "out"))
    assert result.exit_code == 0 and "mr.nii.gz: expected a CT in HU, found no value below" in result.output


def test_a_warning_of_the_method_is_shown(scans: dict[str, Path], tmp_path: Path, tiny: Path) -> None:
    result = invoke(*arguments(scans, tmp_path / "out", "doubtful"), "--plugin", tiny)
    assert result.exit_code == 0 and "doubtful: the units look odd" in result.output


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
