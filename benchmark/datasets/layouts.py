"""Names of the files in a patient's folder: those of the paper's authors, and VerSe's BIDS-like names.

| part               | paper's name             | VerSe's name                                   |
|---|---|---|
| CT                 | ct.nii.gz                | sub-X_ct.nii.gz                                |
| its vertebrae      | ct_mask.nii.gz           | sub-X_seg-vert_msk.nii.gz                      |
| its subregions     | ct_subregions.nii.gz     | sub-X_seg-subreg_msk.nii.gz                    |
| its centroids      | -                        | sub-X_seg-subreg_ctd.json (voxels of the CT)   |
| MR                 | mr_t1.nii.gz             | sub-X_T1w.nii.gz or sub-X_T2w.nii.gz           |
| its vertebrae      | mr_mask.nii.gz           | sub-X_mod-T1w_seg-vert_msk.nii.gz              |
| its centroids      | mr_centroids.json (mm)   | sub-X_mod-T1w_seg-subreg_ctd.json (voxels)     |
| landmarks          | landmarks.csv            | landmarks.csv                                  |
| true displacement  | displacement.nii.gz      | displacement.nii.gz                            |

Other entities of a VerSe name (dir-ax, ses-a) are ignored. A folder `ct` or `mr_t1` of DICOM slices may replace the
file. As in VerSe's releases, a patient may have two folders: rawdata/sub-X for scans, derivatives/sub-X for the rest.
"""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.patients import PatientFiles
from benchmark.errors import BadInput, reason

CT, CT_LABELS, MR, MR_LABELS = "ct.nii.gz", "ct_mask.nii.gz", "mr_t1.nii.gz", "mr_mask.nii.gz"
MR_CENTROIDS, DISPLACEMENT, LANDMARKS = "mr_centroids.json", "displacement.nii.gz", "landmarks.csv"
PAPER = {
    CT: "ct", "ct": "ct", CT_LABELS: "ct_labels", "ct_subregions.nii.gz": "ct_subregions",
    MR: "mr", "mr_t1": "mr", MR_LABELS: "mr_labels", MR_CENTROIDS: "mr_centroids",
    LANDMARKS: "landmarks", DISPLACEMENT: "displacement",
}  # fmt: skip
SCANS = {"ct", "ct_labels", "mr", "mr_labels"}
MR_SUFFIXES = ("T1w", "T2w")
BIDS = ("rawdata", "derivatives")


def patient_folders(folder: Path, name: str) -> list[Path]:
    """List the folders that hold the files of one patient."""
    if not (folder / BIDS[0]).is_dir():
        return [folder / name]
    return [folder / part / name for part in BIDS if (folder / part / name).is_dir()] or [folder / BIDS[0] / name]


def patient_names(folder: Path) -> list[str]:
    """List the patients in `folder`, sorted. Raises OSError if it cannot be read."""
    root = folder / BIDS[0] if (folder / BIDS[0]).is_dir() else folder
    return sorted(p.name for p in root.iterdir() if is_patient(p))


def find_files(*folders: Path) -> PatientFiles:
    """Find the files of a patient; an absent file that every patient needs gets the paper's name.

    Args:
        folders: of the patient.

    Raises:
        BadInput: if two files have the same role, or if a folder cannot be read.
    """
    found: dict[str, Path] = {}
    folder = folders[0]
    try:
        paths = sorted(path for f in folders for path in f.iterdir())
    except OSError as error:
        raise BadInput(f"{folder}: expected a folder that can be read, found {reason(error)}") from error
    for path in paths:
        role = role_of(path.name)
        if role is None:
            continue
        if role in found:
            raise BadInput(
                f"{folder}: expected one file of the patient's {role}, found {found[role].name} and {path.name}; "
                "keep one of them there"
            )
        found[role] = path
    return PatientFiles(
        ct=found.get("ct", folder / CT),
        ct_labels=found.get("ct_labels", folder / CT_LABELS),
        mr=found.get("mr", folder / MR),
        mr_labels=found.get("mr_labels", folder / MR_LABELS),
        ct_subregions=found.get("ct_subregions"),
        ct_centroids=found.get("ct_centroids"),
        mr_centroids=found.get("mr_centroids"),
        landmarks=found.get("landmarks"),
        displacement=found.get("displacement"),
    )


def role_of(name: str) -> str | None:
    """Return the field of `PatientFiles` that a file name belongs to, or None."""
    return PAPER.get(name) or (_verse_role(name) if name.startswith("sub-") else None)


def is_patient(folder: Path) -> bool:
    """Whether a folder holds a scan or labels under one of the names; hidden folders are no patients."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return any(role_of(p.name) in SCANS for p in folder.iterdir())


def _verse_role(name: str) -> str | None:
    """The role of a file with a VerSe name, or None."""
    stem, _, extension = name.partition(".")
    *parts, suffix = stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    scan = "mr" if entities.get("mod") in MR_SUFFIXES else "ct"
    if (suffix, extension) == ("ctd", "json"):
        return f"{scan}_centroids" if entities.get("seg") == "subreg" else None
    if extension != "nii.gz":
        return None
    if suffix == "msk":
        roles = {("ct", "vert"): "ct_labels", ("mr", "vert"): "mr_labels", ("ct", "subreg"): "ct_subregions"}
        return roles.get((scan, entities.get("seg", "")))
    return "ct" if suffix == "ct" else "mr" if suffix in MR_SUFFIXES else None
