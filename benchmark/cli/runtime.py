"""The `runtime` command's runs: the same phantoms on coarser and finer grids, a run folder for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmark.cli.run import run_config
from benchmark.config import RunConfig, make_config
from benchmark.errors import BadInput
from benchmark.execution.runner import RunOptions

FINEST_MM, COARSEST_MM = 0.5, 4.0  # as the phantoms can be made


@dataclass(frozen=True)
class Sizes:
    """Grids by their spacing, mm, and how many patients are registered on each."""

    spacings_mm: Sequence[float] = (2.0, 1.5, 1.0)
    patients: int = 2


def parse_spacings(text: str) -> list[float]:
    """`2,1.5,1` as spacings in mm, coarsest first. Raises BadInput for what is none."""
    try:
        spacings = sorted({float(part) for part in text.split(",") if part.strip()}, reverse=True)
    except ValueError:
        spacings = []
    if not spacings or not all(FINEST_MM <= s <= COARSEST_MM for s in spacings):
        allowed = f"millimetres from {FINEST_MM:g} to {COARSEST_MM:g}"
        raise BadInput(f"--spacings {text}: expected {allowed} with commas between, as 2,1.5,1")
    return spacings


def configurations(wanted: RunConfig, sizes: Sizes) -> dict[str, RunConfig]:
    """Folder name -> the run of one grid. wanted: methods, devices and repeats; its dataset is not looked at."""
    content = wanted.model_dump(mode="json")
    return {
        f"{spacing:g}mm": make_config(
            content | {"dataset": {"name": "phantom", "settings": {"spacing_mm": spacing}, "limit": sizes.patients}},
            "runtime",
        )
        for spacing in sizes.spacings_mm
    }


def measure(wanted: RunConfig, sizes: Sizes, out: Path, how: RunOptions, console: Console) -> tuple[list[Path], int]:
    """Run every grid, one cell at a time. Returns the run folders, and 1 where a cell gave no result, else 0."""
    folders, status = [], 0
    for name, config in configurations(wanted, sizes).items():
        console.print(f"Phantoms at {name}", highlight=False)
        status = max(status, run_config(config, out / name, how, console).exit_status)
        folders.append(out / name)
    return folders, status
