"""Predict the displacement of a pair by a network.

The convolutions run channels last, and in bf16 on processors that compute in it. A volume above a size that the user
sets passes through them in overlapping pieces, which bounds their memory. The flow is computed in float32 for the whole
volume.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Pair
from methods.voxelmorph.devices import autocast, resolve_precision
from methods.voxelmorph.network import MULTIPLE, VelocityUNet, flow, network_image, network_mask, standardise
from methods.voxelmorph.settings import LARGEST_VOXELS

# Radius of the receptive field, rounded up to a multiple of 16: 31 voxels of the encoder, 14 of the decoder, 6 of the
# head at half resolution, and the rounding of the poolings.
REACH = 64


def for_inference(network: VelocityUNet, device: str = "cpu") -> VelocityUNet:
    """Move a network to a device, in evaluation mode and channels last, which `predict` is fastest with."""
    # torch's type stubs do not know the argument memory_format.
    return network.to(device=device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]


def predict(
    network: VelocityUNet, pair: Pair, shrink_factor: int, device: str = "cpu", precision: str = "auto",
    largest: int = LARGEST_VOXELS,
) -> Tensor:  # fmt: skip
    """Predict the displacement of a pair.

    Args:
        network: as `for_inference` returns it, for speed.
        pair: both images.
        shrink_factor: voxels of the pair per voxel of the network along each axis, at least 1.
        device: cpu or cuda, the network's device.
        precision: of the convolutions: auto, fp32 or bf16.
        largest: most voxels that pass through the convolutions in one piece.

    Returns:
        The displacement (1, 3, D, H, W) in voxels of the pair's grid, components (z, y, x), on the device.

    Raises:
        ValueError: the device does not compute in the precision.
    """
    with torch.inference_mode():
        moving, fixed = (network_image(s.image, shrink_factor).to(device) for s in (pair.moving, pair.fixed))
        with autocast(device, resolve_precision(precision, device)):
            seen = network_mask(pair.fixed.inside, shrink_factor)
            images = torch.cat(standardise(moving, fixed, None if seen is None else seen.to(device)), dim=1)
            velocity = in_pieces(network, images, largest)
        displacement = flow(velocity)
        if shrink_factor > 1:
            displacement = shrink_factor * F.interpolate(
                displacement, scale_factor=shrink_factor, mode="trilinear", align_corners=False
            )
    d, h, w = pair.grid.shape
    return displacement[..., :d, :h, :w]


def in_pieces(network: VelocityUNet, images: Tensor, largest: int = LARGEST_VOXELS) -> Tensor:
    """The velocity of standardised images, computed in pieces.

    The pieces follow each other along the longest axis and overlap by twice `REACH`, so that the result differs from
    that of the whole volume by rounding only. Each piece contributes at least `MULTIPLE` voxels along this axis.

    Args:
        network: the network.
        images: (1, 2, D, H, W), CT first.
        largest: most voxels of a piece, approximately.

    Returns:
        (1, 3, D/2, H/2, W/2), voxels of the half resolution.
    """
    sizes = images.shape[2:]
    axis = max(range(3), key=lambda a: sizes[a])
    longest = largest * sizes[axis] // sizes.numel()
    if sizes[axis] <= longest:
        return network.velocity_of(images)
    step = max(MULTIPLE, (longest - 2 * REACH) // MULTIPLE * MULTIPLE)
    pieces = []
    for start in range(0, sizes[axis], step):
        stop = min(start + step, sizes[axis])
        low, high = max(start - REACH, 0), min(stop + REACH, sizes[axis])
        velocity = network.velocity_of(images.narrow(2 + axis, low, high - low))
        pieces.append(velocity.narrow(2 + axis, (start - low) // 2, (stop - start) // 2))
    return torch.cat(pieces, dim=2 + axis)
