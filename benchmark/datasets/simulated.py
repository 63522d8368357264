"""`simulated`: pairs made from one CT and its vertebra labels during a run, without intermediate files."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from benchmark.datasets.base import Dataset, check_split
from benchmark.datasets.io.label_maps import label_map_file, parse_ct_label_map
from benchmark.datasets.io.scan_border import cut_vertebrae
from benchmark.datasets.patients import check_ids, check_labels_on, moving_voxels, patient_of_ct, read_labelled_ct
from benchmark.datasets.preprocessing import Patient, preprocess
from benchmark.datasets.synthesis.body import crop_to_labels
from benchmark.datasets.synthesis.from_ct import simulate
from benchmark.datasets.synthesis.poses import RESIDUAL_RANGE_MM
from methods.base import Case, Grid, Settings


class SimulatedSettings(Settings):
    """Settings of `simulated`.

    ct, labels: files; the CT in HU and its labels on the same grid. label_map: the scheme of the labels, if it is not
    VerSe's, as in `folders`. count: number of motions. seed: of the first motion. weighting: of the MR. exact_labels:
    the MR has the moved labels instead of drawn ones. motion_mm: size of the motion, the RMS over vertebrae in mm;
    None draws it.
    """

    ct: Path
    labels: Path
    label_map: str | None = None
    count: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    weighting: Literal["T1", "T2"] = "T1"
    exact_labels: bool = False
    motion_mm: float | None = Field(None, ge=RESIDUAL_RANGE_MM[0], le=RESIDUAL_RANGE_MM[1])

    @field_validator("label_map", mode="before")
    @classmethod
    def _of_the_ct(cls, value: object) -> str | None:
        return parse_ct_label_map(value)


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
        hu, labels, grid, notes = self._scan
        pair = simulate(
            hu,
            labels,
            grid,
            int(match[1]),
            self.settings.weighting,
            self.settings.exact_labels,
            self.settings.motion_mm,
        )
        return preprocess(
            Patient(
                case, pair.ct_hu, pair.ct_labels, pair.grid, pair.mr, pair.mr_labels, pair.grid,
                pair.mr_centroids_mm, pair.displacement_mm, notes=notes, cut=cut_vertebrae(labels, hu),
            )
        )  # fmt: skip

    def check(self, case: str) -> None:
        """Check by headers that both files exist and that the labels are on the grid of the CT; and their ids."""
        check_labels_on(self.settings.ct.expanduser(), self.settings.labels.expanduser())
        check_ids(self.settings.labels.expanduser(), self.settings.label_map)

    def voxels(self, case: str) -> int | None:
        """As `Dataset.voxels`, from the box of the labels, which is the same for every case."""
        return self._voxels

    def group(self, case: str) -> str:
        """Name the CT: all cases are motions of its one spine, so that they are one patient."""
        return patient_of_ct(self.settings.ct)

    def fingerprint(self, case: str) -> str:
        """Settings, name, and size and time of both files, so that a replaced file is noticed."""
        given = (self.settings.ct.expanduser(), self.settings.labels.expanduser())
        files = [file for path in given for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
        stats = [(f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
        label_map = self.settings.label_map
        ids = "" if label_map is None else label_map_file(label_map).read_text(encoding="utf-8")
        return f"{super().fingerprint(case)} {stats}{ids}"

    @cached_property
    def _voxels(self) -> int | None:
        return moving_voxels(self.settings.labels.expanduser(), self.settings.label_map)

    @cached_property
    def _scan(self) -> tuple[np.ndarray, np.ndarray, Grid, tuple[str, ...]]:
        """HU, labels, their grid, and doubts about them."""
        hu, labels, grid, notes = read_labelled_ct(
            self.settings.ct.expanduser(), self.settings.labels.expanduser(), self.settings.label_map
        )
        return *crop_to_labels(hu, labels, grid), notes
