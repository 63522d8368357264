"""From a run folder to what people read: the files of `report/`, and Table 1 in the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.store import read_run
from benchmark.writing import whole
from reports.frames import Frames, by_dataset
from reports.render import csv, markdown, sheets, terminal
from reports.tables import table1

if TYPE_CHECKING:
    from rich.console import Console

_TABLE_WIDTH = 110


def write_report(run_folder: Path, with_paper: bool = True) -> Path:
    """Write report/index.md, table1.md, table1.csv, fig2.png and fig2.pdf of a run, and return the index's path.

    A run of several data sets has one Fig. 2 each, named after it, and a table each in the same files. The same run
    gives the same bytes. with_paper: the paper's figures stand beside ours.
    """
    from reports.figures import fig2, fig2_data, save

    run = read_run(run_folder)
    frames = (run.pairs, run.vertebrae, run.cases)
    folder = run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    environment = environment_line(run.environment)
    printed = "\n".join(markdown(sheet) for sheet in sheets(*frames, with_paper))
    _write(folder / "table1.md", f"{printed}\nEnvironment: {environment}\n")
    _write(folder / "table1.csv", csv(table1(*frames, with_paper)))
    lines = [f"# {run.folder.resolve().name}", "", "- [Table 1](table1.md), and its numbers as [CSV](table1.csv)"]
    parts = by_dataset(*frames)
    pictures = []
    for part in parts:
        name = "fig2" if len(parts) == 1 else f"fig2-{_slug(part)}"
        save(fig2(fig2_data(part)), folder / name)
        lines.append(f"- Fig. 2, {part.name}: [PNG]({name}.png), [PDF]({name}.pdf)")
        pictures += ["", f"![Fig. 2: DSC, rigid DSC and relative volume change, {part.name}]({name}.png)"]
    index = folder / "index.md"
    _write(index, "\n".join([*lines, "", f"Environment: {environment}", *pictures, ""]))
    return index


def print_table1(run_folder: Path, console: Console, with_paper: bool = True) -> None:
    """Print Table 1 of a run, a table for each data set. Best on 110 columns or more; narrower terminals wrap."""
    run = read_run(run_folder)
    given = console.width
    # What is not a terminal (a pipe, a log) has no width of its own: the table then takes what it needs.
    console.width = given if console.is_terminal else max(given, _TABLE_WIDTH)
    try:
        for sheet in sheets(run.pairs, run.vertebrae, run.cases, with_paper):
            console.print(terminal(sheet, console.width))
    finally:
        console.width = given


def environment_line(environment: Mapping[str, Any]) -> str:
    """environment.json on one line: the machine, the versions that decide the figures, the code. Unknowns are left out.

    A commit is given by its first ten digits, with a word where the code on disk differed from it.
    """
    packages = environment.get("packages") or {}
    versions = {"Python": environment.get("python")} | {name: packages.get(name) for name in ("torch", "itk-elastix")}
    changed = " with local changes" if environment.get("modified") else ""
    facts = [
        environment.get("processor"),
        _fact(environment.get("cores"), "{} cores"),
        _fact(environment.get("memory_gb"), "{} GB"),
        environment.get("gpu"),
        environment.get("system"),
        *(_fact(version, f"{name} {{}}") for name, version in versions.items()),
        _fact(str(environment.get("commit") or "")[:10], f"rigidbench {{}}{changed}"),
        environment.get("date"),
    ]
    return " · ".join(str(fact) for fact in facts if fact) or "not recorded"


def _fact(value: object, template: str) -> str | None:
    return template.format(value) if value else None


def _slug(frames: Frames) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{frames.dataset}-{frames.split}").strip("-")


def _write(path: Path, text: str) -> None:
    whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8", newline="\n"))
