"""Volume and centroid of a hard label: those of the interpolated label that it is made from.

A linearly interpolated label map has the label's centroid, because linear interpolation reproduces linear functions.
Its half-height surface has not: a shift by 0.25 voxels along an axis moves no voxel over one half, and thin parts fall
under one half. A threshold that varies linearly over the label keeps volume and centroid.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from scipy.special import expit

BLUR_WEIGHT = 0.2  # of the blurred label in the order of voxels, which decides between voxels of equal value
BLUR_SIGMA = 1.0  # voxels
SOFTNESS = 0.005  # width of the smooth step that stands for the threshold while it is searched


def keep_moments(soft: np.ndarray) -> np.ndarray:
    """Change the values of an interpolated label so that values above one half have its volume and centroid.

    A mixture with the blurred label orders voxels of equal value. It is shifted by a linear function of position, found
    from the four moments. Voxels of 0 and 1 do not change.

    Args:
        soft: (z, y, x), in [0, 1].

    Returns:
        float32 (z, y, x), in [0, 1]. `soft` itself where all its values are 0 or 1, as on the label's own grid, or
        where no shift brings volume and centroid closer, as for a label of a few voxels.
    """
    partial = np.nonzero((soft > 0) & (soft < 1))
    if not partial[0].size:
        return soft
    value = soft[partial].astype(np.float64)
    blurred = gaussian_filter(soft, BLUR_SIGMA, mode="nearest", truncate=3)[partial]
    order = (1 - BLUR_WEIGHT) * value + BLUR_WEIGHT * blurred
    position = np.stack(partial, axis=1).astype(np.float64)
    position -= np.average(position, axis=0, weights=value)
    terms = np.column_stack([np.ones(len(value)), position / np.maximum(position.std(axis=0), 0.5)])
    # Voxels of 1 add the same to the moments of the hard and of the interpolated label.
    target = terms.T @ value
    shifted = order - terms @ _shift(order, terms, target)

    def distance(hard: np.ndarray) -> float:
        return float(np.linalg.norm(terms.T @ hard - target))

    if distance(shifted > 0.5) >= distance(value > 0.5):
        return soft
    result = soft.astype(np.float32)
    result[partial] = np.clip(shifted, 0, 1)
    return result


def _shift(order: np.ndarray, terms: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The coefficients (4,) of the shift: the minimum of a convex function whose gradient is the error of the moments.

    Args:
        order: (N,), values of the partial voxels.
        terms: (N, 4), 1 and the position of each.
        target: (4,), sums of the terms over the interpolated label.
    """
    count = len(order)

    def above(p: np.ndarray) -> np.ndarray:
        return (order - 0.5 - terms @ p) / SOFTNESS

    def function(p: np.ndarray) -> float:
        return float((SOFTNESS * np.logaddexp(0, above(p)).sum() + p @ target) / count)

    def gradient(p: np.ndarray) -> np.ndarray:
        return (target - terms.T @ expit(above(p))) / count

    def hessian(p: np.ndarray) -> np.ndarray:
        inside = expit(above(p))
        return (terms.T * (inside * (1 - inside) / SOFTNESS)) @ terms / count

    options = {"initial_trust_radius": 0.05, "max_trust_radius": 0.5, "maxiter": 60}
    found: np.ndarray = minimize(
        function, np.zeros(4), jac=gradient, hess=hessian, method="trust-exact", options=options
    ).x
    return found
