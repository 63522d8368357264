"""`polyrigid`: the log-Euclidean polyrigid model, rigid in each vertebra and diffeomorphic between vertebrae.

The displacement is the flow over unit time of the stationary velocity

    v(x) = sum_i w_i(x) log(T_i) x,  w_i(x) = d_i(x)^-exponent / sum_j d_j(x)^-exponent

T_i is the rigid transform of vertebra i, fixed -> moving, and log(T_i) its 4 x 4 matrix logarithm. The flow maps x to
T_i x exactly if w_i is 1 along the whole path of x. The path leads from the fixed position (time 0) to the moving
position (time 1). At time s, point x is inside bone i if T_i^(1-s) x is inside the moving label i. Therefore d_i(x) is
the least of the distances of T_i^(1-s) x to the moving label for s = 0, 1/2 and 1. Bones whose paths cross are not
exactly rigid; the notes contain the deviation.

References:
    V. Arsigny, X. Pennec, N. Ayache, Polyrigid and polyaffine transformations, Medical Image Analysis 9(6), 2005.
    V. Arsigny, O. Commowick, N. Ayache, X. Pennec, A fast and log-Euclidean polyaffine framework for locally linear
    registration, J. Mathematical Imaging and Vision 33(2), 2009.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import expm, logm
from torch import Tensor

from methods.bones.fusion import affine_points, inverse_distance_weights
from methods.bones.method import Bones, BoneWise
from metrics.fields import integrate

TIMES = (0.0, 0.5, 1.0)


class Polyrigid(BoneWise):
    """A rigid transform per vertebra, fused in the log-Euclidean polyrigid model."""

    def fuse(self, bones: Bones) -> Tensor:
        """The displacement (1, 3, D, H, W) in voxels on the fixed grid."""
        logs = [np.real(logm(matrix)) for matrix in bones.to_moving]
        distances = torch.stack([_distance_along_path(bones, n, log) for n, log in enumerate(logs)])
        weights = inverse_distance_weights(distances, self.settings.exponent)
        velocity = torch.zeros(3, *bones.shape)
        for weight, log in zip(weights, logs, strict=True):
            velocity += weight * affine_points(log, bones.shape)
        return integrate(velocity[None])


def _distance_along_path(bones: Bones, n: int, log: np.ndarray) -> Tensor:
    """The least distance of every voxel to bone `n` along its path, (D, H, W), mm."""
    return torch.stack([bones.distance(n, expm((1 - s) * log)) for s in TIMES]).amin(dim=0)
