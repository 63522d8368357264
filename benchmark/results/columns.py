"""The columns of the results tables: those that metrics declare (`benchmark/measures.py`), and all others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from benchmark.errors import BadInput
from methods.columns import Better, Column, Per
from methods.registry import METRICS

__all__ = ["FILE", "TABLES", "Better", "Column", "Per", "Table", "all_declared", "check_names", "columns_json",
           "columns_of", "declared", "dtypes", "read_columns"]  # fmt: skip

Table = Literal["pairs", "vertebrae", "cases"]
TABLES: tuple[Table, ...] = get_args(Table)
FILE = "columns.json"  # in the run folder

_PAIR = (
    Column("dataset", "case", "string", title="Dataset", description="Name of the dataset."),
    Column("split", "case", "string", title="Split", description="Part of the dataset: train, val or test."),
    Column("case", "case", "string", title="Case", description="Name of the case, one pair of scans of a patient."),
)
_CELL = (
    *_PAIR,
    Column("method", "case", "string", title="Method", description="Name of the row."),
    Column("device", "case", "string", title="Device", description="Where the method ran: cpu or cuda."),
    Column("seed", "case", "Int64", title="Seed", description="Seed of the method."),
)
_VERTEBRA = Column("vertebra", "vertebra", "Int64", title="Vertebra", description="VerSe id of the vertebra.")

_PAIRS = (
    *_PAIR,
    Column("group", "case", "string", title="Patient",
           description="Patient of the case, whose cases statistics count once; null in a run of an earlier version."),
    _VERTEBRA,
    Column("initial_dsc", "vertebra", title="Initial DSC", better="higher",
           description="Dice of moving and fixed label before registration."),
    Column("ceiling_dsc", "vertebra", title="Ceiling DSC", better="higher",
           description="Dice of the fixed label and the best rigid fit of the moving label to it."),
    Column("label_volume_difference_pct", "vertebra", unit="%", title="Label volume difference",
           description="Absolute difference of fixed and moving volume, percent of the moving volume."),
    Column("voxels_moving", "vertebra", "Int64", title="Moving voxels", description="Voxels of the moving label."),
    Column("voxels_fixed", "vertebra", "Int64", title="Fixed voxels", description="Voxels of the fixed label."),
    Column("touches_border", "vertebra", "boolean", title="Touches the border",
           description="Whether the border of either stored scan, or of the grid, cuts the vertebra."),
    Column("excluded_reason", "vertebra", "string", title="Excluded because",
           description="Why the vertebra or the whole case is not evaluated; null where it is."),
    Column("notes", "case", "string", title="Notes",
           description="What is doubtful about the case's files; null where nothing is."),
    Column("fixed_modality", "case", "string", title="Fixed modality",
           description="What the fixed scan is: mr, ct or cbct; null in a run of an earlier version, which means mr."),
    Column("moving_modality", "case", "string", title="Moving modality",
           description="What the moving scan is; null in a run of an earlier version, which means ct."),
    Column("true_dsc", "vertebra", title="DSC of the true field", better="higher",
           description="Dice of fixed label and moving label warped by the true field."),
    Column("true_rigid_dsc", "vertebra", title="Rigid DSC of the true field", better="higher",
           description="Rigid DSC of the moving label warped by the true field."),
    Column("true_volume_change_pct", "vertebra", unit="%", title="%Δvol of the true field", better="lower",
           description="Absolute volume change of the moving label by the true field."),
)  # fmt: skip
_CASES = (
    *_CELL,
    Column("oracle", "case", "boolean", title="Oracle",
           description="Whether the row saw the fixed labels; null in a run of an earlier version, which means no."),
    Column("fingerprint", "case", "string", title="Fingerprint",
           description="Hashes of all that decides the cell's values."),
    Column("status", "case", "string", title="Status",
           description="ok, failed, timeout, crashed, invalid or unavailable."),
    Column("error", "case", "string", title="Error", description="Why the cell gave no result; null where it did."),
    Column("warning", "case", "string", title="Warning",
           description="A doubt that the method noted on its input or result; null where it has none."),
    Column("seconds", "case", unit="s", title="Time", better="lower",
           description="Time of one registration, the median over repeats."),
    Column("seconds_spread", "case", unit="s", title="Spread of the time",
           description="Largest minus smallest time over repeats."),
    Column("repeats", "case", "Int64", title="Repeats", description="How many times the registration was timed."),
    Column("start_seconds", "case", unit="s", title="Start", better="lower",
           description="Time to start the method's process, beside an evaluation except in `runtime`."),
    Column("prepare_seconds", "case", unit="s", title="Prepare", better="lower",
           description="Time of the method's preparation, beside an evaluation except in `runtime`."),
    Column("load_seconds", "case", unit="s", title="Load", better="lower", description="Time to load the case."),
    Column("evaluate_seconds", "case", unit="s", title="Evaluate", better="lower",
           description="Time to compute the metrics."),
    Column("contended", "case", "boolean", title="Contended",
           description="Whether other work ran beside the cell, so that its time does not count."),
    Column("machine", "case", "string", title="Machine", description="Processor or GPU that the time was taken on."),
    Column("voxels", "case", "Int64", title="Voxels", description="Voxels of the grid."),
    Column("peak_memory_mb", "case", unit="MB", title="Memory", better="lower",
           description="Peak memory of the method's process."),
    Column("peak_device_memory_mb", "case", unit="MB", title="GPU memory", better="lower",
           description="Peak memory on the GPU; null on a CPU."),
    Column("threads", "case", "Int64", title="Threads", description="CPU threads that the method was given."),
    Column("threads_observed", "case", title="Busy processors",
           description="Processors that the method kept busy, on average."),
    Column("busy_elsewhere", "case", title="Processors busy elsewhere",
           description="Processors that other work kept busy meanwhile, on average."),
)  # fmt: skip
_FIXED: Mapping[Table, tuple[Column, ...]] = {"pairs": _PAIRS, "vertebrae": (*_CELL, _VERTEBRA), "cases": _CASES}
_ROW: Mapping[Table, Per] = {"pairs": "vertebra", "vertebrae": "vertebra", "cases": "case"}


def declared(table: Table) -> dict[str, Column]:
    """The declared columns of a table, by name, in the table's order: fixed columns first, then those of metrics.

    The metrics of plugins count as far as the plugins are loaded in this process.
    """
    metrics = METRICS.columns().values() if table != "pairs" else ()
    columns = (*_FIXED[table], *(column for column in metrics if column.per == _ROW[table]))
    return {column.name: column for column in columns}


def all_declared() -> dict[str, Column]:
    """The declared columns of the three tables, by name. A name means the same in each table that has it."""
    return {name: column for table in TABLES for name, column in declared(table).items()}


def dtypes(table: Table) -> dict[str, str]:
    """The pandas type of each declared column of a table, in the table's order."""
    return {column.name: column.dtype for column in declared(table).values()}


def check_names() -> None:
    """Raise BadInput if a metric has the name of a column that no metric computes."""
    fixed = {column.name for columns in _FIXED.values() for column in columns}
    for entry in METRICS:
        if entry.name in fixed:
            raise BadInput(
                f"metric {entry.name!r} ({entry.origin}): every run has a column of this name; choose another"
            )


def columns_of(frames: Mapping[Table, pd.DataFrame], known: Iterable[Column] = ()) -> dict[str, Column]:
    """The column of every name in a run's tables.

    Args:
        frames: the tables.
        known: declarations that count before those of this process, such as those which the run folder keeps.

    Returns:
        By name, in the order of the tables. A column that nothing declares has its name as title, and counts as a
        metric.
    """
    kept = {column.name: column for column in known}
    columns: dict[str, Column] = {}
    for table, frame in frames.items():
        missing = [name for name in frame.columns if name not in kept]
        fallback = declared(table) if missing else {}
        for name in frame.columns:
            columns[name] = kept.get(name) or fallback.get(name) or Column(name, _ROW[table], metric=True)
    return columns


def columns_json(columns: Mapping[str, Column]) -> str:
    """Declarations as text, for the run folder."""
    return json.dumps([asdict(column) for column in columns.values()], indent=1, ensure_ascii=False)


def read_columns(folder: Path) -> list[Column]:
    """The declarations that a run folder keeps; none where it has no such file.

    Raises:
        BadInput: the file is not what `columns_json` gives.
    """
    file = folder / FILE
    try:
        return [Column(**content) for content in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []  # a run of an earlier version
    except (ValueError, TypeError) as error:
        raise BadInput(f"{file}: expected the columns of a run, got {error}; delete the file to use the built-in ones"
                       ) from error  # fmt: skip
