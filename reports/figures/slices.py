"""Read the slices that a run keeps in `pictures/`, which Fig. 3 and the viewer of the page show.

Arrays are (slice, row, column): a sagittal slice shows z down its rows and y along its columns, an axial one y and x.
z grows upwards and y to the back (LPS), so that a sagittal picture is drawn with its first row at the bottom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from reports.paper import BASELINE
from reports.run_data import DataSet, Row

Plane = Literal["sagittal", "axial"]
PLANES: tuple[Plane, Plane] = ("sagittal", "axial")


@dataclass(frozen=True)
class Slices:
    """One patient's kept slices. where: index of each slice within the box, by plane. spacing_mm: (x, y, z).

    ct, mr: uint8 by plane. moving_labels, fixed_labels: uint8 VerSe ids by plane; empty where the scan has none.
    """

    case: str
    where: dict[Plane, np.ndarray]
    spacing_mm: tuple[float, float, float]
    ct: dict[Plane, np.ndarray]
    mr: dict[Plane, np.ndarray]
    moving_labels: dict[Plane, np.ndarray]
    fixed_labels: dict[Plane, np.ndarray]

    def aspect(self, plane: Plane) -> float:
        """Height of a pixel over its width."""
        x, y, z = self.spacing_mm
        return z / y if plane == "sagittal" else y / x

    def fullest(self, plane: Plane) -> int:
        """Return the index of the kept slice with the most label in both scans."""
        labels = [part[plane] for part in (self.moving_labels, self.fixed_labels) if plane in part]
        if not labels:
            return len(self.where[plane]) // 2
        return int(np.argmax(sum((part > 0).sum(axis=(1, 2)) for part in labels)))


@dataclass(frozen=True)
class Warped:
    """One method's result on the same slices. ct: empty where the run did not keep it."""

    labels: dict[Plane, np.ndarray]
    ct: dict[Plane, np.ndarray]


def read_slices(run_folder: Path, case: str) -> Slices | None:
    """Return the slices of a patient; None where the run kept none."""
    file = run_folder / "pictures" / f"{case}.npz"
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as kept:
        return slices_of(case, kept)


def slices_of(case: str, kept: Mapping[str, np.ndarray]) -> Slices:
    """The slices of a patient from the arrays of `benchmark.results.pictures.of_case`."""
    x, y, z = (float(s) for s in kept["spacing_mm"])
    where: dict[Plane, np.ndarray] = {"sagittal": kept["x"], "axial": kept["z"]}
    parts = {key: _planes(kept, key) for key in ("ct", "mr", "moving_labels", "fixed_labels")}
    return Slices(case, where, (x, y, z), **parts)


def read_warped(run_folder: Path, row: Row, case: str) -> Warped | None:
    """Return a row's result on the slices of a patient; None without one."""
    # Row Initial has no device, but was run on one: the identity's pictures are the same on each.
    names = [row.name] if row.device else [f"{row.method}@cpu", f"{row.method}@cuda"]
    files = [run_folder / "pictures" / name / f"{case}.npz" for name in names]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        return None
    with np.load(file, allow_pickle=False) as kept:
        return warped_of(kept)


def warped_of(kept: Mapping[str, np.ndarray]) -> Warped:
    """A method's result from the arrays of `benchmark.results.pictures.of_cell`."""
    return Warped(_planes(kept, "warped_labels"), _planes(kept, "warped_ct"))


def read_field_mm(run_folder: Path, row: Row, case: str, x: slice) -> np.ndarray | None:
    """Return a row's displacement on the sagittal planes `x` of the box; None where the run did not keep it.

    Returns:
        float32 (z, y, len(x), 3) in mm, components along the grid's x, y, z. Runs keep it for the display case only.
    """
    file = run_folder / "pictures" / row.name / f"{case}.npz"
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as kept:
        # int16 in hundredths of a millimetre, as benchmark.results.pictures writes it.
        return kept["field"][:, :, x].astype(np.float32) / 100 if "field" in kept else None


def _planes(kept: Mapping[str, np.ndarray], key: str) -> dict[Plane, np.ndarray]:
    return {plane: kept[f"{key}_{plane}"] for plane in PLANES if f"{key}_{plane}" in kept}


def display_case(run_folder: Path, rows: list[Row]) -> tuple[str, Row] | None:
    """Return the patient whose fields the run kept, and the first row with one; None where it kept none."""
    for row in rows:
        for file in sorted((run_folder / "pictures" / row.name).glob("*.npz")):
            with np.load(file, allow_pickle=False) as kept:
                if "field" in kept:
                    return file.stem, row
    return None


def typical_case(data: DataSet, with_pictures: list[str]) -> str | None:
    """Return the patient of median DSC among those with pictures and results of the most rows; None without any.

    The DSC is the baseline's where it has a result, else the mean over rows. Patients with results of fewer rows are
    not considered, so that the figure has a picture for as many rows as possible.

    Args:
        data: One data set and split of a run.
        with_pictures: Names of the patients with kept pictures.
    """
    base = data.find_row(BASELINE)
    deciding = [base] if base is not None else data.rows[1:]
    scores = pd.DataFrame({row.name: data.by_case(row, "dsc") for row in deciding}).mean(axis=1).dropna()
    everyone = pd.concat([data.by_case(row, "dsc") for row in data.rows[1:]] or [scores])
    count = everyone.groupby(level=0).size()
    scores = scores[scores.index.isin(with_pictures)]
    if scores.empty:
        return with_pictures[0] if with_pictures else None
    fullest = scores[count.reindex(scores.index) == count.reindex(scores.index).max()].sort_values(kind="stable")
    return str(fullest.index[(len(fullest) - 1) // 2])


def cases_with_pictures(data: DataSet, run_folder: Path) -> list[str]:
    """Return the names of the patients with kept slices."""
    return [case for case in data.patients if (run_folder / "pictures" / f"{case}.npz").is_file()]


def misplaced(warped: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a warped label map of any shape is wrong: (labels in a wrong place, missing labels)."""
    differs = warped != fixed
    return differs & (warped > 0), differs & (fixed > 0) & (warped == 0)


def outlines(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each label of a 2-D map with its mask."""
    for label in np.unique(labels[labels > 0]):
        yield int(label), labels == label
