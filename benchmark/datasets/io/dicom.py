"""A DICOM series: a folder of slices that replaces one image file.

Each slice lies where its ImagePositionPatient puts it. Slices that form a right-angled box are read as they are. Others
(gantry tilt, a table that moves in plane, unequal distances) are resampled onto one by `dicom_planes`.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.datasets.io.dicom_planes import Planes, box_grid, onto_box, series_of_planes
from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import from_sitk

if TYPE_CHECKING:
    import SimpleITK as sitk

POSITION, ORIENTATION = "0020|0032", "0020|0037"
SAME_PLACE_MM = 0.1  # scanners round positions to about 1e-3 mm
DOUBLED_MM = 0.01  # two slices nearer than this lie at one position
LOOKED_AT = 2000  # files among which an error looks for slices
LARGEST_GAP = 1.5  # of the median distance; in a wider gap a slice is missing


@dataclass(frozen=True)
class Slice:
    """One file of a series.

    size: voxels x, y and, of a multi-frame file, z. spacing_mm: of x and y. position_mm: LPS mm of the first voxel, and
    axes: LPS directions (2, 3) of x and y; both NaN if the file has no geometry.
    """

    file: str
    size: tuple[int, ...]
    spacing_mm: tuple[float, float]
    position_mm: np.ndarray
    axes: np.ndarray

    @property
    def name(self) -> str:
        return Path(self.file).name

    @property
    def frames(self) -> int:
        return math.prod(self.size[2:])


def is_slice(path: Path) -> bool:
    """Whether a path is a DICOM file: its preamble is followed by `DICM`."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def series_slices(folder: Path) -> list[Slice]:
    """Find the slices of the one series in a folder, in the order of their positions along the normal.

    Raises:
        BadInput: if the folder holds no series or several, or if slices have no position, differ in size, pixel
            spacing or orientation, or are missing or doubled.
    """
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise BadInput(
            f"{folder}: expected an image file, found a folder without DICOM slices; {_where_slices_are(folder)}"
        )
    files = [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), one) for one in series]
    if len(series) > 1:
        counts = " and ".join(str(len(names)) for names in files)
        raise BadInput(
            f"{folder}: expected the slices of one DICOM series, found {len(series)} series of {counts} files; "
            "give each its own folder"
        )
    slices = [_described(folder, file) for file in files[0]]
    if len(slices) == 1:
        return slices
    _check_alike(folder, slices)
    normal = np.cross(*slices[0].axes)
    slices.sort(key=lambda s: float(s.position_mm @ normal))
    _check_distances(folder, slices, np.array([s.position_mm @ normal for s in slices]))
    return slices


def _where_slices_are(folder: Path) -> str:
    """The next step where a folder holds no slices: exports of an archive have folders of studies and series in it."""
    files = islice(folder.rglob("*"), LOOKED_AT)
    inside = sorted({str(file.parent.relative_to(folder)) for file in files if is_slice(file)})
    if not inside:
        return "give the file, or the folder that holds the slices themselves"
    more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
    return f"its slices are in {inside[0]}{more}: give that folder, or move its slices here"


def read_slices(folder: Path, slices: list[Slice]) -> tuple[np.ndarray, Grid]:
    """Read the slices that `series_slices` found.

    Returns:
        Values (z, y, x), in the stored type, or float32 where the slices had to be resampled; and their grid.

    Raises:
        BadInput: if the slices have several numbers a voxel.
    """
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([s.file for s in slices])
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(f"{folder}: expected one number a voxel, found colours; give the scan, not a picture of it")
    values, grid = from_sitk(image)
    if len(slices) == 1:
        return values, grid
    planes = _planes(slices)
    if planes.distance_from_mm(grid) <= SAME_PLACE_MM:
        return values, grid
    box = box_grid(planes)
    if _is_no_box(planes, box):
        _note(folder, planes.described())
        return onto_box(values, planes, box), box
    return values, box


def series_grid(slices: list[Slice]) -> Grid | None:
    """The grid of `read_slices`, from headers alone; None for a single file, whose header alone does not tell it."""
    return None if len(slices) == 1 else box_grid(_planes(slices))


def is_resampled(folder: Path) -> bool:
    """Whether the series in a folder forms no right-angled box, so that it is resampled onto one.

    Raises:
        BadInput: as `series_slices`.
    """
    slices = series_slices(folder)
    return len(slices) > 1 and _is_no_box(_planes(slices), box_grid(_planes(slices)))


def _planes(slices: list[Slice]) -> Planes:
    return series_of_planes(
        np.array([s.position_mm for s in slices]), slices[0].axes, slices[0].spacing_mm, slices[0].size[:2]
    )


def _is_no_box(planes: Planes, box: Grid) -> bool:
    shape = (len(planes.positions_mm), planes.size[1], planes.size[0])
    return planes.distance_from_mm(box) > SAME_PLACE_MM or box.shape != shape


@cache
def _note(folder: Path, found: str) -> None:
    """Say once that a series was resampled."""
    print(
        f"{folder}: found {found}; resampled onto a right-angled grid of the same slices. Labels of the series as "
        "dcm2niix converts it, with tilt correction, are resampled by position",
        file=sys.stderr,
    )


def _described(folder: Path, file: str) -> Slice:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInput(
            f"{folder}: expected DICOM slices that can be read, found {Path(file).name} damaged; export it again"
        ) from error
    x, y = reader.GetSpacing()[:2]
    size = tuple(reader.GetSize())
    return Slice(file, size, (x, y), _numbers(reader, POSITION, 3), _numbers(reader, ORIENTATION, 6).reshape(2, 3))


def _numbers(reader: sitk.ImageFileReader, tag: str, count: int) -> np.ndarray:
    """The numbers of a tag, float64 (count,); NaN if it is absent or has other content."""
    texts = reader.GetMetaData(tag).split("\\") if reader.HasMetaDataKey(tag) else []
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = []
    return np.array(numbers) if len(numbers) == count else np.full(count, np.nan)


def _check_alike(folder: Path, slices: list[Slice]) -> None:
    """Refuse slices without position, and slices of another size, pixel spacing or orientation."""
    first = slices[0]
    for one in slices:
        if not np.isfinite(one.position_mm).all() or not np.allclose(one.axes @ one.axes.T, np.eye(2), atol=1e-3):
            raise BadInput(
                f"{folder}: expected slices with ImagePositionPatient and ImageOrientationPatient, found {one.name} "
                "without; export the series from the scanner's archive"
            )
        if one.size != first.size or one.frames > 1 or not np.allclose(one.spacing_mm, first.spacing_mm, rtol=1e-3):
            kinds = [f"{' x '.join(map(str, s.size))} of {s.spacing_mm[0]:.4g} x {s.spacing_mm[1]:.4g} mm" for s in
                     (first, one)]  # fmt: skip
            raise BadInput(
                f"{folder}: expected slices of one size and pixel spacing, found {kinds[0]} ({first.name}) and "
                f"{kinds[1]} ({one.name}); give each kind its own folder"
            )
        extent_mm = np.multiply(first.size[:2], first.spacing_mm)
        if (np.linalg.norm(one.axes - first.axes, axis=1) * extent_mm).max() > SAME_PLACE_MM:
            turned = np.degrees(np.arccos(np.clip((one.axes * first.axes).sum(axis=1), -1, 1)).max())
            raise BadInput(
                f"{folder}: expected parallel slices, found {one.name} turned by {turned:.3g} degrees against "
                f"{first.name}; give the slices of each orientation their own folder"
            )


def _check_distances(folder: Path, slices: list[Slice], along_mm: np.ndarray) -> None:
    """Refuse doubled and missing slices. along_mm: positions along the normal, ascending."""
    steps = np.diff(along_mm)
    doubled = np.flatnonzero(steps < DOUBLED_MM)
    if len(doubled):
        counts = set(Counter(np.cumsum(np.r_[0, steps >= DOUBLED_MM]).tolist()).values())
        if len(counts) == 1:
            raise BadInput(
                f"{folder}: expected one slice at each position, found {counts.pop()} at each of them (echoes, phases "
                "or times); give one of these stacks alone"
            )
        one, other = (slices[doubled[0] + i].name for i in (0, 1))
        raise BadInput(f"{folder}: expected one slice at each position, found {one} and {other} at one; remove one")
    usual = float(np.median(steps))
    if steps.max() > LARGEST_GAP * usual:
        raise BadInput(
            f"{folder}: expected evenly spaced slices, found {steps.max():.4g} mm between two of them and "
            f"{usual:.4g} mm elsewhere; export the whole series again"
        )
