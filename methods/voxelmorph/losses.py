"""What the network is trained on: similarity in both directions, smoothness, and penalties by name (eq. 1).

A penalty is one registered function of a `Warped`::

    @PENALTIES.register("my-penalty")
    def my_penalty(warped: Warped) -> Tensor: ...

and then a YAML line, `penalties: {my-penalty: 0.1}`. The equations themselves stand in `metrics/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from methods.registry import PENALTIES
from methods.voxelmorph.network import flow
from metrics.fields import lands_inside, warp, warp_soft
from metrics.regularity import diffusion, rigidity
from metrics.similarity import mind_loss
from metrics.volume import volume_loss


@dataclass(frozen=True)
class Warped:
    """What a penalty may look at: the displacement and the moving labels, never the fixed ones.

    displacement: (1, 3, D, H, W) in voxels. labels: moving labels (D, H, W). ids: the vertebrae that count.
    """

    displacement: Tensor
    labels: Tensor
    ids: Sequence[int]

    @cached_property
    def moving_soft(self) -> Tensor:
        """One-hot moving labels (N, D, H, W)."""
        return torch.stack([self.labels == v for v in self.ids]).to(self.displacement.dtype)

    @cached_property
    def warped_soft(self) -> Tensor:
        """The linearly warped one-hot labels (N, D, H, W), with gradient."""
        return warp_soft(self.labels, self.displacement, self.ids)

    @cached_property
    def rigidity(self) -> tuple[Tensor, Tensor]:
        """Properness and orthonormality (1, N), the label detached: the field must straighten, not the label flee."""
        return rigidity(self.displacement, self.warped_soft.detach())


@dataclass(frozen=True)
class Loss:
    """The terms of one step; `total` is what is minimised."""

    total: Tensor
    terms: Mapping[str, float]


def training_loss(
    velocity: Tensor,
    moving: Tensor,
    fixed: Tensor,
    labels: Tensor,
    ids: Sequence[int],
    smoothness: float,
    penalties: Mapping[str, float],
) -> Loss:
    """Eq. 1 of the paper for one pair.

    velocity: (1, 3, D/2, H/2, W/2). moving, fixed: (1, 1, D, H, W). labels: moving labels (D, H, W).
    smoothness: weight of the velocity's diffusion, times two for the half resolution as in the released code.
    """
    forward, inverse = flow(velocity), flow(-velocity)
    similarity = (_unlikeness(moving, fixed, forward) + _unlikeness(fixed, moving, inverse)).sum()
    roughness = 2 * diffusion(velocity).sum()
    total = similarity + smoothness * roughness
    terms = {"similarity": similarity.item(), "smoothness": roughness.item()}
    warped = Warped(forward, labels, ids)
    for name, weight in penalties.items() if len(ids) else ():
        value = PENALTIES[name].load()(warped)
        total = total + weight * value
        terms[name] = value.item()
    return Loss(total, terms)


def _unlikeness(image: Tensor, target: Tensor, displacement: Tensor) -> Tensor:
    """MIND of the warped image and the target, where the displacement leads into the image.

    Its border continued and the rest left out: with zeros outside, the edge of the field of view is the sharpest one in
    both images, it lies in the same place in both, and the network learns to hold it there.
    """
    warped = warp(image, displacement, padding="border")
    return mind_loss(warped, target, lands_inside(displacement, image.shape[2:]))


@PENALTIES.register("pc")
def pc(warped: Warped) -> Tensor:
    """Properness condition (eq. 6), mean over the vertebrae still in view."""
    return warped.rigidity[0].nanmean()


@PENALTIES.register("oc")
def oc(warped: Warped) -> Tensor:
    """Orthonormal condition (eq. 7), mean over the vertebrae still in view."""
    return warped.rigidity[1].nanmean()


@PENALTIES.register("volume")
def volume(warped: Warped) -> Tensor:
    """Direct volume loss, mean over vertebrae."""
    return volume_loss(warped.moving_soft, warped.warped_soft).mean()
