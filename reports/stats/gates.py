"""Gates of the claims: what a row must be better than, so that a comparison with it tests a claim.

A network must beat Initial and row `rigid`, and follow shifts where that was measured. A penalty must beat row
`smoothed`, the baseline's field after a Gaussian. Both are compared on the patients with a result of both rows. A
patient that the row failed on counts as its worst. A patient that a control failed on is left out, and the note says
so. A control that failed on so many patients that too few are left closes the gate: no claim profits from its failures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from methods.voxelmorph.following import AXES
from reports.frames import quantity
from reports.paper import label
from reports.run_data import DataSet, Row
from reports.stats.claims import Claim, with_interval
from reports.stats.comparisons import differences
from reports.stats.failures import failed_cases, failures, with_failures
from reports.stats.intervals import LEAST_PATIENTS, Difference, flip_mean

SMOOTHING = "smoothing alone may explain it"
# A field that follows a shift of the moving scan along an axis by less than this is predicted, not registered.
LEAST_FOLLOWING = 0.5
INITIAL = Row("initial", "", label("initial"))


class Patients(NamedTuple):
    """The patients on whom a row is compared with a control.

    Attributes:
        common: How many have a value of both.
        lost: How many have a value of the row, and a failure of the control.
    """

    common: int
    lost: int

    @property
    def enough(self) -> bool:
        """Whether enough patients have a value of both."""
        return self.common >= LEAST_PATIENTS

    @property
    def too_few_left(self) -> bool:
        """Whether the control's failures leave fewer patients than a comparison needs."""
        return not self.enough and self.common + self.lost >= LEAST_PATIENTS


def compared(data: DataSet, row: Row, control: Row, key: str) -> Patients:
    """Return how many patients a row and a control can be compared on.

    Args:
        data: One data set and split of a run.
        row: The row.
        control: The control.
        key: The column.
    """
    groups, known = data.groups, set(data.by_patient(control, key).index)
    cases = {str(case) for case in data.by_case(row, key).index}
    lost = {groups[case] for case in failed_cases(data, control) & cases} - known
    return Patients(len(differences(data, row, control, key)), len(lost))


def gain_over(data: DataSet, row: Row, control: Row, key: str, above: bool) -> Difference:
    """Return row minus control with its interval, a patient that the row alone failed on as the row's worst.

    Args:
        data: One data set and split of a run.
        row: The row.
        control: The control; Initial asks whether the results of a row register anything, so that its failures do not
            count.
        key: The column.
        above: Whether the row must be above the control, not below.
    """
    by_patient = differences(data, row, control, key).to_numpy().T
    if control != INITIAL:
        by_patient = with_failures(data, by_patient, 0.0, row, control, worse=-1 if above else 1)
    return flip_mean(by_patient)


def failed_gates(data: DataSet, row: Row) -> list[str]:
    """Return why a row's network does not register the pairs, so that no comparison with it says anything.

    Its DSC must be above Initial's and that of row `rigid` (95 % interval). Where the run measured it, its field must
    follow a shift of the moving scan by LEAST_FOLLOWING along each axis. A row that is no network has nothing to fail.
    Without row `rigid`, or with fewer than LEAST_PATIENTS patients of both, DSC is not checked (`unchecked_gates`),
    unless it is the failures of row `rigid` that leave too few.
    """
    if row.method not in data.networks:
        return []
    failed = []
    for control in (INITIAL, *_rigid(data)):
        patients = compared(data, row, control, "dsc")
        if patients.too_few_left:
            failed.append(_too_few(data, row, control))
        if not patients.enough:
            continue
        gain = gain_over(data, row, control, "dsc", above=True)
        if not gain.low > 0:
            shown = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]{_as_worst(data, row, patients, gain)}"
            failed.append(f"DSC of {row.label} is not shown to be above that of {control.label} ({shown})")
    slow = [
        f"{slope:.2f} {axis}"
        for slope, axis in zip(data.following.get(row.method, ()), AXES, strict=False)
        if not slope >= LEAST_FOLLOWING
    ]
    if slow:
        failed.append(f"{row.label} follows a shift by only {', '.join(slow)} ({LEAST_FOLLOWING:g} is needed)")
    return failed


def unchecked_gates(data: DataSet, *rows: Row) -> str:
    """Return the note of a verdict on networks whose comparison with row `rigid` lacks patients; "" for none."""
    networks = [each for each in rows if each.method in data.networks]
    controls = _rigid(data)
    if not controls:
        return _not_checked("rigid", 0) if networks else ""
    found = [compared(data, each, controls[0], "dsc") for each in networks]
    if any(not patients.enough for patients in found):
        return _not_checked("rigid", min(patients.common for patients in found))
    return _left_out(data, controls[0], found)


def explained_by_smoothing(data: DataSet, claim: Claim) -> tuple[list[str], list[str]]:
    """Compare a claim about a penalty with the baseline's smoothed field.

    Args:
        data: One data set and split of a run.
        claim: That a row is above, or below, the baseline.

    Returns:
        Why smoothing alone may explain the gain, empty where it does not; and notes on what was not checked.
    """
    row = data.find_row(claim.method)
    controls = _controls(data, (each for each in data.rows if each.method.startswith("smoothed") and each != row))
    notes = [_doubt(data, each) for each in controls]
    explained: list[str] = []
    most = 0
    if row is None:
        return explained, [*filter(None, notes)]
    for control in controls:
        patients = compared(data, row, control, claim.key)
        notes.append(_left_out(data, control, [patients]))
        most = max(most, patients.common)
        if patients.too_few_left:
            explained.append(f"{SMOOTHING}: {_too_few(data, row, control)}")
        if not patients.enough:
            continue
        gain = gain_over(data, row, control, claim.key, claim.above)
        if not (gain.low > 0 if claim.above else gain.high < 0):
            shown = with_interval(claim, gain) + _as_worst(data, row, patients, gain)
            explained.append(f"{SMOOTHING}: {row.label} minus {control.label} {shown}")
    if most < LEAST_PATIENTS and not explained:
        notes.append(_not_checked("smoothed", most))
    return explained, [*filter(None, notes)]


def _rigid(data: DataSet) -> list[Row]:
    """Row `rigid`, if the run has it."""
    return _controls(data, (row for row in data.rows if row.method == "rigid"))[:1]


def _controls(data: DataSet, rows: Iterable[Row]) -> list[Row]:
    """Those of some rows that have a result or failed, on the CPU first."""
    known = [row for row in rows if row in data.measured_rows or failed_cases(data, row)]
    return sorted(known, key=lambda row: row.device != "cpu")


def _left_out(data: DataSet, control: Row, found: list[Patients]) -> str:
    """The note of a comparison that leaves out patients whom the control failed on; "" for none."""
    if not any(patients.enough and patients.lost for patients in found):
        return ""
    return f"{failures(data, control)}, which the comparison with it leaves out"


def _too_few(data: DataSet, row: Row, control: Row) -> str:
    return f"{failures(data, control)}, which leaves too few to compare {row.label} with it"


def _as_worst(data: DataSet, row: Row, patients: Patients, gain: Difference) -> str:
    """What the row's own failures add to a gain; "" for none."""
    return f", where {failures(data, row)}, which count as its worst" if gain.patients > patients.common else ""


def _doubt(data: DataSet, control: Row) -> str:
    """The warning that a control's cells carry, such as a width that was chosen for other weights; "" for none."""
    if "warning" not in data.cases:  # a run of an earlier version
        return ""
    warnings = control.of(data.ok_cells)["warning"].replace("", None).dropna()
    return f"row {control.label} is doubtful: {warnings.iloc[0]}" if len(warnings) else ""


def _not_checked(control: str, patients: int) -> str:
    """The note of a verdict for which the run has no control, or one on too few patients."""
    known = f"{quantity(patients, 'patient', 'patients')} in common" if patients else "no result"
    return f"not checked against row {control} ({known})"
