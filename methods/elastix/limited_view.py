"""Parameters of elastix for a limited field of view: resolutions that fit into it, and whether masks are eroded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import binary_erosion

LEAST_ACROSS = 16  # voxels of a coarse resolution across the mask; with fewer, mutual information misleads
# elastix erodes masks at coarse resolutions, where smoothing mixes unseen values in, if that leaves so many voxels.
LEAST_ERODED = 1000
_OF_THE_TRANSFORM = ("Scales", "CenterOfRotationPoint")  # lists with a value for each parameter or axis


def with_fitting_resolutions(
    parameters: Mapping[str, tuple[str, ...]], mask: np.ndarray
) -> tuple[dict[str, tuple[str, ...]], int]:
    """Leave out the coarse resolutions in which the mask is narrower than 16 voxels along an axis.

    A rigid registration of a slab of 44 x 36 mm ended 20 mm away when it began with voxels of 8 mm.

    Args:
        parameters: values as text by name.
        mask: bool (z, y, x), where samples are drawn.

    Returns:
        The parameters, and the number of resolutions that were left out; none without an ImagePyramidSchedule of whole
        numbers for each axis. The finest resolution stays.
    """
    count = int(parameters.get("NumberOfResolutions", ("3",))[0])
    factors = parameters.get("ImagePyramidSchedule", ())
    if len(factors) != 3 * count or not all(f.isdecimal() and int(f) for f in factors):
        return dict(parameters), 0
    extent_xyz = [int(np.ptp(np.flatnonzero(mask.any(axis=axes)))) + 1 for axes in ((0, 1), (0, 2), (1, 2))]
    levels = np.array([int(f) for f in factors]).reshape(count, 3)
    fits = np.all(extent_xyz / levels >= LEAST_ACROSS, axis=1)
    left_out = int(np.argmax(np.append(fits[:-1], True)))
    if not left_out:
        return dict(parameters), 0
    trimmed = {n: v[left_out:] for n, v in parameters.items() if len(v) == count and _is_per_resolution(n, v)}
    schedules = {n: v[3 * left_out :] for n, v in parameters.items() if n.endswith("Schedule") and len(v) == 3 * count}
    return {**parameters, **trimmed, **schedules, "NumberOfResolutions": (str(count - left_out),)}, left_out


def erodes(mask: np.ndarray | None, parameters: Mapping[str, tuple[str, ...]]) -> str:
    """elastix's ErodeMask, `true` or `false`. mask: bool (z, y, x), where samples are drawn; None: everywhere."""
    factors = [int(f) for f in parameters.get("ImagePyramidSchedule", ()) if f.isdecimal()]
    coarsest = max(factors, default=2 ** (int(parameters.get("NumberOfResolutions", ("3",))[0]) - 1))
    left = None if mask is None else binary_erosion(mask, iterations=coarsest + 1).sum()
    return "false" if left is not None and left < LEAST_ERODED else "true"


def _is_per_resolution(name: str, values: tuple[str, ...]) -> bool:
    """Whether a list of values has one for each resolution: numbers or switches, not names of components."""
    return name not in _OF_THE_TRANSFORM and all(v in ("true", "false") or _is_number(v) for v in values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
