"""`polyrigid`: rigid in every vertebra, diffeomorphic in between: the log-Euclidean polyrigid model.

The displacement is the flow, over unit time, of the stationary velocity v(x) = sum_i w_i(x) log(T_i) x, where T_i is
the rigid transform of vertebra i, fixed -> moving, and log(T_i) its 4 x 4 matrix logarithm: where one w_i is 1 along a
point's whole way, the point goes to T_i x exactly. So the weights may not only know where a bone is: a bone is on the
way from its fixed place (time 0) to its moving one (time 1), and at time s it is where T_i^(1-s) takes a point into
the moving label. Its distance is the least over the way's beginning, middle and end, and w_i = 1 / d_i^exponent over
the sum. Where the ways of two bones cross, neither is exactly rigid: the notes say how far from it they are.

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

from methods.bones.fusion import affine_points, shares
from methods.bones.method import Bones, BoneWise
from metrics.fields import integrate

MOMENTS = (0.0, 0.5, 1.0)


class Polyrigid(BoneWise):
    """A rigid transform per vertebra, fused in the log-Euclidean polyrigid model."""

    def fuse(self, bones: Bones) -> Tensor:
        logs = [np.real(logm(pull)) for pull in bones.pulls]
        distances = torch.stack([_on_its_way(bones, n, log) for n, log in enumerate(logs)])
        velocity = torch.zeros(3, *bones.shape)
        for weight, log in zip(shares(distances, self.settings.exponent), logs, strict=True):
            velocity += weight * affine_points(log, bones.shape)
        return integrate(velocity[None])


def _on_its_way(bones: Bones, n: int, log: np.ndarray) -> Tensor:
    """The least distance of every voxel to bone `n` on its way, (D, H, W), mm."""
    return torch.stack([bones.distance(n, expm((1 - s) * log)) for s in MOMENTS]).amin(dim=0)
