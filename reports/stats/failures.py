"""Patients on whom a row failed: a comparison on the patients of both rows leaves them out, in favour of that row."""

from __future__ import annotations

import numpy as np

from reports.run_data import DataSet, Row


def failed_cases(data: DataSet, row: Row) -> set[str]:
    """Return the cases on which a row was run and has no result of any seed. Unavailable rows and gaps are no failures.

    Args:
        data: One data set and split of a run.
        row: The row.
    """
    lost = row.of(data.lost_cells[data.lost_cells["status"] != "unavailable"])["case"]
    return set(lost) - set(row.of(data.ok_cells)["case"])


def failures(data: DataSet, *rows: Row) -> str:
    """Return on how many cases each of some rows failed, in one clause; "" where none did."""
    counts = {row.label: len(failed_cases(data, row)) for row in rows}
    return ", ".join(
        f"{name} failed on {count} of {len(data.patients)} cases" for name, count in counts.items() if count
    )


def with_failures(data: DataSet, by_patient: np.ndarray, limit: float, row: Row, other: Row, worse: int) -> np.ndarray:
    """Return differences by patient, with the patients that the row failed on as its worst.

    Such a patient's difference is as far from the limit as the largest one, on the side where the row is worse.

    Args:
        data: One data set and split of a run.
        by_patient: Differences of the two rows, shape (S, N) for S seeds.
        limit: The difference that is tested.
        row: The row in whose favour the differences are.
        other: The row that it is compared with.
        worse: 1 where a larger difference is worse for the row, -1 where a smaller one is.

    Returns:
        Shape (S, N + the number of patients of whom `other` alone has a result).
    """
    groups = data.groups
    known = {groups[str(case)] for case in data.by_case(row, "dsc").index}
    lost = {groups[case] for case in failed_cases(data, row) & set(data.by_case(other, "dsc").index)} - known
    worst = limit + worse * np.nanmax(np.abs(by_patient - limit))
    return np.concatenate([by_patient, np.full((len(by_patient), len(lost)), worst)], axis=1)
