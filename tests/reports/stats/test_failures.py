"""Failed patients in comparisons, on hand-built runs."""

from __future__ import annotations

import numpy as np
import pytest

from reports.stats.failures import failed_cases, failures, with_failures
from reports.stats.verdicts import Verdict, verdicts


def with_failed(run, patients: int, failed: int, gain: float = 0.05):
    """VoxelMorph on every patient, pc better by `gain` on those that it does not fail on."""
    for i in range(patients):
        run.pair(f"p{i:02d}", 20, (0.5, 0.9, 4.0))
        run.cell("voxelmorph", f"p{i:02d}", {20: (0.6, 0.9, 5.0)}, seconds=1.0)
        if i < failed:
            run.cell("pc", f"p{i:02d}", {}, status="crashed", error="out of memory")
        else:
            run.cell("pc", f"p{i:02d}", {20: (0.6 + gain + 0.001 * i, 0.9, 3.0)}, seconds=1.0)
    return run


def verdict(run) -> Verdict:
    """Whether the DSC of pc is not worse than VoxelMorph's."""
    return next(v for v in verdicts(run.data()) if (v.claim.method, v.claim.key) == ("pc", "soft_dsc"))


def test_failures_are_cases_without_a_result_of_any_seed(empty):
    run = with_failed(empty, 8, 2)
    run.cell("pc", "p01", {20: (0.6, 0.9, 3.0)}, seed=1)
    run.cell("oc", "p00", {}, status="unavailable")
    data = run.data()
    assert failed_cases(data, data.find_row("pc")) == {"p00"}
    assert failures(data, data.find_row("pc"), data.find_row("voxelmorph")) == "pc failed on 1 of 8 cases"


def test_a_failed_patient_counts_as_far_on_the_other_side_as_the_largest_difference(empty):
    data = with_failed(empty, 8, 2).data()
    pair = data.find_row("pc"), data.find_row("voxelmorph")
    filled = with_failures(data, np.array([[0.05, 0.06]]), 0.01, *pair, worse=-1)
    assert filled == pytest.approx(np.array([[0.05, 0.06, -0.04, -0.04]]))
    assert with_failures(data, np.array([[0.05]]), 0.0, *pair[::-1], worse=-1).shape == (1, 1), (
        "VoxelMorph did not fail"
    )


@pytest.mark.parametrize(("failed", "expected"), [(0, "shown"), (1, "shown"), (6, "not shown")])
def test_a_row_that_fails_on_many_patients_is_not_shown_to_be_no_worse(empty, failed, expected):
    found = verdict(with_failed(empty, 16, failed))
    assert found.verdict == expected
    assert (f"pc failed on {failed} of 16 cases" in found.why) == (failed > 0)
