"""Seconds of registration on CPU and GPU, memory, and the growth of time with the volume.

Only cells with status `ok` that ran beside no other work count.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmark.results.store import read_run
from reports.figures.drawing import save
from reports.frames import contended, quantity
from reports.paper import colour, label, ordered
from reports.printing import PrintedTable, TableCell, csv, render, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from rich.table import Table

_LINE = {"cpu": "-", "cuda": "--"}
_MARK = {"cpu": "o", "cuda": "^"}


def read_cells(folders: Sequence[Path]) -> pd.DataFrame:
    """Return the cells of several runs in one frame."""
    return pd.concat([read_run(folder).cases for folder in folders], ignore_index=True)


def runtime_table(cases: pd.DataFrame, asked: Sequence[str] = ()) -> pd.DataFrame:
    """A line per method, in Table 1's order (`paper.ordered`); for each device of `cases` the columns

    `<device>_seconds` and `_spread` (medians over patients on the finest grid; spread: of repeats, largest less
    smallest), `_prepare_seconds`, `_memory_mb`, `_device_memory_mb` (largest), `_growth` (the exponent p of
    seconds ~ voxels^p, least squares over log-log, null for fewer than two sizes), `_cells`, `_patients`,
    `_conditions` (machine and threads in words), and `_reason` where there is no value. Also
    `voxels` (median of the finest grid) and, with both devices, `speed_up` (CPU seconds over CUDA seconds, median over
    the same patients on the finest grid).
    """
    devices = list(dict.fromkeys(cases["device"]))
    counted = _counted(cases)
    lines = []
    for method in ordered(cases["method"], asked):
        line: dict[str, Any] = {"method": method, "row": label(method)}
        finest = {d: _finest(_of(counted, method, d)) for d in devices}
        line["voxels"] = pd.concat(list(finest.values()))["voxels"].median()
        for device in devices:
            line |= _measurements(_of(counted, method, device), finest[device], device)
            line[f"{device}_reason"] = _reason(_of(cases, method, device), finest[device])
        if {"cpu", "cuda"} <= set(devices):
            both = finest["cpu"].merge(finest["cuda"], on=["dataset", "case", "voxels"], suffixes=("_cpu", "_cuda"))
            line["speed_up"] = (both["seconds_cpu"] / both["seconds_cuda"]).median()
        lines.append(line)
    return pd.DataFrame(lines)


def _of(cells: pd.DataFrame, method: str, device: str) -> pd.DataFrame:
    return cells[(cells["method"] == method) & (cells["device"] == device)]


def _finest(cells: pd.DataFrame) -> pd.DataFrame:
    """Each patient's cell with the most voxels."""
    return cells.sort_values("voxels").groupby("case", as_index=False).tail(1)


def _measurements(cells: pd.DataFrame, finest: pd.DataFrame, device: str) -> dict[str, float | str]:
    return {
        f"{device}_seconds": finest["seconds"].median(),
        f"{device}_spread": finest["seconds_spread"].median(),
        f"{device}_prepare_seconds": finest["prepare_seconds"].median(),
        f"{device}_memory_mb": finest["peak_memory_mb"].max(),
        f"{device}_device_memory_mb": finest["peak_device_memory_mb"].max(),
        f"{device}_growth": _growth(cells["voxels"], cells["seconds"]),
        f"{device}_cells": len(cells),
        f"{device}_patients": len(finest),
        f"{device}_conditions": _conditions(cells),
    }


def _conditions(cells: pd.DataFrame) -> str:
    """The machines of cells and their threads, in words; "" without cells."""
    known = cells[["machine", "threads"]].drop_duplicates().itertuples(index=False)
    named = [
        f"{'a machine that was not recorded' if pd.isna(machine) else machine}"
        + ("" if pd.isna(threads) else f" with {quantity(int(threads), 'thread', 'threads')}")
        for machine, threads in known
    ]
    return " and ".join(sorted(named))


def _growth(voxels: pd.Series, seconds: pd.Series) -> float:
    known = voxels.notna()
    voxels, seconds = voxels[known], seconds[known]
    # Patients' sizes differ by a third, which is too little for a fit.
    if len(voxels) < 2 or voxels.max() < 1.5 * voxels.min() or not (seconds > 0).all():
        return float("nan")
    return float(np.polyfit(np.log(voxels), np.log(seconds), 1)[0])


def _reason(cells: pd.DataFrame, counted: pd.DataFrame) -> str | None:
    """Why there is no value."""
    if len(counted):
        return None
    if cells.empty:
        return "not run"
    if (cells["status"] == "ok").any():
        return "every cell ran beside others"
    first = cells.iloc[0]
    return f"{first['status']}: {first['error']}"


def timed(cases: pd.DataFrame) -> bool:
    """Return whether any row but Initial has a time that counts."""
    return bool(len(_counted(cases[cases["method"] != "initial"])))


def _counted(cases: pd.DataFrame) -> pd.DataFrame:
    """Cells whose time counts."""
    names = ["voxels", "seconds", "seconds_spread", "prepare_seconds", "peak_memory_mb", "peak_device_memory_mb"]
    cells = cases.assign(**{name: pd.to_numeric(cases[name]).astype(float) for name in names})
    return cells[(cells["status"] == "ok") & ~contended(cells)]


def texts(table: pd.DataFrame) -> tuple[list[str], list[list[str]], list[str]]:
    """Return heads, lines and notes of the table as printed."""
    devices = [c.removesuffix("_seconds") for c in map(str, table) if c.endswith("_seconds") and "prepare" not in c]
    both = "speed_up" in table
    heads = ["Method", "Voxels"]
    for device in devices:
        name = device.upper()
        heads += [f"{name} [s]", f"{name} time ~ voxels^p", f"{name} prepare [s]", f"{name} memory [MB]"]
        heads += ["GPU memory [MB]"] if device == "cuda" else []
    heads += ["Speed-up"] if both else []
    lines, notes = [], []
    for row in table.to_dict("records"):
        line = [row["row"], _number(row["voxels"], "{:,.0f}")]
        for device in devices:
            reason = row[f"{device}_reason"]
            reason = reason if isinstance(reason, str) else None  # pandas makes None beside text NaN, which is true
            if reason:
                notes.append(f"{row['row']} on {device}: {reason}")
            shown = "unavailable" if str(reason).startswith("unavailable") else "–"
            seconds = _number(row[f"{device}_seconds"], "{:.3g}")
            spread = row[f"{device}_spread"]
            line.append((seconds + (f" ±{spread / 2:.2g}" if spread else "")) if not reason else shown)
            line.append(_number(row[f"{device}_growth"], "p = {:.2f}"))
            line.append(_number(row[f"{device}_prepare_seconds"], "{:.3g}"))
            line.append(_number(row[f"{device}_memory_mb"], "{:,.0f}"))
            line += [_number(row[f"{device}_device_memory_mb"], "{:,.0f}")] if device == "cuda" else []
        line += [_number(row["speed_up"], "{:.1f}")] if both else []
        lines.append(line)
    notes += [note for device in devices for note in _incomparable(table, device)]
    notes.append(
        "Seconds of one registration on each patient's finest grid: median over patients; ± half the difference of"
        " the slowest and the fastest repeat. Preparation (imports, weights, warm-up) is not included. Memory: of the"
        " whole process. p: least-squares fit over all grids."
    )
    return heads, lines, list(dict.fromkeys(notes))


def _incomparable(table: pd.DataFrame, device: str) -> list[str]:
    """Notes on rows whose times on a device are of other patients, machines or threads than those of other rows."""
    timed = table[table[f"{device}_patients"] > 0]
    notes = []
    if timed[f"{device}_patients"].nunique() > 1:
        listed = ", ".join(
            f"{row} {count}" for row, count in zip(timed["row"], timed[f"{device}_patients"], strict=True)
        )
        notes.append(f"Patients timed on {device}: {listed}. Medians over different patients are not comparable.")
    if timed[f"{device}_conditions"].nunique() > 1 or timed[f"{device}_conditions"].str.contains(" and ").any():
        listed = "; ".join(f"{row}: {on}" for row, on in zip(timed["row"], timed[f"{device}_conditions"], strict=True))
        notes.append(f"Times on {device} are not comparable: {listed}.")
    return notes


def _number(value: float | None, template: str) -> str:
    return "–" if value is None or pd.isna(value) else template.format(value)


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown, its notes and figure below."""
    heads, lines, notes = texts(table)
    right = [False] + [True] * (len(heads) - 1)
    cells = [[TableCell(text, "text") for text in line] for line in lines]
    return render("runtime.md", printed=PrintedTable("Runtime", heads, right, cells), notes=notes)


def terminal(table: pd.DataFrame) -> Table:
    """Return the table for a terminal, with its notes as the caption."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heads, lines, notes = texts(table)
    shown = Table(title="Runtime", box=box.SIMPLE_HEAD, caption=Text("\n".join(notes), "dim"), caption_justify="left")
    for i, head in enumerate(heads):
        shown.add_column(head, justify="left" if i == 0 else "right")
    for line in lines:
        shown.add_row(*map(Text, line))
    return shown


def runtime_figure(cases: pd.DataFrame, asked: Sequence[str] = ()) -> Figure:
    """Left, seconds by method and device; middle, memory; right, seconds by voxels: a point per cell, and the power of
    the voxels that fits them best. `initial` registers nothing and is left out, as are rows without a time.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    cases = cases[cases["method"] != "initial"]
    table = runtime_table(cases, asked)
    devices = [d for d in dict.fromkeys(cases["device"]) if table[f"{d}_seconds"].notna().any()]
    timeless = table[[f"{d}_seconds" for d in devices]].isna().all(axis=1)
    untimed, table = list(table.loc[timeless, "row"]), table[~timeless]
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(11, 1.6 + max(2.2, 0.42 * len(table))), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.3, 1.0, 1.5))
        _bars(left, table, [f"{d}_seconds" for d in devices], devices, "seconds", log=True)
        _speed_ups(left, table)
        memory = [f"{d}_memory_mb" for d in devices]
        _bars(middle, table, memory, devices, "memory of the process [MB]", log=False)
        middle.set_yticklabels([])
        _lines(right, cases, devices, asked)
        figure.supxlabel(_caption(cases, devices, untimed), fontsize=8, color="#444444", x=0.01, ha="left")
    return figure


def _bars(
    axes: Axes, table: pd.DataFrame, columns: Sequence[str], devices: Sequence[str], title: str, log: bool
) -> None:
    places = np.arange(len(table))[::-1]
    height = 0.8 / max(1, len(columns))
    for i, (column, device) in enumerate(zip(columns, devices, strict=True)):
        at = places + 0.4 - height * (i + 0.5)
        bars = axes.barh(at, table[column], height * 0.9, color=[colour(m) for m in table["method"]], label=device)
        if device == "cuda":
            for bar in bars:
                bar.set_hatch("////")
                bar.set_edgecolor("white")
        for place, value in zip(at, table[column], strict=True):
            if pd.notna(value):
                shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
                axes.annotate(shown, (value, place), xytext=(3, 0), textcoords="offset points", va="center",
                              fontsize=7)  # fmt: skip
    axes.set_yticks(places, table["row"], fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.margins(x=0.18)
    values = table[list(columns)].to_numpy(float)
    if log and (values > 0).any():
        axes.set_xscale("log")
        least, most = np.nanmin(values[values > 0]), np.nanmax(values)
        # The axis starts at a power of ten, at most half the least value, so that every bar is visible.
        axes.set_xlim(10 ** np.floor(np.log10(least / 2)), most * 3)
        _plain_ticks(axes.xaxis)
    axes.spines[["top", "right"]].set_visible(False)


def _plain_ticks(axis: Axis) -> None:
    """1, 2 and 5 of each decade, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if _decades(axis) < 2 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def _decades(axis: Axis) -> float:
    low, high = axis.get_view_interval()
    return float(np.log10(high / low))


def _speed_ups(axes: Axes, table: pd.DataFrame) -> None:
    if "speed_up" not in table or table["speed_up"].isna().all():
        return
    names = [
        f"{row} ({speed:.1f} x)" if pd.notna(speed) else row
        for row, speed in zip(table["row"], table["speed_up"], strict=True)
    ]
    axes.set_yticks(np.arange(len(table))[::-1], names, fontsize=8)


def _lines(axes: Axes, cases: pd.DataFrame, devices: Sequence[str], asked: Sequence[str]) -> None:
    counted = _counted(cases)
    counted = counted[(counted["voxels"] > 0) & (counted["seconds"] > 0)]  # a logarithmic axis has no 0
    for method in ordered(counted["method"], asked):
        for device in devices:
            cells = _of(counted, method, device)
            if not len(cells):
                continue
            millions, seconds = (cells["voxels"] / 1e6).to_numpy(), cells["seconds"].to_numpy()
            power = _growth(cells["voxels"], cells["seconds"])
            style, mark, name = _LINE.get(device, ":"), _MARK.get(device, "s"), f"{label(method)} {device}"
            axes.plot(millions, seconds, mark, color=colour(method), markersize=3.5, alpha=0.7, label=name)
            if np.isfinite(power):
                ends = np.array([millions.min(), millions.max()])
                level = np.exp(np.mean(np.log(seconds) - power * np.log(millions)))
                axes.plot(ends, level * ends**power, style, color=colour(method), linewidth=1.2)
    if axes.lines:
        axes.set(xscale="log", yscale="log")
        for axis, limits in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
            low, high = axis.get_view_interval()
            if _decades(axis) < 1:  # at least one decade, so that the axis has ticks
                low, high = np.sqrt(low * high) * 10 ** np.array([-0.5, 0.5])
            limits(low, high)
            _plain_ticks(axis)
    axes.set_title("seconds by million voxels", fontsize=9)
    axes.grid(which="both", color="#EEEEEE", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _caption(cases: pd.DataFrame, devices: Sequence[str], untimed: Sequence[str]) -> str:
    absent = [d for d in dict.fromkeys(cases["device"]) if d not in devices]
    machines = "; ".join(dict.fromkeys(str(m) for m in cases["machine"].dropna()))
    threads = "/".join(f"{t:g}" for t in sorted(set(_counted(cases)["threads"].dropna().astype(float))))
    gone = "".join(f"\n{name}: no value, see the notes of the table." for name in absent)
    if untimed:
        gone += "\n" + textwrap.fill(f"No time, see the notes of the table: {', '.join(untimed)}.", 170)
    return f"Left and middle: each patient's finest grid. {machines}; threads: {threads}.{gone}"


def write_runtime(folders: Sequence[Path], out: Path) -> tuple[Path, Table]:
    """Write runtime.md, .csv and the figure into `out`; return the path of runtime.md and the table for a terminal."""
    cases = read_cells(folders)
    table = runtime_table(cases)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "runtime.csv", csv(table))
    write_text(out / "runtime.md", markdown(table))
    save(runtime_figure(cases), out / "runtime")
    return out / "runtime.md", terminal(table)
