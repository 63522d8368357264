"""The run folder: a file for each finished cell, and the tidy tables made from these. Each file is written atomically.

config.yaml  environment.json  columns.json  following.csv  cells/<method>@<device>/<case>.json  cells/pairs/<case>.json
pairs.parquet  vertebrae.parquet  cases.parquet  pictures/  fields/  logs/  report/
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmark.errors import BadInput, Stopped
from benchmark.results import columns
from benchmark.results.columns import TABLES, Column, Table
from benchmark.results.following import Following, read_following
from methods.atomic import atomic_write, is_unfinished

STATUSES = ("ok", "failed", "timeout", "crashed", "invalid", "unavailable")


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Args:
        folder: where it is.
        config: config.yaml.
        environment: environment.json.
        pairs: a line for each vertebra of each case before registration, with the columns `declared("pairs")`.
        vertebrae: a line for each evaluated vertebra of each cell, with the columns `declared("vertebrae")`.
        cases: a line for each cell, with the columns `declared("cases")`.
        columns: the declaration of every column of the three, by name. Default: those of this process.
        following: how far its rows follow a shift of the moving scan; empty where it was not measured.
    """

    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    pairs: pd.DataFrame
    vertebrae: pd.DataFrame
    cases: pd.DataFrame
    columns: Mapping[str, Column] = field(default_factory=columns.all_declared)
    following: Following = field(default_factory=Following)

    def row(self, method: str, device: str, seed: int) -> str:
        """The name `<name>@<device>` of the folders that hold the cells and logs of these column values."""
        for m in self.config["methods"]:
            own = self.config["seed"] if m.get("seed") is None else m["seed"]
            if (m.get("of") or m["name"]) == method and own == seed:
                return f"{m['name']}@{device}"
        return f"{method}@{device}"  # a row of an earlier request, whose cells the folder keeps


def read_run(folder: str | Path) -> Run:
    """Read a run folder.

    Args:
        folder: where a run was written.

    Returns:
        The run. A folder without columns.json is of an earlier version: its columns have the declarations of this
        process.

    Raises:
        BadInput: the folder holds no run with a finished cell, or columns.json is damaged.
    """
    folder = Path(folder)
    missing = [n for n in ("config.yaml", "environment.json", "cases.parquet") if not (folder / n).is_file()]
    if missing:
        raise BadInput(f"{folder}: expected a run folder, found no {missing[0]}; make one with `run --out {folder}`")
    frames: dict[Table, pd.DataFrame] = {
        name: pd.read_parquet(folder / f"{name}.parquet").rename(columns=columns.FORMER_NAMES) for name in TABLES
    }
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    declarations = columns.columns_of(frames, columns.read_columns(folder))
    return Run(folder, config, environment, frames["pairs"], frames["vertebrae"], frames["cases"], declarations,
               read_following(folder, config, frames["cases"]))  # fmt: skip


class Store:
    """Writes one run folder. Cells are also held in memory, so one process at a time may have it (`lock.py`).

    Every method that writes raises Stopped where a file cannot be written. What was finished before stays.

    Args:
        folder: the run folder.
        make: make the folder if it does not exist.

    Raises:
        BadInput: the folder cannot be made.
    """

    def __init__(self, folder: Path, make: bool = True) -> None:
        self.folder = folder
        self._cells: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            if make:
                (folder / "cells").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--out {folder}: expected a folder to write into, got {error.strerror}") from error

    def clean(self) -> None:
        """Remove the unfinished files of killed processes."""
        for file in list(filter(is_unfinished, self.folder.rglob(".*"))):
            file.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run, atomically."""
        self._write(self.folder / name, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def cell(self, row: str, case: str) -> dict[str, Any] | None:
        """The content of a stored cell; None where there is none, or its file is unreadable or damaged.

        Args:
            row: `<method>@<device>`, or `pairs`.
            case: the case's name.
        """
        if (row, case) not in self._cells:
            try:
                content = json.loads(self._cell_file(row, case).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return None
            if not _is_cell(row, content):
                return None
            self._cells[row, case] = content
        return self._cells[row, case]

    def rows(self) -> set[str]:
        """The rows that have a cell here, `<method>@<device>`."""
        return {file.parent.name for file in self.folder.glob("cells/*/*.json")} - {"pairs"}

    def write_cell(self, row: str, case: str, content: Mapping[str, Any]) -> None:
        """Store a finished cell; a value that is not finite is stored as null."""
        stored = _without_nan(content)
        text = json.dumps(stored, indent=1, allow_nan=False)
        self._write(self._cell_file(row, case), lambda temporary: temporary.write_text(text, encoding="utf-8"))
        self._cells[row, case] = stored

    def write_file(self, parts: Sequence[str], write: Callable[[Path], Any]) -> None:
        """Write another file of the run, atomically. write: writes to the path that it is given."""
        self._write(self.path(*parts), write)

    def append_log(self, row: str, text: str) -> None:
        """Append a method's output to logs/<row>.log."""
        if text:
            with self._stopping(self.path("logs", f"{row}.log")) as file, file.open("a", encoding="utf-8") as opened:
                opened.write(text)

    def path(self, *parts: str) -> Path:
        """A path inside the run folder. Its parent folders are made."""
        file = self._inside(*parts)
        with self._stopping(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def write_tables(self, rows: Iterable[str], cases: Iterable[str]) -> None:
        """Write the three tables from the stored cells of these rows and cases, in this order, and columns.json."""
        names, rows = list(cases), list(rows)
        cells = [c for row in rows for case in names if (c := self.cell(row, case)) is not None]
        lines: dict[Table, list[dict[str, Any]]] = {
            "pairs": [r for case in names for r in (self.cell("pairs", case) or {"rows": []})["rows"]],
            "vertebrae": [r for c in cells for r in c["vertebrae"]],
            "cases": [c["case"] for c in cells],
        }
        frames = {table: _frame(lines[table], columns.dtypes(table)) for table in TABLES}
        self.write_text(columns.FILE, columns.columns_json(columns.columns_of(frames)))
        for name, frame in frames.items():
            self._write(self.folder / f"{name}.parquet", partial(frame.to_parquet, index=False))

    def _cell_file(self, row: str, case: str) -> Path:
        return self._inside("cells", row, f"{case}.json")

    def _inside(self, *parts: str) -> Path:
        return self.folder.joinpath(*(safe(part) for part in parts))

    def _write(self, file: Path, write: Callable[[Path], Any]) -> None:
        with self._stopping(file):
            atomic_write(file, write, durable=True)

    @contextmanager
    def _stopping(self, file: Path) -> Iterator[Path]:
        """Raise Stopped in place of an OSError."""
        try:
            yield file
        except OSError as error:
            reason = error.strerror or str(error)
            raise Stopped(
                f"{file} cannot be written: {reason}. Finished cells are kept in {self.folder}; when the "
                "file can be written, the same command continues from there"
            ) from error


def _is_cell(row: str, content: Any) -> bool:
    """Whether a JSON value has the parts of a stored cell."""
    if not isinstance(content, dict):
        return False
    if row == "pairs":
        return isinstance(content.get("rows"), list) and "fingerprint" in content
    return isinstance(content.get("vertebrae"), list) and {"fingerprint", "status"} <= set(content.get("case") or ())


def safe(part: str) -> str:
    """Return a name unchanged. Raises BadInput for one that could leave the run folder."""
    if part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part:
        raise BadInput(f"{part!r}: expected a name that stays inside the run folder")
    return part


def _frame(lines: list[dict[str, Any]], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """A table: the declared columns first, with null for what a line lacks; then the undeclared ones, as Float64."""
    frame = pd.DataFrame(lines)
    added = [name for name in frame.columns if name not in dtypes]
    frame = frame.reindex(columns=[*dtypes, *added])
    return frame.astype({**dtypes, **dict.fromkeys(added, "Float64")})


def _without_nan(value: Any) -> Any:
    """A JSON value with null for each number that is not finite."""
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
