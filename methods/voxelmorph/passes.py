"""Apply a network several times: the CT warped by the displacement so far goes in again, and results are composed.

A further pass is kept only where it brings MIND near the bones down, since a network can also lose what it has found.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Pair
from methods.voxelmorph.inference import predict
from methods.voxelmorph.network import VelocityUNet, network_image, network_mask
from methods.voxelmorph.settings import LARGEST_VOXELS
from metrics.boxes import bounding_box
from metrics.fields import compose, warp
from metrics.similarity import mind_loss, seen_in_both

NEAR = 4  # voxels of the network around bone in which MIND is compared


def predict_in_passes(
    network: VelocityUNet, pair: Pair, passes: int, shrink_factor: int, device: str = "cpu", precision: str = "auto",
    largest: int = LARGEST_VOXELS,
) -> tuple[Tensor, int]:  # fmt: skip
    """Predict the displacement of a pair in several passes.

    Args:
        network: as for `predict`.
        pair: both images and the moving labels, around which MIND is compared.
        passes: most passes, at least 1.
        shrink_factor: voxels of the pair per voxel of the network along each axis.
        device: cpu or cuda.
        precision: of the convolutions: auto, fp32 or bf16.
        largest: most voxels that pass through the convolutions in one piece.

    Returns:
        The displacement (1, 3, D, H, W) in voxels of the pair's grid, components (z, y, x), and the number of passes
        that were kept, from 1 to `passes`.
    """
    displacement = predict(network, pair, shrink_factor, device, precision, largest)
    if passes == 1:
        return displacement, 1
    with torch.inference_mode():
        measure = _Distance(pair, displacement, shrink_factor, device)
        reached, image = measure(displacement), torch.from_numpy(pair.moving.image)[None, None].to(device)
        for kept in range(1, passes):
            warped = warp(image, displacement, padding="border")[0, 0].cpu().numpy()
            again = replace(pair, moving=replace(pair.moving, image=warped))
            further = compose(predict(network, again, shrink_factor, device, precision, largest), displacement)
            distance = measure(further)
            if not distance < reached:
                return displacement, kept
            displacement, reached = further, distance
    return displacement, passes


class _Distance:
    """MIND of the fixed and the warped moving image near the bones, at the network's resolution.

    Args:
        pair: both images and the moving labels.
        displacement: the first one, (1, 3, D, H, W) in voxels of the pair; it says where the bones are.
        shrink_factor: voxels of the pair per voxel of the network along each axis.
        device: cpu or cuda.
    """

    def __init__(self, pair: Pair, displacement: Tensor, shrink_factor: int, device: str) -> None:
        self._factor = shrink_factor
        self._moving, self._fixed = (
            network_image(s.image, shrink_factor).to(device) for s in (pair.moving, pair.fixed)
        )
        masks = (network_mask(s.inside, shrink_factor) for s in (pair.moving, pair.fixed))
        self._seen = [None if mask is None else mask.to(device) for mask in masks]
        assert pair.moving.labels is not None
        bone = network_image((pair.moving.labels > 0).astype(np.float32), shrink_factor).to(device)
        near = F.max_pool3d(warp(bone, self._shrunk(displacement)), 2 * NEAR + 1, 1, NEAR) > 0
        self._box, self._near = bounding_box(near[0]), near

    def _shrunk(self, displacement: Tensor) -> Tensor:
        """The displacement in voxels of the network, padded as its images are."""
        missing = [n * self._factor - m for n, m in zip(self._moving.shape[2:], displacement.shape[2:], strict=True)]
        padded = F.pad(displacement, [n for m in reversed(missing) for n in (0, m)], mode="replicate")
        return F.avg_pool3d(padded, self._factor) / self._factor

    def __call__(self, displacement: Tensor) -> float:
        """The distance under a displacement in voxels of the pair; NaN where there is nothing to compare."""
        if self._box is None:
            return float("nan")
        shrunk = self._shrunk(displacement)
        weights = self._near * seen_in_both(shrunk, self._moving.shape[2:], *self._seen)
        images = (warp(self._moving, shrunk, padding="border"), self._fixed, weights)
        a, b, w = (image[:, :, *self._box] for image in images)
        return mind_loss(a, b, w).item()
