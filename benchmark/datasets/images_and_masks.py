"""Patients whose scans lie in one folder and whose labels lie in another, as SPIDER publishes them.

    DIR/images/1_t1.mha   images/1_t2.mha   images/2_ct.nii.gz   ...
        masks/1_t1.mha    masks/1_t2.mha    masks/2_ct.nii.gz    ...   (or labels/, segmentations/)

The name of a scan is PATIENT_KIND, KIND being ct, cbct, mr, t1, t2 or t2_SPACE. The fixed and the moving scan are the
first ones of the modalities in the settings, T1 before T2; with MR for both, T2 is registered to T1.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.datasets.layouts import IMAGES, split_name
from benchmark.datasets.patients import Modalities, PatientFiles
from benchmark.errors import BadInput

SCANS, LABELS = "images", ("masks", "labels", "segmentations")
NAME = re.compile(r"(?P<patient>.+?)[_-](?P<kind>ct|cbct|mri?|t1w?|t2w?|t2_space)", re.IGNORECASE)
ORDER = ("ct", "cbct", "t1", "t1w", "mr", "mri", "t2", "t2w", "t2_space")
MODALITY = {"ct": "ct", "cbct": "cbct"}  # every other kind is an MR


def has_images_and_masks(folder: Path) -> bool:
    """Whether a folder holds scans and labels in two sub-folders."""
    scans, labels = folder / SCANS, labels_folder(folder)
    return scans.is_dir() and labels is not None and bool(_scans(folder))


def labels_folder(folder: Path) -> Path | None:
    """The sub-folder with the labels, or None."""
    return next((folder / name for name in LABELS if (folder / name).is_dir()), None)


def patients(folder: Path) -> list[str]:
    """List the patients by name."""
    return sorted({patient for patient, _ in _scans(folder)})


def unnamed(folder: Path) -> dict[str, str]:
    """List the images whose names are no PATIENT_KIND, with the reason, in words, and the next step."""
    known = set(_scans(folder).values())
    why = "its name tells no kind of scan; rename it to PATIENT_ct, PATIENT_t1 or PATIENT_t2"
    return {file.name: why for file in _images(folder / SCANS) if file not in known}


def files_of(folder: Path, patient: str, modality: Modalities) -> PatientFiles:
    """Find the scans and labels of a patient.

    Args:
        folder: that holds both sub-folders.
        patient: name of the patient.
        modality: of the fixed and the moving scan.

    Raises:
        BadInput: if the patient has no scan of a modality.
    """
    scans = _scans(folder)
    own = [(kind, scans[patient, kind]) for kind in ORDER if (patient, kind) in scans]
    fixed = next((file for kind, file in own if MODALITY.get(kind, "mr") == modality.fixed), None)
    left = [(kind, file) for kind, file in own if file != fixed]
    moving = next((file for kind, file in left if MODALITY.get(kind, "mr") == modality.moving), None)
    if fixed is None or moving is None:
        absent = "moving" if moving is None else "fixed"
        found = ", ".join(file.name for _, file in own)
        both_mr = sum(kind not in MODALITY for kind, _ in own) > 1
        step = (
            "set `modality: {fixed: mr, moving: mr}` to register one MR to the other"
            if both_mr
            else f"add {patient}_{getattr(modality, absent)} with its labels, or leave the patient out"
        )
        raise BadInput(
            f"{folder / SCANS}: expected a {absent} scan of patient {patient} ({getattr(modality, absent)}), found "
            f"{found}; {step}"
        )
    used = {fixed, moving}
    names = [file.name for _, file in own if file not in used]
    notes = (f"{folder / SCANS}: {fixed.name} and {moving.name} are used, not {', '.join(names)}",) if names else ()
    return PatientFiles(
        ct=moving, ct_labels=_labels_of(folder, moving), mr=fixed, mr_labels=_labels_of(folder, fixed), notes=notes
    )


def _labels_of(folder: Path, scan: Path) -> Path:
    """The labels of a scan: the same name, with any ending; the same file name if there is none."""
    labels = labels_folder(folder)
    assert labels is not None
    stem = split_name(scan.name)[0]
    return next((file for file in _images(labels) if split_name(file.name)[0] == stem), labels / scan.name)


def _scans(folder: Path) -> dict[tuple[str, str], Path]:
    """(patient, kind in lower case) -> file."""
    found = {}
    for file in _images(folder / SCANS):
        if match := NAME.fullmatch(split_name(file.name)[0]):
            found[match["patient"], match["kind"].lower()] = file
    return found


def _images(folder: Path) -> list[Path]:
    """The image files in a folder, hidden ones left out."""
    return sorted(f for f in folder.iterdir() if split_name(f.name)[1] in IMAGES and not f.name.startswith("."))
