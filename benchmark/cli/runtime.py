"""The `runtime` command: the same phantoms on coarser and finer grids, a run folder for each grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark.cli.run import run_config
from benchmark.config import RunConfig, make_config
from benchmark.errors import BadInput
from benchmark.execution.runner import RunOptions

FINEST_MM, COARSEST_MM = 0.5, 4.0  # limits of the phantoms' grid


def parse_spacings(text: str) -> list[float]:
    """Read a comma-separated list of grid spacings, `2,1.5,1`.

    Returns:
        Spacings in mm, 0.5 to 4, coarsest first, without duplicates.

    Raises:
        BadInput: for text that is no such list.
    """
    try:
        spacings = sorted({float(part) for part in text.split(",") if part.strip()}, reverse=True)
    except ValueError:
        spacings = []
    if not spacings or not all(FINEST_MM <= s <= COARSEST_MM for s in spacings):
        allowed = f"millimetres from {FINEST_MM:g} to {COARSEST_MM:g}"
        raise BadInput(f"--spacings {text}: expected {allowed} with commas between, as 2,1.5,1")
    return spacings


def grid_configs(config: RunConfig, spacings_mm: Sequence[float], patients: int) -> dict[str, RunConfig]:
    """The run of each grid.

    Args:
        config: gives methods, devices and repeats; its dataset is replaced.
        patients: number of phantoms registered on each grid.

    Returns:
        Folder name, for example `1.5mm`, to configuration.
    """
    content = config.model_dump(mode="json")
    return {
        f"{spacing:g}mm": make_config(
            content | {"dataset": {"name": "phantom", "settings": {"spacing_mm": spacing}, "limit": patients}},
            "runtime",
        )
        for spacing in spacings_mm
    }


def measure(
    config: RunConfig, spacings_mm: Sequence[float], patients: int, out: Path, console: Console
) -> tuple[list[Path], int]:
    """Run every grid, one cell at a time. No process starts ahead, because its preparation is timed too.

    Returns:
        The run folders, and the largest exit status of the runs.
    """
    folders, status = [], 0
    for name, grid_config in grid_configs(config, spacings_mm, patients).items():
        console.print(f"Phantoms at {name}", highlight=False)
        status = max(status, run_config(grid_config, out / name, RunOptions(ahead=False), console).exit_status)
        folders.append(out / name)
    return folders, status
