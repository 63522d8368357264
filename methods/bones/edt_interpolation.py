"""`edt-interpolation`: rigid in every vertebra, and in between the rigid displacements blended by distance.

u(p) = sum_i w_i(p) (T_i(p) - p) with w_i = 1 / d_i^exponent over the sum, T_i the rigid transform of vertebra i, fixed
-> moving, and d_i(p) the distance of p to it where T_i puts it in the fixed domain, by Euclidean distance transform.
Exactly rigid inside every vertebra (two that overlap share), smooth elsewhere; nothing prevents folding in between.

References:
    J. Little, D. Hill, D. Hawkes, Deformations incorporating rigid structures, Computer Vision and Image Understanding
    66(2), 1997. C. Bukas et al., Patient-specific virtual spine straightening and vertebra inpainting, MICCAI 2021.
    Without Little's radial basis functions for landmarks between the bones, of which there are none here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.bones.fusion import shares
from methods.bones.method import Bones, BoneWise


class EdtInterpolation(BoneWise):
    """A rigid transform per vertebra, blended by inverse distance."""

    def fuse(self, bones: Bones) -> Tensor:
        displacement = torch.zeros(3, *bones.shape)
        for n, weight in enumerate(shares(bones.fixed_distances, self.settings.exponent)):
            displacement += weight * bones.displacement(n)
        return displacement[None]
