"""The network of the paper's diffeomorphic VoxelMorph, a UNet that ends at half resolution, and its flow.

References:
    A. Dalca et al., Unsupervised learning of probabilistic diffeomorphic registration, MedIA 57, 2019.
    B. Jian et al., MICCAI 2022, for the channels (encoder 32, 32, 64, 64, 64; decoder 64, 64, 64; head 32, 32) and the
    7 squaring steps.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.fields import integrate

ENCODER = (32, 32, 64, 64, 64)
DECODER = (64, 64, 64)
HEAD = (32, 32)
MULTIPLE = 2 ** (len(ENCODER) - 1)  # the four poolings need sizes divisible by this
CT_WINDOW = (0.28, 0.55)  # in CT scaled from [-1000, 2000] HU: about -160 to 650 HU, soft tissue and bone
LEAST_TISSUE = 0.2  # of the mean signal of the brighter half; below is background
STEPS = 7  # of scaling and squaring
# For an even and an odd voxel of the upsampled image: which of two neighbouring input voxels each of 3 taps reads.
PHASE_TAPS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
SLAB = 2**17  # voxels of a slab of the first level: a larger one exceeds the cache, a smaller one overlaps too much


class VelocityUNet(nn.Module):
    """A UNet that maps two images to a stationary velocity at half resolution."""

    def __init__(self, final_layer_std: float = 1e-3) -> None:
        """Draw random weights.

        Args:
            final_layer_std: standard deviation of the last layer's weights. The released code uses 1e-5, with which the
                loss hardly changes for hundreds of steps; 1e-3 avoids this plateau.
        """
        super().__init__()
        inputs = (2, *ENCODER[:-1])
        self.encoder = nn.ModuleList(_convolution(a, b) for a, b in zip(inputs, ENCODER, strict=True))
        below = (ENCODER[-1], *DECODER[:-1])
        skips = ENCODER[-2:0:-1]
        self.decoder = nn.ModuleList(_convolution(a + s, b) for a, s, b in zip(below, skips, DECODER, strict=True))
        self.head = nn.ModuleList(_convolution(a, b) for a, b in zip((DECODER[-1], HEAD[0]), HEAD, strict=True))
        self.velocity = nn.Conv3d(HEAD[-1], 3, 3, padding=1)
        nn.init.normal_(self.velocity.weight, 0, final_layer_std)
        if self.velocity.bias is not None:
            nn.init.zeros_(self.velocity.bias)

    def forward(self, moving: Tensor, fixed: Tensor, fixed_inside: Tensor | None = None) -> Tensor:
        """The velocity for a batch of pairs.

        Args:
            moving: CT (B, 1, D, H, W), in [0, 1].
            fixed: MR (B, 1, D, H, W), in [0, 1].
            fixed_inside: bool (B, 1, D, H, W), True where the MR saw the voxel; None: everywhere.

        Returns:
            (B, 3, D/2, H/2, W/2), components (z, y, x), voxels of the half resolution.

        Raises:
            ValueError: D, H or W is not a multiple of 16.
        """
        if any(n % MULTIPLE for n in moving.shape[2:]):
            raise ValueError(
                f"moving: expected sizes divisible by {MULTIPLE}, got {tuple(moving.shape[2:])}; pad first"
            )
        return self.velocity_of(torch.cat(standardise(moving, fixed, fixed_inside), dim=1))

    def velocity_of(self, x: Tensor) -> Tensor:
        """The velocity of standardised images (B, 2, D, H, W), CT first; always float32, even under autocast."""
        return self.velocity_from(self.features_of(x))

    def features_of(self, x: Tensor) -> Tensor:
        """The decoder's output (B, 64, D/2, H/2, W/2) for standardised images (B, 2, D, H, W), CT first."""
        x = self._first_level(x)
        skips: list[Tensor] = []
        for level, convolution in enumerate(self.encoder[1:]):
            x = F.leaky_relu_(_convolved(_pooled(x) if level else x, convolution), 0.2)
            skips.append(x)
        for convolution, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = F.leaky_relu_(_convolved_up(x, skip, convolution), 0.2)
        return x

    def velocity_from(self, features: Tensor) -> Tensor:
        """The velocity (B, 3, D/2, H/2, W/2), float32, from the decoder's output."""
        for convolution in self.head:
            features = F.leaky_relu_(convolution(features), 0.2)
        return self.velocity(features).float()

    def _first_level(self, x: Tensor) -> Tensor:
        """The activations of the first level at half resolution.

        No skip connection uses them at full resolution, and LeakyReLU is monotone. Pooling before LeakyReLU therefore
        gives the same values at an eighth of the cost. Without gradients the level is computed in slabs of slices, so
        that memory never holds its 32 channels for the whole volume.
        """
        first = self.encoder[0]
        assert isinstance(first, nn.Conv3d)
        if torch.is_grad_enabled():
            return F.leaky_relu_(_pooled(first(x)), 0.2)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        x, weight, bias = x.to(dtype), first.weight.to(dtype), None if first.bias is None else first.bias.to(dtype)
        depth = x.shape[2]
        slices = 2 * max(1, SLAB // (2 * x.shape[3] * x.shape[4]))
        slabs = []
        for start in range(0, depth, slices):
            stop = min(start + slices, depth)
            low, high = max(start - 1, 0), min(stop + 1, depth)
            slab = F.pad(x[:, :, low:high], (0, 0, 0, 0, low - start + 1, stop + 1 - high))
            slabs.append(F.leaky_relu_(_pooled(F.conv3d(slab, weight, bias, padding=(0, 1, 1))), 0.2))
        return torch.cat(slabs, dim=2)


def _convolution(channels_in: int, channels_out: int) -> nn.Conv3d:
    """A 3 x 3 x 3 convolution whose initial weights keep the variance of its input (He et al. 2015).

    torch's default initial weights divide the variance by six in each layer; after ten layers only biases remain.
    """
    convolution = nn.Conv3d(channels_in, channels_out, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, a=0.2)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _pooled(x: Tensor) -> Tensor:
    """The maximum of 2 x 2 x 2 voxels in the type of x; under autocast, torch would convert x to float32 first."""
    with torch.autocast(x.device.type, enabled=False):
        return F.max_pool3d(x, 2)


def _convolved_up(x: Tensor, skip: Tensor, convolution: nn.Module) -> Tensor:
    """`convolution` of x, upsampled twofold by repetition, concatenated with skip; without upsampling x.

    Two of the three taps along an axis always read the same voxel of x. With their weights added, each of the eight
    phases of the result is a convolution of x with 2 x 2 x 2 taps instead of 27. The values are the same except for
    rounding.
    """
    assert isinstance(convolution, nn.Conv3d)
    if skip.shape[2] == 2 and torch.is_autocast_enabled(x.device.type):  # as in `_convolved`
        with torch.autocast(x.device.type, enabled=False):
            return _convolved_up(x.float(), skip.float(), convolution)
    below, (d, h, w) = x.shape[1], x.shape[2:]
    with torch.autocast(x.device.type, enabled=False):
        taps = PHASE_TAPS.to(x.device)
        phases = torch.einsum("pai,qbj,rck,oxijk->pqroxabc", taps, taps, taps, convolution.weight[:, :below])
    parts = F.conv3d(x, phases.reshape(-1, below, 2, 2, 2), padding=1)
    out = F.conv3d(skip, convolution.weight[:, below:], convolution.bias, padding=1)
    for phase, part in enumerate(parts.chunk(8, dim=1)):
        p, q, r = phase >> 2, phase >> 1 & 1, phase & 1
        out[:, :, p::2, q::2, r::2] += part[:, :, p : p + d, q : q + h, r : r + w]
    return out


def _convolved(x: Tensor, convolution: nn.Module) -> Tensor:
    """`convolution` of x, in float32 if x has two slices, even under autocast.

    With two slices, and only then, oneDNN's bf16 gradient of the weights contains uninitialised memory (torch 2.13).
    """
    if x.shape[2] != 2:
        return convolution(x)
    with torch.autocast(x.device.type, enabled=False):
        return convolution(x.float())


def standardise(moving: Tensor, fixed: Tensor, fixed_inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Normalise a batch of pairs for the first convolution.

    The CT is windowed to [-1, 1]. The MR of each pair gets mean 0 and SD 1 over its tissue and is clipped to [-4, 4].
    Tissue has more than a fifth of the mean signal of the voxels that are brighter than the mean. Statistics use seen
    tissue only; background, padding and voxels that the MR did not see have no effect.

    Args:
        moving: CT (B, 1, D, H, W), in [0, 1].
        fixed: MR (B, 1, D, H, W), in [0, 1].
        fixed_inside: bool (B, 1, D, H, W), True where the MR saw the voxel; None: everywhere.

    Returns:
        Both images (B, 1, D, H, W), CT first.
    """
    low, high = CT_WINDOW
    ct = 2 * (moving.clamp(low, high) - low) / (high - low) - 1
    seen = torch.ones_like(fixed, dtype=torch.bool) if fixed_inside is None else fixed_inside
    bright = _mean_where(fixed, (fixed > _mean_where(fixed, seen)) & seen)
    tissue = (fixed > LEAST_TISSUE * bright) & seen
    mean = _mean_where(fixed, tissue)
    sd = _mean_where((fixed - mean).square(), tissue).sqrt().clamp(min=1e-6)
    return ct, ((fixed - mean) / sd).clamp(-4, 4)


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over a mask of each pair, (B, 1, 1, 1, 1); 0 for an empty mask."""
    axes = (1, 2, 3, 4)
    return (values * mask).sum(axes, keepdim=True) / mask.sum(axes, keepdim=True).clamp(min=1)


def flow(velocity: Tensor, steps: int = STEPS) -> Tensor:
    """The displacement of a stationary velocity after unit time.

    The velocity is integrated at half resolution and the result upsampled linearly. Voxel i of the half resolution
    covers voxels 2i and 2i + 1 of the full resolution.

    Args:
        velocity: (B, 3, D/2, H/2, W/2), voxels of the half resolution.
        steps: of scaling and squaring.

    Returns:
        (B, 3, D, H, W), voxels of the full resolution.
    """
    return upsampled(integrate(velocity, steps))


def upsampled(displacement: Tensor) -> Tensor:
    """A displacement of the half resolution (B, 3, d, h, w) at the full one (B, 3, 2d, 2h, 2w), in voxels of each."""
    return 2 * F.interpolate(displacement, scale_factor=2, mode="trilinear", align_corners=False)


def pad_to_multiple(image: Tensor, multiple: int = MULTIPLE) -> Tensor:
    """Repeat the last voxels of images (B, C, D, H, W) along each axis up to sizes divisible by `multiple`.

    Zeros would add a sharp edge at the same place in both images.
    """
    padding: list[int] = []
    for n in reversed(image.shape[-3:]):
        padding += [0, -n % multiple]
    return F.pad(image, padding, mode="replicate")


def network_image(image: np.ndarray, shrink_factor: int) -> Tensor:
    """An image (z, y, x) as the network's input (1, 1, D, H, W), padded and averaged over `shrink_factor`^3 voxels."""
    tensor = pad_to_multiple(torch.from_numpy(np.ascontiguousarray(image))[None, None], MULTIPLE * shrink_factor)
    return F.avg_pool3d(tensor, shrink_factor) if shrink_factor > 1 else tensor


def network_mask(inside: np.ndarray | None, shrink_factor: int) -> Tensor | None:
    """The voxels of `network_image` of which a scan saw at least half.

    Padding counts as the voxels that it repeats, so that the mask of a whole scan has no effect.

    Args:
        inside: bool (z, y, x), the voxels that the scan saw; None: all.
        shrink_factor: as of `network_image`.

    Returns:
        bool (1, 1, D, H, W), or None for all voxels.
    """
    if inside is None:
        return None
    return network_image(inside.astype(np.float32), shrink_factor) >= 0.5
