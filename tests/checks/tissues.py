"""Grey values of bone, disc, muscle and fat in phantoms and real scans, with the same rules for both.

Bone is the vertebral bodies, disc the space between them. Soft tissue around the arches is separated by Otsu's
threshold: in MR muscle is the darker and fat the brighter part, in CT muscle is the denser part. MR values are relative
to the 95 % quantile of the four tissues together, since the unit of a scanner is arbitrary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.stats import wasserstein_distance

from benchmark.datasets.io.images import read_image, read_labels
from benchmark.datasets.label_resampling import resample_labels
from benchmark.datasets.resampling import isotropic_grid, resample_image
from benchmark.datasets.synthesis.contrast import Tissue
from benchmark.datasets.synthesis.from_ct import estimate_tissues
from benchmark.datasets.vertebral_bodies import Body, find_bodies
from methods.base import Case, Grid

TISSUES = ("bone", "disc", "muscle", "fat")
MAX_RATIO = 1.5  # of the distance to real scans over the distance between real scans
# Behind the centres of the bodies and to either side: a region that the real scans cover too.
BEHIND_MM, ASIDE_MM = (25.0, 60.0), 45.0
SOFT_HU = (-200.0, 200.0)

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RealScan:
    """A scan of the shared folder. ids: of its vertebrae in the label file."""

    modality: str
    image: str
    labels: str
    ids: range


REAL = {
    "verse005": RealScan("CT", "verse/sub-verse005_ct.nii.gz", "verse/sub-verse005_seg-vert_msk.nii.gz", range(1, 26)),
    "verse008": RealScan("CT", "verse/sub-verse008_ct.nii.gz", "verse/sub-verse008_seg-vert_msk.nii.gz", range(1, 26)),
    "VB3_01": RealScan("MR", "mr/VB3_01_mr.nii.gz", "mr/VB3_01_vb.nii.gz", range(1, 26)),
    "sub-mri (T2w)": RealScan(
        "MR", "tptbox/sub-mri_label-6_T2w.nii.gz", "tptbox/sub-mri_seg-vert_label-6_msk.nii.gz", range(1, 26)
    ),
}


@dataclass(frozen=True)
class Volume:
    """An image at 1 mm with its labels. image: (z, y, x), HU or MR values. labels: VerSe ids (z, y, x). grid: LPS."""

    image: np.ndarray
    labels: np.ndarray
    grid: Grid


def read_real(folder: Path, modality: str) -> dict[str, Volume]:
    """Read every real scan of a modality in `folder`, resampled to 1 mm."""
    volumes = {}
    for name, scan in REAL.items():
        if scan.modality == modality:
            image, grid = read_image(folder / scan.image)
            labels, _ = read_labels(folder / scan.labels)
            labels = np.where(np.isin(labels, scan.ids), labels, 0)
            onto = isotropic_grid(grid)
            outside = -1000.0 if modality == "CT" else 0.0
            at_1_mm = resample_image(image, grid, onto, outside=outside)
            volumes[name] = Volume(at_1_mm, resample_labels(labels, grid, onto), onto)
    return volumes


def volume_of(case: Case, modality: str) -> Volume:
    """The CT of a phantom in HU, or its MR."""
    scan = case.pair.moving if modality == "CT" else case.pair.fixed
    assert scan.labels is not None
    return Volume(scan.image * 3000 - 1000 if modality == "CT" else scan.image, scan.labels, scan.grid)


def sample(volume: Volume, modality: str) -> Values:
    """Compute grey values by tissue: HU, or MR values relative to the brightest tissue. modality: CT or MR."""
    image, labels, grid = volume.image, volume.labels, volume.grid
    bodies = find_bodies(labels, grid)
    values = {}
    bone = np.zeros(labels.shape, bool)
    for body in bodies:
        bone[body.box] |= body.mask
    values["bone"] = image[binary_erosion(bone)]
    # The image is constant, so that labels and geometry alone decide where discs are.
    soft = estimate_tissues(np.zeros_like(image), labels, grid, bodies).soft
    values["disc"] = image[binary_erosion((soft == Tissue.ANNULUS) | (soft == Tissue.NUCLEUS))]
    values["muscle"], values["fat"] = _muscle_and_fat(image, labels, bodies, grid, modality)
    if modality == "MR":
        top = np.quantile(np.concatenate(list(values.values())), 0.95)
        values = {name: v / top for name, v in values.items()}
    return values


def _muscle_and_fat(
    image: np.ndarray, labels: np.ndarray, bodies: list[Body], grid: Grid, modality: str
) -> tuple[np.ndarray, np.ndarray]:
    """Values of muscle and of fat, behind and beside the bodies."""
    centres = np.stack([b.centre_mm for b in bodies])
    centres = centres[np.argsort(centres[:, 2])]
    x, y, z = (np.arange(n) * s + o for n, s, o in zip(image.shape[::-1], grid.spacing_mm, grid.origin_mm, strict=True))
    mx, my = (np.interp(z, centres[:, 2], centres[:, i])[:, None, None] for i in (0, 1))
    low, high = BEHIND_MM
    behind = y[:, None] - my
    region = (behind > low) & (behind < high) & (np.abs(x - mx) < ASIDE_MM)
    region = region & ((z > centres[0, 2]) & (z < centres[-1, 2]))[:, None, None]
    soft = image[region & ~binary_dilation(labels > 0, iterations=2)]
    least, greatest = SOFT_HU if modality == "CT" else (0.02 * np.quantile(image, 0.99), np.inf)
    lower, upper = _otsu(soft[(soft > least) & (soft < greatest)])
    return (upper, lower) if modality == "CT" else (lower, upper)


def _otsu(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values below and above Otsu's threshold."""
    threshold = sitk.OtsuThresholdImageFilter()
    threshold.SetNumberOfHistogramBins(128)
    threshold.Execute(sitk.GetImageFromArray(values[None].astype(np.float32)))
    return values[values <= threshold.GetThreshold()], values[values > threshold.GetThreshold()]


def compare(phantoms: list[Values], real: Mapping[str, Values]) -> dict[str, tuple[float, float]]:
    """Compute mean Wasserstein distances by tissue: of phantoms to real scans, and of real scans to each other."""

    def distance(a: Values, b: Values, tissue: str) -> float:
        return float(wasserstein_distance(a[tissue], b[tissue]))

    result = {}
    for tissue in TISSUES:
        to_real = [distance(p, r, tissue) for p in phantoms for r in real.values()]
        between_real = [distance(a, b, tissue) for a, b in combinations(real.values(), 2)]
        result[tissue] = float(np.mean(to_real)), float(np.mean(between_real))
    return result
