"""From a normalised pair to the displacement that a network predicts, as fast as the processor allows.

The convolutions run channels last, in bf16 where the processor computes in it; a volume above a size that the user sets
goes through them in overlapping pieces, so that memory does not grow with it. The flow is float32 and whole.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Pair
from methods.voxelmorph.devices import autocast, resolve_precision
from methods.voxelmorph.network import MULTIPLE, VelocityUNet, flow, pad_to_multiple, standardise
from methods.voxelmorph.settings import LARGEST_VOXELS

# How far a voxel's velocity reaches into the images: 31 voxels down the encoder, 14 up the decoder, 6 of the head at
# half resolution and what the poolings round, in all less than this multiple of 16.
REACH = 64


def for_inference(network: VelocityUNet, device: str = "cpu") -> VelocityUNet:
    """The network as `predict` is fastest with, itself changed."""
    # torch's type stubs do not know the argument memory_format.
    return network.to(device=device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]


def predict(
    network: VelocityUNet, pair: Pair, coarsening: int, device: str = "cpu", precision: str = "auto",
    largest: int = LARGEST_VOXELS,
) -> Tensor:  # fmt: skip
    """The displacement (1, 3, D, H, W) in voxels of `pair`'s own grid.

    coarsening: voxels of the pair per voxel of the network, along each axis. precision: of the convolutions, auto,
    fp32 or bf16. largest: voxels of the network that it is shown in one piece. Raises ValueError as
    `devices.resolve_precision`.
    """
    with torch.inference_mode():
        moving, fixed = (images_of(s.image, coarsening).to(device) for s in (pair.moving, pair.fixed))
        with autocast(device, resolve_precision(precision, device)):
            seen = inside_of(pair.fixed.inside, coarsening)
            images = torch.cat(standardise(moving, fixed, None if seen is None else seen.to(device)), dim=1)
            velocity = in_pieces(network, images, largest)
        displacement = flow(velocity)
        if coarsening > 1:
            displacement = coarsening * F.interpolate(
                displacement, scale_factor=coarsening, mode="trilinear", align_corners=False
            )
    d, h, w = pair.grid.shape
    return displacement[..., :d, :h, :w]


def images_of(image: np.ndarray, coarsening: int) -> Tensor:
    """An image (z, y, x) as the network is shown it: (1, 1, D, H, W), padded, averaged over `coarsening`^3 voxels."""
    tensor = pad_to_multiple(torch.from_numpy(np.ascontiguousarray(image))[None, None], MULTIPLE * coarsening)
    return F.avg_pool3d(tensor, coarsening) if coarsening > 1 else tensor


def inside_of(inside: np.ndarray | None, coarsening: int) -> Tensor | None:
    """The voxels of `images_of` that a scan saw at least half of: bool (1, 1, D, H, W); None for all of its voxels.

    Padding counts as the voxels that it repeats, so that a mask of a whole scan has no effect.

    inside: bool (z, y, x), the voxels that the scan saw, or None for all of them.
    """
    if inside is None:
        return None
    return images_of(inside.astype(np.float32), coarsening) >= 0.5


def in_pieces(network: VelocityUNet, images: Tensor, largest: int = LARGEST_VOXELS) -> Tensor:
    """The velocity of standardised images (1, 2, D, H, W), at most about `largest` voxels at a time.

    Pieces lie one behind the other along the longest axis and overlap by twice `REACH`, which makes the velocity that
    of the whole but for rounding. A piece keeps at least `MULTIPLE` voxels of that axis, however small `largest` is.
    """
    sizes = images.shape[2:]
    axis = max(range(3), key=lambda a: sizes[a])
    longest = largest * sizes[axis] // sizes.numel()
    if sizes[axis] <= longest:
        return network.velocity_of(images)
    own = max(MULTIPLE, (longest - 2 * REACH) // MULTIPLE * MULTIPLE)
    pieces = []
    for start in range(0, sizes[axis], own):
        stop = min(start + own, sizes[axis])
        low, high = max(start - REACH, 0), min(stop + REACH, sizes[axis])
        velocity = network.velocity_of(images.narrow(2 + axis, low, high - low))
        pieces.append(velocity.narrow(2 + axis, (start - low) // 2, (stop - start) // 2))
    return torch.cat(pieces, dim=2 + axis)
