"""A sheet of phantoms beside real scans: sagittal and axial slices through the spine, at the same window."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from tissues import Volume

# HU; and quantiles of an MR.
WINDOW_HU, WINDOW_MR = (-250.0, 900.0), (0.02, 0.995)
SIZE_MM = (240, 160)  # along the spine (sagittal) or to the side (axial), and front to back


def slices(volume: Volume, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """The sagittal slice through the vertebrae and the axial one through the middle vertebra, in [0, 1], of SIZE_MM."""
    low, high = WINDOW_HU if modality == "CT" else np.quantile(volume.image, WINDOW_MR)
    image = np.clip((volume.image - low) / (high - low), 0, 1)
    ids = [v for v in np.unique(volume.labels) if v]
    where = np.argwhere(volume.labels == ids[len(ids) // 2])
    z, y, x = where.mean(axis=0).astype(int)
    return cut(image[::-1, :, x], len(image) - 1 - z, y), cut(image[z].T, x, y)


def cut(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """The part of SIZE_MM about a point, black outside."""
    half = [n // 2 for n in SIZE_MM]
    padded = np.pad(image, [(h, h) for h in half])
    return padded[row : row + SIZE_MM[0], column : column + SIZE_MM[1]]


def draw_sheet(scans: Mapping[str, Mapping[str, Volume]], file: Path) -> None:
    """Draw a column for each scan: its sagittal slice above its axial one, CTs above MRs.

    Args:
        scans: by modality (CT, MR), then by name.
        file: a PNG.
    """
    columns = max(len(volumes) for volumes in scans.values())
    figure, axes = plt.subplots(2 * len(scans), columns, figsize=(1.3 * columns, 3.6 * len(scans)), squeeze=False,
                                height_ratios=(1, 1) * len(scans), layout="constrained")  # fmt: skip
    for ax in axes.flat:
        ax.axis("off")
    for row, (modality, volumes) in enumerate(scans.items()):
        for column, (name, volume) in enumerate(volumes.items()):
            sagittal, axial = slices(volume, modality)
            axes[2 * row, column].imshow(sagittal, cmap="gray", vmin=0, vmax=1)
            axes[2 * row + 1, column].imshow(axial.T, cmap="gray", vmin=0, vmax=1)
            axes[2 * row, column].set_title(f"{modality} {name}", fontsize=5)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=200)
    plt.close(figure)
