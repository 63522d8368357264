"""The picture of the README: one patient before registration, after the best classical row, and after the best network.

`python -m reports.figures.before_after RUN OUT` writes it; `make results` calls it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import BadInput
from benchmark.results.store import read_run
from reports.figures.drawing import caption
from reports.figures.fig3 import Shown, fig3_data, panel
from reports.figures.slices import Warped
from reports.run_data import DataSet, Row, data_sets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_METHOD = ("initial", "rigid")
_DPI = 110


def best_rows(data: DataSet) -> list[Row]:
    """Return the row with the highest mean DSC among the classical rows, then that among the networks.

    A classical row optimises each pair. `initial` and `rigid` are controls. A kind without a result is left out.
    """
    rows = [row for row in data.measured_rows if row.method not in _NO_METHOD]
    kinds = (
        [row for row in rows if row.method not in data.networks],
        [row for row in rows if row.method in data.networks],
    )
    return [max(kind, key=lambda row: float(data.values(row, "dsc").mean())) for kind in kinds if kind]


def before_after(data: DataSet, shown: Shown) -> Figure:
    """Draw a sagittal slice: the moving scan, the fixed scan with the labels before registration, and the best rows.

    Args:
        data: One data set and split of a run.
        shown: The patient and slice of Fig. 3.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    before = Warped(shown.slices.moving_labels, shown.slices.ct)
    rows = [row for row in best_rows(data) if shown.warped.get(row.label) is not None]
    panels = [
        (f"Moving {shown.scans.moving}", None),
        ("Before", before),
        *((r.label, shown.warped[r.label]) for r in rows),
    ]
    height, width = shown.slices.mr["sagittal"].shape[1:]
    with matplotlib.style.context("default"):
        size = (1.9 * len(panels), 1.9 * height * shown.slices.aspect("sagittal") / width + 0.75)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        for axes, (name, warped) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            panel(axes, shown, "sagittal", warped, moving=warped is None)
            axes.set_title(name, fontsize=10)
        text = (
            f"{shown.slices.case}. Green: labels of the {shown.scans.moving}, on the fixed {shown.scans.fixed} from the"
            " second picture on. Orange: label in a wrong place, blue: missing label; red circles: large errors. After"
            " registration: the best classical row and the best network by mean DSC."
        )
        caption(figure, text)
    return figure


def write_before_after(run_folder: Path, out: Path) -> Path:
    """Write the picture of a run's first data set as PNG, and return its path.

    Raises:
        BadInput: The folder holds no run, or the run kept no pictures.
    """
    data = data_sets(read_run(run_folder))[0]
    shown = fig3_data(data, run_folder)
    if shown is None:
        raise BadInput(f"{run_folder}: expected a run with pictures, found none; run it again")
    before_after(data, shown).savefig(out, dpi=_DPI, metadata={"Software": None})
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    write_before_after(arguments.run, arguments.out)
