"""Fig. 3: slices of the moving scan with its label, of the fixed scan, and of the fixed scan with warped labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmark.results.scans import Scans
from reports.figures.drawing import caption
from reports.figures.slices import (
    Plane,
    Slices,
    Warped,
    cases_with_pictures,
    misplaced,
    outlines,
    read_slices,
    read_warped,
    typical_case,
)
from reports.paper import label
from reports.run_data import DataSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito: outline, label in a wrong place, missing label.
_OUTLINE, _TOO_MUCH, _MISSING, _CIRCLE = "#009E73", "#D55E00", "#56B4E9", "#CC0033"
# Errors thinner than this in every direction are not encircled: a label's rim is uncertain by a voxel or two.
ENCIRCLED_MM = 3.0
MOST_CIRCLES = 6
_PER_LINE = 7
_ORIGIN: dict[Plane, Literal["lower", "upper"]] = {"sagittal": "lower", "axial": "upper"}


@dataclass(frozen=True)
class Shown:
    """The data of Fig. 3.

    Attributes:
        slices: A patient's kept slices.
        chosen: The index of the slice shown, by plane.
        warped: Each row's result on the patient; None where it has none.
        empty: Labels of rows without a result on any patient, which have no picture.
        scans: The names of the two scans.
    """

    slices: Slices
    chosen: dict[Plane, int]
    warped: dict[str, Warped | None]
    empty: list[str]
    scans: Scans


@dataclass(frozen=True)
class Circle:
    """An ellipse around one error: centre and half axes in pixels."""

    column: float
    row: float
    half_width: float
    half_height: float


def fig3_data(
    data: DataSet, run_folder: Path, case: str | None = None, sagittal: int | None = None, axial: int | None = None
) -> Shown | None:
    """Return the data of Fig. 3; None where the run kept no pictures.

    Args:
        data: One data set and split of a run.
        run_folder: The run's folder.
        case: The patient; None for the patient of median DSC (`slices.typical_case`).
        sagittal: Which of the kept slices, from 1; None for the one with the most label.
        axial: The same for the axial slice.

    Raises:
        ValueError: The run kept no pictures of the case, or not that slice.
    """
    known = cases_with_pictures(data, run_folder)
    chosen_case = case or typical_case(data, known)
    if case is not None and case not in known:
        listed = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
        raise ValueError(f"case {case}: expected a patient with pictures ({listed or 'there is none'})")
    slices = read_slices(run_folder, chosen_case) if chosen_case is not None else None
    if slices is None:
        return None
    chosen: dict[Plane, int] = {}
    wanted: tuple[tuple[Plane, int | None], ...] = (("axial", axial), ("sagittal", sagittal))
    for plane, index in wanted:
        count = len(slices.where[plane])
        if index is not None and not 1 <= index <= count:
            raise ValueError(f"{plane} slice {index}: expected 1 to {count}, the slices that the run kept")
        chosen[plane] = slices.fullest(plane) if index is None else index - 1
    rows = data.rows[1:]
    measuring = [row for row in rows if row in data.measured_rows]
    warped = {row.label: read_warped(run_folder, row, slices.case) for row in measuring}
    return Shown(slices, chosen, warped, [row.label for row in rows if row not in measuring], data.scans)


def fig3(shown: Shown) -> Figure:
    """Draw Fig. 3 of `fig3_data`, seven pictures a line; a row without a result has a text in place of its picture."""
    import matplotlib.style
    from matplotlib.figure import Figure

    before = Warped(shown.slices.moving_labels, shown.slices.ct)
    rows: list[tuple[str, Warped | None]] = [(label("initial"), before), *shown.warped.items()]
    panels = [(f"Moving {shown.scans.moving}", None), (f"Fixed {shown.scans.fixed}", None), *rows]
    width = min(_PER_LINE, len(panels))
    blocks = -(-len(panels) // width)
    sizes = {plane: _extent_mm(shown.slices, plane) for plane in shown.chosen}
    inch = 1.55
    heights = [inch * sizes[plane][1] / sizes[plane][0] for plane in shown.chosen]
    with matplotlib.style.context("default"):
        size = (inch * width + 0.3, blocks * (sum(heights) + 0.35) + 0.6)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        grid = figure.subplots(blocks * 2, width, squeeze=False, height_ratios=heights * blocks)
        for number, (name, warped) in enumerate(panels):
            block, column = divmod(number, width)
            for line, plane in enumerate(shown.chosen):
                axes = grid[2 * block + line][column]
                if number == 1:
                    scan(axes, shown, plane)
                else:
                    panel(axes, shown, plane, warped, moving=number == 0)
                if line == 0:
                    axes.set_title(name, fontsize=9)
        for number in range(len(panels), blocks * width):
            for line in (0, 1):
                grid[2 * (number // width) + line][number % width].set_axis_off()
        caption(figure, _caption(shown))
    return figure


def scan(axes: Axes, shown: Shown, plane: Plane, moving: bool = False) -> Axes:
    """Draw the moving or the fixed scan alone, from 0 to the brightest voxels of its slice."""
    slices = shown.slices
    image = (slices.ct if moving else slices.mr)[plane][shown.chosen[plane]]
    axes.imshow(image, cmap="gray", vmin=0, vmax=max(1.0, float(np.percentile(image, 99.8))), origin=_ORIGIN[plane],
                aspect=slices.aspect(plane), interpolation="bilinear")  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def panel(axes: Axes, shown: Shown, plane: Plane, warped: Warped | None, moving: bool = False) -> Axes:
    """Draw the moving scan with its label, or the fixed one with a warped label, errors shaded and encircled."""
    from matplotlib.patches import Ellipse

    slices, index = shown.slices, shown.chosen[plane]
    aspect, origin = slices.aspect(plane), _ORIGIN[plane]
    scan(axes, shown, plane, moving)
    labels = slices.moving_labels if moving else warped.labels if warped is not None else {}
    if plane not in labels:
        axes.text(0.5, 0.5, "no result", transform=axes.transAxes, ha="center", va="center", color="white", fontsize=9)
        return axes
    for _, mask in outlines(labels[plane][index]):
        axes.contour(mask, levels=[0.5], colors=_OUTLINE, linewidths=0.9)
    if not moving and plane in slices.fixed_labels:
        wrong = misplaced(labels[plane][index], slices.fixed_labels[plane][index])
        for mask, colour in zip(wrong, (_TOO_MUCH, _MISSING), strict=True):
            axes.imshow(_tinted(mask, colour), origin=origin, aspect=aspect, interpolation="nearest")
        # Wrong and missing labels are separate errors, also where they touch.
        found = [c for mask in wrong for c in circles(mask, _pixel_mm(slices, plane))]
        for c in sorted(found, key=lambda c: -c.half_width * c.half_height)[:MOST_CIRCLES]:
            width, height = 2 * c.half_width, 2 * c.half_height
            axes.add_patch(Ellipse((c.column, c.row), width, height, fill=False, edgecolor=_CIRCLE, linewidth=1.1))
    return axes


def circles(wrong: np.ndarray, pixel_mm: tuple[float, float]) -> list[Circle]:
    """Return an ellipse around each error that is at least ENCIRCLED_MM thick, largest error first.

    Args:
        wrong: bool (row, column), True at errors.
        pixel_mm: (row, column) size of a pixel.
    """
    from scipy import ndimage

    depth_mm = ndimage.distance_transform_edt(np.pad(wrong, 1), sampling=pixel_mm)[1:-1, 1:-1]
    # Cores are grown back to the edges of their error; thin rims would join separate errors.
    cores = ndimage.binary_dilation(2 * depth_mm >= ENCIRCLED_MM, iterations=2) & wrong
    parts, _ = ndimage.label(cores)
    found = sorted(enumerate(ndimage.find_objects(parts), 1), key=lambda at: -int((parts[at[1]] == at[0]).sum()))
    row_margin, column_margin = (2.0 / mm for mm in pixel_mm)
    return [
        Circle(
            column=(columns.start + columns.stop - 1) / 2, row=(rows.start + rows.stop - 1) / 2,
            half_width=(columns.stop - columns.start) * 0.6 + column_margin,
            half_height=(rows.stop - rows.start) * 0.6 + row_margin,
        )
        for _, (rows, columns) in found
    ]  # fmt: skip


def _tinted(mask: np.ndarray, colour: str) -> np.ndarray:
    from matplotlib.colors import to_rgba

    return mask[..., None] * np.array(to_rgba(colour, 0.55))


def _pixel_mm(slices: Slices, plane: Plane) -> tuple[float, float]:
    x, y, z = slices.spacing_mm
    return (z, y) if plane == "sagittal" else (y, x)


def _extent_mm(slices: Slices, plane: Plane) -> tuple[float, float]:
    """Width and height of a picture."""
    rows, columns = slices.mr[plane].shape[1:]
    row_mm, column_mm = _pixel_mm(slices, plane)
    return columns * column_mm, rows * row_mm


def _caption(shown: Shown) -> str:
    chosen = ", ".join(
        f"{plane} slice {index + 1} of {len(shown.slices.where[plane])}" for plane, index in shown.chosen.items()
    )
    empty = f" No result on any patient: {', '.join(shown.empty)}." if shown.empty else ""
    return (
        f"{shown.slices.case}, {chosen}. Green: label of the moving {shown.scans.moving}; on the fixed"
        f" {shown.scans.fixed} it is unwarped under Initial, and warped by the method elsewhere. Orange: label in a"
        f" wrong place, blue: missing label, against those of the fixed {shown.scans.fixed}; red circles: errors of"
        f" at least {ENCIRCLED_MM:g} mm thickness, the {MOST_CIRCLES} largest of each picture. Drawn to scale.{empty}"
    )
