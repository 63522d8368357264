"""How far the rows of a run follow a shift of the moving scan: following.csv in the run folder, and what it holds for.

columns: row, made_with (the first MADE_WITH parts of the fingerprint that a cell with the same settings and weights
has), then the slope along each of AXES. A row whose cells have another fingerprint was measured with other settings or
weights: its slopes say nothing about them, and are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.errors import BadInput
from methods.atomic import atomic_write
from methods.voxelmorph.following import AXES

FOLLOWING = "following.csv"
# Settings, and weights or package: the parts of a cell's fingerprint (`plan.FINGERPRINT_PARTS`) that decide a slope.
MADE_WITH = 2
OTHER = "it was measured with other settings or weights"
UNKNOWN = "it does not say with which weights it was measured"


class Following(NamedTuple):
    """What following.csv says about the cells of a run.

    Attributes:
        slopes: By row, the growth of the mean displacement per mm of a shift along each of AXES.
        unused: By row, why its slopes are not used.
    """

    slopes: Mapping[str, Sequence[float]] = {}
    unused: Mapping[str, str] = {}


def made_with(fingerprint: str) -> str:
    """Return the parts of a cell's fingerprint that its slopes depend on."""
    return ".".join(fingerprint.split(".")[:MADE_WITH])


def write_following(folder: Path, slopes: Mapping[str, Sequence[float]], made: Mapping[str, str]) -> None:
    """Write how far rows follow a shift.

    Args:
        folder: the run folder.
        slopes: by row, along each of AXES.
        made: by row, `made_with` of the fingerprint that its cells have with these settings and weights.
    """
    table = pd.DataFrame([
        {"row": row, "made_with": made[row], **dict(zip(AXES, values, strict=True))} for row, values in slopes.items()
    ], columns=["row", "made_with", *AXES])  # fmt: skip
    atomic_write(folder / FOLLOWING, lambda file: table.to_csv(file, index=False, float_format="%.4f"))


def read_following(folder: Path, config: Mapping[str, Any], cases: pd.DataFrame) -> Following:
    """Read how far the rows of a run follow a shift.

    Args:
        folder: the run folder.
        config: its configuration, which names the seed of each row.
        cases: its cells. Rows of several seeds are measured with the first.

    Returns:
        Empty where the folder has no such file.

    Raises:
        BadInput: the file has other content.
    """
    file = folder / FOLLOWING
    if not file.is_file():
        return Following()
    try:
        table = pd.read_csv(file, dtype={"row": str, "made_with": str}).set_index("row")
        slopes = table[list(AXES)].astype(float)
    except (ValueError, KeyError) as error:
        raise BadInput(f"{file}: expected columns row, made_with, {', '.join(AXES)}, got {error}; delete the file, or "
                       "measure it again with `make following`") from error  # fmt: skip
    seeds = {m["name"]: config["seed"] if m.get("seed") is None else m["seed"] for m in config.get("methods", ())}
    unused = {
        str(row): UNKNOWN if measured is None else OTHER
        for row, measured in _measured(table).items()
        if measured is None or not _made(cases, str(row), seeds) <= {measured}
    }
    lines = zip(map(str, slopes.index), slopes.to_numpy(), strict=True)
    return Following({row: [float(value) for value in line] for row, line in lines if row not in unused}, unused)


def _measured(table: pd.DataFrame) -> dict[str, str | None]:
    """By row, what it was measured with; None in a file of an earlier version."""
    if "made_with" not in table:
        return dict.fromkeys(table.index)
    return {str(row): None if pd.isna(value) else str(value) for row, value in table["made_with"].items()}


def _made(cases: pd.DataFrame, row: str, seeds: Mapping[str, int]) -> set[str]:
    """What the cells of a row, of its own seed, were made with."""
    cells = cases[(cases["method"] == row) & (cases["status"] == "ok")]
    if row in seeds:
        cells = cells[cells["seed"] == seeds[row]]
    return {made_with(str(fingerprint)) for fingerprint in cells["fingerprint"]}
