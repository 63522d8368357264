"""`folders`: patients in folders, with the file names of the paper's authors or of VerSe (`layouts`).

    DIR/<patient>/ct.nii.gz             the moving CT, HU
                  ct_mask.nii.gz        its vertebra labels, VerSe ids, on the grid of ct.nii.gz
                  ct_subregions.nii.gz  optional: subregions on that grid, for `evaluate: bodies`
                  mr_t1.nii.gz          the fixed MR
                  mr_mask.nii.gz        its labels on the grid of mr_t1.nii.gz: for the evaluation, and for centroids
                  mr_centroids.json     optional: {"20": [x, y, z], ...}, LPS mm, to pre-align by instead of mr_mask
                  landmarks.csv         optional: fixed_x, ..., moving_z, LPS mm, for a target registration error
                  displacement.nii.gz   optional: the known true displacement, an ITK vector image in mm (LPS) on the
                                        grid of mr_t1.nii.gz; it takes an MR point p to the CT point p + u(p)
                  patient.txt           optional: the patient's name, where several folders are one patient; statistics
                                        count them once

VerSe's own tree, with rawdata/<patient> and derivatives/<patient>, and SPIDER's, with images/ and masks/ for all
patients together (`images_and_masks`), are read without conversion.

Scans may have any orientation and spacing: `benchmark.datasets.preprocessing` resamples both to one grid. A patient
with centroids and without mr_mask serves training; validation and test do not use it, and a run reports that.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmark.datasets.base import Dataset, check_split
from benchmark.datasets.images_and_masks import files_of, has_images_and_masks, patients, unnamed
from benchmark.datasets.io.centroids import Centroids
from benchmark.datasets.io.images import write_displacement, write_image, write_labels
from benchmark.datasets.layouts import (
    CT,
    CT_LABELS,
    DISPLACEMENT,
    MR,
    MR_CENTROIDS,
    MR_LABELS,
    MR_T2,
    PATIENT,
    find_files,
    patient_folders,
    patient_names,
)
from benchmark.datasets.patients import (
    LabelSettings,
    PatientFiles,
    check_headers,
    check_ids,
    moving_voxels,
    read_patient,
)
from benchmark.datasets.preprocessing import preprocess
from benchmark.datasets.splits import read_splits
from benchmark.datasets.unused_files import unused_patients
from benchmark.errors import BadInput, reason
from methods.atomic import atomic_write
from methods.base import Case, Grid


class FolderSettings(LabelSettings):
    """Settings of `folders`.

    dir: the folder that holds the patients. split_file: {"train": [names], "val": [...], "test": [...]}, JSON; without
    a split file every patient is in every split.
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
        """The folder that holds the patients."""
        return self.settings.dir.expanduser()

    def cases(self, split: str) -> list[str]:
        """List the patients of a split by name. Hidden sub-folders and those without any of the files are no patients.

        Raises:
            BadInput: if there is no patient, or if the split file names one that is absent.
            ValueError: for another split.
        """
        out = self.left_out(split)
        return [name for name in self._listed(split) if name not in out]

    def left_out(self, split: str) -> dict[str, str]:
        """List the patients that are not used, with the reason.

        They have no labels of the MR, so that they serve training alone, or files of unknown names. With a split file
        only its patients are listed.
        """
        listed = self._listed(split)
        out = {} if self.settings.split_file is not None else self._unused()
        if self._in_two_folders:
            out |= {n: why for n in listed if (why := self._without_pair(n)) is not None}
        if split == "train":
            return out
        why = "no labels of the fixed scan, so that nothing can be measured; it serves training alone"
        return {**out, **{n: why for n in listed if self._only_for_training(n)}}

    def load(self, case: str) -> Case:
        """Load one patient, pre-aligned and resampled to 1 mm; about 1 s for a lumbar spine.

        Args:
            case: name of the patient's folder.

        Raises:
            BadInput: if the patient cannot be used; the message names the file or the folder.
        """
        if case in ("", ".", "..") or Path(case).name != case or "\\" in case:
            raise BadInput(f"case {case!r}: expected the name of a sub-folder of {self.folder}, found a path")
        if self._in_two_folders:
            return load_files(case, self.folder, self._files(case), self.settings)
        return load_patient(*patient_folders(self.folder, case), settings=self.settings)

    def check(self, case: str) -> None:
        """Check names and headers of a patient's files, that labels are on the grid of their image, and their ids."""
        files = self._files(case)
        _check_labels(files)
        check_headers(files)
        check_ids(files.ct_labels, self.settings.label_map_of("ct"))
        if files.mr_labels is not None and not files.only_for_training:
            check_ids(files.mr_labels, self.settings.label_map_of("mr"))

    def voxels(self, case: str) -> int | None:
        """As `Dataset.voxels`, from the box of the CT's labels."""
        try:
            files = self._files(case)
        except BadInput:
            return None
        return moving_voxels(files.ct_labels, self.settings.label_map_of("ct"))

    def group(self, case: str) -> str:
        """Name the patient: the text of patient.txt, or else the folder's name.

        Raises:
            BadInput: if patient.txt cannot be read, or is not one line of text.
        """
        for folder in patient_folders(self.folder, case):
            file = folder / PATIENT
            if file.is_file():
                try:
                    name = file.read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise BadInput(f"{file}: expected the patient's name as text, got {error}") from error
                if not name or len(name.splitlines()) > 1:
                    raise BadInput(f"{file}: expected the patient's name on one line, got {name[:80]!r}; correct it")
                return name
        return case

    def fingerprint(self, case: str) -> str:
        """Settings, name, and size and time of the patient's files, so that a replaced file is noticed."""
        files = self._all_files(case)
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        return f"{super().fingerprint(case)} {stats} {self.settings.fingerprint()}"

    def _only_for_training(self, case: str) -> bool:
        """Whether a patient can be pre-aligned but not evaluated."""
        try:
            return self._files(case).only_for_training
        except BadInput:
            return False  # `load` refuses this patient only

    @property
    def _in_two_folders(self) -> bool:
        """Whether scans and labels lie in two folders, for all patients together."""
        return has_images_and_masks(self.folder)

    def _files(self, case: str) -> PatientFiles:
        """The files of a patient. Raises BadInput where they cannot be told apart, or a scan is absent."""
        if self._in_two_folders:
            return files_of(self.folder, case, self.settings.modality)
        return find_files(*patient_folders(self.folder, case))

    def _all_files(self, case: str) -> list[Path]:
        """The files that decide what is loaded; of a patient's own folder all."""
        if self._in_two_folders:
            files = self._files(case)
            return [f for f in (files.ct, files.ct_labels, files.mr, files.mr_labels) if f is not None and f.is_file()]
        parts = patient_folders(self.folder, case)
        return sorted(f for p in parts for f in p.rglob("*") if f.is_file() and not f.name.startswith("."))

    def _without_pair(self, case: str) -> str | None:
        """Why a patient has no pair of the modalities, or None."""
        try:
            self._files(case)
        except BadInput as error:
            return str(error)
        return None

    def _unused(self) -> dict[str, str]:
        """What looks like a patient and is none, with the reason."""
        return unnamed(self.folder) if self._in_two_folders else unused_patients(self.folder)

    def _listed(self, split: str) -> list[str]:
        """The patients of a split, those that cannot be evaluated included."""
        check_split(split)
        patients = self._patients()
        if self.settings.split_file is None:
            return patients
        listed = read_splits(self.settings.split_file.expanduser()).of(split)
        if missing := sorted(set(listed) - set(patients)):
            unused = self._unused().get(missing[0])
            why = "which is absent; correct the list" if unused is None else f"which cannot be used: {unused}"
            raise BadInput(
                f"{self.settings.split_file}: expected patients of {self.folder}, found {missing[0]!r} in "
                f"{split!r}, {why}"
            )
        return sorted(listed)

    def _patients(self) -> list[str]:
        """The names of all patients, at least one."""
        if not self.folder.is_dir():
            raise BadInput(f"{self.folder}: expected a folder of patients, found no folder; check the name")
        try:
            names = patients(self.folder) if self._in_two_folders else patient_names(self.folder)
        except PermissionError as error:
            raise BadInput(f"{self.folder}: expected a folder that can be read, found {reason(error)}") from error
        if not names:
            unused = next((f"; {name}: {why}" for name, why in unused_patients(self.folder).items()), "")
            raise BadInput(
                f"{self.folder}: expected a sub-folder per patient with {CT}, {CT_LABELS}, {MR} and {MR_LABELS}, "
                f"found none{unused or '; give the folder that holds the patients'}"
            )
        return names


def load_patient(*folders: Path, settings: LabelSettings | None = None) -> Case:
    """Load one patient.

    Args:
        folders: that hold the patient's files; the case has the name of the first.
        settings: label maps, and the part of the labels that is compared; None for the default.

    Raises:
        BadInput: as `Folders.load`.
    """
    folder = folders[0]
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder with {CT} and the rest of a patient, found none; check the name")
    return load_files(folder.name, folder, find_files(*folders), settings or LabelSettings())


def load_files(name: str, folder: Path, files: PatientFiles, settings: LabelSettings) -> Case:
    """Load one patient from its files; folder: for messages. Raises as `Folders.load`."""
    _check_labels(files)
    patient = read_patient(name, files, settings)
    try:
        return preprocess(patient)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from error


def _check_labels(files: PatientFiles) -> None:
    """Refuse a patient without labels of the CT, or without labels and centroids of the MR."""
    if not files.ct_labels.exists():
        raise BadInput(
            f"{files.ct_labels}: expected the moving scan's vertebra labels, found nothing; every patient needs them"
        )
    if not (files.only_for_training or files.has_mr_labels):
        raise BadInput(
            f"{files.mr_labels}: expected the fixed scan's vertebra labels, found nothing; without them give "
            f"{MR_CENTROIDS}, and the patient serves training alone"
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
    patient: str | None = None,
    weighting: str = "T1",
) -> None:
    """Write a patient whose two scans lie on one grid, atomically.

    Args:
        folder: the new folder.
        ct_hu: (z, y, x), HU, stored as int16.
        ct_labels, mr_labels: VerSe ids, (z, y, x).
        mr: (z, y, x), any unit, stored as float32.
        displacement_mm: (z, y, x, 3), MR point p -> CT point p + u(p), LPS, or None.
        grid: of all arrays.
        mr_centroids_mm: annotated centroids, vertebra -> LPS mm (3,), or None.
        patient: the patient's name where several folders are one patient; None where the folder is a patient.
        weighting: of the MR, T1 or T2, for the name of its file.

    Raises:
        BadInput: if `folder` exists already or cannot be written.
    """
    if folder.exists():
        raise BadInput(f"{folder}: expected a new folder, found an existing one; remove it or choose another")

    def write(temporary: Path) -> None:
        temporary.mkdir()
        write_image(temporary / CT, np.rint(ct_hu).clip(-32768, 32767).astype(np.int16), grid)
        write_labels(temporary / CT_LABELS, ct_labels, grid)
        write_image(temporary / (MR if weighting == "T1" else MR_T2), mr.astype(np.float32), grid)
        write_labels(temporary / MR_LABELS, mr_labels, grid)
        if displacement_mm is not None:
            write_displacement(temporary / DISPLACEMENT, displacement_mm, grid)
        if mr_centroids_mm is not None:
            text = json.dumps({str(v): np.round(p, 3).tolist() for v, p in mr_centroids_mm.items()}, indent=1)
            (temporary / MR_CENTROIDS).write_text(text + "\n", encoding="utf-8")
        if patient is not None:
            (temporary / PATIENT).write_text(patient + "\n", encoding="utf-8")

    try:
        atomic_write(folder, write)
    except OSError as error:
        raise BadInput(f"{folder}: expected a place to write to, found: {reason(error)}; choose another") from error
