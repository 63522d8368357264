"""Folders and files that look like patients but have no name that `folders` knows."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.images_and_masks import has_images_and_masks
from benchmark.datasets.layouts import CT, CT_LABELS, IMAGES, MR, MR_LABELS, is_patient, patients_root, split_name

SLICES = (".dcm", ".ima")
DEPTH = 3  # of folders that are searched for scans
MOST_ENTRIES = 2000  # of a folder that are looked at


def unused_patients(folder: Path) -> dict[str, str]:
    """List what looks like a patient in `folder` and is none.

    Args:
        folder: that holds the patients.

    Returns:
        Name of the sub-folder or file -> the reason, in words, with the next step.
    """
    root = patients_root(folder)
    unused = {}
    beside = has_images_and_masks(folder.resolve().parent)
    step = f"give {folder.resolve().parent}, which holds the labels too" if beside else "give each patient a folder"
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or is_patient(path):
            continue
        if path.is_dir():
            deeper = [sub for sub in _folders(path) if is_patient(sub)]
            scan = next(iter(_scans(path, DEPTH)), None)
            if deeper:
                first = deeper[0].relative_to(path)
                unused[path.name] = f"its files lie deeper, in {first}; move them up, or give {deeper[0].parent}"
            elif scan is not None:
                unused[path.name] = (
                    f"no file has a known name, only {scan.relative_to(path)}; rename the files to {CT}, {CT_LABELS}, "
                    f"{MR} and {MR_LABELS}"
                )
        elif _is_scan(path):
            unused[path.name] = f"a scan outside a patient's folder; {step}"
    return unused


def _folders(folder: Path) -> list[Path]:
    """The folders below a folder, not deeper than DEPTH."""
    found, level = [], [folder]
    for _ in range(DEPTH):
        level = [sub for f in level for sub in _entries(f) if sub.is_dir()]
        found += level
    return found


def _scans(folder: Path, depth: int) -> list[Path]:
    """Files that may be scans, those of the folder itself first."""
    entries = _entries(folder)
    found = [path for path in entries if _is_scan(path)]
    if not found and depth:
        found = [scan for path in entries if path.is_dir() for scan in _scans(path, depth - 1)]
    return found


def _entries(folder: Path) -> list[Path]:
    """The first entries of a folder that are not hidden; none where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))[:MOST_ENTRIES]
    except OSError:
        return []


def _is_scan(path: Path) -> bool:
    return path.is_file() and split_name(path.name)[1] in (*IMAGES, *SLICES)
