"""Gates of the claims, on hand-built runs: failures of a control, and of the row that must beat it."""

from __future__ import annotations

import pytest

from reports.stats.claims import CLAIMS, Claim
from reports.stats.gates import compared, explained_by_smoothing, failed_gates, gain_over, unchecked_gates

PATIENTS = 12
# pc changes the volume less than VoxelMorph.
PRESERVES = next(claim for claim in CLAIMS if (claim.method, claim.key) == ("pc", "volume_change_pct"))


def with_controls(run, rigid_fails: int = 0, smoothed_fails: int = 0, network_fails: int = 0):
    """VoxelMorph, pc, and controls that are worse than pc on every patient that they do not fail on."""
    for i in range(PATIENTS):
        case = f"p{i:02d}"
        run.pair(case, 20, (0.5, 0.9, 4.0))
        run.cell("voxelmorph", case, {20: (0.7, 0.9, 8.0)})
        for method, values, fails in (
            ("pc", (0.7, 0.9, 4.0), network_fails), ("rigid", (0.6, 1.0, 1.0), rigid_fails),
            ("smoothed", (0.7, 0.9, 6.0), smoothed_fails),
        ):  # fmt: skip
            failed = i < fails if method != "pc" else i >= PATIENTS - fails
            run.cell(method, case, {} if failed else {20: values}, **({"status": "crashed"} if failed else {}))
    return run.data()


def smoothing(data) -> tuple[list[str], list[str]]:
    return explained_by_smoothing(data, PRESERVES)


def test_controls_that_are_beaten_on_every_patient_leave_no_note(empty):
    data = with_controls(empty)
    assert failed_gates(data, data.find_row("pc")) == []
    assert unchecked_gates(data, data.find_row("pc")) == ""
    assert smoothing(data) == ([], [])


def test_failures_of_a_control_are_said(empty):
    data = with_controls(empty, rigid_fails=3, smoothed_fails=2)
    pc = data.find_row("pc")
    assert compared(data, pc, data.find_row("rigid"), "dsc") == (9, 3)
    assert failed_gates(data, pc) == []
    assert unchecked_gates(data, pc) == "Rigid failed on 3 of 12 cases, which the comparison with it leaves out"
    assert smoothing(data) == ([], ["Smoothed failed on 2 of 12 cases, which the comparison with it leaves out"])


def test_a_control_that_failed_on_most_patients_closes_the_gate(empty):
    data = with_controls(empty, rigid_fails=9, smoothed_fails=10)
    failed = failed_gates(data, data.find_row("pc"))
    assert failed == ["Rigid failed on 9 of 12 cases, which leaves too few to compare pc with it"]
    explained, notes = smoothing(data)
    assert explained == [
        "smoothing alone may explain it: Smoothed failed on 10 of 12 cases, which leaves too few to compare pc with it"
    ]
    assert notes == []


def test_controls_that_failed_on_every_patient_close_their_gates(empty):
    data = with_controls(empty, rigid_fails=PATIENTS, smoothed_fails=PATIENTS)
    assert failed_gates(data, data.find_row("pc"))[0].startswith("Rigid failed on 12 of 12 cases")
    assert smoothing(data)[0][0].startswith("smoothing alone may explain it: Smoothed failed on 12 of 12 cases")


def test_a_row_counts_as_worst_where_it_failed_and_the_control_did_not(empty):
    data = with_controls(empty, network_fails=4)
    pc, rigid = data.find_row("pc"), data.find_row("rigid")
    assert gain_over(data, pc, rigid, "dsc", above=True).mean == pytest.approx((8 - 4) * 0.1 / 12)
    (why,) = failed_gates(data, pc)
    assert "pc is not shown to be above that of Rigid" in why
    assert why.endswith("where pc failed on 4 of 12 cases, which count as its worst)")
    assert "minus Smoothed" in smoothing(data)[0][0] and "which count as its worst" in smoothing(data)[0][0]


def test_a_control_that_was_not_run_is_not_checked(two_patients):
    data = two_patients.data()
    row = data.find_row("voxelmorph")
    assert unchecked_gates(data, row) == "not checked against row rigid (no result)"
    claim = Claim("", "voxelmorph", "staring", "dsc", "more")
    assert explained_by_smoothing(data, claim) == ([], ["not checked against row smoothed (no result)"])
