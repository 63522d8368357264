"""Intensities in [0, 1]: a CT by a fixed window in HU, an MR from its least to its greatest value without outliers.

The paper scales each scan from its least to its greatest value. One hot voxel, or a padding of -32768, then makes the
rest of the image flat. Here an MR without either has exactly the paper's range, and these voxels do not count:

1. negative padding: all negative voxels if the least is below minus twice the 99th percentile of the positive voxels;
   else the voxels of the least value, if it is negative and no other voxel is, or none within `GAP`;
2. spikes: of the brightest and the darkest 1 %, the voxels beyond a gap of a tenth of the range between the 1st and
   99th percentile;
3. tails, as artefacts have them: what lies farther from the opposite percentile than 2.5 times that range. Plain MRs
   reach 1.9.

Percentiles are of the voxels above the least value, so that the extent of the background has no effect.
"""

from __future__ import annotations

import numpy as np

CT_WINDOW_HU = (-1000.0, 2000.0)
TAIL = 0.01
GAP = 0.1
LONGEST_TAIL = 2.5
PADDING_FACTOR = 2.0
FEWEST_VOXELS = 1000  # with fewer, percentiles mean little, and the range is from least to greatest


def scale_ct(hu: np.ndarray) -> np.ndarray:
    """Clip a CT in HU to [-1000, 2000] and scale it to [0, 1]: float32, any shape."""
    low, high = CT_WINDOW_HU
    return ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def scale_mr(image: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    """Scale an MR from the ends of `mr_range` to [0, 1] and clip it: float32, any shape. Give the whole stored scan.

    seen: bool, of the shape of `image`, the voxels that set the range; None: all.
    """
    low, high = mr_range(image if seen is None else image[seen])
    return ((np.clip(image, low, high) - low) / (high - low)).astype(np.float32)


def mr_range(image: np.ndarray) -> tuple[float, float]:
    """Compute the values that become 0 and 1.

    Args:
        image: intensities of one scan in any unit, finite, with at least two values.

    Returns:
        The least and the greatest value of the voxels that count; the first is less than the second.
    """
    everything = float(image.min()), float(image.max())
    values = _without_padding(image.ravel())
    above = values[values > values.min()]
    if above.size < FEWEST_VOXELS:
        return everything
    tail = int(TAIL * above.size)
    ordered = np.partition(above, (tail, above.size - 1 - tail))
    first, last = float(ordered[tail]), float(ordered[-1 - tail])
    if first == last:
        return everything
    darkest = np.append(values.min(), np.sort(ordered[: tail + 1]))
    brightest = np.sort(ordered[-1 - tail :])
    low = max(_end(darkest[::-1], GAP * (last - first)), last - LONGEST_TAIL * (last - first))
    high = min(_end(brightest, GAP * (last - first)), first + LONGEST_TAIL * (last - first))
    return low, high


def _without_padding(values: np.ndarray) -> np.ndarray:
    """The values that are no negative padding."""
    least = values.min()
    positive = values[values > 0]
    if least >= 0 or positive.size < FEWEST_VOXELS:
        return values
    bright = float(np.partition(positive, int((1 - TAIL) * positive.size))[int((1 - TAIL) * positive.size)])
    if least < -PADDING_FACTOR * bright:
        return values[values >= 0]
    others = values[values > least]
    gap = float(others.min() - least)
    return others if others.min() >= 0 or gap > GAP * (bright - float(others.min())) else values


def _end(values: np.ndarray, gap: float) -> float:
    """The last of monotonic values before the first step that is longer than `gap`."""
    steps = np.flatnonzero(np.abs(np.diff(values)) > gap)
    return float(values[steps[0]] if len(steps) else values[-1])
