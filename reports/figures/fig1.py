"""Displacement fields as in Fig. 1: arrows on a sagittal slice of the fixed scan, and a map of |J|, for each method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.results.scans import Scans
from reports.figures.drawing import caption
from reports.figures.slices import Slices, display_case, outlines, read_field_mm, read_slices
from reports.run_data import DataSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_EVERY_MM = 8.0
_PER_LINE = 6


@dataclass(frozen=True)
class FieldSlice:
    """A field on one sagittal slice. arrows_mm: (z, y, 2), components y and z in mm. determinant: |J|, (z, y)."""

    arrows_mm: np.ndarray
    determinant: np.ndarray


@dataclass(frozen=True)
class Fields:
    """The data of the figure: the display case, the index of its kept sagittal slice, and each row's field there."""

    slices: Slices
    index: int
    rows: dict[str, FieldSlice]
    scans: Scans


def fig1_data(data: DataSet, run_folder: Path, sagittal: int | None = None) -> Fields | None:
    """Return the fields that the run kept on a sagittal slice; None without any.

    Args:
        data: One data set and split of a run.
        run_folder: The run's folder.
        sagittal: Index among the kept slices, from 0; None for the one with the most label.
    """
    found = display_case(run_folder, data.rows[1:])
    slices = read_slices(run_folder, found[0]) if found is not None else None
    if slices is None:
        return None
    index = slices.fullest("sagittal") if sagittal is None else sagittal
    where = int(slices.where["sagittal"][index])
    # The derivative across the slice needs one voxel on each side.
    slab = slice(max(0, where - 1), where + 2)
    shown = {}
    for row in data.rows[1:]:
        field_mm = read_field_mm(run_folder, row, slices.case, slab)
        if field_mm is not None:
            shown[row.label] = field_slice(field_mm, where - slab.start, slices.spacing_mm)
    return Fields(slices, index, shown, data.scans) if shown else None


def field_slice(field_mm: np.ndarray, x: int, spacing_mm: tuple[float, float, float]) -> FieldSlice:
    """Return a field on one sagittal slice, with |J| of `metrics.fields`.

    Args:
        field_mm: Displacement (z, y, x, 3) in mm, components along the grid's x, y, z.
        x: Index of the slice.
        spacing_mm: (x, y, z).
    """
    import torch

    from metrics.fields import jacobian, jacobian_determinant

    voxels = np.moveaxis((field_mm / spacing_mm)[..., ::-1], -1, 0)
    zyx = (spacing_mm[2], spacing_mm[1], spacing_mm[0])
    determinant = jacobian_determinant(jacobian(torch.from_numpy(np.ascontiguousarray(voxels, np.float32))[None], zyx))
    return FieldSlice(field_mm[:, :, x, 1:], determinant[0, ..., x].numpy())


def fig1(fields: Fields) -> Figure:
    """Draw a column for each row: arrows over the fixed scan above, |J| below, with one colour scale."""
    import matplotlib.style
    from matplotlib.figure import Figure

    names = list(fields.rows)
    width = min(_PER_LINE, len(names))
    blocks = -(-len(names) // width)
    rows, columns = fields.slices.mr["sagittal"].shape[1:]
    inch = 1.7
    height = inch * rows * fields.slices.aspect("sagittal") / columns
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(inch * width + 1.0, blocks * (2 * height + 0.4) + 0.5), layout="constrained")
        grid = figure.subplots(2 * blocks, width, squeeze=False)
        image = None
        for number in range(blocks * width):
            block, column = divmod(number, width)
            above, below = grid[2 * block][column], grid[2 * block + 1][column]
            if number >= len(names):
                above.set_axis_off()
                below.set_axis_off()
                continue
            arrows(above, fields, names[number]).set_title(names[number], fontsize=9)
            image = determinant_map(below, fields, names[number])
        if image is not None:
            figure.colorbar(image, ax=grid[:, -1], shrink=0.6, extend="both").set_label("|J|", fontsize=8)
        caption(figure, _caption(fields))
    return figure


def arrows(axes: Axes, fields: Fields, name: str) -> Axes:
    """Draw the fixed scan with arrows from fixed points to the corresponding moving points, to scale."""
    aspect = fields.slices.aspect("sagittal")
    image = fields.slices.mr["sagittal"][fields.index]
    brightest = max(1.0, float(np.percentile(image, 99.8)))
    axes.imshow(image, cmap="gray", vmin=0, vmax=brightest, origin="lower", aspect=aspect, interpolation="bilinear")
    shown = fields.rows[name].arrows_mm
    _, y_mm, z_mm = fields.slices.spacing_mm
    steps = [max(1, round(_EVERY_MM / mm)) for mm in (z_mm, y_mm)]
    z, y = np.mgrid[steps[0] // 2 : shown.shape[0] : steps[0], steps[1] // 2 : shown.shape[1] : steps[1]]
    axes.quiver(y, z, shown[z, y, 0] / y_mm, shown[z, y, 1] / z_mm, color="#F0E442", angles="xy", scale_units="xy",
                scale=1, width=0.008)  # fmt: skip
    axes.set(xticks=[], yticks=[])
    return axes


def determinant_map(axes: Axes, fields: Fields, name: str) -> AxesImage:
    """Draw |J| of the slice: white at 1, blue where volume grows, red where it shrinks, black where the field folds."""
    from matplotlib import colormaps
    from matplotlib.colors import TwoSlopeNorm

    shown = fields.rows[name].determinant
    colours = colormaps["RdBu"].copy()
    folded = np.where(shown <= 0, 1.0, np.nan)
    aspect = fields.slices.aspect("sagittal")
    image = axes.imshow(shown, cmap=colours, norm=TwoSlopeNorm(1, 0.5, 1.5), origin="lower", aspect=aspect)
    axes.imshow(folded, cmap="gray", vmin=1, vmax=2, origin="lower", aspect=aspect, interpolation="nearest")
    if "sagittal" in fields.slices.fixed_labels:
        for _, mask in outlines(fields.slices.fixed_labels["sagittal"][fields.index]):
            axes.contour(mask, levels=[0.5], colors="#444444", linewidths=0.6)
    axes.set(xticks=[], yticks=[])
    return image


def _caption(fields: Fields) -> str:
    count = len(fields.slices.where["sagittal"])
    return (
        f"{fields.slices.case}, sagittal slice {fields.index + 1} of {count}. Above: displacement within"
        " the slice, from fixed to moving, to scale. "
        "Below: |J| of the whole field; blue: growth, red: shrinkage, black: folding. Outlines: labels of the fixed"
        f" {fields.scans.fixed}."
    )
