"""VerSe's centroid files: voxel indices along axes that the file names, for any orientation of the image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from benchmark.datasets.io.centroids import read_annotation, read_verse_centroids
from benchmark.datasets.io.images import read_labels
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import from_sitk, to_sitk

GRID = Grid((30, 20, 10), (1.0, 2.0, 3.0), (5.0, -7.0, 100.0))  # LPS: x to the left, y to the back, z up


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_centroids_in_the_orientation_of_the_image(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [{"direction": ["L", "P", "S"]}, {"label": 20, "X": 1, "Y": 2, "Z": 3.5}])
    np.testing.assert_allclose(read_verse_centroids(file, GRID)[20], (5 + 1, -7 + 2 * 2, 100 + 3.5 * 3))


def test_centroids_in_the_orientation_of_verse(tmp_path: Path) -> None:
    """PIR: X to the back, Y down from the top slice 29, Z to the right from the last column 9."""
    file = write(tmp_path / "a.json", [{"direction": ["P", "I", "R"]}, {"label": 24, "X": 4, "Y": 0, "Z": 2}])
    np.testing.assert_allclose(read_verse_centroids(file, GRID)[24], (5 + 7, -7 + 4 * 2, 100 + 29 * 3))


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR", "ASL", "SRP"])
def test_positions_do_not_depend_on_the_orientations(tmp_path: Path, code: str) -> None:
    labels = np.zeros(GRID.shape, np.uint16)
    labels[20:25, 3:9, 1:4], labels[4:9, 5:12, 6:9] = 20, 21
    expected = centroids_mm(labels, GRID)
    turned, grid = from_sitk(sitk.DICOMOrient(to_sitk(labels, GRID), code))
    entries = [
        {"label": v, **dict(zip("XYZ", np.argwhere(turned == v).mean(axis=0)[::-1], strict=True))} for v in expected
    ]
    file = write(tmp_path / "a.json", [{"direction": list(code)}, *entries])
    for image_grid in (GRID, grid):
        centroids = read_verse_centroids(file, image_grid)
        for vertebra, position in expected.items():
            np.testing.assert_allclose(centroids[vertebra], position, atol=1e-6)


def test_centroids_on_a_real_oblique_image(shared_data: Path, tmp_path: Path) -> None:
    """VerSe's tool writes the centre of mass in stored voxels; read in mm, it is the centroid of the mask."""
    labels, grid = read_labels(shared_data / "verse" / "sub-verse008_seg-vert_msk.nii.gz")
    centres = {v: np.argwhere(labels == v).mean(axis=0)[::-1] for v in (20, 22)}
    entries = [{"label": v, "X": c[0], "Y": c[1], "Z": c[2]} for v, c in centres.items()]
    centroids = read_verse_centroids(write(tmp_path / "a.json", [{"direction": ["P", "I", "R"]}, *entries]), grid)
    for v, position in centroids_mm(labels, grid).items():
        assert v not in centroids or np.linalg.norm(centroids[v] - position) < 1e-6


def test_a_centroid_of_nan_is_not_returned(tmp_path: Path) -> None:
    nan = {"label": 21, "X": float("nan"), "Y": float("nan"), "Z": float("nan")}
    entries = [{"direction": ["L", "P", "S"]}, {"label": 20, "X": 1, "Y": 1, "Z": 1}, nan]
    assert list(read_verse_centroids(write(tmp_path / "a.json", entries), GRID)) == [20]


FIRST = {"direction": ["L", "P", "S"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"20": [1, 2, 3]}, "found dict"),
        ([], "no direction in its first entry"),
        ([{"label": 20, "X": 1, "Y": 1, "Z": 1}], "no direction in its first entry"),
        ([{"direction": ["L", "P", "A"]}], 'expected a direction such as .*found \\["L", "P", "A"\\]'),
        ([{"direction": 3}], "expected a direction"),
        ([FIRST], "expected at least one centroid"),
        ([FIRST, {"label": 20, "X": 1, "Y": 1}], "expected a label with X, Y and Z"),
        ([FIRST, {"label": "L1", "X": 1, "Y": 1, "Z": 1}], "expected a label with X, Y and Z"),
        ([FIRST, {"label": 20, "X": 1, "Y": 1, "Z": 30}], r"10 x 20 x 30, found label 20 at \(1, 1, 30\)"),
    ],
)
def test_files_with_other_content_are_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(BadInput, match=f"a.json: .*{words}"):
        read_verse_centroids(write(tmp_path / "a.json", content), GRID)


def test_iso_centroids_of_verse_are_in_millimetres(tmp_path: Path) -> None:
    """PIR as above, in steps of 1 mm: X = 4 voxels of 2 mm, Z = 2 voxels of 1 mm."""
    file = write(
        tmp_path / "verse004_iso-ctd.json", [{"direction": ["P", "I", "R"]}, {"label": 24, "X": 8, "Y": 3, "Z": 2}]
    )
    np.testing.assert_allclose(read_verse_centroids(file, GRID)[24], (5 + 7, -7 + 4 * 2, 100 + 28 * 3))


HEADER = {"direction": ["P", "I", "R"], "zoom": [2, 3, 1], "shape": [20, 30, 10], "origin": [0, 0, 0]}


@pytest.mark.parametrize(
    "content",
    [
        [HEADER | {"format": "docker"}, {"label": 24 + 50 * 256, "X": 4, "Y": 0, "Z": 2}],
        [HEADER | {"format": "docker"}, {"label": 24, "X": 4, "Y": 0, "Z": 2}],
        [HEADER | {"format": "POI"}, {"L5": {"Vertebra_Corpus": [4, 0, 2], "Spinosus_Process": [5, 0, 2]}}],
        [HEADER | {"format": "POI"}, {"24": {"50": [4, 0, 2], "42": [5, 0, 2]}}],
        [HEADER | {"format": "POI", "zoom": [1, 1, 1]}, {"L5": {"50": [8, 0, 2]}}],
        [{"format": "POI_GLOBAL", "coordinate_system": "itk"}, {"L5": {"50": [12, 1, 187]}}],
        [{"format": "POI_GLOBAL", "coordinate_system": "nib"}, {"L5": {"50": [-12, -1, 187]}}],
    ],
)
def test_points_of_interest_of_tptbox_are_read(tmp_path: Path, content: list[Any]) -> None:
    points, of_bodies = read_annotation(write(tmp_path / "a.json", content), GRID)
    assert list(points) == [24] and of_bodies
    np.testing.assert_allclose(points[24], (5 + 7, -7 + 4 * 2, 100 + 29 * 3))


def test_points_of_other_subregions_are_left_out(tmp_path: Path) -> None:
    content = [HEADER, {"label": 24 + 42 * 256, "X": 1, "Y": 1, "Z": 1}, {"label": 23, "X": 4, "Y": 0, "Z": 2}]
    assert list(read_annotation(write(tmp_path / "a.json", content), GRID)[0]) == [23]


def test_centroids_in_millimetres_do_not_say_what_they_mark(tmp_path: Path) -> None:
    points, of_bodies = read_annotation(write(tmp_path / "a.json", {"20": [1, 2, 3]}), GRID)
    assert not of_bodies and list(points[20]) == [1, 2, 3]
