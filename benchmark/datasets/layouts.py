"""Names of the files in a patient's folder: those of the paper's authors, and those of public data sets.

| part | paper's name | VerSe and TPTBox | also |
|---|---|---|---|
| CT | ct.nii.gz | sub-X_ct.nii.gz, verse004.nii.gz | |
| its vertebrae | ct_mask.nii.gz | sub-X_seg-vert_msk.nii.gz, verse004_seg.nii.gz | ct_seg, ct_labels |
| its subregions | ct_subregions.nii.gz | sub-X_seg-subreg_msk.nii.gz | |
| its centroids | ct_centroids.json | sub-X_seg-subreg_ctd.json, verse004_iso-ctd.json | sub-X_poi.json |
| MR | mr_t1.nii.gz | sub-X_T1w.nii.gz, sub-X_T2w.nii.gz | mr, mr_t2, 12_t1, 12_t2_SPACE |
| its vertebrae | mr_mask.nii.gz | sub-X_mod-T1w_seg-vert_msk.nii.gz | mr_seg, mr_labels, 12_t2_mask |
| its centroids | mr_centroids.json | sub-X_mod-T1w_seg-subreg_ctd.json | sub-X_mod-T1w_poi.json |
| landmarks | landmarks.csv | landmarks.csv | |
| true displacement | displacement.nii.gz | displacement.nii.gz | |
| the patient's name, where several folders are one patient | patient.txt | patient.txt | |

Images may be .nii.gz, .nii, .mha, .mhd or .nrrd; letters may be upper or lower case. Other entities of a BIDS name
(dir-ax, ses-a) are ignored. A folder `ct` or `mr_t1` of DICOM slices may replace the file, and a folder `ct_mask` or
`segmentations` with TotalSegmentator's masks (`vertebrae_L1.nii.gz`, ...) the CT's labels. As in VerSe's releases, a
patient may have two folders: rawdata/sub-X for scans, derivatives/sub-X for the rest. SynthRAD's mask.mha is the
outline of the body and is ignored. Where the scans are no CT and MR (`modality`), moving and fixed replace ct and mr.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.datasets.patients import PatientFiles
from benchmark.errors import BadInput, reason

CT, CT_LABELS, MR, MR_LABELS = "ct.nii.gz", "ct_mask.nii.gz", "mr_t1.nii.gz", "mr_mask.nii.gz"
MR_T2 = "mr_t2.nii.gz"
MR_CENTROIDS, DISPLACEMENT, LANDMARKS = "mr_centroids.json", "displacement.nii.gz", "landmarks.csv"
PATIENT = "patient.txt"
IMAGES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
PAPER = {
    "ct": "ct", "mr_t1": "mr", "mr": "mr", "mr_t2": "mr", "ct_subregions": "ct_subregions",
    "displacement": "displacement", "moving": "ct", "fixed": "mr",
    **{f"{scan}_{word}": role for scan, role in (("moving", "ct_labels"), ("fixed", "mr_labels"))
       for word in ("mask", "seg", "labels")},
    **{f"{scan}_{word}": f"{scan}_labels" for scan in ("ct", "mr") for word in ("mask", "seg", "labels")},
}  # fmt: skip
TEXTS = {"landmarks.csv": "landmarks", "ct_centroids.json": "ct_centroids", "mr_centroids.json": "mr_centroids"}
# Folders of DICOM slices, and of one mask for each structure as TotalSegmentator writes them.
FOLDERS = {
    "ct": "ct", "mr": "mr", "mr_t1": "mr", "mr_t2": "mr", "segmentations": "ct_labels", "segmentation": "ct_labels",
    **{name: role for name, role in PAPER.items() if role in ("ct_labels", "mr_labels")},
}  # fmt: skip
SPIDER = re.compile(r"\d+_(t1|t2|t2_space)(_mask|_seg)?")
VERSE = re.compile(r"(verse|gl)\d+.*?(?P<part>_seg|_(iso-|seg-subreg_|seg-vb_)?ctd)?")
SCANS = {"ct", "ct_labels", "mr", "mr_labels"}
MR_SUFFIXES = ("t1w", "t2w")
BIDS = ("rawdata", "derivatives")


def patient_folders(folder: Path, name: str) -> list[Path]:
    """List the folders that hold the files of one patient."""
    if not (folder / BIDS[0]).is_dir():
        return [folder / name]
    return [folder / part / name for part in BIDS if (folder / part / name).is_dir()] or [folder / BIDS[0] / name]


def patient_names(folder: Path) -> list[str]:
    """List the patients in `folder`, sorted. Raises OSError if it cannot be read."""
    return sorted(p.name for p in patients_root(folder).iterdir() if is_patient(p))


def patients_root(folder: Path) -> Path:
    """Return the folder whose sub-folders are the patients."""
    return folder / BIDS[0] if (folder / BIDS[0]).is_dir() else folder


def find_files(*folders: Path) -> PatientFiles:
    """Find the files of a patient; an absent file that every patient needs gets the paper's name.

    Args:
        folders: of the patient.

    Raises:
        BadInput: if two files have the same role, or if a folder cannot be read.
    """
    found: dict[str, Path] = {}
    notes: list[str] = []
    folder = folders[0]
    try:
        paths = sorted((path for f in folders for path in f.iterdir()), key=_preference)
    except OSError as error:
        raise BadInput(f"{folder}: expected a folder that can be read, found {reason(error)}") from error
    for path in paths:
        role = role_of(path.name, path.is_dir())
        if role is None:
            continue
        if role in found and not _is_second_contrast(found[role], path):
            raise BadInput(
                f"{folder}: expected one file of the patient's {role}, found {found[role].name} and {path.name}; "
                "keep one of them there"
            )
        if role in found:
            notes.append(f"{folder}: the fixed scan is {found[role].name}; {path.name} is not used")
        found.setdefault(role, path)
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
        notes=tuple(notes),
    )


def role_of(name: str, is_folder: bool = False) -> str | None:
    """Return the field of `PatientFiles` that a file name belongs to, or None. is_folder: of slices or masks."""
    name = name.lower()
    if is_folder:
        return FOLDERS.get(name)
    if name in TEXTS:
        return TEXTS[name]
    stem, extension = split_name(name)
    if extension not in (*IMAGES, ".json"):
        return None
    if name.startswith("sub-"):
        return _bids_role(stem, extension)
    if match := VERSE.fullmatch(stem):
        part = match["part"] or ""
        if extension == ".json":
            return "ct_centroids" if part.endswith("ctd") else None
        return "ct_labels" if part == "_seg" else None if part else "ct"
    if extension == ".json":
        return None
    if stem in PAPER:
        return PAPER[stem]
    if match := SPIDER.fullmatch(stem):
        return "mr_labels" if match[2] else "mr"
    return None


def split_name(name: str) -> tuple[str, str]:
    """Split a file name into its stem and its extension, `.nii.gz` being one."""
    extension = next((e for e in IMAGES if name.lower().endswith(e)), Path(name).suffix)
    return name.removesuffix(name[len(name) - len(extension) :]) if extension else name, extension.lower()


def is_patient(folder: Path) -> bool:
    """Whether a folder holds a scan or labels under one of the names; hidden folders are no patients."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return any(role_of(p.name, p.is_dir()) in SCANS for p in folder.iterdir())


def _preference(path: Path) -> tuple[int, str]:
    """The order of files: the paper's T1 comes before other contrasts."""
    return (0 if split_name(path.name.lower())[0] == "mr_t1" else 1, path.name)


def _is_second_contrast(used: Path, other: Path) -> bool:
    """Whether one patient's mr_t1 is used and its mr_t2 or mr lies beside it."""
    names = [split_name(path.name.lower())[0] for path in (used, other)]
    return names[0] == "mr_t1" and names[1] in ("mr_t2", "mr")


def _bids_role(stem: str, extension: str) -> str | None:
    """The role of a file with a BIDS name of VerSe or TPTBox, or None. stem: in lower case."""
    *parts, suffix = stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    scan = "mr" if entities.get("mod") in MR_SUFFIXES else "ct"
    if extension == ".json":
        known = suffix == "poi" or (suffix == "ctd" and entities.get("seg") in ("subreg", "vb"))
        return f"{scan}_centroids" if known or suffix == "iso-ctd" else None
    if suffix == "msk":
        roles = {("ct", "vert"): "ct_labels", ("mr", "vert"): "mr_labels", ("ct", "subreg"): "ct_subregions"}
        return roles.get((scan, entities.get("seg", "")))
    return "ct" if suffix == "ct" else "mr" if suffix in MR_SUFFIXES else None
