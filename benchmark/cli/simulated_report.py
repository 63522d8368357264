"""What `simulate` says about its input and about the motion in each pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmark.datasets.synthesis.body import REGION_MM
from benchmark.datasets.synthesis.from_ct import SimulatedPair
from methods.base import SMALLEST_VERTEBRA_MM3, Grid, vertebra_ids
from methods.vertebrae import named
from metrics.procrustes import fit_rigid

LITTLE_MM = 0.5  # motion between bones below the accuracy of a registration
MOST_POINTS = 50_000  # to which a rigid transform is fitted


@dataclass(frozen=True)
class MotionSize:
    """Sizes of the true displacement in the labelled voxels, mm.

    Attributes:
        mean_mm, largest_mm: of its length.
        between_bones_mm: RMS of what the best single rigid transform of all vertebrae leaves.
        vertebrae: their number.
    """

    mean_mm: float
    largest_mm: float
    between_bones_mm: float
    vertebrae: int

    def describe(self, asked_mm: float | None) -> tuple[str, str | None]:
        """Describe the sizes in words, with a doubt where bones hardly move against each other.

        Args:
            asked_mm: the motion that was asked for, or None.
        """
        number = f"{self.vertebrae} vertebra{'' if self.vertebrae == 1 else 'e'}"
        words = f"{number}, {self.mean_mm:.1f} mm apart, at most {self.largest_mm:.1f}"
        if self.vertebrae == 1:
            return f"{words}; the motion of one vertebra is rigid", None
        left = self.between_bones_mm
        words += f"; motion between bones {left:.2g} mm RMS (after the best single rigid transform of all)"
        if left < LITTLE_MM:
            return words, (f"motion between bones under {LITTLE_MM:g} mm: one rigid transform nearly solves this pair; "
                           "--motion-mm (4, for example), another --seed or more vertebrae give more")  # fmt: skip
        if asked_mm is not None and self.mean_mm < asked_mm / 2:
            return words, (f"less motion than --motion-mm {asked_mm:g} asks for: joints turn no further, or tissue "
                           "would fold; another --seed or more vertebrae may give more")  # fmt: skip
        return words, None


def motion_size(pair: SimulatedPair) -> MotionSize:
    """Measure the true displacement in the vertebrae of a pair."""
    # Beside its core a drawn label may cover tissue that moves otherwise.
    inside = pair.core if pair.core.any() else pair.mr_labels > 0
    index = np.argwhere(inside)
    index = index[:: max(1, len(index) // MOST_POINTS)]
    displacement = pair.displacement_mm[tuple(index.T)].astype(float)
    points = pair.grid.to_points_mm(index[:, ::-1])
    lengths = np.linalg.norm(displacement, axis=1)
    rotation, translation = (
        t.numpy() for t in fit_rigid(torch.from_numpy(points), torch.from_numpy(points + displacement))
    )
    left = points + displacement - (points @ rotation.T + translation)
    rms = float(np.sqrt(np.square(left).sum(axis=1).mean()))
    return MotionSize(float(lengths.mean()), float(lengths.max()), rms, len(pair.mr_centroids_mm))


def input_notes(labels: np.ndarray, grid: Grid, cut: frozenset[int]) -> list[str]:
    """Say which vertebrae the scan does not show whole, and what happens with the scan.

    Args:
        labels: VerSe ids, (z, y, x).
        grid: of the labels.
        cut: vertebrae that the border of the scan cuts.

    Returns:
        One sentence each.
    """
    voxel_mm3 = float(np.prod(grid.spacing_mm))
    sizes = {v: int(np.count_nonzero(labels == v)) * voxel_mm3 for v in vertebra_ids(labels)}
    small = [f"{named(v)}, {size:.0f} mm3" for v, size in sizes.items() if size < SMALLEST_VERTEBRA_MM3]
    shown = [named(v) for v in sizes if v in cut and sizes[v] >= SMALLEST_VERTEBRA_MM3]
    notes = [f"the CT is resampled to 1 mm and cropped to its labels and {REGION_MM:g} mm around them"]
    if shown:
        notes.append(f"cut by the scan's border: {', '.join(shown)}; they move and are measured like the others, and "
                     "pairs.parquet marks them (touches_border)")  # fmt: skip
    if small:
        notes.append(f"under {SMALLEST_VERTEBRA_MM3:g} mm3: {'; '.join(small)}; they move like the others and are not "
                     "measured")  # fmt: skip
    return notes
