"""`edt-interpolation`: one rigid displacement in each vertebra, blended by distance between vertebrae.

    u(p) = sum_i w_i(p) (T_i(p) - p),  w_i(p) = d_i(p)^-exponent / sum_j d_j(p)^-exponent

T_i is the rigid transform of vertebra i, fixed -> moving, and d_i(p) the Euclidean distance of p to this vertebra in
its fixed position. The displacement is exactly rigid inside each vertebra (overlapping vertebrae share their weight)
and smooth elsewhere. It may fold between vertebrae.

References:
    J. Little, D. Hill, D. Hawkes, Deformations incorporating rigid structures, Computer Vision and Image Understanding
    66(2), 1997, without its radial basis functions for landmarks between the bones.
    C. Bukas et al., Patient-specific virtual spine straightening and vertebra inpainting, MICCAI 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.bones.fusion import inverse_distance_weights
from methods.bones.method import Bones, BoneWise


class EdtInterpolation(BoneWise):
    """A rigid transform per vertebra, blended by inverse distance."""

    def fuse(self, bones: Bones) -> Tensor:
        """The displacement (1, 3, D, H, W) in voxels on the fixed grid."""
        displacement = torch.zeros(3, *bones.shape)
        for n, weight in enumerate(inverse_distance_weights(bones.fixed_distances, self.settings.exponent)):
            displacement += weight * bones.displacement(n)
        return displacement[None]
