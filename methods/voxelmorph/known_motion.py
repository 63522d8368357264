"""The first lesson of a training: small blocks around one vertebra, the CT moved by a motion that is known.

Along a spine the same sight comes back with every vertebra. Where many are seen, no feature of one image alone tells
of a shift along it: it takes the product of features of both, and a network that starts without any stays at no shift
for thousands of steps. In a block around one vertebra, moved by less than half its height, the shift is a difference:
where the vertebra lies in the CT less where it lies in the MR. That is learnt in some hundred steps, and blocks of more
vertebrae can build on it.

Nothing but the motion that is put in serves as target. The pair's own, which nobody knows, is noise of mean 0 to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from methods.voxelmorph.augmentation import ct_appearance, flipped, mr_appearance
from methods.voxelmorph.items import Item
from methods.voxelmorph.losses import Loss
from methods.voxelmorph.network import flow
from methods.voxelmorph.settings import Training
from metrics.fields import warp

SMALL, SMALL_BLOCKS = (16, 16, 16), 32  # voxels (z, y, x) of a block, and how many there are in a step
LONG, LONG_BLOCKS = (32, 32, 16), 8  # three to five vertebrae, in every other step of the second half
MARGIN = 8  # voxels around a block while it is moved
VOXEL_MM = 4.0
SHIFT_MM, TURN_DEG, OFF_CENTRE_MM = 5.0, 3.0, 3.0
NEAR, FAR = 1.0, 0.1  # weights of voxels within two of a vertebra, and of all


@dataclass(frozen=True)
class Blocks:
    """moving, fixed: (B, 1, D, H, W). displacement: the known one (B, 3, D, H, W), voxels. weights: (B, 1, D, H, W)."""

    moving: Tensor
    fixed: Tensor
    displacement: Tensor
    weights: Tensor


def blocks_of(
    item: Item, settings: Training, seed: int, sample: int, long: bool = False, off_centre_mm: float = OFF_CENTRE_MM
) -> Blocks:
    """Blocks of a patient at some 4 mm, a vertebra in the middle of each, every one moved otherwise.

    32 of 16 x 16 x 16 voxels, or, of those that are long, 8 of 32 x 32 x 16. off_centre_mm: how far along each axis the
    middle of a block may be from halfway between the vertebra in the MR and in the moved CT. Raises ValueError for a
    patient without vertebrae.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 2, sample]))
    if settings.flips and rng.random() < 0.5:
        item = flipped(item)
    if not item.centres:
        raise ValueError(f"pair {item.case}: expected at least one vertebra in the moving labels, found none")
    item = _pooled(item)
    shape, count = (LONG, LONG_BLOCKS) if long else (SMALL, SMALL_BLOCKS)
    drawn = [_block(item, shape, off_centre_mm, rng) for _ in range(count)]
    moving, fixed, displacement, near = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    if settings.appearance:
        shown = [(ct_appearance(m[None], rng), mr_appearance(f[None], rng)) for m, f in zip(moving, fixed, strict=True)]
        moving, fixed = (torch.cat(parts) for parts in zip(*shown, strict=True))
    return Blocks(moving, fixed, displacement, FAR + (NEAR - FAR) * F.max_pool3d(near, 5, 1, 2))


def known_motion_loss(velocity: Tensor, blocks: Blocks) -> Loss:
    """Weighted mean squared distance of the velocity's flow from the known displacement, voxels squared."""
    off = (flow(velocity) - blocks.displacement).square().mean(1, keepdim=True)
    total = (blocks.weights * off).sum() / blocks.weights.sum()
    return Loss(total, {"known_motion": total.item()})


def _pooled(item: Item) -> Item:
    """The item at voxels of some 4 mm along each axis, whole blocks of its voxels alone."""
    factor = [max(1, round(VOXEL_MM / mm)) for mm in item.spacing_mm]
    moving, fixed = (F.avg_pool3d(image, factor) for image in (item.moving, item.fixed))
    z, y, x = (f // 2 for f in factor)
    labels = item.labels[z :: factor[0], y :: factor[1], x :: factor[2]]
    labels = labels[: moving.shape[2], : moving.shape[3], : moving.shape[4]]
    spacing_mm = tuple(f * mm for f, mm in zip(factor, item.spacing_mm, strict=True))
    centres = {
        v: tuple((c - (f - 1) / 2) / f for c, f in zip(centre, factor, strict=True))
        for v, centre in item.centres.items()
    }
    assert len(spacing_mm) == 3
    return Item(item.case, moving, fixed, labels, spacing_mm, centres)


def _block(
    item: Item, shape: tuple[int, ...], off_centre_mm: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moving, fixed, displacement and vertebrae of one block: `moving` is the CT's block after the motion.

    The motion is a rigid one about the vertebra. The block's middle lies halfway between where the vertebra is in the
    MR and where it went, give or take `off_centre_mm`: where it lies in one image does not tell where in the other.
    """
    spacing = torch.tensor(item.spacing_mm)
    shift = torch.from_numpy(rng.normal(0, SHIFT_MM, 3).astype(np.float32)) / spacing
    turn = Rotation.from_rotvec(rng.normal(0, TURN_DEG, 3), degrees=True).as_matrix()
    off = torch.from_numpy(rng.uniform(-off_centre_mm, off_centre_mm, 3).astype(np.float32)) / spacing
    vertebrae = list(item.centres)
    vertebra = torch.tensor(item.centres[vertebrae[rng.integers(len(vertebrae))]])
    middle = vertebra + shift / 2 + off
    first = [round(v) - size // 2 for v, size in zip(middle.tolist(), shape, strict=True)]
    device = item.moving.device
    scale = spacing.to(device).view(3, 1, 1, 1)
    there = torch.from_numpy(turn.astype(np.float32)).to(device)

    def points(margin: int) -> Tensor:
        """Voxels of the block and a margin, from the vertebra, in mm."""
        axes = [
            torch.arange(start - margin, start + size + margin, dtype=torch.float32, device=device)
            for start, size in zip(first, shape, strict=True)
        ]
        return (torch.stack(torch.meshgrid(*axes, indexing="ij")) - vertebra.to(device).view(3, 1, 1, 1)) * scale

    # The content at p goes to R p + t: the displacement is there minus here, and the moved image reads at the inverse.
    t = (shift * spacing).to(device).view(3, 1, 1, 1)
    here = points(0)
    displacement = (torch.einsum("ij,jzyx->izyx", there, here) + t - here) / scale
    around = points(MARGIN)
    back = (torch.einsum("ji,jzyx->izyx", there, around - t) - around) / scale
    moving = warp(_window(item.moving, first, shape, MARGIN), back[None], padding="border")
    moving = moving[..., MARGIN:-MARGIN, MARGIN:-MARGIN, MARGIN:-MARGIN]
    near = _window((item.labels > 0).to(moving.dtype)[None, None], first, shape)
    return moving, _window(item.fixed, first, shape), displacement[None], near


def _window(image: Tensor, first: list[int], shape: tuple[int, ...], margin: int = 0) -> Tensor:
    """The block of an image (1, 1, D, H, W) and a margin, the image's border continued where it ends."""
    for axis, (start, size) in enumerate(zip(first, shape, strict=True)):
        wanted = torch.arange(start - margin, start + size + margin, device=image.device)
        image = image.index_select(axis + 2, wanted.clamp(0, image.shape[axis + 2] - 1))
    return image
