"""The paper's diffeomorphic VoxelMorph: a UNet that ends at half resolution, and the flow of its velocity.

Reference: Dalca et al., Unsupervised learning of probabilistic diffeomorphic registration, MedIA 57 (2019), with the
channels of Jian et al., MICCAI 2022: encoder 32, 32, 64, 64, 64; decoder 64, 64, 64; head 32, 32; 7 squaring steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.fields import integrate

ENCODER = (32, 32, 64, 64, 64)
DECODER = (64, 64, 64)
HEAD = (32, 32)
MULTIPLE = 2 ** (len(ENCODER) - 1)  # sizes that the four poolings divide evenly
CT_WINDOW = (0.28, 0.55)  # of CT scaled from [-1000, 2000] HU: about -160 to 650 HU, where bone and soft tissue differ
FAINT = 0.2
STEPS = 7
# Which of two neighbouring voxels each of three taps meets: before an even and before an odd voxel of twice the size.
PHASE_TAPS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
SLAB = 2**17  # voxels of a slab of the first level: more spill from the cache, fewer repeat too much at their edges


class VelocityUNet(nn.Module):
    """Two images to a stationary velocity field at half resolution.

    start_sd: standard deviation of the last layer's initial weights. The released code starts at 1e-5 and then learns
    next to nothing for hundreds of steps on a CPU's schedule; 1e-3 ends that plateau.
    """

    def __init__(self, start_sd: float = 1e-3) -> None:
        super().__init__()
        inputs = (2, *ENCODER[:-1])
        self.encoder = nn.ModuleList(_convolution(a, b) for a, b in zip(inputs, ENCODER, strict=True))
        below = (ENCODER[-1], *DECODER[:-1])
        skips = ENCODER[-2:0:-1]
        self.decoder = nn.ModuleList(_convolution(a + s, b) for a, s, b in zip(below, skips, DECODER, strict=True))
        self.head = nn.ModuleList(_convolution(a, b) for a, b in zip((DECODER[-1], HEAD[0]), HEAD, strict=True))
        self.velocity = nn.Conv3d(HEAD[-1], 3, 3, padding=1)
        nn.init.normal_(self.velocity.weight, 0, start_sd)
        if self.velocity.bias is not None:
            nn.init.zeros_(self.velocity.bias)

    def forward(self, moving: Tensor, fixed: Tensor, fixed_inside: Tensor | None = None) -> Tensor:
        """Images (B, 1, D, H, W) in [0, 1] to a velocity (B, 3, D/2, H/2, W/2) in voxels of the half resolution.

        fixed_inside: (B, 1, D, H, W), True where the fixed scan saw the voxel; None: everywhere.
        Raises ValueError where D, H or W is no multiple of 16.
        """
        if any(n % MULTIPLE for n in moving.shape[2:]):
            raise ValueError(
                f"moving: expected sizes divisible by {MULTIPLE}, got {tuple(moving.shape[2:])}; pad first"
            )
        return self.velocity_of(torch.cat(standardise(moving, fixed, fixed_inside), dim=1))

    def velocity_of(self, x: Tensor) -> Tensor:
        """Standardised images (B, 2, D, H, W), CT first, to their velocity in float32, whatever the autocast."""
        x = self._first_level(x)
        skips: list[Tensor] = []
        for level, convolution in enumerate(self.encoder[1:]):
            x = F.leaky_relu_(_convolved(_pooled(x) if level else x, convolution), 0.2)
            skips.append(x)
        for convolution, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = F.leaky_relu_(_convolved_up(x, skip, convolution), 0.2)
        for convolution in self.head:
            x = F.leaky_relu_(convolution(x), 0.2)
        return self.velocity(x).float()

    def _first_level(self, x: Tensor) -> Tensor:
        """The first level's activations at half resolution.

        No skip reads them at full resolution, and LeakyReLU only rises: pooling first gives the same values from an
        eighth of the work. Without gradients a slab of slices at a time is enough, and the 32 channels never stand in
        memory as a whole.
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
    """A 3 x 3 x 3 convolution that keeps the variance of what passes through it (He et al. 2015).

    torch's own start shrinks it to a sixth at each layer: after ten of them the biases are all that is left.
    """
    convolution = nn.Conv3d(channels_in, channels_out, 3, padding=1)
    nn.init.kaiming_normal_(convolution.weight, a=0.2)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _pooled(x: Tensor) -> Tensor:
    """The largest of 2 x 2 x 2 voxels, in x's own type: autocast would turn all of x to float32 for the same values."""
    with torch.autocast(x.device.type, enabled=False):
        return F.max_pool3d(x, 2)


def _convolved_up(x: Tensor, skip: Tensor, convolution: nn.Module) -> Tensor:
    """`convolution` of x, each voxel repeated twice along each axis, and skip behind it, without repeating anything.

    Of three taps along an axis two always meet the same voxel of x. Their weights added, each of the eight phases of
    the result is a convolution of x with 2 x 2 x 2 taps instead of 27: the same values but for rounding.
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
    """`convolution` of x, in float32 where x has two slices, whatever the precision around it.

    There, and there alone, oneDNN's bf16 gradient by the weights is partly memory that nobody wrote (torch 2.13).
    """
    if x.shape[2] != 2:
        return convolution(x)
    with torch.autocast(x.device.type, enabled=False):
        return convolution(x.float())


def standardise(moving: Tensor, fixed: Tensor, fixed_inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """CT windowed to [-1, 1], MR to mean 0 and SD 1 of its tissue per item: what the first convolution sees.

    Tissue is every seen voxel with at least a fifth of the signal of the brighter half. Statistics use tissue only; air
    and voxels that the scan did not see have no effect.

    fixed_inside: (B, 1, D, H, W), True where the fixed scan saw the voxel; None: everywhere.
    """
    low, high = CT_WINDOW
    ct = 2 * (moving.clamp(low, high) - low) / (high - low) - 1
    seen = torch.ones_like(fixed, dtype=torch.bool) if fixed_inside is None else fixed_inside
    bright = _mean_where(fixed, (fixed > _mean_where(fixed, seen)) & seen)
    tissue = (fixed > FAINT * bright) & seen
    mean = _mean_where(fixed, tissue)
    sd = _mean_where((fixed - mean).square(), tissue).sqrt().clamp(min=1e-6)
    return ct, ((fixed - mean) / sd).clamp(-4, 4)


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over a mask per item (B, 1, 1, 1, 1); 0 where it is empty."""
    axes = (1, 2, 3, 4)
    return (values * mask).sum(axes, keepdim=True) / mask.sum(axes, keepdim=True).clamp(min=1)


def flow(velocity: Tensor, steps: int = STEPS) -> Tensor:
    """The displacement (B, 3, D, H, W), in full voxels, of a velocity (B, 3, D/2, H/2, W/2) in voxels of its own.

    Integrated at half resolution, then upsampled linearly; half voxel i covers full voxels 2i and 2i + 1.
    """
    half = integrate(velocity, steps)
    return 2 * F.interpolate(half, scale_factor=2, mode="trilinear", align_corners=False)


def pad_to_multiple(image: Tensor, multiple: int = MULTIPLE) -> Tensor:
    """Images (B, C, D, H, W), their last voxels repeated up to sizes divisible by `multiple`.

    Zeros would set a sharp edge where both images end.
    """
    padding: list[int] = []
    for n in reversed(image.shape[-3:]):
        padding += [0, -n % multiple]
    return F.pad(image, padding, mode="replicate")
