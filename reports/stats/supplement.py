"""The paper's supplement: properness and orthonormality per row, and the direct volume loss against pc."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.frames import quantity, vanished
from reports.paper import label
from reports.run_data import DataSet
from reports.stats.claims import SAME_VOLUME
from reports.stats.comparisons import differences, mean_interval
from reports.stats.intervals import Difference, flip_mean

_RIGIDITY = ("properness", "orthonormality")


def rigidity_table(data: DataSet) -> pd.DataFrame:
    """Return properness (eq. 6) and orthonormality (eq. 7) over the warped vertebrae, a line per row with a value.

    Returns:
        Columns row, then `<key>_mean`, `_sd` (n - 1), `_low`, `_high` (95 % by patient) of both, and patients.
    """
    lines = []
    for row in data.rows[1:]:
        line: dict[str, object] = {"row": row.label}
        for key in _RIGIDITY:
            values = data.by_patient(row, key)
            by_seed = data.by_seed(row, key)
            drawn = flip_mean(data.per_patient(by_seed, "mean").to_numpy().T if len(by_seed) else np.array([]))
            line |= {f"{key}_mean": drawn.mean, f"{key}_sd": values.std(ddof=1), f"{key}_low": drawn.low,
                     f"{key}_high": drawn.high, "patients": drawn.patients}  # fmt: skip
        if line["patients"]:
            lines.append(line)
    parts = [f"{key}_{part}" for key in _RIGIDITY for part in ("mean", "sd", "low", "high")]
    return pd.DataFrame(lines, columns=["row", *parts, "patients"])


def rigidity_text(table: pd.DataFrame) -> pd.DataFrame:
    """`rigidity_table` as texts: three significant digits."""
    return pd.DataFrame({
        "Row": table["row"],
        **{
            key.capitalize(): [
                f"{line[f'{key}_mean']:.3g}" + ("" if pd.isna(line[f"{key}_sd"]) else f"({line[f'{key}_sd']:.3g})")
                + _interval(line[f"{key}_low"], line[f"{key}_high"])
                for line in table.to_dict("records")
            ]
            for key in _RIGIDITY
        },
        "Patients": table["patients"],
    })  # fmt: skip


def lost_vertebrae(data: DataSet) -> list[str]:
    """Return a sentence on the vertebrae whose warped label is empty, so that both have no value of them.

    Neither has a worst value. The mean of a patient is over its other vertebrae, in favour of a row that loses some.
    """
    lines = data.counted_vertebrae
    lost = lines[vanished(lines)]
    counts = [(row.label, len(row.of(lost)), len(row.of(lines))) for row in data.rows[1:]]
    listed = ", ".join(f"{name} {count} of {all_of_them}" for name, count, all_of_them in counts if count)
    if not listed:
        return []
    return [
        f"Lost vertebrae have no properness and no orthonormality and are left out, in favour of the row: {listed}"
        f"{' (with all seeds)' if data.seeds > 1 else ''}."
    ]


def volume_against_pc(data: DataSet) -> list[str]:
    """Return sentences that compare the properness of pc and of the direct volume loss, at equal volume change."""
    pc, volume = data.find_row("pc"), data.find_row("volume")
    if pc is None or volume is None:
        absent = " and ".join(label(name) for name, row in (("pc", pc), ("volume", volume)) if row is None)
        return [f"Not computed: no result of {absent}."]
    changes = {row.label: mean_interval(data, row, "volume_change_pct").mean for row in (pc, volume)}
    difference = flip_mean(differences(data, volume, pc, "properness").to_numpy().T)
    listed = ", ".join(f"{name} {value:.2f} %" for name, value in changes.items())
    apart = abs(changes[pc.label] - changes[volume.label])
    alike = apart <= SAME_VOLUME * min(changes.values())
    comparable = "alike" if alike else f"not alike (more than {SAME_VOLUME:.0%} apart), so the comparison does not hold"
    return [
        f"Volume change: {listed}: {comparable}.",
        f"Properness, {volume.label} minus {pc.label}: {_signed(difference)}.",
    ]


def _signed(difference: Difference) -> str:
    interval = _interval(difference.low, difference.high, "+.3g")
    return f"{difference.mean:+.3g}{interval} ({quantity(difference.patients, 'patient', 'patients')})"


def _interval(low: float, high: float, form: str = ".3g") -> str:
    return "" if pd.isna(low) else f" [{format(low, form)}, {format(high, form)}]"
