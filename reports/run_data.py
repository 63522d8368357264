"""The data of a report: a `DataSet` selects the cells, vertebrae and patients that enter each mean.

Tables, statistics and figures all read it, so that they use the same selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar

import pandas as pd

from benchmark.results.columns import Column, Per
from benchmark.results.scans import Scans, scans_in
from benchmark.results.store import STATUSES, Run
from reports.frames import contended, numeric, seed_columns, vanished
from reports.paper import COLUMNS, LEARNED, Table1Column, label, ordered

LOST = tuple(status for status in STATUSES if status != "ok")
_CELL = ["method", "device", "case"]
_NUMERIC = ("Float64", "Int64")
Values = TypeVar("Values", pd.Series, pd.DataFrame)


@dataclass(frozen=True)
class Row:
    """A row of Table 1 or a box of Fig. 2: a method on a device. `device` is "" for Initial, which has none.

    An `oracle` saw the fixed labels: it is printed in brackets and compared with nothing.
    """

    method: str
    device: str
    label: str
    oracle: bool = False

    @property
    def name(self) -> str:
        """The row's cell group in the run folder: `method@device`."""
        return f"{self.method}@{self.device}" if self.device else self.method

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return this row's lines of a frame with columns method and device."""
        return frame[(frame["method"] == self.method) & (frame["device"] == self.device)]


@dataclass(frozen=True, eq=False)
class DataSet:
    """One data set and split of a run, with the values that every table, statistic and figure shares.

    Values are computed when first read, and once. Only cells with status `ok` and vertebrae that were not excluded
    have values; what could not be computed is null.

    Attributes:
        dataset: The data set's name.
        split: Its split, "" where the data set has none.
        pairs: This part of pairs.parquet, a line per vertebra before registration.
        vertebrae: This part of vertebrae.parquet, a line per vertebra, row and seed.
        cases: This part of cases.parquet, a line per cell.
        columns: The declaration of every column, by name.
        networks: Rows whose values rest on trained weights of one architecture, that of the paper.
        following: By row, how far its field follows a shift of the moving scan along each axis of
            `methods.voxelmorph.following.AXES` (1: fully).
        following_unused: By row, why a measurement of that is not used.
        asked: The rows of the run's configuration, in its order, which is that of tables and figures.
    """

    dataset: str
    split: str
    pairs: pd.DataFrame
    vertebrae: pd.DataFrame
    cases: pd.DataFrame
    columns: Mapping[str, Column]
    networks: frozenset[str] = frozenset(LEARNED)
    following: Mapping[str, Sequence[float]] = field(default_factory=dict)
    following_unused: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The data set and its split in words."""
        return f"{self.dataset}, {self.split} split" if self.split else self.dataset

    @cached_property
    def scans(self) -> Scans:
        """What the fixed and the moving scans are, in words."""
        return scans_in(self.pairs)

    @cached_property
    def patients(self) -> list[str]:
        """Every case that can be measured, with or without a result, sorted; one patient may have several."""
        return sorted(set(self.pairs.loc[self.pairs["vertebra"].notna(), "case"]) | set(self.cases["case"]))

    @cached_property
    def groups(self) -> dict[str, str]:
        """The patient of each case. Cases of one patient, such as motions of one spine, are not independent."""
        known = dict(zip(self.pairs["case"], self.pairs["group"], strict=True)) if "group" in self.pairs else {}
        return {case: case if pd.isna(known.get(case)) else str(known[case]) for case in self.patients}

    @cached_property
    def independent_patients(self) -> int:
        """How many patients the cases belong to."""
        return len(set(self.groups.values()))

    @cached_property
    def measures(self) -> list[Column]:
        """The columns that have a mean: numbers that a metric computes, and the seconds, in the order of the tables."""
        kept = [column for column in self.columns.values() if column.metric or column.name == "seconds"]
        return [column for column in kept if column.dtype in _NUMERIC]

    @cached_property
    def table_columns(self) -> list[Table1Column]:
        """The columns of Table 1: those that every run has, and the optional ones of which some row has a value."""
        measured = {
            "vertebra": self.vertebra_values[self.vertebra_values["method"] != "initial"],
            "case": self.patient_values[self.patient_values["method"] != "initial"],
        }

        def known(key: str) -> bool:
            return key in self.columns and bool(measured[self.columns[key].per][key].notna().any())

        return [column for column in COLUMNS if not column.optional or known(column.key)]

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that are compared, in the order asked for, Initial first: it needs the pairs alone."""
        return [row for row in self.table_rows if not row.oracle]

    @cached_property
    def table_rows(self) -> list[Row]:
        """The rows of the table: those that are compared, then oracles.

        A label names the device only where the rows have more than one. A method that is unavailable on one device and
        ran on another has no row for the first; one that is unavailable everywhere keeps its empty row.
        """
        cells = self.cases[self.cases["method"] != "initial"]
        known = cells[["method", "device"]].drop_duplicates()
        ran = cells.loc[cells["status"] != "unavailable", ["method", "device"]].drop_duplicates()
        kept = pd.concat([ran, known[~known["method"].isin(ran["method"])]])
        several = kept["device"].nunique() > 1
        rows = [Row("initial", "", label("initial"))]
        for method in ordered(kept["method"], self.asked):
            for device in sorted(kept.loc[kept["method"] == method, "device"]):
                name = f"{label(method)}@{device}" if several else label(method)
                rows.append(Row(method, device, name, method in self.oracles))
        return sorted(rows, key=lambda row: row.oracle)

    @cached_property
    def oracles(self) -> frozenset[str]:
        """The names of the rows that saw the fixed labels; a run of an earlier version has none."""
        if "oracle" not in self.cases:
            return frozenset()
        saw = self.cases["oracle"].astype("boolean").fillna(False).astype(bool)
        return frozenset(self.cases.loc[saw, "method"])

    @cached_property
    def compared_cases(self) -> pd.DataFrame:
        """The lines of `cases` that are no oracle's."""
        return self.cases[~self.cases["method"].isin(self.oracles)]

    @cached_property
    def measured_rows(self) -> list[Row]:
        """The rows that have a DSC of some vertebra."""
        return [row for row in self.rows if len(self.values(row, "dsc"))]

    @cached_property
    def counted_pairs(self) -> pd.DataFrame:
        """The lines of `pairs` that enter a mean: no reason excludes them."""
        reason = self.pairs["excluded_reason"]
        return self.pairs[reason.isna() | (reason == "")]

    @cached_property
    def ok_cells(self) -> pd.DataFrame:
        """The lines of `cases` with a result."""
        return self.cases[self.cases["status"] == "ok"]

    @cached_property
    def lost_cells(self) -> pd.DataFrame:
        """The lines of `cases` without a result."""
        return self.cases[self.cases["status"].isin(LOST)]

    @cached_property
    def vertebra_values(self) -> pd.DataFrame:
        """Columns method, device, case, vertebra, then the measured columns of that vertebra, averaged over seeds.

        Initial's values compare the two labels of a pair and come from `pairs`: an identity field would score 1 and 0.
        """
        return self._vertebra_values([*_CELL, "vertebra"])

    @cached_property
    def patient_values(self) -> pd.DataFrame:
        """Columns method, device, case, then the measured columns of that patient, averaged over seeds.

        `seconds` is null where other work ran beside the cell.
        """
        return self._patient_values(_CELL)

    @cached_property
    def identity_values(self) -> dict[Per, pd.DataFrame]:
        """The identity field, measured as every row is: values by (case, vertebra) and by case, empty if not run."""
        labels = self.counted_vertebrae[self.counted_vertebrae["method"] == "initial"]
        cells = self.patient_values[self.patient_values["method"] == "initial"]
        return {
            "vertebra": labels.groupby(["case", "vertebra"], as_index=False)[self._names("vertebra")].mean(),
            "case": cells.groupby("case", as_index=False)[self._names("case")].mean(),
        }

    @cached_property
    def seeds(self) -> int:
        """The largest number of seeds that a row has results of."""
        counts = self.ok_cells.groupby(["method", "device"])["seed"].nunique()
        return int(counts.max()) if len(counts) else 0

    def by_seed(self, row: Row, key: str) -> pd.DataFrame:
        """Return a row's values of one column, a line per (case, vertebra) or case, a column per training seed."""
        if (row, key) not in self._seed_columns:
            per_vertebra = self.columns[key].per == "vertebra"
            values = self._vertebra_values_by_seed if per_vertebra else self._patient_values_by_seed
            keys = ["case", "vertebra"] if per_vertebra else ["case"]
            self._seed_columns[row, key] = seed_columns(row.of(values), keys, key)
        return self._seed_columns[row, key]

    def values(self, row: Row, key: str) -> pd.Series:
        """Return a row's values of one column without nulls, by (case, vertebra) or by case, averaged over seeds."""
        return self.by_seed(row, key).mean(axis=1)

    def by_case(self, row: Row, key: str) -> pd.Series:
        """Return a row's value of one column for each case, averaged over vertebrae."""
        return self.values(row, key).groupby(level="case").mean()

    def by_patient(self, row: Row, key: str) -> pd.Series:
        """Return a row's value of one column for each patient, averaged over vertebrae, then over cases."""
        return self.per_patient(self.by_case(row, key), "mean")

    def per_patient(self, by_case: Values, how: Literal["mean", "sum"]) -> Values:
        """Return the mean or sum over the cases of each patient, of values indexed by case."""
        return by_case.groupby([self.groups[str(case)] for case in by_case.index]).agg(how)

    def find_row(self, method: str) -> Row | None:
        """Return a method's row, that on the CPU where it ran on several devices; None where it has no DSC."""
        rows = [row for row in self.measured_rows if row.method == method]
        return next((row for row in rows if row.device == "cpu"), rows[0] if rows else None)

    def timed_unlike(self, rows: Sequence[Row]) -> str:
        """Return why the seconds of rows are not comparable, in one clause; "" where they are.

        They are where all cells whose time counts ran on one machine with the same threads.
        """
        timed = self.ok_cells[~contended(self.ok_cells) & self.ok_cells["seconds"].notna()]
        conditions = pd.concat([row.of(timed)[["machine", "threads"]] for row in rows]).drop_duplicates()
        return "the rows were timed on different machines or with different threads" if len(conditions) > 1 else ""

    def trainings(self, row: Row) -> int:
        """Return how many trainings a row's values come from; 0 for a row that is no network.

        Differences may be due to the seeds of so few trainings.
        """
        return len(self.by_seed(row, "dsc").columns) if row.method in self.networks else 0

    def common_patients(self) -> DataSet:
        """Return the data set restricted to the patients for whom every row has a result.

        Oracles are ignored, and rows without any result: otherwise no patient would remain.
        """
        done = self.compared_cases.loc[self.compared_cases["status"] == "ok", _CELL].drop_duplicates()
        rows_done = done.groupby("case").size()
        common = rows_done[rows_done == len(done[["method", "device"]].drop_duplicates())].index
        pairs, vertebrae, cases = (
            frame[frame["case"].isin(common)] for frame in (self.pairs, self.vertebrae, self.cases)
        )
        return replace(self, pairs=pairs, vertebrae=vertebrae, cases=cases)

    @cached_property
    def _vertebra_values_by_seed(self) -> pd.DataFrame:
        return self._vertebra_values([*_CELL, "vertebra", "seed"])

    @cached_property
    def _patient_values_by_seed(self) -> pd.DataFrame:
        return self._patient_values([*_CELL, "seed"])

    @cached_property
    def _seed_columns(self) -> dict[tuple[Row, str], pd.DataFrame]:
        return {}

    def _vertebra_values(self, keys: list[str]) -> pd.DataFrame:
        """Values of the columns per vertebra, averaged within `keys`."""
        names = self._names("vertebra")
        counted = numeric(self.counted_pairs, ["vertebra"])
        measured = self.counted_vertebrae[self.counted_vertebrae["method"] != "initial"]
        measured = measured.groupby(keys, as_index=False)[names].mean()
        before = {column.key: counted[column.initial] for column in COLUMNS if column.initial in counted}
        initial = counted[["case", "vertebra"]].assign(method="initial", device="", seed=0.0, **before)
        initial = numeric(initial.reindex(columns=[*keys, *names]), names)
        both = pd.concat([initial, measured], ignore_index=True).sort_values(keys, ignore_index=True)
        return both.astype({"vertebra": int})

    def _patient_values(self, keys: list[str]) -> pd.DataFrame:
        """Values of the columns per patient, averaged within `keys`."""
        names = self._names("case")
        cells = numeric(self.ok_cells, names)
        cells["seconds"] = cells["seconds"].mask(contended(cells))
        return cells.groupby(keys, as_index=False)[names].mean()

    @cached_property
    def counted_vertebrae(self) -> pd.DataFrame:
        """The lines of `vertebrae` that enter a mean, those of the identity field included.

        A vertebra that the field made vanish has no closest rigid transform; its rigid DSC counts as 0, the worst.
        """
        lines = numeric(self.vertebrae, ["vertebra", "seed", *self._names("vertebra")])
        lines["rigid_dsc"] = lines["rigid_dsc"].mask(vanished(lines) & lines["rigid_dsc"].isna(), 0.0)
        lines = lines.merge(numeric(self.ok_cells, ["seed"])[[*_CELL, "seed"]], on=[*_CELL, "seed"])
        return lines.merge(numeric(self.counted_pairs, ["vertebra"])[["case", "vertebra"]], on=["case", "vertebra"])

    def _names(self, per: Per) -> list[str]:
        return [column.name for column in self.measures if column.per == per]


def data_sets(run: Run) -> list[DataSet]:
    """Return the parts of a run that may be averaged together, by name: one for each data set and split.

    Args:
        run: A run folder that was read.

    Returns:
        A view for each data set and split; the run's own frames stay as they are.
    """
    keys = ["dataset", "split"]
    # A user's own folder need not be split; nulls would not compare as equal.
    frames = (run.pairs, run.vertebrae, run.cases)
    pairs, vertebrae, cases = (f.assign(split=f["split"].astype("string").fillna("")) for f in frames)
    names = pd.concat([pairs[keys], cases[keys]]).drop_duplicates().sort_values(keys)

    def part(frame: pd.DataFrame, dataset: str, split: str) -> pd.DataFrame:
        return frame[(frame["dataset"] == dataset) & (frame["split"] == split)]

    networks = frozenset(LEARNED) | {
        m.get("of") or m["name"] for m in run.config["methods"] if m.get("method", m["name"]) in LEARNED
    }
    asked = tuple(m.get("of") or m["name"] for m in run.config["methods"])
    return [
        DataSet(str(d), str(s), part(pairs, d, s), part(vertebrae, d, s), part(cases, d, s), run.columns, networks,
                run.following.slopes, run.following.unused, asked)
        for d, s in names.itertuples(index=False)
    ]  # fmt: skip
