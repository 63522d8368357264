"""`simulated`: pairs made from one CT and its vertebra labels during a run, without intermediate files."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from benchmark.datasets.base import Dataset, check_split
from benchmark.datasets.io.images import check_same_grid, read_image, read_labels
from benchmark.datasets.preprocessing import Patient, preprocess
from benchmark.datasets.synthesis.from_ct import simulate
from methods.base import Case, Grid, Settings


class SimulatedSettings(Settings):
    """Settings of `simulated`.

    ct, labels: files; the CT in HU and its labels, VerSe ids on the same grid. count: number of motions. seed: of the
    first motion. weighting: of the MR. exact_labels: the MR has the moved labels instead of drawn ones.
    """

    ct: Path
    labels: Path
    count: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    weighting: Literal["T1", "T2"] = "T1"
    exact_labels: bool = False


class Simulated(Dataset):
    """The pairs of `simulate`, named simulated-SEED. All are test cases, since one spine is too little for training."""

    Settings = SimulatedSettings
    settings: SimulatedSettings

    def cases(self, split: str) -> list[str]:
        """List `count` cases for the test split, and none for the others."""
        check_split(split)
        first = self.settings.seed
        return [f"simulated-{n:03d}" for n in range(first, first + self.settings.count)] if split == "test" else []

    def load(self, case: str) -> Case:
        """Make one case, pre-aligned on its annotated centroids like a patient of `folders`; a few seconds.

        Args:
            case: simulated-SEED.

        Raises:
            BadInput: if a file cannot be used.
            ValueError: for another name.
        """
        match = re.fullmatch(r"simulated-(\d{3,})", case)
        if match is None:
            raise ValueError(f"case: expected simulated-NNN, got {case!r}")
        pair = simulate(*self._scan, int(match[1]), self.settings.weighting, self.settings.exact_labels)
        return preprocess(
            Patient(
                case, pair.ct_hu, pair.ct_labels, pair.grid, pair.mr, pair.mr_labels, pair.grid,
                pair.mr_centroids_mm, pair.displacement_mm,
            )
        )  # fmt: skip

    def fingerprint(self, case: str) -> str:
        """Settings, name, and size and time of both files, so that a replaced file is noticed."""
        files = (self.settings.ct.expanduser(), self.settings.labels.expanduser())
        stats = [(f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
        return f"{super().fingerprint(case)} {stats}"

    @cached_property
    def _scan(self) -> tuple[np.ndarray, np.ndarray, Grid]:
        """HU, labels and their grid."""
        ct, labels_file = self.settings.ct.expanduser(), self.settings.labels.expanduser()
        hu, grid = read_image(ct)
        labels, labels_grid = read_labels(labels_file)
        check_same_grid(labels_file, labels_grid, ct, grid)
        return hu, labels, grid
