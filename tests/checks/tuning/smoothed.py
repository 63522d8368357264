"""Choose the width of the row `smoothed`: the widest Gaussian that costs no DSC on validation patients.

    python tests/checks/tuning/smoothed.py [--start voxelmorph] [--limit 6]

Registers validation phantoms by the start row and smooths each displacement by every width. Writes smoothed.md beside
this file with DSC, rigid DSC and TRE by width, and prints the values of the row in
methods/builtin.py. Run it again
whenever the start has new weights.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmark.datasets.phantom import Phantom
from benchmark.evaluation import Evaluation, compute
from methods.registry import create_method
from methods.smoothed import DIGITS, smooth

WIDTHS_MM = (0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0)
COLUMNS = ("dsc", "rigid_dsc", "tre_mm")


def chosen(table: pd.DataFrame) -> float:
    """The widest filter of an unbroken run from 0 on whose mean DSC is not below that without a filter.

    Args:
        table: by width in mm, ascending from 0, with the column dsc.
    """
    below = table["dsc"] < table["dsc"].iloc[0]
    return float(table.index[-1] if not below.any() else table.index[int(below.to_numpy().argmax()) - 1])


def measure(start: str, cases: list[str], console: Console) -> pd.DataFrame:
    """Means over the vertebrae of all cases, by width in mm."""
    method, dataset = create_method(start), Phantom("phantom")
    method.prepare("cpu", 1, 0)
    lines = []
    for name in cases:
        case = dataset.load(name)
        found = method.register(case.pair.blind(name))
        for width in WIDTHS_MM:
            field = replace(found, displacement_mm=smooth(found.displacement_mm, case.pair.grid, width))
            _, vertebrae = compute(Evaluation(case, field, case.counted), COLUMNS)
            lines += [{"case": name, "width": width, **row} for row in vertebrae]
        console.print(f"{name} done")
    return pd.DataFrame(lines).groupby("width")[list(COLUMNS)].mean()


def markdown(table: pd.DataFrame, start: str, patients: int) -> str:
    """The table as a page that says what was chosen."""
    lines = [f"Validation phantoms, {patients} patients, the displacement of {start} after a Gaussian.", "",
             "| width mm | DSC | rigid DSC | TRE mm |", "| ---: | ---: | ---: | ---: |"]  # fmt: skip
    lines += [f"| {width:g} | {r.dsc:.4f} | {r.rigid_dsc:.4f} | {r.tre_mm:.2f} |" for width, r in table.iterrows()]
    return "\n".join([*lines, "", f"Chosen: {chosen(table):g} mm, the widest without a loss of DSC.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", default="voxelmorph")
    parser.add_argument("--limit", type=int, default=6, help="Only the first so many patients.")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    cases = Phantom("phantom").cases("val")[: options.limit]
    fingerprint = create_method(options.start).fingerprint()[:DIGITS]
    text = markdown(measure(options.start, cases, console), options.start, len(cases))
    text += f"chosen_for: {fingerprint!r}\n"
    console.print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
