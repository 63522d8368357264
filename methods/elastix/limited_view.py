"""Whether elastix erodes the masks of a limited field of view."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import binary_erosion

# elastix erodes masks at coarse resolutions, where smoothing mixes unseen values in, if that leaves so many voxels.
LEAST_ERODED = 1000


def erodes(mask: np.ndarray | None, parameters: Mapping[str, tuple[str, ...]]) -> str:
    """elastix's ErodeMask, `true` or `false`. mask: bool (z, y, x), where samples are drawn; None: everywhere."""
    factors = [int(f) for f in parameters.get("ImagePyramidSchedule", ()) if f.isdecimal()]
    coarsest = max(factors, default=2 ** (int(parameters.get("NumberOfResolutions", ("3",))[0]) - 1))
    left = None if mask is None else binary_erosion(mask, iterations=coarsest + 1).sum()
    return "false" if left is not None and left < LEAST_ERODED else "true"
