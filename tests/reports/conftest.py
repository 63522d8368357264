"""Small runs built by hand, in the store's own types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark.results.columns import dtypes
from benchmark.results.store import Run
from reports.run_data import DataSet, data_sets


class HandBuilt:
    """A run of which every figure is written down in the test."""

    def __init__(self) -> None:
        self.asked: tuple[str, ...] = ("initial",)
        self._pairs: list[dict[str, Any]] = []
        self._vertebrae: list[dict[str, Any]] = []
        self._cases: list[dict[str, Any]] = []

    def pair(self, case: str, vertebra: int, initial: tuple[float, float, float], **other: Any) -> None:
        """A vertebra before registration. initial: DSC, ceiling DSC, label volume difference in %."""
        names = ("initial_dsc", "ceiling_dsc", "label_volume_difference_pct")
        row = {"dataset": "phantom", "split": "test", "case": case, "vertebra": vertebra}
        self._pairs.append(row | dict(zip(names, initial, strict=True)) | other)

    def cell(self, method: str, case: str, vertebrae: dict[int, tuple[float | None, ...]], **other: Any) -> None:
        """A cell, `ok` on the CPU unless told. vertebrae: id -> DSC, rigid DSC, volume change in %."""
        row = {"dataset": "phantom", "split": "test", "case": case, "method": method, "device": "cpu", "seed": 0}
        self._cases.append(row | {"status": "ok", "contended": False} | other)
        row |= {name: other[name] for name in ("dataset", "device", "seed") if name in other}
        for vertebra, figures in vertebrae.items():
            measured = dict(zip(("dsc", "rigid_dsc", "volume_change_pct"), figures, strict=True))
            self._vertebrae.append(row | {"vertebra": vertebra} | measured)

    def run(self, folder: Path = Path("hand-built")) -> Run:
        """The run as it is read from a folder. Its configuration names the rows `asked`."""
        config = {"methods": [{"name": name} for name in self.asked], "seed": 0}
        frames = [
            _typed(lines, dtypes(table))
            for lines, table in ((self._pairs, "pairs"), (self._vertebrae, "vertebrae"), (self._cases, "cases"))
        ]
        return Run(folder, config, {}, *frames)

    def data(self) -> DataSet:
        """The run's first data set."""
        return data_sets(self.run())[0]


def _typed(rows: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows).reindex(columns=list(columns)).astype(columns)


@pytest.fixture
def empty() -> HandBuilt:
    """A run with nothing in it yet."""
    return HandBuilt()


@pytest.fixture
def two_patients(empty: HandBuilt) -> HandBuilt:
    """Patients a (vertebrae 20, 21) and b (20): Initial, and VoxelMorph, which succeeded on both."""
    empty.pair("a", 20, (0.5, 0.8, 2.0))
    empty.pair("a", 21, (0.6, 0.9, 4.0))
    empty.pair("b", 20, (0.7, 1.0, 6.0))
    for case, vertebrae in {"a": (20, 21), "b": (20,)}.items():
        empty.cell("initial", case, dict.fromkeys(vertebrae, (0.55, 1.0, 0.0)), folding_voxels=0, seconds=0.001)
    field = {"sd_log_jacobian": 0.2, "sd_log_jacobian_l2r": 0.05}
    empty.cell("voxelmorph", "a", {20: (0.7, 0.8, 1.0), 21: (0.8, 0.9, 3.0)}, seconds=2.0, folding_voxels=4, **field)
    empty.cell("voxelmorph", "b", {20: (0.9, 1.0, 8.0)}, seconds=4.0, folding_voxels=0, **field)
    return empty


@pytest.fixture
def ten_patients(empty):
    """Baseline, a row that is better by 0.05 DSC with less volume change, one that is worse, one that is alike."""
    for i in range(10):
        case = f"p{i}"
        empty.pair(case, 20, (0.5, 0.9, 4.0))
        own = 0.01 * i
        empty.cell("voxelmorph", case, {20: (0.6 + own, 0.9, 5.0 + own)}, seconds=2.0 + own, properness=0.02)
        empty.cell("pc", case, {20: (0.65 + own, 0.9, 3.0 + own)}, seconds=3.0 + own, properness=0.01)
        empty.cell("oc", case, {20: (0.55 + own, 0.9, 5.0 + own)}, seconds=2.0 + own, properness=0.02)
    return empty


@pytest.fixture
def paper_rows(empty):
    """Eight patients with rows of the paper: Staring, VoxelMorph, pc, volume and rigid dice."""
    for i in range(8):
        case, own = f"p{i}", 0.01 * i
        empty.pair(case, 20, (0.5, 0.9, 4.0))
        empty.cell("staring", case, {20: (0.60 + own, 0.99, 2.0)}, seconds=100.0)
        empty.cell("voxelmorph", case, {20: (0.70 + own, 0.9, 8.0)}, seconds=2.0, properness=0.03)
        empty.cell("pc", case, {20: (0.70 + own, 0.9, 4.0)}, seconds=2.0, properness=0.01)
        empty.cell("volume", case, {20: (0.70 + own, 0.9, 4.1)}, seconds=2.0, properness=0.02)
        empty.cell("rigid-dice", case, {20: (0.70 + own, 0.8, 8.0)}, seconds=2.0, properness=0.03)
    return empty
