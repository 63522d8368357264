"""Patients in folders, as the paper's authors lay them out, or with VerSe's file names (`layouts`).

    DIR/<patient>/ct.nii.gz             the moving CT, HU
                  ct_mask.nii.gz        its vertebra labels, VerSe ids, on the grid of ct.nii.gz
                  ct_subregions.nii.gz  optional: subregions on that grid, for `evaluate: bodies`
                  mr_t1.nii.gz          the fixed MR
                  mr_mask.nii.gz        its labels on the grid of mr_t1.nii.gz: for the evaluation, and for centroids
                  mr_centroids.json     optional: {"20": [x, y, z], ...}, LPS mm, to pre-align by instead of mr_mask
                  landmarks.csv         optional: fixed_x, ..., moving_z, LPS mm, for a target registration error
                  displacement.nii.gz   optional: the known true displacement, an ITK vector image in mm (LPS) on the
                                        grid of mr_t1.nii.gz; it takes an MR point p to the CT point p + u(p)

A tree as VerSe's, rawdata/<patient> with derivatives/<patient>, is read as it is.

Any orientation and spacing will do: `benchmark.datasets.preprocessing` brings both scans onto one grid. A patient with
centroids but no mr_mask can be trained on; in the other splits it is left out, and a run says so.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmark.datasets.base import Dataset, check_split
from benchmark.datasets.io.centroids import Centroids
from benchmark.datasets.io.images import write_displacement, write_image, write_labels
from benchmark.datasets.layouts import (
    CT,
    CT_LABELS,
    DISPLACEMENT,
    MR,
    MR_CENTROIDS,
    MR_LABELS,
    find_files,
    patient_folders,
    patient_names,
)
from benchmark.datasets.patients import LabelSettings, PatientFiles, read_patient
from benchmark.datasets.preprocessing import preprocess
from benchmark.datasets.splits import read_splits
from benchmark.errors import BadInput, reason
from methods.atomic import atomic_write
from methods.base import Case, Grid


class FolderSettings(LabelSettings):
    """dir: the folder that holds the patients. split_file: {"train": [names], "val": [...], "test": [...]}, JSON.

    Without a split file every patient is in every split that is asked for.
    """

    dir: Path
    split_file: Path | None = None


class Folders(Dataset):
    """Patients in folders: ct.nii.gz, ct_mask.nii.gz, mr_t1.nii.gz, mr_mask.nii.gz in each, or VerSe's names."""

    Settings = FolderSettings
    argument = "dir"
    settings: FolderSettings

    @property
    def folder(self) -> Path:
        return self.settings.dir.expanduser()

    def cases(self, split: str) -> list[str]:
        """The patients of `split`, sorted by name; hidden sub-folders and those with none of the files do not count.

        Raises BadInput where there is no patient or the split file does not fit, ValueError for another split.
        """
        out = self.left_out(split)
        return [name for name in self._listed(split) if name not in out]

    def left_out(self, split: str) -> dict[str, str]:
        """Patients that can be trained on and pre-aligned, but not measured: there are no labels of their MR."""
        if split == "train":
            return {}
        why = "no labels of the MR, so that nothing can be measured; it serves training alone"
        return {n: why for n in self._listed(split) if self._only_for_training(n)}

    def load(self, case: str) -> Case:
        """One patient, pre-aligned and resampled to 1 mm; about 1 s for a lumbar spine.

        Raises BadInput, naming the file or the folder, for a patient that cannot be used.
        """
        if case in ("", ".", "..") or Path(case).name != case or "\\" in case:
            raise BadInput(f"case {case!r}: expected the name of a sub-folder of {self.folder}, found a path")
        return load_patient(*patient_folders(self.folder, case), settings=self.settings)

    def fingerprint(self, case: str) -> str:
        """Size and time of the patient's files but hidden ones, so that one that was replaced is noticed."""
        parts = patient_folders(self.folder, case)
        files = sorted(f for p in parts for f in p.rglob("*") if f.is_file() and not f.name.startswith("."))
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return f"{super().fingerprint(case)} {stats} {self.settings.fingerprint()}"

    def _only_for_training(self, case: str) -> bool:
        try:
            return find_files(*patient_folders(self.folder, case)).only_for_training
        except BadInput:
            return False  # `load` refuses this patient, and this patient alone

    def _listed(self, split: str) -> list[str]:
        check_split(split)
        patients = self._patients()
        if self.settings.split_file is None:
            return patients
        wanted = read_splits(self.settings.split_file.expanduser()).of(split)
        if missing := sorted(set(wanted) - set(patients)):
            raise BadInput(
                f"{self.settings.split_file}: expected patients of {self.folder}, found {missing[0]!r} in "
                f"{split!r}, which is not there; correct the list"
            )
        return sorted(wanted)

    def _patients(self) -> list[str]:
        if not self.folder.is_dir():
            raise BadInput(f"{self.folder}: expected a folder of patients, found no folder; check the name")
        try:
            names = patient_names(self.folder)
        except PermissionError as error:
            raise BadInput(f"{self.folder}: expected a folder that can be read, found {reason(error)}") from error
        if not names:
            raise BadInput(
                f"{self.folder}: expected a sub-folder per patient with {CT}, {CT_LABELS}, {MR} and {MR_LABELS}, "
                "found none; give the folder that holds the patients"
            )
        return names


def load_patient(*folders: Path, settings: LabelSettings | None = None) -> Case:
    """The patient whose files are in `folders` as a case named after the first. Raises BadInput as `Folders.load`."""
    folder = folders[0]
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder with {CT} and the rest of a patient, found none; check the name")
    files = find_files(*folders)
    _check_labels(files)
    patient = read_patient(folder.name, files, settings or LabelSettings())
    try:
        return preprocess(patient)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from error


def _check_labels(files: PatientFiles) -> None:
    if not files.ct_labels.exists():
        raise BadInput(
            f"{files.ct_labels}: expected the CT's vertebra labels, found nothing; no patient can do without them"
        )
    if not (files.only_for_training or files.mr_labels.exists()):
        raise BadInput(
            f"{files.mr_labels}: expected the MR's vertebra labels, found nothing; without them give "
            f"{MR_CENTROIDS}, and the patient is trained on and not measured"
        )


def write_patient(
    folder: Path,
    ct_hu: np.ndarray,
    ct_labels: np.ndarray,
    mr: np.ndarray,
    mr_labels: np.ndarray,
    displacement_mm: np.ndarray | None,
    grid: Grid,
    mr_centroids_mm: Centroids | None = None,
) -> None:
    """Write a patient whose two scans lie on one grid: `folder` appears whole or not at all.

    ct_hu: (z, y, x), kept as whole HU. mr: (z, y, x), any unit, kept as float32. ct_labels, mr_labels: (z, y, x).
    displacement_mm: (z, y, x, 3), MR point p -> CT point p + u(p), LPS, or None.
    mr_centroids_mm: the annotated centroids, vertebra -> LPS mm (3,), or None.
    Raises BadInput where `folder` exists already or cannot be written.
    """
    if folder.exists():
        raise BadInput(f"{folder}: expected a new folder, found it there already; remove it or choose another")

    def write(temporary: Path) -> None:
        temporary.mkdir()
        write_image(temporary / CT, np.rint(ct_hu).clip(-32768, 32767).astype(np.int16), grid)
        write_labels(temporary / CT_LABELS, ct_labels, grid)
        write_image(temporary / MR, mr.astype(np.float32), grid)
        write_labels(temporary / MR_LABELS, mr_labels, grid)
        if displacement_mm is not None:
            write_displacement(temporary / DISPLACEMENT, displacement_mm, grid)
        if mr_centroids_mm is not None:
            text = json.dumps({str(v): np.round(p, 3).tolist() for v, p in mr_centroids_mm.items()}, indent=1)
            (temporary / MR_CENTROIDS).write_text(text + "\n", encoding="utf-8")

    try:
        atomic_write(folder, write)
    except OSError as error:
        raise BadInput(f"{folder}: expected a place to write to, found: {reason(error)}; choose another") from error
