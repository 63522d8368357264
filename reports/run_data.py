"""What counts in a report: which cells, vertebrae and patients a mean is taken over.

Every report starts here, so that tables and figures cannot disagree about it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from benchmark.results.store import STATUSES
from reports.paper import COLUMNS, label, ordered

LOST = tuple(status for status in STATUSES if status != "ok")
CELL = ["method", "device", "case"]
# Beside Table 1's own columns, those that the statistics, the supplement and the page show.
_VERTEBRA_COLUMNS = [column.key for column in COLUMNS if column.per == "vertebra"] + ["hd95_mm"]
_PATIENT_COLUMNS = [column.key for column in COLUMNS if column.per == "patient"] + ["properness", "orthonormality"]


@dataclass(frozen=True)
class Frames:
    """One data set and split of a run: its parts of pairs.parquet, vertebrae.parquet and cases.parquet."""

    dataset: str
    split: str
    pairs: pd.DataFrame
    vertebrae: pd.DataFrame
    cases: pd.DataFrame

    @property
    def name(self) -> str:
        """The data set and its split in words."""
        return f"{self.dataset}, {self.split} split" if self.split else self.dataset

    @property
    def patients(self) -> list[str]:
        """Every patient that can be measured, whether a method succeeded on it or not."""
        return sorted(set(self.pairs.loc[self.pairs["vertebra"].notna(), "case"]) | set(self.cases["case"]))


@dataclass(frozen=True)
class Row:
    """A row of Table 1 or a box of Fig. 2: a method on a device. device is "" for Initial, which has none."""

    method: str
    device: str
    label: str

    @property
    def name(self) -> str:
        """The row as it is addressed in a run folder: method@device."""
        return f"{self.method}@{self.device}" if self.device else self.method

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """This row's part of a frame with columns method and device."""
        return frame[(frame["method"] == self.method) & (frame["device"] == self.device)]


def by_dataset(pairs: pd.DataFrame, vertebrae: pd.DataFrame, cases: pd.DataFrame) -> list[Frames]:
    """The parts of a run that may be averaged together, by name: one for each data set and split."""
    keys = ["dataset", "split"]
    # A user's own folder need not be split: without a name, what belongs together would compare as unequal.
    whole = [frame.assign(split=frame["split"].astype("string").fillna("")) for frame in (pairs, vertebrae, cases)]
    names = pd.concat([whole[0][keys], whole[2][keys]]).drop_duplicates().sort_values(keys)

    def part(frame: pd.DataFrame, dataset: str, split: str) -> pd.DataFrame:
        return frame[(frame["dataset"] == dataset) & (frame["split"] == split)]

    return [
        Frames(str(dataset), str(split), *(part(frame, dataset, split) for frame in whole))
        for dataset, split in names.itertuples(index=False)
    ]


def rows(frames: Frames) -> list[Row]:
    """The rows of the table, in order; Initial, which needs the pairs alone, always comes first.

    A label names the device only where the rows have more than one. A method that is unavailable on one device and
    ran on another has no row for the first; one that is unavailable everywhere keeps its empty row.
    """
    cells = frames.cases[frames.cases["method"] != "initial"]
    found = cells[["method", "device"]].drop_duplicates()
    ran = cells.loc[cells["status"] != "unavailable", ["method", "device"]].drop_duplicates()
    kept = pd.concat([ran, found[~found["method"].isin(ran["method"])]])
    several = kept["device"].nunique() > 1
    methods = [Row("initial", "", label("initial"))]
    for method in ordered(kept["method"]):
        for device in sorted(kept.loc[kept["method"] == method, "device"]):
            methods.append(Row(method, device, f"{label(method)}@{device}" if several else label(method)))
    return methods


def counted_pairs(frames: Frames) -> pd.DataFrame:
    """The vertebrae that enter an average: all of pairs.parquet that were not excluded for a reason."""
    reason = frames.pairs["excluded_reason"]
    return frames.pairs[reason.isna() | (reason == "")]


def vertebra_values(frames: Frames, by_seed: bool = False) -> pd.DataFrame:
    """Columns method, device, case, vertebra, then Table 1's figures of that vertebra and hd95_mm; null for none.

    Only cells that are `ok` and vertebrae that were not excluded; several seeds of a cell are averaged, or, `by_seed`,
    kept apart in a column `seed`. Initial's figures compare the two labels of a pair and come from pairs.parquet: an
    identity field would score 1 and 0.
    """
    keys = [*CELL, "vertebra", "seed"] if by_seed else [*CELL, "vertebra"]
    counted = _numeric(counted_pairs(frames), ["vertebra"])
    measured = frames.vertebrae[frames.vertebrae["method"] != "initial"]
    measured = _numeric(measured, ["vertebra", "seed", *_VERTEBRA_COLUMNS])
    measured = measured.merge(_numeric(_ok(frames), ["seed"])[[*CELL, "seed"]], on=[*CELL, "seed"])
    measured = measured.merge(counted[["case", "vertebra"]], on=["case", "vertebra"])
    measured = measured.groupby(keys, as_index=False)[_VERTEBRA_COLUMNS].mean()
    reference = {column.key: counted[column.initial] for column in COLUMNS if column.initial}
    initial = counted[["case", "vertebra"]].assign(method="initial", device="", seed=0.0, **reference)
    initial = _numeric(initial.reindex(columns=[*keys, *_VERTEBRA_COLUMNS]), _VERTEBRA_COLUMNS)
    both = pd.concat([initial, measured], ignore_index=True).sort_values(keys, ignore_index=True)
    return both.astype({"vertebra": int})


def patient_values(frames: Frames, by_seed: bool = False) -> pd.DataFrame:
    """Columns method, device, case, Table 1's figures of that patient, properness, orthonormality; null for none.

    Only cells that are `ok`; several seeds are averaged, or, `by_seed`, kept apart in a column `seed`. `seconds` is
    null where other work ran beside the cell.
    """
    cells = _numeric(_ok(frames), _PATIENT_COLUMNS)
    contended = cells["contended"].astype("boolean").fillna(False).astype(bool)
    cells["seconds"] = cells["seconds"].mask(contended)
    return cells.groupby([*CELL, "seed"] if by_seed else CELL, as_index=False)[_PATIENT_COLUMNS].mean()


def common_patients(
    pairs: pd.DataFrame, vertebrae: pd.DataFrame, cases: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The frames with those patients alone on whom every row that has a result has one, by data set and split.

    A row without any result keeps nobody out: there would be no patient left.
    """
    kept = []
    for frames in by_dataset(pairs, vertebrae, cases):
        done = _ok(frames)[CELL].drop_duplicates()
        rows_done = done.groupby("case").size()
        wanted = rows_done[rows_done == len(done[["method", "device"]].drop_duplicates())].index
        chosen = [part[part["case"].isin(wanted)] for part in (frames.pairs, frames.vertebrae, frames.cases)]
        kept.append(chosen)
    joined = [pd.concat(parts, ignore_index=True) for parts in zip(*kept, strict=True)]
    return joined[0], joined[1], joined[2]


def seeds(frames: Frames) -> int:
    """The largest number of seeds that a row has results of."""
    counts = _ok(frames).groupby(["method", "device"])["seed"].nunique()
    return int(counts.max()) if len(counts) else 0


def _ok(frames: Frames) -> pd.DataFrame:
    return frames.cases[frames.cases["status"] == "ok"]


def _numeric(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """A copy whose `columns` are floats: a column of nulls alone is read from parquet as objects."""
    return frame.assign(**{name: pd.to_numeric(frame[name]).astype(float) for name in columns})


def counted(number: int, singular: str, plural: str) -> str:
    """`1 patient`, `2 patients`."""
    return f"{number} {singular if number == 1 else plural}"
