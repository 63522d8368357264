"""The losses of items whose displacement is known, and the layer that reads positions and bone masks in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.voxelmorph.devices import autocast
from methods.voxelmorph.known_motion import POSITIONS, KnownItem
from methods.voxelmorph.losses import Loss
from methods.voxelmorph.network import DECODER, VelocityUNet, standardise
from metrics.fields import integrate

READINGS = 2 * (POSITIONS + 1)  # of the CT and of the MR: positions and bone
EPSILON = 0.1  # voxels of the half resolution below which the displacement's loss is quadratic


def reading_layer() -> nn.Conv3d:
    """A 1 x 1 x 1 convolution of the decoder's output. It exists in training only, not in the released weights."""
    layer = nn.Conv3d(DECODER[-1], READINGS, 1)
    nn.init.normal_(layer.weight, 0, 0.02)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def displacement_loss(velocity: Tensor, item: KnownItem) -> Tensor:
    """The weighted mean of sqrt(|v - u|^2 + 0.1^2), with v the integrated velocity and u the known displacement.

    The root is robust: the motion of a training pair before it was moved, and a teacher's errors, are unknown.

    Args:
        velocity: (1, 3, d, h, w), voxels of the half resolution.
        item: with the displacement and its weight.

    Returns:
        A scalar in voxels of the half resolution, at least 0.1.
    """
    error = (integrate(velocity) - item.displacement).square().sum(1, keepdim=True)
    return (item.weight * (error + EPSILON**2).sqrt()).sum() / item.weight.sum()


def reading_losses(read: Tensor, item: KnownItem) -> tuple[Tensor, Tensor]:
    """The mean squared error of positions and of bone masks, each a mean over the channels with known targets.

    Args:
        read: (1, 14, d, h, w), the output of `reading_layer`.
        item: with the targets and their weights.

    Returns:
        Two scalars. A network that reads 0 everywhere has 0.5 for the positions, a sine and a cosine, and 1 for bone.
    """
    axes = (0, 2, 3, 4)
    total = item.reading_weight.sum(axes)
    error = (item.reading_weight * (read - item.reading).square()).sum(axes) / total.clamp(min=1e-6)
    is_mask = torch.zeros(READINGS, dtype=torch.bool, device=read.device)
    is_mask[[POSITIONS, READINGS - 1]] = True
    known = total > 0
    parts = [error[known & chosen] for chosen in (~is_mask, is_mask)]
    positions, bone = (part.mean() if len(part) else read.new_zeros(()) for part in parts)
    return positions, bone


def supervised_loss(
    network: VelocityUNet, layer: nn.Module | None, item: KnownItem, reading: float, displacement: float,
    device: str, precision: str, head_only: bool = False,
) -> Loss:  # fmt: skip
    """The loss of a network on an item with known displacement.

    Args:
        network: in training.
        layer: `reading_layer`; None if `reading` is 0.
        item: one item.
        reading: weight of `reading_losses`; 0 does not compute it.
        displacement: weight of `displacement_loss`; 0 does not compute it.
        device: cpu or cuda.
        precision: fp32 or bf16.
        head_only: the displacement's loss trains only the layers after the decoder.
    """
    sample = item.sample
    moving, fixed = sample.network_input or (sample.moving, sample.fixed)
    inside = sample.network_inside if sample.network_input else sample.fixed_inside
    total, terms = moving.new_zeros(()), dict[str, float]()
    with autocast(device, precision):
        features = network.features_of(torch.cat(standardise(moving, fixed, inside), dim=1))
        if displacement > 0:
            velocity = network.velocity_from(features.detach() if head_only else features)
    if reading > 0 and layer is not None:
        positions, bone = reading_losses(layer(features.float()), item)
        total = total + reading * (positions + bone)
        terms |= {"positions": positions.item(), "bone": bone.item()}
    if displacement > 0:
        value = displacement_loss(velocity, item)
        total, terms["displacement"] = total + displacement * value, value.item()
    return Loss(total, terms)
