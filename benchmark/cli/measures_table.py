"""The measures of one registration on the console: a table of vertebrae, and one line for the whole field."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.errors import BadInput
from benchmark.evaluation import MetricError, evaluate
from methods.base import Case, Registration
from methods.registry import METRICS
from methods.vertebrae import named

SHOWN = {
    "dsc": "overlap with the fixed label (before: without registration), 1 is best",
    "rigid_dsc": "overlap of the warped label with the moving one under its best rigid transform, 1 is rigid",
    "volume_change_signed_pct": "volume of the warped over that of the moving label, + is larger, 0 is best",
    "hd95_mm": "95 % of the surfaces of warped and fixed label lie closer, 0 is best",
}  # columns that are printed for each vertebra, and what they say
TITLES = {"volume_change_signed_pct": "Δvol"}  # a shorter title than in wide tables
ALREADY = ("folding_voxels", "sd_log_jacobian_l2r")  # of the whole field: other units of what is printed


def print_measures(case: Case, registration: Registration, console: Console) -> None:
    """Print the measures of each vertebra and of the whole field, on the methods' grid, with names and units.

    Args:
        case: with fixed labels.
        registration: of its pair.
        console: receives the table.

    Raises:
        BadInput: if a metric cannot be computed.
    """
    try:
        before = evaluate(case, Registration(np.zeros_like(registration.displacement_mm)), ("dsc",))[1]
        values, vertebrae, _ = evaluate(case, registration)
    except MetricError as error:
        raise BadInput(str(error)) from error
    titles = {name: _title(name) for name in SHOWN}
    table = Table("vertebra", f"{titles['dsc']} before", *map(escape, titles.values()))
    for old, new in zip(before, vertebrae, strict=True):
        table.add_row(named(int(new["vertebra"])), *map(_text, (old["dsc"], *(new.get(name) for name in SHOWN))))
    console.print(table)
    meaning = ". ".join(f"{title.partition(' [')[0]}: {SHOWN[name]}" for name, title in titles.items())
    console.print(f"{meaning}.", markup=False, highlight=False, soft_wrap=True)
    for v, reason in case.not_counted.items():
        console.print(f"{named(v)} is not measured: {reason}", markup=False, highlight=False, soft_wrap=True)
    whole = ", ".join(
        f"{_title(name)} {_text(value)}" for name, value in values.items() if value is not None and name not in ALREADY
    )
    console.print(f"whole field, lower is better: {whole}", markup=False, highlight=False, soft_wrap=True)


def _title(name: str) -> str:
    """The title of a column with its unit."""
    column = METRICS.columns()[name]
    title = TITLES.get(name, column.title)
    return f"{title} [{column.unit}]" if column.unit else title


def _text(value: float | int | None) -> str:
    """A number with four digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.4g}"
