"""The data of the page: boxes and points of the interactive plots, and failures with their logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmark.results.store import Run
from methods.vertebrae import vertebra_name
from reports.figures.fig2 import PANELS, axis_limits, fig2_data
from reports.paper import colour
from reports.run_data import DataSet

_LOG_BYTES = 12_000


def plots(data: DataSet, paper_axes: bool = False) -> list[dict[str, Any]]:
    """Return Fig. 2 as JSON values, a panel for each of `fig2.PANELS`.

    Args:
        data: One data set and split of a run.
        paper_axes: As of `fig2.fig2`.

    Returns:
        Panels with key, title, low and high (limits of the axis) and boxes. A box has row (its name), label, colour,
        quartiles, whiskers (1.5 interquartile ranges) and points (case, vertebra, value).
    """
    shown = fig2_data(data)
    panels = []
    for key, title, _ in PANELS:
        found = []
        for row in data.rows:
            part = shown[(shown["row"] == row.label)].dropna(subset=[key])
            found.append({
                "row": row.name, "label": row.label, "colour": colour(row.method), **box(part[key].to_numpy(float)),
                "points": [
                    [str(case), vertebra_name(int(vertebra)), round(float(value), 5)]
                    for case, vertebra, value in part[["case", "vertebra", key]].itertuples(index=False)
                ],
            })  # fmt: skip
        low, high = axis_limits(key, shown[key].dropna(), paper_axes)
        panels.append({"key": key, "title": title, "low": low, "high": high, "boxes": found})
    return panels


def box(values: np.ndarray) -> dict[str, list[float]]:
    """Return quartiles and whiskers of a box as matplotlib draws them; empty lists without a value."""
    if not len(values):
        return {"quartiles": [], "whiskers": []}
    quartiles = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (quartiles[2] - quartiles[0])
    # A whisker ends at a value, and where no value lies beyond the box, at the box.
    low = values[values >= quartiles[0] - reach].min()
    high = values[values <= quartiles[2] + reach].max()
    whiskers = [min(low, quartiles[0]), max(high, quartiles[2])]
    return {"quartiles": [round(float(v), 5) for v in quartiles], "whiskers": [round(float(v), 5) for v in whiskers]}


def failures(data: DataSet, run: Run) -> list[dict[str, str]]:
    """Return the cells without a result; cells of a row with the same status and error share an entry.

    Returns:
        Entries with row (its cell group), cases, status, error (all of it) and log (its end). The log of a row is in
        its first entry; an unavailable row has none.
    """
    cells = data.lost_cells.assign(error=data.lost_cells["error"].fillna("").astype(str))
    found = []
    logged: set[str] = set()
    by = ["method", "device", "seed", "status", "error"]
    for (method, device, seed, status, error), alike in cells.groupby(by, sort=True):
        row, cases = run.row(str(method), str(device), int(str(seed))), sorted(alike["case"])
        log = "" if row in logged or status == "unavailable" else _log(run.folder, row, cases[0])
        logged.add(row)
        found.append({"row": row, "cases": ", ".join(cases), "status": str(status), "error": str(error), "log": log})
    return found


def _log(run_folder: Path, row: str, case: str) -> str:
    for file in (run_folder / "logs" / row / f"{case}.log", run_folder / "logs" / f"{row}.log"):
        if file.is_file():
            content = file.read_bytes()
            cut = f"[the last {_LOG_BYTES} of {len(content)} bytes]\n" if len(content) > _LOG_BYTES else ""
            return cut + content[-_LOG_BYTES:].decode("utf-8", errors="replace")
    return ""
