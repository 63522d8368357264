"""The random changes of a sample in one training step, drawn from the seed and the sample's number alone.

A flip, another anatomy and a crop change images and labels alike. Another motion changes the moving image and its
labels. The appearance changes only the images that the network receives: the similarity uses the images without it, so
that the network has to find the motion for any scanner and field of view, and cannot match an artificial edge. Voxels
that a real scan did not see have no weight in it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from methods.voxelmorph.random_fields import anatomy_field, motion_field
from methods.voxelmorph.samples import Sample
from methods.voxelmorph.settings import Training
from metrics.fields import compose, warp
from metrics.label_warping import warp_labels

KNOTS = 6  # of the intensity curve
CT_NOISE = 0.015  # SD for CT scaled from [-1000, 2000] HU: 45 HU
MR_NOISE = 0.04  # SD for MR in [0, 1]
# Of a field of view: the largest hidden share of a half-width, and the SD of its rotation.
VIEW_HIDDEN, VIEW_TURN_DEG = 0.6, 6.0


def augment(sample: Sample, settings: Training, seed: int, index: int) -> Sample:
    """Apply the random changes that the settings select.

    Args:
        sample: one patient.
        settings: selects flips, anatomy, motion, patch and appearance.
        seed: the training's seed.
        index: number of the sample in the training, at least 0.

    Returns:
        The changed sample; with a patch, cropped around the centre of a random vertebra.

    Raises:
        ValueError: a patch is to be cropped and the sample has no vertebra.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 1, index]))
    if settings.flips and rng.random() < 0.5:
        sample = flipped(sample)
    if settings.anatomy or settings.motion:
        sample = deformed(sample, rng, settings.anatomy, settings.motion)
    if settings.anatomy:
        sample = with_swapped_axes(sample, rng)
    if settings.patch is not None:
        z, y, x = crop_window(sample, settings.patch, rng)
        sample = sample.each(lambda t: t[..., z, y, x])
    return with_appearance(sample, rng) if settings.appearance else sample


def flipped(sample: Sample) -> Sample:
    """The sample with left and right exchanged."""
    width = sample.labels.shape[-1]
    centres = {v: (z, y, width - 1 - x) for v, (z, y, x) in sample.centres.items()}
    return replace(sample.each(lambda t: t.flip(-1)), centres=centres)


def with_appearance(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample with a network's input of another appearance and field of view."""
    ct, ct_seen = narrow_view(ct_appearance(sample.moving, rng), rng)
    mr, mr_seen = narrow_view(mr_appearance(sample.fixed, rng), rng)
    return replace(
        sample, network_input=(ct, mr), network_inside=_both(mr_seen, sample.fixed_inside),
        network_moving_inside=_both(ct_seen, sample.moving_inside),
    )  # fmt: skip


def _both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The voxels in both masks, each None for all voxels."""
    return b if a is None else a if b is None else a & b


def deformed(sample: Sample, rng: np.random.Generator, anatomy: bool = True, motion: bool = False) -> Sample:
    """Deform a sample, so that the network finds the motion in the images and does not learn typical spines or motions.

    The random numbers of the anatomy and of the motion are independent of each other.

    Args:
        sample: one patient.
        rng: the source of random numbers.
        anatomy: map both images and the labels by one smooth deformation. It scales each axis by up to a quarter, and
            changes shapes over distances of 3 cm. With probability 1/4 each, z and y are flipped.
        motion: in addition rotate, shift and bend the moving image and its labels along the spine.
    """
    streams = rng.spawn(2)
    shape = sample.labels.shape
    field = torch.zeros(1, 3, *shape)
    fixed, fixed_inside = sample.fixed, sample.fixed_inside
    if anatomy:
        turned = [axis - 3 for axis in (0, 1) if streams[0].random() < 0.25]
        sample = sample.each(lambda t: t.flip(turned))
        field = torch.from_numpy(anatomy_field(shape, sample.spacing_mm, streams[0]))
        fixed_inside = warped_view(sample.fixed, sample.fixed_inside, field)
        fixed = warp(sample.fixed, field.to(fixed.device), padding="border")
    if motion:
        field = compose(torch.from_numpy(motion_field(shape, sample.spacing_mm, streams[1])), field)
    moving_inside = warped_view(sample.moving, sample.moving_inside, field)
    field = field.to(sample.moving.device)
    moving = warp(sample.moving, field, padding="border")
    # Not by nearest neighbour, since images are interpolated linearly.
    labels = warp_labels(sample.labels, field, list(sample.centres))
    centres = {
        v: tuple((labels == v).nonzero().float().mean(0).tolist()) for v in sample.centres if (labels == v).any()
    }
    return replace(
        sample, moving=moving, fixed=fixed, labels=labels, centres=centres, moving_inside=moving_inside,
        fixed_inside=fixed_inside,
    )  # fmt: skip


def warped_view(image: Tensor, inside: Tensor | None, field: Tensor) -> Tensor | None:
    """The voxels of an image warped by `field` that show what the scan saw; None for all. The border is not seen.

    Args:
        image: (1, 1, D, H, W).
        inside: bool (1, 1, D, H, W), what the scan saw; None: everything.
        field: (1, 3, D, H, W), voxels.
    """
    seen = torch.ones_like(image) if inside is None else inside.to(image.dtype)
    warped = warp(seen, field.to(image.device)) > 0.5
    return None if warped.all() else warped


def with_swapped_axes(sample: Sample, rng: np.random.Generator) -> Sample:
    """With probability 1/2 swap the z axis with y or x.

    A spine changes little along its axis. Networks that were trained on one orientation only did not follow a shift
    along the spine.
    """
    if rng.random() < 0.5:
        return sample
    other = int(rng.integers(1, 3))
    order = [0, 1, 2]
    order[0], order[other] = other, 0
    sample = sample.each(lambda t: t.transpose(-3, other - 3).contiguous())
    spacing_mm = (sample.spacing_mm[order[0]], sample.spacing_mm[order[1]], sample.spacing_mm[order[2]])
    centres = {v: tuple(centre[a] for a in order) for v, centre in sample.centres.items()}
    return replace(sample, spacing_mm=spacing_mm, centres=centres)


def crop_window(
    sample: Sample, patch: tuple[int, int, int], rng: np.random.Generator, ends: float = 0.0
) -> tuple[slice, slice, slice]:
    """The window of a patch around the centre of a random vertebra, shifted into the sample.

    Args:
        sample: one patient.
        patch: (z, y, x) voxels; a shorter axis of the sample is taken whole.
        rng: draws the vertebra.
        ends: the share of windows at the first or the last vertebra.

    Raises:
        ValueError: the sample has no vertebra.
    """
    vertebrae = list(sample.centres)
    if not vertebrae:
        raise ValueError(f"pair {sample.case}: expected at least one vertebra in the moving labels, found none")
    if ends and rng.random() < ends:
        along = sorted(vertebrae, key=lambda v: sample.centres[v])
        vertebrae = [along[0], along[-1]]
    centre = sample.centres[vertebrae[rng.integers(len(vertebrae))]]
    window = []
    for position, size, extent in zip(centre, patch, sample.labels.shape, strict=True):
        length = min(size, extent)
        start = int(np.clip(round(position) - length // 2, 0, extent - length))
        window.append(slice(start, start + length))
    return window[0], window[1], window[2]


def ct_appearance(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A CT (1, 1, D, H, W) in [0, 1] with another sharpness and noise; HU keep their meaning."""
    return _noisy(_blurred(image, rng), rng.uniform(0, CT_NOISE), rng)


def mr_appearance(image: Tensor, rng: np.random.Generator) -> Tensor:
    """An MR (1, 1, D, H, W) in [0, 1] with another contrast, coil, sharpness and noise."""
    image = _shaded(with_random_curve(image.clamp(0, 1), rng), rng)
    return _noisy(_blurred(image, rng), rng.uniform(0, MR_NOISE), rng)


def with_random_curve(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Map intensities in [0, 1] by a random curve that maps 0 to 0.

    The curve is a power. With probability 1/2 it is mixed with random values, so that tissues may change their order of
    brightness, as between T1 and T2.
    """
    knots = np.linspace(0, 1, KNOTS)
    curve = knots ** math.exp(rng.uniform(-0.7, 0.7))
    if rng.random() < 0.5:
        share = rng.uniform(0, 0.6)
        curve[1:] = (1 - share) * curve[1:] + share * rng.uniform(0, 1, KNOTS - 1)
    values = torch.from_numpy(curve.astype(np.float32)).to(image.device)
    position = image * (KNOTS - 1)
    below = position.long().clamp(0, KNOTS - 2)  # NaN gives a valid index and stays NaN
    return torch.lerp(values[below], values[below + 1], position - below)


def _shaded(image: Tensor, rng: np.random.Generator) -> Tensor:
    """The image times a smooth positive field like that of a surface coil, a Gaussian along each axis."""
    for axis in (2, 3, 4):
        slope, bend = rng.normal(0, 0.15, 2)
        position = torch.linspace(-1, 1, image.shape[axis], device=image.device)
        shape = [1] * 5
        shape[axis] = -1
        image = image * (slope * position + bend * position.square()).exp().reshape(shape)
    return image


def _blurred(image: Tensor, rng: np.random.Generator) -> Tensor:
    """With probability 1/2 smooth each axis over three voxels, as thicker slices or a softer kernel do."""
    if rng.random() < 0.5:
        return image
    for axis in (2, 3, 4):
        share, n = rng.uniform(0, 0.3), image.shape[axis]
        padding = [0, 0] * (4 - axis) + [1, 1]
        padded = F.pad(image, padding + [0] * (6 - len(padding)), mode="replicate")
        neighbours = padded.narrow(axis, 0, n) + padded.narrow(axis, 2, n)
        image = (1 - 2 * share) * image + share * neighbours
    return image


def _noisy(image: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    """The image with Gaussian noise of SD `level`."""
    noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    return image + level * noise.to(image.device)


def narrow_view(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    """With probability 1/2 limit an image to a smaller, slightly rotated field of view, continued by its edge values.

    The field of view is a slab, or a box that lacks one to four of the volume's sides. It contains the middle.

    Args:
        image: (1, 1, D, H, W).
        rng: draws the field of view.

    Returns:
        The image with the nearest seen value outside the field of view, and the seen voxels, bool (1, 1, D, H, W), or
        None for all of them.
    """
    if rng.random() < 0.5:
        return image, None
    half = (np.array(image.shape[2:], np.float32) - 1) / 2
    sides = np.full((2, 3), np.inf, np.float32)
    cut = (1 - rng.uniform(0, VIEW_HIDDEN, (2, 3))).astype(np.float32) * half
    if rng.random() < 0.5:
        axis = rng.integers(3)
        sides[:, axis] = cut[:, axis]
    else:
        chosen = rng.choice(6, rng.integers(1, 5), replace=False)
        sides.flat[chosen] = cut.flat[chosen]
    turn = Rotation.from_rotvec(rng.normal(0, VIEW_TURN_DEG, 3), degrees=True).as_matrix().astype(np.float32)
    axes = [torch.arange(n, dtype=torch.float32, device=image.device) for n in image.shape[2:]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) - torch.from_numpy(half).to(image.device)
    rotation, low, high = (torch.from_numpy(a).to(image.device) for a in (turn, -sides[0], sides[1]))
    along = points @ rotation
    nearest = along.clamp(low, high)
    seen = (nearest == along).all(dim=-1)[None, None]
    to_nearest = ((nearest - along) @ rotation.mT).permute(3, 0, 1, 2)[None]
    return image.where(seen, warp(image, to_nearest, padding="border")), seen
