"""Patients in folders, as the paper's authors lay them out.

    DIR/<patient>/ct.nii.gz             the moving CT, HU
                  ct_mask.nii.gz        its vertebra labels, VerSe ids, on the grid of ct.nii.gz
                  mr_t1.nii.gz          the fixed MR
                  mr_mask.nii.gz        its labels on the grid of mr_t1.nii.gz: for the evaluation, and for centroids
                  mr_centroids.json     optional: {"20": [x, y, z], ...}, LPS mm, to pre-align by instead of mr_mask
                  displacement.nii.gz   optional: the known true displacement, an ITK vector image in mm (LPS) on the
                                        grid of mr_t1.nii.gz; it takes an MR point p to the CT point p + u(p)

Any orientation and spacing will do: `benchmark.datasets.preprocessing` brings both scans onto one grid. A patient with
centroids but no mr_mask can be trained on and is in no other split.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from benchmark.datasets.base import SPLITS, Dataset
from benchmark.datasets.files import (
    check_same_grid,
    read_displacement,
    read_image,
    read_labels,
    reason,
    write_displacement,
    write_image,
    write_labels,
)
from benchmark.datasets.preprocessing import Centroids, Patient, preprocess
from benchmark.errors import BadInput
from methods.base import Case, Grid, Settings

CT, CT_LABELS, MR, MR_LABELS = "ct.nii.gz", "ct_mask.nii.gz", "mr_t1.nii.gz", "mr_mask.nii.gz"
MR_CENTROIDS, DISPLACEMENT = "mr_centroids.json", "displacement.nii.gz"


class FolderSettings(Settings):
    """dir: the folder that holds the patients. split_file: {"train": [names], "val": [...], "test": [...]}, JSON.

    Without a split file every patient is in every split that is asked for.
    """

    dir: Path
    split_file: Path | None = None


class Folders(Dataset):
    """Patients in folders: ct.nii.gz, ct_mask.nii.gz, mr_t1.nii.gz, mr_mask.nii.gz in each."""

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
        if split not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
        patients = self._patients()
        if self.settings.split_file is not None:
            wanted = read_splits(self.settings.split_file.expanduser())[split]
            if missing := sorted(set(wanted) - set(patients)):
                raise BadInput(
                    f"{self.settings.split_file}: expected patients of {self.folder}, found {missing[0]!r} in "
                    f"{split!r}, which is not there; correct the list"
                )
            patients = sorted(wanted)
        return patients if split == "train" else [name for name in patients if not self._only_for_training(name)]

    def load(self, case: str) -> Case:
        """One patient, pre-aligned and resampled to 1 mm; about 1 s for a lumbar spine.

        Raises BadInput, naming the file or the folder, for a patient that cannot be used.
        """
        if case in ("", ".", "..") or Path(case).name != case or "\\" in case:
            raise BadInput(f"case {case!r}: expected the name of a sub-folder of {self.folder}, found a path")
        return load_patient(self.folder / case)

    def fingerprint(self, case: str) -> str:
        """Size and time of the patient's files, so that one that was replaced is noticed."""
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted((self.folder / case).glob("*"))]
        return f"{super().fingerprint(case)} {stats}"

    def _patients(self) -> list[str]:
        if not self.folder.is_dir():
            raise BadInput(f"{self.folder}: expected a folder of patients, found no folder; check the name")
        try:
            names = sorted(p.name for p in self.folder.iterdir() if _is_patient(p))
        except PermissionError as error:
            raise BadInput(f"{self.folder}: expected a folder that can be read, found {reason(error)}") from error
        if not names:
            raise BadInput(
                f"{self.folder}: expected a sub-folder per patient with {CT}, {CT_LABELS}, {MR} and {MR_LABELS}, "
                "found none; give the folder that holds the patients"
            )
        return names

    def _only_for_training(self, name: str) -> bool:
        folder = self.folder / name
        return not (folder / MR_LABELS).exists() and (folder / MR_CENTROIDS).exists()


def load_patient(folder: Path) -> Case:
    """The patient in `folder` as a case named after it. Raises BadInput as `Folders.load`."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder with {CT} and the rest of a patient, found none; check the name")
    ct, ct_grid = read_image(folder / CT)
    ct_labels, ct_labels_grid = read_labels(folder / CT_LABELS)
    check_same_grid(folder / CT_LABELS, ct_labels_grid, folder / CT, ct_grid)
    mr, mr_grid = read_image(folder / MR)

    centroids = read_centroids(folder / MR_CENTROIDS) if (folder / MR_CENTROIDS).exists() else None
    mr_labels, displacement = None, None
    if centroids is None or (folder / MR_LABELS).exists():
        mr_labels, mr_labels_grid = read_labels(folder / MR_LABELS)
        check_same_grid(folder / MR_LABELS, mr_labels_grid, folder / MR, mr_grid)
    if (folder / DISPLACEMENT).exists():
        displacement, displacement_grid = read_displacement(folder / DISPLACEMENT)
        check_same_grid(folder / DISPLACEMENT, displacement_grid, folder / MR, mr_grid)
    patient = Patient(folder.name, ct, ct_labels, ct_grid, mr, mr_labels, mr_grid, centroids, displacement)
    try:
        return preprocess(patient)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from error


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
    unfinished = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        write_image(unfinished / CT, np.rint(ct_hu).clip(-32768, 32767).astype(np.int16), grid)
        write_labels(unfinished / CT_LABELS, ct_labels, grid)
        write_image(unfinished / MR, mr.astype(np.float32), grid)
        write_labels(unfinished / MR_LABELS, mr_labels, grid)
        if displacement_mm is not None:
            write_displacement(unfinished / DISPLACEMENT, displacement_mm, grid)
        if mr_centroids_mm is not None:
            text = json.dumps({str(v): np.round(p, 3).tolist() for v, p in mr_centroids_mm.items()}, indent=1)
            (unfinished / MR_CENTROIDS).write_text(text + "\n", encoding="utf-8")
        os.replace(unfinished, folder)
    except OSError as error:
        raise BadInput(f"{folder}: expected a place to write to, found: {reason(error)}; choose another") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_splits(path: Path) -> dict[str, list[str]]:
    """A split file: {"train": [names], "val": [...], "test": [...]}; a split left out is empty.

    Raises BadInput for a file that is something else, or that puts one patient in two splits.
    """
    content = _read_json(path, "a JSON object of lists of patients: train, val, test")
    lists = content.values()
    if not set(content) <= set(SPLITS) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    ):
        raise BadInput(f"{path}: expected lists of names under train, val and test, found something else; correct it")
    splits: dict[str, list[str]] = {split: content.get(split, []) for split in SPLITS}
    everyone = [name for names in splits.values() for name in names]
    for name in everyone:
        if everyone.count(name) > 1:
            raise BadInput(f"{path}: expected every patient once, found {name!r} more than once; leave it in one split")
    return splits


def read_centroids(path: Path) -> Centroids:
    """Annotated centroids: vertebra -> LPS mm (3,), float64, from {"20": [x, y, z], ...}. Raises BadInput otherwise."""
    content = _read_json(path, 'a JSON object such as {"20": [x, y, z]}')
    centroids = {}
    for key, position in content.items():
        numbers = isinstance(position, list) and all(type(v) in (int, float) for v in position)
        if not key.isdecimal() or not numbers or len(position) != 3 or not np.isfinite(position).all():
            raise BadInput(
                f"{path}: expected a VerSe id and three finite LPS millimetres for each vertebra, "
                f"found {key!r}: {json.dumps(position)[:60]}; correct it"
            )
        centroids[int(key)] = np.asarray(position, dtype=float)
    return centroids


def _read_json(path: Path, expected: str) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: expected {expected}, found {reason(error)}; correct it") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected {expected}, found {type(content).__name__}; correct it")
    return content


def _is_patient(folder: Path) -> bool:
    return not folder.name.startswith(".") and any((folder / name).exists() for name in (CT, CT_LABELS, MR, MR_LABELS))
