"""Whether a CT is in HU: its values against those of air, fat and bone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

AIR_HU, FAT_HU = -1000.0, -50.0  # fat has about -100 HU and surrounds every spine, so that a CT has values below this
# Median of a vertebra's voxels: marrow, cortex and some soft tissue at the label's edge.
BONE_HU = (-100.0, 1000.0)
SOFT_HU = (-300.0, 400.0)  # median of what lies around vertebrae; it may be mostly fat, or contrast agent
CUT_SHARE = 0.02  # of voxels with the lowest value, where air was cut off
NEAR_VOXELS = 12  # around the box of the labels


def ct_doubts(path: Path, hu: np.ndarray, labels: np.ndarray | None) -> tuple[str, ...]:
    """Compare the values of a CT with HU.

    Args:
        path: of the CT, for the text.
        hu: (z, y, x).
        labels: integer (z, y, x), vertebrae, at least one voxel; None where the labels are of other structures.

    Returns:
        One sentence if the values are not those of a CT in HU, else nothing.
    """
    lowest = float(hu.min())
    bone, soft = (None, None) if labels is None else _tissues(hu, labels > 0)
    if lowest >= FAT_HU:
        found = f"no value below {lowest:g}; is it the MR, or in other units (HU + 1024, 0 to 255)?"
    elif bone is not None and not BONE_HU[0] <= bone <= BONE_HU[1]:
        found = f"vertebrae of {bone:.0f} (bone has 100 to 500 HU); was an offset of 1024 added or taken off twice?"
    elif soft is not None and not SOFT_HU[0] <= soft <= SOFT_HU[1]:
        found = f"soft tissue of {soft:.0f} around the vertebrae (it has about 40 HU); is there an offset of 1024?"
    elif lowest > AIR_HU / 2 and (share := float(np.mean(hu == lowest))) > CUT_SHARE:
        found = f"{100 * share:.0f} % of voxels at the lowest value, {lowest:g}: was air cut off by a display window?"
    else:
        return ()
    return (f"{path}: expected a CT in HU, found {found}",)


def _tissues(hu: np.ndarray, mask: np.ndarray) -> tuple[float, float | None]:
    """Median of the vertebrae, and of what lies around them except air."""
    box = _box(mask)
    around = hu[box][~mask[box]]
    around = around[around > (AIR_HU + FAT_HU) / 2]
    return float(np.median(hu[mask])), float(np.median(around)) if around.size else None


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The box of True voxels with a margin."""
    slices = []
    for axis in range(3):
        index = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        slices.append(slice(max(0, int(index[0]) - NEAR_VOXELS), int(index[-1]) + NEAR_VOXELS + 1))
    return tuple(slices)
