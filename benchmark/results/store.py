"""The run folder: every finished cell on disk, whole or not at all, and the tidy tables made from them.

config.yaml  environment.json  cells/<method>@<device>/<case>.json  cells/pairs/<case>.json
pairs.parquet  vertebrae.parquet  cases.parquet  pictures/  fields/  logs/  report/
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmark.errors import BadInput, Stopped
from methods.atomic import atomic_write, is_unfinished

PAIRS = {
    "dataset": "string", "split": "string", "case": "string", "vertebra": "Int64", "initial_dsc": "Float64",
    "ceiling_dsc": "Float64", "label_volume_difference_pct": "Float64", "voxels_moving": "Int64",
    "voxels_fixed": "Int64", "touches_border": "boolean", "excluded_reason": "string", "true_dsc": "Float64",
    "true_rigid_dsc": "Float64", "true_volume_change_pct": "Float64",
}  # fmt: skip
VERTEBRAE = {
    "dataset": "string", "split": "string", "case": "string", "method": "string", "device": "string", "seed": "Int64",
    "vertebra": "Int64", "dsc": "Float64", "rigid_dsc": "Float64", "volume_change_pct": "Float64",
    "volume_change_signed_pct": "Float64", "hd95_mm": "Float64", "assd_mm": "Float64", "rotation_error_deg": "Float64",
    "translation_error_mm": "Float64", "tre_mm": "Float64",
}  # fmt: skip
CASES = {
    "dataset": "string", "split": "string", "case": "string", "method": "string", "device": "string", "seed": "Int64",
    "fingerprint": "string", "status": "string", "error": "string", "seconds": "Float64", "seconds_spread": "Float64",
    "repeats": "Int64", "start_seconds": "Float64", "prepare_seconds": "Float64", "load_seconds": "Float64",
    "evaluate_seconds": "Float64", "contended": "boolean", "machine": "string", "voxels": "Int64",
    "peak_memory_mb": "Float64", "peak_device_memory_mb": "Float64", "threads": "Int64", "threads_observed": "Float64",
    "busy_elsewhere": "Float64",
    "folding_voxels": "Int64", "folding_pct": "Float64", "sd_log_jacobian": "Float64",
    "sd_log_jacobian_l2r": "Float64", "properness": "Float64", "orthonormality": "Float64", "similarity": "Float64",
    "landmark_tre_mm": "Float64",
}  # fmt: skip
STATUSES = ("ok", "failed", "timeout", "crashed", "invalid", "unavailable")


@dataclass(frozen=True)
class Run:
    """A run folder, read. pairs, vertebrae, cases: DataFrames with the columns above, then those of added metrics."""

    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    pairs: pd.DataFrame
    vertebrae: pd.DataFrame
    cases: pd.DataFrame

    def row(self, method: str, device: str, seed: int) -> str:
        """`<name>@<device>`, by which the folder's cells and logs go, of a cell with these columns."""
        for m in self.config["methods"]:
            own = self.config["seed"] if m.get("seed") is None else m["seed"]
            if (m.get("of") or m["name"]) == method and own == seed:
                return f"{m['name']}@{device}"
        return f"{method}@{device}"  # a row of another request, whose cells the folder keeps


def read_run(folder: str | Path) -> Run:
    """The run in `folder`. Raises BadInput where there is none, or none of its cells is finished."""
    folder = Path(folder)
    missing = [n for n in ("config.yaml", "environment.json", "cases.parquet") if not (folder / n).is_file()]
    if missing:
        raise BadInput(f"{folder}: expected a run folder, found no {missing[0]}; make one with `run --out {folder}`")
    frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("pairs", "vertebrae", "cases")}
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    return Run(folder, config, environment, **frames)


class Store:
    """Writes one run folder. Cells are also held in memory, so one process at a time may have it (`lock.py`).

    make: the folder, if it is not there. Raises Stopped where a file cannot be written: what was finished before is
    there, whole.
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
        """Remove what killed processes left unfinished."""
        for file in list(filter(is_unfinished, self.folder.rglob(".*"))):
            file.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """A text file of the run, whole or not at all."""
        self._write(self.folder / name, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def cell(self, row: str, case: str) -> dict[str, Any] | None:
        """What is stored for a cell, or None. row: `<method>@<device>`, or `pairs`.

        A file that cannot be read or is no longer what was written (a failing disk, a slip in an editor) is no cell.
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
        """Store a finished cell; a figure that is not finite is stored as null."""
        stored = _without_nan(content)
        text = json.dumps(stored, indent=1, allow_nan=False)
        self._write(self._cell_file(row, case), lambda temporary: temporary.write_text(text, encoding="utf-8"))
        self._cells[row, case] = stored

    def write_file(self, parts: Sequence[str], write: Callable[[Path], Any]) -> None:
        """Another file of the run, whole or not at all. write: fills the path that it is given."""
        self._write(self.path(*parts), write)

    def append_log(self, row: str, text: str) -> None:
        """Add what a method's process printed to logs/<row>.log."""
        if text:
            with self._said(self.path("logs", f"{row}.log")) as file, file.open("a", encoding="utf-8") as opened:
                opened.write(text)

    def path(self, *parts: str) -> Path:
        """A path inside the run folder, its folders made."""
        file = self._inside(*parts)
        with self._said(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def write_tables(self, rows: Iterable[str], cases: Iterable[str]) -> None:
        """Make the three tables from the stored cells of these rows and cases, in this order."""
        names, rows = list(cases), list(rows)
        pairs = [r for case in names for r in (self.cell("pairs", case) or {"rows": []})["rows"]]
        cells = [c for row in rows for case in names if (c := self.cell(row, case)) is not None]
        frames = {
            "pairs": _frame(pairs, PAIRS),
            "cases": _frame([c["case"] for c in cells], CASES),
            "vertebrae": _frame([r for c in cells for r in c["vertebrae"]], VERTEBRAE),
        }
        for name, frame in frames.items():
            self._write(self.folder / f"{name}.parquet", partial(frame.to_parquet, index=False))

    def _cell_file(self, row: str, case: str) -> Path:
        return self._inside("cells", row, f"{case}.json")

    def _inside(self, *parts: str) -> Path:
        return self.folder.joinpath(*(safe(part) for part in parts))

    def _write(self, file: Path, write: Callable[[Path], Any]) -> None:
        with self._said(file):
            atomic_write(file, write, durable=True)

    @contextmanager
    def _said(self, file: Path) -> Iterator[Path]:
        try:
            yield file
        except OSError as error:
            why = error.strerror or str(error)
            raise Stopped(
                f"{file} cannot be written: {why}. What is finished is kept in {self.folder}: once it can be written, "
                "the same command goes on from there"
            ) from error


def _is_cell(row: str, content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    if row == "pairs":
        return isinstance(content.get("rows"), list) and "fingerprint" in content
    return isinstance(content.get("vertebrae"), list) and {"fingerprint", "status"} <= set(content.get("case") or ())


def safe(part: str) -> str:
    """`part` itself. Raises BadInput for a name that could leave the run folder."""
    if part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part:
        raise BadInput(f"{part!r}: expected a name that stays inside the run folder")
    return part


def _frame(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame: the designed columns first, typed, with null for what a row lacks; then the others."""
    frame = pd.DataFrame(rows)
    added = [c for c in frame.columns if c not in columns]
    frame = frame.reindex(columns=[*columns, *added])
    return frame.astype({**columns, **dict.fromkeys(added, "Float64")})


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
